"""The kernel lane's mount: venue and engine meet as objects, from one heap of events. No adapter, no JSON, no asyncio.

It keeps the times of the other lane to the nanosecond: what the adapter and the process around the engine would do
between two messages (read the account in three steps, subscribe, keep a request's bucket) is done here in the same
order, over the same `Latency`. There are no faults here; who wants them takes the wire lane.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import Any, Final, get_args

from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.venue_events import instruments_read
from bot.engine.engine import Engine
from bot.runtime.loop import TICK_S
from bot.runtime.own_orders import Strangers
from bot.runtime.sender import FIRST, KEYS_KEPT
from bot.simulator import kernel_words as words
from bot.simulator.accounts import Account
from bot.simulator.bybit import PRIVATE
from bot.simulator.bybit_access import Limit, RateLimits, V5Error
from bot.simulator.bybit_orders import v5_error
from bot.simulator.depth import DepthView
from bot.simulator.kernel_reads import KernelReads
from bot.simulator.link import Latency
from bot.simulator.orders import Executed, NewOrder, Order, OrderChanged, Printed, Refused, TimeInForce
from bot.simulator.timeline import NS_PER_S
from bot.simulator.venue import Venue
from bot.venues.bybit import calls
from bot.venues.bybit.order_entry import CANCELS
from bot.venues.bybit.public_stream import BOOK_DEPTH
from bot.venues.bybit.rate_limits import RateLimits as Turns
from bot.venues.bybit.rate_limits import held_ms, too_many

Act = Callable[[], object]
Happened = Callable[[Any], None]

GONE: Final = 110001
AT_ONCE: Final = 1 << 60
"""More than will ever be set."""
_SEVERITY: Final = ("gone", "accepted", "refused", "unreachable", "unknown")
_MUTATIONS: Final = frozenset(get_args(it.Mutation))
_EXECUTIONS: Final = frozenset((ev.Filled, ev.FundingPaid))
_NS_PER_MS: Final = 1_000_000


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
        self.account = account
        self.latency = latency
        self._start_ns = self.now_ns = start_ns
        self._heap: list[tuple[int, int, Happened, Any]] = []
        self._set = 0
        self._limits = RateLimits()
        self._turns = Turns()
        self._offset_ms = 0
        self._view = DepthView(BOOK_DEPTH)
        self._subscribed = self._private = False
        self._keys: OrderedDict[str, None] = OrderedDict()
        self.strangers = Strangers()
        self._reads = KernelReads(self, reads_fees=engine.known.parameters.needs_fees)
        self._per_s: dict[str, int] = {}
        self._tick_s = tick_s
        self._tick_due_s = 0.0
        self.exit_code: int | None = None
        self.market_steps = 0

    # ---- the heap ---------------------------------------------------------------------------------------------------

    def at(self, when_ns: int, happened: Happened, what: Any = None) -> None:
        """Let `happened(what)` be called then; equal times in the order of setting."""
        self._set += 1
        heappush(self._heap, (when_ns, self._set, happened, what))

    def _at_once(self, happened: Happened, what: Any) -> None:
        """Before anything else that is due now, as a task goes on that waits for nothing."""
        self._set += 1
        heappush(self._heap, (self.now_ns, self._set - AT_ONCE, happened, what))

    def run(self, started: ev.Started) -> int:
        """The whole run; returns the exit code. Raises IndexError where nothing is left that could happen."""
        self.at(self.venue.next_at_ns(), self._move_market)
        self.tell_all([started])
        self._tick(None)
        self._connect()
        heap = self._heap
        while self.exit_code is None:
            self.now_ns, _, happened, what = heappop(heap)
            happened(what)
        return self.exit_code

    def tell(self, event: ev.Event) -> None:
        """One event of somebody outside venue and clock: a grant, a shutdown."""
        self.tell_all([event])

    def tell_all(self, events: list[Any]) -> None:
        """One message: everything in it is decided before anything that was decided is sent, cancels first."""
        intents: list[it.Intent] = []
        for event in events:
            if type(event) in _EXECUTIONS and self._reads.is_repeat(event):
                continue
            decided = self._engine.receive(event)
            if decided:
                intents += decided
        if intents:
            if len(intents) > 1:
                intents.sort(key=_goes_later)
            for intent in intents:
                kind = type(intent)
                send = _SENDERS.get(kind)
                if send is not None and not (
                    kind in _MUTATIONS and self._sent_before(it.key_of(intent))  # type: ignore[arg-type]  # the set says that it is one
                ):
                    send(self, intent)

    def _sent_before(self, key: str) -> bool:
        """Whether a mutation under that key was carried out (or is): as the process's sender drops it."""
        if not key:
            return False
        if key in self._keys:
            return True
        self._keys[key] = None
        if len(self._keys) > KEYS_KEPT:
            self._keys.popitem(last=False)
        return False

    def _tick(self, _: None) -> None:
        """The grid of the process's loop, in its own floats, so that both lanes tick at the same nanosecond."""
        self.tell_all([ev.Ticked(self.now_ns)])
        self._engine.drain_observations()  # histograms are the process's: here nobody would ever take them
        now_s = (self.now_ns - self._start_ns) / NS_PER_S
        self._tick_due_s = max(self._tick_due_s + self._tick_s, now_s)
        self.at(self._start_ns + round(self._tick_due_s * NS_PER_S), self._tick)

    # ---- the venue's side -------------------------------------------------------------------------------------------

    def _move_market(self, _: None) -> None:
        self.venue.advance(self.now_ns)
        self.market_steps += 1
        self._distribute(market_moved=True)
        self.at(self.venue.next_at_ns(), self._move_market)

    def _distribute(self, *, market_moved: bool) -> None:
        """Public trades, the book, then the account's messages, as the venue's streams group them."""
        happenings = self.venue.drain()
        if self._subscribed:
            if happenings:
                for happening in reversed(happenings):
                    if type(happening) is Printed:
                        self._push(words.trade, happening.trade)
                        break
            if market_moved:
                message = self._view.publish(self.venue.book, self.venue.book.drain_changes())
                if message is not None:
                    self._push(words.book, message)
        if self._private and happenings:
            for group in _grouped(happenings):
                self._push(words.account, group)

    def _push(self, say: words.Words, what: object) -> None:
        """What is said is decided now, as it would be written now; it is heard later."""
        now_ns = self.now_ns
        heard_ns = now_ns + self.latency.push_ns
        told = say(heard_ns, self.venue.instrument, what, now_ns // _NS_PER_MS * _NS_PER_MS)
        private = say is words.account or what == "private"
        self.at(heard_ns, self._hear_of_account if private else self.tell_all, told)

    def _hear_of_account(self, told: list[Any]) -> None:
        for event in told:
            self.strangers.note(event)
        self.tell_all(told)

    # ---- start ------------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        """Clock, filters, two sockets: as the adapter starts."""
        self.clock_read(self.now_ns)
        listed_ns = self.now_ns + 2 * (self.latency.request_ns + self.latency.answer_ns)
        heard_ns = listed_ns + self.latency.connect_ns + self.latency.request_ns
        self.at(listed_ns, lambda _: self.tell_all([instruments_read(self.venue.instrument, self.now_ns)]))
        self.at(heard_ns, self._subscribe_public)
        self.at(heard_ns + self.latency.push_ns + self.latency.request_ns, self._subscribe_private)

    def _subscribe_public(self, _: None) -> None:
        self._push(words.stream_up, "public")
        self._subscribed = True
        self._resync(None)

    def _resync(self, _: None) -> None:
        self._view.publish(self.venue.book)
        self._push(words.book, self._view.snapshot())

    def _subscribe_private(self, _: None) -> None:
        self._private = True
        self._push(words.stream_up, "private")

    def clock_read(self, sent_ns: int) -> None:
        """As the adapter keeps the venue's clock: half the way out and back, in whole milliseconds."""
        venue_ms = (sent_ns + self.latency.request_ns) // _NS_PER_MS
        heard_ns = sent_ns + self.latency.request_ns + self.latency.answer_ns
        self._offset_ms = venue_ms - (sent_ns + heard_ns) // 2 // _NS_PER_MS

    def _venue_now_ms(self) -> int:
        return self.now_ns // _NS_PER_MS + self._offset_ms

    # ---- requests ---------------------------------------------------------------------------------------------------

    def request(self, act: Act, answered: Happened, path: str) -> None:
        """Leaves where its endpoint still takes one, as the adapter has it: else a read waits, and nothing else."""
        now_ms, is_cancel = self._venue_now_ms(), path in CANCELS
        if not self._turns.take(path, 1, now_ms, is_cancel=is_cancel):
            wait_ms = self._turns.wait_ms(path, now_ms, is_cancel=is_cancel)
            if ("POST", path) in PRIVATE:
                self._at_once(answered, words.NotLeft(too_many(path, wait_ms), held_ms(wait_ms)))
            else:
                self.at(self.now_ns + max(1, wait_ms) * _NS_PER_MS, lambda _: self.request(act, answered, path))
            return
        self.at(self.now_ns + self.latency.request_ns, self._arrive, (act, answered, path))

    def _arrive(self, asked: tuple[Act, Happened, str]) -> None:
        """At the venue: `answered` is told what `act` returned, or the V5Error it came to."""
        act, answered, path = asked
        answer: object
        per_s = self._per_s.get(path)
        if per_s is None:
            per_s = self._per_s[path] = (PRIVATE.get(("POST", path)) or PRIVATE[("GET", path)]).per_s
        limit: Limit | None = None
        try:
            limit = self._limits.spend(self.account.uid, path, per_s, self.now_ns)
            answer = act()
        except V5Error as error:
            answer, limit = error, error.limit or limit
        except Refused as refused:
            answer = v5_error(refused)
        if self.venue.has_news:
            self._distribute(market_moved=False)
        self.at(self.now_ns + self.latency.answer_ns, self._answered, (answered, answer, path, limit))

    def _answered(self, heard: tuple[Happened, object, str, Limit | None]) -> None:
        answered, answer, path, limit = heard
        if limit is not None:
            self._turns.told(path, limit.allowed, limit.left, limit.resets_at_ms, self._venue_now_ms())
        answered(answer)

    def _open_order(self, link_id: str, venue_order_id: str = "") -> Order:
        account = self.account
        order = account.by_id.get(venue_order_id) if venue_order_id else account.by_link.get(link_id)
        if order is None:
            raise V5Error(GONE, "order not exists or too late to cancel")
        return order

    def _place(self, intent: it.PlaceOrder) -> None:
        new = NewOrder(
            intent.client_order_id, intent.side, intent.price_ticks, intent.qty_lots, TimeInForce.POST_ONLY,
            intent.reduce_only,
        )  # fmt: skip
        self._create(new)

    def _flatten(self, intent: it.FlattenReduceOnly) -> None:
        self._create(
            NewOrder(
                intent.client_order_id, intent.side, intent.price_limit_ticks, intent.qty_lots, TimeInForce.IOC, True
            )
        )

    def _create(self, new: NewOrder) -> None:
        def answered(answer: Order | V5Error) -> None:
            self.tell_all([words.created(self.now_ns, new.link_id, answer)])

        self.request(lambda: self.venue.create(self.account, new, self.now_ns), answered, calls.CREATE)

    def _amend(self, intent: it.AmendOrder) -> None:
        def act() -> None:
            order = self._open_order(intent.client_order_id)
            self.venue.amend(self.account, order, intent.price_ticks, intent.qty_lots, self.now_ns)

        def answered(answer: V5Error | None) -> None:
            word, detail = words.of_existing(answer)
            self.tell_all([
                ev.AmendAnswered(
                    self.now_ns, intent.client_order_id, intent.price_ticks, intent.qty_lots, word, detail,
                    answer.wait_ms if isinstance(answer, words.NotLeft) else 0,
                )
            ])  # fmt: skip

        self.request(act, answered, calls.AMEND)

    def _cancel(self, intent: it.CancelOrder) -> None:
        def act() -> None:
            order = self._open_order(intent.client_order_id, intent.venue_order_id)
            self.venue.cancel(self.account, order, self.now_ns)

        def answered(answer: V5Error | None) -> None:
            self.tell_all([ev.CancelAnswered(self.now_ns, intent.client_order_id, *words.of_existing(answer))])

        self.request(act, answered, calls.CANCEL)

    def _cancel_all(self, intent: it.CancelAll) -> None:
        """As the process does it: by the venue's cancel-all only where no order of others is known to stand."""
        if not self.strangers.none_stands(self.venue.instrument.symbol):
            self._reads.own_orders(lambda found: self._cancel_each(intent, found))
            return

        def act() -> None:
            for order in list(self.account.open_orders.values()):
                self.venue.cancel(self.account, order, self.now_ns)

        def answered(answer: V5Error | None) -> None:
            self.tell_all([ev.CancelAllAnswered(self.now_ns, intent.key, *words.of_existing(answer))])

        self.request(act, answered, calls.CANCEL_ALL)

    def _cancel_each(self, intent: it.CancelAll, found: list[Order] | V5Error) -> None:
        """The answers of all of them at once: the worst one counts."""
        if isinstance(found, V5Error) or not found:
            error = found if isinstance(found, V5Error) else None
            self.tell_all([ev.CancelAllAnswered(self.now_ns, intent.key, *words.of_existing(error))])
            return
        answers: list[tuple[str, str]] = []

        def answered(answer: V5Error | None) -> None:
            answers.append(words.of_existing(answer))
            if len(answers) == len(found):
                word, detail = max([("accepted", ""), *answers], key=lambda one: _SEVERITY.index(one[0]))
                self.tell_all([ev.CancelAllAnswered(self.now_ns, intent.key, word, detail)])

        def cancelling(order: Order) -> Act:
            return lambda: self.venue.cancel(self.account, self._open_order("", order.order_id), self.now_ns)

        for order in found:
            self.request(cancelling(order), answered, calls.CANCEL)

    # ---- what is left of the process around the engine ---------------------------------------------------------------

    def _ask_snapshot(self, _: it.ResyncBook) -> None:
        self.at(self.now_ns + self.latency.request_ns, self._resync)

    def _exit(self, intent: it.Exit) -> None:
        self.exit_code = intent.code

    def _probe(self, intent: it.ProbeOrder) -> None:
        self._reads.probe(intent.client_order_id)

    def _read_account(self, _: it.ReadAccount) -> None:
        self._reads.account()


_SENDERS: Final[dict[type, Callable[[Kernel, Any], None]]] = {
    it.PlaceOrder: Kernel._place,
    it.AmendOrder: Kernel._amend,
    it.CancelOrder: Kernel._cancel,
    it.CancelAll: Kernel._cancel_all,
    it.FlattenReduceOnly: Kernel._flatten,
    it.ProbeOrder: Kernel._probe,
    it.ReadAccount: Kernel._read_account,
    it.ResyncBook: Kernel._ask_snapshot,
    it.Exit: Kernel._exit,
}


def _grouped(happenings: list[Any]) -> Iterator[list[OrderChanged | Executed]]:
    """Neighbours of one kind are one message of the private stream."""
    group: list[OrderChanged | Executed] = []
    of: type | None = None
    for happening in happenings:
        kind = type(happening)
        if kind is OrderChanged or kind is Executed:
            if kind is not of and group:
                yield group
                group = []
            of = kind
            group.append(happening)
    if group:
        yield group


def _goes_later(intent: it.Intent) -> bool:
    return not isinstance(intent, FIRST)
