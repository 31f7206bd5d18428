"""Both lanes tell the same story: under one seed the same events, orders, fills and result, to the byte."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bot.simulation import run_kernel, run_wire
from bot.simulator.listings import RECORDED
from bot.simulator.recorded import RecordedMarket, load_record
from tests.support.lanes import Kept, at_fifty_a_second, at_one_a_second, both, demo

SEEDS = range(1, 25)
SPAN_S = 20


@pytest.mark.parametrize("seed", SEEDS)
def test_without_faults_both_lanes_make_the_same_orders_fills_and_result(seed: int, tmp_path: Path) -> None:
    (wire, on_wire), (kernel, in_kernel) = both(demo(seed, SPAN_S), tmp_path / "run")
    assert on_wire.intents == in_kernel.intents, f"seed {seed}: different decisions"
    assert on_wire.events == in_kernel.events, f"seed {seed}: different events"
    assert on_wire.fills == in_kernel.fills, f"seed {seed}: different fills"
    assert wire.engine.pnl() == kernel.engine.pnl(), f"seed {seed}"
    assert wire.engine.counts == kernel.engine.counts, f"seed {seed}"
    assert wire.venue_equity_quote == kernel.venue_equity_quote, f"seed {seed}"
    assert (wire.exit_code, wire.ended_ns) == (kernel.exit_code, kernel.ended_ns) == (0, kernel.ended_ns), (
        f"seed {seed}"
    )
    assert wire.account.executions_count == len(in_kernel.fills), f"seed {seed}: a fill was never told"


@pytest.mark.parametrize("seed", SEEDS)
def test_they_agree_where_orders_go_by_the_trade_socket_and_in_batches(seed: int, tmp_path: Path) -> None:
    """Creates and amends of one moment are two batches there, so their answers may change places within a moment."""
    (wire, on_wire), (kernel, in_kernel) = both(demo(seed, SPAN_S, trade_socket=True), tmp_path / "run")
    assert on_wire.intents == in_kernel.intents, f"seed {seed}: different decisions"
    assert _by_moment(on_wire) == _by_moment(in_kernel), f"seed {seed}: different events"
    assert on_wire.fills == in_kernel.fills, f"seed {seed}: different fills"
    assert wire.engine.counts == kernel.engine.counts, f"seed {seed}"
    assert wire.venue_equity_quote == kernel.venue_equity_quote, f"seed {seed}"
    assert wire.ended_ns == kernel.ended_ns, f"seed {seed}"


def _by_moment(kept: Kept) -> list[tuple[int, bytes]]:
    return sorted((msgspec.json.decode(event)["at_ns"], event) for event in kept.events)


def test_the_agreement_is_about_something_over_all_seeds(tmp_path: Path) -> None:
    fills = amends = 0
    for seed in SEEDS[:6]:
        kept = Kept()
        run_kernel(demo(seed, SPAN_S), kept)
        fills += len(kept.fills)
        amends += sum(b'"AmendOrder"' in intent for intent in kept.intents)
    assert fills >= 30
    assert amends >= 100


@pytest.mark.parametrize("seed", [8, 5])
def test_they_agree_as_well_when_the_grant_is_lost_and_the_position_flattened(seed: int, tmp_path: Path) -> None:
    scenario = demo(seed, 30, granted_s=8, flatten_after_s=5)
    (wire, on_wire), (kernel, in_kernel) = both(scenario, tmp_path / "run")
    assert on_wire.intents == in_kernel.intents, f"seed {seed}: different decisions"
    assert on_wire.events == in_kernel.events, f"seed {seed}: different events"
    assert wire.account.position.lots == kernel.account.position.lots == 0, f"seed {seed}: not flattened"
    assert any(b'"FlattenReduceOnly"' in intent for intent in in_kernel.intents), f"seed {seed}: nothing to flatten"


@pytest.mark.parametrize("kind", ["crossing", "loss", "foreign_order"])
def test_they_agree_on_the_venue_s_own_faults(kind: str, tmp_path: Path) -> None:
    scenario = demo(5, 25, faults_at_s={6: (kind, {})})
    (_, on_wire), (_, in_kernel) = both(scenario, tmp_path / "run")
    assert on_wire.intents == in_kernel.intents, kind
    assert on_wire.events == in_kernel.events, kind


def test_they_agree_on_a_market_that_really_happened(tmp_path: Path) -> None:
    capture = Path(__file__).resolve().parents[3] / "shared" / "data" / "spot" / "btcusdt_20240808.gz"
    if not capture.is_file():
        pytest.skip("the real captures are not beside this checkout")
    record = load_record(capture)
    scenario = demo(1, 30, market=lambda _seed: RecordedMarket(record), instrument=RECORDED, half_spread_bps=1)
    (wire, on_wire), (kernel, in_kernel) = both(scenario, tmp_path / "run")
    assert on_wire.intents == in_kernel.intents
    assert on_wire.events == in_kernel.events
    assert wire.venue_equity_quote == kernel.venue_equity_quote
    assert sum(b'"PlaceOrder"' in intent for intent in in_kernel.intents) >= 2


@pytest.mark.parametrize("seed", [3, 4])
def test_they_agree_on_a_slow_market_under_a_slow_clock(seed: int, tmp_path: Path) -> None:
    scenario = demo(seed, 240, market=at_one_a_second, tick_s=1.0)
    (wire, on_wire), (kernel, in_kernel) = both(scenario, tmp_path / "run")
    assert on_wire.intents == in_kernel.intents, f"seed {seed}: different decisions"
    assert on_wire.events == in_kernel.events, f"seed {seed}: different events"
    assert wire.venue_equity_quote == kernel.venue_equity_quote, f"seed {seed}"
    assert sum(b'"Ticked"' in event for event in in_kernel.events) < 260
    assert in_kernel.fills, f"seed {seed}: nothing was filled"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_they_agree_where_more_is_wanted_than_the_venue_takes(seed: int, tmp_path: Path) -> None:
    eager = {
        "amends_per_s_max": 200,
        "requote_interval_ms": 0,
        "requote_tolerance_bps": 0,
        "requote_tolerance_ticks": 0,
    }
    scenario = demo(seed, 15, market=at_fifty_a_second, **eager)
    (_, on_wire), (_, in_kernel) = both(scenario, tmp_path / "run")
    assert on_wire.intents == in_kernel.intents, f"seed {seed}: different decisions"
    assert on_wire.events == in_kernel.events, f"seed {seed}: different events"
    assert sum(b"the rate limit is reached" in event for event in in_kernel.events) >= 10
    assert not [event for event in in_kernel.events if b"10006" in event], "one too many was tried"


def test_a_fault_that_the_kernel_lane_does_not_have_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="refuse_create: only in the wire lane"):
        run_kernel(demo(5, 25, faults_at_s={6: ("refuse_create", {})}))


def test_other_latencies_change_the_story(tmp_path: Path) -> None:
    """The agreement could be hollow if nothing of the way mattered."""
    near, far = Kept(), Kept()
    run_kernel(demo(2, SPAN_S), near)
    run_kernel(demo(2, SPAN_S, latency=(2_000_003, 60_000_037, 3_000_019, 90_000_011)), far)
    assert near.intents != far.intents


def test_a_run_repeats_to_the_byte(tmp_path: Path) -> None:
    first, second = Kept(), Kept()
    for name, kept in (("a", first), ("b", second)):
        (tmp_path / name).mkdir()
        run_wire(demo(9, SPAN_S), tmp_path / name, kept)
    assert (first.events, first.intents) == (second.events, second.intents)
