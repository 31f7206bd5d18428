"""Reconciliation: seen twice, then counted, then acted on; a failed read is never an empty one."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.order import OrderState, Side
from tests.support.engine_driver import MS, START, SYMBOL, Driver, S, of

D = Decimal
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
    assert driver.engine.view == "FROZEN"  # the venue is out of reach, which is all that is known
    assert sum(divergences(driver, kind) for kind in ("orders_local_only", "position_mismatch")) == 0
    assert driver.engine.positions()[SYMBOL]["qty"] == "0.004"


def test_a_flatten_order_is_unknown_only_after_its_grace() -> None:
    driver = Driver().start()
    orphan(driver, "slwf-1-9")
    driver.wait(4500 * MS)
    assert divergences(driver, "orders_remote_only") == 0
    driver.wait(4500 * MS)
    assert divergences(driver, "orders_remote_only") == 1


def test_an_order_of_ours_that_a_read_left_out_but_a_probe_finds_open_is_cancelled() -> None:
    driver = Driver().start()
    driver.wait(S)
    missed = driver.quotes[Side.BUY].client_order_id
    hidden, orders_read = driver.venue[missed], driver.orders_read

    def without() -> ev.OpenOrdersRead:
        shown = tuple(order for order in driver.venue.values() if order.client_order_id != missed)
        return ev.OpenOrdersRead(driver.now, SYMBOL, driver.now, shown)

    driver.orders_read = without  # type: ignore[method-assign]
    told = driver.wait(6 * S)
    driver.orders_read = orders_read  # type: ignore[method-assign]
    assert divergences(driver, "orders_local_only") == 1
    assert missed in [intent.client_order_id for intent in of(it.CancelOrder, told)]
    assert hidden.client_order_id not in driver.venue
    driver.wait(3 * S)
    assert set(driver.quotes) == set(Side)


def test_an_order_that_was_believed_gone_and_is_there_counts_again_and_is_cancelled() -> None:
    driver = Driver().start()
    driver.wait(S)
    back = driver.quotes[Side.BUY]
    driver.tell(ev.OrderUpdated(driver.now, _cancelled(back)))
    assert divergences(driver, "orders_remote_only") == 0
    state = driver.engine.state
    revived = False
    for _ in range(60):
        driver.silent = {it.CancelOrder, it.CancelAll}
        driver.wait(100 * MS)
        order = state.orders.get(back.client_order_id)
        assert order is not None
        if order.live:
            revived = True
            assert state.orders.exposed_lots(SYMBOL)[0] >= back.qty_lots
            break
    assert revived
    driver.silent = set()
    driver.wait(5 * S)
    assert divergences(driver, "orders_remote_only") == 1
    assert back.client_order_id not in driver.venue
    assert driver.engine.live_orders() == []


def _cancelled(order: ev.VenueOrder) -> ev.VenueOrder:
    return msgspec.structs.replace(order, status=ev.OrderStatus.CANCELLED)


def test_an_order_that_fills_although_it_was_refused_is_accounted_counts_and_is_asked_after() -> None:
    driver = Driver()
    driver.silent = {it.PlaceOrder}
    driver.start()
    buy = next(intent for intent in of(it.PlaceOrder, driver.sent) if intent.side is Side.BUY)
    driver.tell(ev.OrderRefused(driver.now, buy.client_order_id, 110007, "no money", False))
    driver.silent = {it.PlaceOrder, it.ProbeOrder}
    fill = ev.Filled(driver.now, "e1", buy.client_order_id, "v", SYMBOL, Side.BUY, D(49_900), 1, D(0), True, driver.now)
    driver.tell(fill)
    state = driver.engine.state
    order = state.orders.get(buy.client_order_id)
    assert order is not None
    assert (order.state, state.ledger.accounts[SYMBOL].position_lots) == (OrderState.UNKNOWN, 1)
    assert state.orders.exposed_lots(SYMBOL)[0] >= buy.qty_lots - 1
    assert buy.client_order_id in [one.client_order_id for one in of(it.ProbeOrder, driver.wait(200 * MS))]


def swept(driver: Driver, *executions: str) -> None:
    """A read finds executions that the stream has not told; they follow at once."""
    identities = tuple((name, driver.now - 1) for name in executions)
    driver.tell(ev.ExecutionsSwept(driver.now, SYMBOL, driver.now, identities))


def missed_fill(driver: Driver) -> None:
    order = driver.quotes[Side.BUY]
    swept(driver, "missed")
    driver.fill(order.client_order_id, 1, execution="missed")


def test_an_execution_that_the_stream_never_tells_is_accounted_at_once_and_counted_at_the_second_read() -> None:
    driver = Driver().start()
    driver.wait(S)
    missed_fill(driver)
    assert driver.engine.state.ledger.accounts[SYMBOL].position_lots == 1
    driver.wait(S)
    swept(driver)
    assert divergences(driver, "unrecorded_fills") == 0
    driver.wait(1100 * MS)
    swept(driver)
    swept(driver)
    assert divergences(driver, "unrecorded_fills") == 1
    assert driver.engine.view == "HELD"


def test_a_missed_execution_is_counted_only_after_two_reads_with_no_execution_between() -> None:
    driver = Driver().start()
    driver.wait(S)
    missed_fill(driver)
    driver.wait(1500 * MS)
    driver.fill(driver.quotes[Side.SELL].client_order_id, 1, execution="told")
    driver.wait(S)
    swept(driver)
    assert divergences(driver, "unrecorded_fills") == 0
    driver.wait(1900 * MS)
    swept(driver)
    assert divergences(driver, "unrecorded_fills") == 0
    driver.wait(200 * MS)
    swept(driver)
    assert divergences(driver, "unrecorded_fills") == 1


def test_an_execution_swept_shortly_before_the_stream_broke_is_no_divergence() -> None:
    driver = Driver().start()
    driver.wait(S)
    missed_fill(driver)
    driver.tell(ev.StreamDown(driver.now, "private", "reset"))
    driver.tell(ev.StreamUp(driver.now, "private"))
    driver.wait(3 * S)
    swept(driver)
    assert divergences(driver, "unrecorded_fills") == 0


def test_a_late_stream_and_what_happened_while_it_was_down_are_no_divergence() -> None:
    driver = Driver().start()
    driver.wait(S)
    missed_fill(driver)
    fill = ev.Filled(driver.now, "missed", "x", "v", SYMBOL, Side.BUY, D(49_900), 1, D(0), True, driver.now)
    driver.tell(fill)
    driver.wait(3 * S)
    swept(driver)
    down_ns = driver.now
    driver.tell(ev.StreamDown(driver.now, "private", "reset"))
    driver.wait(S)
    driver.tell(ev.StreamUp(driver.now, "private"))
    driver.tell(ev.ExecutionsSwept(driver.now, SYMBOL, driver.now, (("during", down_ns + 1),)))
    driver.wait(3 * S)
    swept(driver)
    assert divergences(driver, "unrecorded_fills") == 0


def test_positions_are_compared_every_five_minutes_however_rare_the_rest() -> None:
    driver = Driver(recon_interval_s=D(86_400)).start().stated()
    driver.wait(S)
    driver.sent.clear()
    driver.wait(301 * S)
    assert len(of(it.ReadAccount, driver.sent)) == 1


def test_on_a_dedicated_account_foreign_orders_are_cancelled_by_the_venues_id() -> None:
    driver = Driver(foreign_orders="cancel").start()
    orphan(driver, "")
    told = driver.wait(3 * S)
    assert [(one.client_order_id, one.venue_order_id) for one in of(it.CancelOrder, told)][:1] == [("", "v-orphan")]
    assert driver.engine.view == "RUNNING"
    assert len(driver.notes("foreign_order")) == 1


@pytest.mark.parametrize(("after_the_read", "adopted"), [(True, 4), (False, 6)])
def test_what_was_executed_after_the_read_is_not_lost_where_people_take_the_venues_position_over(
    after_the_read: bool, adopted: int
) -> None:
    """Somebody trades by hand what differs, or what the stream tells late was in the read; people resume at once."""
    driver = Driver(recon_interval_s=D(10)).start().stated()
    driver.position_lots = 6
    driver.wait(15 * S)
    assert [stop.reason for stop in driver.engine.stops] == ["recon_divergence", "position_drift"]
    executed_ns = driver.now if after_the_read else START
    driver.now += 100 * MS
    driver.position_lots = adopted
    driver.tell(ev.Filled(driver.now, "h", "", "v", SYMBOL, Side.SELL, D(50_000), 2, D(0), True, executed_ns))
    driver.tell(ev.ResumeRequested(driver.now, "*", "two people"))
    assert driver.engine.state.ledger.accounts[SYMBOL].position_lots == adopted
    driver.wait(15 * S)
    assert driver.count("mm_recon_divergence_total", "position_mismatch") == 1
