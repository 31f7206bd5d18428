"""The generated market punishes who quotes without a spread, and pays who quotes at a sensible one.

Results are net of everything per notional traded, in bps: mean over seeds, with the standard error of that mean.
"""

from __future__ import annotations

from decimal import Decimal
from statistics import mean, stdev
from typing import Any, NamedTuple

from bot.simulation import Outcome, run_kernel
from bot.simulator.accounts import Fees
from bot.simulator.market import GeneratedMarket, MarketParameters
from tests.support.lanes import demo

FREE = Fees(Decimal(0), Decimal(0))
SEEDS = range(1, 9)
SPAN_S = 120

UNSTOPPED = {"edge_threshold_bps": -1000, "daily_loss_pct_hard": Decimal(99), "drawdown_pct_hard": Decimal(99)}
AT_FAIR = {
    "half_spread_bps": "0.000001",
    "post_only_offset_bps": 0,
    "inventory_skew_bps": 0,
    "requote_tolerance_bps": Decimal(0),
    "requote_interval_ms": 100,
    "inventory_max_quote": 160,
}
"""Both quotes at the fair price, as far as post-only lets them; one order's worth of inventory."""


class Result(NamedTuple):
    mean_bps: float
    error_bps: float
    fills: int

    def __str__(self) -> str:
        return f"{self.mean_bps:.3f} ± {self.error_bps:.3f} bps over {len(SEEDS)} seeds, {self.fills} fills"


def net_bps(outcome: Outcome) -> float:
    traded = sum(
        outcome.venue.instrument.notional_quote(execution.price_ticks, execution.lots)
        for execution in outcome.account.executions
    )
    return float((outcome.venue_equity_quote - 100_000) * 10_000 / traded)


def result(informed_share: float = MarketParameters().sweep_informed_share, **changes: Any) -> Result:
    def market(seed: int) -> GeneratedMarket:
        return GeneratedMarket(seed, MarketParameters(sweep_informed_share=informed_share))

    outcomes = [run_kernel(demo(seed, SPAN_S, market=market, **changes)) for seed in SEEDS]
    each = [net_bps(outcome) for outcome in outcomes]
    fills = sum(outcome.account.executions_count for outcome in outcomes)
    return Result(mean(each), stdev(each) / len(each) ** 0.5, fills)


def test_a_maker_without_a_spread_loses_to_the_market_even_where_trading_is_free() -> None:
    got = result(fees=FREE, **UNSTOPPED, **AT_FAIR)
    assert got.fills > 500, str(got)
    assert got.mean_bps < -5 * got.error_bps, str(got)


def test_the_demo_s_maker_earns_after_the_venue_s_fees() -> None:
    got = result()
    assert got.fills > 100, str(got)
    assert got.mean_bps > 5 * got.error_bps, str(got)


def test_more_informed_flow_costs_the_demo_s_maker_more() -> None:
    none, much = result(0.0, fees=FREE, **UNSTOPPED), result(0.4, fees=FREE, **UNSTOPPED)
    apart = (none.error_bps**2 + much.error_bps**2) ** 0.5
    assert none.mean_bps - much.mean_bps > 3 * apart, f"without: {none}; with: {much}"
