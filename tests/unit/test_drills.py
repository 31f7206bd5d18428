"""The maker policy's drill: a crossing and a too small quote are offered, counted and told; nothing of them is sent."""

from __future__ import annotations

from bot.domain import events as ev
from bot.domain import intent as it
from tests.support.engine_driver import SYMBOL, Driver, of


def _drilled(driver: Driver) -> list[it.Intent]:
    return driver.tell(ev.DrillRequested(driver.now, "maker-policy", "guard"))


def test_what_must_be_held_back_is_counted_by_reason_and_nothing_is_sent() -> None:
    driver = Driver().start()
    quotes = dict(driver.venue)
    told = _drilled(driver)
    assert driver.count("mm_orders_blocked_total", SYMBOL, "cross_price") == 2, "one on each side"
    assert driver.count("mm_orders_blocked_total", SYMBOL, "min_qty") == 1
    assert {type(intent) for intent in told} == {it.Note}
    assert driver.venue == quotes
    assert driver.count("mm_crossing_orders_total", SYMBOL) == 0
    reasons = [note.fields["reason"] for note in driver.notes("order_blocked")]
    assert reasons == ["cross_price", "cross_price", "min_qty"]
    assert driver.notes("drill_let_through") == []


def test_each_drill_counts_anew_although_it_is_no_news() -> None:
    driver = Driver().start()
    _drilled(driver)
    _drilled(driver)
    assert driver.count("mm_orders_blocked_total", SYMBOL, "min_qty") == 2


def test_a_symbol_without_a_book_is_told_and_not_counted() -> None:
    driver = Driver().start()
    driver.tell(ev.StreamDown(driver.now, "public", "gone"))
    driver.sent.clear()
    _drilled(driver)
    assert [note.fields["why"] for note in driver.notes("drill_not_run")] == ["no book"]
    assert driver.count("mm_orders_blocked_total", SYMBOL, "cross_price") == 0


def test_a_drilled_freeze_is_planned_cancels_everything_and_ends_by_itself() -> None:
    driver = Driver().start()
    assert driver.venue
    driver.tell(ev.StopRequested(driver.now, "drill", "planned", "auto", "guard"))
    assert driver.engine.view == "FROZEN"
    assert not driver.venue
    assert driver.count("mm_freeze_events_total", "drill", "planned") == 1
    driver.wait(3_000_000_000)
    assert driver.engine.view == "RUNNING"
    assert of(it.PlaceOrder, driver.sent)
