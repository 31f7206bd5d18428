"""Carrying a stop out: one cancel-all under one key, tried again until a read proves that nothing of ours stands.

A stop that is entered while a cancel-all is still being proven joins it. Proven means: every symbol's open orders were
read after the cancel-all was answered and showed none of ours, and no order in our own table may still be alive. What
such a read does not show, and the account's stream has not told of, is asked after at once.

A create of which nobody has heard may come until its receive window is over, so the proof waits for that. How long a
stop took is measured until the venue shows none: nothing in the reads, and nothing of such a create where it is asked
after. One that comes all the same is measured anew, from when the venue was last seen without it.
"""

from __future__ import annotations

from bot.domain.events import CancelAllAnswered, OpenOrdersRead, OrderStatus
from bot.domain.intent import CancelAll, CancelOrder, Exit, PublishKillSwitch, ReadAccount
from bot.domain.order import OWN_PREFIX, OrderHappening, OrderState
from bot.engine.orders import NO_ANSWER, OwnOrder
from bot.engine.parameters import NS_PER_MS, NS_PER_S, seconds_ns
from bot.engine.state import State
from bot.engine.stop import Stop, View

_RETRY_MAX_MS = 5_000
_PATIENCE_NS = 2 * NS_PER_S
"""No answer to a cancel-all or a read for this long: ask again."""
_CANCEL_AGAIN_NS = 500 * NS_PER_MS
CANCELLABLE = (OrderState.WORKING, OrderState.PENDING_AMEND)
"""States in which a cancel is sent; in any other it is on its way, not needed, or the outcome is asked after first."""


class CancelRun:
    """One cancel-all until its proof. `clean`: symbols whose read after the answer showed none of ours.

    `shown`: the venue shows none of ours, as far as is known; `since_ns`: what it is measured from.
    """

    __slots__ = (
        "answered_ns", "attempt", "clean", "key", "live_at_start", "proven", "read_asked_ns", "reason", "retry_ms",
        "retry_ns", "sent_ns", "serial", "shown", "since_ns", "started_ns",
    )  # fmt: skip

    def __init__(self, serial: int, reason: str, started_ns: int, since_ns: int, live_at_start: int) -> None:
        self.serial = serial
        self.reason = reason
        self.started_ns = started_ns
        self.since_ns = since_ns
        self.live_at_start = live_at_start
        self.attempt = 0
        self.key = ""
        self.sent_ns = 0
        self.answered_ns: int | None = None
        self.retry_ns: int | None = None
        self.retry_ms = 0
        self.read_asked_ns = 0
        self.clean: list[str] = []
        self.shown = False
        self.proven = False


