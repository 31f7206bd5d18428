"""The life of an order, as a table.

Rules, told once: an order is *in flight* from the moment its intent is journaled until the venue has spoken, and that
is a state, not a flag. An acknowledgement is not acceptance, but it is the venue's word that the order may work, so
both lead to WORKING. UNKNOWN counts at its worst case until a probe resolves it. Reality's rows are here too: a fill
may arrive before the acknowledgement, after a cancel was sent, and even after the order was believed cancelled.

An order that has ended lives again in two cases only, both against the venue's own earlier word: it is *found working*
by a read asked after its end, or it *fills although it was refused*. Then what it may still cost counts again, and the
engine cancels it; it never quotes with it. An illegal pair raises `IllegalTransition` and changes nothing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from bot.domain.quick_enum import quick

OWN_PREFIX: Final = "slw"
"""Every client order id of ours begins with it; any other order on the account is somebody else's."""

QUOTE_PREFIX: Final = "slwq"
"""Client order ids of quotes: `slwq-<epoch>-<sequence>`."""

FLATTEN_PREFIX: Final = "slwf"
"""Client order ids of reduce-only flatten orders, the kill switch's too; they trip no taker gate."""


@quick
class Side(StrEnum):
    """`buy` adds base, `sell` removes it."""

    BUY = "buy"
    SELL = "sell"

    sign: int
    """+1 for a buy, -1 for a sell."""

    opposite: Side

    __hash__ = str.__hash__  # Enum's own is a Python function: a third of the time of a look-up by side


Side.BUY.sign, Side.BUY.opposite = 1, Side.SELL
Side.SELL.sign, Side.SELL.opposite = -1, Side.BUY


@quick
class OrderState(StrEnum):
    """Where an order stands as far as we know."""

    PENDING_NEW = "pending_new"
    WORKING = "working"
    PENDING_AMEND = "pending_amend"
    PENDING_CANCEL = "pending_cancel"
    UNKNOWN = "unknown"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"

    __hash__ = str.__hash__


