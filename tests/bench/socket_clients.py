"""Worker of the socket bench: the public stream from bytes to decision. See `tests.bench.sockets`.

    python -m tests.bench.socket_clients slipway|picows READY MESSAGES

READY is the stub's first line. For every line it reads it opens a connection, takes the stub's whole stream, and
answers with the CPU seconds from the snapshot to the last change. Both are the bot's own stream, decoder, book and
engine with quotes out, on uvloop; they differ in what is below: the bot's transport, or picows's frames.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Never

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from bot.domain.events import BookDelta, BookSnapshot, Event, InstrumentsRead, Started, StreamUp, Ticked
from bot.engine.recovery import instrument_of
from bot.runtime.clock import Clock
from bot.venues.bybit.decode import Grid
from bot.venues.bybit.public_stream import PublicStream
from bot.venues.transport import AiohttpTransport, HttpAnswer, Socket, SocketClosed, Transport
from tests.bench.market_messages import SYMBOL
from tests.support.engine_driver import Driver, filters

TICK_S = 0.1
CALM: dict[str, Any] = {"requote_tolerance_bps": 0, "requote_tolerance_ticks": 5, "edge_threshold_bps": 0}


class PicowsSocket(WSListener):
    """Frames as they come; what arrives before somebody takes them waits."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue()
        self._take: Callable[[Any], None] = lambda payload: self._waiting.put_nowait(bytes(payload))
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: WSTransport | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            self._take(frame.get_payload_as_bytes())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    async def send(self, text: str) -> None:
        self.send_now(text)

    def takes(self) -> bool:
        return True

    def send_now(self, text: str) -> None:
        assert self._transport is not None
        self._transport.send(WSMsgType.TEXT, text.encode())

    async def drained(self) -> None:
        """Measured is what comes in."""

    async def receive(self) -> bytes | str:
        return await self._waiting.get()

    async def hand_over(self, take: Callable[[bytes | str], None]) -> Never:
        while not self._waiting.empty():
            take(self._waiting.get_nowait())
        self._take = take
        await self._ended
        raise SocketClosed("closed")

    async def close(self) -> None:
        assert self._transport is not None
        self._transport.disconnect(graceful=False)


class PicowsTransport:
    """Sockets alone."""

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> HttpAnswer:
        raise NotImplementedError

    async def connect(self, url: str, timeout_s: float) -> Socket:
        _, listener = await ws_connect(PicowsSocket, url)
        assert isinstance(listener, PicowsSocket)
        return listener

    async def close(self) -> None:
        return


class Desk:
    """An engine that quotes at a venue which does at once what it is asked; every event goes through its door."""

    def __init__(self, messages: int) -> None:
        self.clock = Clock()
        self.driver = Driver(**CALM)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.updates = 0
        self.cpu_s = 0.0
        self._messages = messages
        self._receive = self.driver.engine.receive
        self._began_s = 0.0
        self._tell(Started(self.clock.now_ns(), "run", "live", "digest", "0.1.0", (SYMBOL,)))
        self.filters: InstrumentsRead = filters(self.clock.now_ns())
        self._tell(self.filters)
        self._tell(StreamUp(self.clock.now_ns(), "private"))

    def sink(self, event: Event) -> None:
        for intent in self._receive(event):
            self.driver.now = event.at_ns
            for answer in self.driver._answers(intent):
                self._tell(answer)
        if type(event) is BookDelta:
            self.updates += 1
            if self.updates == self._messages:
                self.cpu_s = time.process_time() - self._began_s
                self.done.set_result(None)
        elif isinstance(event, BookSnapshot):
            self.turn()
            self._began_s = time.process_time()

    def turn(self) -> None:
        """Ten times a second: the grant renewed, the clock told."""
        self.driver.now = self.clock.now_ns()
        self.driver.grant()
        self._tell(Ticked(self.driver.now))

    def _tell(self, event: Event) -> None:
        self.driver.now = event.at_ns
        self.driver.tell(event)

    def played(self) -> dict[str, Any]:
        engine = self.driver.engine
        counts = engine.counts
        placed = sum(counts[("mm_orders_placed_total", (SYMBOL, side))] for side in ("buy", "sell"))
        return {
            "cpu_s": self.cpu_s,
            "updates": self.updates,
            "top": engine.known.books[SYMBOL].top,
            "placed": placed,
            "working": len(self.driver.venue),
        }


async def play(transport: Transport, url: str, messages: int) -> dict[str, Any]:
    """One connection and its whole stream."""
    desk = Desk(messages)
    grids = {SYMBOL: Grid(instrument_of(desk.filters))}
    stream = PublicStream(url, transport, desk.sink, desk.clock.now_ns, Random(0), grids)
    gc.collect()
    loop = asyncio.get_running_loop()

    async def turns() -> None:
        while True:
            await asyncio.sleep(TICK_S)
            desk.turn()

    running, turning = loop.create_task(stream.run()), loop.create_task(turns())
    await asyncio.wait((desk.done, running), return_when=asyncio.FIRST_COMPLETED)
    for task in (running, turning):
        task.cancel()
    await asyncio.gather(running, turning, return_exceptions=True)
    return desk.played()


async def serve(kind: str, ready: dict[str, Any], messages: int) -> None:
    transport: Transport = AiohttpTransport() if kind == "slipway" else PicowsTransport()
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await play(transport, ready["ws_public_url"], messages)), flush=True)
    await transport.close()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])))
