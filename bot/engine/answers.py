"""What venue and private stream say of our orders, applied to the table, the ledger and the counters.

An acknowledgement starts nothing and ends nothing by itself: the private stream confirms. A happening that the table of
states has no row for changes nothing and is noted; reality has sent stranger things than the table knows.
"""

from __future__ import annotations

from typing import Final

import msgspec

from bot.domain.events import (
    AmendAnswered,
    CancelAnswered,
    Filled,
    OrderAccepted,
    OrderNotFound,
    OrderRefused,
    OrderStatus,
    OrderUncertain,
    OrderUnreachable,
    OrderUpdated,
    VenueOrder,
)
from bot.domain.order import QUOTE_PREFIX, IllegalTransition, OrderHappening, OrderState
from bot.engine.counters import reject_reason
from bot.engine.orders import NO_ANSWER, NONE_ASKED, OwnOrder
from bot.engine.parameters import NS_PER_MS, NS_PER_S
from bot.engine.performance import Performance
from bot.engine.probing import amend_may_happen, is_final
from bot.engine.state import State
from bot.engine.stopping import Stopping, probe_soon, send_cancel

_AGAIN_MS: Final = 100
"""Until an amend that could not leave is tried again, where nobody knows when it may: in the same turn it could not."""
_fields_of: Final = msgspec.structs.astuple
"""All at once: each by its name is dear in what is told all the time."""
_H = OrderHappening
_S = OrderState
_PENDING_NEW: Final = OrderState.PENDING_NEW
_WORKING: Final = OrderState.WORKING
_PENDING_AMEND: Final = OrderState.PENDING_AMEND
_UNKNOWN: Final = OrderState.UNKNOWN
_REJECTED: Final = OrderState.REJECTED
_SHOWN_WORKING: Final = OrderStatus.WORKING
_ACCEPTED: Final = OrderHappening.ACCEPTED
_PARTLY_FILLED: Final = OrderHappening.PARTLY_FILLED
_FULLY_FILLED: Final = OrderHappening.FULLY_FILLED


