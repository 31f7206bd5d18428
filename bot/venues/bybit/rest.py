"""Signed REST calls over a transport: the venue's clock, time-outs, counters, and what a failure means.

A read raises a VenueError. It waits where the venue has said that its endpoint takes no more just now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from bot.domain.counts import Counts
from bot.venues.bybit import calls, wire
from bot.venues.bybit.calls import Call
from bot.venues.bybit.codes import KEY_CODES, Meaning, meaning, refusal_error
from bot.venues.bybit.decode import NS_PER_MS, whole
from bot.venues.bybit.rate_limits import RateLimits, held_ms, too_many
from bot.venues.bybit.signing import rest_headers
from bot.venues.port import VenueError, VenueUnknown, VenueUnreachable
from bot.venues.transport import HttpAnswer, NoAnswer, NotSent, Transport

T = TypeVar("T")

READ_WAIT_MAX_MS: Final = 2_000
"""A bucket is full again after a second; who would have to wait for longer than two is told so at once."""

NO_CONNECTION: Final = "not_sent"
NO_ANSWER: Final = "no_answer"
STATUSES: Final = ("200", "403", "429", "500", "502", "503", "504", NO_CONNECTION, NO_ANSWER)
"""HTTP statuses, and two words where there was none. Counters are born with all of them."""


class Withheld(Exception):
    """It may not leave any more, and was not given to the transport."""


class BybitRest:
    """One account's REST side. `clock_offset_ms`: the venue's clock minus ours. `limits`: shared with others there."""

    def __init__(
        self,
        transport: Transport,
        rest_url: str,
        api_key: str,
        api_secret: str,
        now_ns: Callable[[], int],
        recv_window_ms: int,
        timeout_s: float,
        limits: RateLimits | None = None,
    ) -> None:
        self._transport = transport
        self._begin: Callable[..., asyncio.Future[HttpAnswer]] | None = getattr(transport, "begin", None)
        self._rest_url = rest_url
        self._api_key = api_key
        self._api_secret = api_secret
        self._now_ns = now_ns
        self._recv_window_ms = recv_window_ms
        self._timeout_s = timeout_s
        self._syncing: asyncio.Task[int] | None = None
        self.clock_offset_ms = 0
        self.clock_syncs = 0
        self._responses: Counts[tuple[str, str]] = Counts(
            (path, status) for path in calls.BOT_ENDPOINTS for status in STATUSES
        )
        self._successes: dict[str, int] = {}
        """Answers with status 200 that are not counted there yet: nearly all are such, and nobody asks in between."""
        self.limits = RateLimits() if limits is None else limits
        self.key_refusals = 0
        """How often the venue has refused the key itself."""

    @property
    def responses(self) -> Counts[tuple[str, str]]:
        """(endpoint, HTTP status or why there was none) → how many."""
        if self._successes:
            for path, count in self._successes.items():
                self._responses[path, "200"] = self._responses.get((path, "200"), 0) + count
            self._successes.clear()
        return self._responses

    def use_key(self, api_key: str, api_secret: str) -> None:
        """Signs with that pair from the next request on."""
        self._api_key, self._api_secret = api_key, api_secret

    def venue_now_ms(self) -> int:
        """The venue's clock as we know it, ms since the epoch."""
        return self._now_ns() // NS_PER_MS + self.clock_offset_ms

    async def sync_clock(self) -> int:
        """Reads the venue's clock and keeps the offset; callers at the same time share one read. Raises VenueError."""
        if self._syncing is None or self._syncing.done():
            self._syncing = asyncio.get_running_loop().create_task(self._sync_clock())
            self._syncing.add_done_callback(_taken)  # where all who waited were cancelled, nobody else takes it
        return await asyncio.shield(self._syncing)

    async def _sync_clock(self) -> int:
        call = calls.server_time()
        await self._await_turn(call.path)
        sent_ns = self._now_ns()
        answer = await self._read_now(call, wire.ServerTime)
        venue_ms = whole(answer.time_nano, "timeNano") // NS_PER_MS
        self.clock_offset_ms = venue_ms - (sent_ns + self._now_ns()) // 2 // NS_PER_MS
        self.limits.clock_read(self.clock_offset_ms)
        self.clock_syncs += 1
        return venue_ms

    async def read(self, call: Call, kind: type[T]) -> T:
        """The decoded result of a read. After a refused timestamp: resynchronised and asked once more."""
        try:
            return await self._read_once(call, kind)
        except VenueError as error:
            if error.code == 0 or meaning(error.code) is not Meaning.CLOCK:
                raise
        await self.sync_clock()
        return await self._read_once(call, kind)

    async def exchange(self, call: Call) -> wire.Envelope:
        """One request and its envelope, whatever its code. Raises NotSent, NoAnswer, VenueUnknown or VenueGarbled."""
        return self.enveloped(call, await self._send(call))

    def enveloped(self, call: Call, answer: HttpAnswer) -> wire.Envelope:
        """Raises VenueUnknown or VenueGarbled."""
        envelope = wire.envelope(answer.status, answer.body, call.path)
        if envelope.ret_code:
            self.note_code(envelope.ret_code)
        return envelope

    def note_code(self, code: int) -> None:
        """Counts an answer by which the venue refuses the key itself."""
        self.key_refusals += code in KEY_CODES

    def take_turns(self, path: str, wanted: int, *, is_cancel: bool) -> int:
        """How many of so many requests of that endpoint may leave now; they are taken from what it still takes.

        Raises NotSent where even one would be one too many, there or of the address.
        """
        now_ms = self.venue_now_ms()
        taken = self.limits.take(path, wanted, now_ms, is_cancel=is_cancel)
        if not taken:
            wait_ms = self.limits.wait_ms(path, now_ms, is_cancel=is_cancel)
            raise NotSent(too_many(path, wait_ms), held_ms(wait_ms))
        return taken

    async def resync_quietly(self) -> None:
        """After a refused timestamp. A failure changes nothing: the next refused timestamp tries again."""
        try:
            await self.sync_clock()
        except VenueError:
            return

    async def _read_once(self, call: Call, kind: type[T]) -> T:
        await self._await_turn(call.path)
        return await self._read_now(call, kind)

    async def _read_now(self, call: Call, kind: type[T]) -> T:
        """Its turn has been taken."""
        try:
            answer = await self._send(call)
            envelope = wire.envelope(answer.status, answer.body, call.path)
        except NotSent as not_sent:
            raise VenueUnreachable(f"{call.path}: {not_sent}") from None
        except NoAnswer as no_answer:
            raise VenueUnknown(f"{call.path}: {no_answer}") from None
        if envelope.ret_code:
            self.key_refusals += envelope.ret_code in KEY_CODES
            raise refusal_error(envelope.ret_code, envelope.ret_msg, call.path)
        return wire.decode(kind, envelope.result, call.path)

    async def _await_turn(self, path: str) -> None:
        """Raises VenueUnreachable where it would come too late."""
        patience_ms = READ_WAIT_MAX_MS
        while not self.limits.take(path, 1, self.venue_now_ms(), is_cancel=False):
            wait_ms = self.limits.wait_ms(path, self.venue_now_ms(), is_cancel=False)
            if wait_ms > patience_ms:
                raise VenueUnreachable(too_many(path, wait_ms))
            patience_ms -= max(1, wait_ms)
            await asyncio.sleep(max(1, wait_ms) / 1_000)

    async def _send(self, call: Call) -> HttpAnswer:
        """Its turn has been taken; what became of it is told to `limits` whatever happens."""
        headers = self._headers(call)
        begin = self._begin
        try:
            if begin is None:
                answer = await self._transport.request(
                    call.method, self._rest_url + call.target, headers, call.body, self._timeout_s
                )
            else:
                answer = await begin(call.method, self._rest_url + call.target, headers, call.body, self._timeout_s)
        except BaseException as error:
            self._unheard(call, error)
            raise
        self._heard(call, answer)
        return answer

    def begin(self, call: Call, may_leave: Callable[[Call], bool]) -> asyncio.Future[HttpAnswer]:
        """The first half of a request that nobody awaits; `end` is the second. Its turn has been taken.

        Over a transport that begins nothing it is written a turn of the loop later, and `may_leave` is asked then.
        """
        begin = self._begin
        if begin is not None:
            try:
                url = self._rest_url + call.target
                return begin(call.method, url, self._headers(call), call.body, self._timeout_s)
            except BaseException as error:
                self._unheard(call, error)
                raise
        self.limits.sent(self.venue_now_ms())  # already now: of several begun in one turn each counts for the next
        return asyncio.get_running_loop().create_task(self._written(call, may_leave))

    async def _written(self, call: Call, may_leave: Callable[[Call], bool]) -> HttpAnswer:
        if not may_leave(call):
            raise Withheld
        url = self._rest_url + call.target
        headers = self._signed(call, self.venue_now_ms())
        return await self._transport.request(call.method, url, headers, call.body, self._timeout_s)

    def end(self, call: Call, answered: asyncio.Future[HttpAnswer]) -> HttpAnswer:
        """The answer of a request that `begin` began, once it is done. Raises as `Transport.request`, or Withheld."""
        try:
            answer = answered.result()
        except BaseException as error:
            self._unheard(call, error)
            raise
        self._heard(call, answer)
        return answer

    def _headers(self, call: Call) -> dict[str, str]:
        """Of a request that leaves now, and is counted."""
        now_ms = self.venue_now_ms()
        self.limits.sent(now_ms)
        return self._signed(call, now_ms)

    def _signed(self, call: Call, now_ms: int) -> dict[str, str]:
        if not call.signed:
            return {}
        return rest_headers(self._api_key, self._api_secret, now_ms, self._recv_window_ms, call.payload)

    def _unheard(self, call: Call, error: BaseException) -> None:
        path = call.path
        if isinstance(error, Withheld):
            self.limits.returned(path, call.orders)
            return
        if isinstance(error, NotSent):
            self._responses.add((path, NO_CONNECTION))
            self.limits.returned(path, call.orders)
            return
        if isinstance(error, NoAnswer):
            self._responses.add((path, NO_ANSWER))
        self.limits.unheard(path, call.orders)

    def _heard(self, call: Call, answer: HttpAnswer) -> None:
        path, status = call.path, answer.status
        if status == 200:
            self._successes[path] = self._successes.get(path, 0) + 1
        else:
            self._responses.add((path, str(status)))
        self.limits.heard(path, answer.headers, self.venue_now_ms(), call.orders, status)


def _taken(reading: asyncio.Task[int]) -> None:
    """Takes its exception, if it has one: one that nobody took is told of as unexpected, and ends the run."""
    if not reading.cancelled():
        reading.exception()
