"""Orders whose outcome is open: asked after, never re-sent blind, never assumed dead.

`Not found` ends an order only when the question was asked more than receive window + margin after the last thing we
sent, the private stream has been up for all of that time, and the venue has not shown the order since it was asked.
"""

from __future__ import annotations

from typing import Final

from bot.domain.intent import ProbeOrder
from bot.domain.order import OrderState
from bot.engine.orders import NONE_ASKED, OwnOrder
from bot.engine.parameters import NS_PER_MS
from bot.engine.state import NEVER_NS, State
from bot.engine.stopping import probe_soon, send_cancel

_BACK_OFF_MS: Final = (0, 500, 1_000, 2_000, 4_000, 5_000)
_STOPPED_MS: Final = 200
"""Between two questions under a stop after a create that nobody has heard of, while it may still come: whatever stands
then was not cancelled with the others."""
_WORKING: Final = OrderState.WORKING
_UNKNOWN: Final = OrderState.UNKNOWN


def is_final(state: State, order: OwnOrder, asked_at_ns: int) -> bool:
    """Whether a `not found` to what was asked then ends an order not shown since: there may be later questions."""
    if not state.private_up_since_ns or not asked_at_ns:
        return False
    return asked_at_ns >= _decides_from_ns(state, order)


def _decides_from_ns(state: State, order: OwnOrder) -> int:
    """From when on a question can decide, as long as the private stream stays up."""
    parameters = state.parameters
    wait_ns = (parameters.receive_window_ms + parameters.not_found_margin_ms) * NS_PER_MS
    return max(order.sent_at_ns, state.private_up_since_ns) + wait_ns


def amend_may_happen(state: State, order: OwnOrder, asked_at_ns: int) -> bool:
    """Whether an amend of ours is open and may still reach the venue: its old terms, as asked then, do not end it.

    It cannot once the receive window and a margin have passed since it left; only a question asked after that counts.
    """
    if order.asked_ticks == NONE_ASKED:
        return False
    parameters = state.parameters
    wait_ns = (parameters.receive_window_ms + parameters.not_found_margin_ms) * NS_PER_MS
    return asked_at_ns - order.amended_at_ns < wait_ns


def due_ns(state: State) -> int:
    """When the first of the orders has to be asked after, while nothing is stopped."""
    due_ns = NEVER_NS
    for of in state.orders.of.values():
        for order in of.counting.values():
            if not order.live:
                continue
            probe_ns = order.probe_due_ns
            if probe_ns is not None:
                waits_ns = probe_ns
            elif order.state is _WORKING and order.confirmed:
                continue
            elif order.state is _UNKNOWN:
                return 0
            else:
                answered_ns = order.answered_at_ns
                waits_ns = order.sent_at_ns + state.ack_ns if answered_ns < 0 else answered_ns + state.confirm_ns
            if waits_ns < due_ns:
                due_ns = waits_ns
    return due_ns


def tick(state: State) -> None:
    """Send the probes that are due, and find those who wait too long for an answer or a confirmation."""
    now = state.now_ns
    # a stop waits for the proof that nothing stands: then nobody is given half a minute to answer
    answer_ns = state.confirm_ns if state.stops.any else state.ack_ns
    for of in state.orders.of.values():
        if of.buys or of.sells:
            for order in list(of.counting.values()):
                if order.live and not (order.state is _WORKING and order.confirmed and order.probe_due_ns is None):
                    _look_after(state, order, now, answer_ns)


def _look_after(state: State, order: OwnOrder, now: int, answer_ns: int) -> None:
    """One that is asked after already, or that an answer or a confirmation is missing of."""
    if order.state is _UNKNOWN:
        probe_soon(state, order)
    elif order.probe_due_ns is None:
        answered_ns = order.answered_at_ns
        if answered_ns >= 0:
            if now - answered_ns >= state.confirm_ns:
                probe_soon(state, order)
        elif now - order.sent_at_ns >= answer_ns:
            _give_up_waiting(state, order)
    probe_ns = order.probe_due_ns
    if probe_ns is not None and now >= probe_ns:
        order.probe_due_ns = _ask_again_ns(state, order)
        order.probes += 1
        order.probe_sent_ns = now
        state.emit(ProbeOrder(now, order.client_order_id, order.symbol))


def _ask_again_ns(state: State, order: OwnOrder) -> int:
    """When it is asked after again, where this question is not answered by then.

    No later than when a question can decide: until then its side of its symbol is not quoted.
    """
    now, decides_ns = state.now_ns, _decides_from_ns(state, order)
    may_come_ms = state.parameters.receive_window_ms + state.parameters.not_found_margin_ms
    unheard = not order.acknowledged and not order.confirmed
    if state.stops.any and unheard and now - order.created_at_ns < may_come_ms * NS_PER_MS:
        again_ns = now + _STOPPED_MS * NS_PER_MS
    else:
        again_ns = now + _BACK_OFF_MS[min(order.probes + 1, len(_BACK_OFF_MS) - 1)] * NS_PER_MS
    return decides_ns if now < decides_ns < again_ns else again_ns


def _give_up_waiting(state: State, order: OwnOrder) -> None:
    """No acknowledgement in time: cancel and probe."""
    state.note("ERROR", "order_placement_error", client_order_id=order.client_order_id, symbol=order.symbol,
               reason="ack_timeout", state=order.state.value)  # fmt: skip
    send_cancel(state, order)
    probe_soon(state, order)
