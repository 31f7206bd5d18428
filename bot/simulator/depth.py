"""The public order book as subscribers see it: a snapshot, then what changed, numbered without gaps. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from bot.domain.order import Side
from bot.simulator.matching import Book, Changes

Levels = list[tuple[int, int]]


class DepthMessage(NamedTuple):
    """Levels (price_ticks, lots) best first; in a delta lots 0 deletes. `update_id` is the last one plus 1."""

    is_snapshot: bool
    bids: Levels
    asks: Levels
    update_id: int


class _Shown:
    """One side as last published: `prices` best first, at most `depth` of them."""

    __slots__ = ("_away", "_depth", "_side", "lots", "prices")

    def __init__(self, side: Side, depth: int) -> None:
        self._side = side
        self._depth = depth
        self._away = -side.sign  # prices times this rise with the distance from the touch
        self.prices: list[int] = []
        self.lots: dict[int, int] = {}

    def update(self, book: Book, changed: Collection[int] | None) -> Levels:
        """What differs from the book, best first; then it is as the book. `changed` None: look at every level."""
        side, shown, away = self._side, self.lots, self._away
        before, prices = self.prices, book.best_prices(side, self._depth)
        if changed is None:
            changed = shown.keys() | set(prices)
        sizes = book.sizes(side)
        full = len(prices) == self._depth
        edge = prices[-1] * away if full else 0
        delta: dict[int, int] = {}
        for price in changed:
            if not full or price * away <= edge:
                lots = sizes.get(price, 0)
                if lots != shown.get(price, 0):
                    delta[price] = lots
        if full:  # pushed out beyond the last level
            for price in reversed(before):
                if price * away <= edge:
                    break
                delta[price] = 0
        if len(before) == self._depth:  # moved up into view
            edge_before = before[-1] * away
            for price in reversed(prices):
                if price * away <= edge_before:
                    break
                delta[price] = sizes[price]
        for price, lots in delta.items():
            if lots:
                shown[price] = lots
            else:
                del shown[price]
        self.prices = prices
        return sorted(delta.items(), reverse=away < 0)

    def levels(self) -> Levels:
        return [(price, self.lots[price]) for price in self.prices]


class DepthView:
    """The best `depth` levels of each side as last published. All subscribers of one depth share one view."""

    def __init__(self, depth: int, first_update_id: int = 1_000) -> None:
        self.depth = depth
        self._update_id = first_update_id
        self._bids = _Shown(Side.BUY, depth)
        self._asks = _Shown(Side.SELL, depth)

    def snapshot(self) -> DepthMessage:
        """What was last published, whole: the deltas that follow continue from it."""
        return DepthMessage(True, self._bids.levels(), self._asks.levels(), self._update_id)

    def publish(self, book: Book, changes: Changes | None = None) -> DepthMessage | None:
        """Look at the book; returns what changed since the last time, None where nothing did.

        `changes`: at least the prices that changed since this view last looked; without them it looks at all.
        """
        bids, asks = (None, None) if changes is None else changes
        changed_bids, changed_asks = self._bids.update(book, bids), self._asks.update(book, asks)
        if not changed_bids and not changed_asks:
            return None
        self._update_id += 1
        return DepthMessage(False, changed_bids, changed_asks, self._update_id)
