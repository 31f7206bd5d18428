"""The trade socket: order entry without a new request each time. Authenticate, then operations with numbered answers.

What was sent and not answered when the connection ended, or in time, may have happened. Nothing is ever sent twice.
An operation that waits for the socket to take it leaves only if somebody still waits for its answer and the grant that
it needs still holds at that moment: what did not leave did not happen.

A socket on which nothing at all was heard while an operation waited for its answer in vain is left at once: whatever
follows goes by REST until a new one is up. One that says anything, of whatever, is kept.
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


NO_GRANT: Final = "no unexpired grant of that epoch at the moment of writing"


class _Asked:
    """An operation under way. `left`: its bytes have been given to the socket; `heard`: what it had said by then."""

    def __init__(self, number: str, call: Call, answer: asyncio.Future[wire.TradeAnswer]) -> None:
        self.number, self.call, self.answer = number, call, answer
        self.left = False
        self.heard = 0


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
        permitted: Callable[[int], bool],
    ) -> None:
        super().__init__("trade", url, transport, _tell_nobody, now_ns, jitter, before_connect)
        self._api_key = api_key
        self._api_secret = api_secret
        self._venue_now_ms = venue_now_ms
        self._recv_window_ms = recv_window_ms
        self._permitted = permitted
        self._numbers = count(1)
        self._open: dict[str, _Asked] = {}
        self._taken = 0
        self._silent = False

    @property
    def takes_orders(self) -> bool:
        """Whether an operation may go by it: it is up, and it is not being left for its silence."""
        return self.is_up and not self._silent

    def use_key(self, api_key: str, api_secret: str) -> None:
        """Greets with that pair from the next connection on; the one that is open stays as it is."""
        self._api_key, self._api_secret = api_key, api_secret

    async def ask(self, call: Call, timeout_s: float) -> wire.TradeAnswer:
        """One operation and its answer. Raises NotSent where it did not leave, NoAnswer once it has, or may have."""
        if not self.takes_orders:
            raise NotSent("the trade socket is not up")
        number = f"{self.reconnects}-{next(self._numbers)}"
        asked = self._open[number] = _Asked(number, call, asyncio.get_running_loop().create_future())
        self._send(lambda: self._text_of(asked))
        try:
            async with asyncio.timeout(timeout_s):
                return await asked.answer
        except TimeoutError:
            if not asked.left:
                raise NotSent(f"the trade socket took nothing for {timeout_s} s") from None
            if asked.heard == self._taken and not self._silent:
                self._leave(f"silent for {timeout_s:g} s after an operation")
            raise NoAnswer(f"no answer on the trade socket in {timeout_s} s") from None
        finally:
            self._open.pop(number, None)

    def _leave(self, reason: str) -> None:
        """Ends the connection. It closes when the other end lets it: until then nothing goes by it any more."""
        self._silent = True
        self._drop_reason = reason
        self.cut()

    def _text_of(self, asked: _Asked) -> str:
        """What is written now: nothing where nobody waits for it any more, or where it may not leave any more."""
        if asked.answer.done():
            return ""
        call = asked.call
        if call.epoch and not self._permitted(call.epoch):
            asked.answer.set_exception(NotSent(NO_GRANT))
            return ""
        asked.left, asked.heard = True, self._taken
        header = {"X-BAPI-TIMESTAMP": str(self._venue_now_ms()), "X-BAPI-RECV-WINDOW": str(self._recv_window_ms)}
        operation = wire.Operation(asked.number, header, OPERATIONS[call.path], [msgspec.Raw(call.body)])
        return msgspec.json.encode(operation).decode()

    def _greet(self) -> None:
        self._silent = False
        self._send(socket_auth(self._api_key, self._api_secret, self._venue_now_ms() + AUTH_VALID_MS))

    def _take(self, raw: bytes | str) -> None:
        self._taken += 1
        answer = wire.decode(wire.TradeAnswer, raw, self.name)
        if answer.op == "auth":
            if answer.ret_code:
                raise StreamRefused(f"auth: {answer.ret_code} {answer.ret_msg}")
            self._now_up()
            return
        asked = self._open.get(answer.req_id)
        if asked is not None and not asked.answer.done():  # else a pong, or an answer that nobody waits for any more
            asked.answer.set_result(answer)
        if answer.ret_code in KEY_CODES:  # it was greeted with a key that is no more: the next one has the key of now
            raise StreamRefused(f"{answer.op}: {answer.ret_code} {answer.ret_msg}")

    def _lost(self, reason: str) -> None:
        why = f"the trade socket was lost: {reason}"
        for asked in self._open.values():
            if not asked.answer.done():
                asked.answer.set_exception(NoAnswer(why) if asked.left else NotSent(why))


def _tell_nobody(event: Event) -> None:
    """Streams report themselves as events; this one is not the engine's concern."""
