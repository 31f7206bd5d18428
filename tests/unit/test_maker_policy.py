"""The maker policy: rounding never crosses and never exceeds."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from bot.domain.book import NO_TICKS
from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.engine.maker_policy import (
    Blocked,
    MakerPolicy,
    Shaped,
    calc_post_only_price,
    check_min_qty,
    check_price_crosses_market,
    post_only_ticks,
    round_qty,
)
from bot.engine.parameters import UBPS, ubps
from bot.engine.quoting import Quote

D = Decimal
INSTRUMENT = Instrument("BTCUSDT", "linear", "BTC", "USDT", D("0.1"), D("0.001"), D("0.001"), D(100), D(5))
sides = st.sampled_from(list(Side))
offsets_ubps = st.integers(0, 200 * UBPS)


def policy(pad: str = "1.2", *, enabled: bool = True) -> MakerPolicy:
    return MakerPolicy(INSTRUMENT, ubps(D(2)), D(pad), enabled=enabled)


def test_the_example_of_the_specification() -> None:
    assert calc_post_only_price(Side.BUY, D(50000), D("1.5"), D("0.5")) == D("49992.5")


def test_a_buy_is_rounded_down_to_the_tick_and_a_sell_up() -> None:
    assert calc_post_only_price(Side.BUY, D("100.3"), D(0), D("0.5")) == D("100.0")
    assert calc_post_only_price(Side.SELL, D("100.3"), D(0), D("0.5")) == D("100.5")


def test_quantity_is_rounded_down_to_the_lot() -> None:
    assert round_qty(D("0.0019999"), D("0.001")) == D("0.001")
    assert round_qty(D("0.0009"), D("0.001")) == 0


def test_minimum_quantity_is_padded_and_minimum_notional_is_not() -> None:
    assert check_min_qty(D("0.0012"), D(50000), D("0.001"), D(5), D("1.2"))
    assert not check_min_qty(D("0.0011"), D(50000), D("0.001"), D(5), D("1.2"))
    assert not check_min_qty(D("0.0012"), D(4000), D("0.001"), D(5), D("1.2"))


def test_touching_the_other_side_is_crossing() -> None:
    assert check_price_crosses_market(Side.BUY, D(101), D(100), D(101))
    assert not check_price_crosses_market(Side.BUY, D("100.5"), D(100), D(101))
    assert check_price_crosses_market(Side.SELL, D(100), D(100), D(101))
    assert not check_price_crosses_market(Side.SELL, D("100.5"), D(100), D(101))


@given(sides, st.integers(1, 10**8), offsets_ubps, st.sampled_from(["0.1", "0.01", "0.5", "0.0001"]))
def test_ticks_and_decimals_give_the_same_price(side: Side, reference: int, offset: int, tick: str) -> None:
    size = D(tick)
    exact = calc_post_only_price(side, reference * size, D(offset) / UBPS, size)
    assert post_only_ticks(side, reference, offset) * size == exact


@given(sides, st.integers(2, 10**7), st.integers(1, 100), st.integers(1, 10**7), st.integers(1, 10**6))
def test_what_is_let_through_never_crosses_never_grows_and_is_never_more_aggressive(
    side: Side, bid: int, spread: int, price: int, lots: int
) -> None:
    top = (bid, bid + spread)
    result = policy().shape(Quote(side, price, lots), top)
    if isinstance(result, Shaped):
        shaped = result.quote
        assert top[0] >= shaped.price_ticks if side is Side.BUY else top[1] <= shaped.price_ticks
        assert shaped.qty_lots <= lots
        assert (price - shaped.price_ticks) * side.sign >= 0
        assert result.adjusted == (shaped.price_ticks != price)
        qty, exact = INSTRUMENT.qty(shaped.qty_lots), INSTRUMENT.price(shaped.price_ticks)
        assert check_min_qty(qty, exact, INSTRUMENT.qty_min, INSTRUMENT.notional_min_quote, D("1.2"))
    elif result.reason == "cross_price":
        best_bid, best_ask = INSTRUMENT.price(top[0]), INSTRUMENT.price(top[1])
        assert check_price_crosses_market(side, INSTRUMENT.price(price), best_bid, best_ask)


@given(sides, st.integers(2, 10**6), st.integers(1, 9), st.integers(-9, 2000), st.integers(0, 9), st.booleans())
def test_the_price_alone_is_the_one_that_the_rules_in_full_let_through(
    side: Side, bid: int, spread: int, away: int, lots: int, enabled: bool
) -> None:
    top, rules = (bid, bid + spread), policy(enabled=enabled)
    price = top[0] - away if side is Side.BUY else top[1] + away
    result = rules.shape(Quote(side, price, lots), top)
    alone = rules.buy_at if side is Side.BUY else rules.sell_at
    assert alone(price, lots, *top) == (result.quote.price_ticks if isinstance(result, Shaped) else NO_TICKS)


def test_a_crossing_quote_and_a_too_small_one_are_refused_with_the_numbers() -> None:
    crossing = policy().shape(Quote(Side.BUY, 500_002, 10), (500_000, 500_002))
    assert isinstance(crossing, Blocked)
    assert (crossing.reason, crossing.value, crossing.required) == ("cross_price", D("50000.2"), D("50000.2"))
    small = policy().shape(Quote(Side.SELL, 500_500, 1), (500_000, 500_002))
    assert isinstance(small, Blocked)
    assert (small.reason, small.value, small.required) == ("min_qty", D("0.001"), D("0.002"))


def test_quantity_above_the_venues_maximum_passes_and_the_plan_is_told_the_maximum() -> None:
    result = policy().shape(Quote(Side.BUY, 499_000, 200_000), (500_000, 500_002))
    assert isinstance(result, Shaped)
    assert result.quote.qty_lots == 200_000
    assert policy().max_lots == 100_000


def test_without_the_policy_the_price_is_the_strategys_but_crossing_stays_refused() -> None:
    off = policy(enabled=False)
    assert off.shape(Quote(Side.BUY, 500_001, 10), (500_000, 500_002)) == Shaped(Quote(Side.BUY, 500_001, 10), False)
    assert isinstance(off.shape(Quote(Side.BUY, 500_002, 10), (500_000, 500_002)), Blocked)
