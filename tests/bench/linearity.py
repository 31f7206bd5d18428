"""What more symbols cost: one bot in the wire lane with 1, 2, 5 and 10 of them.

    python -m tests.bench.linearity [--updates 2000] [--rounds 3] [--json]

Every symbol has a venue and the same market, so twice the symbols are twice the work. The cost of an update may grow to
1.3 times that of one symbol alone. `wire lane` is everything, the venues included; `engine` is the engine alone, told
the same events again. CPU time, medians of interleaved rounds. Exit code 1 only where a symbol did not trade.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

import msgspec

from bot.domain.events import Event
from bot.domain.intent import Intent
from bot.engine.engine import Engine
from bot.simulation import Outcome, Scenario, run_wire
from tests.bench import limits
from tests.bench.engine import FEEDS
from tests.bench.feed import Feed, FeedMarket, kept, load
from tests.bench.ours import scenario
from tests.support import several

SYMBOLS = (1, 2, 5, 10)
UPDATES = 2_000
ROUNDS = 3
GROWTH_MAX = 1.3
TOLERANCE_TICKS = 5


class Row(NamedTuple):
    """CPU microseconds of one update of one symbol."""

    symbols: int
    wire_us: float
    engine_us: float


class Idle(Exception):
    """A symbol that did not trade: the figures would say nothing."""


def of(count: int, feed: Feed) -> Scenario:
    """The comparison's bot with that many symbols; the total limit grows with them."""
    alone = scenario(feed, TOLERANCE_TICKS)
    parameters = msgspec.structs.replace(
        alone.parameters, symbols=several.symbols(count), total_max_quote=alone.parameters.total_max_quote * count
    )
    others = several.instruments(count)[1:]
    return replace(alone, parameters=parameters, market=lambda _seed: FeedMarket(feed), more_instruments=others)


def on_wire(wanted: Scenario) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        return run_wire(wanted, Path(name))


def tape(wanted: Scenario) -> list[Event]:
    """Every event of a run, to be told to an engine alone."""
    events: list[Event] = []

    def keep(event: Event, _intents: list[Intent], _engine: Engine) -> None:
        events.append(event)

    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        run_wire(wanted, Path(name), keep)
    return events


def tell(wanted: Scenario, events: list[Event]) -> None:
    engine = Engine(wanted.parameters)
    for event in events:
        engine.receive(event)


def cpu_s(work: Callable[[], object]) -> float:
    gc.collect()
    began_s = time.process_time()
    work()
    return time.process_time() - began_s


def check_traded(outcome: Outcome) -> None:
    """Raises Idle unless every symbol was quoted and filled, and the bot knows of every fill."""
    counts, fills = outcome.engine.counts, 0
    venues = outcome.exchange.venues
    for venue, account in outcome.exchange.accounts(outcome.holder):
        symbol, done = venue.instrument.symbol, account.executions_count
        placed = sum(counts[("mm_orders_placed_total", (symbol, side))] for side in ("buy", "sell"))
        if outcome.exit_code or not done or not placed:
            raise Idle(f"{symbol} of {len(venues)}: {placed} orders, {done} fills, exit {outcome.exit_code}")
        fills += done
    if outcome.engine.known.ledger.fills != fills:
        raise Idle(f"{len(venues)} symbols: {fills} fills, the bot knows {outcome.engine.known.ledger.fills}")


def measure(feed: Feed, rounds: int) -> list[Row]:
    """Rows in the order of SYMBOLS. Raises Idle."""
    tapes = {count: tape(of(count, feed)) for count in SYMBOLS}
    took: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for count in SYMBOLS:
            wanted = of(count, feed)
            outcomes: list[Outcome] = []
            took.setdefault(("wire", count), []).append(cpu_s(lambda w=wanted, o=outcomes: o.append(on_wire(w))))  # type: ignore[misc]
            check_traded(outcomes[0])
            took.setdefault(("engine", count), []).append(cpu_s(lambda w=wanted, t=tapes[count]: tell(w, t)))  # type: ignore[misc]
    each_us = {key: median(values) / (key[1] * len(feed.updates)) * 1e6 for key, values in took.items()}
    return [Row(count, each_us[("wire", count)], each_us[("engine", count)]) for count in SYMBOLS]


def table(rows: list[Row]) -> str:
    """For people, 80 columns."""
    first = rows[0]
    lines = [
        f"{'symbols':>7} {'wire lane us/update':>20} {'of one':>8} {'engine us/update':>18} {'of one':>8}   "
        f"limit {GROWTH_MAX} x"
    ]
    for row in rows:
        wire, engine = row.wire_us / first.wire_us, row.engine_us / first.engine_us
        word = "" if row is first else "met" if max(wire, engine) <= GROWTH_MAX else "NOT met"
        ratios = f"{row.wire_us:20,.1f} {wire:6.2f} x {row.engine_us:18,.1f} {engine:6.2f} x"
        lines.append(f"{row.symbols:7} {ratios}   {word}".rstrip())
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.linearity")
    parser.add_argument("--updates", type=int, default=UPDATES, help="of each symbol")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="for programs")
    args = parser.parse_args(argv)
    if args.updates < UPDATES or args.updates % 10:
        parser.error(f"--updates: {args.updates} is not allowed; allowed: >= {UPDATES}, whole tens")
    if args.rounds < 1:
        parser.error(f"--rounds: {args.rounds} is not allowed; allowed: >= 1")
    limits.lift()
    try:
        rows = measure(load(kept(FEEDS, args.seed, args.updates)), args.rounds)
    except Idle as idle:
        print(f"linearity: {idle}", file=sys.stderr)
        return 1
    print(json.dumps([row._asdict() for row in rows], indent=2) if args.json else table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
