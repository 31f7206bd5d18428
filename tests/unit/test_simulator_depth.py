"""The published book: whoever follows the deltas has its best levels, and an unchanged book says nothing."""

from hypothesis import given
from hypothesis import strategies as st

from bot.domain.order import Side
from bot.simulator.depth import DepthView, FollowedDepth
from bot.simulator.matching import Book

_changes = st.lists(
    st.tuples(st.booleans(), st.sampled_from(list(Side)), st.integers(1, 12), st.integers(0, 3)), max_size=80
)


@given(_changes, st.integers(1, 6))
def test_a_follower_of_the_deltas_holds_the_best_levels(changes: list[tuple[bool, Side, int, int]], depth: int) -> None:
    book, view, whole = Book(), DepthView(depth), DepthView(depth)
    held: dict[Side, dict[int, int]] = {Side.BUY: {}, Side.SELL: {}}
    view.publish(book)
    for look, side, away, lots in changes:
        book.set_background(side, 100 - side.sign * away, lots)
        if not look:
            continue
        message = view.publish(book, book.drain_changes())
        assert (message is None) == (whole.publish(book) is None)
        for told, levels in ((Side.BUY, message.bids), (Side.SELL, message.asks)) if message else ():
            assert levels == sorted(levels, reverse=told is Side.BUY)
            for price, size in levels:
                if size:
                    assert held[told].get(price) != size
                    held[told][price] = size
                else:
                    del held[told][price]
        for each in Side:
            assert held[each] == dict(book.depth(each, depth))
        shown = view.snapshot()
        assert (shown.bids, shown.asks) == (book.depth(Side.BUY, depth), book.depth(Side.SELL, depth))


def test_a_book_that_has_not_changed_says_nothing_and_uses_no_number() -> None:
    book, view = Book(), DepthView(5)
    book.set_background(Side.BUY, 99, 4)
    first = view.publish(book, book.drain_changes())
    assert first is not None
    assert view.publish(book, book.drain_changes()) is None
    book.set_background(Side.BUY, 99, 5)
    book.set_background(Side.BUY, 99, 4)
    assert view.publish(book, book.drain_changes()) is None
    book.set_background(Side.SELL, 101, 1)
    second = view.publish(book, book.drain_changes())
    assert second is not None
    assert second.update_id == first.update_id + 1


@given(_changes, st.integers(1, 6))
def test_a_view_that_hears_of_every_change_tells_what_one_that_compares_everything_tells(
    changes: list[tuple[bool, Side, int, int]], depth: int
) -> None:
    book, twin = Book(), Book()
    view, whole = FollowedDepth(book, depth), DepthView(depth)
    for number, (look, side, away, lots) in enumerate(changes):
        for one in (book, twin):
            if lots == 2:
                one.rest(number + 1, side, 100 - side.sign * away, lots)
            else:
                one.set_background(side, 100 - side.sign * away, lots)
        if not look:
            continue
        told, expected = view.publish(), whole.publish(twin)
        assert (told is None) == (expected is None)
        if told is not None and expected is not None:
            assert (told.bids, told.asks, told.update_id) == (expected.bids, expected.asks, expected.update_id)
    whole.publish(twin)
    shown, expected = view.snapshot(), whole.snapshot()
    assert (shown.bids, shown.asks, shown.update_id) == (expected.bids, expected.asks, expected.update_id)


_steps = st.lists(
    st.tuples(
        st.sampled_from(["", "", "follow", "follow", "follow", "behind", "whole", "snapshot"]),
        st.sampled_from(list(Side)),
        st.integers(1, 12),
        st.integers(0, 3),
    ),
    max_size=80,
)


@given(_steps, st.lists(st.integers(1, 6), min_size=1, max_size=3))
def test_views_that_follow_the_book_tell_what_they_would_tell_of_all_they_are_told(
    steps: list[tuple[str, Side, int, int]], depths: list[int]
) -> None:
    """Also where one stays behind for a while, looks at everything, or shows what it told, with changes untold."""
    book, twin = Book(), Book()
    views = [(DepthView(depth), DepthView(depth)) for depth in depths]
    behind: set[int] = set()
    """who comes back by a look at everything"""
    for number, (look, side, away, lots) in enumerate(steps):
        for one in (book, twin):
            if lots == 2:
                one.rest(number + 1, side, 100 - side.sign * away, lots)
            else:
                one.set_background(side, 100 - side.sign * away, lots)
        drained = book.drain_changes() if look in ("follow", "behind") else None
        for at, (view, plain) in enumerate(views):
            told = expected = None
            if drained is not None and (at in behind or (look == "behind" and at == number % len(views))):
                view.stay_behind(book, drained)
                behind.add(at)
            elif drained is not None:
                told, expected = view.follow(book, drained), plain.publish(twin)
            elif look == "whole":
                told, expected = view.publish(book), plain.publish(twin)
                behind.discard(at)
            elif look == "snapshot":
                told, expected = view.snapshot(book), plain.snapshot()
            assert (told is None) == (expected is None)
            if told is not None and expected is not None:
                assert (told.bids, told.asks, told.update_id) == (expected.bids, expected.asks, expected.update_id)


def test_levels_that_stand_empty_are_forgotten_when_there_are_many() -> None:
    book = Book()
    for price in range(1, 5_000):
        book.set_background(Side.BUY, price, 1)
        book.set_background(Side.BUY, price, 0)
        book.drain_changes()
    assert len(book.bids.levels) <= 1_001
    assert book.best(Side.BUY) is None


@given(st.lists(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 3)), max_size=8), max_size=60), st.booleans())
def test_many_changes_at_once_are_one_after_the_other(steps: list[list[tuple[int, int]]], is_bids: bool) -> None:
    """Also of prices that share a place among those looked for last."""
    side = Side.BUY if is_bids else Side.SELL
    book, twin = Book(), Book()
    for number, step in enumerate(steps):
        sizes = [(price + (number % 2) * 4_096, lots) for price, lots in step]
        book.half(side).change_background(sizes)
        for price, lots in sizes:
            twin.half(side).set_background(price, lots)
        assert book.background(side) == twin.background(side)
        assert [level.price for level in book.half(side).ladder] == [level.price for level in twin.half(side).ladder]


def test_a_level_that_was_forgotten_is_made_anew_in_the_same_breath() -> None:
    book = Book()
    for price in range(1, 1_001):
        book.bids.change_background([(price, 1)])
        book.bids.change_background([(price, 0)])
        book.drain_changes()
    book.bids.change_background([(5_000, 1), (5, 2)])
    assert [level.price for level in book.bids.ladder] == [5, 5_000]
    assert book.bids.levels[5] is book.bids.ladder[0]
    assert book.lots_at(Side.BUY, 5) == 2
