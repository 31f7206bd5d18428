"""Worker of the comparison: plays the feed through the wire lane or the kernel lane. See `tests.bench.engine`.

    python -m tests.bench.ours FEED

Reads one line of JSON for every run, `{"lane": "wire" | "signed" | "kernel", "tolerance_ticks": n}`, and answers with
one line. `signed` is the wire lane without its trade socket: by REST, every request signed. `counted wire` and so on
are the same with somebody who counts events, amends and what came of them; they are not for timing.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bot.domain.events import AmendAnswered, Event, OrderRefused, OrderUncertain, OrderUnreachable
from bot.domain.intent import AmendOrder, Intent
from bot.engine.engine import Engine
from bot.simulation import Outcome, Scenario, Watch, run_kernel, run_wire
from bot.simulator.timeline import NS_PER_S
from tests.bench import limits
from tests.bench.feed import Feed, FeedMarket, load
from tests.support.lanes import demo

STRATEGY: dict[str, float] = {
    "half_spread_bps": 6,
    "skew_bps": 4,
    "offset_bps": 2,
    "order_notional_quote": 150,
    "inventory_max_quote": 2_000,
}
"""In the words of the engines of others; `scenario` says the same in ours."""


def scenario(feed: Feed, tolerance_ticks: int, *, trade_socket: bool = True) -> Scenario:
    """The demo's bot, with the comparison's strategy, on that feed.

    In the wire lane orders leave as a live bot's do: by the trade socket, what is decided in one turn in one request.
    """
    changes: dict[str, Any] = {
        "half_spread_bps": int(STRATEGY["half_spread_bps"]),
        "inventory_skew_bps": int(STRATEGY["skew_bps"]),
        "post_only_offset_bps": int(STRATEGY["offset_bps"]),
        "order_notional_quote": int(STRATEGY["order_notional_quote"]),
        "inventory_max_quote": int(STRATEGY["inventory_max_quote"]),
        "total_max_quote": 4 * int(STRATEGY["inventory_max_quote"]),
        "requote_tolerance_bps": 0,
        "requote_tolerance_ticks": tolerance_ticks,
        "requote_interval_ms": feed.step_ns // 1_000_000,
        "orders_per_min_max": 10_000,
        "amends_per_s_max": limits.PER_S,
        "recon_interval_s": 60,
        "market": lambda _seed: FeedMarket(feed),
        "trade_socket": trade_socket,
        "batches": True,
    }
    return demo(1, len(feed.updates) * feed.step_ns // NS_PER_S, **changes)


def _on_wire(wanted: Scenario, watch: Watch | None = None) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        return run_wire(wanted, Path(name), watch)


SIGNED = "signed"
LANES: dict[str, Callable[[Scenario, Watch | None], Outcome]] = {
    "wire": _on_wire, SIGNED: _on_wire, "kernel": run_kernel
}  # fmt: skip
COUNTED = "counted "


class Counting:
    """Events through the engine's door, amends that left it, and how many orders and amends the venue did not take.

    An amend of an order that has just been filled is not one of those.
    """

    def __init__(self) -> None:
        self.events = self.amended = self.failed = 0

    def __call__(self, event: Event, intents: list[Intent], engine: Engine) -> None:
        self.events += 1
        self.amended += sum(isinstance(intent, AmendOrder) for intent in intents)
        if isinstance(event, AmendAnswered):
            self.failed += event.outcome not in ("accepted", "gone")
        else:
            self.failed += isinstance(event, OrderRefused | OrderUncertain | OrderUnreachable)


def play(feed: Feed, lane: str, tolerance_ticks: int) -> dict[str, float]:
    """One run. Raises RuntimeError where it did not end well: its figures would mean nothing."""
    way = lane.removeprefix(COUNTED)
    wanted, counting = scenario(feed, tolerance_ticks, trade_socket=way != SIGNED), Counting()
    gc.collect()
    began_s = time.process_time()
    outcome = LANES[way](wanted, counting if lane.startswith(COUNTED) else None)
    cpu_s = time.process_time() - began_s
    if outcome.exit_code != 0:
        raise RuntimeError(f"{lane} lane: exit code {outcome.exit_code}")
    counts = outcome.engine.counts
    placed = sum(count for (name, _), count in counts.items() if name == "mm_orders_placed_total")
    filled = outcome.engine.known.ledger.fills
    if filled != outcome.account.executions_count:
        raise RuntimeError(f"{lane} lane: told of {filled} fills, the venue made {outcome.account.executions_count}")
    if counting.failed:
        raise RuntimeError(f"{lane} lane: the venue did not take {counting.failed} orders and amends")
    figures: dict[str, float] = {
        "cpu_s": cpu_s, "updates": len(feed.updates), "placed": placed, "amended": counting.amended, "filled": filled,
        "events": counting.events,
    }  # fmt: skip
    return figures


def main(argv: list[str]) -> None:
    limits.lift()
    feed = load(Path(argv[0]))
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        print(json.dumps(play(feed, task["lane"], task["tolerance_ticks"])), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
