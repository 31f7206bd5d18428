"""The trade socket: order entry without a new request each time. Authenticate, then operations with numbered answers.

What was sent and not answered when the connection ended, or in time, may have happened. Nothing is ever sent twice.
An operation that waits for the socket to take it leaves only if somebody still waits for its answer and the grant that
it needs still holds at that moment: what did not leave did not happen.

A socket on which nothing at all was heard while an operation waited for its answer in vain is left at once: whatever
follows goes by REST until a new one is up. One that says anything, of whatever, is kept.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any, Final

from bot.domain.events import Event
from bot.venues.bybit import calls, wire
from bot.venues.bybit.calls import Call
from bot.venues.bybit.codes import KEY_CODES
from bot.venues.bybit.decode import IS_COMPILED
from bot.venues.bybit.private_stream import AUTH_VALID_MS
from bot.venues.bybit.signing import socket_auth
from bot.venues.bybit.sockets import Stream, StreamRefused
from bot.venues.bybit.trade_text import Acknowledged, AnswerText
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


_LOOP: Final[Any] = asyncio.get_running_loop
NO_GRANT: Final = "no unexpired grant of that epoch at the moment of writing"


Answer = wire.TradeAnswer | Acknowledged | NotSent | NoAnswer
Told = Callable[[Answer], None]


class _Asked:
    """An operation under way. `left`: its bytes have been given to the socket; `heard`: what it had said by then."""

    __slots__ = ("call", "due_s", "given_up", "heard", "is_over", "left", "number", "told")

    def __init__(self, number: str, call: Call, due_s: float, told: Told, given_up: Callable[[], bool]) -> None:
        self.number, self.call, self.due_s, self.told, self.given_up = number, call, due_s, told, given_up
        self.left = self.is_over = False
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
        self._recv_window = str(recv_window_ms)
        self._permitted = permitted
        self._begun = 0
        self._open: dict[str, _Asked] = {}
        self._due: deque[_Asked] = deque()
        """by the time at which their patience ends"""
        self._alarm: asyncio.TimerHandle | None = None
        self._taken = 0
        self._texts: Final = AnswerText()

    @property
    def takes_orders(self) -> bool:
        """Whether an operation may go by it: it is up, and it is not being left for its silence or a broken write."""
        return self.is_up and not self._drop_reason

    def use_key(self, api_key: str, api_secret: str) -> None:
        """Greets with that pair from the next connection on; the one that is open stays as it is."""
        self._api_key, self._api_secret = api_key, api_secret

    def begin(self, call: Call, timeout_s: float, told: Told, given_up: Callable[[], bool]) -> None:
        """One operation; `told` is called with its answer, NotSent where it did not leave, NoAnswer where it has, or
        may have. It is written before this returns where the socket takes it; nobody is told before. `timeout_s`: the
        same for all. `given_up`: whether nobody waits for it any more; asked as it is written.
        """
        if not self.takes_orders:
            asyncio.get_running_loop().call_soon(told, NotSent("the trade socket is not up"))
            return
        self._begun += 1
        number = f"{self.reconnects}-{self._begun}"
        loop = _LOOP()
        asked = self._open[number] = _Asked(number, call, loop.time() + timeout_s, told, given_up)
        self._due.append(asked)
        if self._alarm is None:
            self._alarm = loop.call_at(asked.due_s, self._look_who_is_due, asked.due_s, timeout_s)
        socket = self._free_socket()
        if socket is None:
            self._send(lambda: self._text_of(asked))
        else:
            self._write(socket, self._text_of(asked))

    def _look_who_is_due(self, alarm_s: float, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        now_s = max(alarm_s, loop.time())  # a loop may wake us a hair before the moment that it was asked for
        while self._due and (self._due[0].is_over or self._due[0].due_s <= now_s):
            asked = self._due.popleft()
            if not asked.is_over:
                self._past_its_time(asked, timeout_s)
        self._alarm = None  # only now: who was told may have begun another, whose time is after that of all here
        if self._due:
            due_s = self._due[0].due_s
            self._alarm = loop.call_at(due_s, self._look_who_is_due, due_s, timeout_s)

    def _past_its_time(self, asked: _Asked, timeout_s: float) -> None:
        if not asked.left:
            self._end(asked, NotSent(f"the trade socket took nothing for {timeout_s} s"))
            return
        if asked.heard == self._taken and not self._drop_reason:
            self._leave(f"silent for {timeout_s:g} s after an operation")
        self._end(asked, NoAnswer(f"no answer on the trade socket in {timeout_s} s"))

    def _end(self, asked: _Asked, answer: Answer) -> None:
        if asked.is_over:
            return
        asked.is_over = True
        if asked.number in self._open:
            del self._open[asked.number]
        asked.told(answer)

    def _withhold(self, asked: _Asked, why: str) -> None:
        """It did not leave. Told in the loop's next turn: whoever begins it now has not heard from `begin` yet."""
        asked.is_over = True
        self._open.pop(asked.number, None)
        asyncio.get_running_loop().call_soon(asked.told, NotSent(why))

    def _leave(self, reason: str) -> None:
        """Ends the connection. It closes when the other end lets it: until then nothing goes by it any more."""
        self._drop_reason = reason
        self.cut()

    def _text_of(self, asked: _Asked) -> str:
        """What is written now: nothing where its time is up, where nobody waits for it any more, or where it may not
        leave any more."""
        if asked.is_over:
            return ""
        call = asked.call
        if asked.given_up():
            self._withhold(asked, "it was given up before the trade socket took it")
            return ""
        if call.epoch and not self._permitted(call.epoch):
            self._withhold(asked, NO_GRANT)
            return ""
        asked.left, asked.heard = True, self._taken
        return (
            f'{{"reqId":"{asked.number}","header":{{"X-BAPI-TIMESTAMP":"{self._venue_now_ms()}",'
            f'"X-BAPI-RECV-WINDOW":"{self._recv_window}"}},"op":"{OPERATIONS[call.path]}","args":['
            f"{call.text}]}}"
        )

    def _greet(self) -> None:
        self._send(socket_auth(self._api_key, self._api_secret, self._venue_now_ms() + AUTH_VALID_MS))

    def _take(self, raw: bytes | str) -> None:
        self._taken += 1
        text = ""
        if IS_COMPILED and raw.isascii():
            text = raw.decode() if isinstance(raw, bytes) else raw
            said = self._texts.read(text)
            if said is not None:
                whose = self._open.get(said.number)
                if whose is None or not whose.left:
                    return  # an answer that nobody waits for (any more)
                if said.answers(whose.call.orders):
                    self._end(whose, said)
                    return
        answer = wire.decode(wire.TradeAnswer, raw, self.name)
        if answer.op == "auth":
            if answer.ret_code:
                raise StreamRefused(f"auth: {answer.ret_code} {answer.ret_msg}")
            self._now_up()
            return
        is_of_key = answer.ret_code in KEY_CODES
        if is_of_key:  # already now: what is decided when it is told must not go by it
            self._drop_reason = f"refused: {answer.op}: {answer.ret_code} {answer.ret_msg}"
        asked = self._open.get(answer.req_id)
        if asked is not None and asked.left:  # else a pong, or an answer that nobody waits for (any more)
            self._end(asked, answer)
            if text:
                self._texts.learn(text, answer, asked.call.orders)
        if is_of_key:  # it was greeted with a key that is no more: the next one has the key of now
            raise StreamRefused(f"{answer.op}: {answer.ret_code} {answer.ret_msg}")

    def _lost(self, reason: str) -> None:
        why = f"the trade socket was lost: {reason}"
        for asked in list(self._open.values()):
            self._end(asked, NoAnswer(why) if asked.left else NotSent(why))


def _tell_nobody(event: Event) -> None:
    """Streams report themselves as events; this one is not the engine's concern."""
