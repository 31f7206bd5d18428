"""How a create, amend or cancel leaves, and what came of it.

By the trade socket where that is up and not silent, by REST where it is away; never by both. Several of one kind that
were decided in one turn leave as one batch, cancels first. What is more than an endpoint still takes does not leave,
and so did not happen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from bot.venues.bybit import calls, wire
from bot.venues.bybit.calls import Call
from bot.venues.bybit.codes import Meaning, meaning, refusal_outcome
from bot.venues.bybit.rate_limits import held_ms
from bot.venues.bybit.rest import BybitRest, Withheld
from bot.venues.bybit.trade_stream import NO_GRANT, OPERATIONS, TradeStream
from bot.venues.port import Accepted, Ended, Outcome, Unknown, Unreachable, VenueGarbled, VenueUnknown
from bot.venues.transport import HttpAnswer, NoAnswer, NotSent

FIRST: Final = (calls.CANCEL, calls.AMEND, calls.CREATE)
OF_NOTHING: Final = frozenset({calls.CREATE, calls.CREATE_BATCH, calls.DISCONNECT_CANCEL})
"""To what is about no order that exists, "it is gone" is no answer."""
CANCELS: Final = frozenset({calls.CANCEL, calls.CANCEL_BATCH, calls.CANCEL_ALL})


class _Waiting(NamedTuple):
    call: Call
    outcome: asyncio.Future[Outcome]


class OrderEntry:
    """`trade` None: by REST alone. `batch_max` 1: no batches. `permitted`: whether that grant's epoch still holds."""

    def __init__(
        self,
        rest: BybitRest,
        trade: TradeStream | None,
        timeout_s: float,
        batch_max: int,
        permitted: Callable[[int], bool],
    ) -> None:
        self._rest = rest
        self._trade = trade
        self._timeout_s = timeout_s
        self._batch_max = batch_max
        self._permitted = permitted
        self._waiting: dict[str, list[_Waiting]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def mutate(self, call: Call) -> Outcome:
        """The outcome of one create, amend, cancel or cancel-all. Never raises for what a venue can answer."""
        if self._batch_max < 2 or call.path not in calls.BATCH_OF:
            return await self._alone(call)
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._flush)
        outcome: asyncio.Future[Outcome] = loop.create_future()
        self._waiting.setdefault(call.path, []).append(_Waiting(call, outcome))
        return await outcome

    def begin(self, call: Call, ended: Callable[[Ended], None]) -> asyncio.Future[HttpAnswer] | None:
        """As `mutate`, of one order by REST alone: it has left when this returns, or leaves in the loop's next turn
        where the transport needs a task. Its outcome is told to `ended`, or the exception that nobody expected,
        CancelledError where the future was cancelled.

        None: it goes another way, or may not leave now: nothing was done, `mutate` does it and says why.
        """
        path, trade = call.path, self._trade
        if self._batch_max >= 2 or (trade is not None and trade.takes_orders and path in OPERATIONS):
            return None
        if not self._may_leave(call):
            return None
        rest = self._rest
        if not rest.limits.take(path, 1, rest.venue_now_ms(), is_cancel=path in CANCELS):
            return None
        answered = rest.begin(call, self._may_leave)
        answered.add_done_callback(_UnderWay(self, call, ended).ended)
        return answered

    def _may_leave(self, call: Call) -> bool:
        return not call.epoch or self._permitted(call.epoch)

    def settled(self, call: Call, answered: asyncio.Future[HttpAnswer]) -> Outcome | wire.Envelope:
        """What came of a call that `begin` began; the envelope of a refused timestamp, which `settle_later` settles."""
        rest = self._rest
        try:
            answer = rest.end(call, answered)
            order_id = wire.acknowledged(answer.status, answer.body)
            if order_id is not None:
                return Accepted(order_id)
            envelope = rest.enveloped(call, answer)
        except Withheld:
            return Unreachable(NO_GRANT)
        except NotSent as not_sent:
            return Unreachable(str(not_sent))
        except NoAnswer as no_answer:
            return Unknown(0, str(no_answer))
        except (VenueUnknown, VenueGarbled) as error:
            return Unknown(error.code, str(error))
        if not envelope.ret_code:
            return _outcome(call, envelope)
        return envelope if meaning(envelope.ret_code) is Meaning.CLOCK else _refused(call, envelope)

    def settle_later(self, call: Call, envelope: wire.Envelope, ended: Callable[[Ended], None]) -> None:
        """Of a timestamp that was refused: once the clock has been read again."""
        self._keep(asyncio.get_running_loop().create_task(self._settle_later(call, envelope, ended)))

    async def _settle_later(self, call: Call, envelope: wire.Envelope, ended: Callable[[Ended], None]) -> None:
        try:
            await self._rest.resync_quietly()
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the outcome
            ended(error)
            return
        ended(_refused(call, envelope))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Abandons what is still under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for path in FIRST:
            found = waiting.get(path, [])
            for start in range(0, len(found), self._batch_max):
                self._start(found[start : start + self._batch_max])

    def _start(self, group: Sequence[_Waiting]) -> None:
        self._keep(asyncio.get_running_loop().create_task(self._settle(group)))

    async def _settle(self, group: Sequence[_Waiting]) -> None:
        try:
            outcomes = [await self._alone(group[0].call)] if len(group) == 1 else await self._together(group)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the outcome
            for one in group:
                if not one.outcome.done():
                    one.outcome.set_exception(error)
            return
        for one, outcome in zip(group, outcomes, strict=True):
            if not one.outcome.done():
                one.outcome.set_result(outcome)

    def _turns(self, path: str, wanted: int, epoch: int) -> int:
        """How many of them may leave now, at least one. Raises NotSent."""
        if epoch and not self._permitted(epoch):
            raise NotSent(NO_GRANT)
        return self._rest.take_turns(path, wanted, is_cancel=path in CANCELS)

    async def _alone(self, call: Call) -> Outcome:
        try:
            self._turns(call.path, 1, call.epoch)
        except NotSent as error:
            return Unreachable(str(error), error.wait_ms)
        envelope = await self._exchange(call)
        return _outcome(call, envelope) if isinstance(envelope, wire.Envelope) else envelope

    async def _together(self, group: Sequence[_Waiting]) -> list[Outcome]:
        """As many of them as the endpoint still takes; the others did not happen."""
        path = calls.BATCH_OF[group[0].call.path]
        try:
            leaving = self._turns(path, len(group), max(one.call.epoch for one in group))
        except NotSent as error:
            return [Unreachable(str(error), error.wait_ms)] * len(group)
        over: list[Outcome] = []
        if leaving < len(group):
            wait_ms = self._rest.limits.wait_ms(path, self._rest.venue_now_ms(), is_cancel=path in CANCELS)
            room = f"{path}: the rate limit leaves room for {leaving}"
            over = [Unreachable(room, held_ms(wait_ms))] * (len(group) - leaving)
        return [*await self._batched(group[:leaving]), *over]

    async def _batched(self, group: Sequence[_Waiting]) -> list[Outcome]:
        batch = calls.batch([one.call for one in group])
        envelope = await self._exchange(batch)
        if not isinstance(envelope, wire.Envelope):
            return [envelope] * len(group)
        try:
            rows = wire.decode(wire.BatchAck, envelope.result, batch.path).rows
            ends = wire.decode(wire.BatchEnds, envelope.ret_ext_info, batch.path).rows
            if not len(rows) == len(ends) == len(group):
                raise VenueGarbled(f"{batch.path}: {len(rows)} rows and {len(ends)} codes for {len(group)} orders")
            for one, row in zip(group, rows, strict=True):
                if not _is_about(one.call, row):
                    raise VenueGarbled(
                        f"{batch.path}: a row is about {row.order_link_id or row.order_id}, not its order"
                    )
        except VenueGarbled as error:
            return [Unknown(error.code, str(error))] * len(group)
        of_existing = batch.path != calls.CREATE_BATCH
        return [
            refusal_outcome(end.code, end.msg, of_existing=of_existing)
            if end.code
            else Accepted(venue_order_id=row.order_id)
            for row, end in zip(rows, ends, strict=True)
        ]

    async def _exchange(self, call: Call) -> wire.Envelope | Outcome:
        """The envelope of what the venue did, or the outcome where it did not, or may have. Its turn has been taken."""
        trade = self._trade
        try:
            if trade is None or not trade.takes_orders or call.path not in OPERATIONS:
                envelope = await self._rest.exchange(call)
            else:
                envelope = await self._by_socket(trade, call)
        except NotSent as not_sent:
            return Unreachable(str(not_sent))
        except NoAnswer as no_answer:
            return Unknown(0, str(no_answer))
        except (VenueUnknown, VenueGarbled) as error:
            return Unknown(error.code, str(error))
        if not envelope.ret_code:
            return envelope
        if meaning(envelope.ret_code) is Meaning.CLOCK:
            await self._rest.resync_quietly()
        return _refused(call, envelope)

    async def _by_socket(self, trade: TradeStream, call: Call) -> wire.Envelope:
        limits = self._rest.limits
        limits.sent(self._rest.venue_now_ms())
        try:
            answer = await trade.ask(call, self._timeout_s)
        except NotSent:
            limits.returned(call.path, call.orders)
            raise
        except BaseException:
            limits.unheard(call.path, call.orders)
            raise
        headers = {name.lower(): value for name, value in answer.header.items()}
        limits.heard(call.path, headers, self._rest.venue_now_ms(), call.orders)
        self._rest.note_code(answer.ret_code)
        return wire.Envelope(answer.ret_code, answer.ret_msg, answer.data, ret_ext_info=answer.ret_ext_info)


