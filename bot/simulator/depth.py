"""The public order book as subscribers see it: a snapshot, then what changed, numbered without gaps. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bot.domain.order import Side
from bot.simulator.matching import Book, Changes, Half, Level

if TYPE_CHECKING:
    from mypy_extensions import i64

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

    `_edge`: the last price shown; while less than `depth` levels are shown it lies beyond every price. `follows`: it
    has heard of everything up to the last drain; then the levels themselves know what was shown, and `_lots` is empty.
    """

    __slots__ = ("_depth", "_edge", "_furthest", "_is_bids", "_lots", "_side", "follows")

    def __init__(self, side: Side, depth: int) -> None:
        self._side: Final = side
        self._is_bids: Final = side is _BUY
        self._depth: Final = depth
        self._furthest: Final[i64] = 0 if side is _BUY else _BEYOND
        self._edge: i64 = self._furthest
        self._lots: Final[dict[int, int]] = {}
        self.follows = False

    def follow(self, book: Book, drained: list[Level]) -> Levels:
        """As `update`, of what the book has just drained; as long as that goes on nothing is looked up."""
        half = book.bids if self._is_bids else book.asks
        if not self.follows:
            delta = self.update(book, drained)
            self.follows = True
            self._lots.clear()
            return delta
        before, edge = self._edge, _edge(half, self._depth, self._furthest)
        self._edge = edge
        return _differences(half, drained, self._depth, before, edge)

    def stay_behind(self, half: Half, changed: list[Level]) -> None:
        """From now on it keeps by itself what was shown. `changed`: all that has changed since."""
        if self.follows:
            self.follows = False
            self._lots.update(self._shown(half, changed))

    def _shown(self, half: Half, changed: list[Level]) -> dict[int, int]:
        """What was shown while it followed."""
        edge, is_bids = self._edge, self._is_bids
        lots = {level.price: level.lots for level in half.ladder}
        for level in changed:
            lots[level.price] = level.before
        return {
            price: shown for price, shown in lots.items() if shown and (price >= edge if is_bids else price <= edge)
        }

    def update(self, book: Book, levels: list[Level] | None) -> Levels:
        """What differs from the book, best first; then it is as the book. `levels` None: look at every one."""
        is_bids, depth = self._is_bids, self._depth
        half = book.bids if is_bids else book.asks
        self.stay_behind(half, half.changed if levels is None else levels)
        shown: dict[Any, int] = self._lots  # Any, as in the book: what is only looked up stays the object it is
        known = half.levels
        told: list[Any]
        if levels is None:
            told = list({*shown, *[level.price for level in book.best_levels(self._side, depth)]})
        else:
            told = [level.price for level in levels]
        before, edge = self._edge, _edge(half, depth, self._furthest)
        if edge != before:
            self._edge = edge
            there = set(told)
            told += [one.price for one in _between(half, depth, before, edge) if one.price not in there]
        told.sort()
        if is_bids:
            told.reverse()
        delta: Levels = []
        for price in told:
            number: int = price
            level = known.get(price)
            lots = 0
            if level is not None and (number >= edge if is_bids else number <= edge):
                lots = level.lots
            if lots == shown.get(price, 0):
                continue
            if lots:
                shown[price] = lots
            else:
                del shown[price]
            delta.append((price, lots))
        return delta

    def levels(self, book: Book | None) -> Levels:
        """All of them. `book`: where it may have followed it."""
        lots = self._lots
        if self.follows:
            assert book is not None  # noqa: S101 - told to the type checker; who follows has its book
            half = book.bids if self._is_bids else book.asks
            lots = self._shown(half, half.changed)
        return [(price, lots[price]) for price in sorted(lots, reverse=self._is_bids)]


class _Followed:
    """One side for a view that hears of every change: it has told of all levels up to `_edge`, and keeps no sizes."""

    __slots__ = ("_depth", "_edge", "_furthest", "_half")

    def __init__(self, half: Half, depth: int) -> None:
        self._half: Final = half
        self._depth: Final = depth
        self._furthest: Final[i64] = 0 if half.is_bids else _BEYOND
        self._edge: i64 = _BEYOND if half.is_bids else 0
        """at first nothing is shown"""

    def update(self) -> Levels:
        """What differs from the last time, best first."""
        half = self._half
        before, edge = self._edge, _edge(half, self._depth, self._furthest)
        self._edge = edge
        return _differences(half, half.drain(), self._depth, before, edge)


def _differences(half: Half, changed: list[Level], depth: int, before: i64, edge: i64) -> Levels:
    """What `changed`, which was drained just now, and a move of the edge make of what is shown, best first.

    That list is put into another order, and what a move of the edge shows or hides is added to it.
    """
    is_bids = half.is_bids
    if edge != before:
        for level in changed:
            level.is_changed = True
        for other in _between(half, depth, before, edge):
            if not other.is_changed:
                other.before = other.lots
                changed.append(other)
        for level in changed:
            level.is_changed = False
    if is_bids:  # they come best first more often than not
        changed.reverse()
    _sort(changed)
    if is_bids:
        changed.reverse()
    delta: list[Any] = []
    for level in changed:
        number, lots, was = level.price_ticks, level.lots, level.before
        if number < edge if is_bids else number > edge:
            lots = 0
        if number < before if is_bids else number > before:
            was = 0
        if lots != was:
            delta.append((level.price, lots) if lots else level.gone)
    return delta