@quick
class OrderHappening(StrEnum):
    """What can happen to an order."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    UNCERTAIN = "uncertain"
    PARTLY_FILLED = "partly_filled"
    FULLY_FILLED = "fully_filled"
    AMEND_SENT = "amend_sent"
    AMENDED = "amended"
    AMEND_REFUSED = "amend_refused"
    CANCEL_SENT = "cancel_sent"
    CANCEL_REFUSED = "cancel_refused"
    CANCELLED = "cancelled"
    FOUND_WORKING = "found_working"
    FOUND_GONE = "found_gone"

    __hash__ = str.__hash__


class IllegalTransition(Exception):
    """An order was told of a happening that its state has no row for. Nothing was changed."""


_S = OrderState
_H = OrderHappening

TRANSITIONS: Final[dict[tuple[OrderState, OrderHappening], OrderState]] = {
    # create in flight
    (_S.PENDING_NEW, _H.ACCEPTED): _S.WORKING,
    (_S.PENDING_NEW, _H.REFUSED): _S.REJECTED,
    (_S.PENDING_NEW, _H.UNREACHABLE): _S.REJECTED,
    (_S.PENDING_NEW, _H.UNCERTAIN): _S.UNKNOWN,
    (_S.PENDING_NEW, _H.PARTLY_FILLED): _S.WORKING,
    (_S.PENDING_NEW, _H.FULLY_FILLED): _S.FILLED,
    (_S.PENDING_NEW, _H.CANCELLED): _S.CANCELLED,
    (_S.PENDING_NEW, _H.CANCEL_SENT): _S.PENDING_CANCEL,
    (_S.PENDING_NEW, _H.FOUND_WORKING): _S.WORKING,
    (_S.PENDING_NEW, _H.FOUND_GONE): _S.CANCELLED,
    # working at the venue
    (_S.WORKING, _H.ACCEPTED): _S.WORKING,
    (_S.WORKING, _H.PARTLY_FILLED): _S.WORKING,
    (_S.WORKING, _H.FULLY_FILLED): _S.FILLED,
    (_S.WORKING, _H.AMEND_SENT): _S.PENDING_AMEND,
    (_S.WORKING, _H.AMENDED): _S.WORKING,
    (_S.WORKING, _H.CANCEL_SENT): _S.PENDING_CANCEL,
    (_S.WORKING, _H.CANCELLED): _S.CANCELLED,
    (_S.WORKING, _H.REFUSED): _S.REJECTED,  # acknowledged, then refused on the stream (post-only would take)
    (_S.WORKING, _H.UNCERTAIN): _S.UNKNOWN,
    (_S.WORKING, _H.UNREACHABLE): _S.WORKING,  # a second answer to a request that the stream has settled
    (_S.WORKING, _H.AMEND_REFUSED): _S.WORKING,
    (_S.WORKING, _H.CANCEL_REFUSED): _S.WORKING,
    (_S.WORKING, _H.FOUND_WORKING): _S.WORKING,
    (_S.WORKING, _H.FOUND_GONE): _S.CANCELLED,
    # amend in flight
    (_S.PENDING_AMEND, _H.ACCEPTED): _S.PENDING_AMEND,
    (_S.PENDING_AMEND, _H.AMENDED): _S.WORKING,
    (_S.PENDING_AMEND, _H.AMEND_REFUSED): _S.WORKING,
    (_S.PENDING_AMEND, _H.UNREACHABLE): _S.WORKING,
    (_S.PENDING_AMEND, _H.UNCERTAIN): _S.UNKNOWN,
    (_S.PENDING_AMEND, _H.PARTLY_FILLED): _S.PENDING_AMEND,
    (_S.PENDING_AMEND, _H.FULLY_FILLED): _S.FILLED,
    (_S.PENDING_AMEND, _H.CANCEL_SENT): _S.PENDING_CANCEL,
    (_S.PENDING_AMEND, _H.CANCELLED): _S.CANCELLED,
    (_S.PENDING_AMEND, _H.REFUSED): _S.REJECTED,
    (_S.PENDING_AMEND, _H.CANCEL_REFUSED): _S.PENDING_AMEND,
    (_S.PENDING_AMEND, _H.FOUND_WORKING): _S.WORKING,
    (_S.PENDING_AMEND, _H.FOUND_GONE): _S.CANCELLED,
    # cancel in flight
    (_S.PENDING_CANCEL, _H.ACCEPTED): _S.PENDING_CANCEL,
    (_S.PENDING_CANCEL, _H.CANCEL_SENT): _S.PENDING_CANCEL,
    (_S.PENDING_CANCEL, _H.CANCELLED): _S.CANCELLED,
    (_S.PENDING_CANCEL, _H.REFUSED): _S.REJECTED,  # the create behind it was refused
    (_S.PENDING_CANCEL, _H.CANCEL_REFUSED): _S.WORKING,
    (_S.PENDING_CANCEL, _H.UNREACHABLE): _S.WORKING,
    (_S.PENDING_CANCEL, _H.UNCERTAIN): _S.UNKNOWN,
    (_S.PENDING_CANCEL, _H.AMENDED): _S.PENDING_CANCEL,
    (_S.PENDING_CANCEL, _H.AMEND_REFUSED): _S.PENDING_CANCEL,
    (_S.PENDING_CANCEL, _H.PARTLY_FILLED): _S.PENDING_CANCEL,
    (_S.PENDING_CANCEL, _H.FULLY_FILLED): _S.FILLED,
    (_S.PENDING_CANCEL, _H.FOUND_WORKING): _S.WORKING,
    (_S.PENDING_CANCEL, _H.FOUND_GONE): _S.CANCELLED,
    # outcome unknown: counted at its worst case until a probe or the stream speaks
    (_S.UNKNOWN, _H.ACCEPTED): _S.WORKING,
    (_S.UNKNOWN, _H.REFUSED): _S.REJECTED,
    (_S.UNKNOWN, _H.UNCERTAIN): _S.UNKNOWN,
    (_S.UNKNOWN, _H.AMENDED): _S.WORKING,
    (_S.UNKNOWN, _H.AMEND_REFUSED): _S.UNKNOWN,
    (_S.UNKNOWN, _H.CANCEL_SENT): _S.PENDING_CANCEL,
    (_S.UNKNOWN, _H.CANCEL_REFUSED): _S.UNKNOWN,
    (_S.UNKNOWN, _H.CANCELLED): _S.CANCELLED,
    (_S.UNKNOWN, _H.PARTLY_FILLED): _S.WORKING,
    (_S.UNKNOWN, _H.FULLY_FILLED): _S.FILLED,
    (_S.UNKNOWN, _H.FOUND_WORKING): _S.WORKING,
    (_S.UNKNOWN, _H.FOUND_GONE): _S.CANCELLED,
    # reality after the end: fills that were on their way, answers that come late or twice
    (_S.CANCELLED, _H.PARTLY_FILLED): _S.CANCELLED,
    (_S.CANCELLED, _H.FULLY_FILLED): _S.FILLED,
    (_S.CANCELLED, _H.CANCELLED): _S.CANCELLED,
    (_S.CANCELLED, _H.ACCEPTED): _S.CANCELLED,
    (_S.CANCELLED, _H.AMENDED): _S.CANCELLED,
    (_S.CANCELLED, _H.CANCEL_REFUSED): _S.CANCELLED,
    (_S.CANCELLED, _H.AMEND_REFUSED): _S.CANCELLED,
    (_S.CANCELLED, _H.UNCERTAIN): _S.CANCELLED,
    (_S.CANCELLED, _H.UNREACHABLE): _S.CANCELLED,
    (_S.CANCELLED, _H.FOUND_GONE): _S.CANCELLED,
    (_S.CANCELLED, _H.REFUSED): _S.CANCELLED,
    (_S.CANCELLED, _H.FOUND_WORKING): _S.WORKING,  # believed gone, and there it is
    (_S.FILLED, _H.FULLY_FILLED): _S.FILLED,
    (_S.FILLED, _H.PARTLY_FILLED): _S.FILLED,  # more than was ordered, or the executions after the word `filled`
    (_S.FILLED, _H.CANCELLED): _S.FILLED,  # the second message of a cancel/fill race
    (_S.FILLED, _H.ACCEPTED): _S.FILLED,
    (_S.FILLED, _H.AMENDED): _S.FILLED,
    (_S.FILLED, _H.CANCEL_REFUSED): _S.FILLED,
    (_S.FILLED, _H.AMEND_REFUSED): _S.FILLED,
    (_S.FILLED, _H.UNCERTAIN): _S.FILLED,
    (_S.FILLED, _H.UNREACHABLE): _S.FILLED,
    (_S.FILLED, _H.FOUND_GONE): _S.FILLED,
    (_S.FILLED, _H.REFUSED): _S.FILLED,
    (_S.FILLED, _H.FOUND_WORKING): _S.WORKING,  # an amend to a larger size was on its way when it filled
    (_S.REJECTED, _H.REFUSED): _S.REJECTED,
    (_S.REJECTED, _H.CANCELLED): _S.REJECTED,
    (_S.REJECTED, _H.ACCEPTED): _S.REJECTED,  # the acknowledgement overtaken by the refusal on the stream
    (_S.REJECTED, _H.AMENDED): _S.REJECTED,
    (_S.REJECTED, _H.AMEND_REFUSED): _S.REJECTED,
    (_S.REJECTED, _H.CANCEL_REFUSED): _S.REJECTED,
    (_S.REJECTED, _H.UNCERTAIN): _S.REJECTED,
    (_S.REJECTED, _H.UNREACHABLE): _S.REJECTED,
    (_S.REJECTED, _H.FOUND_GONE): _S.REJECTED,
    (_S.REJECTED, _H.PARTLY_FILLED): _S.UNKNOWN,  # refused, and it traded: nothing about it is known any more
    (_S.REJECTED, _H.FULLY_FILLED): _S.FILLED,
    (_S.REJECTED, _H.FOUND_WORKING): _S.WORKING,
}

TERMINAL: Final[frozenset[OrderState]] = frozenset({_S.FILLED, _S.CANCELLED, _S.REJECTED})


REVIVALS: Final[frozenset[tuple[OrderState, OrderHappening]]] = frozenset(
    row for row, after in TRANSITIONS.items() if row[0] in TERMINAL and after not in TERMINAL
)
"""The rows by which an order that has ended lives again."""


def next_state(state: OrderState, happening: OrderHappening) -> OrderState:
    """The state after `happening`. Raises IllegalTransition where the table has no such row."""
    try:
        return TRANSITIONS[(state, happening)]
    except KeyError:
        raise IllegalTransition(f"an order that is {state.value} cannot be told it was {happening.value}") from None
