"""The public order book as subscribers see it: a snapshot, then what changed, numbered without gaps. Pure."""

from __future__ import annotations

from typing import Any, Final

from bot.domain.order import Side
from bot.simulator.matching import Book, Changes, Half

Levels = list[tuple[int, int]]

_BUY: Final = Side.BUY
_SELL: Final = Side.SELL
_BEYOND: Final = 1 << 60
"""More than any price."""


class DepthMessage:
    """Levels (price_ticks, lots) best first; in a delta lots 0 deletes. `update_id` is the last one plus 1."""

    __slots__ = ("asks", "bids", "is_snapshot", "update_id")

    def __init__(self, is_snapshot: bool, bids: Levels, asks: Levels, update_id: int) -> None:
        self.is_snapshot: Final = is_snapshot
        self.bids: Final = bids
        self.asks: Final = asks
        self.update_id: Final = update_id


class _Shown:
    """One side as last published: at most `depth` levels.

    `_edge`: the last price shown; while less than `depth` levels are shown it lies beyond every price.
    """

    __slots__ = ("_depth", "_edge", "_furthest", "_is_bids", "_side", "lots")

    def __init__(self, side: Side, depth: int) -> None:
        self._side: Final = side
        self._is_bids: Final = side is _BUY
        self._depth: Final = depth
        self._furthest: Final = 0 if side is _BUY else _BEYOND
        self._edge: int = self._furthest
        self.lots: Final[dict[int, int]] = {}

    def update(self, book: Book, changed: set[int] | None) -> Levels:
        """What differs from the book, best first; then it is as the book. `changed` None: look at every level."""
        is_bids, depth = self._is_bids, self._depth
        half = book.bids if is_bids else book.asks
        if changed is None:
            changed = {*self.lots, *book.best_prices(self._side, depth)}
        shown: dict[Any, Any] = self.lots  # Any, as in the book: what is only looked up stays the object it is
        sizes: dict[Any, Any] = half.lots
        prices = half.prices
        before, edge = self._edge, self._furthest
        if len(prices) >= depth:
            edge = prices[-depth] if is_bids else prices[depth - 1]
        told: list[Any] = sorted(changed)
        if edge != before:
            self._edge = edge
            if edge > before if is_bids else edge < before:  # pushed out beyond the last level
                for price in shown:
                    known: int = price
                    if (known < edge if is_bids else known > edge) and price not in changed:
                        told.append(price)
            else:  # moved up into view
                _add_beyond(told, half, depth, before, changed)
            told.sort()
        if is_bids:
            told.reverse()
        delta: Levels = []
        for price in told:
            number: int = price
            size = sizes.get(price, 0)
            if number < edge if is_bids else number > edge:
                size = 0
            lots: int = size
            was: int = shown.get(price, 0)
            if lots == was:
                continue
            if lots:
                shown[price] = size
            else:
                del shown[price]
            delta.append((price, size))
        return delta

    def levels(self) -> Levels:
        lots = self.lots
        return [(price, lots[price]) for price in sorted(lots, reverse=self._is_bids)]


def _add_beyond(told: list[Any], half: Half, depth: int, edge: int, known: set[int]) -> None:
    """The prices of the best levels that lie beyond an edge and are not known anyway."""
    prices, count = half.prices, min(depth, len(half.prices))
    at = len(prices) - count if half.is_bids else count - 1
    step = 1 if half.is_bids else -1
    while count:
        price = prices[at]
        if price >= edge if half.is_bids else price <= edge:
            return
        if price not in known:
            told.append(price)
        at, count = at + step, count - 1


class DepthView:
    """The best `depth` levels of each side as last published. All subscribers of one depth share one view."""

    __slots__ = ("_asks", "_bids", "_update_id", "depth")

    def __init__(self, depth: int, first_update_id: int = 1_000) -> None:
        self.depth: Final = depth
        self._update_id = first_update_id
        self._bids: Final = _Shown(_BUY, depth)
        self._asks: Final = _Shown(_SELL, depth)

    def snapshot(self) -> DepthMessage:
        """What was last published, whole: the deltas that follow continue from it."""
        return DepthMessage(True, self._bids.levels(), self._asks.levels(), self._update_id)

    def publish(self, book: Book, changes: Changes | None = None) -> DepthMessage | None:
        """Look at the book; returns what changed since the last time, None where nothing did.

        `changes`: at least the prices that changed since this view last looked; without them it looks at all.
        """
        if changes is None:
            bids, asks = self._bids.update(book, None), self._asks.update(book, None)
        else:
            bids, asks = self._bids.update(book, changes[0]), self._asks.update(book, changes[1])
        if not bids and not asks:
            return None
        self._update_id += 1
        return DepthMessage(False, bids, asks, self._update_id)
