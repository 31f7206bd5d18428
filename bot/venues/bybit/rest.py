"""Signed REST calls over a transport: the venue's clock, time-outs, counters, and what a failure means.

A read raises a VenueError. A mutation returns an Outcome: `Unreachable` only where the transport knows that nothing
was sent; a time-out, 5xx, 429, 403 or an answer that does not decode is `Unknown`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from multidict import istr

from bot.domain.counts import Counts
from bot.venues.bybit import calls, wire
from bot.venues.bybit.calls import Call
from bot.venues.bybit.codes import KEY_CODES, Meaning, meaning, refusal_error, refusal_outcome
from bot.venues.bybit.decode import NS_PER_MS, whole
from bot.venues.bybit.signing import rest_headers
from bot.venues.port import Outcome, Unknown, Unreachable, VenueError, VenueGarbled, VenueUnknown, VenueUnreachable
from bot.venues.transport import HttpAnswer, NoAnswer, NotSent, Transport

T = TypeVar("T")

LIMIT: Final = istr("x-bapi-limit")
LIMIT_STATUS: Final = istr("x-bapi-limit-status")
NO_CONNECTION: Final = "not_sent"
NO_ANSWER: Final = "no_answer"
STATUSES: Final = ("200", "403", "429", "500", "502", "503", "504", NO_CONNECTION, NO_ANSWER)
"""HTTP statuses, and two words where there was none. Counters are born with all of them."""


class BybitRest:
    """One account's REST side. `clock_offset_ms`: the venue's clock minus ours."""

    def __init__(
        self,
        transport: Transport,
        rest_url: str,
        api_key: str,
        api_secret: str,
        now_ns: Callable[[], int],
        recv_window_ms: int,
        timeout_s: float,
    ) -> None:
        self._transport = transport
        self._rest_url = rest_url
        self._api_key = api_key
        self._api_secret = api_secret
        self._now_ns = now_ns
        self._recv_window_ms = recv_window_ms
        self._timeout_s = timeout_s
        self._syncing: asyncio.Task[int] | None = None
        self.clock_offset_ms = 0
        self.clock_syncs = 0
        self.responses: Counts[tuple[str, str]] = Counts(
            (path, status) for path in calls.BOT_ENDPOINTS for status in STATUSES
        )
        self.headroom: dict[str, float] = {}
        self.key_refusals = 0
        """How often the venue has refused the key itself."""

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
        return await asyncio.shield(self._syncing)

    async def _sync_clock(self) -> int:
        sent_ns = self._now_ns()
        answer = await self._read_once(calls.server_time(), wire.ServerTime)
        venue_ms = whole(answer.time_nano, "timeNano") // NS_PER_MS
        self.clock_offset_ms = venue_ms - (sent_ns + self._now_ns()) // 2 // NS_PER_MS
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

    async def mutate(self, call: Call, accepted: Callable[[wire.Envelope], Outcome], *, of_existing: bool) -> Outcome:
        """The outcome of a create, amend or cancel. `accepted` turns the result of code 0 into one."""
        try:
            envelope = wire.envelope(*await self._send(call), call.path)
            if envelope.ret_code == 0:
                return accepted(envelope)
            self.key_refusals += envelope.ret_code in KEY_CODES
        except NotSent as error:
            return Unreachable(str(error))
        except NoAnswer as error:
            return Unknown(0, str(error))
        except (VenueUnknown, VenueGarbled) as error:
            return Unknown(error.code, str(error))
        if meaning(envelope.ret_code) is Meaning.CLOCK:
            await self._resync_quietly()
        return refusal_outcome(envelope.ret_code, envelope.ret_msg, of_existing=of_existing)

    async def _resync_quietly(self) -> None:
        try:
            await self.sync_clock()
        except VenueError:
            return  # the outcome is unknown either way; the next call with a refused timestamp tries again

    async def _read_once(self, call: Call, kind: type[T]) -> T:
        try:
            envelope = wire.envelope(*await self._send(call), call.path)
        except NotSent as error:
            raise VenueUnreachable(f"{call.path}: {error}") from None
        except NoAnswer as error:
            raise VenueUnknown(f"{call.path}: {error}") from None
        if envelope.ret_code:
            self.key_refusals += envelope.ret_code in KEY_CODES
            raise refusal_error(envelope.ret_code, envelope.ret_msg, call.path)
        return wire.decode(kind, envelope.result, call.path)

    async def _send(self, call: Call) -> tuple[int, bytes]:
        headers = {}
        if call.signed:
            headers = rest_headers(
                self._api_key, self._api_secret, self.venue_now_ms(), self._recv_window_ms, call.payload
            )
        try:
            answer = await self._transport.request(
                call.method, self._rest_url + call.target, headers, call.body, self._timeout_s
            )
        except NotSent:
            self.responses.add((call.path, NO_CONNECTION))
            raise
        except NoAnswer:
            self.responses.add((call.path, NO_ANSWER))
            raise
        self.responses.add((call.path, str(answer.status)))
        self._remember_limit(call.path, answer)
        return answer.status, answer.body

    def _remember_limit(self, path: str, answer: HttpAnswer) -> None:
        limit, left = answer.headers.get(LIMIT, ""), answer.headers.get(LIMIT_STATUS, "")
        if limit.isdecimal() and left.isdecimal() and int(limit):
            self.headroom[path] = int(left) / int(limit)
