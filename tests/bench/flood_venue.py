"""The simulated venue with a market that stands still, and a public stream that can be flooded.

    python -m tests.bench.flood_venue MESSAGES

Orders, account and private stream are the venue's own. On the public stream the venue says its snapshot and then stays
silent: what comes after it is this process's, ten small changes a second, so that the book does not go stale. A line on
the standard input makes it do one thing, and it answers with one line:

    {"do": "flood"}           MESSAGES changes at once, a snapshot before them and a ping after every 500
    {"do": "tick"}            one message that moves every level by 20 ticks, up and down in turn
    {"do": "seen"}            nanoseconds (monotonic) of the first mutation of each path since the last flood or tick;
                              by its pongs, when the client had read the whole flood, and how many changes of it when
                              its first cancel-all came
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import sys
import time
from typing import Any

import uvloop
from aiohttp import WSMessage, WSMsgType, web

from bot.domain.order import Side
from bot.simulator.bybit_sockets import PublicSession, Session
from bot.simulator.exchange import Exchange
from bot.simulator.listings import GENERATED
from bot.simulator.loopback import IDLE_CUT_S, Clock, LoopbackVenue, _Socket
from bot.simulator.market import Action, BookReset, BookShift, GeneratedMarket
from bot.simulator.server import HOST, TOKEN_ENV
from bot.simulator.venue import Venue
from bot.venues.bybit.calls import AMEND, CANCEL_ALL, CREATE
from tests.bench.market_messages import Market, frame

PING_EVERY = 500
BEAT_S = 0.1
TICK_TICKS = 20
NEVER_NS = 1 << 62
MUTATIONS = (("create", CREATE), ("amend", AMEND))
ORDER_ENTRY = {f"order.{verb}{many}": path for verb, path in MUTATIONS for many in ("", "-batch")}
"""What the trade socket calls them: the same mutations by the other way in."""


class Still:
    """The generated market's first book, for ever."""

    fixed_background = False

    def __init__(self) -> None:
        self._market = GeneratedMarket(1)

    def start(self, now_ns: int) -> BookReset:
        return self._market.start(now_ns)

    def next_at_ns(self) -> int:
        return NEVER_NS

    def step(self) -> list[Action]:
        return []

    def jump(self, ticks: int) -> BookShift:
        return self._market.jump(ticks)


def ping(read: int) -> bytes:
    """A frame whose answer says that so many changes were read."""
    return bytes((0x89, 4)) + read.to_bytes(4, "big")


class _Stream(web.WebSocketResponse):
    """Notes what the client's answers to pings say: `read` changes, by `pong_ns`."""

    read = pong_ns = 0

    async def receive(self, timeout: float | None = None) -> WSMessage:  # noqa: ASYNC109 - aiohttp's signature
        message = await super().receive(timeout)
        if message.type is WSMsgType.PONG:
            self.read, self.pong_ns = int.from_bytes(message.data, "big"), time.monotonic_ns()
        return message


class FloodVenue(LoopbackVenue):
    """One client. `seen`: path of a mutation to when the first of them arrived."""

    def __init__(self, venue: Venue, token: str, clock: Clock, messages: int) -> None:
        super().__init__(Exchange((venue,)), token, clock)
        self.seen: dict[str, int] = {}
        self.read_before = 0
        self.subscribed = 0
        self._snapshot_due = False
        bid = venue.book.best_background(Side.BUY)
        assert bid is not None
        self._live = Market(2, bid)
        market = Market(1, bid)
        pieces = [frame(market.snapshot())]
        for number in range(1, messages + 1):
            pieces.append(frame(market.delta()))
            if number % PING_EVERY == 0 or number == messages:
                pieces.append(ping(number))
        self._messages = messages
        self._flood = b"".join(pieces)
        self._after_flood = market
        self._up = True
        self._request: web.Request | None = None
        self._stream: _Stream | None = None

    def flood(self) -> int:
        """When it began."""
        self._live = copy.deepcopy(self._after_flood)
        return self._write(self._flood)

    def tick(self) -> int:
        """When it was written."""
        text, self._up = self._live.move(TICK_TICKS if self._up else -TICK_TICKS), not self._up
        return self._write(frame(text))

    @property
    def all_read_ns(self) -> int:
        """0 while the client has not read the whole flood."""
        return self._stream.pong_ns if self._stream is not None and self._stream.read == self._messages else 0

    async def beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            if self._request is None or self._request.transport is None or not self.subscribed:
                continue
            self._request.transport.write(frame(self._live.snapshot() if self._snapshot_due else self._live.delta()))
            self._snapshot_due = False

    def _write(self, data: bytes) -> int:
        assert self._request is not None
        assert self._request.transport is not None
        assert self._stream is not None
        self.seen, self._stream.read = {}, 0
        at_ns = time.monotonic_ns()
        self._request.transport.write(data)
        return at_ns

    async def _rest(self, request: web.Request) -> web.Response:
        if request.method == "POST" and request.path not in self.seen:
            self.seen[request.path] = time.monotonic_ns()
            if request.path == CANCEL_ALL and self._stream is not None:
                self.read_before = self._stream.read
        return await super()._rest(request)

    async def _hear(self, socket: _Socket, session: Session, text: str) -> None:
        if socket.kind == "trade":
            path = ORDER_ENTRY.get(json.loads(text)["op"])
            if path is not None and path not in self.seen:
                self.seen[path] = time.monotonic_ns()
        await super()._hear(socket, session, text)

    async def _open_public(self, request: web.Request) -> web.StreamResponse:
        socket = self._socket("public", request)
        socket.stream = self._stream = _Stream(compress=False, receive_timeout=IDLE_CUT_S, autoping=False)
        self._request = request

        def subscribed(session: PublicSession, topic: str) -> None:
            self._streams.subscribed("linear", session, topic, self._clock.now_ns())
            if topic.startswith("orderbook."):
                self.subscribed += 1
                self._snapshot_due = True

        def is_topic(topic: str) -> bool:
            return self._streams.is_public_topic("linear", topic)

        session = PublicSession(self._connection_id(), socket.pushes, is_topic, subscribed)
        self._streams.open_public("linear", session)
        try:
            return await self._serve(socket, session, request)
        finally:
            self._streams.close_public(session)


def answer(venue: FloodVenue, asked: dict[str, Any]) -> dict[str, Any]:
    if asked["do"] == "flood":
        return {"at_ns": venue.flood()}
    if asked["do"] == "tick":
        return {"at_ns": venue.tick()}
    return {
        "seen": venue.seen,
        "all_read_ns": venue.all_read_ns,
        "read_before": venue.read_before,
        "subscribed": venue.subscribed,
    }


async def serve(messages: int, token: str) -> None:
    """Until the standard input ends."""
    clock, loop = Clock(), asyncio.get_running_loop()
    venue = FloodVenue(Venue(GENERATED, Still(), seed=1, now_ns=clock.now_ns()), token, clock, messages)
    runner = web.AppRunner(venue.application(), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    address = f"{HOST}:{runner.addresses[0][1]}"
    streams = {f"ws_{kind}_url": f"ws://{address}/v5/{path}" for kind, path in PATHS.items()}
    print(json.dumps({"rest_url": f"http://{address}", **streams}), flush=True)
    beating = loop.create_task(venue.beat())
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(answer(venue, json.loads(line))), flush=True)
    beating.cancel()
    await runner.cleanup()


PATHS = {"public": "public/linear", "private": "private", "trade": "trade"}

if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), os.environ[TOKEN_ENV]))
