"""The words of the venue for an order's terms, states and endings, and for what it refuses: neutral ones.

The words of a real venue's dialect (codes, field names) are chosen in its face, not here.
"""

from __future__ import annotations

from enum import StrEnum

from bot.domain.quick_enum import quick


@quick
class TimeInForce(StrEnum):
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"
    POST_ONLY = "PostOnly"

    __hash__ = str.__hash__


@quick
class SelfMatch(StrEnum):
    """Which order ends where a taker meets one of its own account: by the taker's tag, and NONE lets them trade."""

    NONE = "None"
    CANCEL_MAKER = "CancelMaker"
    CANCEL_TAKER = "CancelTaker"
    CANCEL_BOTH = "CancelBoth"

    __hash__ = str.__hash__


@quick
class Status(StrEnum):
    """`NEW` and `PARTLY_FILLED` work in the book; the others are final."""

    NEW = "new"
    PARTLY_FILLED = "partly_filled"
    FILLED = "filled"
    CANCELLED = "cancelled"

    is_open: bool

    __hash__ = str.__hash__


for _status in Status:
    _status.is_open = _status in (Status.NEW, Status.PARTLY_FILLED)


@quick
class EndReason(StrEnum):
    """Why an order ended other than by being filled."""

    NONE = "none"
    BY_REQUEST = "by_request"
    POST_ONLY_WOULD_TAKE = "post_only_would_take"
    NO_IMMEDIATE_QTY = "no_immediate_qty"
    NOT_ALL_AT_ONCE = "not_all_at_once"
    REDUCE_ONLY = "reduce_only"
    SELF_MATCH = "self_match"
    """It would have traded with another order of its account; that one's id is `self_match_id`."""
    RACED = "raced"
    """Filled; a cancel came too late and found no order any more."""

    __hash__ = str.__hash__


@quick
class Refusal(StrEnum):
    """Why a request was refused: it did not and will not happen."""

    SYMBOL_UNKNOWN = "symbol_unknown"
    QTY_INVALID = "qty_invalid"
    QTY_BELOW_MIN = "qty_below_min"
    QTY_ABOVE_MAX = "qty_above_max"
    NOTIONAL_BELOW_MIN = "notional_below_min"
    PRICE_INVALID = "price_invalid"
    PRICE_OUT_OF_RANGE = "price_out_of_range"
    LINK_ID_INVALID = "link_id_invalid"
    LINK_ID_DUPLICATE = "link_id_duplicate"
    ORDER_NOT_FOUND = "order_not_found"
    ORDER_UNCHANGED = "order_unchanged"
    ORDERS_TOO_MANY = "orders_too_many"
    REDUCE_ONLY = "reduce_only"
    BALANCE_INSUFFICIENT = "balance_insufficient"
    NO_LIQUIDITY = "no_liquidity"
    POST_ONLY_WOULD_TAKE = "post_only_would_take"
    """Spot alone says so at once; a contract's order is taken and ends for that reason."""


class Refused(Exception):
    """A request the venue does not take. `detail` names the value and the allowed range; nothing was changed."""

    def __init__(self, refusal: Refusal, detail: str) -> None:
        super().__init__(detail)
        self.refusal = refusal
        self.detail = detail
