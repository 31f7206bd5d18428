"""Stopping: the table, the views, and the cancel-all that is tried until it is proven."""

from __future__ import annotations

from decimal import Decimal

import pytest

from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.order import Side
from bot.engine.stop import STOPS, StopBoard, View
from tests.support.engine_driver import MS, START, SYMBOL, Driver, S, of


def stop(driver: Driver, reason: str) -> list[it.Intent]:
    return driver.tell(ev.StopRequested(driver.now, reason, "planned", "people", "ops"))


def test_the_table_has_one_row_a_reason_and_halted_is_never_released_here() -> None:
    assert all(reason == row.reason for reason, row in STOPS.items())
    assert all(row.resume == "re-arm" for row in STOPS.values() if row.view in (View.HALTED, View.SHUTDOWN))
    assert all(row.resume == "people" for row in STOPS.values() if row.view is View.HELD)


@pytest.mark.parametrize("people", [("ann",), ("ann", "ann "), ("ann", "Ann"), ("ann", " "), ()])
def test_one_person_re_arms_nothing_however_the_name_is_written(people: tuple[str, ...]) -> None:
    board = StopBoard(hysteresis_ns=10)
    board.enter("kill_switch", 0)
    assert board.rearm("*", people) == []
    assert [one.reason for one in board.rearm("*", ("ann", "bob"))] == ["kill_switch"]


def test_the_worst_view_shows_and_of_equals_the_first() -> None:
    board = StopBoard(hysteresis_ns=10)
    assert board.view(ready=False) is View.INIT
    assert board.view(ready=True) is View.RUNNING
    board.enter("stale_book", 1)
    board.enter("recon_divergence", 2)
    board.enter("position_drift", 3)
    assert board.view(ready=True) is View.HELD
    assert board.principal is not None
    assert board.principal.stop.reason == "recon_divergence"


def test_an_auto_stop_is_released_when_its_cause_has_been_gone_long_enough_without_a_break() -> None:
    board = StopBoard(hysteresis_ns=10)
    assert board.enter("stale_book", 0) is not None
    board.cause_gone("stale_book", 5)
    assert board.enter("stale_book", 9) is None
    board.cause_gone("stale_book", 10)
    board.cause_gone("stale_book", 15)
    assert board.release_due(19) == []
    assert [one.reason for one in board.release_due(20)] == ["stale_book"]


def test_people_release_what_is_theirs_and_nothing_that_needs_re_arming() -> None:
    board = StopBoard(hysteresis_ns=10)
    for reason in ("operator_hold", "taker_fill", "drawdown", "stale_book"):
        board.enter(reason, 0)
    assert {one.reason for one in board.release_by_people("*")} == {"operator_hold", "taker_fill"}
    assert board.release_by_people("drawdown") == []
    assert board.view(ready=True) is View.HALTED


def test_entering_a_stop_cancels_all_once_under_one_key_and_a_repeat_sends_nothing() -> None:
    driver = Driver().start()
    assert len(driver.venue) == 2
    told = stop(driver, "operator_freeze")
    keys = [intent.key for intent in of(it.CancelAll, told)]
    assert len(keys) == 1
    assert driver.venue == {}
    assert of(it.CancelAll, stop(driver, "operator_freeze")) == []
    assert driver.count("mm_freeze_events_total", "operator_freeze", "planned") == 1
    done = driver.notes("cancel_all_done")
    assert [note.fields["key"] for note in done] == keys
    assert [name for name, _, _ in driver.engine.drain_observations()].count("mm_cancel_all_duration_seconds") == 1


def test_a_second_stop_joins_a_cancel_all_that_is_not_proven_yet() -> None:
    driver = Driver().start()
    driver.silent = {it.CancelAll, it.CancelOrder}
    assert len(of(it.CancelAll, stop(driver, "operator_freeze"))) == 1
    assert of(it.CancelAll, stop(driver, "operator_hold")) == []
    assert driver.engine.view == "HELD"


@pytest.mark.parametrize("outcome", ["unknown", "unreachable", "refused"])
def test_a_cancel_all_without_success_is_tried_again_under_a_new_key(outcome: str) -> None:
    driver = Driver().start()
    driver.silent = {it.CancelAll}
    key = of(it.CancelAll, stop(driver, "operator_freeze"))[0].key
    driver.tell(ev.CancelAllAnswered(driver.now, key, outcome))
    again = of(it.CancelAll, driver.wait(600 * MS))
    assert len(again) == 1
    assert again[0].key != key
    driver.silent = set()
    driver.wait(3 * S)
    assert driver.venue == {}
    assert len(driver.notes("cancel_all_done")) == 1


