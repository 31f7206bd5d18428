"""A stream whose connection ends, however it ends, says so and comes back: over plain sockets, on both loops."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from random import Random

import pytest
import uvloop
from aiohttp import web

from bot.domain.events import Event, StreamDown, StreamUp
from bot.venues.bybit.adapter import _stream_ended
from bot.venues.bybit.private_stream import PrivateStream
from bot.venues.transport import AiohttpTransport

WAIT_S = 10.0
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def abort(transport: asyncio.Transport) -> None:
    transport.abort()


def reset(transport: asyncio.Transport) -> None:
    own: socket.socket = transport.get_extra_info("socket")
    own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def end_of_file(transport: asyncio.Transport) -> None:
    transport.write_eof()


class Told:
    """The sink of a stream, and what waits for it."""

    def __init__(self) -> None:
        self.kinds: list[type[Event]] = []
        self._more = asyncio.Event()

    def __call__(self, event: Event) -> None:
        self.kinds.append(type(event))
        self._more.set()

    async def until(self, kinds: list[type[Event]]) -> None:
        while self.kinds[: len(kinds)] != kinds:
            self._more.clear()
            await self._more.wait()


async def _up_down_and_up_again(end: Callable[[asyncio.Transport], None]) -> None:
    told, stay = Told(), asyncio.Event()

    async def session(request: web.Request) -> web.WebSocketResponse:
        answering = web.WebSocketResponse()
        await answering.prepare(request)
        await answering.receive()
        await answering.send_str('{"success":true,"ret_msg":"","op":"auth","conn_id":"c"}')
        await answering.receive()
        await answering.send_str('{"success":true,"ret_msg":"","op":"subscribe","req_id":"ours"}')
        if not told.kinds:
            await told.until([StreamUp])
            assert request.transport is not None
            end(request.transport)
        await stay.wait()
        return answering

    app = web.Application()
    app.router.add_get("/", session)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    transport = AiohttpTransport()

    async def nothing() -> None: ...

    stream = PrivateStream(
        f"ws://127.0.0.1:{port}/", transport, told, time.time_ns, Random(1), nothing, {}, "linear", "key", "secret",
        lambda: 1,
    )  # fmt: skip
    task = asyncio.get_running_loop().create_task(stream.run())
    again = asyncio.get_running_loop().create_task(told.until([StreamUp, StreamDown, StreamUp]))
    try:
        await asyncio.wait([task, again], timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
        assert not task.done(), task.exception()
        assert again.done(), told.kinds
        assert stream.is_up
    finally:
        stay.set()
        task.cancel()
        again.cancel()
        await asyncio.gather(task, again, return_exceptions=True)
        await transport.close()
        await runner.cleanup()


@pytest.mark.parametrize("end", [abort, reset, end_of_file])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_that_ends_without_a_word_is_told_of_and_made_anew(
    loop: str, end: Callable[[asyncio.Transport], None]
) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(_up_down_and_up_again(end))


def test_a_stream_that_ends_by_an_exception_is_told_to_the_loop() -> None:
    async def ending() -> None:
        raise RuntimeError("nobody expected this")

    async def run() -> list[str]:
        told: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(f"{context['message']}: {context['exception']}"))
        task = loop.create_task(ending(), name="private stream")
        task.add_done_callback(_stream_ended)
        await asyncio.wait([task])
        await asyncio.sleep(0)
        return told

    assert asyncio.run(run()) == ["the private stream has ended: nobody expected this"]
