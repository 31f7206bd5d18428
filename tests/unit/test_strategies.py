"""The two strategies: exact, bounded, leaning against the position; and which of them a symbol gets."""

from __future__ import annotations

from decimal import Decimal
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from bot.domain import intent as it
from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.domain.strategy_name import StrategyName
from bot.engine.parameters import UBPS, SymbolParameters
from bot.engine.quoting import (
    AvellanedaStoikov,
    Market,
    SpreadAndSkew,
    Strategy,
    half_spread_ubps,
)
from bot.engine.strategies import STRATEGIES, strategy_of
from bot.engine.volatility import Volatility
from tests.support.engine_driver import BID, SYMBOL, Driver, S, of, parameters

D = Decimal
INSTRUMENT = Instrument("BTCUSDT", "linear", "BTC", "USDT", D("0.1"), D("0.001"), D("0.001"), D(100), D(5))
MID2 = 1_000_000
AS = {"strategy": "avellaneda_stoikov", "half_spread_bps": D("0.5")}


def market(position: int = 0, variance: int = UBPS**2, mid2: int = MID2) -> Market:
    return Market(mid2 // 2 - 1, mid2 // 2 + 1, mid2, position, variance)


def prices(strategy: Strategy, seen: Market) -> tuple[int, int]:
    bid, ask = strategy.quotes(seen)
    assert (bid.side, ask.side) == (Side.BUY, Side.SELL)
    return bid.price_ticks, ask.price_ticks


def test_avellaneda_stoikov_gives_the_numbers_of_its_formula() -> None:
    # gamma 0.05/bps, kappa 0.2/bps, T 60 s, s2 1 bps2/s: risk 3 bps; half-spread 1.5 + ln(1.25)/0.05 = 5.96287 bps
    flat = AvellanedaStoikov(parameters(**AS), INSTRUMENT)
    assert prices(flat, market()) == (499_701, 500_299)
    # half of a limit of 500 quote at 50,000 is 5 lots: both quotes 1.5 bps lower
    assert prices(flat, market(position=5)) == (499_626, 500_224)
    assert prices(flat, market(position=-5)) == (499_776, 500_374)


def test_a_wilder_market_is_quoted_wider_and_leans_harder() -> None:
    strategy = AvellanedaStoikov(parameters(**AS), INSTRUMENT)
    calm, wild = prices(strategy, market(5)), prices(strategy, market(5, variance=25 * UBPS**2))
    assert wild[1] - wild[0] > calm[1] - calm[0]
    assert sum(wild) < sum(calm) < MID2


def test_its_half_spread_is_never_below_the_configured_one() -> None:
    strategy = AvellanedaStoikov(parameters(**{**AS, "half_spread_bps": D(20)}), INSTRUMENT)
    assert half_spread_ubps(*prices(strategy, market())) >= 20 * UBPS


@given(
    st.sampled_from(["spread_and_skew", "avellaneda_stoikov"]), st.integers(-10**6, 10**6), st.integers(0, 10**20),
    st.integers(1_000, 10**9), st.integers(1, 200),
)  # fmt: skip
def test_prices_stay_prices_never_cross_each_other_and_move_no_further_than_the_mid(
    name: str, position: int, variance: int, mid2: int, move2: int
) -> None:
    strategy = strategy_of(parameters(strategy=name), INSTRUMENT)
    bid, ask = prices(strategy, market(position, variance, mid2))
    assert 0 <= bid < ask
    assert (bid, ask) == prices(strategy, market(position, variance, mid2))
    if position == 0 and mid2 > 10_000:
        after = prices(strategy, market(position, variance, mid2 + move2))
        furthest = (move2 + 1) // 2 * 3 // 2 + 1 if variance > UBPS**2 else (move2 + 1) // 2 + 1
        assert max(after[0] - bid, after[1] - ask) <= furthest


@given(
    st.sampled_from(["spread_and_skew", "avellaneda_stoikov"]), st.integers(-10**6, 10**6), st.integers(0, 10**20),
    st.integers(1_000, 10**9), st.integers(1, 50), st.integers(1, 400), st.integers(0, 400),
)  # fmt: skip
def test_however_hard_it_leans_the_quote_that_reduces_stays_on_its_side_of_mid(
    name: str, position: int, variance: int, bid: int, spread: int, half_bps: int, skew_bps: int
) -> None:
    """Refused as crossing it would leave nothing standing: the side that adds is at its limit then."""
    leaning = parameters(strategy=name, half_spread_bps=D(half_bps), inventory_skew_bps=D(skew_bps))
    strategy = strategy_of(leaning, INSTRUMENT)
    quotes = prices(strategy, Market(bid, bid + spread, 2 * bid + spread, position, variance))
    assert 2 * quotes[0] <= 2 * bid + spread <= 2 * quotes[1]
    assert quotes[0] < bid + spread
    assert quotes[1] > bid


def test_beyond_its_half_spread_a_lean_moves_only_the_side_that_adds() -> None:
    strategy = SpreadAndSkew(parameters(half_spread_bps=D(10), inventory_skew_bps=D(13)), INSTRUMENT)
    assert prices(strategy, market(position=10)) == (498_850, 500_000)
    assert prices(strategy, market(position=-10)) == (500_000, 501_150)


@given(st.lists(st.integers(400_000, 600_000), min_size=2, max_size=50), st.integers(1, 600))
def test_volatility_is_exact_and_never_below_its_floor(mids2: list[int], memory_s: int) -> None:
    one, two = Volatility(memory_s, D("0.1")), Volatility(memory_s, D("0.1"))
    for number, mid2 in enumerate(mids2):
        one.sample(mid2, number * S)
        two.sample(mid2, number * S)
        two.sample(1, number * S)  # within the same second: not looked at
    assert one.variance_ubps2 == two.variance_ubps2 >= 10**10


def test_volatility_finds_that_of_a_market_that_moves_a_basis_point_a_second() -> None:
    volatility = Volatility(30, D("0.1"))
    for number in range(600):
        volatility.sample(1_000_000 + 100 * (number % 2), number * S)
    assert abs(volatility.bps - 1) < D("0.01")


def test_a_symbol_has_its_own_strategy_and_the_rest_the_stars() -> None:
    own = parameters(
        symbols=("BTCUSDT", "ETHUSDT", "SOLUSDT"),
        per_symbol={
            "*": SymbolParameters(half_spread_bps=D(7), strategy="avellaneda_stoikov"),
            "ETHUSDT": SymbolParameters(strategy="spread_and_skew"),
        },
    )
    assert isinstance(strategy_of(own.of("BTCUSDT"), INSTRUMENT), AvellanedaStoikov)
    assert isinstance(strategy_of(own.of("ETHUSDT"), INSTRUMENT), SpreadAndSkew)
    assert own.of("ETHUSDT").half_spread_bps == own.of("SOLUSDT").half_spread_bps == 7


def test_the_engine_quotes_by_avellaneda_stoikov_and_wider_once_the_market_moves() -> None:
    driver = Driver(**AS, edge_threshold_bps=D(1), post_only_offset_bps=D(0), volatility_memory_s=5).start().stated()
    driver.wait(S)
    before = driver.quotes[Side.SELL].price_ticks - driver.quotes[Side.BUY].price_ticks
    for number in range(40):
        driver.book(BID + 300 * (number % 2), BID + 2 + 300 * (number % 2))
        driver.wait(S)
    assert of(it.AmendOrder, driver.sent)
    after = driver.quotes[Side.SELL].price_ticks - driver.quotes[Side.BUY].price_ticks
    assert after > before
    assert driver.engine.state.books[SYMBOL].usable


def test_every_name_that_a_configuration_may_give_has_its_strategy_and_the_other_way_round() -> None:
    assert set(STRATEGIES) == set(get_args(StrategyName))
    for name in STRATEGIES:
        made = strategy_of(parameters(strategy=name), INSTRUMENT)
        assert isinstance(made, STRATEGIES[name])  # type: ignore[arg-type]  # each is a class
