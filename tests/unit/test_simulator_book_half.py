"""One side of the simulated book under everything that can happen to it, beside plain tables; and what it publishes."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.order import Side
from bot.simulator.book_half import Half
from bot.simulator.depth import DepthMessage, DepthView, FollowedDepth
from bot.simulator.matching import Book
from bot.simulator.queue import Entry


class Both:
    """The same done to two books, one of which is followed and the other one compared whole each time."""

    def __init__(self, draw: Random, depth: int) -> None:
        self._draw = draw
        self.books = (Book(), Book())
        self.followed = FollowedDepth(self.books[0], depth)
        self.whole = DepthView(depth)
        self._own: list[tuple[Side, list[Entry]]] = []
        self._mid = 1_000

    def _price(self, side: Side) -> int:
        return max(1, self._mid - side.sign * self._draw.randrange(1, 40))

    def move(self) -> None:
        draw = self._draw
        self._mid = max(50, self._mid + draw.choice((0, 0, 1, -1, 30, -30)))
        side = draw.choice(list(Side))
        halves = [book.half(side) for book in self.books]
        price, lots = self._price(side), draw.randrange(1, 4)
        match draw.randrange(7):
            case 0 | 1:
                lots = draw.choice((0, 0, lots))
                for half in halves:
                    half.set_background(price, lots)
            case 2:
                target = {self._price(side): draw.randrange(1, 4) for _ in range(draw.randrange(30))}
                for half in halves:
                    half.replace_background(target)
            case 3:
                sizes = [(self._price(side), draw.randrange(4)) for _ in range(draw.randrange(12))]
                for half in halves:
                    half.change_background(sizes)
            case 4:
                self._own.append((side, [half.rest(len(self._own) + 1, price, lots) for half in halves]))
            case 5:
                for half in halves:
                    half.put_back(price, lots)
            case _ if self._own:
                self._change_own()

    def _change_own(self) -> None:
        side, entries = self._own.pop(self._draw.randrange(len(self._own)))
        gone, price = self._draw.random() < 0.5, self._price(side)
        for book, entry in zip(self.books, entries, strict=True):
            if gone:
                book.half(side).reduce(entry.level, entry.level.find(entry), entry.lots)
            else:
                book.half(side).move(entry, price, 2)
        if not gone:
            self._own.append((side, entries))

    def look(self) -> None:
        if self._draw.random() < 0.1:
            self.whole.publish(self.books[1])
            assert told(self.followed.snapshot()) == told(self.whole.snapshot())
        else:
            assert told(self.followed.publish()) == told(self.whole.publish(self.books[1]))


def told(message: DepthMessage | None) -> object:
    return message and (message.bids, message.asks, message.update_id)


def check(half: Half) -> None:
    prices = [level.price_ticks for level in half.ladder]
    assert prices == sorted({price for price, level in half.levels.items() if level.lots})
    assert all(half.levels[level.price] is level for level in half.ladder)
    owned = [level for level in half.levels.values() if level.entries is not None]
    assert half.owned == len(owned)
    for level in owned:
        assert level.lots == sum(entry.lots for entry in level.queue())
        assert level.own == sum(entry.lots for entry in level.queue() if entry.order)


@settings(max_examples=30)
@given(st.randoms(use_true_random=False), st.sampled_from((1, 2, 5, 50)))
def test_whatever_happens_to_a_side_it_stays_in_order_and_its_followers_are_told_what_it_is(
    draw: Random, depth: int
) -> None:
    both = Both(draw, depth)
    for _ in range(60):
        both.move()
        if draw.random() < 0.5:
            both.look()
    for book in both.books:
        check(book.bids)
        check(book.asks)