def _edge(half: Half, depth: int, furthest: i64) -> i64:
    """The price of the last level in view; `furthest` where there are fewer than `depth`."""
    ladder = half.ladder
    count = len(ladder)
    if count < depth:
        return furthest
    return (ladder[count - depth] if half.is_bids else ladder[depth - 1]).price_ticks


def _between(half: Half, depth: int, before: i64, edge: i64) -> list[Level]:
    """The levels that stand between two edges: they have come into view, or are pushed out of it."""
    ladder, is_bids = half.ladder, half.is_bids
    count = len(ladder)
    near, far = (before, edge) if (edge < before) == is_bids else (edge, before)
    comes = far == edge
    if is_bids:
        at, step = max(0, count - depth), 1
    else:
        at, step = min(count, depth) - 1, -1
    if not comes:
        step = -step
        at += step
    found: list[Level] = []
    while 0 <= at < count:
        level = ladder[at]
        number = level.price_ticks
        if comes and (number >= near if is_bids else number <= near):
            break
        if not comes and (number < far if is_bids else number > far):
            break
        found.append(level)
        at += step
    return found


def _sort(levels: list[Level]) -> None:
    """Ascending. They come in runs that are so already: each of them is laid into what stands before it, from the back.

    A compiled bot has them in order long before it had asked each for its price.
    """
    count: i64 = len(levels)
    start: i64 = 1
    while start < count:
        level = levels[start]
        if levels[start - 1].price_ticks < level.price_ticks:
            start += 1
            continue
        end: i64 = start + 1
        while end < count and levels[end - 1].price_ticks < levels[end].price_ticks:
            end += 1
        before: i64 = start - 1
        if end == start + 1:
            _lay(levels, level, before, start)
        else:
            run = levels[start:end]
            at: i64 = end - start - 1
            while at >= 0:
                before = _lay(levels, run[at], before, before + at + 1)
                at -= 1
        start = end


def _lay(levels: list[Level], level: Level, before: i64, place: i64) -> i64:
    """To that place, or before it while what stands up to `before` is above it. Returns what stands before it then."""
    number = level.price_ticks
    while before >= 0:
        other = levels[before]
        if other.price_ticks <= number:
            break
        levels[place] = other
        before -= 1
        place -= 1
    levels[place] = level
    return before


class DepthView:
    """The best `depth` levels of each side as last published. All subscribers of one depth share one view."""

    __slots__ = ("_asks", "_bids", "_update_id", "depth")

    def __init__(self, depth: int, first_update_id: int = 1_000) -> None:
        self.depth: Final = depth
        self._update_id = first_update_id
        self._bids: Final = _Shown(_BUY, depth)
        self._asks: Final = _Shown(_SELL, depth)

    def snapshot(self, book: Book | None = None) -> DepthMessage:
        """What was last published, whole: the deltas that follow continue from it. `book`: where it may follow it."""
        return DepthMessage(True, self._bids.levels(book), self._asks.levels(book), self._update_id)

    def publish(self, book: Book, changes: Changes | None = None) -> DepthMessage | None:
        """Look at the book; returns what changed since the last time, None where nothing did.

        `changes`: at least the levels that changed since this view last looked; without them it looks at all.
        """
        if changes is None:
            bids, asks = self._bids.update(book, None), self._asks.update(book, None)
        else:
            bids, asks = self._bids.update(book, changes[0]), self._asks.update(book, changes[1])
        return self._message(bids, asks)

    def follow(self, book: Book, drained: Changes) -> DepthMessage | None:
        """As `publish`, of what the book has just drained. Until it is told to `stay_behind` it is told of each drain.

        The two lists may be put into another order and added to.
        """
        return self._message(self._bids.follow(book, drained[0]), self._asks.follow(book, drained[1]))

    def stay_behind(self, book: Book, drained: Changes) -> None:
        """It is not to publish what was just drained; where it followed, it keeps what it has published."""
        if self._bids.follows:
            self._bids.stay_behind(book.bids, drained[0])
            self._asks.stay_behind(book.asks, drained[1])

    def _message(self, bids: Levels, asks: Levels) -> DepthMessage | None:
        if not bids and not asks:
            return None
        self._update_id += 1
        return DepthMessage(False, bids, asks, self._update_id)


class FollowedDepth:
    """As a `DepthView` of a book that nobody else drains: it hears of every change, and need not keep what it told."""

    __slots__ = ("_asks", "_bids", "_book", "_update_id", "depth")

    def __init__(self, book: Book, depth: int, first_update_id: int = 1_000) -> None:
        self.depth: Final = depth
        self._book: Final = book
        self._update_id = first_update_id
        self._bids: Final = _Followed(book.bids, depth)
        self._asks: Final = _Followed(book.asks, depth)

    def publish(self) -> DepthMessage | None:
        """Look at the book; returns what changed since the last time, None where nothing did."""
        bids, asks = self._bids.update(), self._asks.update()
        if not bids and not asks:
            return None
        self._update_id += 1
        return DepthMessage(False, bids, asks, self._update_id)

    def snapshot(self) -> DepthMessage:
        """The book as it stands, whole, with what was not yet published: the deltas that follow continue from it."""
        self.publish()
        book, depth = self._book, self.depth
        return DepthMessage(True, book.depth(_BUY, depth), book.depth(_SELL, depth), self._update_id)
