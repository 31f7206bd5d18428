"""The kernel lane's mount: venue and engine meet as objects, from one agenda. No adapter, no JSON, no asyncio.

It keeps the times of the other lane to the nanosecond: what the adapter and the process around the engine would do
between two messages (read the account in three steps, subscribe, keep a request's bucket) is done here in the same
order, over the same `Latency`. There are no faults here; who wants them takes the wire lane.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

import msgspec

from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.venue_events import instruments_read
from bot.engine.engine import Engine
from bot.runtime.keys import Keys
from bot.runtime.loop import TICK_S
from bot.runtime.own_orders import Strangers, is_ours
from bot.runtime.sender import FIRST, KEYS_KEPT
from bot.simulator import kernel_words as words
from bot.simulator.accounts import Account
from bot.simulator.bybit_access import RateLimits, V5Error
from bot.simulator.bybit_orders import v5_error
from bot.simulator.depth import FollowedDepth
from bot.simulator.kernel_agenda import Agenda, Call, Due, Line
from bot.simulator.kernel_reads import KernelReads
from bot.simulator.kernel_requests import (
    Amend,
    Cancel,
    CancelAll,
    CancelOneOfAll,
    Endpoint,
    Read,
    Request,
    Tally,
    create_of,
    flatten_of,
)
from bot.simulator.link import Latency
from bot.simulator.orders import Executed, Happening, Order, OrderChanged, Printed, PublicTrade, Refused
from bot.simulator.venue import Venue
from bot.venues.bybit import calls
from bot.venues.bybit.public_stream import BOOK_DEPTH
from bot.venues.bybit.rate_limits import RateLimits as Turns
from bot.venues.bybit.rate_limits import held_ms, too_many

GONE: Final = 110001
_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000
_TICKED: Final = ev.Ticked
_ORDER_UPDATED: Final = ev.OrderUpdated
_AMEND: Final = it.AmendOrder
_CANCEL: Final = it.CancelOrder
_CANCEL_ALL: Final = it.CancelAll
_EXIT: Final = it.Exit
_FLATTEN: Final = it.FlattenReduceOnly
_NOTE: Final = it.Note
_PLACE: Final = it.PlaceOrder
_PROBE: Final = it.ProbeOrder
_READ_ACCOUNT: Final = it.ReadAccount
_RESYNC: Final = it.ResyncBook
_fields_of: Final = msgspec.structs.astuple
"""All at once: each by its name is dear in what is sent all the time."""


@final
class _Market(Due):
    """The market's next step."""

    def happen(self, kernel: Kernel) -> None:
        kernel.move_market()


@final
class _Tick(Due):
    """The clock's next turn."""

    def happen(self, kernel: Kernel) -> None:
        kernel.tick()


@final
class _Push(Due):
    """A message of one of the streams. Most have one event in them; more are of the account, and so are executions."""

    executions: bool = False
    more: list[Any] | None = None
    of_others: list[ev.VenueOrder] | None = None
    """those in it that are not ours"""

    def __init__(self, event: Any) -> None:
        self.event = event

    def add(self, event: Any) -> None:
        if self.more is None:
            self.more = []
        self.more.append(event)

    def add_other(self, order: ev.VenueOrder) -> None:
        if self.of_others is None:
            self.of_others = []
        self.of_others.append(order)

    def happen(self, kernel: Kernel) -> None:
        if not self.executions and self.more is None and self.of_others is None:
            self.after, kernel.spare_push = kernel.spare_push, self
            kernel.tell(self.event)
            return
        if self.of_others is not None:
            for order in self.of_others:
                kernel.strangers.heard(order)
        events = [self.event] if self.more is None else [self.event, *self.more]
        if self.executions:
            kernel.tell_executions(events)
        else:
            kernel.tell_all(events)


