"""One side of the limit order book: what stands at which price, and the queues where own orders do. Pure."""

from __future__ import annotations

from typing import Any, Final

from bot.simulator.queue import BACKGROUND, Queue

NO_PRICE: Final = -1
"""Where an inner answer says that there is none: prices are above zero."""


class Half:
    """One side. `lots`: everything at a price; `queues`: only where own orders stand; `prices` ascending.

    For whoever publishes it, to look at only: it changes as the book. `changed`: prices whose size may have changed.
    """

    __slots__ = ("changed", "is_bids", "lots", "prices", "queues")

    def __init__(self, is_bids: bool) -> None:
        self.is_bids: Final = is_bids
        self.lots: Final[dict[int, int]] = {}
        self.prices: Final[list[int]] = []
        self.queues: Final[dict[int, Queue]] = {}
        self.changed: set[int] = set()

    def set(self, price: Any, lots: int) -> None:
        """Everything at that price, as its queue has it; 0 takes the price out."""
        known: dict[Any, int] = self.lots
        if lots:
            count = len(known)
            known[price] = lots
            if len(known) != count:
                _put(self.prices, price)
        elif price in known:
            del known[price]
            _take(self.prices, price)
        self.changed.add(price)

    def set_background(self, price: int, lots: int) -> None:
        """Make the background at a price exactly `lots`: growth joins at the back, a fall is cancelled in the queue."""
        queue = self.queues.get(price)
        if queue is None:
            self.set(price, lots)
            return
        if lots > queue.background:
            queue.append(BACKGROUND, lots - queue.background)
        elif lots < queue.background:
            queue.cancel_background(queue.background - lots)
        else:
            return
        self.set(price, queue.total)

    def change_background(self, levels: list[tuple[Any, Any]]) -> None:
        """As `set_background` for each of (price_ticks, lots).

        Numbers are `Any` here, as they stand in lists and dictionaries: most are only looked up, and as `int` the
        compiled bot would take each out of its object and make another one for every look-up.
        """
        known: dict[Any, Any] = self.lots
        prices: list[Any] = self.prices
        queues: dict[Any, Queue] = self.queues
        changed: set[Any] = self.changed
        for price, lots in levels:
            if queues and price in queues:
                self.set_background(price, lots)
                continue
            if lots:
                count = len(known)
                known[price] = lots
                if len(known) != count:
                    _put(prices, price)
            elif price in known:
                del known[price]
                _take(prices, price)
            changed.add(price)

    def replace_background(self, target: dict[int, int]) -> None:
        """Make the whole background equal to `target` (price_ticks → lots)."""
        for price in list(self.queues):
            self.set_background(price, target.get(price, 0))
        known, queues, changed = self.lots, self.queues, self.changed
        after = {price: lots for price, lots in target.items() if lots and price not in queues}
        for price in queues:
            after[price] = known[price]
        changed.update([price for price in known if price not in after])
        changed.update([price for price, lots in after.items() if known.get(price, 0) != lots])
        known.clear()
        known.update(after)
        self.prices[:] = sorted(after)

    def best(self) -> int:
        """The best price with any size on it, or NO_PRICE."""
        prices = self.prices
        if not prices:
            return NO_PRICE
        return prices[-1] if self.is_bids else prices[0]

    def best_background(self) -> int:
        """The best price that does not depend on own orders, or NO_PRICE."""
        prices, queues = self.prices, self.queues
        if not queues:
            return self.best()
        count = len(prices)
        at = count - 1 if self.is_bids else 0
        step = -1 if self.is_bids else 1
        while 0 <= at < count:
            price = prices[at]
            queue = queues.get(price)
            if queue is None or queue.background:
                return price
            at += step
        return NO_PRICE

    def background(self, price: int) -> int:
        queue = self.queues.get(price)
        return self.lots.get(price, 0) if queue is None else queue.background

    def settle(self, price: Any, queue: Queue) -> None:
        """After a queue changed: its total, and no queue any more where the last own order has left it."""
        total = queue.total
        self.set(price, total)
        if total == queue.background:
            del self.queues[price]


def _put(prices: list[Any], price: Any) -> None:
    """Into its place among ascending prices; most come at one of the ends, where the touch is."""
    number: int = price
    if prices:
        last: int = prices[-1]
        if number < last:
            prices.insert(_place(prices, number), price)
            return
    prices.append(price)


def _take(prices: list[Any], price: Any) -> None:
    """Out of ascending prices."""
    number: int = price
    last: int = prices[-1]
    if number == last:
        del prices[-1]
    else:
        del prices[_place(prices, number)]


def _place(prices: list[Any], number: int) -> int:
    """The index of the first price that is not below it, as `bisect_left` finds it in a list that is not empty."""
    first: int = prices[0]
    if number <= first:
        return 0
    low, high = 1, len(prices)
    while low < high:
        middle = (low + high) >> 1
        price: int = prices[middle]
        if price < number:
            low = middle + 1
        else:
            high = middle
    return low