def test_a_failed_read_proves_nothing() -> None:
    driver = Driver().start()
    driver.silent = {it.ReadAccount}
    stop(driver, "operator_freeze")
    driver.tell(ev.ReadFailed(driver.now, "open_orders", SYMBOL, "HTTP 500"))
    driver.wait(S)
    assert driver.notes("cancel_all_done") == []
    driver.silent = set()
    driver.wait(3 * S)
    assert len(driver.notes("cancel_all_done")) == 1


def test_a_read_asked_before_the_answer_proves_nothing() -> None:
    driver = Driver().start()
    driver.silent = {it.ReadAccount}
    asked = driver.now
    driver.now += 50 * MS
    stop(driver, "operator_freeze")
    driver.tell(ev.OpenOrdersRead(driver.now, SYMBOL, asked, ()))
    assert driver.notes("cancel_all_done") == []


def test_an_order_whose_create_was_in_flight_is_cancelled_when_it_comes_up() -> None:
    driver = Driver()
    driver.silent = {it.PlaceOrder}
    driver.start()
    placed = of(it.PlaceOrder, driver.sent)
    stop(driver, "operator_freeze")
    assert driver.notes("cancel_all_done") == []
    for intent in placed:
        for event in driver._answers(intent):
            driver.tell(event)
    driver.wait(S)
    assert driver.venue == {}
    assert len(driver.notes("cancel_all_done")) == 1


def test_own_orders_that_a_read_still_shows_are_cancelled_again() -> None:
    driver = Driver().start()
    stubborn = next(iter(driver.venue.values()))
    driver.silent = {it.CancelAll}
    key = of(it.CancelAll, stop(driver, "operator_freeze"))[0].key
    driver.now += MS
    driver.tell(ev.CancelAllAnswered(driver.now, key, "accepted"))
    assert stubborn.client_order_id in driver.venue
    driver.silent = set()
    driver.wait(3 * S)
    assert driver.venue == {}
    assert len(driver.notes("cancel_all_done")) == 1


def test_a_stop_resumes_after_the_hysteresis_and_quotes_again() -> None:
    driver = Driver().start()
    driver.wait(4 * S, market=False)
    assert driver.engine.view == "FROZEN"
    assert driver.engine.stop is not None
    assert (driver.engine.stop.reason, driver.engine.stop.stop_class) == ("stale_book", "market")
    assert driver.venue == {}
    assert driver.count("mm_ws_drops_undetected_total") == 1  # the stream still says that it is up
    driver.wait(1900 * MS)
    assert driver.engine.view == "FROZEN"
    driver.wait(300 * MS)
    assert driver.engine.view == "RUNNING"
    assert set(driver.quotes) == set(Side)


def test_the_same_top_for_too_long_is_stale_too() -> None:
    driver = Driver().start()
    for _ in range(35):
        driver.wait(100 * MS, market=False)
        driver.book(*(driver.engine.state.books[SYMBOL].top or (0, 0)))
    assert driver.engine.stop is not None
    assert driver.engine.stop.reason == "stale_book"
    assert driver.count("mm_ws_drops_undetected_total") == 0


def test_a_lost_private_stream_freezes_and_needs_the_account_to_be_read_again() -> None:
    driver = Driver().start()
    driver.tell(ev.StreamDown(driver.now, "private", "reset"))
    assert driver.engine.view == "FROZEN"
    driver.silent = {it.ReadAccount}
    driver.tell(ev.StreamUp(driver.now, "private"))
    driver.wait(5 * S)
    assert driver.engine.view == "FROZEN"
    driver.silent = set()
    driver.wait(6 * S)
    assert driver.engine.view == "RUNNING"


def test_requests_that_do_not_reach_the_venue_freeze_and_an_answer_lets_it_go_on() -> None:
    driver = Driver(recon_interval_s=Decimal(3600), position_check_s=Decimal(3600)).start()
    driver.silent = {it.ReadAccount}
    for _ in range(5):  # together they are one
        driver.tell(ev.ReadFailed(driver.now, "order", SYMBOL, "no route"))
    driver.wait(600 * MS)
    assert driver.engine.view == "RUNNING"
    driver.tell(ev.ReadFailed(driver.now, "position", SYMBOL, "no route"))
    driver.tell(driver.orders_read())  # one that did
    for _ in range(3):
        driver.wait(600 * MS)
        assert driver.engine.view == "RUNNING"
        order = driver.quotes[Side.BUY]
        driver.tell(ev.AmendAnswered(driver.now, order.client_order_id, 1, 1, "unreachable", "no route"))
    driver.silent |= {it.CancelAll}
    driver.wait(200 * MS)
    assert [stop.reason for stop in driver.engine.stops] == ["venue_unreachable"]
    driver.wait(4 * S)
    assert driver.engine.view == "FROZEN"
    driver.silent.clear()
    driver.wait(5 * S)
    assert driver.engine.view == "RUNNING"
    assert set(driver.quotes) == set(Side)


