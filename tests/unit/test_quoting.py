"""Spread and skew: whatever the inventory, the quote that reduces it stands on its own side of the book."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.engine.quoting import Market, SpreadAndSkew
from tests.support.engine_driver import parameters

LINEAR = Instrument(
    symbol="BTCUSDT",
    category="linear",
    base="BTC",
    quote="USDT",
    tick_size=Decimal("0.1"),
    lot_size=Decimal("0.001"),
    qty_min=Decimal("0.001"),
    qty_max=Decimal(100),
    notional_min_quote=Decimal(5),
)


@given(
    half_bps=st.decimals(min_value=Decimal("0.01"), max_value=100, places=2),
    skew_pct=st.integers(0, 400),
    bid=st.integers(1_000, 10_000_000),
    spread=st.integers(1, 50),
    lots=st.integers(-(10**6), 10**6),
)
def test_no_quote_crosses_at_any_inventory_however_hard_the_skew_leans(
    half_bps: Decimal, skew_pct: int, bid: int, spread: int, lots: int
) -> None:
    strategy = SpreadAndSkew(parameters(half_spread_bps=half_bps, inventory_skew_bps=half_bps * skew_pct / 100), LINEAR)
    market = Market(bid, bid + spread, 2 * bid + spread, lots)
    prices = {quote.side: quote.price_ticks for quote in strategy.quotes(market)}
    assert prices[Side.BUY] < bid + spread
    assert prices[Side.SELL] > bid
