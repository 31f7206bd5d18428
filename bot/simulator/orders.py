"""What the venue knows of an order, an execution and what happened, in its own neutral words.

Plain classes, because the simulation makes and reads them by the thousand a second and nobody ever encodes them. All
but `Order` are written once and only read from then on.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from bot.domain.order import Side
from bot.simulator.funding import Funding
from bot.simulator.order_terms import EndReason, Refusal, Refused, SelfMatch, Status, TimeInForce

__all__ = [
    "EndReason", "Executed", "Execution", "Happening", "NewOrder", "Order", "OrderChanged", "PositionChanged",
    "Printed", "PublicTrade", "Refusal", "Refused", "SelfMatch", "Status", "TimeInForce", "WalletChanged",
]  # fmt: skip

_NEW: Final = Status.NEW
_PARTLY_FILLED: Final = Status.PARTLY_FILLED
_LET_TRADE: Final = SelfMatch.NONE
_NO_REASON: Final = EndReason.NONE
_NOTHING: Final = Decimal(0)
_NO_FEES: Final[dict[str, Decimal]] = {}
"""Of all orders that have paid none yet: it is replaced, never written to."""


class NewOrder:
    """What a client asks for. `price_ticks` None: a market order. Decimals are converted by the face."""

    __slots__ = ("link_id", "price_ticks", "qty_lots", "reduce_only", "self_match", "side", "tif")

    def __init__(
        self, link_id: str, side: Side, price_ticks: int | None, qty_lots: int, tif: TimeInForce,
        reduce_only: bool = False, self_match: SelfMatch = _LET_TRADE,
    ) -> None:  # fmt: skip
        self.link_id: Final = link_id
        self.side: Final = side
        self.price_ticks: Final = price_ticks
        self.qty_lots: Final = qty_lots
        self.tif: Final = tif
        self.reduce_only: Final = reduce_only
        self.self_match: Final = self_match


class Order:
    """One order of one account. `key` is its place in the sequence of all orders; `filled_cost` is Σ ticks x lots.

    `realised_quote`: what its fills have realised, fees left out. `fees`: spot, what was paid by coin; empty for
    contracts, whose fees are all quote. `self_match_id`: the order of the same account that it was kept from trading
    with.
    """

    __slots__ = (
        "account", "created_at_ns", "end_reason", "fee_quote", "fees", "filled_cost", "filled_lots", "is_market", "key",
        "link_id", "order_id", "price_ticks", "qty_lots", "realised_quote", "reduce_only", "self_match",
        "self_match_id", "side", "status", "tif", "updated_at_ns",
    )  # fmt: skip

    def __init__(
        self, key: int, order_id: str, link_id: str, account: str, side: Side, price_ticks: int, qty_lots: int,
        tif: TimeInForce, is_market: bool, reduce_only: bool, created_at_ns: int, updated_at_ns: int,
        self_match: SelfMatch = _LET_TRADE,
    ) -> None:  # fmt: skip
        self.key: Final = key
        self.order_id: Final = order_id
        self.link_id: Final = link_id
        self.account: Final = account
        self.side: Final = side
        self.price_ticks = price_ticks
        self.qty_lots = qty_lots
        self.tif: Final = tif
        self.is_market: Final = is_market
        self.reduce_only: Final = reduce_only
        self.created_at_ns: Final = created_at_ns
        self.updated_at_ns = updated_at_ns
        self.self_match: Final = self_match
        self.status = _NEW
        self.filled_lots = 0
        self.filled_cost = 0
        self.fee_quote = _NOTHING
        self.realised_quote = _NOTHING
        self.end_reason = _NO_REASON
        self.fees = _NO_FEES
        self.self_match_id = ""

    @property
    def is_open(self) -> bool:
        """Whether it still works."""
        status = self.status
        return status is _NEW or status is _PARTLY_FILLED

    @property
    def left_lots(self) -> int:
        """What may still trade, lots; 0 once the order has ended."""
        status = self.status
        return self.qty_lots - self.filled_lots if status is _NEW or status is _PARTLY_FILLED else 0

    def as_it_stands(self) -> Order:
        """A copy that does not change with it."""
        copy = Order(
            self.key, self.order_id, self.link_id, self.account, self.side, self.price_ticks, self.qty_lots, self.tif,
            self.is_market, self.reduce_only, self.created_at_ns, self.updated_at_ns, self.self_match,
        )  # fmt: skip
        copy.status = self.status
        copy.end_reason = self.end_reason
        if self.filled_lots:
            copy.filled_lots = self.filled_lots
            copy.filled_cost = self.filled_cost
            copy.fee_quote = self.fee_quote
            copy.realised_quote = self.realised_quote
            copy.fees = self.fees
        if self.self_match_id:
            copy.self_match_id = self.self_match_id
        return copy


class Execution:
    """One fill of one account's order. `fee_quote` positive = paid, negative = rebate.

    `fee_coin`, spot: of which coin `fee_quote` is; empty: quote.
    """

    __slots__ = (
        "account", "at_ns", "closed_lots", "execution_id", "fee_coin", "fee_quote", "fee_rate", "is_maker", "is_market",
        "left_lots", "link_id", "lots", "order_id", "order_price_ticks", "order_qty_lots", "price_ticks",
        "realised_quote", "sequence", "side",
    )  # fmt: skip

    def __init__(
        self, execution_id: str, sequence: int, order: Order, price_ticks: int, lots: int, fee_quote: Decimal,
        fee_rate: Decimal, is_maker: bool, left_lots: int, closed_lots: int, realised_quote: Decimal, at_ns: int,
        fee_coin: str = "",
    ) -> None:  # fmt: skip
        self.execution_id: Final = execution_id
        self.sequence: Final = sequence
        self.account: Final = order.account
        self.order_id: Final = order.order_id
        self.link_id: Final = order.link_id
        self.side: Final = order.side
        self.price_ticks: Final = price_ticks
        self.lots: Final = lots
        self.fee_quote: Final = fee_quote
        self.fee_rate: Final = fee_rate
        self.is_maker: Final = is_maker
        self.is_market: Final = order.is_market
        self.order_price_ticks: Final = order.price_ticks
        self.order_qty_lots: Final = order.qty_lots
        self.left_lots: Final = left_lots
        self.closed_lots: Final = closed_lots
        self.realised_quote: Final = realised_quote
        self.at_ns: Final = at_ns
        self.fee_coin: Final = fee_coin


class PublicTrade:
    """One print of the market. `taker` is who crossed the spread."""

    __slots__ = ("at_ns", "lots", "price_ticks", "sequence", "taker")

    def __init__(self, sequence: int, taker: Side, price_ticks: int, lots: int, at_ns: int) -> None:
        self.sequence: Final = sequence
        self.taker: Final = taker
        self.price_ticks: Final = price_ticks
        self.lots: Final = lots
        self.at_ns: Final = at_ns

    @property
    def trade_id(self) -> str:
        """Looks like the venue's; made when somebody asks, for most prints nobody does."""
        return f"00000000-0000-4000-8000-{self.sequence:012x}"


class OrderChanged:
    """`order` is a copy: what was true at that moment."""

    __slots__ = ("account", "order")

    def __init__(self, account: str, order: Order) -> None:
        self.account: Final = account
        self.order: Final = order


class Executed:
    """A fill, or a funding settlement: both are executions to the account."""

    __slots__ = ("account", "execution")

    def __init__(self, account: str, execution: Execution | Funding) -> None:
        self.account: Final = account
        self.execution: Final = execution


class PositionChanged:
    """Fires on every order operation, as on the real venue; read the account for the values."""

    __slots__ = ("account",)

    def __init__(self, account: str) -> None:
        self.account: Final = account


class WalletChanged:
    __slots__ = ("account",)

    def __init__(self, account: str) -> None:
        self.account: Final = account


class Printed:
    __slots__ = ("trade",)

    def __init__(self, trade: PublicTrade) -> None:
        self.trade: Final = trade


Happening = OrderChanged | Executed | PositionChanged | WalletChanged | Printed
