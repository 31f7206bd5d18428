"""The engine: one door. An event goes in, what to do comes out; nothing else changes its state.

Deterministic: the same events give the same intents, byte for byte. Time is `event.at_ns` and never steps back. What
each kind of event does is the table `_handlers`; after it the consequences are worked out in a fixed order.

In a calm market most turns of the clock find nothing but quotes to look at. So whoever waits for a time says when
(`State.due_by`, `_next_due_ns`), and before the first of these times only quotes are looked at, as long as books are
told of, grants renewed and requests answered (`_nothing_new`), and prices stay where no limit is near
(`Losses.unmoved`). Every event that is not one of `_USUAL` makes the next turn a whole one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, cast

import msgspec

from bot.domain import events as ev
from bot.domain.book import NO_TICKS, Book
from bot.domain.intent import Intent, ResyncBook
from bot.domain.order import OWN_PREFIX, OrderHappening, OrderState
from bot.engine import probing
from bot.engine.account_events import AccountEvents
from bot.engine.answers import Answers
from bot.engine.conditions import Conditions
from bot.engine.drills import Drills
from bot.engine.flatten import Flatten
from bot.engine.ledger import DAY_NS
from bot.engine.losses import Losses
from bot.engine.parameters import NS_PER_S, EngineParameters
from bot.engine.performance import Performance
from bot.engine.permission import carry_lost, check_grant, receive_grant
from bot.engine.quote_cycle import QuoteCycle
from bot.engine.quoting_time import QuotingTime
from bot.engine.reconciliation import Reconciliation
from bot.engine.recovery import Recovery, instrument_of
from bot.engine.releasing import Releasing
from bot.engine.requests import Requests
from bot.engine.restoring import Restoring
from bot.engine.shown import Shown
from bot.engine.state import NEVER_NS, State
from bot.engine.stop import RESTART
from bot.engine.stopping import Stopping
from bot.engine.symbol_freezes import SymbolFreezes

_TICKED: Final = ev.Ticked
_AMEND_ANSWERED: Final = ev.AmendAnswered
_ORDER_UPDATED: Final = ev.OrderUpdated
_BOOK_DELTA: Final = ev.BookDelta
_TRADE_PRINTED: Final = ev.TradePrinted
_BOOK_SNAPSHOT: Final = ev.BookSnapshot
_GRANT_RECEIVED: Final = ev.GrantReceived
_FILLED: Final = ev.Filled
_fields_of: Final = msgspec.structs.astuple
"""All at once: each by its name is dear in what is told all the time."""

_USUAL: Final = frozenset({
    ev.OrderAccepted, ev.ExecutionsSwept, ev.OpenOrdersRead, ev.PositionRead, ev.WalletRead,
})  # fmt: skip
"""Kinds of events whose handlers say themselves what they bring forward, beside the four that come all the time."""

_SHOWN_WORKING: Final = ev.OrderStatus.WORKING

_RESYNC_NS = NS_PER_S
"""A lost book is asked for at most this often."""


def _first(one_ns: int, other_ns: int) -> int:
    return one_ns if one_ns < other_ns else other_ns


class Engine(Shown):
    """One account at one venue. See `receive`; everything else only shows."""

    def __init__(self, parameters: EngineParameters) -> None:
        state = State(parameters)
        performance = Performance(parameters)
        self._stopping = Stopping(state)
        self._reconciliation = Reconciliation(state, self._stopping)
        super().__init__(state, performance, self._reconciliation.drift_pct, QuotingTime(state))
        self._answers = Answers(state, self._stopping, self._performance)
        self._recovery = Recovery(state)
        self._losses = Losses(state, self._stopping)
        self._conditions = Conditions(state, self._stopping, self._performance, self._recovery, self._losses)
        self._flatten = Flatten(state)
        self._cycle = QuoteCycle(state, self._stopping, self._performance)
        self._freezes = SymbolFreezes(state)
        self._finished_kept_ns = parameters.finished_kept_s * NS_PER_S
        self._markouts_due_ns = 0
        """when the next markout is due; it changes no more than the edge, so that no whole turn is needed"""
        self._restored = 0
        self._held_told: set[str] = set()
        requests = Requests(state, self._stopping, self._reconciliation)
        self._releasing = Releasing(state, self._stopping, self._reconciliation)
        account = AccountEvents(state, self._stopping, self._performance, self._conditions, self._losses)
        self._orders = state.orders
        self._touched: Final = state.orders.touched
        self._ledger = state.ledger
        self._symbols: Final = parameters.symbols
        self._handlers: dict[type, Callable[[Any], object]] = {
            ev.Started: self._started,
            ev.StopRequested: requests.stop,
            ev.DrillRequested: Drills(state, self._cycle).run,
            ev.ResumeRequested: self._and_look(requests.resume),
            ev.RearmRequested: self._and_look(requests.rearm),
            ev.ReleaseAsked: self._releasing.ask,
            ev.ReleaseConfirmed: self._and_look(self._releasing.confirm),
            ev.ThresholdsReloaded: requests.reload_thresholds,
            ev.ShutdownRequested: lambda event: self._stopping.enter("shutdown", event.reason),
            ev.BookLost: self._book_lost,
            ev.OrderAccepted: self._answers.accepted,
            ev.OrderRefused: self._answers.refused,
            ev.OrderUnreachable: self._answers.unreachable,
            ev.OrderUncertain: self._answers.uncertain,
            ev.CancelAnswered: self._answers.cancel_answered,
            ev.CancelAllAnswered: self._stopping.answered,
            ev.OrderNotFound: self._answers.not_found,
            ev.Filled: self._filled,
            ev.FundingPaid: account.funding_paid,
            ev.ExecutionsSwept: self._reconciliation.swept,
            ev.FeesRead: account.fees_read,
            ev.WalletRead: account.wallet_read,
            ev.EquityCarried: account.equity_carried,
            ev.OpenOrdersRead: self._orders_read,
            ev.PositionRead: self._position_read,
            ev.ReadFailed: self._read_failed,
            ev.StreamUp: self._stream_up,
            ev.StreamDown: self._stream_down,
            ev.InstrumentsRead: self._instruments_read,
        }

    def restore(self, entries: Iterable[ev.Event | Intent]) -> int:
        """What an earlier process journaled, before anything is told here. How many entries; `Started` comes next.

        Raises RuntimeError once something was told.
        """
        state = self._state
        if state.now_ns:
            raise RuntimeError("an engine is restored before it is told anything")
        budgets, learn = self._losses.budgets, self._learn
        self._restored = Restoring(state, self._answers, self._stopping, self._releasing, budgets, learn).run(entries)
        self._recovery.restored = self._restored > 0
        self._markouts_due_ns = 0
        self._recovery.filters_read.clear()
        return self._restored

    def _and_look(self, release: Callable[[Any], object]) -> Callable[[Any], None]:
        """What people release holds again at once where its cause is there: no quote leaves until the clock turns."""

        def handle(event: ev.Event) -> None:
            release(event)
            self._conditions.tick()

        return handle

    # ---- the door ----

    def receive(self, event: ev.Event) -> list[Intent]:
        """Take in one event; give back what to do, in order. Raises for no order, fill or book."""
        state = self._state
        out: list[Intent] = []
        state.out = out
        kind = type(event)
        # by how often they come; no other kind of event needs more than the table
        if kind is _BOOK_DELTA:
            self._book_delta(cast(ev.BookDelta, event))
            return out
        if kind is _TRADE_PRINTED:
            self._trade_printed(cast(ev.TradePrinted, event))
            return out
        if kind is _BOOK_SNAPSHOT:
            self._book_snapshot(cast(ev.BookSnapshot, event))
            return out
        if kind is _TICKED:
            self._advance(event.at_ns)
            self._ticked()
        elif kind is _ORDER_UPDATED:
            self._order_updated(cast(ev.OrderUpdated, event))
        elif kind is _AMEND_ANSWERED:
            self._amend_answered(cast(ev.AmendAnswered, event))
        elif kind is _GRANT_RECEIVED:
            self._grant_received(cast(ev.GrantReceived, event))
        else:
            self._advance(event.at_ns)
            if kind not in _USUAL or state.held:
                state.due_ns = self._markouts_due_ns = 0
                if kind is not _FILLED or len(state.last_mid2) < len(state.books):
                    self._losses.bring_equity_up()  # a fill has it told anew where every position has a mark
            self._handlers[kind](event)
        if state.now_ns < state.may_quote_until_ns and self._stopping.proven:
            # running, and nothing to enter, prove or release: the view stays and only quotes can have to change
            self._cycle.look_where_changed()
        else:
            self._settle()
        return out

    def _now(self, at_ns: int) -> None:
        """It is then, or later already."""
        state = self._state
        if at_ns > state.now_ns:
            state.now_ns = at_ns

    def _advance(self, at_ns: int) -> None:
        """The same, before an event is handled that may change orders or permission."""
        self._now(at_ns)
        self._time.advance(self._state.now_ns)

    def _settle(self) -> None:
        """Consequences of anything that is not market data, where something is stopped, missing or unproven."""
        state = self._state
        before = state.view
        check_grant(state, self._stopping)
        if not state.ready and not state.stops.any and self._stopping.proven and self._recovery.ready():
            state.ready = True
            self._recovery.report()
            self._conditions.at_start()
        self._stopping.note_view(before)
        self._stopping.tick()
        if state.may_quote():
            self._cycle.look_at_all(unchanged_too=before is not state.view)

    def _ticked(self) -> None:
        state, now_ns = self._state, self._state.now_ns
        if now_ns < state.due_ns and self._nothing_new():
            if now_ns >= self._markouts_due_ns:
                self._take_markouts()
            self._cycle.tick()
            return
        state.due_ns, stopping = NEVER_NS, self._stopping
        self._conditions.turn_day()
        if now_ns >= self._markouts_due_ns:
            self._take_markouts()
        check_grant(state, stopping)
        self._conditions.tick()
        if state.stops.any and stopping.proven:
            before = state.view
            for stop in state.stops.release_due(now_ns):
                state.note("INFO", "stop_changed", released=stop.reason)
            stopping.note_view(before)
        self._recovery.tick()
        if state.held:
            for symbol in [one for one in self._symbols if one in state.held]:
                self._release(symbol)
        probing.tick(state)
        if state.ready:
            self._reconciliation.tick()
        if state.grant_lost_ns is not None:
            self._flatten.tick(stopping)
        if state.frozen:
            self._freezes.tick()
        self._orders.forget_finished(now_ns - self._finished_kept_ns)
        self._ledger.forget_executions(now_ns - DAY_NS)
        self._cycle.tick()
        state.due_by(self._next_due_ns())
        state.answer_due_ns = probing.due_ns(state)

    def _nothing_new(self) -> bool:
        """Whether a whole turn would find nothing of what messages put off all the time: it is looked at, not due."""
        state, now_ns = self._state, self._state.now_ns
        grant = state.grant
        if grant is not None and now_ns >= grant.expires_at_ns:
            return False
        if now_ns >= state.answer_due_ns:
            state.answer_due_ns = probing.due_ns(state)
            if now_ns >= state.answer_due_ns:
                return False
        return self._conditions.are_fresh() and self._losses.unmoved()

    def _take_markouts(self) -> None:
        state, performance = self._state, self._performance
        performance.advance(state.last_mid2, state.now_ns)
        self._markouts_due_ns = performance.due_ns

    def _next_due_ns(self) -> int:
        """When time alone can first change anything but quotes; 0 while anything is stopped, missing or unproven."""
        state, now_ns = self._state, self._state.now_ns
        if not state.may_quote() or not self._stopping.proven or state.grant_lost_ns is not None or state.frozen:
            return 0
        due_ns = _first(self._conditions.due_ns, self._reconciliation.due_ns)
        due_ns = _first(due_ns, self._recovery.due_ns)
        due_ns = _first(due_ns, (now_ns // DAY_NS + 1) * DAY_NS)
        if state.held:  # these are asked for at whole turns alone, which may as well come when markouts are taken
            due_ns = _first(due_ns, _first(now_ns + NS_PER_S, self._markouts_due_ns))
        if self._orders.finished_first_ns:
            due_ns = _first(due_ns, self._orders.finished_first_ns + self._finished_kept_ns + 1)
        if self._ledger.executed_first_ns:
            due_ns = _first(due_ns, self._ledger.executed_first_ns + DAY_NS + 1)
        return due_ns

    # ---- market ----

    def _book_delta(self, event: ev.BookDelta) -> None:
        at_ns: int
        symbol: str
        bids: tuple[Any, ...]
        asks: tuple[Any, ...]
        update_id: int
        at_ns, symbol, bids, asks, update_id, _ = _fields_of(event)
        self._now(at_ns)
        state = self._state
        book = state.books.get(symbol)
        if book is None:
            return
        bid, ask = book.bid_ticks, book.ask_ticks
        if book.change(bids, asks, update_id, state.now_ns):
            if book.bid_ticks != bid or book.ask_ticks != ask:
                self._top_changed(symbol, book)
        else:
            self._ask_resync(symbol)

    def _book_snapshot(self, event: ev.BookSnapshot) -> None:
        self._now(event.at_ns)
        book = self._state.books.get(event.symbol)
        if book is None:
            return
        bid, ask = book.bid_ticks, book.ask_ticks
        book.replace(event.bids, event.asks, event.update_id, self._state.now_ns)
        if self._state.frozen:
            self._freezes.snapshot_came(event.symbol)
        if book.bid_ticks != bid or book.ask_ticks != ask:
            self._top_changed(event.symbol, book)

    def _top_changed(self, symbol: str, book: Book) -> None:
        """Only a change of a best price can have to change a quote; the clock looks at all else."""
        state = self._state
        if book.bid_ticks == NO_TICKS:
            return
        state.last_mid2[symbol] = book.bid_ticks + book.ask_ticks
        if symbol not in self._touched:
            self._orders.marked(symbol, self._orders.of[symbol])
        if state.ready:
            self._cycle.look_at(symbol)

    def _trade_printed(self, event: ev.TradePrinted) -> None:
        at_ns: int
        symbol: str
        price_ticks: int
        at_ns, symbol, price_ticks, _, _, _ = _fields_of(event)
        self._now(at_ns)
        trade = self._state.last_trade.get(symbol)
        if trade is not None:
            trade.told(price_ticks, self._state.now_ns)

    def _book_lost(self, event: ev.BookLost) -> None:
        book = self._state.books.get(event.symbol)
        if book is not None:
            book.lose()
            self._freezes.book_lost(event.symbol, event.reason, garbled=event.garbled)
            self._ask_resync(event.symbol)

    def _ask_resync(self, symbol: str) -> None:
        state = self._state
        if state.now_ns - state.resync_asked_ns.get(symbol, -_RESYNC_NS) >= _RESYNC_NS:
            state.resync_asked_ns[symbol] = state.now_ns
            state.emit(ResyncBook(state.now_ns, symbol))

    # ---- the process, people ----

    def _grant_received(self, event: ev.GrantReceived) -> None:
        fields = _fields_of(event)
        self._advance(fields[0])
        receive_grant(self._state, self._stopping, fields)

    def _started(self, event: ev.Started) -> None:
        """A fresh process, perhaps on a journal: nothing it was connected to or allowed is so any more.

        What an earlier one left at the venue is asked after and cancelled; what only people may release still holds.
        """
        state = self._state
        state.public_up_since_ns = state.private_up_since_ns = 0
        state.grant, state.ready = None, False
        if not state.parameters.requires_grant:
            state.grant_lost_ns = None
        carry_lost(state, state.now_ns)
        for book in state.books.values():
            book.lose()
        self._freezes.forget()
        state.stops.carry()
        self._releasing.end_all()
        for order in state.orders.all_live():
            if order.state is not OrderState.UNKNOWN:
                state.orders.happen(order, OrderHappening.UNCERTAIN, state.now_ns)
            order.unwanted = True
            order.probe_due_ns = None
        if self._restored and state.parameters.two_man_rule:
            self._stopping.enter(RESTART, f"on a journal of {self._restored} entries")
        self._stopping.begin_run()

    # ---- streams and reads ----

    def _stream_up(self, event: ev.StreamUp) -> None:
        state = self._state
        if event.stream == "public":
            state.public_up_since_ns = max(1, state.now_ns)
        else:
            state.private_up_since_ns = max(1, state.now_ns)
            self._recovery.begin()

    def _stream_down(self, event: ev.StreamDown) -> None:
        state = self._state
        if event.stream == "public":
            state.public_up_since_ns = 0
            for book in state.books.values():
                book.lose()
            self._freezes.stream_down()
        else:
            state.private_up_since_ns = 0
        if state.ready:
            reason = "drill_stream_loss" if state.loss_is_planned else "venue_unreachable"
            self._stopping.enter(reason, f"{event.stream} stream down: {event.reason}")

    def _instruments_read(self, event: ev.InstrumentsRead) -> None:
        state = self._state
        if event.symbol not in state.books:
            return
        self._recovery.filters(event.symbol)
        self._learn(event)
        if event.source == "default_fallback" and state.parameters.mode != "shadow":
            self._cycle.block(event.symbol)  # kept for book-keeping; nothing is quoted by filters of nobody's word
        else:
            state.blocked.discard(event.symbol)  # of one that is held nothing is learned that would say so

    def _learn(self, event: ev.InstrumentsRead) -> None:
        """Filters for book-keeping and quoting, whoever they come from."""
        state, instrument = self._state, instrument_of(event)
        if event.symbol not in state.books:
            return
        if state.instruments.get(event.symbol) != instrument or not self._cycle.knows(event.symbol):
            state.instruments[event.symbol] = instrument
            state.instruments_version += 1
            if event.symbol not in state.held:
                self._cycle.learn(instrument)
        self._answers.fill_early()

    def _orders_read(self, event: ev.OpenOrdersRead) -> None:
        state, symbol = self._state, event.symbol
        state.reached(reached=True)
        if symbol in state.books:
            self._stopping.read(event)
            self._recovery.orders_read(event)
            if symbol in state.held:
                self._release(symbol)
            if state.ready and symbol not in state.held:
                self._reconciliation.orders_read(event)

    def _position_read(self, event: ev.PositionRead) -> None:
        state, symbol = self._state, event.symbol
        state.reached(reached=True)
        if symbol in state.books:
            self._recovery.position_read(event)
            if symbol in state.held:
                self._release(symbol)
            if (state.ready and symbol not in state.held) or self._recovery.restored:
                self._reconciliation.position_read(event)

    def _release(self, symbol: str) -> None:
        """A symbol that was held by itself is known by now, and quoted like the others."""
        if self._recovery.release(symbol):
            self._cycle.learn(self._state.instruments[symbol])
            self._state.note("INFO", "symbol_released", symbol=symbol)

    def _read_failed(self, event: ev.ReadFailed) -> None:
        if event.what == "filters" and event.symbol in self._state.held:
            self._hold(event)
        if event.what in ("wallet", "fees", "filters"):
            return  # says nothing of orders and positions; the reader asks again by itself
        self._state.reached(reached=False)
        self._stopping.read_failed(event.symbol)
        self._recovery.failed(event.symbol)

    def _hold(self, event: ev.ReadFailed) -> None:
        """Told once for each time it is held."""
        if event.symbol not in self._held_told:
            self._held_told.add(event.symbol)
            self._state.note("WARNING", "symbol_held", symbol=event.symbol, why="filters not read", detail=event.detail)

    # ---- orders ----

    def _order_updated(self, event: ev.OrderUpdated) -> None:
        at_ns: int
        told: ev.VenueOrder
        asked_at_ns: int
        at_ns, told, asked_at_ns = _fields_of(event)
        self._advance(at_ns)
        if self._answers.shown(told, asked_at_ns):
            return
        if told.symbol not in self._state.books:
            return
        if told.client_order_id.startswith(OWN_PREFIX) and told.status is _SHOWN_WORKING:
            self._reconciliation.read_soon(told.symbol)

    def _amend_answered(self, event: ev.AmendAnswered) -> None:
        at_ns: int
        client_order_id: str
        outcome: str
        wait_ms: int
        at_ns, client_order_id, _, _, outcome, _, wait_ms = _fields_of(event)
        self._advance(at_ns)
        self._answers.amended(client_order_id, outcome, at_ns, wait_ms)

    def _filled(self, event: ev.Filled) -> None:
        self._reconciliation.filled(event)
        self._answers.filled(event)
        self._losses.look()
