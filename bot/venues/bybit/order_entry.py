"""How a create, amend or cancel leaves, and what came of it.

By the trade socket where that is up and not silent, by REST where it is away; never by both. Several of one kind that
were decided in one turn leave as one batch, cancels first. What is more than an endpoint still takes does not leave,
and so did not happen.

Nothing here is a task: a request leaves when it is written, and whoever waits for an order is called when it is known
what came of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from bot.venues.bybit import calls, wire
from bot.venues.bybit.account_text import acknowledged_text
from bot.venues.bybit.calls import Call
from bot.venues.bybit.codes import Meaning, meaning, refusal_outcome
from bot.venues.bybit.decode import IS_COMPILED
from bot.venues.bybit.rate_limits import held_ms, lowered
from bot.venues.bybit.rest import BybitRest, Withheld
from bot.venues.bybit.trade_stream import NO_GRANT, OPERATIONS, Answer, TradeStream
from bot.venues.bybit.trade_text import Acknowledged
from bot.venues.port import Accepted, Ended, Outcome, Unknown, Unreachable, VenueError, VenueGarbled, VenueUnknown
from bot.venues.transport import HttpAnswer, NoAnswer, NotSent

FIRST: Final = (calls.CANCEL, calls.AMEND, calls.CREATE)
OF_NOTHING: Final = frozenset({calls.CREATE, calls.CREATE_BATCH, calls.DISCONNECT_CANCEL})
"""To what is about no order that exists, "it is gone" is no answer."""
CANCELS: Final = frozenset({calls.CANCEL, calls.CANCEL_BATCH, calls.CANCEL_ALL})
_NO_GRANT: Final = Unreachable(NO_GRANT)
_ENVELOPE: Final = wire.Envelope
_ACCEPTED: Final = Accepted
_FUTURE: Final[Any] = asyncio.Future
_LOOP: Final[Any] = asyncio.get_running_loop


class _Waiting:
    """One order, and who waits for what comes of it; None: nobody any more."""

    __slots__ = ("call", "ended")

    def __init__(self, call: Call, ended: Callable[[Ended], None]) -> None:
        self.call = call
        self.ended: Callable[[Ended], None] | None = ended

    def tell(self, outcome: Ended) -> None:
        ended, self.ended = self.ended, None
        if ended is None:
            return
        try:
            ended(outcome)
        except Exception as error:  # noqa: BLE001 - the others are told all the same
            asyncio.get_running_loop().call_exception_handler({"message": "an outcome was told", "exception": error})


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
        self._gathered: dict[str, list[_Request]] = {}
        self._open: dict[_Request, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def mutate(self, call: Call) -> Outcome:
        """The outcome of one create, amend, cancel or cancel-all. Never raises for what a venue can answer."""
        if not self._gathers(call) and self._socket_for(call.path) is None:
            return await self._alone_by_rest(call)
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def tell(ended: Ended) -> None:
            if outcome.done():
                return
            if isinstance(ended, BaseException):
                outcome.set_exception(ended)
            else:
                outcome.set_result(ended)

        one = _Waiting(call, tell)
        if self._gathers(call):
            request = self._gather(one)
        else:
            request = _Request(self, call.path)
            request.waiting.append(one)
            self._leave(request)
        try:
            return await outcome
        finally:
            request.give_up(one)

    async def _alone_by_rest(self, call: Call) -> Outcome:
        """It leaves in this turn: in a task of its own a cancel-all would leave after what follows it by the socket."""
        if not self.may_leave(call):
            return _NO_GRANT
        try:
            self._rest.take_turns(call.path, 1, is_cancel=call.path in CANCELS)
        except NotSent as too_many:
            return Unreachable(str(too_many), too_many.wait_ms)
        try:
            envelope = await self._rest.exchange(call)
        except UNSETTLED as unsettled:
            return _unsettled(unsettled)
        if not envelope.ret_code:
            return _outcome(call, envelope)
        if meaning(envelope.ret_code) is Meaning.CLOCK:
            await self._rest.resync_quietly()
        return _refused(call, envelope)

    def begin(self, call: Call, ended: Callable[[Ended], None]) -> asyncio.Future[Any] | None:
        """As `mutate`, and nobody awaits it: what is gathered leaves in the loop's next turn, all else has left when
        this returns, or leaves in the next turn where the transport needs a task. The outcome is told to `ended`, or
        the exception that nobody expected, CancelledError where the future was cancelled.

        None: it may not leave now: nothing was done, `mutate` says why.
        """
        if self._gathers(call):
            return self._gather(_Waiting(call, ended)).done
        if not self.may_leave(call):
            return None
        rest, path = self._rest, call.path
        if not rest.limits.take(path, 1, rest.venue_now_ms(), is_cancel=path in CANCELS):
            return None
        if self._socket_for(path) is not None:
            one, request = _Waiting(call, ended), _Request(self, path)
            request.waiting.append(one)
            try:
                self._send(request, call)
            except BaseException:
                one.ended = None  # whoever began it hears of it here
                self.forget(request)
                raise
            return request.done
        answered = rest.begin(call, self.may_leave)
        answered.add_done_callback(_UnderWay(self, call, ended).ended)
        return answered

    async def close(self) -> None:
        """Abandons what is still under way, and has told everybody when this returns; other than of what goes alone by
        REST, which whoever awaits it or holds its future cancels."""
        self._is_closed = True
        gathered, self._gathered = self._gathered, {}
        for requests in gathered.values():
            for request in requests:
                request.tell_all(asyncio.CancelledError())
        under_way: list[asyncio.Future[Any]] = [*self._tasks]
        for request in list(self._open):
            if request.answered is not None:
                under_way.append(request.answered)
            request.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    # ---- what leaves ------------------------------------------------------------------------------------------------

    def _gathers(self, call: Call) -> bool:
        return self._batch_max >= 2 and call.path in calls.BATCH_OF

    def _gather(self, one: _Waiting) -> _Request:
        """Leaves with whatever else of its kind is decided in this turn."""
        if not self._gathered:
            _LOOP().call_soon(self._flush)
        path = one.call.path
        requests = self._gathered.get(path)
        if requests is None:
            requests = self._gathered[path] = []
        if not requests or len(requests[-1].waiting) == self._batch_max or requests[-1].done.cancelled():
            requests.append(_Request(self, path))
        request = requests[-1]
        request.waiting.append(one)
        return request

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, {}
        for path in FIRST:
            requests = gathered.get(path)
            if requests is not None:
                for request in requests:
                    self._leave(request)

    def _leave(self, request: _Request) -> None:
        """As many of its orders as the endpoint still takes; the others did not happen."""
        if request.done.cancelled():
            request.tell_all(asyncio.CancelledError())
            return
        waiting: list[_Waiting] = []
        staying: list[tuple[_Waiting, Outcome]] = []
        for one in request.waiting:
            if one.ended is None:
                continue
            if self.may_leave(one.call):
                waiting.append(one)
            else:
                staying.append((one, _NO_GRANT))
        if waiting:
            request.waiting = waiting
            self._leave_permitted(request, staying)
        else:
            request.tell_all(_NO_GRANT)
        for one, outcome in staying:  # only now: whoever is told may decide on something else
            one.tell(outcome)

    def _leave_permitted(self, request: _Request, staying: list[tuple[_Waiting, Outcome]]) -> None:
        """Adds to `staying` those that are too many."""
        waiting = request.waiting
        path = request.path if len(waiting) == 1 else calls.BATCH_OF[request.path]
        try:
            leaving = self._rest.take_turns(path, len(waiting), is_cancel=path in CANCELS)
        except NotSent as error:
            request.tell_all(Unreachable(str(error), error.wait_ms))
            return
        if leaving < len(waiting):
            wait_ms = self._rest.limits.wait_ms(path, self._rest.venue_now_ms(), is_cancel=path in CANCELS)
            over = Unreachable(f"{path}: the rate limit leaves room for {leaving}", held_ms(wait_ms))
            staying += [(one, over) for one in waiting[leaving:]]
            request.waiting = waiting[:leaving]
        try:
            call = waiting[0].call if path == request.path else calls.batch([one.call for one in request.waiting])
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the outcome
            self._rest.limits.returned(path, leaving)
            request.tell_all(error)
            return
        try:
            self._send(request, call)
        except Exception as error:  # noqa: BLE001 - as above
            request.tell_all(error)

    def may_leave(self, call: Call) -> bool:
        return not call.epoch or self._permitted(call.epoch)

    def _socket_for(self, path: str) -> TradeStream | None:
        """The trade socket, where that path goes by it now."""
        trade = self._trade
        return trade if trade is not None and trade.takes_orders and path in OPERATIONS else None

    def _send(self, request: _Request, call: Call) -> None:
        """Its turn has been taken."""
        request.call = call
        self._open[request] = None
        trade = self._socket_for(call.path)
        if trade is not None:
            self._rest.limits.sent(self._rest.venue_now_ms())
            trade.begin(call, self._timeout_s, request.answered_by_socket, request.done.cancelled)
        else:
            answered = request.answered = self._rest.begin(call, request.may_leave)
            answered.add_done_callback(request.answered_by_rest)

    # ---- what came of it --------------------------------------------------------------------------------------------

    def settled(self, call: Call, answered: asyncio.Future[HttpAnswer]) -> Outcome | wire.Envelope:
        """What came of a request by REST: the envelope of what the venue did, or of a refused timestamp, which
        `settle_later` settles."""
        rest = self._rest
        try:
            return rest.enveloped(call, rest.end(call, answered))
        except UNSETTLED as error:
            return _unsettled(error)

    def settled_alone(self, call: Call, answered: asyncio.Future[HttpAnswer]) -> Outcome | wire.Envelope:
        """As `settled`, of one order: an envelope that is left is one of a refused timestamp."""
        if not answered.cancelled() and answered.exception() is None:
            answer = answered.result()
            order_id: str | None = acknowledged_text(answer.body) if IS_COMPILED and answer.status == 200 else ""
            if not order_id:
                order_id = wire.acknowledged(answer.status, answer.body)
            if order_id is not None:
                self._rest.end(call, answered)
                return Accepted(order_id)
        found = self.settled(call, answered)
        if not isinstance(found, wire.Envelope):
            return found
        if not found.ret_code:
            return _outcome(call, found)
        return found if meaning(found.ret_code) is Meaning.CLOCK else _refused(call, found)

    def acknowledged_by_socket(self, call: Call, answer: Acknowledged) -> None:
        """As `settled`: the venue did all of it."""
        rest = self._rest
        rest.limits.told(
            call.path, answer.limit, answer.left, answer.resets_ms, rest.venue_now_ms(), call.orders
        )  # fmt: skip

    def heard_by_socket(self, call: Call, answer: wire.TradeAnswer | NotSent | NoAnswer) -> Outcome | wire.Envelope:
        """As `settled`, by the trade socket."""
        rest = self._rest
        if isinstance(answer, NotSent):
            rest.limits.returned(call.path, call.orders)
            return Unreachable(str(answer))
        if isinstance(answer, NoAnswer):
            rest.limits.unheard(call.path, call.orders)
            return Unknown(0, str(answer))
        rest.limits.heard(call.path, lowered(answer.header), rest.venue_now_ms(), call.orders)
        if answer.ret_code:
            rest.note_code(answer.ret_code)
        return wire.Envelope(answer.ret_code, answer.ret_msg, answer.data, ret_ext_info=answer.ret_ext_info)

    def ended(self, request: _Request, found: Outcome | wire.Envelope) -> None:
        """Tells everybody who waits for a part of that request."""
        call, waiting = request.call, request.waiting
        if not isinstance(found, wire.Envelope):
            request.tell_all(found)
        elif found.ret_code:
            if meaning(found.ret_code) is Meaning.CLOCK:
                self.settle_later(call, found, request.tell_all)
            else:
                request.tell_all(_refused(call, found))
        elif len(waiting) == 1 and call.path == request.path:
            request.tell_all(_outcome(call, found))
        else:
            request.tell_each(_outcomes(call, found, waiting))

    def forget(self, request: _Request) -> None:
        if request in self._open:
            del self._open[request]

    def settle_later(self, call: Call, envelope: wire.Envelope, ended: Callable[[Ended], None]) -> None:
        """Of a timestamp that was refused: once the clock has been read again, or could not be."""
        if self._is_closed:  # its answer was here already: nobody waits for a clock any more
            ended(_refused(call, envelope))
            return

        def resynced(reading: asyncio.Task[None]) -> None:
            self._tasks.discard(reading)
            if reading.cancelled():
                ended(asyncio.CancelledError())
                return
            error = reading.exception()
            ended(_refused(call, envelope) if error is None else error)

        reading = asyncio.get_running_loop().create_task(self._rest.resync_quietly())
        self._tasks.add(reading)
        reading.add_done_callback(resynced)  # not inside the task: one cancelled before its first step does nothing


class _Request:
    """One order, or several of a kind, on their way together. `path`: of one of them."""

    __slots__ = ("_entry", "answered", "call", "done", "path", "waiting")

    def __init__(self, entry: OrderEntry, path: str) -> None:
        self._entry = entry
        self.path = path
        self.waiting: list[_Waiting] = []
        self.call = _NO_CALL
        """what was sent"""
        self.answered: asyncio.Future[HttpAnswer] | None = None
        """by REST"""
        self.done: asyncio.Future[None] = _FUTURE(loop=_LOOP())
        """once everybody has been told; cancelled: nobody waits for it any more"""

    def may_leave(self, call: Call) -> bool:
        return not self.done.cancelled() and self._entry.may_leave(call)

    def answered_by_rest(self, answered: asyncio.Future[HttpAnswer]) -> None:
        try:
            found = self._entry.settled(self.call, answered)
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the outcome
            self.tell_all(error)
            return
        self._ended(found)

    def answered_by_socket(self, answer: Answer) -> None:
        try:
            if isinstance(answer, Acknowledged):
                self._entry.acknowledged_by_socket(self.call, answer)
                self._acknowledged(answer)
                return
            found = self._entry.heard_by_socket(self.call, answer)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the outcome
            self.tell_all(error)
            return
        self._ended(found)

    def _acknowledged(self, answer: Acknowledged) -> None:
        if self.done.cancelled():
            self.tell_all(asyncio.CancelledError())
            return
        waiting, order_ids = self.waiting, answer.order_ids
        if answer.is_batch:
            try:
                _check_rows(self.call, order_ids, answer.link_ids, waiting)
            except VenueGarbled as error:
                self.tell_all(Unknown(error.code, str(error)))
                return
        for number, one in enumerate(waiting):
            one.tell(_ACCEPTED(order_ids[number]))
        self._close()

    def _ended(self, found: Outcome | wire.Envelope) -> None:
        if self.done.cancelled():
            self.tell_all(asyncio.CancelledError())
            return
        try:
            self._entry.ended(self, found)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the outcome
            self.tell_all(error)

    def tell_all(self, outcome: Ended) -> None:
        for one in self.waiting:
            one.tell(outcome)
        self._close()

    def tell_each(self, outcomes: Sequence[Outcome]) -> None:
        for one, outcome in zip(self.waiting, outcomes, strict=True):
            one.tell(outcome)
        self._close()

    def _close(self) -> None:
        self._entry.forget(self)
        if not self.done.done():
            self.done.set_result(None)

    def give_up(self, one: _Waiting) -> None:
        """Nobody waits for that order any more; nor for the request, where it was the last."""
        one.ended = None
        for other in self.waiting:
            if other.ended is not None:
                return
        self.cancel()

    def cancel(self) -> None:
        """What has not left will not; what has is not waited for."""
        if self.answered is not None:
            self.answered.cancel()  # tells whoever is left
            return
        self.done.cancel()  # which the trade socket looks at
        self.tell_all(asyncio.CancelledError())


_NO_CALL: Final = Call("", "")
UNSETTLED: Final = (Withheld, NotSent, NoAnswer, VenueUnknown, VenueGarbled)
"""Why there is no envelope, other than what nobody expects."""


def _unsettled(error: Exception) -> Outcome:
    if isinstance(error, Withheld):
        return _NO_GRANT
    if isinstance(error, NotSent):
        return Unreachable(str(error))
    if isinstance(error, VenueError):
        return Unknown(error.code, str(error))
    return Unknown(0, str(error))


def _check_rows(batch: Call, order_ids: list[str], link_ids: list[str], waiting: list[_Waiting]) -> None:
    """Each row has to answer the order in its place, by each id that both name: an answer in another order would end
    what lives. Raises VenueGarbled."""
    for number, one in enumerate(waiting):
        call, order_id, link_id = one.call, order_ids[number], link_ids[number]
        named, named_by_venue = call.client_order_id, call.venue_order_id
        is_other = bool(link_id and named and link_id != named)
        if is_other or (order_id and named_by_venue and order_id != named_by_venue):
            raise VenueGarbled(f"{batch.path}: a row is about {link_id or order_id}, not its order")


class _UnderWay:
    """A call that `begin` began."""

    __slots__ = ("_call", "_ended", "_entry")

    def __init__(self, entry: OrderEntry, call: Call, ended: Callable[[Ended], None]) -> None:
        self._entry, self._call, self._ended = entry, call, ended

    def ended(self, answered: asyncio.Future[HttpAnswer]) -> None:
        try:
            found = self._entry.settled_alone(self._call, answered)
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the outcome
            self._ended(error)
            return
        if type(found) is _ENVELOPE:
            self._entry.settle_later(self._call, found, self._ended)
        else:
            self._ended(found)  # type: ignore[arg-type]  # it is no envelope


def _outcomes(batch: Call, envelope: wire.Envelope, waiting: list[_Waiting]) -> list[Outcome]:
    """Of a batch that the venue took, one for each order."""
    try:
        rows = wire.decode(wire.BatchAck, envelope.result, batch.path).rows
        ends = wire.decode(wire.BatchEnds, envelope.ret_ext_info, batch.path).rows
        if not len(rows) == len(ends) == len(waiting):
            raise VenueGarbled(f"{batch.path}: {len(rows)} rows and {len(ends)} codes for {len(waiting)} orders")
        _check_rows(batch, [row.order_id for row in rows], [row.order_link_id for row in rows], waiting)
    except VenueGarbled as error:
        return [Unknown(error.code, str(error))] * len(waiting)
    of_existing = batch.path != calls.CREATE_BATCH
    return [
        refusal_outcome(end.code, end.msg, of_existing=of_existing) if end.code else Accepted(row.order_id)
        for row, end in zip(rows, ends, strict=True)
    ]


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
