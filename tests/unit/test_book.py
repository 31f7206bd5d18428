"""The book: sorted, two-sided, honest about what it cannot know; and the fee table."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.book import Book
from bot.domain.fees import DEFAULT_FEES, FEE_PROFILES, fee_profile
from bot.domain.order import Side

levels = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 5)), max_size=30)


def book() -> Book:
    one = Book()
    one.replace(((100, 5), (99, 7)), ((102, 3), (103, 9)), update_id=1, at_ns=10)
    return one


def test_a_snapshot_shows_its_top_and_twice_its_mid() -> None:
    one = book()
    assert (one.top, one.mid2_ticks) == ((100, 102), 202)
    assert one.depth(Side.BUY, 5) == [(100, 5), (99, 7)]
    assert one.depth(Side.SELL, 1) == [(102, 3)]


def test_a_delta_adds_changes_and_deletes_levels() -> None:
    one = book()
    assert one.change(((100, 0), (98, 1)), ((101, 2),), update_id=2, at_ns=20)
    assert one.top == (99, 101)
    assert one.lots_at(Side.BUY, 100) == 0
    assert one.depth(Side.BUY, 3) == [(99, 7), (98, 1)]


@given(levels, levels)
def test_any_sequence_of_deltas_gives_what_a_plain_table_gives(
    bids: list[tuple[int, int]], asks: list[tuple[int, int]]
) -> None:
    one = Book()
    one.replace((), (), update_id=0, at_ns=1)
    plain: dict[int, int] = {}
    for number, (price, qty) in enumerate(bids, start=1):
        one.change(((price, qty),), (), update_id=number, at_ns=1)
        plain.pop(price, None)
        if qty:
            plain[price] = qty
    for number, (price, qty) in enumerate(asks, start=len(bids) + 1):
        one.change((), ((price + 100, qty),), update_id=number, at_ns=1)
    assert one.depth(Side.BUY, 99) == sorted(plain.items(), reverse=True)
    shown = one.depth(Side.SELL, 99)
    assert shown == sorted(shown)


@given(st.data(), st.sampled_from((40, 600, 5_000, 20_000, 10**9)))
def test_however_far_apart_its_levels_lie_a_book_is_what_a_plain_table_is(data: st.DataObject, reach: int) -> None:
    message = st.lists(st.tuples(st.integers(0, reach), st.integers(0, 3)), max_size=6).map(tuple)
    one, plain = Book(), {Side.BUY: dict[int, int](), Side.SELL: dict[int, int]()}
    first = {side: data.draw(message) for side in Side}
    one.replace(first[Side.BUY], first[Side.SELL], update_id=0, at_ns=1)
    for side in Side:
        plain[side] = {price: qty for price, qty in first[side] if qty}
    for number in range(1, data.draw(st.integers(1, 12)) + 1):
        told = {side: data.draw(message) for side in Side}
        assert one.change(told[Side.BUY], told[Side.SELL], update_id=number, at_ns=number)
        for side in Side:
            for price, qty in told[side]:
                plain[side].pop(price, None)
                if qty:
                    plain[side][price] = qty
            levels = sorted(plain[side].items(), reverse=side is Side.BUY)
            assert one.depth(side, 99) == levels
            assert one.depth(side, 2) == levels[:2]
            assert all(one.lots_at(side, price + 1) == plain[side].get(price + 1, 0) for price, _ in told[side])
        bid, ask = max(plain[Side.BUY], default=None), min(plain[Side.SELL], default=None)
        assert one.top == (None if bid is None or ask is None or bid >= ask else (bid, ask))


@settings(max_examples=20)
@given(st.randoms(use_true_random=False), st.sampled_from((5, 5_000, 10**12, 10**25)))
def test_wherever_its_price_goes_no_level_is_left_behind(draw: Random, mid: int) -> None:
    one, number = Book(), 0
    one.replace((), (), update_id=0, at_ns=1)
    plain: dict[Side, dict[int, int]] = {side: {} for side in Side}
    for number in range(1, 31):
        mid = max(1, mid + draw.choice((0, 1, -7, 300, -300, 3_000, -3_000, 10**5, -(10**5))))
        told: dict[Side, list[tuple[int, int]]] = {side: [] for side in Side}
        for side, levels in told.items():
            for _ in range(draw.randrange(6)):
                away = draw.randrange(draw.choice((3, 300, 1_100, 4_200, 9_000)))
                stood = plain[side] and draw.random() < 0.4
                price = draw.choice(list(plain[side])) if stood else max(1, mid - side.sign * away)
                levels.append((price, draw.choice((0, 0, 1, 2, 10**20))))
            if draw.random() < 0.1:
                levels += [(price, 0) for price in plain[side]]
            for price, lots in levels:
                plain[side].pop(price, None)
                if lots:
                    plain[side][price] = lots
        assert one.change(told[Side.BUY], told[Side.SELL], update_id=number, at_ns=number)
        for side in Side:
            levels = sorted(plain[side].items(), reverse=side is Side.BUY)
            assert one.depth(side, len(levels) + 1) == levels
            assert all(one.lots_at(side, price + 1) == plain[side].get(price + 1, 0) for price, _ in levels[:3])
        bid, ask = max(plain[Side.BUY], default=None), min(plain[Side.SELL], default=None)
        assert one.top == (None if bid is None or ask is None or bid >= ask else (bid, ask))


def test_a_gap_loses_the_book_until_the_next_snapshot() -> None:
    one = book()
    assert not one.change((), (), update_id=3, at_ns=30)
    assert (one.top, one.mid2_ticks, one.usable) == (None, None, False)
    assert not one.change((), (), update_id=4, at_ns=40)
    one.replace(((1, 1),), ((2, 1),), update_id=9, at_ns=50)
    assert one.usable


def test_a_lost_book_that_comes_back_without_a_top_shows_no_new_one() -> None:
    for bids, asks in (((), ((102, 3),)), (((102, 5),), ((102, 3),))):
        one = book()
        one.lose()
        one.replace(bids, asks, update_id=9, at_ns=50)
        assert (one.top, one.updated_at_ns, one.top_changed_at_ns) == (None, 50, 10)
        one.replace(((100, 5),), ((102, 3),), update_id=10, at_ns=60)
        assert one.top_changed_at_ns == 60


def test_a_crossed_or_one_sided_book_has_no_top() -> None:
    one = book()
    one.change(((102, 1),), (), update_id=2, at_ns=20)
    assert one.top is None
    one.change(((102, 0),), (), update_id=3, at_ns=21)
    assert one.top == (100, 102)
    one.replace((), ((2, 1),), update_id=9, at_ns=50)
    assert one.top is None


def test_the_same_top_again_is_an_update_but_no_change_of_the_top() -> None:
    one = book()
    one.change(((90, 1),), (), update_id=2, at_ns=20)
    assert (one.updated_at_ns, one.top_changed_at_ns) == (20, 10)
    one.change(((100, 6),), (), update_id=3, at_ns=30)
    assert one.top_changed_at_ns == 30


def test_fee_profiles_are_those_of_the_table_and_an_unknown_one_is_refused_by_name() -> None:
    rows = {name: (p.maker_bps, p.taker_bps, p.rebate_bps) for name, p in FEE_PROFILES.items()}
    assert rows["VIP2"] == (Decimal("0.5"), Decimal("5.0"), Decimal("2.5"))
    assert len(rows) == 5
    assert DEFAULT_FEES.fee_quote(Decimal(10_000), is_maker=True) == Decimal("-1")
    assert DEFAULT_FEES.fee_quote(Decimal(10_000), is_maker=False) == Decimal("7")
    with pytest.raises(ValueError, match="VIP9 is not one of VIP0, VIP1"):
        fee_profile("VIP9")
