"""A limit order book with price-time priority, in integer ticks and lots. Pure: no clock, no randomness.

Two kinds of size stand in one queue: *background* (the rest of the market, anonymous) and *own* orders (those of the
venue's accounts, known by an integer key). An order queues behind everything that stood at its price before it. It
moves forward when the level trades (from the front) and when background is cancelled: a cancellation is spread over
the background in front of and behind the order in proportion to size, and what does not divide comes from the back,
so an order is never moved further than its share.

At most prices nobody's own order stands: there the queue is a number. What changed since the last look is kept
(`drain_changes`), so that whoever publishes the book need not compare all of it.

Matching goes one step at a time (`next_match`), because whoever owns the accounts may have to change the book between
two steps, for example to withdraw a reduce-only order whose position has just been closed.
"""

from __future__ import annotations

from typing import Final

from bot.domain.order import Side
from bot.simulator.book_half import NO_PRICE, Half
from bot.simulator.queue import BACKGROUND, Entry, Level

__all__ = ["BACKGROUND", "NO_PRICE", "Book", "Changes", "Half", "Level", "Match"]

_BUY: Final = Side.BUY
_SELL: Final = Side.SELL


class Match:
    """One step of matching at one price. `maker` is the resting order's key, or BACKGROUND."""

    __slots__ = ("lots", "maker", "price_ticks")

    def __init__(self, price_ticks: int, lots: int, maker: int) -> None:
        self.price_ticks: Final = price_ticks
        self.lots: Final = lots
        self.maker: Final = maker

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Match):
            return NotImplemented
        return self.price_ticks == other.price_ticks and self.lots == other.lots and self.maker == other.maker

    def __hash__(self) -> int:
        return hash((self.price_ticks, self.lots, self.maker))


Changes = tuple[list[Level], list[Level]]
"""Levels (bids, asks) whose size may have changed: each once, in any order."""


