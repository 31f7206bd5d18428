"""What a venue says of orders, read straight from the text in which it says it again and again. Pure.

Nearly every message of the `order` topic is about orders that are known, and has a new price of each: of an amend it is
one, of a batch of them as many as were in it. So the shape of what was said of an order is kept, with all of it that
stands there word for word, and of the next that has it only the price is read. Whatever differs from it in the least
is not judged here: the message is decoded field by field, which says what is wrong with it, if anything is.

An answer to a request has few fields, and one shape. A test compares both with the patient way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

import msgspec

from bot.domain.events import OrderStatus, VenueOrder
from bot.venues.bybit import wire
from bot.venues.bybit.decode import STATUSES, Grid, venue_order
from bot.venues.bybit.shapes import Shape, shape_of
from bot.venues.port import VenueGarbled

if TYPE_CHECKING:
    from mypy_extensions import i64

_OF_A_MESSAGE: Final = {"id": False, "creationTime": False}
_OF_AN_ORDER: Final = {"price": True, "leavesValue": False, "updatedTime": False}
"""What an amend changes of an order beside its size, which few do."""
_NAME: Final = "order"
_ANOTHER: Final = "7"
"""A value that a shape is proven with: whatever is of one that is read has to change, and nothing else."""
ORDERS_KEPT: Final = 256
VAIN_MAX: Final = 32
"""So many shapes made that nothing fitted, and no more are: what comes here never says the same again."""
_WORKING: Final = OrderStatus.WORKING

_BACKSLASH: Final = 92
_COMMA: Final = 44
_QUOTE: Final = 34
_SPACE: Final = 32
_ZERO: Final = 48
_NINE: Final = 57
_DIGITS_MAX: Final = 18


@final
class _Known:
    """What was said of a working order, and the order: all of it but the price is in the shape."""

    __slots__ = (
        "client_order_id", "filled_lots", "follower", "grid", "qty_lots", "shape", "side", "symbol", "venue_order_id"
    )  # fmt: skip

    def __init__(self, shape: Shape, grid: Grid, order: VenueOrder) -> None:
        self.shape: Final = shape
        self.grid: Final = grid
        self.symbol: Final = order.symbol
        self.client_order_id: Final = order.client_order_id
        self.venue_order_id: Final = order.venue_order_id
        self.side: Final = order.side
        self.qty_lots: Final = order.qty_lots
        self.filled_lots: Final = order.filled_lots
        self.follower: _Known | None = None
        """What was read after it the last time."""

    def at(self, price_ticks: int) -> VenueOrder:
        """The order at that price."""
        return VenueOrder(
            self.symbol, self.client_order_id, self.venue_order_id, self.side, price_ticks, self.qty_lots,
            self.filled_lots, _WORKING, "", False,
        )  # fmt: skip


@final
class OrderText:
    """Reads messages about orders. `category`: the only one whose orders are ours."""

    def __init__(self, category: str) -> None:
        self._category: Final = category
        self._head: Shape | None = None
        self._behind = ""
        """The last order of a message."""
        self._known: dict[str, _Known] = {}
        """By all that is said of an order before its first value that may be another: its id is in it."""
        self._lengths: list[int] = []
        """Of those."""
        self._last: _Known | None = None
        """What was read last."""
        self._told_once: dict[str, None] = {}
        """Ids of orders of which a single message was read: many an order has no second one worth a shape."""
        self._vain = 0

    def read(self, text: str, grids: dict[str, Grid]) -> list[VenueOrder]:
        """Its orders. Empty: it is no such message, or has to be looked at more closely. `text`: ASCII."""
        found: list[VenueOrder] = []
        head = self._head
        if head is None or not text.startswith(head.opening):
            return found
        raw = text.encode()
        at: i64 = head.end_in(text, raw, len(head.opening))
        size: i64 = len(raw)
        while 0 <= at < size:
            known = self._known_at(text, at)
            if known is None:
                break
            shape = known.shape
            at = shape.end_in(text, raw, at + len(shape.opening))
            ticks = known.grid.seen_ticks(shape.values[0]) if at >= 0 else 0
            if ticks <= 0 or grids.get(known.symbol) is not known.grid:
                break
            found.append(known.at(ticks))
            if at < size and raw[at] == _COMMA:
                at += 1
            elif text[at:] == self._behind:
                self._vain = 0
                return found
            else:
                break
        return []

    def _known_at(self, text: str, at: i64) -> _Known | None:
        last = self._last
        found = None if last is None else last.follower  # quotes take turns
        if found is not None:
            opening = found.shape.opening
            if text[at : at + len(opening)] != opening:
                found = None
        if found is None:
            for length in self._lengths:
                found = self._known.get(text[at : at + length])
                if found is not None:
                    break
            else:
                return None
            if last is not None:
                last.follower = found
        self._last = found
        return found

    def learn(self, text: str, rows: list[wire.OrderRow], grids: dict[str, Grid]) -> None:
        """A message that was read whole, and its rows. `text`: ASCII."""
        due = [row for row in rows if self._is_due(row, grids)]
        if not due or self._vain >= VAIN_MAX:
            return
        try:
            pieces = _pieces(text)
            for row, raw in zip(rows, pieces[1:-1], strict=True):
                if row in due:
                    self._learn_order(raw, row, grids[row.symbol])
            self._learn_message(pieces[0], pieces[-1])
        except VenueGarbled:
            return

    def _is_due(self, row: wire.OrderRow, grids: dict[str, Grid]) -> bool:
        plain = row.reject_reason in ("", "EC_NoError") and row.category in ("", self._category)
        if not plain or row.symbol not in grids or STATUSES.get(row.order_status) is not _WORKING:
            return False
        if row.order_id in self._told_once:
            del self._told_once[row.order_id]
            return True
        if len(self._told_once) >= ORDERS_KEPT:
            self._told_once.clear()
        self._told_once[row.order_id] = None
        return False

    def _learn_order(self, raw: str, row: wire.OrderRow, grid: Grid) -> None:
        """Raises VenueGarbled."""
        shape = shape_of(raw, _OF_AN_ORDER)
        if shape is None or len(shape.names) != 1:
            return
        shown = wire.decode(wire.OrderRow, shape.with_values([_ANOTHER], _ANOTHER), _NAME)
        if shown != msgspec.structs.replace(row, price=_ANOTHER):
            return
        if len(self._known) >= ORDERS_KEPT:
            self._known.clear()
        for known in self._known.values():  # it may be the one that this replaces
            known.follower = None
        self._last = None
        self._known[shape.opening] = _Known(shape, grid, venue_order(row, grid.instrument, grid))
        self._lengths = sorted({len(opening) for opening in self._known})
        self._vain += 1

    def _learn_message(self, head: str, behind: str) -> None:
        """What stands before its orders and behind them. Raises VenueGarbled."""
        shape = shape_of(head, _OF_A_MESSAGE)
        if shape is None:
            return
        shown = wire.account_push(shape.with_values([], _ANOTHER) + behind)
        if isinstance(shown, wire.OrderPush) and not shown.data:
            self._head, self._behind = shape, behind


def _pieces(text: str) -> list[str]:
    """A message cut into what stands before its orders, each of them, and what stands behind. Raises VenueGarbled."""
    data = wire.decode(wire.Push, text, _NAME).data
    rows = [bytes(raw).decode() for raw in wire.decode_rows(msgspec.Raw, data, _NAME)]
    listed = ",".join(rows)
    head, found, behind = text.partition(f"[{listed}]")
    if not found or listed in behind:
        raise VenueGarbled(f"{_NAME}: not written as the venue writes")
    return [f"{head}[", *rows, f"]{behind}"]


_ACK: Final = '{"retCode":0,"retMsg":"OK","result":{"orderId":"'
_LINK: Final = '","orderLinkId":"'
_BEHIND: Final = '"},"retExtInfo":{},"time":'
_BEYOND: Final = 127
"""From here on no character is of an id, nor is it ASCII."""


def acknowledged_text(body: bytes) -> str:
    """The venue's id of the order that a success of one order is about; empty: it has to be looked at more closely."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return ""
    start: i64 = len(_ACK)
    if text[:start] != _ACK:
        return ""
    end = _id_end(text, start)
    at: i64 = end + len(_LINK)
    if end < 0 or text[end:at] != _LINK:
        return ""
    end_of_link = _id_end(text, at)
    at = end_of_link + len(_BEHIND)
    if end_of_link < 0 or text[end_of_link:at] != _BEHIND:
        return ""
    first: i64 = at
    size: i64 = len(text)
    while at < size and _ZERO <= ord(text[at]) <= _NINE:
        at += 1
    digits: i64 = at - first
    if digits < 1 or digits > _DIGITS_MAX or (ord(text[first]) == _ZERO and digits > 1) or text[at:] != "}":
        return ""
    return text[start:end]


def _id_end(text: str, at: i64) -> i64:
    """Where the quote stands that ends an id; below 0 where something is in it that wants a closer look."""
    size: i64 = len(text)
    while at < size:
        char: i64 = ord(text[at])
        if char == _QUOTE:
            return at
        if char < _SPACE or char == _BACKSLASH or char >= _BEYOND:
            return -1
        at += 1
    return -1