def _is_about(call: Call, row: wire.OrderAck) -> bool:
    """Whether a row answers that order, by each id that both name: an answer in another order would end what lives."""
    for name, told in ((b'"orderLinkId":"', row.order_link_id), (b'"orderId":"', row.order_id)):
        if told and name in call.body and name + told.encode(errors="replace") + b'"' not in call.body:
            return False
    return True


class _UnderWay:
    """A call that `begin` began."""

    __slots__ = ("_call", "_ended", "_entry")

    def __init__(self, entry: OrderEntry, call: Call, ended: Callable[[Ended], None]) -> None:
        self._entry, self._call, self._ended = entry, call, ended

    def ended(self, answered: asyncio.Future[HttpAnswer]) -> None:
        try:
            found = self._entry.settled(self._call, answered)
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the outcome
            self._ended(error)
            return
        if isinstance(found, wire.Envelope):
            self._entry.settle_later(self._call, found, self._ended)
        else:
            self._ended(found)


def _refused(call: Call, envelope: wire.Envelope) -> Outcome:
    return refusal_outcome(envelope.ret_code, envelope.ret_msg, of_existing=call.path not in OF_NOTHING)


def _outcome(call: Call, envelope: wire.Envelope) -> Outcome:
    """Of a success."""
    try:
        return _accepted(call, envelope)
    except VenueGarbled as garbled:
        return Unknown(garbled.code, str(garbled))


def _accepted(call: Call, envelope: wire.Envelope) -> Outcome:
    if call.path == calls.DISCONNECT_CANCEL:
        return Accepted()
    if call.path == calls.CANCEL_ALL:
        return Accepted(count=len(wire.decode(wire.CancelAllAck, envelope.result, "result").rows))
    return Accepted(venue_order_id=wire.decode(wire.OrderAck, envelope.result, "result").order_id)
