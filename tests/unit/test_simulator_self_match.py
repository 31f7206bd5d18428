"""Self-match prevention: what becomes of an order that would trade with another one of its own account."""

from __future__ import annotations

import pytest

from bot.domain.order import Side
from bot.simulator.orders import EndReason, NewOrder, Order, OrderChanged, SelfMatch, Status, TimeInForce
from tests.unit.test_simulator_venue import Desk

TOUCH, BEYOND = 600_005, 600_010
"""Where 20 lots and 100 lots of others stand."""
INSIDE = 600_003
"""Where nobody else stands."""


def resting(desk: Desk, price: int = INSIDE, tag: SelfMatch = SelfMatch.NONE) -> Order:
    """An own sell of 10 lots."""
    return desk.venue.create(desk.account, NewOrder("", Side.SELL, price, 10, TimeInForce.GTC, False, tag), 1)


def taking(desk: Desk, tag: SelfMatch, lots: int = 15, tif: TimeInForce = TimeInForce.IOC, at: int = TOUCH) -> Order:
    return desk.venue.create(desk.account, NewOrder("", Side.BUY, at, lots, tif, False, tag), 2)


def ended_by_self_match(order: Order, other: Order) -> bool:
    reason = (order.status, order.end_reason, order.self_match_id)
    return reason == (Status.CANCELLED, EndReason.SELF_MATCH, other.order_id)


def test_without_a_tag_an_account_trades_with_itself() -> None:
    desk = Desk()
    maker = resting(desk)
    taker = taking(desk, SelfMatch.NONE)
    assert (maker.status, taker.status) == (Status.FILLED, Status.FILLED)


def test_the_takers_tag_takes_the_maker_out_and_the_taker_trades_on_behind_it() -> None:
    desk = Desk()
    maker = resting(desk)
    taker = taking(desk, SelfMatch.CANCEL_MAKER)
    assert ended_by_self_match(maker, taker)
    assert taker.status is Status.FILLED
    assert desk.executed() == [(TOUCH, 15, False)]


def test_the_takers_tag_takes_the_taker_out_and_what_it_had_before_stays_its_own() -> None:
    desk = Desk()
    maker = resting(desk, BEYOND)
    taker = taking(desk, SelfMatch.CANCEL_TAKER, lots=150, at=BEYOND)
    assert ended_by_self_match(taker, maker)
    assert maker.status is Status.NEW
    assert desk.executed() == [(TOUCH, 20, False), (BEYOND, 100, False)]  # others' stood before it


def test_the_takers_tag_takes_both_out() -> None:
    desk = Desk()
    maker = resting(desk)
    taker = taking(desk, SelfMatch.CANCEL_BOTH)
    assert ended_by_self_match(maker, taker)
    assert ended_by_self_match(taker, maker)
    assert desk.executed() == []


@pytest.mark.parametrize("tag", SelfMatch)
def test_the_makers_tag_does_not_count(tag: SelfMatch) -> None:
    desk = Desk()
    maker = resting(desk, tag=tag)
    taker = taking(desk, SelfMatch.NONE)
    assert (maker.status, taker.status) == (Status.FILLED, Status.FILLED)


def test_an_order_of_another_account_is_no_self_match() -> None:
    desk = Desk()
    other = desk.venue.open_account("other", "secret", desk.account.wallet_quote, 0)
    order = desk.venue.create(other, NewOrder("", Side.SELL, INSIDE, 10, TimeInForce.GTC), 1)
    assert taking(desk, SelfMatch.CANCEL_BOTH).status is Status.FILLED
    assert order.status is Status.FILLED


def test_an_amended_order_that_takes_has_its_tag_still() -> None:
    desk = Desk()
    maker = resting(desk)
    taker = taking(desk, SelfMatch.CANCEL_TAKER, tif=TimeInForce.GTC, at=599_000)
    desk.venue.amend(desk.account, taker, INSIDE, None, 3)
    assert ended_by_self_match(taker, maker)


def test_post_only_ends_for_its_own_reason_before_any_tag() -> None:
    desk = Desk()
    maker = resting(desk)
    taker = taking(desk, SelfMatch.CANCEL_MAKER, tif=TimeInForce.POST_ONLY)
    assert taker.end_reason is EndReason.POST_ONLY_WOULD_TAKE
    assert maker.status is Status.NEW


def test_fill_or_kill_does_not_count_what_it_would_take_out() -> None:
    desk = Desk()
    maker = resting(desk)
    taker = taking(desk, SelfMatch.CANCEL_MAKER, lots=25, tif=TimeInForce.FOK)
    assert taker.end_reason is EndReason.NOT_ALL_AT_ONCE  # 20 of others, 10 of its own
    assert maker.status is Status.NEW
    assert taking(desk, SelfMatch.CANCEL_MAKER, lots=20, tif=TimeInForce.FOK).status is Status.FILLED
    assert maker.end_reason is EndReason.SELF_MATCH


@pytest.mark.parametrize(("tag", "maker_left"), [(SelfMatch.CANCEL_TAKER, True), (SelfMatch.CANCEL_BOTH, False)])
def test_fill_or_kill_that_meets_its_own_ends_with_nothing_traded(tag: SelfMatch, maker_left: bool) -> None:
    desk = Desk()
    maker = resting(desk, BEYOND)
    taker = taking(desk, tag, lots=125, tif=TimeInForce.FOK, at=BEYOND)
    assert ended_by_self_match(taker, maker)
    assert maker.status.is_open is maker_left
    assert desk.executed() == []
    fits = taking(desk, tag, lots=110, tif=TimeInForce.FOK, at=BEYOND)
    assert fits.status is Status.FILLED  # others' stand before it


def test_both_are_told_of_in_their_order() -> None:
    desk = Desk()
    maker = resting(desk)
    desk.venue.drain()
    taker = taking(desk, SelfMatch.CANCEL_BOTH)
    told = [one.order for one in desk.venue.drain() if isinstance(one, OrderChanged)]
    assert [(one.order_id, one.status) for one in told] == [
        (maker.order_id, Status.CANCELLED),
        (taker.order_id, Status.CANCELLED),
    ]
