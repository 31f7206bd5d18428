"""From a journal to what the engine knew: the durable part alone is enough, and nothing is decided a second time.

What was decided is read from the intents, what was learned from the events; market data is not needed. Orders that may
still stand come back with their terms, so do positions, results, the 24-hour curve, epoch, order sequence, budgets, the
stops that only people may release, the ids under which that was asked, and that permission was held: lost with its
process, it is flattened after it as in one that lived on. Everything else (books, streams, permission itself) begins
anew. A journal cut anywhere between two entries gives a state from which nothing is quoted before the venue's
account has been read and compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Final

from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.order import OrderHappening, OrderState
from bot.engine import budgets
from bot.engine.answers import Answers
from bot.engine.ledger import DAY_NS
from bot.engine.money import Budgets, DayStart
from bot.engine.orders import OwnOrder
from bot.engine.parameters import NS_PER_S
from bot.engine.permission import carry_lost
from bot.engine.releasing import Releasing
from bot.engine.requests import detail_of, reason_of
from bot.engine.state import Day, State
from bot.engine.stop import STOPS
from bot.engine.stopping import CANCELLABLE, Stopping

_FORGET_EVERY: Final = 1_000


class Restoring:
    """Applies entries in order to an engine that has not been told anything yet."""

    def __init__(
        self,
        state: State,
        answers: Answers,
        stopping: Stopping,
        releasing: Releasing,
        budgets: Budgets,
        learn: Callable[[ev.InstrumentsRead], None],
    ) -> None:
        self._state = state
        self._stopping = stopping
        self._budgets = budgets
        self._held_for: dict[str, dict[str, None]] = {}
        """stop → what it holds for: itself (empty), and reasons of other versions"""
        self._events: dict[type, Callable[[Any], object]] = {
            ev.Started: lambda _: state.stops.carry(),
            ev.GrantReceived: self._granted,
            ev.StopRequested: self._stop_requested,
            ev.ResumeRequested: self._requested,
            ev.RearmRequested: self._requested,
            ev.ReleaseAsked: releasing.restore,
            ev.ReleaseConfirmed: releasing.restore,
            ev.OrderAccepted: answers.accepted,
            ev.OrderRefused: answers.refused,
            ev.OrderUnreachable: answers.unreachable,
            ev.OrderUncertain: answers.uncertain,
            ev.CancelAnswered: answers.cancel_answered,
            ev.AmendAnswered: answers.amend_answered,
            ev.OrderUpdated: answers.updated,
            ev.Filled: answers.filled,
            ev.FundingPaid: self._funding,
            ev.WalletRead: lambda event: state.venue_equity.note(
                event.equity_quote - event.transfers_quote, state.now_ns
            ),
            ev.EquityCarried: lambda event: state.equity.carry(event.samples, event.peak_quote),
            ev.InstrumentsRead: learn,
        }
        self._intents: dict[type, Callable[[Any], None]] = {
            it.PlaceOrder: self._placed,
            it.AmendOrder: self._amended,
            it.CancelOrder: self._cancelled,
            it.CancelAll: self._cancelled_all,
            it.FlattenReduceOnly: lambda intent: self._sequence(intent.client_order_id),
            it.Note: self._noted,
        }

    def run(self, entries: Iterable[ev.Event | it.Intent]) -> int:
        """How many entries there were. What the handlers would have sent or counted is dropped: it was, long ago."""
        state, number = self._state, 0
        for entry in entries:
            number += 1
            if isinstance(entry, ev.Started):
                carry_lost(state, entry.at_ns)
            state.now_ns = max(state.now_ns, entry.at_ns)
            handler = self._events.get(type(entry)) or self._intents.get(type(entry))
            if handler is not None:
                handler(entry)
            state.out.clear()
            if number % _FORGET_EVERY == 0:
                state.observations.clear()
                state.orders.forget_finished(state.now_ns - state.parameters.finished_kept_s * NS_PER_S)
                state.ledger.forget_executions(state.now_ns - DAY_NS)
        state.observations.clear()
        state.counters.reset()
        state.stops.carry()
        self._stopping.forget_run()
        self._budgets.drain_fresh()
        return number

    # ---- events ----

    def _granted(self, event: ev.GrantReceived) -> None:
        """Its end is known with it: whether a new process still holds it, only a grant of its own can say."""
        state = self._state
        if event.epoch < state.epoch:
            return
        state.epoch = event.epoch
        if not event.revoked and event.ttl_s > 0:
            state.grant_lost_ns = event.at_ns + int(event.ttl_s * NS_PER_S)
        elif state.grant_lost_ns is not None:
            state.grant_lost_ns = min(state.grant_lost_ns, event.at_ns)

    def _stop_requested(self, event: ev.StopRequested) -> None:
        """It holds although nothing may tell that it was entered: its key is used, and asking again does nothing."""
        if event.key and event.key in self._state.operations:
            return
        self._requested(event)
        self._enter(reason_of(event), event.at_ns, detail_of(event))

    def _requested(self, event: ev.StopRequested | ev.ResumeRequested | ev.RearmRequested) -> None:
        if event.key:
            self._state.operations[event.key] = None

    def _funding(self, event: ev.FundingPaid) -> None:
        if event.symbol in self._state.books:
            self._state.ledger.record_funding(event)

    # ---- intents ----

    def _sequence(self, client_order_id: str) -> None:
        number = client_order_id.rpartition("-")[2]
        if number.isdigit():
            self._state.sequence = max(self._state.sequence, int(number))

    def _placed(self, intent: it.PlaceOrder) -> None:
        state, at_ns = self._state, intent.at_ns
        self._sequence(intent.client_order_id)
        if intent.symbol not in state.books or state.orders.get(intent.client_order_id) is not None:
            return
        state.orders.add(
            OwnOrder(
                intent.client_order_id, intent.symbol, intent.side, intent.price_ticks, intent.qty_lots, intent.epoch,
                at_ns, at_ns, at_ns,
            )
        )  # fmt: skip
        state.order_rate.spend(at_ns)

    def _amended(self, intent: it.AmendOrder) -> None:
        order = self._state.orders.get(intent.client_order_id)
        if order is None or order.state is not OrderState.WORKING:
            return
        self._state.orders.happen(order, OrderHappening.AMEND_SENT, intent.at_ns)
        order.asked_ticks, order.asked_lots = intent.price_ticks, intent.qty_lots
        order.sent_at_ns = order.amended_at_ns = intent.at_ns
        order.operations += 1
        self._state.orders.recount(order)

    def _cancelled(self, intent: it.CancelOrder) -> None:
        state = self._state
        state.cancel_budget.spend(intent.at_ns)
        state.cancel_rate.spend(intent.at_ns)
        order = state.orders.get(intent.client_order_id)
        if order is not None:
            order.operations += 1
            self._cancel(order, intent.at_ns)

    def _cancelled_all(self, intent: it.CancelAll) -> None:
        self._stopping.continue_after(intent.key)
        for order in self._state.orders.all_live():
            if order.state in CANCELLABLE:
                self._cancel(order, intent.at_ns)

    def _cancel(self, order: OwnOrder, at_ns: int) -> None:
        if order.live:
            self._state.orders.happen(order, OrderHappening.CANCEL_SENT, at_ns)
            order.sent_at_ns = order.cancel_sent_ns = at_ns

    def _noted(self, note: it.Note) -> None:
        state, fields = self._state, note.fields
        match note.event:
            case "equity_sample":
                state.equity.restore(
                    Decimal(str(fields["net_quote"])), Decimal(str(fields["peak_quote"])), note.at_ns
                )  # fmt: skip
            case "budget_day":
                self._budgets.starts[str(fields["strategy"])] = DayStart(
                    int(fields["day"]), Decimal(str(fields["net_quote"])), Decimal(str(fields["turnover_quote"]))
                )
            case "day_began":
                state.day = Day(int(fields["day"]), Decimal(str(fields["net_quote"])), int(fields["fills"]))
            case "position_adopted":
                dust_base = Decimal(str(fields.get("dust_base", "0")))
                price = Decimal(str(fields["entry_price"]))
                self._adopt(str(fields["symbol"]), int(fields["position_lots"]), price, dust_base)
            case budgets.BREACH:
                state.cancel_budget.restore_breach(note.at_ns)
            case "freeze_triggered":
                self._froze(str(fields["reason"]), note)
            case "stop_changed" if "released" in fields:
                self._released(str(fields["released"]))

    def _froze(self, reason: str, note: it.Note) -> None:
        """A reason of another version holds under one of this version's that is left in the same way, or a harder one:
        what time may release is looked at anew, by this version's causes."""
        resume, detail = note.fields.get("resume"), str(note.fields.get("detail", ""))
        if reason in STOPS:
            self._enter(reason, note.at_ns, detail)
        elif resume != "auto":
            self._enter("external" if resume == "people" else "kill_switch", note.at_ns, f"{reason}: {detail}", reason)

    def _enter(self, reason: str, at_ns: int, detail: str, held_for: str = "") -> None:
        """`held_for`: the reason of another version that it holds for; empty where it is its own."""
        self._state.stops.enter(reason, at_ns, detail)
        self._held_for.setdefault(reason, {})[held_for] = None

    def _released(self, reason: str) -> None:
        """One that holds for several is released with the last of them."""
        if reason in STOPS:
            self._state.stops.release(reason)
            self._held_for.pop(reason, None)
            return
        for held, reasons in list(self._held_for.items()):
            if reason in reasons:
                del reasons[reason]
                if not reasons:
                    self._state.stops.release(held)
                    del self._held_for[held]

    def _adopt(self, symbol: str, position_lots: int, entry_price: Decimal, dust_base: Decimal) -> None:
        state, instrument = self._state, self._state.instruments.get(symbol)
        if instrument is not None:
            state.ledger.adopt(symbol, position_lots, entry_price, instrument, dust_base)
            state.adopted_ns[symbol] = state.now_ns
            state.orders.touch(symbol)
