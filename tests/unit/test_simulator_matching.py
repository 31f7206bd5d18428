"""The book's laws: price-time priority, place in the queue, partial fills. Integer ticks and lots throughout."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.order import Side
from bot.simulator.matching import BACKGROUND, Book, Match


def test_a_better_price_trades_first_and_then_the_earlier_order_at_a_price() -> None:
    book = Book()
    book.rest(1, Side.BUY, 100, 5)
    book.rest(2, Side.BUY, 101, 5)
    book.rest(3, Side.BUY, 101, 5)
    found = [book.next_match(Side.SELL, 100, 12)]
    found += [book.next_match(Side.SELL, 100, 7), book.next_match(Side.SELL, 100, 2)]
    assert found == [Match(101, 5, 2), Match(101, 5, 3), Match(100, 2, 1)]
    assert book.own_lots(1) == 3


def test_an_own_order_trades_only_after_the_size_that_stood_before_it() -> None:
    book = Book()
    book.set_background(Side.SELL, 200, 30)
    book.rest(7, Side.SELL, 200, 10)
    book.set_background(Side.SELL, 200, 50)
    assert book.ahead_lots(7) == 30
    assert book.next_match(Side.BUY, 200, 25) == Match(200, 25, BACKGROUND)
    assert book.ahead_lots(7) == 5
    assert book.next_match(Side.BUY, 200, 9) == Match(200, 5, BACKGROUND)
    assert book.next_match(Side.BUY, 200, 4) == Match(200, 4, 7)
    assert (book.own_lots(7), book.ahead_lots(7)) == (6, 0)
    assert book.background_lots(Side.SELL, 200) == 20


def test_a_taker_stops_at_its_limit() -> None:
    book = Book()
    book.set_background(Side.SELL, 200, 3)
    book.set_background(Side.SELL, 202, 3)
    assert book.next_match(Side.BUY, 201, 10) == Match(200, 3, BACKGROUND)
    assert book.next_match(Side.BUY, 201, 7) is None
    assert book.next_match(Side.BUY, None, 7) == Match(202, 3, BACKGROUND)
    assert book.best(Side.SELL) is None


def test_shrinking_keeps_the_place_and_growing_is_refused() -> None:
    book = Book()
    book.rest(1, Side.BUY, 100, 5)
    book.rest(2, Side.BUY, 100, 5)
    book.shrink(1, 2)
    assert book.next_match(Side.SELL, 100, 10) == Match(100, 2, 1)
    with pytest.raises(ValueError, match="cannot be shrunk from 5 to 6"):
        book.shrink(2, 6)
    assert book.own_lots(2) == 5


def test_a_market_that_moved_through_an_own_order_fills_it_ahead_of_any_background() -> None:
    book = Book()
    book.set_background(Side.BUY, 100, 50)
    book.rest(1, Side.BUY, 100, 5)
    book.rest(2, Side.BUY, 98, 5)
    assert book.next_own_through(Side.BUY, 100, None, at_price=False) is None
    assert book.next_own_through(Side.BUY, 99, None, at_price=True) == Match(100, 5, 1)
    assert book.next_own_through(Side.BUY, 99, None, at_price=True) is None
    assert book.background_lots(Side.BUY, 100) == 50


_prices = st.integers(90, 110)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("background"), st.sampled_from(list(Side)), _prices, st.integers(0, 40)),
        st.tuples(st.just("rest"), st.sampled_from(list(Side)), _prices, st.integers(1, 40)),
        st.tuples(st.just("take"), st.sampled_from(list(Side)), _prices, st.integers(1, 40)),
        st.tuples(st.just("remove"), st.sampled_from(list(Side)), _prices, st.integers(1, 40)),
    ),
    max_size=60,
)


@given(_steps)
def test_size_is_conserved_and_the_place_in_the_queue_only_improves(steps: list[tuple[str, Side, int, int]]) -> None:
    book, own, ahead, key = Book(), {}, {}, 0
    for kind, side, price, lots in steps:
        if kind == "background" and not book.would_cross(side, price):
            book.set_background(side, price, lots)
            assert book.background_lots(side, price) == lots
        elif kind == "rest" and not book.would_cross(side, price):
            key += 1
            book.rest(key, side, price, lots)
            own[key] = lots
            ahead[key] = book.ahead_lots(key)
        elif kind == "take":
            before = book.available_lots(side, price)
            left, last = lots, None
            while (match := book.next_match(side, price, left)) is not None:
                assert last is None or (match.price_ticks - last) * side.sign >= 0
                left, last = left - match.lots, match.price_ticks
                if match.maker != BACKGROUND:
                    own[match.maker] -= match.lots
            assert lots - left == min(lots, before)
            assert before - book.available_lots(side, price) == lots - left
        elif kind == "remove" and own:
            gone = sorted(own)[price % len(own)]
            if own.pop(gone):
                book.remove(gone)
        for order in [o for o, left_lots in own.items() if left_lots]:
            assert book.own_lots(order) == own[order]
            assert book.ahead_lots(order) <= ahead[order]
            ahead[order] = book.ahead_lots(order)
        bid, ask = book.best(Side.BUY), book.best(Side.SELL)
        assert bid is None or ask is None or bid < ask
        assert all(level_lots > 0 for either in Side for _, level_lots in book.depth(either, 50))


@given(st.integers(1, 200), st.integers(1, 50), st.integers(0, 200), st.data())
def test_a_cancellation_moves_an_order_by_no_more_than_its_share(
    front: int, own: int, behind: int, data: st.DataObject
) -> None:
    book = Book()
    book.set_background(Side.BUY, 100, front)
    book.rest(1, Side.BUY, 100, own)
    book.set_background(Side.BUY, 100, front + behind)
    cancelled = data.draw(st.integers(0, front + behind))
    book.set_background(Side.BUY, 100, front + behind - cancelled)
    moved = front - book.ahead_lots(1)
    assert 0 <= moved <= cancelled
    exact_share = cancelled * front / (front + behind)
    assert moved <= exact_share + 1 or behind - (cancelled - moved) == 0
    assert book.own_lots(1) == own
