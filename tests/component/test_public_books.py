"""Books of every depth over the link: how often they are told, and that who follows them has the venue's own."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from bot.domain.order import Side
from bot.simulator.exchange import Exchange
from bot.simulator.link import HOSTS, Latency, Link
from bot.simulator.listings import GENERATED
from bot.simulator.market import GeneratedMarket, MarketParameters
from bot.simulator.timeline import Timeline
from bot.simulator.venue import Venue

START_NS = 1_767_225_600_000_000_000
MS = 1_000_000


def followed(depth: int, step_ms: int, span_s: float = 3.0) -> tuple[Venue, list[tuple[int, dict[str, Any]]]]:
    """The venue in the end, and every message with the time it came, ms from the start."""
    timeline = Timeline(START_NS)
    venue = Venue(GENERATED, GeneratedMarket(1, MarketParameters(step_ns=step_ms * MS)), seed=1, now_ns=START_NS)
    told: list[tuple[int, dict[str, Any]]] = []

    async def whole() -> None:
        link = Link(Exchange((venue,)), timeline, Latency())
        link.start_market()
        socket = await link.connect(HOSTS.ws_public_url, 5.0)
        await socket.send(f'{{"op":"subscribe","args":["orderbook.{depth}.BTCUSDT"]}}')
        try:
            async with asyncio.timeout(span_s):  # simulated time
                while True:
                    message = msgspec.json.decode(await socket.receive())
                    if "topic" in message:
                        told.append(((timeline.now_ns() - START_NS) // MS, message))
        except TimeoutError:
            pass

    with asyncio.Runner(loop_factory=lambda: timeline) as runner:
        runner.run(whole())
    return venue, told


@pytest.mark.parametrize("depth", [1, 50, 200, 1000])
def test_who_follows_a_book_holds_as_many_of_its_best_levels(depth: int) -> None:
    venue, told = followed(depth, step_ms=100, span_s=2.95)  # between two steps, with the last one told
    assert told[0][1]["type"] == "snapshot"
    assert [message["data"]["u"] for _, message in told] == list(
        range(told[0][1]["data"]["u"], told[-1][1]["data"]["u"] + 1)
    )
    held: dict[str, dict[str, str]] = {"b": {}, "a": {}}
    for _, message in told:
        for side, levels in held.items():
            for price, size in message["data"][side]:
                if Decimal(size):
                    levels[price] = size
                else:
                    del levels[price]
            assert 0 < len(levels) <= depth
    if depth <= 50:  # told with every step: nothing of the last is still to come
        for side, levels in (("b", held["b"]), ("a", held["a"])):
            best = venue.book.depth(Side.BUY if side == "b" else Side.SELL, depth)
            shown = {(GENERATED.ticks(Decimal(p)), GENERATED.lots(Decimal(q))) for p, q in levels.items()}
            assert shown == set(best)


@pytest.mark.parametrize(("depth", "every_ms"), [(200, 100), (1000, 200)])
@pytest.mark.parametrize("step_ms", [10, 90])
def test_a_deep_book_is_told_as_often_as_is_promised_however_often_the_market_moves(
    depth: int, every_ms: int, step_ms: int
) -> None:
    _, told = followed(depth, step_ms)
    came_ms = [at_ms for at_ms, message in told if message["type"] == "delta"]
    apart_ms = {later - earlier for earlier, later in pairwise(came_ms[1:])}
    assert len(came_ms) >= 3_000 // every_ms - 3
    assert min(apart_ms) >= every_ms - 1, "not oftener"
    assert max(apart_ms) <= every_ms + 1, "and not more seldom"


@pytest.mark.parametrize("depth", [1, 50])
def test_a_shallow_book_is_told_with_every_step_of_the_market(depth: int) -> None:
    _, told = followed(depth, step_ms=100)
    came_ms = [at_ms for at_ms, message in told if message["type"] == "delta"]
    assert {(later - earlier) % 100 for earlier, later in pairwise(came_ms)} <= {0}
    assert len(came_ms) >= 15
