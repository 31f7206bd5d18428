"""What the venue knows of an order, an execution and a refusal, in its own neutral words.

The words of a real venue's dialect (codes, field names) are chosen in its face, not here.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec

from bot.domain.order import Side
from bot.domain.quick_enum import quick
from bot.simulator.funding import Funding


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


class NewOrder(msgspec.Struct, frozen=True, gc=False):
    """What a client asks for. `price_ticks` None: a market order. Decimals are converted by the face."""

    link_id: str
    side: Side
    price_ticks: int | None
    qty_lots: int
    tif: TimeInForce
    reduce_only: bool = False
    self_match: SelfMatch = SelfMatch.NONE


class Order(msgspec.Struct, gc=False):
    """One order of one account. `key` is its place in the sequence of all orders; `filled_cost` is Σ ticks x lots."""

    key: int
    order_id: str
    link_id: str
    account: str
    side: Side
    price_ticks: int
    qty_lots: int
    tif: TimeInForce
    is_market: bool
    reduce_only: bool
    created_at_ns: int
    updated_at_ns: int
    status: Status = Status.NEW
    filled_lots: int = 0
    filled_cost: int = 0
    fee_quote: Decimal = Decimal(0)
    realised_quote: Decimal = Decimal(0)
    """What its fills have realised, fees left out."""
    end_reason: EndReason = EndReason.NONE
    fees: dict[str, Decimal] = {}
    """Spot: what was paid by coin; empty for contracts, whose fees are all quote."""
    self_match: SelfMatch = SelfMatch.NONE
    self_match_id: str = ""
    """The order of the same account that it was kept from trading with."""

    @property
    def left_lots(self) -> int:
        """What may still trade, lots; 0 once the order has ended."""
        status = self.status
        return self.qty_lots - self.filled_lots if status is Status.NEW or status is Status.PARTLY_FILLED else 0


class Execution(msgspec.Struct, frozen=True, gc=False):
    """One fill of one account's order. `fee_quote` positive = paid, negative = rebate."""

    execution_id: str
    sequence: int
    account: str
    order_id: str
    link_id: str
    side: Side
    price_ticks: int
    lots: int
    fee_quote: Decimal
    fee_rate: Decimal
    is_maker: bool
    is_market: bool
    order_price_ticks: int
    order_qty_lots: int
    left_lots: int
    closed_lots: int
    realised_quote: Decimal
    at_ns: int
    fee_coin: str = ""
    """Spot: of which coin `fee_quote` is; empty: quote."""


class PublicTrade(msgspec.Struct, frozen=True, gc=False):
    """One print of the market. `taker` is who crossed the spread."""

    sequence: int
    taker: Side
    price_ticks: int
    lots: int
    at_ns: int

    @property
    def trade_id(self) -> str:
        """Looks like the venue's; made when somebody asks, for most prints nobody does."""
        return f"00000000-0000-4000-8000-{self.sequence:012x}"


class OrderChanged(msgspec.Struct, frozen=True, gc=False):
    """`order` is a copy: what was true at that moment."""

    account: str
    order: Order


class Executed(msgspec.Struct, frozen=True, gc=False):
    """A fill, or a funding settlement: both are executions to the account."""

    account: str
    execution: Execution | Funding


class PositionChanged(msgspec.Struct, frozen=True, gc=False):
    """Fires on every order operation, as on the real venue; read the account for the values."""

    account: str


class WalletChanged(msgspec.Struct, frozen=True, gc=False):
    account: str


class Printed(msgspec.Struct, frozen=True, gc=False):
    trade: PublicTrade


Happening = OrderChanged | Executed | PositionChanged | WalletChanged | Printed
