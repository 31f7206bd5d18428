"""Amendments in batches, read straight from the text in which a client writes them again and again. Pure.

A client that quotes moves the same few orders all the time: of one request to the next nothing changes but its number,
its time and the prices. So what was decoded once is remembered word for word, and of a request that says the same only
those values are read. One that differs in the least is not judged here: it is decoded, which says what is wrong.

Character by character, which pays in a compiled bot alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from bot.simulator.accounts import Holder
from bot.simulator.bybit_access import V5Error, whole
from bot.simulator.bybit_numbers import DIGITS_MAX, NOT_PLAIN
from bot.simulator.bybit_orders import BATCH_MAX, Desk, Params, desk_of, lots_of
from bot.simulator.bybit_written import quoted, written_of
from bot.simulator.exchange import Exchange

if TYPE_CHECKING:
    from mypy_extensions import i64


def _is_compiled() -> bool:
    return not hasattr(_is_compiled, "__code__")


IS_COMPILED: Final = _is_compiled()

OPERATION: Final = "order.amend-batch"
ORDERS_KEPT: Final = 64
_HEAD: Final = '{"reqId":"'
_STAMP: Final = '","header":{"X-BAPI-TIMESTAMP":"'
_WINDOW: Final = '","X-BAPI-RECV-WINDOW":"'
_PRICE: Final = ',"price":"'
_BEHIND_A_PRICE: Final = '"}'
_END: Final = "]}]}"
_NAMES: Final = ["symbol", "orderLinkId", "qty"]
"""Of an order, before its price: in this turn, and no others."""

_QUOTE: Final = 34
_BACKSLASH: Final = 92
_SPACE: Final = 32
_COMMA: Final = 44
_POINT: Final = 46
_ZERO: Final = 48
_NINE: Final = 57
_NO_NUMBER: Final = -1


@final
class Known:
    """An order as a client names it, with the size that he wants it to have. `opening`: all that is said before its
    new price. `row`: what answers that it was amended."""

    __slots__ = ("desk", "follower", "link_id", "opening", "places", "qty_lots", "row", "symbol")

    def __init__(self, opening: str, desk: Desk, order_id: str, link_id: str, qty_lots: int) -> None:
        instrument = desk.venue.instrument
        self.opening: Final = opening
        self.desk: Final = desk
        self.symbol: Final = instrument.symbol
        self.link_id: Final = link_id
        self.qty_lots: Final = qty_lots
        self.places: Final = written_of(instrument).prices.places
        self.row: Final = (
            f'{{"category":"{desk.category}","symbol":"{self.symbol}",'
            f'"orderId":"{order_id}","orderLinkId":"{link_id}"}}'
        )
        self.follower: Known | None = None
        """What was read after it the last time."""


@final
class Amends:
    """A request that was read: its number, its time and window, and the new price of each of its orders."""

    __slots__ = ("number", "orders", "prices_ticks", "stamp_ms", "window_ms")

    def __init__(self, number: str, stamp_ms: int, window_ms: int) -> None:
        self.number: Final = number
        self.stamp_ms: Final = stamp_ms
        self.window_ms: Final = window_ms
        self.orders: Final[list[Known]] = []
        self.prices_ticks: Final[list[int]] = []


@final
class AmendTexts:
    """Reads requests of one holder. Of each order only how it is named is remembered: it may have ended since."""

    def __init__(self, exchange: Exchange, holder: Holder) -> None:
        self._exchange = exchange
        self._holder = holder
        self._category = ""
        """Of all that is known."""
        self._before_orders = ""
        """What stands between a request's time and its orders."""
        self._window_ms = 0
        self._orders_max = 0
        self._known: dict[str, Known] = {}
        """By all that is said of an order before its price."""
        self._last: Known | None = None
        """What was read last."""
        self._scanned_to: i64 = 0

    def read(self, text: str) -> Amends | None:
        """None: it is no such request, or has to be decoded."""
        if not self._before_orders or not text.startswith(_HEAD) or not text.isascii():
            return None
        try:
            return self._read(text)
        except IndexError:
            return None

    def _read(self, text: str) -> Amends | None:
        first: i64 = len(_HEAD)
        at: i64 = first
        char: i64 = ord(text[at])
        while char != _QUOTE:
            if char < _SPACE or char == _BACKSLASH:
                return None
            at += 1
            char = ord(text[at])
        stamped: i64 = at + len(_STAMP)
        if at == first or text[at:stamped] != _STAMP:
            return None
        stamp_ms = self._units(text, stamped, 0)
        number_end: i64 = at
        at = self._scanned_to + len(self._before_orders)
        if stamp_ms <= 0 or text[self._scanned_to : at] != self._before_orders:
            return None
        amends = Amends(text[first:number_end], stamp_ms, self._window_ms)
        orders, prices_ticks = amends.orders, amends.prices_ticks
        while True:
            known = self._known_at(text, at)
            if known is None:
                return None
            ticks = self._units(text, at + len(known.opening), known.places)
            at = self._scanned_to
            if ticks <= 0 or text[at : at + 2] != _BEHIND_A_PRICE:
                return None
            orders.append(known)
            prices_ticks.append(ticks)
            at += 2
            if ord(text[at]) != _COMMA:
                break
            at += 1
        return amends if text[at:] == _END and len(orders) <= self._orders_max else None

    def _known_at(self, text: str, at: i64) -> Known | None:
        last = self._last
        found = None if last is None else last.follower  # quotes take turns
        if found is None or text[at : at + len(found.opening)] != found.opening:
            end: i64 = text.find(_PRICE, at)
            if end < 0:
                return None
            found = self._known.get(text[at : end + len(_PRICE)])
            if found is None:
                return None
            if last is not None:
                last.follower = found
        self._last = found
        return found

    def _units(self, text: str, at: i64, places: i64) -> i64:
        """The digits that stand there, to where they end, as units of the last of so many decimals."""
        first: i64 = at
        point: i64 = 0
        number: i64 = 0
        while True:
            char: i64 = ord(text[at])
            if _ZERO <= char <= _NINE:
                number = number * 10 + (char - _ZERO)
            elif char == _POINT and not point and places > 0:
                point = at + 1
            else:
                break
            at += 1
            if at - first > DIGITS_MAX:
                return _NO_NUMBER
        missing: i64 = places - (at - point) if point else places
        if at == first or point == first + 1 or missing < 0 or at - first + missing > DIGITS_MAX:
            return _NO_NUMBER
        while missing:
            number *= 10
            missing -= 1
        self._scanned_to = at
        return number

    def learn(self, text: str, window: str, params: Params) -> None:
        """A request that was decoded, and found to be one that its holder may make; with its window and its orders."""
        category, listed, window_ms = params.get("category"), params.get("request"), whole(window)
        if not isinstance(category, str) or not isinstance(listed, list) or window_ms is None:
            return
        before = f'{_WINDOW}{window}"}},"op":"{OPERATION}","args":[{{"category":"{category}","request":['
        if before not in text:
            return
        if category != self._category:  # a symbol may trade in more than one
            self._forget()
        self._category, self._before_orders = category, before
        self._window_ms, self._orders_max = window_ms, BATCH_MAX.get(category, 0)
        for order in listed:
            self._learn_order(text, order)

    def _learn_order(self, text: str, order: Params) -> None:
        """As it is once its batch has given it a category."""
        said = {name: order.get(name) for name in _NAMES}
        opening, link_id = f"{quoted(said)[:-1]}{_PRICE}", order.get("orderLinkId")
        if opening not in text or opening in self._known or not isinstance(link_id, str):
            return
        try:
            desk = desk_of(self._exchange, self._holder, order)
            order_id, qty_lots = desk.named(link_id).order_id, lots_of(desk.venue, order.get("qty"))
        except V5Error:  # of one that was refused
            return
        if written_of(desk.venue.instrument).prices.places == NOT_PLAIN:
            return
        if len(self._known) >= ORDERS_KEPT:
            self._forget()
        self._known[opening] = Known(opening, desk, order_id, link_id, qty_lots)

    def _forget(self) -> None:
        self._known.clear()
        self._last = None
