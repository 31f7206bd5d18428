"""Orders and amends whose outcome is unknown: they count at their worst until a probe or the stream has spoken."""

from __future__ import annotations

import pytest
from msgspec import structs

from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.order import OrderState, Side
from bot.engine.orders import OwnOrder
from tests.support.engine_driver import ASK, BID, MS, SYMBOL, Driver, S, of


def _unchanged(order: OwnOrder) -> ev.VenueOrder:
    """The order as the venue shows it where no amend has come."""
    return ev.VenueOrder(
        SYMBOL, order.client_order_id, order.venue_order_id, order.side, order.price_ticks, order.qty_lots, 0,
        ev.OrderStatus.WORKING,
    )  # fmt: skip


def test_an_unknown_order_blocks_its_side_is_probed_and_found() -> None:
    driver = Driver()
    driver.silent = {it.PlaceOrder, it.ProbeOrder}
    driver.start()
    buy = next(intent for intent in of(it.PlaceOrder, driver.sent) if intent.side is Side.BUY)
    answers = driver._answers(buy)
    driver.tell(ev.OrderUncertain(driver.now, buy.client_order_id, 0, "time-out"))
    told = driver.wait(S)
    assert buy.client_order_id in [intent.client_order_id for intent in of(it.ProbeOrder, told)]
    assert [intent for intent in of(it.PlaceOrder, told) if intent.side is Side.BUY] == []
    driver.tell(answers[1])
    order = driver.engine.state.orders.get(buy.client_order_id)
    assert order is not None
    assert order.state is OrderState.WORKING


def test_not_found_is_final_only_after_receive_window_and_margin_with_the_private_stream_up() -> None:
    driver = Driver()
    driver.silent = {it.PlaceOrder}
    driver.start()
    buy = next(intent for intent in of(it.PlaceOrder, driver.sent) if intent.side is Side.BUY)
    for intent in of(it.PlaceOrder, driver.sent):
        if intent is not buy:
            for event in driver._answers(intent):
                driver.tell(event)
    sent_ns = driver.now
    driver.tell(ev.OrderUncertain(driver.now, buy.client_order_id, 0, "time-out"))
    while buy.client_order_id in [order.client_order_id for order in driver.engine.live_orders()]:
        driver.wait(100 * MS)
        assert driver.now - sent_ns < 20 * S
        if driver.now - sent_ns == 3 * S:
            driver.tell(ev.StreamDown(driver.now, "private", "reset"))
            driver.tell(ev.StreamUp(driver.now, "private"))
    assert driver.now - sent_ns >= 10 * S
    assert len(of(it.PlaceOrder, driver.wait(3 * S))) >= 1


@pytest.mark.parametrize("window_ms", [1_000, 2_000, 5_000, 9_000])
def test_a_create_that_never_arrived_gives_its_side_back_as_soon_as_a_question_can_decide(window_ms: int) -> None:
    driver = Driver(receive_window_ms=window_ms)
    driver.silent = {it.PlaceOrder}
    driver.start()
    buy = next(intent for intent in of(it.PlaceOrder, driver.sent) if intent.side is Side.BUY)
    sent_ns, final_ns = driver.now, (window_ms + 2_000) * MS
    driver.tell(ev.OrderUncertain(driver.now, buy.client_order_id, 0, "time-out"))
    asked_ns: list[int] = []
    while not asked_ns or asked_ns[-1] < final_ns:
        asked_ns += [one.at_ns - sent_ns for one in of(it.ProbeOrder, driver.wait(10 * MS))]
        assert driver.now - sent_ns < 30 * S
    assert asked_ns[-1] - final_ns < 50 * MS, "the first question that can decide is asked at once, not at its turn"
    assert len(asked_ns) <= 7
    assert buy.client_order_id not in [order.client_order_id for order in driver.engine.live_orders()]


