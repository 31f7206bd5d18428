"""A limit order book on whole ticks and lots: each side one row of sizes, a place a tick.

What changes lies near the touch, within a few hundred ticks: there a level is one place in a list, set without a
search. What lies beyond is kept in a dict, and the row is laid anew where the touch comes to its end. A book that
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


_PLACES: Final = 8_192
"""Of one side's row: so many ticks, most of them behind the touch."""
_AHEAD: Final = 3_072
"""The place of the touch when the row is laid: how far it may come towards the other side before that is done anew."""
_LATE: Final = 6_144
"""From this place on the touch has gone so far back that the row is laid anew where something lies beyond it."""


class BookSide:
    """`best_ticks`, `best_lots`: the best level; NO_TICKS and 0 where there is none.

    `_row`: sizes by how many ticks they lie behind `_anchor`, a price that none is better than; None: none there.
    `_behind`: what lies beyond the row, by price. `_first`: the place of the best level, `_PLACES` where there is none.
    """

    __slots__ = ("_anchor", "_behind", "_first", "_is_bids", "_row", "best_lots", "best_ticks")

    def __init__(self, *, is_bids: bool) -> None:
        self._is_bids: Final = is_bids
        self._row: list[Any] = [None] * _PLACES
        self._behind: dict[Any, Any] = {}
        self._anchor = 0
        self._first = _PLACES
        self.best_ticks = NO_TICKS
        self.best_lots = 0

    def replace(self, levels: Iterable[Level]) -> None:
        """All levels at once; sizes of 0 or less are left out."""
        self._row = [None] * _PLACES
        self._behind = lots = {price: qty for price, qty in levels if qty > 0}
        if lots:  # all of it lies behind a row that is still empty
            self._anchor = max(lots) + _PLACES if self._is_bids else min(lots) - _PLACES
        self._find_best(_PLACES)

    def change(self, levels: tuple[tuple[Any, Any], ...]) -> None:
        """Levels to change; size 0 deletes, and deleting what is not there changes nothing.

        Each number stays the object that came: compiled, a whole number would be made anew to be put into the row.
        """
        is_bids, anchor, row = self._is_bids, self._anchor, self._row
        first: i64 = self._first
        for price, qty in levels:
            size: int = qty
            ticks: int = price
            place = anchor - ticks if is_bids else ticks - anchor
            if place >= _PLACES:
                if size > 0:
                    self._behind[price] = qty
                else:
                    self._behind.pop(price, None)
            elif size > 0:
                if place < 0:
                    self._move(place)
                    anchor, row, place = self._anchor, self._row, _AHEAD
                    first = _AHEAD
                at: i64 = place
                row[at] = qty
                if at < first:
                    first = at
            elif place >= 0:
                gone_at: i64 = place
                row[gone_at] = None
        self._find_best(first)

    def _find_best(self, first: int) -> None:
        """No level lies before the place `first`."""
        row = self._row
        place: i64 = first
        while place < _PLACES and row[place] is None:
            place += 1
        first = place
        if first >= _LATE and self._behind:
            if first >= _PLACES:
                best: int = max(self._behind) if self._is_bids else min(self._behind)
                first = self._anchor - best if self._is_bids else best - self._anchor
            self._move(first)
            first = _AHEAD
        self._first = first
        if first >= _PLACES:
            self.best_ticks, self.best_lots = NO_TICKS, 0
            return
        self.best_lots = self._row[first]
        self.best_ticks = self._anchor - first if self._is_bids else self._anchor + first

    def _move(self, place: int) -> None:
        """The row anew, so that what is at that place, in the row or not, comes to `_AHEAD`. None lies before it."""
        by, row, behind, is_bids, anchor = place - _AHEAD, self._row, self._behind, self._is_bids, self._anchor
        moved = self._anchor = anchor - by if is_bids else anchor + by
        if by <= 0:  # what falls out at the end lies behind
            end = _PLACES + by if -by < _PLACES else 0
            at = end
            while at < _PLACES:
                if row[at] is not None:
                    behind[anchor - at if is_bids else anchor + at] = row[at]
                at += 1
            self._row = [None] * (_PLACES - end) + row[:end]
            return
        kept = row[by:] if by < _PLACES else []
        self._row = row = kept + [None] * (_PLACES - len(kept))
        for price in list(behind):
            ticks: int = price
            at = moved - ticks if is_bids else ticks - moved
            if at < _PLACES:
                row[at] = behind.pop(price)

    def at(self, ticks: int) -> int:
        """What stands at that price."""
        place = self._anchor - ticks if self._is_bids else ticks - self._anchor
        if place < 0:
            return 0
        lots: int | None = self._row[place] if place < _PLACES else self._behind.get(ticks)
        return 0 if lots is None else lots

    def lots(self) -> dict[int, int]:
        """Every level, best first as far as the row goes."""
        anchor, step = self._anchor, -1 if self._is_bids else 1
        found = {anchor + step * place: lots for place, lots in enumerate(self._row) if lots is not None}
        found.update(self._behind)
        return found