def test_a_loss_past_the_hard_limit_halts_and_publishes_the_kill_switch_once() -> None:
    driver = Driver().start()
    driver.fill(driver.quotes[Side.BUY].client_order_id, 4)
    driver.book(340_000, 340_002)
    told = driver.wait(S)
    assert driver.engine.view == "HALTED"
    published = [intent.reason for intent in of(it.PublishKillSwitch, told)]
    assert published == ["daily_loss"]
    driver.book(320_000, 320_002)
    assert [intent.reason for intent in of(it.PublishKillSwitch, driver.wait(S))] == []
    driver.book(240_000, 240_002)
    assert [intent.reason for intent in of(it.PublishKillSwitch, driver.wait(S))] == ["drawdown"]
    driver.tell(ev.ResumeRequested(driver.now, "*", "two people"))
    assert driver.engine.view == "HALTED"


def test_a_taker_fill_freezes_until_people_resume_and_a_second_one_halts() -> None:
    driver = Driver().start()
    driver.fill(driver.quotes[Side.BUY].client_order_id, 4, maker=False)
    assert driver.engine.view == "FROZEN"
    assert driver.count("mm_crossing_orders_total", SYMBOL) == driver.count("mm_taker_fills_total", SYMBOL) == 1
    driver.wait(5 * S)
    assert driver.engine.view == "FROZEN"
    driver.tell(ev.ResumeRequested(driver.now, "taker_fill", "two people"))
    driver.wait(S)
    assert driver.engine.view == "RUNNING"
    driver.fill(driver.quotes[Side.SELL].client_order_id, 2, maker=False)
    assert driver.engine.view == "HALTED"
    assert driver.count("mm_crossing_orders_total", SYMBOL) == 2


def test_an_edge_below_the_threshold_freezes() -> None:
    driver = Driver(edge_threshold_bps=Decimal("7.1")).start()
    assert driver.engine.stop is not None
    assert driver.engine.stop.reason == "edge_below_threshold"
    assert of(it.PlaceOrder, driver.sent) == []


def test_too_many_orders_in_a_minute_hold() -> None:
    driver = Driver(orders_per_min_max=4).start()
    for _ in range(5):
        for order in list(driver.venue.values()):
            driver.fill(order.client_order_id, order.qty_lots)
        driver.wait(200 * MS)
    assert driver.engine.view == "HELD"
    assert driver.count("mm_limit_breaches_total", "order_rate") >= 1
    assert len(of(it.PlaceOrder, driver.sent)) == 4


def test_shutdown_cancels_proves_and_exits_with_0_and_without_proof_with_1() -> None:
    driver = Driver().start()
    told = driver.tell(ev.ShutdownRequested(driver.now, "SIGTERM"))
    assert [intent.code for intent in of(it.Exit, told)] == [0]
    assert driver.venue == {}
    deaf = Driver().start()
    deaf.silent = {it.CancelAll, it.CancelOrder, it.ReadAccount}
    deaf.tell(ev.ShutdownRequested(deaf.now, "SIGTERM"))
    assert [intent.code for intent in of(it.Exit, deaf.wait(11 * S))] == [1]


def test_a_stop_under_an_unknown_reason_holds() -> None:
    driver = Driver().start()
    stop(driver, "a word of somebody else")
    assert driver.engine.view == "HELD"
    assert driver.count("mm_freeze_events_total", "external", "fault") == 1


@pytest.mark.parametrize("reason", ["disk_full", "journal_unwritable"])
def test_a_stop_by_the_machine_is_counted_under_its_own_reason(reason: str) -> None:
    driver = Driver().start()
    stop(driver, reason)
    assert driver.engine.view == "HELD"
    assert driver.count("mm_freeze_events_total", reason, "fault") == 1
    assert driver.count("mm_freeze_events_total", "external", "fault") == 0


def test_a_book_that_never_came_is_as_old_as_the_process() -> None:
    driver = Driver()
    driver.tell(ev.Started(START, "r", "live", "d", "v", (SYMBOL,), ""))
    shown = {name: value for name, _, value in driver.engine.gauges(START + 61 * S)}
    assert shown["mm_book_age_ms"] == 61_000
