"""What a venue says of one order, read straight from the text in which it says it again and again. Pure.

Nearly every message of the `order` topic is the one before it with other values in it. So the shape of one that was
read whole is kept: what stood between its values, word for word, and which fields those were. Whatever differs from it
in the least is not judged here: it is decoded field by field, which says what is wrong with it, if anything is; and its
shape is the next to be kept. Nothing is known here of the order of fields, nor of what a venue may add to them. An
answer to a request has few fields, and one shape. A test compares both with the patient way.

Character by character, which pays in a compiled bot alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, final

from bot.domain.events import VenueOrder
from bot.venues.bybit import wire
from bot.venues.bybit.decode import SIDES, STATUSES, Grid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_extensions import i64

_PAIR: Final = re.compile(r'"([A-Za-z0-9_]+)":(?:"([^"]*)"|(0|[1-9][0-9]{0,17})(?=[,}]))')
_READ: Final = ("symbol", "orderLinkId", "orderId", "side", "price", "qty", "cumExecQty", "orderStatus")
"""Fields that become an order."""
_VARYING: Final = frozenset(
    ("id", "creationTime", "leavesQty", "leavesValue", "cumExecValue", "cumExecFee", "avgPrice", "createdTime",
     "updatedTime", "closedPnl", "lastPriceOnCreated")
)  # fmt: skip
"""Fields that are not read, and have another value in every message or in many."""
_PASSED_OVER: Final = len(_READ)
_NUMBER: Final = _PASSED_OVER + 1
MISSES_MAX: Final = 8
"""So many messages of another shape in a row, and theirs is kept: two that take turns are not both worth learning."""

_QUOTE: Final = 34
_BACKSLASH: Final = 92
_SPACE: Final = 32
_ZERO: Final = 48
_NINE: Final = 57
_DIGITS_MAX: Final = 18


@final
class OrderText:
    """Reads messages of one order each. `category`: the only one whose orders are ours."""

    def __init__(self, category: str) -> None:
        self._category: Final = category
        self._misses = 0
        self._between: list[str] = []
        """What stands before each value, and behind the last; empty: no shape is known."""
        self._kinds: list[int] = []
        """Of each value: which of `_READ` it is, _PASSED_OVER or _NUMBER."""
        self._values: list[str] = [""] * len(_READ)

    def read(self, text: str, grids: Mapping[str, Grid]) -> VenueOrder | None:
        """The order. None: it is no such message, or has to be looked at more closely. `text`: ASCII."""
        if not self._between or not self._fits(text):
            return None
        symbol, link_id, order_id, side_word, price, qty, filled, status_word = self._values
        grid = grids.get(symbol)
        side, status = SIDES.get(side_word), STATUSES.get(status_word)
        if grid is None or side is None or status is None:
            return None
        ticks, lots, filled_lots = grid.seen_ticks(price), grid.known_lots.get(qty), grid.known_lots.get(filled)
        if ticks <= 0:
            return None
        if lots is None:
            lots = grid.lot_step.count(qty)
            if lots <= 0:
                return None
        if filled_lots is None:
            filled_lots = grid.lot_step.count(filled)
            if filled_lots <= 0:
                return None
        self._misses = 0
        return VenueOrder(symbol, link_id, order_id, side, ticks, lots, filled_lots, status, "", False)

    def learn(self, text: str, rows: list[wire.OrderRow]) -> None:
        """A message that was read whole, and its rows. `text`: ASCII."""
        self._misses += 1
        if (self._between and self._misses < MISSES_MAX) or len(rows) != 1 or "\\" in text:
            return
        row = rows[0]
        if row.reject_reason not in ("", "EC_NoError") or row.category not in ("", self._category):
            return
        between: list[str] = []
        kinds: list[int] = []
        read: dict[str, str] = {}
        at = 0
        for pair in _PAIR.finditer(text):
            name, is_number = pair[1], pair[2] is None
            if name in _READ:
                if is_number or name in read:
                    return
                read[name] = pair[2]
                kinds.append(_READ.index(name))
            elif name in _VARYING:
                kinds.append(_NUMBER if is_number else _PASSED_OVER)
            else:
                continue
            between.append(text[at : pair.start(3 if is_number else 2)])
            at = pair.end(3 if is_number else 2)
        told = [row.symbol, row.order_link_id, row.order_id, row.side, row.price, row.qty, row.cum_exec_qty]
        if [read.get(name) for name in _READ] != [*told, row.order_status]:
            return  # it is written otherwise than it looks
        between.append(text[at:])
        self._between, self._kinds, self._misses = between, kinds, 0

    def _fits(self, text: str) -> bool:
        """Whether it has the shape that is known; its values are in `_values` then."""
        between, kinds, values = self._between, self._kinds, self._values
        size: i64 = len(text)
        at: i64 = 0
        count: i64 = len(kinds)
        number: i64 = 0
        while number < count:
            before = between[number]
            start: i64 = at + len(before)
            if start >= size or text[at:start] != before:
                return False
            at = start
            kind = kinds[number]
            if kind == _NUMBER:
                while at < size and _ZERO <= ord(text[at]) <= _NINE:
                    at += 1
                if at == start or at - start > _DIGITS_MAX or (ord(text[start]) == _ZERO and at - start > 1):
                    return False
            else:
                while at < size:
                    char: i64 = ord(text[at])
                    if char == _QUOTE:
                        break
                    if char < _SPACE or char == _BACKSLASH:
                        return False
                    at += 1
                if kind < _PASSED_OVER:
                    values[kind] = text[start:at]
            number += 1
        return text[at:] == between[count]


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
