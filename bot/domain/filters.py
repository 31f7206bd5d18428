"""Built-in symbol filters: they serve shadow without network. On live a symbol that only has these is blocked."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from bot.domain.instrument import Instrument


def _built_in(base: str, tick_size: str, lot_size: str, qty_min: str) -> Instrument:
    return Instrument(
        symbol=f"{base}USDT",
        category="linear",
        base=base,
        quote="USDT",
        tick_size=Decimal(tick_size),
        lot_size=Decimal(lot_size),
        qty_min=Decimal(qty_min),
        qty_max=Decimal(1_000_000),
        notional_min_quote=Decimal(5),
    )


BUILT_IN: Final[dict[str, Instrument]] = {
    instrument.symbol: instrument
    for instrument in (
        _built_in("BTC", "0.01", "0.00001", "0.00001"),
        _built_in("ETH", "0.01", "0.0001", "0.0001"),
        _built_in("SOL", "0.001", "0.01", "0.01"),
    )
}
"""Symbol → filters: tick size, lot size, least quantity as the venue had them; 5 quote is its usual least notional."""
