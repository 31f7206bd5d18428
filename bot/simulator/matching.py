"""A limit order book with price-time priority, in integer ticks and lots. Pure: no clock, no randomness.

Two kinds of size stand in one queue: *background* (the rest of the market, anonymous) and *own* orders (those of the
venue's accounts, known by an integer key). An order queues behind everything that stood at its price before it. It
moves forward when the level trades (from the front) and when background is cancelled: a cancellation is spread over
the background in front of and behind the order in proportion to size, and what does not divide comes from the back,
so an order is never moved further than its share.

Matching goes one step at a time (`next_match`), because whoever owns the accounts may have to change the book between
two steps, for example to withdraw a reduce-only order whose position has just been closed.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import NamedTuple

from bot.domain.order import Side

BACKGROUND = 0
"""The key of size that belongs to nobody's account."""


class Match(NamedTuple):
    """One step of matching at one price. `maker` is the resting order's key, or BACKGROUND."""

    price_ticks: int
    lots: int
    maker: int


@dataclass(slots=True)
class _Entry:
    order: int
    lots: int


class _Level:
    """The queue at one price, front first."""

    __slots__ = ("background", "entries", "total")

    def __init__(self) -> None:
        self.entries: list[_Entry] = []
        self.total = 0
        self.background = 0

    def append(self, order: int, lots: int) -> None:
        last = self.entries[-1] if self.entries else None
        if order == BACKGROUND and last is not None and last.order == BACKGROUND:
            last.lots += lots
        else:
            self.entries.append(_Entry(order, lots))
        self.total += lots
        if order == BACKGROUND:
            self.background += lots

    def reduce(self, index: int, lots: int) -> None:
        entry = self.entries[index]
        entry.lots -= lots
        self.total -= lots
        if entry.order == BACKGROUND:
            self.background -= lots
        if entry.lots == 0:
            del self.entries[index]

    def cancel_background(self, lots: int) -> None:
        if len(self.entries) == 1:
            self.reduce(0, lots)
            return
        before = self.background
        shares = [lots * e.lots // before if e.order == BACKGROUND else 0 for e in self.entries]
        rest = lots - sum(shares)
        for index in range(len(self.entries) - 1, -1, -1):
            entry = self.entries[index]
            if entry.order != BACKGROUND:
                continue
            extra = min(rest, entry.lots - shares[index])
            rest -= extra
            if shares[index] + extra:
                self.reduce(index, shares[index] + extra)

    def find(self, order: int) -> int:
        for index, entry in enumerate(self.entries):
            if entry.order == order:
                return index
        raise KeyError(order)


class Book:
    """Both sides of one symbol. It never matches by itself: callers ask for matches before they let an order rest."""

    def __init__(self) -> None:
        self._levels: dict[Side, dict[int, _Level]] = {Side.BUY: {}, Side.SELL: {}}
        self._prices: dict[Side, list[int]] = {Side.BUY: [], Side.SELL: []}
        self._own: dict[int, tuple[Side, int]] = {}

    # ---- reading ------------------------------------------------------------------------------------------------

    def best(self, side: Side) -> int | None:
        """The best price of that side with any size on it, ticks; None where the side is empty."""
        prices = self._prices[side]
        if not prices:
            return None
        return prices[-1] if side is Side.BUY else prices[0]

    def best_background(self, side: Side) -> int | None:
        """The best price that does not depend on own orders, ticks."""
        levels, prices = self._levels[side], self._prices[side]
        for price in reversed(prices) if side is Side.BUY else prices:
            if levels[price].background:
                return price
        return None

    def depth(self, side: Side, count: int) -> list[tuple[int, int]]:
        """At most `count` levels (price_ticks, lots) best first, own orders included."""
        levels, prices = self._levels[side], self._prices[side]
        chosen = prices[: -count - 1 : -1] if side is Side.BUY else prices[:count]
        return [(price, levels[price].total) for price in chosen]

    def background(self, side: Side) -> dict[int, int]:
        """All background size of one side: price_ticks → lots."""
        return {p: level.background for p, level in self._levels[side].items() if level.background}

    def background_lots(self, side: Side, price_ticks: int) -> int:
        """Background at one price, lots; 0 where there is none."""
        level = self._levels[side].get(price_ticks)
        return level.background if level else 0

    def __contains__(self, order: int) -> bool:
        """Whether an own order rests here."""
        return order in self._own

    def own_lots(self, order: int) -> int:
        """What is left of a resting order, lots. Raises KeyError where it does not rest here."""
        side, price = self._own[order]
        level = self._levels[side][price]
        return level.entries[level.find(order)].lots

    def ahead_lots(self, order: int) -> int:
        """Size that trades before this order at its price, lots. Raises KeyError where it does not rest here."""
        side, price = self._own[order]
        level = self._levels[side][price]
        return sum(entry.lots for entry in level.entries[: level.find(order)])

    def would_cross(self, side: Side, price_ticks: int) -> bool:
        """Whether an order of that side at that price would take."""
        opposite = self.best(side.opposite)
        return opposite is not None and _reaches(side, price_ticks, opposite)

    def available_lots(self, taker: Side, limit_ticks: int) -> int:
        """Everything a taker could get down to its limit, lots."""
        side = taker.opposite
        return sum(lv.total for price, lv in self._levels[side].items() if _reaches(taker, limit_ticks, price))

    # ---- own orders ---------------------------------------------------------------------------------------------

    def rest(self, order: int, side: Side, price_ticks: int, lots: int) -> None:
        """Put an order at the end of the queue at its price. The caller has matched what would cross."""
        if order in self._own or order == BACKGROUND or lots <= 0:
            raise ValueError(f"order {order} with {lots} lots cannot rest: known key or no size")
        self._level(side, price_ticks).append(order, lots)
        self._own[order] = (side, price_ticks)

    def shrink(self, order: int, lots: int) -> None:
        """Lower what is left of an order to `lots` > 0; it keeps its place. Raises ValueError on growth."""
        side, price = self._own[order]
        level = self._levels[side][price]
        index = level.find(order)
        if not 0 < lots <= level.entries[index].lots:
            raise ValueError(f"order {order} cannot be shrunk from {level.entries[index].lots} to {lots} lots")
        if lots < level.entries[index].lots:
            level.reduce(index, level.entries[index].lots - lots)

    def remove(self, order: int) -> int:
        """Take an order out; returns the lots it still had. Raises KeyError where it does not rest here."""
        side, price = self._own.pop(order)
        level = self._levels[side][price]
        index = level.find(order)
        lots = level.entries[index].lots
        level.reduce(index, lots)
        self._drop_if_empty(side, price)
        return lots

    # ---- background ---------------------------------------------------------------------------------------------

    def set_background(self, side: Side, price_ticks: int, lots: int) -> None:
        """Make the background at a price exactly `lots`: growth joins at the back, a fall is cancelled in the queue."""
        level = self._levels[side].get(price_ticks)
        current = level.background if level else 0
        if lots > current:
            self._level(side, price_ticks).append(BACKGROUND, lots - current)
        elif level is not None and lots < current:
            if lots == 0 and current == level.total:  # nobody's order stands here: the level is gone
                self._drop(side, price_ticks)
                return
            level.cancel_background(current - lots)
            self._drop_if_empty(side, price_ticks)

    def replace_background(self, side: Side, target: dict[int, int]) -> None:
        """Make the whole background of one side equal to `target` (price_ticks → lots)."""
        levels = self._levels[side]
        for price in [p for p in self._prices[side] if p not in target]:
            self.set_background(side, price, 0)
        for price, lots in target.items():
            level = levels.get(price)
            if level is None or level.background != lots:  # most levels stay as they are
                self.set_background(side, price, lots)

    def put_back(self, side: Side, price_ticks: int, lots: int) -> None:
        """Return background that was matched to the front of its queue (a market whose size must not change)."""
        level = self._level(side, price_ticks)
        if level.entries and level.entries[0].order == BACKGROUND:
            level.entries[0].lots += lots
        else:
            level.entries.insert(0, _Entry(BACKGROUND, lots))
        level.total += lots
        level.background += lots

    # ---- matching -----------------------------------------------------------------------------------------------

    def next_match(self, taker: Side, limit_ticks: int | None, lots: int) -> Match | None:
        """Match at most `lots` against the front of the best opposite queue; None where nothing reaches the limit."""
        side = taker.opposite
        price = self.best(side)
        if lots <= 0 or price is None or (limit_ticks is not None and not _reaches(taker, limit_ticks, price)):
            return None
        return self._match_front(side, price, 0, lots)

    def match_at(self, side: Side, price_ticks: int, lots: int) -> Match | None:
        """Match at most `lots` against the front of one queue, whatever stands at better prices."""
        level = self._levels[side].get(price_ticks)
        if lots <= 0 or level is None:
            return None
        return self._match_front(side, price_ticks, 0, lots)

    def next_own_through(self, side: Side, price_ticks: int, lots: int | None, *, at_price: bool) -> Match | None:
        """Match the best own order of `side` that the market has moved through, ahead of any background.

        Through means better than `price_ticks` (higher for a buy), or equal to it too with `at_price`. `lots` None
        fills it whole: a market that stands at or beyond a price has traded everything there.
        """
        prices = {p for own_side, p in self._own.values() if own_side is side}
        through = [p for p in prices if (p - price_ticks) * side.sign > 0 or (at_price and p == price_ticks)]
        if not through or (lots is not None and lots <= 0):
            return None
        price = max(through) if side is Side.BUY else min(through)
        level = self._levels[side][price]
        index = next(i for i, entry in enumerate(level.entries) if entry.order != BACKGROUND)
        return self._match_front(side, price, index, lots if lots is not None else level.entries[index].lots)

    def _match_front(self, side: Side, price: int, index: int, lots: int) -> Match:
        level = self._levels[side][price]
        entry = level.entries[index]
        traded = min(lots, entry.lots)
        if entry.order != BACKGROUND and traded == entry.lots:
            del self._own[entry.order]
        level.reduce(index, traded)
        self._drop_if_empty(side, price)
        return Match(price, traded, entry.order)

    def _level(self, side: Side, price: int) -> _Level:
        levels = self._levels[side]
        level = levels.get(price)
        if level is None:
            level = levels[price] = _Level()
            insort(self._prices[side], price)
        return level

    def _drop_if_empty(self, side: Side, price: int) -> None:
        if self._levels[side][price].total == 0:
            self._drop(side, price)

    def _drop(self, side: Side, price: int) -> None:
        del self._levels[side][price]
        prices = self._prices[side]
        del prices[bisect_left(prices, price)]


def _reaches(taker: Side, limit_ticks: int, price_ticks: int) -> bool:
    return (limit_ticks - price_ticks) * taker.sign >= 0
