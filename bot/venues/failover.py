"""A second endpoint of the same venue: used from the moment the first cannot be reached, and kept until it fails too.

The same account stands behind both. A read that was not sent is asked of the other at once. An order is never sent
twice by itself: what was not sent is told so, and whoever decides anew reaches the other endpoint; what may have been
sent stays unknown and is probed there. Endpoints that take requests and give no answer are left after three in a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from bot.venues.transport import HttpAnswer, NoAnswer, NotSent, Socket, Transport

SILENT_MAX: Final = 3
"""Requests in a row without a whole answer, or answered by 5xx, after which the other endpoint is asked."""


class FailoverTransport:
    """A Transport over another. `seconds`: origin (`https://host`) to that of the second endpoint.

    `switched`: told of every change, with the origin that is left and the one that is used from now on.
    """

    def __init__(
        self, transport: Transport, seconds: Mapping[str, str], switched: Callable[[str, str], None] = lambda *_: None
    ) -> None:
        self._transport = transport
        self._pairs = {**seconds}
        self._switched = switched
        self._on_second: set[str] = set()
        self._silent: dict[str, int] = {}

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> HttpAnswer:
        origin = self._origin(url)
        if not origin:
            return await self._transport.request(method, url, headers, body, timeout_s)
        used = self._used(origin)
        try:
            answer = await self._transport.request(method, self._at(url, origin), headers, body, timeout_s)
        except NotSent:
            self._leave(origin, used)
            if method != "GET":
                raise
            return await self._transport.request(method, self._at(url, origin), headers, body, timeout_s)
        except NoAnswer:
            self._count_silence(origin, used)
            raise
        if answer.status >= 500:
            self._count_silence(origin, used)
        else:
            self._silent.pop(origin, None)
        return answer

    async def connect(self, url: str, timeout_s: float) -> Socket:
        """A socket that does not open is tried at the other endpoint when its owner tries again."""
        origin = self._origin(url)
        used = self._used(origin)
        try:
            return await self._transport.connect(self._at(url, origin) if origin else url, timeout_s)
        except NotSent:
            if origin:
                self._leave(origin, used)
            raise

    async def close(self) -> None:
        await self._transport.close()

    def _origin(self, url: str) -> str:
        return next((origin for origin in self._pairs if url == origin or url.startswith(f"{origin}/")), "")

    def _used(self, origin: str) -> str:
        return self._pairs[origin] if origin in self._on_second else origin

    def _at(self, url: str, origin: str) -> str:
        return self._used(origin) + url[len(origin) :]

    def _count_silence(self, origin: str, used: str) -> None:
        self._silent[origin] = self._silent.get(origin, 0) + 1
        if self._silent[origin] >= SILENT_MAX:
            self._leave(origin, used)

    def _leave(self, origin: str, failed: str) -> None:
        """Several requests may fail at once: only those that used the endpoint in use change it."""
        if failed != self._used(origin):
            return
        self._silent.pop(origin, None)
        self._on_second ^= {origin}
        self._switched(failed, self._used(origin))
