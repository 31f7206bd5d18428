"""The maker policy's drill: a crossing and a too small quote are offered, counted and told; nothing of them is sent."""

from __future__ import annotations

from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.order import Side
from tests.support.engine_driver import SYMBOL, Driver, S, of


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


ORPHAN = "slwq-1-999999"


def _with_an_orphan(driver: Driver) -> None:
    """Another client's order with our prefix; time enough to count it, cancel it and quote again."""
    order = ev.VenueOrder(SYMBOL, ORPHAN, "v-9", Side.BUY, 490_000, 4, 0, ev.OrderStatus.WORKING)
    driver.venue[ORPHAN] = order
    driver.wait(10 * S)


def test_an_announced_orphan_is_counted_and_cancelled_and_the_stop_that_follows_is_planned() -> None:
    driver = Driver().start()
    driver.tell(ev.DrillRequested(driver.now, "orphan", "guard", ORPHAN))
    _with_an_orphan(driver)
    assert driver.count("mm_recon_divergence_total", "orders_remote_only") == 1
    assert driver.count("mm_freeze_events_total", "drill_orphan", "planned") == 1
    assert driver.count("mm_freeze_events_total", "recon_divergence", "fault") == 0
    assert ORPHAN not in driver.venue
    assert driver.engine.view == "RUNNING", "by itself, nobody had to resume it"
    assert set(driver.quotes) == set(Side)


def test_an_orphan_that_nobody_announced_is_a_fault_beside_one_that_was() -> None:
    driver = Driver().start()
    driver.tell(ev.DrillRequested(driver.now, "orphan", "guard", "slwq-1-888888"))
    _with_an_orphan(driver)
    assert driver.count("mm_freeze_events_total", "recon_divergence", "fault") == 1
    assert driver.count("mm_freeze_events_total", "drill_orphan", "planned") == 0
    assert driver.engine.view == "HELD"


def _lose(driver: Driver, back_after_ns: int) -> list[it.Intent]:
    for stream in ("public", "private"):
        driver.tell(ev.StreamDown(driver.now, stream, "closed"))
    driver.wait(back_after_ns, market=False)
    for stream in ("public", "private"):
        driver.tell(ev.StreamUp(driver.now, stream))
    driver.book(500_000, 500_002)
    return driver.wait(4 * S)


def test_an_announced_loss_of_the_streams_stops_as_planned_and_is_quoted_after_a_read_alone() -> None:
    driver = Driver().start()
    driver.tell(ev.DrillRequested(driver.now, "stream-loss", "guard"))
    told = _lose(driver, S)
    assert driver.count("mm_freeze_events_total", "drill_stream_loss", "planned") == 1
    assert driver.count("mm_freeze_events_total", "venue_unreachable", "market") == 0
    assert driver.engine.view == "RUNNING"
    assert of(it.PlaceOrder, told)
    _lose(driver, S)
    assert driver.count("mm_freeze_events_total", "venue_unreachable", "market") == 1, "one announcement, one loss"


def test_a_loss_that_outlasts_the_drill_is_the_venues() -> None:
    driver = Driver().start()
    driver.tell(ev.DrillRequested(driver.now, "stream-loss", "guard"))
    _lose(driver, 31 * S)
    assert driver.count("mm_freeze_events_total", "venue_unreachable", "market") == 1
