"""A symbol whose market data cannot be read is frozen by itself, until a fresh book has been good for long enough."""

from __future__ import annotations

import pytest

from bot.domain import events as ev
from bot.domain import intent as it
from tests.support.engine_driver import ASK, BID, MS, SYMBOL, Driver, S

HYSTERESIS_S = 2
"""As the driver sets it."""


def of(kind: type[it.Intent], intents: list[it.Intent]) -> list[it.Intent]:
    return [intent for intent in intents if isinstance(intent, kind)]


def garble(driver: Driver) -> list[it.Intent]:
    return driver.tell(ev.BookLost(driver.now, SYMBOL, "garbled: data.b: high is no decimal number", garbled=True))


def running() -> Driver:
    driver = Driver().start()
    driver.wait(S)
    assert driver.venue
    return driver


def frozen_count(driver: Driver) -> int:
    return driver.engine.counts["mm_freeze_events_total", ("garbled_data", "market")]


def test_what_stands_is_cancelled_at_once_and_the_bot_goes_on() -> None:
    driver = running()
    standing = set(driver.venue)
    told = garble(driver)
    assert {one.client_order_id for one in told if isinstance(one, it.CancelOrder)} == standing
    assert len(of(it.ResyncBook, told)) == 1
    assert driver.venue == {}
    assert driver.engine.view == "RUNNING"
    (note,) = [one for one in told if isinstance(one, it.Note) and one.event == "symbol_frozen"]
    assert note.fields["symbol"] == SYMBOL
    assert "data.b" in str(note.fields["detail"])


def test_many_garbled_messages_are_one_freeze() -> None:
    driver = running()
    for _ in range(20):
        garble(driver)
        driver.now += 10 * MS
    assert frozen_count(driver) == 1


def test_a_gap_freezes_no_symbol_by_itself() -> None:
    driver = running()
    standing = set(driver.venue)
    driver.tell(ev.BookLost(driver.now, SYMBOL, "gap"))
    assert set(driver.venue) == standing
    assert frozen_count(driver) == 0


def test_time_alone_releases_nothing() -> None:
    driver = running()
    garble(driver)
    told: list[it.Intent] = []
    for _ in range(20):
        driver.now += 100 * MS
        told += driver.tell(ev.Ticked(driver.now))
    assert of(it.PlaceOrder, told) == []
    assert SYMBOL in driver.engine.state.frozen


def test_a_fresh_book_releases_it_once_it_has_been_good_for_the_hysteresis() -> None:
    driver = running()
    garble(driver)
    driver.now += 300 * MS
    driver.book(BID, ASK)
    good_ns = driver.now
    told: list[it.Intent] = []
    while not of(it.PlaceOrder, told):
        told += driver.wait(100 * MS)
        assert driver.now - good_ns < 10 * S
    assert driver.now - good_ns >= HYSTERESIS_S * S
    assert [one.event for one in told if isinstance(one, it.Note)].count("symbol_released") == 1


def test_a_book_that_is_lost_again_meanwhile_starts_afresh() -> None:
    driver = running()
    garble(driver)
    driver.book(BID, ASK)
    driver.wait(1_500 * MS)
    garble(driver)
    driver.now += 100 * MS
    driver.book(BID, ASK)
    again_ns = driver.now
    while SYMBOL in driver.engine.state.frozen:
        driver.wait(100 * MS)
        assert driver.now - again_ns < 10 * S
    assert driver.now - again_ns >= HYSTERESIS_S * S
    assert frozen_count(driver) == 1


def test_an_order_that_was_on_its_way_is_cancelled_when_it_turns_up() -> None:
    driver = Driver()
    driver.silent = {it.PlaceOrder}
    driver.start()
    placed = [one for one in driver.sent if isinstance(one, it.PlaceOrder)]
    assert placed
    garble(driver)
    told: list[it.Intent] = []
    for intent in placed:
        for event in driver._answers(intent):
            told += driver.tell(event)
    told += driver.wait(S)
    assert {one.client_order_id for one in told if isinstance(one, it.CancelOrder)} == {
        one.client_order_id for one in placed
    }
    assert driver.venue == {}


def test_a_cancel_that_is_refused_is_sent_again() -> None:
    driver = running()
    standing = set(driver.venue)
    driver.silent = {it.CancelOrder}
    garble(driver)
    for name in standing:
        driver.tell(ev.CancelAnswered(driver.now, name, "refused", "no"))
    driver.silent = set()
    again = driver.wait(S)
    assert {one.client_order_id for one in again if isinstance(one, it.CancelOrder)} == standing


def test_where_no_symbol_is_left_the_bot_stops_when_the_book_is_stale() -> None:
    driver = running()
    garble(driver)
    for _ in range(60):
        driver.now += 100 * MS
        driver.grant()
        driver.tell(ev.Ticked(driver.now))
    assert driver.engine.stop is not None
    assert driver.engine.stop.reason == "stale_book"


@pytest.mark.parametrize("side", ["empty in the snapshot", "empty for a moment afterwards"])
def test_a_book_with_an_empty_side_counts_from_when_it_is_whole_again(side: str) -> None:
    """No second snapshot comes of a book that is in sync: what makes it whole is a change."""
    driver = running()
    garble(driver)
    driver.now += 100 * MS
    if side == "empty in the snapshot":
        driver._update_id += 1
        one_sided = ev.BookSnapshot(driver.now, SYMBOL, ((BID, 5),), (), driver._update_id, driver.now)
        driver.tell(one_sided)
    else:
        driver.book(BID, ASK)
        driver.wait(500 * MS)
        change(driver, (ASK, 0))
    driver.now += 100 * MS
    driver.tell(ev.Ticked(driver.now))
    change(driver, (ASK, 5))
    whole_ns = driver.now
    while SYMBOL in driver.engine.state.frozen:
        driver.now += 100 * MS
        driver.grant()
        driver.tell(ev.Ticked(driver.now))
        assert driver.now - whole_ns < 10 * S
    assert driver.now - whole_ns >= HYSTERESIS_S * S


def change(driver: Driver, ask: tuple[int, int]) -> None:
    driver._update_id += 1
    driver.tell(ev.BookDelta(driver.now, SYMBOL, (), (ask,), driver._update_id, driver.now))