class Book:
    """One symbol's book.

    `bid_ticks`, `ask_ticks`: the best prices, both NO_TICKS where the book is not usable.
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
        "top_changed_at_ns",
        "update_id",
        "updated_at_ns",
    )

    def __init__(self) -> None:
        self._bids = BookSide(is_bids=True)
        self._asks = BookSide(is_bids=False)
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
            self._bids.change(tuple(bids))
        if asks:
            self._asks.change(tuple(asks))
        self._changed(update_id, at_ns)
        return True

    def lose(self) -> None:
        """It can no longer be trusted; the times of the last update stay, so that staleness goes on counting."""
        self.synced = False
        self.bid_ticks = self.ask_ticks = NO_TICKS
        self._bid_lots = self._ask_lots = 0

    def _changed(self, update_id: int, at_ns: int) -> None:
        self.update_id = update_id
        self.updated_at_ns = at_ns
        bids, asks = self._bids, self._asks
        bid, ask, bid_lots, ask_lots = bids.best_ticks, asks.best_ticks, bids.best_lots, asks.best_lots
        if bid_lots and ask_lots and bid < ask:
            if bid != self.bid_ticks or ask != self.ask_ticks:
                self.bid_ticks = bid
                self.ask_ticks = ask
            elif bid_lots == self._bid_lots and ask_lots == self._ask_lots:
                return
        elif self.bid_ticks == NO_TICKS and not self._bid_lots:
            return
        else:
            self.bid_ticks = self.ask_ticks = NO_TICKS
            bid_lots = ask_lots = 0
        self._bid_lots = bid_lots
        self._ask_lots = ask_lots
        self.top_changed_at_ns = at_ns

    @property
    def usable(self) -> bool:
        """Synced, two-sided and not crossed."""
        return self.bid_ticks != NO_TICKS

    @property
    def top(self) -> tuple[int, int] | None:
        """(best bid, best ask) in ticks, None where the book is not usable."""
        return None if self.bid_ticks == NO_TICKS else (self.bid_ticks, self.ask_ticks)

    @property
    def best_bid_ticks(self) -> int | None:
        return None if self.bid_ticks == NO_TICKS else self.bid_ticks

    @property
    def best_ask_ticks(self) -> int | None:
        return None if self.bid_ticks == NO_TICKS else self.ask_ticks

    @property
    def mid2_ticks(self) -> int | None:
        """TWICE the mid in ticks (best bid + best ask), so that it stays a whole number."""
        return None if self.bid_ticks == NO_TICKS else self.bid_ticks + self.ask_ticks

    def lots_at(self, side: Side, price_ticks: int) -> int:
        """Size shown at one price; 0 where there is none."""
        return (self._bids if side is _BUY else self._asks).at(price_ticks)

    def depth(self, side: Side, levels: int) -> list[Level]:
        """The best `levels` levels of one side, best first."""
        one = self._bids if side is _BUY else self._asks
        return sorted(one.lots().items(), reverse=side is _BUY)[:levels]
