"""A limit order book on whole ticks and lots: one dict for the sizes, one sorted list of prices a side.

A search by halves in a plain list of integers: a book of 50 levels costs about a microsecond a message. A book that
cannot be trusted (a gap, an empty side, bid at or above ask) says so and shows no top until a snapshot has replaced it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from bot.domain.events import Level
from bot.domain.order import Side

if TYPE_CHECKING:
    from mypy_extensions import i64

NO_TICKS: Final = -1
"""A best price where there is none; no price is negative."""

_BUY: Final = Side.BUY


class BookSide:
    """Prices ascending; the best bid is the last one, the best ask the first."""

    __slots__ = ("lots", "prices")

    def __init__(self) -> None:
        self.lots: dict[int, int] = {}
        self.prices: list[int] = []

    def replace(self, levels: Iterable[Level]) -> None:
        """All levels at once; sizes of 0 or less are left out."""
        self.lots = {price: qty for price, qty in levels if qty > 0}
        self.prices = sorted(self.lots)


def _place_of(prices: list[int], ticks: int) -> int:
    """Where that price stands, or would: `bisect_left`, at a fifth of what its call costs from a compiled book."""
    low: i64 = 0
    high: i64 = len(prices)
    while low < high:
        middle: i64 = (low + high) >> 1
        if prices[middle] < ticks:
            low = middle + 1
        else:
            high = middle
    return low


def _apply(side: BookSide, levels: tuple[tuple[Any, Any], ...]) -> None:
    """Levels to change; size 0 deletes, and deleting what is not there changes nothing.

    Each number stays the object that came: compiled, a whole number would be made anew to be put into the dict. Most
    levels that come and go are the first or the last of what is shown, and are found without a search.
    """
    lots, prices = side.lots, side.prices
    known = len(lots)
    for price, qty in levels:
        size: int = qty
        ticks: int = price
        if size > 0:
            lots[price] = qty
            if len(lots) != known:
                if not known or ticks > prices[-1]:
                    prices.append(price)
                elif ticks < prices[0]:
                    prices.insert(0, price)
                else:
                    prices.insert(_place_of(prices, ticks), price)
                known += 1
        elif lots.pop(price, 0):
            if ticks == prices[-1]:
                prices.pop()
            elif ticks == prices[0]:
                prices.pop(0)
            else:
                prices.pop(_place_of(prices, ticks))
            known -= 1


class Book:
    """One symbol's book.

    `top`: (best bid, best ask) in ticks, None where the book is not usable; the same tuple until it changes.
    `bid_ticks`, `ask_ticks`: the same two, NO_TICKS where it is None.
    `updated_at_ns`: last message; `top_changed_at_ns`: last change of a best price or its size.
    """

    __slots__ = (
        "_ask_lots",
        "_asks",
        "_bid_lots",
        "_bids",
        "ask_ticks",
        "bid_ticks",
        "synced",
        "top",
        "top_changed_at_ns",
        "update_id",
        "updated_at_ns",
    )

    def __init__(self) -> None:
        self._bids = BookSide()
        self._asks = BookSide()
        self.top: tuple[int, int] | None = None
        self.bid_ticks = self.ask_ticks = NO_TICKS
        self._bid_lots = self._ask_lots = 0
        self.synced = False
        self.update_id = 0
        self.updated_at_ns = 0
        self.top_changed_at_ns = 0

    def replace(self, bids: Iterable[Level], asks: Iterable[Level], update_id: int, at_ns: int) -> None:
        """A snapshot: whatever was known before is forgotten."""
        self._bids.replace(bids)
        self._asks.replace(asks)
        self.synced = True
        self._changed(update_id, at_ns)

    def change(self, bids: Iterable[Level], asks: Iterable[Level], update_id: int, at_ns: int) -> bool:
        """A delta. False where it does not follow the last message: then the book is lost and needs a snapshot."""
        if not self.synced:
            return False
        if update_id != self.update_id + 1:
            self.lose()
            return False
        if bids:
            _apply(self._bids, tuple(bids))
        if asks:
            _apply(self._asks, tuple(asks))
        self._changed(update_id, at_ns)
        return True

    def lose(self) -> None:
        """It can no longer be trusted; the times of the last update stay, so that staleness goes on counting."""
        self.synced = False
        self.top = None
        self.bid_ticks = self.ask_ticks = NO_TICKS

    def _changed(self, update_id: int, at_ns: int) -> None:
        self.update_id = update_id
        self.updated_at_ns = at_ns
        bids, asks = self._bids, self._asks
        if bids.prices and asks.prices and (bid := bids.prices[-1]) < (ask := asks.prices[0]):
            bid_lots, ask_lots = bids.lots[bid], asks.lots[ask]
            if bid != self.bid_ticks or ask != self.ask_ticks:
                self.top = (bid, ask)
                self.bid_ticks = bid
                self.ask_ticks = ask
            elif bid_lots == self._bid_lots and ask_lots == self._ask_lots:
                return
        elif self.top is None and not self._bid_lots:
            return
        else:
            self.top = None
            self.bid_ticks = self.ask_ticks = NO_TICKS
            bid_lots = ask_lots = 0
        self._bid_lots = bid_lots
        self._ask_lots = ask_lots
        self.top_changed_at_ns = at_ns

    @property
    def usable(self) -> bool:
        """Synced, two-sided and not crossed."""
        return self.top is not None

    @property
    def best_bid_ticks(self) -> int | None:
        return None if self.top is None else self.top[0]

    @property
    def best_ask_ticks(self) -> int | None:
        return None if self.top is None else self.top[1]

    @property
    def mid2_ticks(self) -> int | None:
        """TWICE the mid in ticks (best bid + best ask), so that it stays a whole number."""
        return None if self.top is None else self.top[0] + self.top[1]

    def lots_at(self, side: Side, price_ticks: int) -> int:
        """Size shown at one price; 0 where there is none."""
        return (self._bids if side is _BUY else self._asks).lots.get(price_ticks, 0)

    def depth(self, side: Side, levels: int) -> list[Level]:
        """The best `levels` levels of one side, best first."""
        one = self._bids if side is _BUY else self._asks
        prices = one.prices[-levels:][::-1] if side is _BUY else one.prices[:levels]
        return [(price, one.lots[price]) for price in prices]
