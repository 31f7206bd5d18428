"""Reconciliation: seen twice, then counted, then acted on; a failed read is never an empty one."""

from __future__ import annotations

from engine_driver import MS, SYMBOL, Driver, S, of

from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.order import Side

ORPHAN = "slwq-0-1"


def orphan(driver: Driver, client_order_id: str = ORPHAN) -> None:
    driver.venue[client_order_id] = ev.VenueOrder(
        SYMBOL, client_order_id, "v-orphan", Side.BUY, 300_000, 2, 0, ev.OrderStatus.WORKING
    )


def divergences(driver: Driver, kind: str) -> int:
    return driver.count("mm_recon_divergence_total", kind)


def test_an_own_order_that_we_do_not_know_is_counted_on_the_second_read_and_only_then_cancelled() -> None:
    driver = Driver().start()
    driver.wait(2500 * MS)
    orphan(driver)
    first_seen = None
    while ORPHAN in driver.venue:
        told = driver.wait(100 * MS)
        if first_seen is None and of(it.ReadAccount, told):
            first_seen = driver.now
            assert divergences(driver, "orders_remote_only") == 0
        assert driver.now < driver_deadline(driver)
    assert first_seen is not None
    assert 2 * S <= driver.now - first_seen <= 2300 * MS
    assert divergences(driver, "orders_remote_only") == 1
    assert driver.engine.view == "HELD"
    assert [note.fields["client_order_id"] for note in driver.notes("orphan_order_canceled")] == [ORPHAN]
    driver.wait(6 * S)
    assert divergences(driver, "orders_remote_only") == 1


def driver_deadline(driver: Driver) -> int:
    return driver.engine.state.private_up_since_ns + 20 * S


def test_the_word_of_the_stream_on_an_unknown_own_order_asks_for_a_read_at_once() -> None:
    driver = Driver(recon_interval_s=60).start()
    driver.wait(S)
    orphan(driver)
    driver.tell(ev.OrderUpdated(driver.now, driver.venue[ORPHAN]))
    driver.wait(2500 * MS)
    assert divergences(driver, "orders_remote_only") == 1


def test_an_unknown_order_that_is_gone_at_the_second_read_is_not_counted() -> None:
    driver = Driver().start()
    orphan(driver)
    driver.wait(2 * S)
    del driver.venue[ORPHAN]
    driver.wait(6 * S)
    assert divergences(driver, "orders_remote_only") == 0
    assert driver.engine.view == "RUNNING"


def test_an_order_of_somebody_else_is_left_alone() -> None:
    driver = Driver().start()
    orphan(driver, "manual-7")
    driver.wait(8 * S)
    assert "manual-7" in driver.venue
    assert driver.engine.view == "RUNNING"


def test_an_order_of_ours_that_the_venue_does_not_show_is_counted_probed_and_found_gone() -> None:
    driver = Driver().start()
    lost = driver.quotes[Side.BUY].client_order_id
    del driver.venue[lost]
    told = driver.wait(5 * S)
    assert divergences(driver, "orders_local_only") == 1
    assert lost in [intent.client_order_id for intent in of(it.ProbeOrder, told)]
    driver.wait(14 * S)
    assert driver.engine.state.orders.get(lost) is not None
    assert lost not in [order.client_order_id for order in driver.engine.live_orders()]
    assert set(driver.quotes) == set(Side)
    assert driver.engine.view == "RUNNING"


def test_a_position_that_differs_on_two_reads_is_counted_once_and_held() -> None:
    driver = Driver().start()
    driver.position_lots = 7
    driver.wait(7 * S)
    assert divergences(driver, "position_mismatch") == 1
    assert driver.engine.view == "HELD"
    assert {one.reason for one in driver.engine.stops} == {"recon_divergence", "position_drift"}
    assert (
        dict(((name, labels), value) for name, labels, value in driver.engine.gauges(driver.now))[
            ("mm_position_drift_pct", (SYMBOL,))
        ]
        == 100.0
    )


def test_a_fill_between_two_reads_starts_the_comparison_anew() -> None:
    driver = Driver().start()
    driver.wait(1900 * MS)
    driver.position_lots = 7
    driver.wait(1900 * MS)
    driver.now += 100 * MS
    driver.fill(driver.quotes[Side.BUY].client_order_id, 1)
    driver.wait(1500 * MS)
    assert divergences(driver, "position_mismatch") == 0
    driver.wait(4 * S)
    assert divergences(driver, "position_mismatch") == 1


def test_a_read_that_was_asked_before_a_fill_is_not_compared() -> None:
    driver = Driver().start()
    asked = driver.now
    driver.now += 10 * MS
    driver.fill(driver.quotes[Side.BUY].client_order_id, 4)
    driver.tell(ev.PositionRead(driver.now, SYMBOL, asked, 0, 0))
    driver.wait(8 * S)
    assert divergences(driver, "position_mismatch") == 0


def test_people_resuming_take_over_the_venues_position() -> None:
    driver = Driver().start()
    driver.position_lots = 7
    driver.wait(7 * S)
    driver.tell(ev.ResumeRequested(driver.now, "*", "two people"))
    driver.wait(3 * S)
    assert driver.engine.view == "RUNNING"
    assert driver.engine.positions()[SYMBOL]["qty"] == "0.007"


def test_failed_reads_are_neither_flat_nor_empty() -> None:
    driver = Driver().start()
    driver.fill(driver.quotes[Side.BUY].client_order_id, 4)
    driver.silent = {it.ReadAccount}
    for _ in range(20):
        driver.tell(ev.ReadFailed(driver.now, "position", SYMBOL, "HTTP 503"))
        driver.tell(ev.ReadFailed(driver.now, "open_orders", SYMBOL, "HTTP 503"))
        driver.wait(500 * MS)
    assert driver.engine.view == "RUNNING"
    assert sum(divergences(driver, kind) for kind in ("orders_local_only", "position_mismatch")) == 0


def test_a_flatten_order_is_unknown_only_after_its_grace() -> None:
    driver = Driver().start()
    orphan(driver, "slwf-1-9")
    driver.wait(4500 * MS)
    assert divergences(driver, "orders_remote_only") == 0
    driver.wait(4500 * MS)
    assert divergences(driver, "orders_remote_only") == 1
