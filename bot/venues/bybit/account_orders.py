"""Open orders of an account as other processes than the bot read them: row by row, so that one hides no other.

A read in which something did not fit, or failed after something was read, is not whole: it raises what it has found
all the same, for whoever must cancel. It proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec

from bot.domain.events import OrderStatus
from bot.domain.order import Side
from bot.venues.bybit import calls, decode, wire
from bot.venues.port import VenueError, VenueGarbled

MS_DIGITS_MAX: Final = 16


class AccountOrder(msgspec.Struct, frozen=True):
    """An open order as the venue shows it, in its own decimals: base and quote per base. Needs no filters.

    `created_ms`: by the venue's clock; None where it does not tell.
    """

    symbol: str
    client_order_id: str
    venue_order_id: str
    side: Side
    price: Decimal
    qty: Decimal
    filled: Decimal
    reduce_only: bool
    created_ms: int | None = None


class OrderName(msgspec.Struct, frozen=True):
    """What can be read of a row that does not fit. Each is empty where the row does not show it as text."""

    symbol: str
    client_order_id: str
    venue_order_id: str


class OrdersNotWhole(VenueError):
    """There are these open orders, and others or other things that could not be read. The message says the first."""

    def __init__(self, error: VenueError, orders: Sequence[AccountOrder], unfit: Sequence[OrderName]) -> None:
        super().__init__(str(error), error.code)
        self.orders = list(orders)
        self.unfit = list(unfit)


class OpenOrders:
    """What a read over all its pages has found so far."""

    def __init__(self) -> None:
        self._orders: list[AccountOrder] = []
        self._unfit: list[OrderName] = []
        self._failed: VenueError | None = None

    def take(self, raw: msgspec.Raw, asked: str) -> None:
        """One row. `asked`: the symbol that was asked for, empty for all; another's rows are left out."""
        try:
            row = wire.decode(wire.OrderRow, raw, calls.OPEN_ORDERS)
            if asked in ("", row.symbol) and _may_work(row):
                self._orders.append(account_order(row))
        except VenueGarbled as error:
            name = _name_of(raw, asked)
            self.fail(VenueGarbled(f"{error}, in the row of {name.client_order_id or name.venue_order_id or 'nobody'}"))
            if (name.client_order_id or name.venue_order_id) and asked in ("", name.symbol):
                self._unfit.append(name)

    def fail(self, error: VenueError) -> None:
        """Something could not be read."""
        self._failed = self._failed or error

    def whole(self) -> list[AccountOrder]:
        """All working orders. Where that is not all: raises what failed first, as OrdersNotWhole where any is known."""
        if self._failed is None:
            return self._orders
        if self._orders or self._unfit:
            raise OrdersNotWhole(self._failed, self._orders, self._unfit) from None
        raise self._failed


def account_order(row: wire.OrderRow) -> AccountOrder:
    """Raises VenueGarbled naming the field that does not fit."""
    return AccountOrder(
        symbol=row.symbol,
        client_order_id=row.order_link_id,
        venue_order_id=row.order_id,
        side=decode.side(row.side, "side"),
        price=decode.decimal(row.price, "price") if row.price else Decimal(0),
        qty=decode.decimal(row.qty, "qty"),
        filled=decode.decimal(row.cum_exec_qty, "cumExecQty"),
        reduce_only=row.reduce_only,
        created_ms=_created_ms(row.created_time),
    )


def _created_ms(told: Any) -> int | None:
    """Never raises: what an order has filled, and that it is there, is true without it."""
    shown = isinstance(told, str) and told.isascii() and told.isdecimal() and len(told) <= MS_DIGITS_MAX
    return int(told) if shown else None


def _may_work(row: wire.OrderRow) -> bool:
    """A status nobody knows is working."""
    try:
        return decode.order_status(row) is OrderStatus.WORKING
    except VenueGarbled:
        return True


def _name_of(raw: msgspec.Raw, asked: str) -> OrderName:
    try:
        shown: dict[str, Any] = wire.decode(dict, raw, calls.OPEN_ORDERS)
    except VenueGarbled:
        shown = {}
    symbol, client_order_id, venue_order_id = (
        value if isinstance(value := shown.get(name), str) else "" for name in ("symbol", "orderLinkId", "orderId")
    )
    return OrderName(symbol or asked, client_order_id, venue_order_id)