class Answers:
    """Events about own orders."""

    def __init__(self, state: State, stopping: Stopping, performance: Performance) -> None:
        self._state = state
        self._stopping = stopping
        self._performance = performance
        self._early_fills: list[Filled] = []
        self._orders = state.orders.by_id

    # ---- creates ----

    def accepted(self, event: OrderAccepted) -> None:
        order = self._orders.get(event.client_order_id)
        if order is None:
            return
        state, was = self._state, order.state
        order.venue_order_id = event.venue_order_id or order.venue_order_id
        state.reached(reached=True)
        if not order.acknowledged:
            order.acknowledged = True
            order.answered_at_ns = event.at_ns
            self._latency(order)
        if was is not _UNKNOWN or order.asked_ticks == NONE_ASKED:  # it says nothing of an amend since
            self._tell(order, _ACCEPTED)
        if was is _PENDING_NEW and state.last_latency[0] <= state.thresholds.slow_ms:
            state.answer_by(event.at_ns + state.confirm_ns)
        else:
            state.due_ns = 0

    def refused(self, event: OrderRefused) -> None:
        order = self._orders.get(event.client_order_id)
        if order is None:
            return
        self._state.reached(reached=True)
        if not order.acknowledged:
            self._latency(order)
        if self._tell(order, _H.REFUSED):
            self._after_refusal(order, event.code, event.reason, post_only=event.post_only)

    def unreachable(self, event: OrderUnreachable) -> None:
        """The create never left: it did not happen, whatever was planned for it since."""
        order = self._orders.get(event.client_order_id)
        if order is None or order.acknowledged:
            return
        self._state.reached(reached=False)
        self._tell(order, _H.REFUSED)
        self._back_off(order)
        self._state.note("WARNING", "order_rejected", **_who(order), reason="unreachable", detail=event.detail)

    def uncertain(self, event: OrderUncertain) -> None:
        order = self._orders.get(event.client_order_id)
        if order is not None and order.live:
            self._tell(order, _H.UNCERTAIN)
            self._back_off(order)
            probe_soon(self._state, order)

    # ---- amends and cancels ----

    def amend_answered(self, event: AmendAnswered) -> None:
        self.amended(event.client_order_id, event.outcome, event.at_ns, event.wait_ms)

    def amended(self, client_order_id: str, outcome: str, at_ns: int, wait_ms: int) -> None:
        """What an amend came to; see `AmendAnswered`."""
        state = self._state
        if outcome == "accepted":
            if state.unreached and not wait_ms:
                state.unreached = 0
            order = self._orders.get(client_order_id)
            if order is not None and order.live:
                order.answered_at_ns = at_ns
                state.answer_by(at_ns + state.confirm_ns)
        else:
            self._not_amended(client_order_id, outcome, wait_ms)

    def _not_amended(self, client_order_id: str, outcome: str, wait_ms: int) -> None:
        if outcome != "unknown" and not wait_ms:
            self._state.reached(reached=outcome != "unreachable")
        order = self._orders.get(client_order_id)
        if order is None or not order.live:
            return
        self._state.due_ns = 0
        if outcome == "gone":
            probe_soon(self._state, order)
        elif outcome in ("refused", "unreachable"):
            never_left = outcome == "unreachable"
            if order.asked_ticks != NONE_ASKED and self._tells(order, _H.AMEND_REFUSED):
                order.asked_ticks = order.asked_lots = NONE_ASKED
                if never_left:
                    order.amended_at_ns = order.amended_before_ns
                self._state.orders.recount(order)
            if never_left:  # nothing happened at the venue: there is nothing to back off from
                self._state.back_off_of(order).wait(self._state.now_ns, max(wait_ms, _AGAIN_MS))
            else:
                self._back_off(order)
        else:
            self._tell(order, _H.UNCERTAIN)
            probe_soon(self._state, order)

    def cancel_answered(self, event: CancelAnswered) -> None:
        """`gone` is success, but says not how it ended: the stream or a probe does, and fills are swept by it."""
        if event.outcome != "unknown":
            self._state.reached(reached=event.outcome != "unreachable")
        order = self._orders.get(event.client_order_id)
        if order is None or not order.live:
            return
        if event.outcome == "accepted":
            order.answered_at_ns = event.at_ns
        elif event.outcome == "gone":
            probe_soon(self._state, order)
        elif order.state is not _S.PENDING_CANCEL:
            return
        elif event.outcome == "refused":
            self._tell(order, _H.CANCEL_REFUSED)
        elif event.outcome == "unreachable":
            self._tell(order, _H.UNREACHABLE)
        else:
            self._tell(order, _H.UNCERTAIN)
            probe_soon(self._state, order)

    # ---- the private stream and probes ----

    def updated(self, event: OrderUpdated) -> bool:
        """The venue's word on an order. False where it is none of ours that we know."""
        return self.shown(event.order, event.asked_at_ns)

    def shown(self, told: VenueOrder, asked_at_ns: int) -> bool:
        """The same, when it was asked for beside it."""
        client_order_id: str
        venue_order_id: str
        price_ticks: int
        qty_lots: int
        filled_lots: int
        state = self._state
        _, client_order_id, venue_order_id, _, price_ticks, qty_lots, filled_lots, status, _, _ = _fields_of(told)
        order = self._orders.get(client_order_id)
        if order is None:
            return False
        works = status is _SHOWN_WORKING
        if venue_order_id:
            order.venue_order_id = venue_order_id
        if filled_lots > order.reported_lots:
            order.reported_lots = filled_lots
        if (
            works
            and order.state is _PENDING_AMEND
            and price_ticks == order.asked_ticks
            and qty_lots == order.asked_lots
            and order.confirmed
            and not order.unwanted
            and not asked_at_ns
        ):  # what was asked for has been done: no other word is as frequent
            state.orders.amended(order, state.now_ns)
            state.back_off_of(order).succeeded()
            return True
        as_it_was = works and order.state is _WORKING and not order.unwanted and order.asked_ticks == NONE_ASKED
        if not as_it_was or state.held:
            state.due_ns = 0
        self._confirm(order)
        if works:
            order.shown_ns = state.now_ns
            if not asked_at_ns or asked_at_ns >= order.terms_told_ns:  # else a newer word has told its terms already
                order.terms_told_ns = asked_at_ns or state.now_ns
                self._works(order, told, asked_at_ns or order.probe_sent_ns)
        elif told.status is OrderStatus.FILLED:
            order.qty_lots = told.qty_lots
            order.reported_lots = max(order.reported_lots, told.qty_lots)
            self._tell(order, _H.FULLY_FILLED)
        elif told.post_only_refused or told.status is OrderStatus.REJECTED:
            if self._tell(order, _H.REFUSED):
                self._after_refusal(order, 0, told.reason, post_only=told.post_only_refused)
        else:
            self._cancelled(order, _H.CANCELLED, "stream")
        self._state.orders.recount(order)
        return True

    def not_found(self, event: OrderNotFound) -> None:
        """The newer word counts: an order that was shown after that was asked is in doubt, and asked after again."""
        order = self._orders.get(event.client_order_id)
        if order is None or not order.live:
            return
        asked_at_ns = event.asked_at_ns or order.probe_sent_ns
        order.absent_ns = max(order.absent_ns, asked_at_ns)
        if not is_final(self._state, order, asked_at_ns):
            return
        if asked_at_ns > order.shown_ns:
            self._cancelled(order, _H.FOUND_GONE, "probe")
            return
        if order.state is _WORKING:
            self._tell(order, _H.UNCERTAIN)
        probe_soon(self._state, order)

    def _works(self, order: OwnOrder, told: VenueOrder, asked_at_ns: int) -> None:
        """`asked_at_ns`: of a question; of what was pushed, when was last asked: it is taken for the answer."""
        state = self._state
        if order.state is _WORKING and not order.unwanted and order.asked_ticks == NONE_ASKED:
            self._settle_terms(order, told)
            state.back_off_of(order).succeeded()
            return
        terms = (told.price_ticks, told.qty_lots)
        pending = (order.asked_ticks, order.asked_lots)
        probed = asked_at_ns > order.sent_at_ns
        if order.state is _S.PENDING_AMEND and terms == pending:
            self._settle(order, told, _H.AMENDED)
        elif order.live and terms != pending and amend_may_happen(state, order, asked_at_ns):
            self._works_as_before(order, terms, probed=probed)
        elif order.state is _S.UNKNOWN or (probed and order.state in (_S.PENDING_AMEND, _S.PENDING_CANCEL)):
            self._settle(order, told, _H.FOUND_WORKING)
        elif order.state is _S.PENDING_AMEND:
            order.price_ticks, order.qty_lots = terms  # an earlier message; the amend is still on its way
            self._tell(order, _H.ACCEPTED)
        elif order.state is _S.PENDING_NEW:
            self._tell(order, _H.ACCEPTED)
            self._settle_terms(order, told)
        elif order.live:
            self._settle_terms(order, told)
        if order.state is _S.WORKING:
            state.back_off_of(order).succeeded()
            if order.unwanted:
                send_cancel(state, order)  # we asked whether it is gone: it is not, and it shall be

    def _works_as_before(self, order: OwnOrder, terms: tuple[int, int], *, probed: bool) -> None:
        """The order stands, and an amend of it may still happen: it counts at the worse of both, and is asked after."""
        order.price_ticks, order.qty_lots = terms
        if order.state is _S.PENDING_AMEND:
            self._tell(order, _H.ACCEPTED)
        if order.state is _S.PENDING_CANCEL and probed:
            send_cancel(self._state, order)  # whichever terms it has: it shall be gone
        elif order.state is _S.UNKNOWN and (order.unwanted or self._state.stops.any or not self._state.has_grant):
            send_cancel(self._state, order)

    def _settle(self, order: OwnOrder, told: VenueOrder, happening: OrderHappening) -> None:
        if self._tells(order, happening):
            order.probe_due_ns = None
            self._settle_terms(order, told)

    def _settle_terms(self, order: OwnOrder, told: VenueOrder) -> None:
        order.price_ticks, order.qty_lots = told.price_ticks, told.qty_lots
        order.asked_ticks = order.asked_lots = NONE_ASKED
        if order.state is _WORKING:
            order.answered_at_ns = NO_ANSWER

    def _confirm(self, order: OwnOrder) -> None:
        if not order.confirmed:
            order.confirmed = True
            seconds = (self._state.now_ns - order.created_at_ns) / NS_PER_S
            self._state.observe("mm_execution_latency_seconds", ("send_to_confirmed",), seconds)

    def _cancelled(self, order: OwnOrder, happening: OrderHappening, by: str) -> None:
        state = self._state
        if not self._tell(order, happening):
            return
        state.counters.add("mm_orders_cancelled_total", order.symbol)
        if order.cancel_sent_ns:
            seconds = (state.now_ns - order.cancel_sent_ns) / NS_PER_S
            state.observe("mm_execution_latency_seconds", ("cancel_to_confirmed",), seconds)
        state.note("INFO", "order_canceled", **_who(order), by=by, filled_lots=order.reported_lots)

    # ---- fills ----

    def filled(self, event: Filled) -> None:
        """Accounted in every state, once per execution id. A fill before its instrument is known waits for it."""
        state, symbol, name, side = self._state, event.symbol, event.client_order_id, event.side
        instrument = state.instruments.get(symbol)
        if symbol not in state.books:
            state.note("WARNING", "fill_generated", symbol=symbol, execution_id=event.execution_id, foreign=True)
            return
        if instrument is None:
            self._early_fills.append(event)
            return
        if not state.ledger.record(event, instrument):
            state.note("DEBUG", "idem_hit", execution_id=event.execution_id, symbol=symbol)
            return
        state.orders.touch(symbol)
        state.last_execution_ns[symbol] = state.now_ns
        order, price, qty_lots, is_maker = self._orders.get(name), event.price, event.qty_lots, event.is_maker
        if order is not None:
            self._fill_order(order, qty_lots)
        is_quote, mid2 = name.startswith(QUOTE_PREFIX), state.last_mid2.get(symbol)
        if mid2 is not None and is_quote:
            self._performance.filled(symbol, side, mid2, state.now_ns)
        far_pct = state.parameters.fill_far_pct
        far = order is not None and (
            abs(price - (quoted := instrument.price(order.price_ticks))) * 100 > quoted * far_pct
        )
        state.note(
            "WARNING" if far else "INFO",
            "fill_generated",
            client_order_id=name,
            symbol=symbol,
            side=side.value,
            price=str(price),
            qty_lots=qty_lots,
            fee_quote=str(event.fee_quote),
            is_maker=is_maker,
            position_lots=state.ledger.accounts[symbol].position_lots,
        )
        if is_quote and not is_maker:
            self._took(event, order)

    def fill_early(self) -> None:
        """Account for the fills that waited for their instrument."""
        waiting, self._early_fills = self._early_fills, []
        for fill in waiting:
            self.filled(fill)

    def _fill_order(self, order: OwnOrder, lots: int) -> None:
        state = self._state
        if order.executed_lots == 0:
            state.counters.add("mm_orders_filled_total", order.symbol, order.side.value)
        order.executed_lots += lots
        was_refused = order.state is _REJECTED
        if order.executed_lots >= order.worst_qty_lots:
            self._tell(order, _FULLY_FILLED)
        elif order.asked_lots == NONE_ASKED or order.state is not _UNKNOWN:
            # of an order whose amend is unknown a fill says nothing about its terms: it stays unknown
            self._tell(order, _PARTLY_FILLED)
        if was_refused:
            state.note("ERROR", "order_placement_error", **_who(order), reason="filled_after_refusal")
            if order.live:
                probe_soon(state, order)
        state.orders.recount(order)

    def _took(self, event: Filled, order: OwnOrder | None) -> None:
        """A quote filled as taker: an incident, whatever the reason."""
        state = self._state
        state.counters.add("mm_taker_fills_total", event.symbol)
        if order is None or not order.taker_counted:
            state.counters.add("mm_crossing_orders_total", event.symbol)
        if order is not None:
            order.taker_counted = True
        state.taker_fills += 1
        detail = f"{event.client_order_id} {event.execution_id}"
        self._stopping.enter("taker_fill" if state.taker_fills == 1 else "taker_fill_again", detail)

    # ---- shared ----

    def _tell(self, order: OwnOrder, happening: OrderHappening) -> bool:
        """True where that ended the order."""
        was_live = order.live
        return self._tells(order, happening) and was_live and not order.live

    def _tells(self, order: OwnOrder, happening: OrderHappening) -> bool:
        """True where the table has a row for it."""
        try:
            self._state.orders.happen(order, happening, self._state.now_ns)
        except IllegalTransition as problem:
            self._state.note("DEBUG", "order_transition_ignored", **_who(order), detail=str(problem))
            return False
        return True

    def _after_refusal(self, order: OwnOrder, code: int, reason: str, *, post_only: bool) -> None:
        state = self._state
        self._back_off(order)
        if post_only:
            state.counters.add("mm_post_only_rejects_total", order.symbol)
            return
        label = reject_reason(code, reason)
        state.counters.add("mm_orders_rejected_total", order.symbol, label)
        if label == "filters":
            state.counters.add("mm_filter_violations_total", order.symbol)
        state.note("WARNING", "order_rejected", **_who(order), reason=label, code=code, detail=reason)

    def _back_off(self, order: OwnOrder) -> None:
        parameters = self._state.parameters
        self._state.back_off_of(order).refused(
            self._state.now_ns, parameters.back_off_first_ms, parameters.back_off_max_ms
        )

    def _latency(self, order: OwnOrder) -> None:
        passed_ns = self._state.now_ns - order.created_at_ns
        self._state.last_latency = (passed_ns // NS_PER_MS, self._state.now_ns)
        self._state.observe("mm_order_latency_ms", (order.symbol,), passed_ns / NS_PER_MS)


def _who(order: OwnOrder) -> dict[str, str | int | float | bool]:
    return {"client_order_id": order.client_order_id, "symbol": order.symbol, "side": order.side.value}
