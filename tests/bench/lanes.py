"""What a simulated event costs in both lanes, how much faster than real time they run, and what that weighs.

    python -m tests.bench.lanes [--span-s 120] [--rounds 3] [--profile]

An event is one event through the engine's door; updates come ten a simulated second. CPU time of this process, medians
of interleaved rounds. `heavy` quotes move on every change, `calm` ones beyond 5 ticks. `--profile` shows where it goes.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bot.domain.events import BookDelta, BookSnapshot, Event
from bot.domain.intent import Intent
from bot.engine.engine import Engine
from bot.simulation import Outcome, Scenario, run_kernel, run_wire
from bot.simulator.depth import DepthView
from tests.support.lanes import demo

STYLES: dict[str, dict[str, Any]] = {
    "heavy": {"requote_tolerance_bps": 0, "requote_tolerance_ticks": 0, "requote_interval_ms": 100},
    "calm": {"requote_tolerance_bps": 0, "requote_tolerance_ticks": 5},
    "demo": {},
}
SEED = 1


class Measured(NamedTuple):
    cpu_s: float
    events: int


def scenario(style: str, span_s: int) -> Scenario:
    return demo(SEED, span_s, orders_per_min_max=10_000, **STYLES[style])


def on_wire(wanted: Scenario) -> Outcome:
    with tempfile.TemporaryDirectory() as name:
        return run_wire(wanted, Path(name))


LANES: dict[str, Callable[[Scenario], Outcome]] = {"wire": on_wire, "kernel": run_kernel}


def tape(wanted: Scenario) -> list[Event]:
    """Every event of a run, to be played to an engine alone."""
    events: list[Event] = []

    def keep(event: Event, _intents: list[Intent], _engine: Engine) -> None:
        events.append(event)

    run_kernel(wanted, keep)
    return events


def cpu_s(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def play(wanted: Scenario, events: list[Event]) -> None:
    engine = Engine(wanted.parameters)
    for event in events:
        engine.receive(event)


def market_alone(wanted: Scenario) -> None:
    """The venue with nobody on it, published to one subscriber."""
    (venue,) = wanted.exchange().venues
    view = DepthView(50)
    for _ in range(wanted.span_s * 10):
        venue.advance(venue.next_at_ns())
        venue.drain()
        view.publish(venue.book, venue.book.drain_changes())


def rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compare(style: str, span_s: int, rounds: int) -> None:
    wanted = scenario(style, span_s)
    events = tape(wanted)
    updates = sum(isinstance(event, BookDelta | BookSnapshot) for event in events)
    works: dict[str, Callable[[], object]] = {
        "wire lane": lambda: on_wire(wanted),
        "kernel lane": lambda: run_kernel(wanted),
        "engine alone": lambda: play(wanted, events),
        "market alone": lambda: market_alone(wanted),
    }
    took: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            took[name].append(cpu_s(work))
    print(f"{style}: {len(events)} events, {updates} book updates in {span_s} simulated s; peak RSS {rss_mb():.0f} MB")
    for name, each in took.items():
        seconds = median(each)
        print(
            f"  {name:13} {seconds:7.2f} CPU s {len(events) / seconds:9.0f} events/s "
            f"{seconds / updates * 1e6:7.1f} us/update {span_s / seconds:7.0f} x real time"
        )


def profile(span_s: int) -> None:
    for name, run in LANES.items():
        profiler = cProfile.Profile()
        wanted = scenario("demo", span_s)
        profiler.runcall(run, wanted)
        print(f"---- {name} lane, demo, {span_s} simulated s ----")
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.lanes")
    parser.add_argument("--span-s", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args(argv)
    print(f"RSS before the first run {rss_mb():.0f} MB")
    if args.profile:
        profile(args.span_s)
        return 0
    for style in STYLES:
        compare(style, args.span_s, args.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
