"""Whether the venue can be reached, by both ways: a REST read and a ping over a public socket. No key is needed."""

from __future__ import annotations

import asyncio

import aiohttp

from bot.venues.bybit import calls
from bot.venues.bybit.hosts import BybitHosts

NO_PATIENCE = aiohttp.ClientWSTimeout(ws_close=0.1)
"""An orderly close waits for the other side, which may hang."""
PING = '{"op":"ping"}'


class VenueWatch:
    """Counts looks in a row that failed. `socket_failed` stays 0 where the venue offers no socket."""

    def __init__(self, session: aiohttp.ClientSession, hosts: BybitHosts, answer_s: float) -> None:
        self._session = session
        self._rest_url = hosts.rest_url
        self._socket_url = hosts.ws_public_url
        self._answer_s = answer_s
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self.rest_failed = 0
        self.socket_failed = 0

    async def look(self) -> None:
        """One question by each way; ends within about `answer_s`."""
        rest, socket = await asyncio.gather(self._rest(), self._pong())
        self.rest_failed = 0 if rest else self.rest_failed + 1
        self.socket_failed = 0 if socket else self.socket_failed + 1

    async def close(self) -> None:
        if self._socket is not None:
            await self._socket.close()

    async def _rest(self) -> bool:
        try:
            async with asyncio.timeout(self._answer_s), self._session.get(self._rest_url + calls.TIME) as answer:
                return answer.status == 200 and (await answer.json()).get("retCode") == 0
        except (aiohttp.ClientError, TimeoutError, ValueError, AttributeError):
            return False

    async def _pong(self) -> bool:
        try:
            async with asyncio.timeout(self._answer_s):
                if self._socket is None or self._socket.closed:
                    self._socket = await self._session.ws_connect(self._socket_url, timeout=NO_PATIENCE)
                await self._socket.send_str(PING)
                message = await self._socket.receive()
                if message.type is aiohttp.WSMsgType.TEXT:
                    return True
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            pass
        broken, self._socket = self._socket, None
        if broken is not None and not broken.closed:
            await broken.close(code=aiohttp.WSCloseCode.GOING_AWAY)
        return False
