"""Successes of operations on the trade socket, read straight from the text in which the venue says them. Pure.

As `bot.venues.bybit.account_text` reads orders: by the shape of one that was read whole. All else that this socket
says, refusals and what succeeded in part among it, is decoded field by field.
"""

from __future__ import annotations

from typing import Final, final

from bot.venues.bybit import wire
from bot.venues.bybit.rate_limits import header_number, lowered
from bot.venues.bybit.shapes import Shape, shape_of
from bot.venues.port import VenueGarbled

_NAME: Final = "trade"
_NUMBER: Final = "reqId"
_ORDER_ID: Final = "orderId"
_LINK_ID: Final = "orderLinkId"
_LEFT: Final = "X-Bapi-Limit-Status"
_RESETS: Final = "X-Bapi-Limit-Reset-Timestamp"
_FIELDS: Final = {
    _NUMBER: True, _ORDER_ID: True, _LINK_ID: True, _LEFT: True, _RESETS: True, "Traceid": False, "Timenow": False,
}  # fmt: skip
SHAPES_KEPT: Final = 8
"""One for each operation and number of orders in it: more than a bot has that quotes both sides."""
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
class _Known:
    """The shape of a success, and which of its values is what."""

    __slots__ = ("is_batch", "left_at", "limit", "links_at", "number_at", "orders_at", "resets_at", "shape")

    def __init__(self, shape: Shape, limit: int, *, is_batch: bool) -> None:
        names = shape.names
        self.shape: Final = shape
        self.limit: Final = limit
        self.is_batch: Final = is_batch
        self.number_at: Final[int] = names.index(_NUMBER)
        self.left_at: Final[int] = names.index(_LEFT)
        self.resets_at: Final[int] = names.index(_RESETS)
        self.orders_at: Final = [at for at, name in enumerate(names) if name == _ORDER_ID]
        self.links_at: Final = [at for at, name in enumerate(names) if name == _LINK_ID]

    def said(self, values: list[str]) -> Acknowledged | None:
        """None: the venue does not say how much it still takes."""
        left, resets_ms = header_number(values[self.left_at]), header_number(values[self.resets_at])
        if left is None or resets_ms is None:
            return None
        order_ids: list[str] = []
        link_ids: list[str] = []
        for at in self.orders_at:
            order_ids.append(values[at])
        for at in self.links_at:
            link_ids.append(values[at])
        return Acknowledged(values[self.number_at], self.limit, left, resets_ms, order_ids, link_ids, self.is_batch)


@final
class AnswerText:
    """Reads successes of one or several orders."""

    def __init__(self) -> None:
        self._known: list[_Known] = []
        """The one that fitted last is first."""
        self._vain = 0

    def read(self, text: str) -> Acknowledged | None:
        """None: it is no such, or has to be looked at more closely. `text`: ASCII."""
        for number, known in enumerate(self._known):
            shape = known.shape
            if text.startswith(shape.opening) and shape.end_in(text, len(shape.opening)) == len(text):
                self._vain = 0
                if number:
                    self._known.insert(0, self._known.pop(number))
                return known.said(shape.values)
        return None

    def learn(self, text: str, answer: wire.TradeAnswer, orders: int) -> None:
        """What was read whole, the answer to an operation with so many orders. `text`: ASCII."""
        if answer.ret_code or self._vain >= VAIN_MAX:
            return
        shape = shape_of(text, _FIELDS)
        if shape is None or sorted(shape.names) != sorted([_NUMBER, _LEFT, _RESETS, *[_ORDER_ID, _LINK_ID] * orders]):
            return
        limit = header_number(lowered(answer.header).get(_LIMIT, ""))
        if not limit:
            return
        known = _Known(shape, limit, is_batch=orders > 1)
        if _is_proven(known, answer, orders):
            self._known = [known, *self._known[: SHAPES_KEPT - 1]]
            self._vain += 1


_LIMIT: Final = "x-bapi-limit"


def _is_proven(known: _Known, answer: wire.TradeAnswer, orders: int) -> bool:
    """Whether a text of that shape with other values in it says those, and is the same success else."""
    values = [str(100 + at) for at in range(len(known.shape.names))]
    said = known.said(values)
    try:
        told = wire.decode(wire.TradeAnswer, known.shape.with_values(values, "7"), _NAME)
        if orders > 1:
            acks = wire.decode(wire.BatchAck, told.data, _NAME).rows
            codes = [end.code for end in wire.decode(wire.BatchEnds, told.ret_ext_info, _NAME).rows]
        else:
            acks, codes = [wire.decode(wire.OrderAck, told.data, _NAME)], [0]
    except VenueGarbled:
        return False
    headers = lowered(told.header)
    numbers = [header_number(headers.get(name.lower(), "")) for name in (_LIMIT, _LEFT, _RESETS)]
    return (
        said is not None
        and (told.ret_code, told.op, told.req_id) == (0, answer.op, said.number)
        and numbers == [said.limit, said.left, said.resets_ms]
        and [(ack.order_id, ack.order_link_id) for ack in acks] == list(zip(said.order_ids, said.link_ids, strict=True))
        and codes == [0] * orders
    )
