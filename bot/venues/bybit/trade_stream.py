"""The trade socket: order entry without a new request each time. Authenticate, then operations with numbered answers.

What was sent and not answered when the connection ended, or in time, may have happened. Nothing is ever sent twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from random import Random
from typing import Final

import msgspec

from bot.domain.events import Event
from bot.venues.bybit import calls, wire
from bot.venues.bybit.calls import Call
from bot.venues.bybit.codes import KEY_CODES
from bot.venues.bybit.private_stream import AUTH_VALID_MS
from bot.venues.bybit.signing import socket_auth
from bot.venues.bybit.sockets import Stream, StreamRefused
from bot.venues.transport import NoAnswer, NotSent, Transport

OPERATIONS: Final[Mapping[str, str]] = {
    calls.CREATE: "order.create",
    calls.AMEND: "order.amend",
    calls.CANCEL: "order.cancel",
    calls.CREATE_BATCH: "order.create-batch",
    calls.AMEND_BATCH: "order.amend-batch",
    calls.CANCEL_BATCH: "order.cancel-batch",
}
"""Path of the REST call → what it is called here. Whatever is missing goes by REST alone."""


class _Operation(msgspec.Struct, rename={"req_id": "reqId"}):
    req_id: str
    header: dict[str, str]
    op: str
    args: list[msgspec.Raw]


class TradeStream(Stream):
    """One trade socket kept up. It tells the sink nothing: without it orders go by REST."""

    def __init__(
        self,
        url: str,
        transport: Transport,
        now_ns: Callable[[], int],
        jitter: Random,
        before_connect: Callable[[], Awaitable[object]],
        api_key: str,
        api_secret: str,
        venue_now_ms: Callable[[], int],
        recv_window_ms: int,
    ) -> None:
        super().__init__("trade", url, transport, _tell_nobody, now_ns, jitter, before_connect)
        self._api_key = api_key
        self._api_secret = api_secret
        self._venue_now_ms = venue_now_ms
        self._recv_window_ms = recv_window_ms
        self._numbers = count(1)
        self._open: dict[str, asyncio.Future[wire.TradeAnswer]] = {}

    def use_key(self, api_key: str, api_secret: str) -> None:
        """Greets with that pair from the next connection on; the one that is open stays as it is."""
        self._api_key, self._api_secret = api_key, api_secret

    async def ask(self, call: Call, timeout_s: float) -> wire.TradeAnswer:
        """One operation and its answer. Raises NotSent where the socket is not up, NoAnswer once it was sent."""
        if not self.is_up:
            raise NotSent("the trade socket is not up")
        number = f"{self.reconnects}-{next(self._numbers)}"
        header = {"X-BAPI-TIMESTAMP": str(self._venue_now_ms()), "X-BAPI-RECV-WINDOW": str(self._recv_window_ms)}
        operation = _Operation(number, header, OPERATIONS[call.path], [msgspec.Raw(call.body)])
        answered: asyncio.Future[wire.TradeAnswer] = asyncio.get_running_loop().create_future()
        self._open[number] = answered
        self._send(msgspec.json.encode(operation).decode())
        try:
            async with asyncio.timeout(timeout_s):
                return await answered
        except TimeoutError:
            raise NoAnswer(f"no answer on the trade socket in {timeout_s} s") from None
        finally:
            self._open.pop(number, None)

    def _greet(self) -> None:
        self._send(socket_auth(self._api_key, self._api_secret, self._venue_now_ms() + AUTH_VALID_MS))

    def _take(self, raw: bytes | str) -> None:
        answer = wire.decode(wire.TradeAnswer, raw, self.name)
        if answer.op == "auth":
            if answer.ret_code:
                raise StreamRefused(f"auth: {answer.ret_code} {answer.ret_msg}")
            self._now_up()
            return
        waiting = self._open.get(answer.req_id)
        if waiting is not None and not waiting.done():  # else a pong, or an answer that nobody waits for any more
            waiting.set_result(answer)
        if answer.ret_code in KEY_CODES:  # it was greeted with a key that is no more: the next one has the key of now
            raise StreamRefused(f"{answer.op}: {answer.ret_code} {answer.ret_msg}")

    def _lost(self, reason: str) -> None:
        for waiting in self._open.values():
            if not waiting.done():
                waiting.set_exception(NoAnswer(f"the trade socket was lost: {reason}"))


def _tell_nobody(event: Event) -> None:
    """Streams report themselves as events; this one is not the engine's concern."""
