"""One side of the limit order book: what stands at which price, and the queues where own orders do. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bot.simulator.queue import Entry, Level

if TYPE_CHECKING:
    from mypy_extensions import i64

NO_PRICE: Final = -1
"""Where an inner answer says that there is none: prices are above zero."""

_EMPTY_KEPT: Final = 250
_PLACES: Final = 4_096
"""A power of two, many times what a market moves in between two looks at the same price."""
_MASK: Final = _PLACES - 1


class Half:
    """One side. `ladder`: the levels where anything stands, prices ascending; `levels`: these and some empty ones.

    For whoever publishes it, to look at only: it changes as the book. `changed`: the levels whose size may have changed
    since the last `drain`. `owned`: at how many levels own orders stand. An empty level is kept, because prices near
    the touch come and go.
    """

    __slots__ = ("_kept_max", "_places", "_spare", "changed", "is_bids", "ladder", "levels", "owned")

    def __init__(self, is_bids: bool) -> None:
        self.is_bids: Final = is_bids
        self.ladder: Final[list[Level]] = []
        self.levels: Final[dict[Any, Level]] = {}
        self.changed: list[Level] = []
        self.owned = 0
        self._kept_max = _EMPTY_KEPT
        self._spare: Final[list[Level]] = []
        """levels that were forgotten, for other prices"""
        self._places: Final[list[Level]] = _no_places(is_bids)
        """the level that was looked for last of all prices with the same last bits: most are looked for again"""

    # ---- reading ------------------------------------------------------------------------------------------------

    def best(self) -> int:
        """The best price with any size on it, or NO_PRICE."""
        ladder = self.ladder
        if not ladder:
            return NO_PRICE
        return ladder[-1].price_ticks if self.is_bids else ladder[0].price_ticks

    def best_background(self) -> int:
        """The best price that does not depend on own orders, or NO_PRICE."""
        if not self.owned:
            return self.best()
        ladder = self.ladder
        count = len(ladder)
        at, step = (count - 1, -1) if self.is_bids else (0, 1)
        while 0 <= at < count:
            level = ladder[at]
            if level.lots != level.own:
                return level.price_ticks
            at += step
        return NO_PRICE

    def best_owned(self) -> Level:
        """The best level where an own order stands. Raises IndexError where there is none."""
        ladder, at, step = self.ladder, 0, 1
        if self.is_bids:
            at, step = len(ladder) - 1, -1
        while ladder[at].entries is None:
            at += step
        return ladder[at]

    def size(self, price: Any) -> int:
        """Everything at that price, own orders included, lots."""
        level = self.levels.get(price)
        return 0 if level is None else level.lots

    def background(self, price: Any) -> int:
        """Background at that price, lots."""
        level = self.levels.get(price)
        return 0 if level is None else level.lots - level.own

    def drain(self) -> list[Level]:
        """The levels that may have changed since the last time; whoever asked looks at them at once."""
        changed, self.changed = self.changed, []
        for level in changed:
            level.is_changed = False
        return changed

    # ---- background ---------------------------------------------------------------------------------------------

    def set(self, level: Level, lots: int) -> None:
        """Everything at a level without own orders."""
        was = level.lots
        if lots == was:
            return
        if not level.is_changed:
            level.is_changed = True
            level.before = was
            self.changed.append(level)
        level.lots = lots
        if not was:
            _put(self.ladder, level)
        elif not lots:
            _take(self.ladder, level)

    def set_background(self, price: Any, lots: int) -> None:
        """Make the background at a price exactly `lots`: growth joins at the back, a fall is cancelled in the queue."""
        level = self.levels.get(price)
        if level is None:
            if not lots:
                return
            level = self._made(price)
        if level.entries is None:
            self.set(level, lots)
        elif lots != level.lots - level.own:
            self._note(level)
            level.set_background(lots)

    def change(self, price_ticks: i64, size: Any) -> None:
        """As `set_background`, for whoever changes many: a level that was looked for before is found at once."""
        lots: int = size
        level = self._places[price_ticks & _MASK]
        if level.price_ticks != price_ticks:
            price: Any = price_ticks
            known = self.levels.get(price)
            if known is None:
                if not lots:
                    return
                known = self._made(price)
            level = self._places[price_ticks & _MASK] = known
        if level.entries is not None:
            self.set_background(level.price, size)
            return
        was = level.lots  # from here on as in `set`, which would be one call more for every level
        if lots == was:
            return
        if not level.is_changed:
            level.is_changed = True
            level.before = was
            self.changed.append(level)
        level.lots = lots
        if not was:
            _put(self.ladder, level)
        elif not lots:
            _take(self.ladder, level)

    def change_background(self, sizes: list[tuple[Any, Any]]) -> None:
        """As `set_background` for each of (price_ticks, lots)."""
        for price, size in sizes:
            self.change(price, size)

    def replace_background(self, target: dict[int, int]) -> None:
        """Make the whole background equal to `target` (price_ticks → lots)."""
        for level in self.ladder[:]:
            if level.price not in target:
                self.set_background(level.price, 0)
        for price, lots in target.items():
            self.set_background(price, lots)

    def put_back(self, price: Any, lots: int) -> None:
        """Background to the front of the queue."""
        level = self.levels.get(price)
        if level is None or level.entries is None:
            self.set_background(price, self.size(price) + lots)
        else:
            self._note(level)
            level.put_back(lots)

    # ---- own orders ---------------------------------------------------------------------------------------------

    def rest(self, order: int, price: Any, lots: int) -> Entry:
        """A new own order, at the end of the queue at its price."""
        level = self.levels.get(price)
        if level is None:
            level = self._made(price)
        entry = Entry(order, lots, level)
        self._join(level, entry)
        return entry

    def move(self, entry: Entry, price: Any, lots: int) -> None:
        """An own order goes to the end of the queue at a price, with that size."""
        before = entry.level
        self.reduce(before, before.find(entry), entry.lots)
        level = self.levels.get(price)
        if level is None:
            level = self._made(price)
        entry.lots = lots
        self._join(level, entry)

    def reduce(self, level: Level, index: int, lots: int) -> None:
        """Less of one entry of a queue."""
        self._note(level)
        level.reduce(index, lots)
        if level.entries is None:
            self.owned -= 1
            if not level.lots:
                _take(self.ladder, level)

    def _join(self, level: Level, entry: Entry) -> None:
        self._note(level)
        if level.entries is None:
            self.owned += 1
            if not level.lots:
                _put(self.ladder, level)
        level.join(entry)

    # ---- levels -------------------------------------------------------------------------------------------------

    def _note(self, level: Level) -> None:
        if not level.is_changed:
            level.is_changed = True
            level.before = level.lots
            self.changed.append(level)

    def _made(self, price: Any) -> Level:
        levels, spare = self.levels, self._spare
        if len(levels) >= self._kept_max:
            self._forget()
        if spare:
            level = spare.pop()
            level.stand_for(price)
        else:
            level = Level(price, self.is_bids)
        levels[price] = level
        return level

    def _forget(self) -> None:
        """The empty levels, but for those that have yet to be looked at."""
        levels, spare = self.levels, self._spare
        kept: list[Level] = []
        for one in levels.values():
            if one.lots or one.is_changed:
                kept.append(one)
            else:
                one.price_ticks = NO_PRICE  # whoever comes upon it at its place has not found it
                spare.append(one)
        levels.clear()  # most go: to put back the few that stay costs less than to take the others out
        for one in kept:
            levels[one.price] = one
        self._kept_max = 2 * len(levels) + _EMPTY_KEPT


def _no_places(is_bids: bool) -> list[Level]:
    """Of levels that were looked for, none: at each place one of a price that has another."""
    return [Level(1, is_bids)] + [Level(0, is_bids)] * (_PLACES - 1)


def _put(ladder: list[Level], level: Level) -> None:
    """Into its place among ascending prices; most come at one of the ends, where the touch is."""
    if ladder and level.price_ticks < ladder[-1].price_ticks:
        ladder.insert(_place(ladder, level.price_ticks), level)
    else:
        ladder.append(level)


def _take(ladder: list[Level], level: Level) -> None:
    """Out of ascending prices."""
    ladder.pop(-1 if ladder[-1] is level else _place(ladder, level.price_ticks))


def _place(ladder: list[Level], price_ticks: int) -> int:
    """The index of the first level whose price is not below it, as `bisect_left` finds it; the list is not empty."""
    if price_ticks <= ladder[0].price_ticks:
        return 0
    low: i64 = 1
    high: i64 = len(ladder)
    while low < high:
        middle: i64 = (low + high) >> 1
        if ladder[middle].price_ticks < price_ticks:
            low = middle + 1
        else:
            high = middle
    return low
