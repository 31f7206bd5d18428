"""The public order book as subscribers see it: a snapshot, then what changed, numbered without gaps. Pure."""

from __future__ import annotations

from typing import NamedTuple

from bot.domain.order import Side
from bot.simulator.matching import Book

Levels = list[tuple[int, int]]


class DepthMessage(NamedTuple):
    """Levels (price_ticks, lots) best first; in a delta lots 0 deletes. `update_id` is the last one plus 1."""

    is_snapshot: bool
    bids: Levels
    asks: Levels
    update_id: int


class DepthView:
    """The best `depth` levels of each side as last published. All subscribers of one depth share one view."""

    def __init__(self, depth: int, first_update_id: int = 1_000) -> None:
        self.depth = depth
        self._update_id = first_update_id
        self._bids: dict[int, int] = {}
        self._asks: dict[int, int] = {}

    def snapshot(self) -> DepthMessage:
        """What was last published, whole: the deltas that follow continue from it."""
        return DepthMessage(True, list(self._bids.items()), list(self._asks.items()), self._update_id)

    def publish(self, book: Book) -> DepthMessage | None:
        """Look at the book; returns what changed since the last time, None where nothing did."""
        bids, asks = dict(book.depth(Side.BUY, self.depth)), dict(book.depth(Side.SELL, self.depth))
        changed_bids, changed_asks = _changes(self._bids, bids), _changes(self._asks, asks)
        if not changed_bids and not changed_asks:
            return None
        self._bids, self._asks = bids, asks
        self._update_id += 1
        return DepthMessage(False, changed_bids, changed_asks, self._update_id)


def _changes(before: dict[int, int], after: dict[int, int]) -> Levels:
    changed = [(price, lots) for price, lots in after.items() if before.get(price) != lots]
    return changed + [(price, 0) for price in before if price not in after]