class Book:
    """Both sides of one symbol. It never matches by itself: callers ask for matches before they let an order rest."""

    __slots__ = ("_own", "asks", "bids")

    def __init__(self) -> None:
        self.bids: Final = Half(True)
        self.asks: Final = Half(False)
        self._own: Final[dict[int, Entry]] = {}

    def half(self, side: Side) -> Half:
        return self.bids if side is _BUY else self.asks

    # ---- reading ------------------------------------------------------------------------------------------------

    def best(self, side: Side) -> int | None:
        """The best price of that side with any size on it, ticks; None where the side is empty."""
        price = (self.bids if side is _BUY else self.asks).best()
        return None if price == NO_PRICE else price

    def best_background(self, side: Side) -> int | None:
        """The best price that does not depend on own orders, ticks."""
        price = (self.bids if side is _BUY else self.asks).best_background()
        return None if price == NO_PRICE else price

    def depth(self, side: Side, count: int) -> list[tuple[int, int]]:
        """At most `count` levels (price_ticks, lots) best first, own orders included."""
        return [(level.price_ticks, level.lots) for level in self.best_levels(side, count)]

    def best_levels(self, side: Side, count: int) -> list[Level]:
        """At most `count` levels, best first; to look at only."""
        ladder = self.half(side).ladder
        return ladder[: -count - 1 : -1] if side is _BUY else ladder[:count]

    def levels_to(self, side: Side, limit_ticks: int) -> list[Level]:
        """The levels of that side that a taker with that limit reaches, best first; to look at only."""
        reached: list[Level] = []
        if side is _BUY:
            bids = self.bids.ladder
            for index in range(len(bids) - 1, -1, -1):
                level = bids[index]
                if level.price_ticks < limit_ticks:
                    break
                reached.append(level)
        else:
            for level in self.asks.ladder:
                if level.price_ticks > limit_ticks:
                    break
                reached.append(level)
        return reached

    def lots_at(self, side: Side, price_ticks: int) -> int:
        """Everything at one price, own orders included, lots."""
        return self.half(side).size(price_ticks)

    def drain_changes(self) -> Changes:
        """The levels whose size may have changed since the last call; look at them before anything else happens."""
        return self.bids.drain(), self.asks.drain()

    def background(self, side: Side) -> dict[int, int]:
        """All background size of one side: price_ticks → lots."""
        return {one.price_ticks: one.lots - one.own for one in self.half(side).ladder if one.lots != one.own}

    def background_lots(self, side: Side, price_ticks: int) -> int:
        """Background at one price, lots; 0 where there is none."""
        return self.half(side).background(price_ticks)

    def __contains__(self, order: int) -> bool:
        """Whether an own order rests here."""
        return order in self._own

    def rests(self, order: int) -> bool:
        """Whether an own order rests here."""
        return order in self._own

    @property
    def any_own(self) -> bool:
        """Whether any own order rests here."""
        return bool(self._own)

    def own_lots(self, order: int) -> int:
        """What is left of a resting order, lots. Raises KeyError where it does not rest here."""
        return self._own[order].lots

    def ahead_lots(self, order: int) -> int:
        """Size that trades before this order at its price, lots. Raises KeyError where it does not rest here."""
        entry = self._own[order]
        level = entry.level
        return sum([one.lots for one in level.queue()[: level.find(entry)]])

    def would_cross(self, side: Side, price_ticks: int) -> bool:
        """Whether an order of that side at that price would take."""
        if side is _BUY:
            asks = self.asks.ladder
            return bool(asks) and price_ticks >= asks[0].price_ticks
        bids = self.bids.ladder
        return bool(bids) and price_ticks <= bids[-1].price_ticks

    def available_lots(self, taker: Side, limit_ticks: int) -> int:
        """Everything a taker could get down to its limit, lots."""
        return sum([level.lots for level in self.levels_to(_SELL if taker is _BUY else _BUY, limit_ticks)])

    # ---- own orders ---------------------------------------------------------------------------------------------

    def rest(self, order: int, side: Side, price_ticks: int, lots: int) -> None:
        """Put an order at the end of the queue at its price. The caller has matched what would cross."""
        if order in self._own or order == BACKGROUND or lots <= 0:
            raise ValueError(f"order {order} with {lots} lots cannot rest: known key or no size")
        self._own[order] = (self.bids if side is _BUY else self.asks).rest(order, price_ticks, lots)

    def move(self, order: int, price_ticks: int, lots: int) -> None:
        """As `remove` and then `rest` at that price of the same side, with that size above 0."""
        entry = self._own[order]
        (self.bids if entry.level.is_bid else self.asks).move(entry, price_ticks, lots)

    def shrink(self, order: int, lots: int) -> None:
        """Lower what is left of an order to `lots` > 0; it keeps its place. Raises ValueError on growth."""
        entry = self._own[order]
        before = entry.lots
        if not 0 < lots <= before:
            raise ValueError(f"order {order} cannot be shrunk from {before} to {lots} lots")
        self._reduce(entry, before - lots)

    def remove(self, order: int) -> int:
        """Take an order out; returns the lots it still had. Raises KeyError where it does not rest here."""
        entry = self._own[order]
        del self._own[order]
        lots = entry.lots
        self._reduce(entry, lots)
        return lots

    def _reduce(self, entry: Entry, lots: int) -> None:
        level = entry.level
        (self.bids if level.is_bid else self.asks).reduce(level, level.find(entry), lots)

    # ---- background ---------------------------------------------------------------------------------------------

    def set_background(self, side: Side, price_ticks: int, lots: int) -> None:
        """Make the background at a price exactly `lots`: growth joins at the back, a fall is cancelled in the queue."""
        self.half(side).set_background(price_ticks, lots)

    def change_background(self, side: Side, levels: list[tuple[int, int]]) -> None:
        """As `set_background` for each of (price_ticks, lots)."""
        self.half(side).change_background(levels)

    def replace_background(self, side: Side, target: dict[int, int]) -> None:
        """Make the whole background of one side equal to `target` (price_ticks → lots)."""
        self.half(side).replace_background(target)

    def put_back(self, side: Side, price_ticks: int, lots: int) -> None:
        """Return background that was matched to the front of its queue (a market whose size must not change)."""
        self.half(side).put_back(price_ticks, lots)

    # ---- matching -----------------------------------------------------------------------------------------------

    def next_match(self, taker: Side, limit_ticks: int | None, lots: int) -> Match | None:
        """Match at most `lots` against the front of the best opposite queue; None where nothing reaches the limit."""
        half = self.asks if taker is _BUY else self.bids
        price = half.best()
        if lots <= 0 or price == NO_PRICE or (limit_ticks is not None and not _reaches(taker, limit_ticks, price)):
            return None
        return self._match_front(half, half.ladder[-1] if half.is_bids else half.ladder[0], 0, lots)

    def front(self, taker: Side, limit_ticks: int) -> int | None:
        """What `next_match` would meet: the order's key or BACKGROUND; None where nothing reaches the limit."""
        half = self.asks if taker is _BUY else self.bids
        price = half.best()
        if price == NO_PRICE or not _reaches(taker, limit_ticks, price):
            return None
        entries = (half.ladder[-1] if half.is_bids else half.ladder[0]).entries
        return BACKGROUND if entries is None else entries[0].order

    def match_at(self, side: Side, price_ticks: int, lots: int) -> Match | None:
        """Match at most `lots` against the front of one queue, whatever stands at better prices."""
        half = self.half(side)
        level = half.levels.get(price_ticks)
        if lots <= 0 or level is None or not level.lots:
            return None
        return self._match_front(half, level, 0, lots)

    def next_own_through(self, side: Side, price_ticks: int, lots: int | None, *, at_price: bool) -> Match | None:
        """Match the best own order of `side` that the market has moved through, ahead of any background.

        Through means better than `price_ticks` (higher for a buy), or equal to it too with `at_price`. `lots` None
        fills it whole: a market that stands at or beyond a price has traded everything there.
        """
        half = self.half(side)
        if not half.owned or (lots is not None and lots <= 0):
            return None
        buys, best = half.is_bids, half.best()
        if best < price_ticks if buys else best > price_ticks:
            return None  # most of the time: the book is not crossed, and no own order is better than the best price
        level = half.best_owned()
        price = level.price_ticks
        if (price < price_ticks if buys else price > price_ticks) or (price == price_ticks and not at_price):
            return None
        index, entries = 0, level.queue()
        while entries[index].order == BACKGROUND:
            index += 1
        return self._match_front(half, level, index, lots if lots is not None else entries[index].lots)

    def _match_front(self, half: Half, level: Level, index: int, lots: int) -> Match:
        entries = level.entries
        if entries is None:
            there = level.lots
            traded = there if there < lots else lots
            half.set(level, there - traded)
            return Match(level.price_ticks, traded, BACKGROUND)
        entry = entries[index]
        maker = entry.order
        traded = entry.lots if entry.lots < lots else lots
        if maker != BACKGROUND and traded == entry.lots:
            del self._own[maker]
        half.reduce(level, index, traded)
        return Match(level.price_ticks, traded, maker)


def _reaches(taker: Side, limit_ticks: int, price_ticks: int) -> bool:
    return price_ticks <= limit_ticks if taker is _BUY else price_ticks >= limit_ticks