class Stopping:
    """Enters stops and sees their cancel-all through."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._run: CancelRun | None = None
        self._serial = 0
        self._shutdown_ns: int | None = None
        self._exited = False

    @property
    def proven(self) -> bool:
        """No cancel-all is waiting for its proof."""
        run = self._run
        return run is None or run.proven

    def enter(self, reason: str, detail: str = "") -> None:
        """Enter a stop; one that already holds changes nothing and sends nothing."""
        state = self._state
        before = state.view
        stop = state.stops.enter(reason, state.now_ns, detail)
        if stop is None:
            return
        state.counters.add("mm_freeze_events_total", stop.reason, stop.stop_class)
        state.note(
            "WARNING",
            "freeze_triggered",
            reason=reason,
            stop_class=stop.stop_class,
            resume=stop.resume,
            view=stop.view.value,
            detail=detail,
        )
        self.note_view(before)
        self._start(stop)
        if stop.view is View.HALTED:
            state.emit(PublishKillSwitch(state.now_ns, reason))
        if stop.view is View.SHUTDOWN:
            self._shutdown_ns = state.now_ns

    def begin_run(self) -> None:
        """A new process under a stop that it did not enter itself: see to it that nothing stands.

        A halt publishes the kill switch once more: the one before may never have been started, or have died with the
        machine before it had proven anything, and one too many only proves the same again.
        """
        state, principal = self._state, self._state.stops.principal
        if principal is not None:
            self._start(principal.stop)
            if principal.stop.view is View.HALTED:
                state.emit(PublishKillSwitch(state.now_ns, principal.stop.reason))

    def forget_run(self) -> None:
        """The cancel-all of an earlier process is not this one's to prove."""
        self._run = None
        self._shutdown_ns = None

    def continue_after(self, key: str) -> None:
        """An earlier process used that key; ours come after it."""
        serial = key.split("-")[2:3]
        if serial and serial[0].isdigit():
            self._serial = max(self._serial, int(serial[0]))

    def note_view(self, before: View) -> None:
        """Tell the log where the view changed."""
        after = self._state.view
        if after is not before:
            principal = self._state.stops.principal
            reason = "" if principal is None else principal.stop.reason
            self._state.note("INFO", "stop_changed", before=before.value, after=after.value, reason=reason)

    def _start(self, stop: Stop) -> None:
        if self._run is not None and not self._run.proven:
            return
        state = self._state
        self._serial += 1
        live = sum(1 for _ in state.orders.all_live())
        self._run = CancelRun(self._serial, stop.reason, state.now_ns, state.now_ns, live)
        self._send(self._run)

    def _send(self, run: CancelRun) -> None:
        state = self._state
        run.attempt += 1
        run.key = f"stop-{state.epoch}-{run.serial}-{run.attempt}"
        run.sent_ns = state.now_ns
        run.answered_ns = run.retry_ns = None
        run.clean, run.shown = [], False
        for order in state.orders.all_live():
            if order.state in CANCELLABLE:
                state.orders.happen(order, OrderHappening.CANCEL_SENT, state.now_ns)
                order.sent_at_ns = order.cancel_sent_ns = state.now_ns
                order.answered_at_ns = NO_ANSWER
        state.emit(CancelAll(state.now_ns, run.key, state.parameters.symbols, run.reason))

    def answered(self, event: CancelAllAnswered) -> None:
        """The venue's answer; anything but a success is tried again."""
        run, state = self._run, self._state
        if run is None or run.proven or event.key != run.key or run.answered_ns is not None:
            return
        if event.outcome != "unknown":
            state.reached(reached=event.outcome != "unreachable")
        if event.outcome not in ("accepted", "gone"):
            self._retry_later(run)
            return
        run.answered_ns = state.now_ns
        for order in state.orders.all_live():
            if order.state is OrderState.PENDING_CANCEL and order.sent_at_ns == run.sent_ns:
                order.answered_at_ns = state.now_ns
        self._ask_reads(run)

    def _ask_reads(self, run: CancelRun) -> None:
        run.read_asked_ns = self._state.now_ns
        for symbol in self._state.parameters.symbols:
            if symbol not in run.clean:
                self._state.emit(ReadAccount(self._state.now_ns, symbol))

    def _retry_later(self, run: CancelRun) -> None:
        first = self._state.parameters.cancel_all_retry_ms
        run.retry_ms = min(_RETRY_MAX_MS, run.retry_ms * 2) if run.retry_ms else first
        run.retry_ns = self._state.now_ns + run.retry_ms * NS_PER_MS

    def read(self, event: OpenOrdersRead) -> None:
        """A read of open orders, asked before or after."""
        run, state = self._run, self._state
        if run is None or run.proven or run.answered_ns is None or event.asked_at_ns < run.answered_ns:
            return
        standing = {
            order.client_order_id
            for order in event.orders
            if order.client_order_id.startswith(OWN_PREFIX) and order.status is OrderStatus.WORKING
        }
        for own in state.orders.live(event.symbol):
            self._learn(own, own.client_order_id in standing, event.asked_at_ns)
        if standing:
            if run.retry_ns is None:
                self._retry_later(run)
        elif event.symbol not in run.clean:
            run.clean.append(event.symbol)

    def _learn(self, order: OwnOrder, standing: bool, asked_at_ns: int) -> None:
        """What the read says of an order that was cancelled before it was asked."""
        state = self._state
        if not order.confirmed and not standing:
            order.probe_due_ns = None
            probe_soon(state, order)
        if order.state is not OrderState.PENDING_CANCEL or order.cancel_sent_ns >= asked_at_ns:
            return
        if standing:
            state.orders.happen(order, OrderHappening.FOUND_WORKING, state.now_ns)
        elif order.confirmed and state.orders.happen(order, OrderHappening.FOUND_GONE, state.now_ns):
            state.counters.add("mm_orders_cancelled_total", order.symbol)
            state.note("INFO", "order_canceled", client_order_id=order.client_order_id, symbol=order.symbol, by="read")

    def tick(self) -> None:
        """After every event but market data: proof, retries, stragglers, the end of a shutdown."""
        run, state = self._run, self._state
        if run is not None and not run.proven:
            clean = len(run.clean) == len(state.parameters.symbols)
            if clean:
                self._show(run)
            if clean and not state.orders.any_live():
                self._prove(run)
            else:
                self._keep_trying(run)
        if state.stops.any or not state.has_grant:
            self._cancel_stragglers()
        if self._shutdown_ns is not None and not self._exited:
            self._end_shutdown(self._shutdown_ns)

    def _show(self, run: CancelRun) -> None:
        """The reads show none: how long it took until then, where nothing else of ours is known to stand."""
        state, answered_ns = self._state, run.answered_ns
        if not run.shown and answered_ns is not None and all(o.is_unseen(answered_ns) for o in state.orders.all_live()):
            run.shown = True
            state.observe("mm_cancel_all_duration_seconds", (), (state.now_ns - run.since_ns) / NS_PER_S)

    def _prove(self, run: CancelRun) -> None:
        state = self._state
        run.proven = True
        state.note(
            "INFO",
            "cancel_all_done",
            reason=run.reason,
            key=run.key,
            attempts=run.attempt,
            orders=run.live_at_start,
            duration_ms=(state.now_ns - run.started_ns) // NS_PER_MS,
        )

    def _keep_trying(self, run: CancelRun) -> None:
        now = self._state.now_ns
        if run.retry_ns is not None:
            if now >= run.retry_ns:
                self._send(run)
        elif run.answered_ns is None:
            if now - run.sent_ns >= _PATIENCE_NS:
                self._send(run)
        elif len(run.clean) < len(self._state.parameters.symbols) and now - run.read_asked_ns >= _PATIENCE_NS:
            self._ask_reads(run)

    def read_failed(self, symbol: str) -> None:
        """A failed read proves nothing: it is asked again after a moment."""
        run, state = self._run, self._state
        if run is not None and not run.proven and run.answered_ns is not None and symbol not in run.clean:
            wait_ns = state.parameters.cancel_all_retry_ms * NS_PER_MS
            run.read_asked_ns = state.now_ns - _PATIENCE_NS + wait_ns

    def _cancel_stragglers(self) -> None:
        """An order that turns out to work after the stop (its create was in flight) is cancelled by itself."""
        state = self._state
        for order in state.orders.all_live():
            if order.state in CANCELLABLE and may_cancel_again(state, order):
                send_cancel(state, order)
                self._doubt(order)

    def _doubt(self, order: OwnOrder) -> None:
        """An order came up after the read that showed none: that read proves nothing any more."""
        run = self._run
        if run is not None and not run.proven and order.symbol in run.clean:
            run.clean.remove(order.symbol)
            self.read_failed(order.symbol)
            if run.shown:
                run.shown, run.since_ns = False, max(run.since_ns, order.absent_ns)

    def _end_shutdown(self, since_ns: int) -> None:
        state = self._state
        if self.proven:
            self._exited = True
            state.emit(Exit(state.now_ns, 0, "every own order is cancelled"))
        elif state.now_ns - since_ns >= seconds_ns(state.parameters.shutdown_deadline_s):
            self._exited = True
            state.emit(Exit(state.now_ns, 1, "the cancel-all could not be proven in time"))


def may_cancel_again(state: State, order: OwnOrder) -> bool:
    """Whether its last cancel, if there was one, is long enough ago: one that could not leave is answered at once."""
    return state.now_ns - order.cancel_sent_ns >= _CANCEL_AGAIN_NS


def probe_soon(state: State, order: OwnOrder) -> None:
    """Ask at the next turn of the clock or sooner, unless asking is due already."""
    if order.probe_due_ns is None:
        order.probes = 0
        order.probe_due_ns = state.now_ns
        state.due_by(state.now_ns)


def send_cancel(state: State, order: OwnOrder) -> None:
    """Cancel one order now. Raises IllegalTransition for one that has ended."""
    state.orders.happen(order, OrderHappening.CANCEL_SENT, state.now_ns)
    order.sent_at_ns = order.cancel_sent_ns = state.now_ns
    order.answered_at_ns = NO_ANSWER
    state.cancel_budget.spend(state.now_ns)
    state.cancel_rate.spend(state.now_ns)
    state.due_ns = 0  # rates are looked at, and an answer is waited for
    key = order.next_cancel_key()
    state.emit(CancelOrder(state.now_ns, order.client_order_id, order.symbol, order.venue_order_id, key))
