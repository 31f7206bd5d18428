"""Whoever gave up waiting for a socket to take what was sent is not told of its loss as of an exception of nobody's."""

from __future__ import annotations

import asyncio
import gc
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp.base_protocol import BaseProtocol

from bot.venues.transport import AiohttpSocket, SocketClosed


def _paused(loop: asyncio.AbstractEventLoop) -> tuple[AiohttpSocket, BaseProtocol]:
    protocol = BaseProtocol(loop)
    protocol.transport = cast("asyncio.Transport", SimpleNamespace())
    protocol.pause_writing()
    transport = SimpleNamespace(
        set_write_buffer_limits=lambda high: None, get_extra_info=lambda _: None, get_write_buffer_size=lambda: 1
    )
    writer = SimpleNamespace(protocol=protocol, transport=transport)
    return AiohttpSocket(cast("Any", SimpleNamespace(_writer=writer))), protocol


def test_a_connection_lost_after_the_wait_was_given_up_is_no_exception_that_nobody_took() -> None:
    async def run() -> list[str]:
        said: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: said.append(str(context["message"])))
        socket, protocol = _paused(loop)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await socket.drained()
        protocol.connection_lost(ConnectionResetError("reset"))
        for _ in range(5):
            await asyncio.sleep(0)
        gc.collect()
        return said

    assert asyncio.run(run()) == []


def test_a_connection_lost_while_it_is_waited_for_is_told() -> None:
    async def run() -> None:
        socket, protocol = _paused(asyncio.get_running_loop())
        waiting = asyncio.ensure_future(socket.drained())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        protocol.connection_lost(ConnectionResetError("reset"))
        with pytest.raises(SocketClosed):
            await waiting

    asyncio.run(run())
