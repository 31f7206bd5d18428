"""Reads that overtake the private stream, as on a busy machine: fills are accounted once, and late is not lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.domain.events import Event, ExecutionsSwept, Filled
from bot.domain.intent import Intent
from bot.engine.engine import Engine
from bot.engine.parameters import NS_PER_S
from bot.simulation import START_NS, Outcome, run_kernel
from tests.support.lanes import both, demo

LATE = (2_000_003, 4_000_037, 3_000_019, 700_000_011)
"""Every push is 0.7 s on its way, every answer 7 ms: each read has the chance to overtake."""

SPAN_S = 30


class Told:
    """Which executions a read told while the stream still had the time to, and how often each was told at all."""

    def __init__(self) -> None:
        self.swept: set[str] = set()
        self.times: dict[str, int] = {}

    def __call__(self, event: Event, intents: list[Intent], engine: Engine) -> None:
        if isinstance(event, ExecutionsSwept) and event.at_ns < START_NS + (SPAN_S - 1) * NS_PER_S:
            self.swept |= {name for name, _ in event.executions}
        elif isinstance(event, Filled):
            self.times[event.execution_id] = self.times.get(event.execution_id, 0) + 1


def divergences(outcome: Outcome) -> int:
    return sum(count for (name, _), count in outcome.engine.counts.items() if name == "mm_recon_divergence_total")


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_fill_that_a_read_told_first_and_the_stream_later_is_no_divergence(seed: int) -> None:
    told = Told()
    outcome = run_kernel(demo(seed, SPAN_S, latency=LATE), told)
    assert told.swept, f"seed {seed}: no read overtook the stream"
    late = {name: told.times[name] for name in told.swept}
    assert set(late.values()) == {2}, f"seed {seed}: {late}"
    assert divergences(outcome) == 0, f"seed {seed}"
    assert [stop.reason for stop in outcome.engine.stops] == ["shutdown"], f"seed {seed}"
    held = outcome.engine.known.ledger.accounts["BTCUSDT"].position_lots
    assert held == outcome.account.position.lots, f"seed {seed}"


def test_both_lanes_tell_the_same_story_of_a_late_stream(tmp_path: Path) -> None:
    (wire, on_wire), (_, in_kernel) = both(demo(3, SPAN_S, latency=LATE), tmp_path / "run")
    assert on_wire.events == in_kernel.events
    assert on_wire.intents == in_kernel.intents
    executions = [fill.execution_id for fill in on_wire.fills]
    assert len(set(executions)) < len(executions), "no read overtook the stream"
    assert wire.account.executions_count == len(set(executions))
