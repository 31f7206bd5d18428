"""Successes of operations on the trade socket, read straight from the text in which the venue says them. Pure.

As `bot.venues.bybit.account_text` reads orders: by the shape of one that was read whole, however many orders are in it.
All else that this socket says, refusals and what succeeded in part among it, is decoded field by field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

import msgspec

from bot.venues.bybit import calls, wire
from bot.venues.bybit.rate_limits import header_number, lowered
from bot.venues.bybit.shapes import Shape, shape_of
from bot.venues.port import VenueGarbled

if TYPE_CHECKING:
    from mypy_extensions import i64

_NAME: Final = "trade"
_NUMBER: Final = "reqId"
_ORDER_ID: Final = "orderId"
_LINK_ID: Final = "orderLinkId"
_LIMIT: Final = "X-Bapi-Limit"
_LEFT: Final = "X-Bapi-Limit-Status"
_RESETS: Final = "X-Bapi-Limit-Reset-Timestamp"
_OF_A_HEAD: Final = {_NUMBER: True}
_OF_AN_ORDER: Final = {_ORDER_ID: True, _LINK_ID: True, "createAt": False}
_OF_A_TAIL: Final = {_LEFT: True, _RESETS: True, "Traceid": False, "Timenow": False}
_COMMA: Final = 44
_ORDERS_MAX: Final = max(calls.BATCH_MAX.values())
_LIST: Final = '{"list":['
_LISTED: Final = "]}"
KEPT: Final = 64
"""Heads and tails, of which each operation has one, and orders, of which each symbol has."""
ROWS_KEPT: Final = 256
VAIN_MAX: Final = 32
"""So many shapes made that nothing fitted, and no more are: what comes here never says the same again."""


@final
class Acknowledged:
    """A success of all that was asked for. `number`: of the request; `limit`, `left`, `resets_ms`: as its headers say.

    `order_ids`, `link_ids`: the venue's id and ours of each order. `is_batch`: whether it is the answer to one.
    """

    __slots__ = ("is_batch", "left", "limit", "link_ids", "number", "order_ids", "resets_ms")

    def __init__(
        self,
        number: str,
        limit: int,
        left: int,
        resets_ms: int,
        order_ids: list[str],
        link_ids: list[str],
        is_batch: bool,
    ) -> None:
        self.number: Final = number
        self.limit: Final = limit
        self.left: Final = left
        self.resets_ms: Final = resets_ms
        self.order_ids: Final = order_ids
        self.link_ids: Final = link_ids
        self.is_batch: Final = is_batch

    def answers(self, orders: int) -> bool:
        """Whether it is what a request with so many orders is answered with: more than one leave as a batch."""
        return len(self.order_ids) == orders and self.is_batch == (orders > 1)


@final
class _Around:
    """What stands before the orders of a success and behind them. `end`: what is said of each further on; empty: it is
    no batch's."""

    __slots__ = ("_middles", "_opening", "end", "head", "limit", "tail")

    def __init__(self, head: Shape, opening: str, end: str, tail: Shape, limit: int) -> None:
        self.head: Final = head
        self._opening: Final = opening
        self.end: Final = end
        self.tail: Final = tail
        self.limit: Final = limit
        self._middles: list[str] = []

    def middle(self, orders: int) -> str:
        """What stands between so many orders and the tail's first value."""
        middles = self._middles
        while len(middles) <= orders:
            middles.append(f"{self._opening}{','.join([self.end] * len(middles))}{self.tail.opening}")
        return middles[orders]

    def said(self, number: str, order_ids: list[str], link_ids: list[str]) -> Acknowledged | None:
        """None: the venue does not say how much it still takes."""
        left, resets_ms = header_number(self.tail.values[0]), header_number(self.tail.values[1])
        if left is None or resets_ms is None:
            return None
        return Acknowledged(number, self.limit, left, resets_ms, order_ids, link_ids, bool(self.end))

    def text(self, number: str, orders: list[str], left: str, resets: str, passed_over: str) -> str:
        """A success with those values."""
        tail = self.tail.with_values([left, resets], passed_over)[len(self.tail.opening) :]
        return f"{self.head.with_values([number], passed_over)}{','.join(orders)}{self.middle(len(orders))}{tail}"


@final
class _Row:
    """What a success says of one order, and the ids in it: the venue's, and ours."""

    __slots__ = ("follower", "link_id", "order_id", "text")

    def __init__(self, text: str, order_id: str, link_id: str) -> None:
        self.text: Final = text
        self.order_id: Final = order_id
        self.link_id: Final = link_id
        self.follower: _Row | None = None
        """What was read after it the last time."""


