"""A limit order book with price-time priority, in integer ticks and lots. Pure: no clock, no randomness.

Two kinds of size stand in one queue: *background* (the rest of the market, anonymous) and *own* orders (those of the
venue's accounts, known by an integer key). An order queues behind everything that stood at its price before it. It
moves forward when the level trades (from the front) and when background is cancelled: a cancellation is spread over
the background in front of and behind the order in proportion to size, and what does not divide comes from the back,
so an order is never moved further than its share.

At most prices nobody's own order stands: there the queue is a number. What changed since the last look is kept by price
(`drain_changes`), so that whoever publishes the book need not compare all of it.

Matching goes one step at a time (`next_match`), because whoever owns the accounts may have to change the book between
two steps, for example to withdraw a reduce-only order whose position has just been closed.
"""

from __future__ import annotations

from typing import Any, Final

from bot.domain.order import Side
from bot.simulator.book_half import NO_PRICE, Half
from bot.simulator.queue import BACKGROUND, Entry, Queue

__all__ = ["BACKGROUND", "NO_PRICE", "Book", "Changes", "Half", "Match"]

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


Changes = tuple[set[int], set[int]]
"""Prices (bids, asks) whose size may have changed."""


class Book:
    """Both sides of one symbol. It never matches by itself: callers ask for matches before they let an order rest."""

    __slots__ = ("_own", "asks", "bids")

    def __init__(self) -> None:
        self.bids: Final = Half(True)
        self.asks: Final = Half(False)
        self._own: Final[dict[int, Queue]] = {}

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
        lots = self.half(side).lots
        return [(price, lots[price]) for price in self.best_prices(side, count)]

    def best_prices(self, side: Side, count: int) -> list[int]:
        """At most `count` prices, best first."""
        prices = self.half(side).prices
        return prices[: -count - 1 : -1] if side is _BUY else prices[:count]

    def prices_to(self, side: Side, limit_ticks: int) -> list[int]:
        """The prices of that side that a taker with that limit reaches, best first."""
        prices: list[Any] = self.half(side).prices
        reached: list[int] = []
        if side is _BUY:
            for price in prices[::-1]:
                bid: int = price
                if bid < limit_ticks:
                    break
                reached.append(price)
        else:
            for price in prices:
                ask: int = price
                if ask > limit_ticks:
                    break
                reached.append(price)
        return reached

    def sizes(self, side: Side) -> dict[int, int]:
        """Everything of one side, own orders included: price_ticks → lots. To look at only; it changes as the book."""
        return self.half(side).lots

    def drain_changes(self) -> Changes:
        """The prices whose size may have changed since the last call."""
        bids, asks = self.bids, self.asks
        changes = (bids.changed, asks.changed)
        bids.changed, asks.changed = set(), set()
        return changes

    def background(self, side: Side) -> dict[int, int]:
        """All background size of one side: price_ticks → lots."""
        half = self.half(side)
        return {price: lots for price in half.prices if (lots := half.background(price))}

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

    def any_own_of(self, side: Side) -> bool:
        """Whether any own order of that side rests here."""
        return bool((self.bids if side is _BUY else self.asks).queues)

    def has_own(self, side: Side, price_ticks: int) -> bool:
        """Whether an own order rests at that price."""
        return price_ticks in self.half(side).queues

    def own_lots(self, order: int) -> int:
        """What is left of a resting order, lots. Raises KeyError where it does not rest here."""
        queue = self._own[order]
        return queue.entries[queue.find(order)].lots

    def ahead_lots(self, order: int) -> int:
        """Size that trades before this order at its price, lots. Raises KeyError where it does not rest here."""
        queue = self._own[order]
        return sum([entry.lots for entry in queue.entries[: queue.find(order)]])

    def would_cross(self, side: Side, price_ticks: int) -> bool:
        """Whether an order of that side at that price would take."""
        if side is _BUY:
            asks = self.asks.prices
            return bool(asks) and price_ticks >= asks[0]
        bids = self.bids.prices
        return bool(bids) and price_ticks <= bids[-1]

    def available_lots(self, taker: Side, limit_ticks: int) -> int:
        """Everything a taker could get down to its limit, lots."""
        side = _SELL if taker is _BUY else _BUY
        sizes = self.half(side).lots
        return sum([sizes[price] for price in self.prices_to(side, limit_ticks)])

    # ---- own orders ---------------------------------------------------------------------------------------------

    def rest(self, order: int, side: Side, price_ticks: int, lots: int) -> None:
        """Put an order at the end of the queue at its price. The caller has matched what would cross."""
        if order in self._own or order == BACKGROUND or lots <= 0:
            raise ValueError(f"order {order} with {lots} lots cannot rest: known key or no size")
        half = self.bids if side is _BUY else self.asks
        price: Any = price_ticks
        queues: dict[Any, Queue] = half.queues
        queue = queues.get(price)
        if queue is None:
            queue = queues[price] = Queue(side, price_ticks, half.lots.get(price, 0))
        queue.append(order, lots)
        half.set(price, queue.total)
        self._own[order] = queue

    def shrink(self, order: int, lots: int) -> None:
        """Lower what is left of an order to `lots` > 0; it keeps its place. Raises ValueError on growth."""
        queue = self._own[order]
        index = queue.find(order)
        before = queue.entries[index].lots
        if not 0 < lots <= before:
            raise ValueError(f"order {order} cannot be shrunk from {before} to {lots} lots")
        if lots < before:
            queue.reduce(index, before - lots)
            self.half(queue.side).set(queue.price_ticks, queue.total)

    def remove(self, order: int) -> int:
        """Take an order out; returns the lots it still had. Raises KeyError where it does not rest here."""
        queue = self._own[order]
        del self._own[order]
        index = queue.find(order)
        lots = queue.entries[index].lots
        queue.reduce(index, lots)
        self.half(queue.side).settle(queue.price_ticks, queue)
        return lots

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
        half = self.half(side)
        queue = half.queues.get(price_ticks)
        if queue is None:
            half.set(price_ticks, half.lots.get(price_ticks, 0) + lots)
            return
        if queue.entries[0].order == BACKGROUND:
            queue.entries[0].lots += lots
        else:
            queue.entries.insert(0, Entry(BACKGROUND, lots))
        queue.total += lots
        queue.background += lots
        half.set(price_ticks, queue.total)

    # ---- matching -----------------------------------------------------------------------------------------------

    def next_match(self, taker: Side, limit_ticks: int | None, lots: int) -> Match | None:
        """Match at most `lots` against the front of the best opposite queue; None where nothing reaches the limit."""
        half = self.asks if taker is _BUY else self.bids
        price = half.best()
        if lots <= 0 or price == NO_PRICE or (limit_ticks is not None and not _reaches(taker, limit_ticks, price)):
            return None
        return self._match_front(half, price, 0, lots)

    def front(self, taker: Side, limit_ticks: int) -> int | None:
        """What `next_match` would meet: the order's key or BACKGROUND; None where nothing reaches the limit."""
        half = self.asks if taker is _BUY else self.bids
        price = half.best()
        if price == NO_PRICE or not _reaches(taker, limit_ticks, price):
            return None
        queue = half.queues.get(price)
        return BACKGROUND if queue is None else queue.entries[0].order

    def match_at(self, side: Side, price_ticks: int, lots: int) -> Match | None:
        """Match at most `lots` against the front of one queue, whatever stands at better prices."""
        half = self.half(side)
        if lots <= 0 or price_ticks not in half.lots:
            return None
        return self._match_front(half, price_ticks, 0, lots)

    def next_own_through(self, side: Side, price_ticks: int, lots: int | None, *, at_price: bool) -> Match | None:
        """Match the best own order of `side` that the market has moved through, ahead of any background.

        Through means better than `price_ticks` (higher for a buy), or equal to it too with `at_price`. `lots` None
        fills it whole: a market that stands at or beyond a price has traded everything there.
        """
        half = self.half(side)
        if not half.queues or (lots is not None and lots <= 0):
            return None
        buys, best = half.is_bids, half.best()
        if best < price_ticks if buys else best > price_ticks:
            return None  # most of the time: the book is not crossed, and no own order is better than the best price
        price = max(half.queues) if buys else min(half.queues)
        if (price < price_ticks if buys else price > price_ticks) or (price == price_ticks and not at_price):
            return None
        queue = half.queues[price]
        index = 0
        while queue.entries[index].order == BACKGROUND:
            index += 1
        return self._match_front(half, price, index, lots if lots is not None else queue.entries[index].lots)

    def _match_front(self, half: Half, price: int, index: int, lots: int) -> Match:
        queue = half.queues.get(price)
        if queue is None:
            there = half.lots[price]
            traded = min(lots, there)
            half.set(price, there - traded)
            return Match(price, traded, BACKGROUND)
        entry = queue.entries[index]
        maker = entry.order
        traded = min(lots, entry.lots)
        if maker != BACKGROUND and traded == entry.lots:
            del self._own[maker]
        queue.reduce(index, traded)
        half.settle(price, queue)
        return Match(price, traded, maker)


def _reaches(taker: Side, limit_ticks: int, price_ticks: int) -> bool:
    return price_ticks <= limit_ticks if taker is _BUY else price_ticks >= limit_ticks