def test_a_late_not_found_does_not_end_an_order_that_the_venue_has_shown_since_it_was_asked() -> None:
    driver, buy = _asked_after(window_s=9)
    asked_ns = buy.probe_sent_ns
    driver.tell(ev.OrderUpdated(driver.now, _unchanged(buy)))
    assert _is(buy, OrderState.WORKING)
    driver.wait(200 * MS)
    told = driver.tell(ev.OrderNotFound(driver.now, buy.client_order_id, asked_ns))
    assert _is(buy, OrderState.UNKNOWN)
    told += driver.wait(100 * MS)
    assert of(it.PlaceOrder, told) == [], "the venue may have both"
    assert [one.client_order_id for one in of(it.ProbeOrder, told)] == [buy.client_order_id], "two words: asked again"
    driver.tell(ev.OrderNotFound(driver.now, buy.client_order_id, buy.probe_sent_ns))
    assert _is(buy, OrderState.CANCELLED), "asked after it was last shown, it decides"


def test_a_late_not_found_does_not_end_an_order_that_is_in_doubt_anew() -> None:
    driver, buy = _asked_after(window_s=9)
    asked_ns = buy.probe_sent_ns
    driver.tell(ev.OrderUpdated(driver.now, _unchanged(buy)))
    driver.tell(ev.OrderUncertain(driver.now, buy.client_order_id, 0, "time-out"))
    told = driver.tell(ev.OrderNotFound(driver.now, buy.client_order_id, asked_ns))
    assert _is(buy, OrderState.UNKNOWN)
    assert of(it.PlaceOrder, told) == []
    driver.silent = set()
    driver.wait(S)
    assert _is(buy, OrderState.WORKING)


def test_a_late_not_found_does_not_end_an_order_whose_amend_the_venue_has_confirmed_since() -> None:
    driver = Driver().start()
    driver.wait(S)
    driver.silent = {it.AmendOrder, it.ProbeOrder, it.ReadAccount}
    amend = of(it.AmendOrder, driver.book(BID + 300, ASK + 300))[0]
    order = driver.engine.state.orders.get(amend.client_order_id)
    assert order is not None
    driver.tell(ev.AmendAnswered(driver.now, amend.client_order_id, amend.price_ticks, amend.qty_lots, "accepted"))
    driver.wait(9 * S)
    asked_ns = order.probe_sent_ns
    assert asked_ns - order.sent_at_ns >= 7 * S
    assert order.state is OrderState.PENDING_AMEND
    done = structs.replace(_unchanged(order), price_ticks=amend.price_ticks, qty_lots=amend.qty_lots)
    driver.tell(ev.OrderUpdated(driver.now, done))
    told = driver.tell(ev.OrderNotFound(driver.now, order.client_order_id, asked_ns))
    assert order.live
    assert of(it.PlaceOrder, told) == []


def _amended_since_it_was_asked(driver: Driver) -> tuple[OwnOrder, ev.VenueOrder, int]:
    """An amend of unknown outcome was asked after, then the stream told that it was done: the order, what the venue
    showed before, and when that was asked."""
    driver.start().wait(S)
    driver.silent = {it.AmendOrder, it.ProbeOrder, it.ReadAccount}
    amend = of(it.AmendOrder, driver.book(BID + 300, ASK + 300))[0]
    order = driver.engine.state.orders.get(amend.client_order_id)
    assert order is not None
    before = _unchanged(order)
    driver.tell(ev.AmendAnswered(driver.now, amend.client_order_id, amend.price_ticks, amend.qty_lots, "unknown"))
    driver.wait(200 * MS)
    asked_ns = order.probe_sent_ns
    assert asked_ns > order.sent_at_ns
    driver.now += MS
    driver.tell(ev.OrderUpdated(driver.now, structs.replace(before, price_ticks=amend.price_ticks)))
    assert order.price_ticks == amend.price_ticks != before.price_ticks
    return order, before, asked_ns


def test_what_was_asked_before_the_stream_told_of_an_amend_does_not_undo_it() -> None:
    driver = Driver()
    order, before, asked_ns = _amended_since_it_was_asked(driver)
    terms = (order.price_ticks, order.qty_lots)
    filled = structs.replace(before, filled_lots=1, qty_lots=before.qty_lots + 1)
    driver.tell(ev.OrderUpdated(driver.now + MS, filled, asked_ns))
    assert (order.price_ticks, order.qty_lots) == terms
    assert order.reported_lots == 1, "what is filled stays filled, whenever that was asked"
    driver.tell(ev.OrderUpdated(driver.now + MS, before, driver.now))
    assert order.price_ticks == before.price_ticks, "asked in the moment it was told: the venue answered later"