class Kernel:
    """One engine on one venue. `run` goes on until the engine says `Exit`."""

    def __init__(
        self,
        engine: Engine,
        venue: Venue,
        account: Account,
        latency: Latency,
        start_ns: int,
        *,
        tick_s: float = TICK_S,
    ) -> None:
        self._engine = engine
        self.venue = venue
        self._symbol = venue.instrument.symbol
        self.account = account
        self._uid = account.uid
        self._connect_ns, self.request_ns, self.answer_ns, self._push_ns = latency
        self._start_ns = self.now_ns = start_ns
        self._agenda = Agenda()
        self._market, self._next_tick = _Market(), _Tick()
        self._leaving, self._answers, self._pushes = Line(), Line(), Line()
        self.spare_push: Due | None = None
        """one that has happened, to be used again; others after it"""
        self.spare_amend: Amend | None = None
        """one that has been answered, to be used again"""
        self._limits = RateLimits()
        self._turns = Turns()
        self._endpoints: dict[str, Endpoint] = {}
        self._offset_ms = 0
        self._view = FollowedDepth(venue.book, BOOK_DEPTH)
        self._subscribed = self._private = False
        self._keys = Keys(KEYS_KEPT)
        self.strangers = Strangers()
        self._tick_s = tick_s
        self._tick_due_s = 0.0
        self.exit_code: int | None = None
        self.market_steps = 0
        self._create = self._endpoint(calls.CREATE)
        self._amend = self._endpoint(calls.AMEND)
        self._reads = KernelReads(self, reads_fees=engine.known.parameters.needs_fees)

    # ---- the agenda -------------------------------------------------------------------------------------------------

    def at(self, when_ns: int, happened: Callable[[Any], None], what: object = None) -> None:
        """Let `happened(what)` be called then; equal times in the order of setting."""
        self._agenda.put(Call(happened, what), when_ns)

    def put(self, due: Due, when_ns: int) -> None:
        """The same of what happens by itself, and may be put again."""
        self._agenda.put(due, when_ns)

    def run(self, started: ev.Started) -> int:
        """The whole run; returns the exit code. Raises IndexError where nothing is left that could happen."""
        agenda = self._agenda
        agenda.put(self._market, self.venue.next_at_ns())
        self.tell(started)
        self.tick()
        self._connect()
        while self.exit_code is None:
            due = agenda.pop()
            self.now_ns = due.when_ns
            due.happen(self)
        return self.exit_code

    def tell(self, event: ev.Event) -> None:
        """One message with one event, which is no execution."""
        intents = self._engine.receive(event)
        if intents:
            self._carry_out(intents)

    def tell_all(self, events: list[Any]) -> None:
        """One message: everything in it is decided before anything that was decided is sent, cancels first."""
        intents: list[it.Intent] = []
        for event in events:
            intents += self._engine.receive(event)
        if intents:
            self._carry_out(intents)

    def tell_executions(self, events: list[Any]) -> None:
        """One message with executions in it: what was told before is dropped."""
        self.tell_all([event for event in events if not self._reads.is_repeat(event)])

    def _carry_out(self, intents: list[it.Intent]) -> None:
        if len(intents) > 1:
            for intent in intents:
                kind = type(intent)
                if kind is _CANCEL or kind is _CANCEL_ALL:
                    intents = sorted(intents, key=_goes_later)
                    break
        for intent in intents:
            kind = type(intent)
            if kind is not _NOTE:
                self._send(intent, kind)

    def _send(self, intent: Any, kind: type) -> None:
        """A mutation under a key that was carried out (or is) is dropped, as the process's sender drops it."""
        keys = self._keys
        key: str
        if kind is _AMEND:
            _, link_id, _, price_ticks, qty_lots, _, key = _fields_of(intent)
            if not key or keys.add(key):
                amend = self.spare_amend
                if amend is None:
                    amend = Amend(self._amend, link_id, price_ticks, qty_lots)
                else:
                    self.spare_amend = None
                    amend.again(link_id, price_ticks, qty_lots)
                self._ask(amend)
        elif kind is _PLACE:
            if keys.add(intent.client_order_id):
                self._ask(create_of(self._create, intent))
        elif kind is _CANCEL:
            key = intent.key
            if not key or keys.add(key):
                self._ask(Cancel(self._endpoint(calls.CANCEL), intent.client_order_id, intent.venue_order_id))
        elif kind is _CANCEL_ALL:
            key = intent.key
            if not key or keys.add(key):
                self._cancel_all(key)
        elif kind is _FLATTEN:
            if keys.add(intent.client_order_id):
                self._ask(flatten_of(self._create, intent))
        elif kind is _READ_ACCOUNT:
            self._reads.account()
        elif kind is _PROBE:
            self._reads.probe(intent.client_order_id)
        elif kind is _RESYNC:
            self.at(self.now_ns + self.request_ns, self._resync)
        elif kind is _EXIT:
            self.exit_code = intent.code

    def tick(self) -> None:
        """The grid of the process's loop, in its own floats, so that both lanes tick at the same nanosecond."""
        engine = self._engine
        self.tell(_TICKED(self.now_ns))
        if engine.known.observations:
            engine.drain_observations()  # histograms are the process's: here nobody would ever take them
        now_s = (self.now_ns - self._start_ns) / _NS_PER_S
        self._tick_due_s = max(self._tick_due_s + self._tick_s, now_s)
        self._agenda.put(self._next_tick, self._start_ns + _rounded(self._tick_due_s * _NS_PER_S))

    # ---- the venue's side -------------------------------------------------------------------------------------------

    def move_market(self) -> None:
        """What is due at the venue; published, and set for the next time."""
        venue = self.venue
        venue.advance(self.now_ns)
        self.market_steps += 1
        self._distribute(market_moved=True)
        self._agenda.put(self._market, venue.next_at_ns())

    def _distribute(self, *, market_moved: bool) -> None:
        """Public trades, the book, then the account's messages, as the venue's streams group them."""
        happenings = self.venue.drain()
        heard_ns: Any = self.now_ns + self._push_ns  # an object made once for all that takes it
        if self._subscribed:
            if happenings:
                last = _last_print(happenings)
                if last is not None:
                    self._push(words.trade(heard_ns, self._symbol, last))
            if market_moved:
                message = self._view.publish()
                if message is not None:
                    self._push(words.book(heard_ns, self._symbol, message, words.whole_ms_ns(self.now_ns)))
        if self._private and happenings:
            self._push_account(happenings, heard_ns)

    def _push_account(self, happenings: list[Happening], heard_ns: Any) -> None:
        """Neighbours of one kind are one message of the private stream."""
        symbol = self._symbol
        push: _Push | None = None
        for happening in happenings:
            if isinstance(happening, OrderChanged):
                order = happening.order
                told = words.venue_order(symbol, order)
                updated = _ORDER_UPDATED(heard_ns, told)
                if push is None or push.executions:
                    push = self._push(updated)
                else:
                    push.add(updated)
                if not is_ours(order.link_id):
                    push.add_other(told)
            elif isinstance(happening, Executed):
                execution = words.execution(heard_ns, self.venue.instrument, happening.execution)
                if push is None or not push.executions:
                    push = self._push(execution)
                    push.executions = True
                else:
                    push.add(execution)

    def _push(self, event: ev.Event) -> _Push:
        """What is said is decided now, as it would be written now; it is heard later."""
        spare = self.spare_push
        if isinstance(spare, _Push):
            push, self.spare_push = spare, spare.after
            push.event = event
        else:
            push = _Push(event)
        self._agenda.put_in_line(self._pushes, push, self.now_ns + self._push_ns)
        return push

    # ---- start ------------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        """Clock, filters, two sockets: as the adapter starts."""
        self.clock_read(self.now_ns)
        listed_ns = self.now_ns + 2 * (self.request_ns + self.answer_ns)
        heard_ns = listed_ns + self._connect_ns + self.request_ns
        self.at(listed_ns, self._list)
        self.at(heard_ns, self._subscribe_public)
        self.at(heard_ns + self._push_ns + self.request_ns, self._subscribe_private)

    def _list(self, _: object) -> None:
        self.tell(instruments_read(self.venue.instrument, self.now_ns))

    def _subscribe_public(self, _: object) -> None:
        self._push(ev.StreamUp(self.now_ns + self._push_ns, "public"))
        self._subscribed = True
        self._resync(None)

    def _resync(self, _: object) -> None:
        message = self._view.snapshot()
        self._push(words.book(self.now_ns + self._push_ns, self._symbol, message, words.whole_ms_ns(self.now_ns)))

    def _subscribe_private(self, _: object) -> None:
        self._private = True
        heard_ns = self.now_ns + self._push_ns
        self.at(heard_ns, self._hear_private, ev.StreamUp(heard_ns, "private"))

    def _hear_private(self, told: ev.StreamUp) -> None:
        self.strangers.stream_up()
        self.tell(told)

    def clock_read(self, sent_ns: int) -> None:
        """As the adapter keeps the venue's clock: half the way out and back, in whole milliseconds."""
        venue_ms = (sent_ns + self.request_ns) // _NS_PER_MS
        heard_ns = sent_ns + self.request_ns + self.answer_ns
        self._offset_ms = venue_ms - (sent_ns + heard_ns) // 2 // _NS_PER_MS

    # ---- requests ---------------------------------------------------------------------------------------------------

    def _endpoint(self, path: str) -> Endpoint:
        endpoint = self._endpoints.get(path)
        if endpoint is None:
            endpoint = Endpoint(path, self._turns.bucket(path), self._limits.bucket(self._uid, path))
            self._endpoints[path] = endpoint
        return endpoint

    def read(self, act: Callable[[], object], answered: Callable[[Any], None], path: str) -> None:
        """Ask something of the account; `answered` is told what `act` returned, or the V5Error it came to."""
        self._ask(Read(self._endpoint(path), act, answered))

    def _ask(self, request: Request) -> None:
        """Leaves where its endpoint still takes one, as the adapter has it: else a read waits, and nothing else."""
        endpoint = request.endpoint
        turns, now_ms = endpoint.turns, self.now_ns // _NS_PER_MS + self._offset_ms
        wait_ms = turns.wait_ms(now_ms, is_cancel=endpoint.is_cancel)
        if not wait_ms:
            turns.take(1, now_ms, is_cancel=endpoint.is_cancel)
            self._agenda.put_in_line(self._leaving, request, self.now_ns + self.request_ns)
        elif endpoint.is_read:
            self.at(self.now_ns + max(1, wait_ms) * _NS_PER_MS, self._ask, request)
        else:
            request.error = words.NotLeft(too_many(endpoint.path, wait_ms), held_ms(wait_ms))
            request.has_arrived = True
            self._agenda.put_at_once(request, self.now_ns)

    def arrive(self, request: Request) -> None:
        """At the venue, which does it or not, tells the account's streams what has come of it, and answers."""
        endpoint, now_ns = request.endpoint, self.now_ns
        bucket = endpoint.bucket
        try:
            bucket.spend(endpoint.per_s, now_ns // _NS_PER_MS, 1)
            request.act(self)
        except V5Error as error:
            request.error = error
        except Refused as refused:
            request.error = v5_error(refused)
        request.left, request.resets_at_ms = bucket.left, bucket.resets_at_ms
        if self.venue.has_news:
            self._distribute(market_moved=False)
        self._agenda.put_in_line(self._answers, request, now_ns + self.answer_ns)

    def hear_limit(self, request: Request) -> None:
        """What its answer says of the endpoint."""
        now_ms, endpoint = self.now_ns // _NS_PER_MS + self._offset_ms, request.endpoint
        endpoint.turns.told(endpoint.per_s, request.left, request.resets_at_ms, now_ms, 1)

    def open_order(self, link_id: str, venue_order_id: str) -> Order:
        """By the venue's id where there is one. Raises V5Error."""
        account = self.account
        order = account.by_id.get(venue_order_id) if venue_order_id else account.by_link.get(link_id)
        if order is None:
            raise V5Error(GONE, "order not exists or too late to cancel")
        return order

    def _cancel_all(self, key: str) -> None:
        """As the process does it: by the venue's cancel-all only where no order of others is known to stand."""
        if self.strangers.none_stands(self._symbol):
            self._ask(CancelAll(self._endpoint(calls.CANCEL_ALL), key))
        else:
            self._reads.own_orders(lambda found: self._cancel_each(key, found))

    def _cancel_each(self, key: str, found: list[Order] | V5Error) -> None:
        if isinstance(found, V5Error) or not found:
            word, detail = words.of_existing(found if isinstance(found, V5Error) else None)
            self.tell(ev.CancelAllAnswered(self.now_ns, key, word, detail))
            return
        tally, endpoint = Tally(key, len(found)), self._endpoint(calls.CANCEL)
        for order in found:
            self._ask(CancelOneOfAll(endpoint, order.order_id, tally))


def _last_print(happenings: list[Happening]) -> PublicTrade | None:
    for at in range(len(happenings) - 1, -1, -1):
        happening = happenings[at]
        if isinstance(happening, Printed):
            return happening.trade
    return None


def _rounded(value: float) -> int:
    """`round` of what is not below 0 and has a place for halves, several times as fast where it is compiled."""
    whole = int(value)
    part = value - whole
    return whole + 1 if part > 0.5 or (part == 0.5 and whole % 2) else whole


def _goes_later(intent: it.Intent) -> bool:
    return not isinstance(intent, FIRST)
