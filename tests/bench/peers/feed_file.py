"""The feed as its file has it, for engines of others, and how a worker is spoken to.

A worker loads the feed once, then reads one line of JSON for every run it shall make (a `Task`) and answers with one
line (a `Played`). Only the run itself is timed: loading, building objects and compiling are not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

Levels = list[tuple[int, int]]


class Update(msgspec.Struct, array_like=True):
    """One step. Only `levels` (bids, asks: (price_ticks, lots), 0 deletes) is for engines of others."""

    orders: list[tuple[int, int, int]]
    bids: Levels
    asks: Levels
    levels: tuple[Levels, Levels]


class Feed(msgspec.Struct):
    tick_size: str
    lot_size: str
    step_ns: int
    levels: tuple[Levels, Levels]
    updates: list[Update]


class Task(msgspec.Struct):
    """The strategy: two quotes `half_spread_bps` around the middle, both moved against the position by up to
    `skew_bps`, `order_notional_quote` each, never past `inventory_max_quote`; moved when more than `tolerance_ticks`
    away from where they should be. `offset_bps`: never nearer to the own touch than this. `latency_ns`: of an order,
    each way; 0 for none.
    """

    half_spread_bps: float
    skew_bps: float
    offset_bps: float
    order_notional_quote: float
    inventory_max_quote: float
    tolerance_ticks: int
    latency_ns: int = 0


class Played(msgspec.Struct):
    """What a run came to: CPU seconds of this process, and proof that it traded."""

    cpu_s: float
    updates: int
    placed: int
    amended: int
    filled: int


def serve(prepare: Callable[[Feed], Callable[[Task], Played]]) -> None:
    """`prepare` is told the feed and gives what plays one task."""
    feed = msgspec.msgpack.decode(Path(sys.argv[1]).read_bytes(), type=Feed)
    play = prepare(feed)
    print("ready", flush=True)
    for line in sys.stdin:
        print(msgspec.json.encode(play(msgspec.json.decode(line, type=Task))).decode(), flush=True)