def test_what_was_asked_before_the_stream_told_of_an_amend_confirms_no_later_one() -> None:
    driver = Driver()
    order, before, asked_ns = _amended_since_it_was_asked(driver)
    driver.silent = {it.ReadAccount, it.AmendOrder}
    told = [*driver.book(BID, ASK), *driver.wait(2 * S)]
    back = next(one for one in of(it.AmendOrder, told) if one.client_order_id == order.client_order_id)
    assert order.state is OrderState.PENDING_AMEND
    was_there = structs.replace(before, price_ticks=back.price_ticks, qty_lots=back.qty_lots)
    driver.tell(ev.OrderUpdated(driver.now, was_there, asked_ns))
    assert order.state is OrderState.PENDING_AMEND
    driver.tell(ev.OrderUpdated(driver.now, was_there))
    assert _is(order, OrderState.WORKING)


def test_that_an_order_has_ended_counts_whenever_it_was_asked() -> None:
    for status in (ev.OrderStatus.CANCELLED, ev.OrderStatus.FILLED, ev.OrderStatus.REJECTED):
        driver = Driver()
        order, before, asked_ns = _amended_since_it_was_asked(driver)
        driver.tell(ev.OrderUpdated(driver.now, structs.replace(before, status=status), asked_ns))
        assert not order.live, status


def test_of_two_answers_the_one_that_was_asked_for_later_counts_whichever_comes_first() -> None:
    for first in (0, 1):
        driver, buy = _asked_after(window_s=9)
        asked_ns = [buy.probe_sent_ns, buy.probe_sent_ns + MS]
        driver.now += 2 * MS
        shown = [structs.replace(_unchanged(buy), price_ticks=buy.price_ticks + number) for number in range(2)]
        for number in (first, 1 - first):
            driver.tell(ev.OrderUpdated(driver.now, shown[number], asked_ns[number]))
        assert buy.price_ticks == shown[1].price_ticks


def test_an_answer_that_was_asked_for_before_the_cancel_says_nothing_of_it_though_another_question_followed() -> None:
    driver = Driver()
    driver.silent = {it.PlaceOrder, it.ProbeOrder, it.CancelOrder, it.CancelAll, it.ReadAccount}
    driver.start()
    driver.tell(driver.orders_read(), driver.position_read())
    driver.wait(S)
    buy = next(order for order in driver.engine.live_orders() if order.side is Side.BUY)
    driver.tell(ev.OrderAccepted(driver.now, buy.client_order_id, "v"))
    driver.wait(10 * S)
    asked_ns = buy.probe_sent_ns
    assert asked_ns > buy.sent_at_ns
    driver.tell(ev.StopRequested(driver.now, "operator_freeze", "planned", "people", "ops"))
    driver.wait(10 * S)
    assert buy.probe_sent_ns > buy.sent_at_ns > asked_ns
    assert buy.state is OrderState.PENDING_CANCEL
    assert of(it.CancelOrder, driver.tell(ev.OrderUpdated(driver.now, _unchanged(buy), asked_ns))) == []
    assert buy.state is OrderState.PENDING_CANCEL
    assert of(it.CancelOrder, driver.tell(ev.OrderUpdated(driver.now, _unchanged(buy), buy.probe_sent_ns))) != []


def test_a_late_not_found_does_not_end_an_order_that_a_read_asked_later_has_shown() -> None:
    driver, buy = _asked_after(window_s=9)
    asked_ns = buy.probe_sent_ns
    driver.tell(ev.OrderAccepted(driver.now, buy.client_order_id, buy.venue_order_id))
    assert buy.state is OrderState.WORKING
    driver.now += MS
    driver.tell(driver.orders_read())
    told = driver.tell(ev.OrderNotFound(driver.now, buy.client_order_id, asked_ns))
    assert buy.live
    assert of(it.PlaceOrder, told) == []


def _asked_after(window_s: int) -> tuple[Driver, OwnOrder]:
    """A buy that stands at the venue and is in doubt, last asked after when `not found` would decide."""
    driver = Driver().start()
    driver.wait(window_s * S)
    buy = next(order for order in driver.engine.live_orders() if order.side is Side.BUY)
    driver.silent = {it.ProbeOrder}
    driver.tell(ev.OrderUncertain(driver.now, buy.client_order_id, 0, "time-out"))
    driver.wait(200 * MS)
    assert buy.state is OrderState.UNKNOWN
    assert buy.probe_sent_ns > buy.sent_at_ns
    return driver, buy