@final
class AnswerText:
    """Reads successes of one or several orders."""

    def __init__(self) -> None:
        self._around: list[_Around] = []
        """The one that fitted last is first."""
        self._orders: dict[str, Shape] = {}
        """By all that is said of an order before its first value that may be another."""
        self._lengths: list[int] = []
        """Of those."""
        self._order: Shape | None = None
        """The one that fitted last."""
        self._rows: dict[str, _Row] = {}
        """Word for word: of an order that is moved the same is said every time."""
        self._row: _Row | None = None
        """What was read last."""
        self._vain = 0

    def read(self, text: str) -> Acknowledged | None:
        """None: it is no such, or has to be looked at more closely. `text`: ASCII."""
        for place, around in enumerate(self._around):
            said = self._read(text, around)
            if said is not None:
                self._vain = 0
                if place:
                    self._around.insert(0, self._around.pop(place))
                return said
        return None

    def _read(self, text: str, around: _Around) -> Acknowledged | None:
        head, tail = around.head, around.tail
        if not text.startswith(head.opening):
            return None
        raw = text.encode()
        size: i64 = len(raw)
        at: i64 = head.end_in(text, raw, len(head.opening))
        order_ids: list[str] = []
        link_ids: list[str] = []
        while 0 <= at < size:
            row = self._row_at(text, raw, at)
            if row is None:
                return None
            at += len(row.text)
            order_ids.append(row.order_id)
            link_ids.append(row.link_id)
            if not around.end or len(order_ids) == _ORDERS_MAX or at >= size or raw[at] != _COMMA:
                break
            at += 1
        middle = around.middle(len(order_ids))
        first: i64 = at
        at += len(middle)
        if first < 0 or text[first:at] != middle or tail.end_in(text, raw, at) != size:
            return None
        return around.said(head.values[0], order_ids, link_ids)

    def _row_at(self, text: str, raw: bytes, at: i64) -> _Row | None:
        """What is said there of an order; None: nothing that is known."""
        last = self._row
        row = None if last is None else last.follower  # quotes take turns
        if row is None or text[at : at + len(row.text)] != row.text:
            order = self._order_at(text, at)
            if order is None:
                return None
            end: i64 = order.end_in(text, raw, at + len(order.opening))
            if end < 0:
                return None
            said = text[at:end]
            row = self._rows.get(said)
            if row is None:
                if len(self._rows) >= ROWS_KEPT:
                    self._rows.clear()
                row = self._rows[said] = _Row(said, order.values[0], order.values[1])
            if last is not None:
                last.follower = row
        self._row = row
        return row

    def _order_at(self, text: str, at: i64) -> Shape | None:
        order = self._order
        if order is not None and text[at : at + len(order.opening)] == order.opening:
            return order
        for length in self._lengths:
            order = self._orders.get(text[at : at + length])
            if order is not None:
                self._order = order
                return order
        return None

    def learn(self, text: str, answer: wire.TradeAnswer, orders: int) -> None:
        """What was read whole, the answer to an operation with so many orders. `text`: ASCII."""
        if answer.ret_code or self._vain >= VAIN_MAX:
            return
        try:
            self._learn(text, answer, orders)
        except VenueGarbled:
            return

    def _learn(self, text: str, answer: wire.TradeAnswer, orders: int) -> None:
        """Raises VenueGarbled for what is no such success, or is written otherwise than the venue writes."""
        data, info = bytes(answer.data).decode(), bytes(answer.ret_ext_info).decode()
        rows = _listed(answer.data) if orders > 1 else [data]
        ends = _listed(answer.ret_ext_info) if orders > 1 else [""]
        before, found, behind = text.partition(_joined(rows) if orders > 1 else data)
        middle, found_too, last = behind.partition(info)
        limit = header_number(lowered(answer.header).get(_LIMIT.lower(), ""))
        if not (found and found_too and limit and len(rows) == len(ends) == orders and len(set(ends)) == 1):
            return
        if orders > 1:
            if info != _joined(ends):
                return
            before, middle, last = f"{before}{_LIST}", f"{_LISTED}{middle}{_LIST}", f"{_LISTED}{last}"
        else:
            middle, last = "", f"{middle}{info}{last}"
        head, tail = shape_of(before, _OF_A_HEAD), shape_of(last, _OF_A_TAIL)
        shapes = [shape_of(row, _OF_AN_ORDER) for row in rows]
        if head is None or tail is None or tail.names != [_LEFT, _RESETS] or len(head.names) != 1:
            return
        around = _Around(head, middle, ends[0], tail, limit)
        for shape in shapes:
            if shape is None or shape.names != [_ORDER_ID, _LINK_ID] or not _is_proven(around, shape, answer, orders):
                return
        self._keep(around, [shape for shape in shapes if shape is not None])

    def _keep(self, around: _Around, orders: list[Shape]) -> None:
        if len(self._around) + len(self._orders) >= KEPT:
            self._around, self._orders, self._order = [], {}, None
        shown = around.text("", [""], "", "", "")
        if not any(known.text("", [""], "", "", "") == shown for known in self._around):
            self._around.insert(0, around)
        for shape in orders:
            self._orders[shape.opening] = shape
        self._lengths = sorted({len(opening) for opening in self._orders})
        self._order = self._row = None
        self._rows.clear()
        self._vain += 1


def _listed(raw: msgspec.Raw) -> list[str]:
    rows = wire.decode(wire.RawList, raw, _NAME).rows
    return [bytes(row).decode() for row in rows]


def _joined(rows: list[str]) -> str:
    return f"{_LIST}{','.join(rows)}{_LISTED}"


def _is_proven(around: _Around, order: Shape, answer: wire.TradeAnswer, orders: int) -> bool:
    """Whether a text of those shapes with other values in it says them, and is the same success else.

    Raises VenueGarbled where it is none.
    """
    order_ids, link_ids = ([f"{kind}{number}" for number in range(orders)] for kind in "vl")
    rows = [order.with_values([*ids], "7") for ids in zip(order_ids, link_ids, strict=True)]
    told = wire.decode(wire.TradeAnswer, around.text("1-2", rows, "3", "4", "7"), _NAME)
    if orders > 1:
        acks = wire.decode(wire.BatchAck, told.data, _NAME).rows
        codes = [end.code for end in wire.decode(wire.BatchEnds, told.ret_ext_info, _NAME).rows]
    else:
        acks, codes = [wire.decode(wire.OrderAck, told.data, _NAME)], [0]
    headers = lowered(told.header)
    numbers = [header_number(headers.get(name.lower(), "")) for name in (_LIMIT, _LEFT, _RESETS)]
    return (
        (told.ret_code, told.op, told.req_id) == (0, answer.op, "1-2")
        and numbers == [around.limit, 3, 4]
        and [ack.order_id for ack in acks] == order_ids
        and [ack.order_link_id for ack in acks] == link_ids
        and codes == [0] * orders
    )
