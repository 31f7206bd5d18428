"""An amend that never left: nothing happened at the venue, so the order is as it was and the next try comes soon."""

from __future__ import annotations

from decimal import Decimal

import pytest

from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.order import OrderState, Side
from bot.engine.orders import OwnOrder
from tests.support.engine_driver import ASK, BID, MS, Driver, S, of

FULL_AGAIN_MS = 700


def amending() -> tuple[Driver, it.AmendOrder, OwnOrder]:
    """The market has moved, one amend of the buy side is on its way, and nothing has answered yet."""
    driver = Driver(recon_interval_s=Decimal(3600), position_check_s=Decimal(3600)).start()
    driver.wait(S)
    driver.silent = {it.AmendOrder, it.ReadAccount}
    told = driver.book(BID - 500, ASK - 500) + driver.wait(100 * MS)
    buys = [one for one in of(it.AmendOrder, told) if driver.venue[one.client_order_id].side is Side.BUY]
    order = driver.engine.state.orders.get(buys[0].client_order_id)
    assert order is not None
    return driver, buys[0], order


def never_left(driver: Driver, amend: it.AmendOrder, wait_ms: int) -> list[it.Intent]:
    terms = (amend.client_order_id, amend.price_ticks, amend.qty_lots)
    return driver.tell(ev.AmendAnswered(driver.now, *terms, "unreachable", "it did not leave", wait_ms))


def again(driver: Driver, order: OwnOrder, told: list[it.Intent]) -> list[int]:
    """When that order was amended again."""
    return [one.at_ns for one in of(it.AmendOrder, told) if one.client_order_id == order.client_order_id]


@pytest.mark.parametrize("wait_ms", [0, FULL_AGAIN_MS])
def test_it_is_tried_again_as_soon_as_it_may_leave_however_often_that_happened(wait_ms: int) -> None:
    driver, amend, order = amending()
    for _ in range(5):
        answered_ns = driver.now
        told = never_left(driver, amend, wait_ms)
        assert again(driver, order, told) == [], "not within the turn: what held it back is still there"
        told = driver.wait((wait_ms + 100) * MS)
        (sent_ns, *_) = again(driver, order, told)
        assert wait_ms * MS <= sent_ns - answered_ns <= (wait_ms + 100) * MS
        amend = next(one for one in of(it.AmendOrder, told) if one.client_order_id == order.client_order_id)


def test_the_order_is_as_it_was() -> None:
    driver, amend, order = amending()
    venue = driver.venue[order.client_order_id]
    created_ns = order.created_at_ns
    never_left(driver, amend, FULL_AGAIN_MS)
    assert order.state is OrderState.WORKING
    assert (order.price_ticks, order.qty_lots) == (venue.price_ticks, venue.qty_lots)
    assert (order.pending_price_ticks, order.pending_qty_lots, order.amended_at_ns) == (None, None, 0)
    assert order.created_at_ns == created_ns
    assert order.probe_due_ns is None


def test_our_own_count_of_the_limit_says_nothing_about_the_way_to_the_venue() -> None:
    driver, amend, _ = amending()
    for _ in range(5):
        never_left(driver, amend, FULL_AGAIN_MS)
        driver.wait(S)
    assert driver.count("mm_freeze_events_total", "venue_unreachable", "market") == 0
    for _ in range(5):
        never_left(driver, amend, 0)
        driver.wait(S)
    assert driver.count("mm_freeze_events_total", "venue_unreachable", "market") == 1