def _is(order: OwnOrder, state: OrderState) -> bool:
    return order.state is state


def test_without_acknowledgement_the_order_is_cancelled_and_probed() -> None:
    driver = Driver()
    driver.silent = {it.PlaceOrder, it.CancelOrder}
    driver.start()
    placed = {intent.client_order_id for intent in of(it.PlaceOrder, driver.sent)}
    told = driver.wait(30 * S)
    assert {intent.client_order_id for intent in of(it.CancelOrder, told)} == placed
    assert {intent.client_order_id for intent in of(it.ProbeOrder, driver.wait(S) + told)} == placed


def test_an_amend_whose_outcome_is_unknown_counts_at_the_larger_size_until_probed() -> None:
    driver = Driver().start()
    driver.wait(S)
    driver.silent = {it.AmendOrder, it.ProbeOrder}
    told = driver.book(BID + 300, ASK + 300)
    amend = of(it.AmendOrder, told)[0]
    driver.tell(ev.AmendAnswered(driver.now, amend.client_order_id, amend.price_ticks, amend.qty_lots, "unknown"))
    order = driver.engine.state.orders.get(amend.client_order_id)
    assert order is not None
    assert order.state is OrderState.UNKNOWN
    assert order.exposed_lots == max(order.qty_lots, amend.qty_lots)
    shown = driver.venue[amend.client_order_id]
    done = structs.replace(shown, price_ticks=amend.price_ticks, qty_lots=amend.qty_lots)
    driver.tell(ev.OrderUpdated(driver.now, done))
    assert order.state is OrderState.WORKING
    assert order.pending_qty_lots is None


def test_an_amend_of_unknown_outcome_is_not_settled_by_its_old_terms_before_it_can_land_no_more() -> None:
    driver = Driver().start()
    driver.wait(S)
    driver.silent = {it.AmendOrder, it.ProbeOrder}
    amend = of(it.AmendOrder, driver.book(BID + 300, ASK + 300))[0]
    order = driver.engine.state.orders.get(amend.client_order_id)
    assert order is not None
    old = _unchanged(order)
    sent_ns = driver.now
    driver.tell(ev.AmendAnswered(driver.now, amend.client_order_id, amend.price_ticks, amend.qty_lots, "unknown"))
    while driver.now - sent_ns < 7 * S:
        driver.tell(ev.OrderUpdated(driver.now, old))
        assert order.state is OrderState.UNKNOWN
        assert (order.pending_price_ticks, order.pending_qty_lots) == (amend.price_ticks, amend.qty_lots)
        told = driver.wait(500 * MS)
        assert not [one for one in of(it.AmendOrder, told) if one.client_order_id == order.client_order_id]
        assert order.probe_sent_ns > sent_ns
    while order.probe_sent_ns - sent_ns < 7 * S:  # the question has to be asked after that, not answered
        driver.wait(100 * MS)
    assert of(it.AmendOrder, driver.tell(ev.OrderUpdated(driver.now, old))), "it works by its old terms, and moves"


def test_an_unwanted_order_is_cancelled_though_its_amend_is_unknown_and_both_sizes_count_until_it_is_gone() -> None:
    driver = Driver().start()
    driver.wait(S)
    driver.silent = {it.AmendOrder, it.ProbeOrder, it.CancelOrder}
    amend = of(it.AmendOrder, driver.book(BID + 300, ASK + 300))[0]
    order = driver.engine.state.orders.get(amend.client_order_id)
    assert order is not None
    old = _unchanged(order)
    driver.tell(ev.AmendAnswered(driver.now, amend.client_order_id, amend.price_ticks, amend.qty_lots, "unknown"))
    order.unwanted = True
    told = driver.tell(ev.OrderUpdated(driver.now, old))
    assert [one.client_order_id for one in of(it.CancelOrder, told)] == [order.client_order_id]
    assert order.state is OrderState.PENDING_CANCEL
    assert order.pending_qty_lots == amend.qty_lots
    driver.tell(ev.CancelAnswered(driver.now, order.client_order_id, "unknown"))
    again = driver.tell(ev.OrderUpdated(driver.now, old))
    assert [one.client_order_id for one in of(it.CancelOrder, again)] == [order.client_order_id]
