"""A stream that comes up and is lost at once, for as long as it likes: the venue counts connections, and so do we."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from random import Random
from typing import Any, Never

from bot.domain.events import Event, StreamDown, StreamUp
from bot.simulator.listings import GENERATED
from bot.simulator.timeline import Timeline
from bot.venues.bybit.decode import Grid
from bot.venues.bybit.public_stream import PublicStream
from bot.venues.transport import SocketClosed

START_NS = 1_767_225_600_000_000_000
CONNECTS_MAX, CONNECT_WINDOW_S = 500, 300
STREAMS = 3
"""They share the venue's limit, and where it is in trouble all of them flap."""


class Flapping:
    """A transport whose sockets take the subscription and end `lives_s` after it."""

    def __init__(self, lives_s: Callable[[int], float]) -> None:
        self.lives_s = lives_s
        self.connects_s: list[float] = []
        self.ends_s: list[float] = []

    async def connect(self, url: str, timeout_s: float) -> FlappingSocket:
        self.connects_s.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.05)
        return FlappingSocket(self, self.lives_s(len(self.connects_s)))


class FlappingSocket:
    def __init__(self, transport: Flapping, lives_s: float) -> None:
        self.transport, self.lives_s = transport, lives_s
        self.waiting: asyncio.Queue[str] = asyncio.Queue()

    async def send(self, text: str) -> None:
        if json.loads(text)["op"] == "subscribe":
            self.waiting.put_nowait('{"success":true,"op":"subscribe"}')

    async def drained(self) -> None:
        """At once."""

    async def receive(self) -> str:
        return await self.waiting.get()

    async def hand_over(self, take: Callable[[bytes | str], None]) -> Never:
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + self.lives_s
        while loop.time() < ends_s:
            await asyncio.sleep(min(1.0, max(0.0, ends_s - loop.time())))
            take(json.dumps({"topic": "publicTrade.BTCUSDT", "data": []}))
        self.transport.ends_s.append(loop.time())
        raise SocketClosed("gone again")

    async def close(self) -> None:
        """Nothing to close."""


def flapped(lives_s: Callable[[int], float], for_s: float) -> tuple[Flapping, list[Event]]:
    timeline, transport, told = Timeline(START_NS), Flapping(lives_s), list[Event]()
    grids = {"BTCUSDT": Grid(GENERATED)}
    given: Any = transport  # enough of one

    async def whole() -> None:
        stream = PublicStream("", given, told.append, timeline.now_ns, Random(1), grids)
        running = asyncio.get_running_loop().create_task(stream.run())
        await asyncio.sleep(for_s)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    with asyncio.Runner(loop_factory=lambda: timeline) as runner:
        runner.run(whole())
    return transport, told


def test_a_stream_that_is_lost_as_soon_as_it_is_up_does_not_use_up_the_venues_connections() -> None:
    transport, told = flapped(lambda _: 0.0, CONNECT_WINDOW_S)
    assert sum(isinstance(event, StreamUp) for event in told) == len(transport.ends_s) > 10
    assert len(transport.connects_s) * STREAMS <= CONNECTS_MAX // 2


def test_a_stream_that_was_up_for_long_comes_back_at_once_whatever_was_before() -> None:
    transport, told = flapped(lambda number: 0.0 if number < 8 else 60.0, 400)
    assert any(isinstance(event, StreamDown) for event in told)
    after_s = [up - down for up, down in zip(transport.connects_s[8:], transport.ends_s[7:], strict=False)]
    assert len(after_s) >= 3
    assert max(after_s) <= 0.25
