"""The engine through its one door: getting ready, quoting, permission, fills and shown numbers."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.order import Side
from bot.metrics import CATALOGUE
from tests.support.engine_driver import ASK, BID, MS, SYMBOL, Driver, S, filters, of, parameters

D = Decimal


def gauges(driver: Driver) -> dict[tuple[str, tuple[str, ...]], float]:
    return {(name, labels): value for name, labels, value in driver.engine.gauges(driver.now)}


# ---- getting ready ----


def test_nothing_is_sent_before_book_filters_account_and_grant_are_there() -> None:
    driver = Driver()
    driver.granting = False
    driver.silent = {it.ReadAccount}
    driver.tell(ev.Started(driver.now, "run", "live", "digest", "v", (SYMBOL,)))
    driver.tell(ev.StreamUp(driver.now, "public"))
    driver.tell(ev.StreamUp(driver.now, "private"))
    driver.book(BID, ASK)
    driver.wait(S)
    driver.tell(filters(driver.now))
    driver.wait(S)
    driver.silent = set()
    driver.wait(3 * S)
    assert (driver.engine.view, driver.engine.stop, driver.venue) == ("INIT", None, {})
    driver.grant()
    assert driver.engine.view == "RUNNING"
    assert set(driver.quotes) == set(Side)
    assert all(name.startswith("slwq-1-") for name in driver.venue)


def test_a_leftover_of_an_earlier_run_is_cancelled_before_the_first_quote_and_the_position_taken_over() -> None:
    driver = Driver()
    leftover = ev.VenueOrder(SYMBOL, "slwq-0-7", "v", Side.BUY, 499_000, 2, 0, ev.OrderStatus.WORKING)
    driver.venue["slwq-0-7"] = leftover
    driver.position_lots = 3
    driver.start()
    assert driver.engine.view == "INIT"
    assert [note.fields["client_order_id"] for note in driver.notes("orphan_order_canceled")] == ["slwq-0-7"]
    driver.wait(S)
    assert driver.engine.view == "RUNNING"
    assert driver.engine.positions()[SYMBOL]["qty"] == "0.003"
    assert driver.count("mm_recon_divergence_total", "orders_remote_only") == 0
    driver.wait(6 * S)
    assert driver.count("mm_recon_divergence_total", "position_mismatch") == 0


@pytest.mark.parametrize("told", ["before the read is asked", "before it answers", "after it answered"])
def test_a_position_is_taken_over_whole_where_a_leftover_fills_meanwhile(told: str) -> None:
    """By its fill alone the bot would know 1 of 9 lots, and 10 is the limit."""
    driver = Driver()
    driver.silent = {it.ReadAccount, it.CancelOrder}
    leftover = ev.VenueOrder(SYMBOL, "slwq-0-7", "v", Side.BUY, 499_000, 2, 0, ev.OrderStatus.WORKING)
    driver.venue["slwq-0-7"] = leftover
    driver.position_lots = 8
    driver.tell(ev.Started(driver.now, "run", "live", "digest", "v", (SYMBOL,)))
    driver.tell(filters(driver.now))
    driver.tell(ev.StreamUp(driver.now, "public"))
    driver.tell(ev.StreamUp(driver.now, "private"))
    driver.book(BID, ASK)
    asked_ns = driver.now + 10 * MS
    driver.now += 20 * MS
    if told == "after it answered":  # the venue has filled it already, and the stream is late
        driver.tell(ev.OpenOrdersRead(driver.now, SYMBOL, asked_ns, (leftover,)))
        driver.tell(ev.PositionRead(driver.now, SYMBOL, asked_ns, 9, D(50_000)))
    driver.fill("slwq-0-7", 1)
    if told == "before it answers":
        driver.tell(ev.OpenOrdersRead(driver.now, SYMBOL, asked_ns, (leftover,)))
        driver.tell(ev.PositionRead(driver.now, SYMBOL, asked_ns, 8, D(50_000)))
    driver.silent = set()
    while driver.engine.view == "INIT":
        driver.wait(100 * MS)
        assert driver.now - asked_ns < 10 * S
    assert driver.engine.positions()[SYMBOL]["qty"] == "0.009"
    driver.wait(6 * S)
    assert driver.engine.view == "RUNNING"
    assert driver.count("mm_recon_divergence_total", "position_mismatch") == 0


# ---- quoting ----


def test_two_sides_stand_off_the_market_and_follow_it_by_amends() -> None:
    driver = Driver().start()
    before = dict(driver.quotes)
    driver.wait(S)
    told = driver.book(BID + 300, ASK + 300)
    assert len(of(it.AmendOrder, told)) == 2
    assert of(it.PlaceOrder, told) == of(it.CancelOrder, told) == []
    for side in Side:
        assert driver.quotes[side].client_order_id == before[side].client_order_id
        assert driver.quotes[side].price_ticks > before[side].price_ticks
    assert driver.quotes[Side.BUY].price_ticks < BID + 300
    assert driver.quotes[Side.SELL].price_ticks > ASK + 300


def test_a_market_that_stands_still_costs_no_message() -> None:
    driver = Driver().start()
    assert of(it.AmendOrder, driver.wait(5 * S)) == []
    assert len(of(it.PlaceOrder, driver.sent)) == 2


def test_a_filled_side_is_quoted_again_and_both_quotes_lean_against_the_position() -> None:
    driver = Driver().start()
    before = dict(driver.quotes)
    driver.wait(S)
    driver.fill(before[Side.BUY].client_order_id, 4)
    assert driver.quotes[Side.BUY].price_ticks < before[Side.BUY].price_ticks
    assert driver.quotes[Side.SELL].price_ticks < before[Side.SELL].price_ticks
    assert driver.count("mm_orders_filled_total", SYMBOL, "buy") == 1


def test_at_the_inventory_limit_only_the_reducing_side_is_quoted_and_the_refusal_counts_once() -> None:
    driver = Driver().start()
    while Side.BUY in driver.quotes:
        order = driver.quotes[Side.BUY]
        driver.fill(order.client_order_id, order.qty_lots)
        driver.wait(S)
    assert set(driver.quotes) == {Side.SELL}
    assert D(driver.engine.positions()[SYMBOL]["notional_quote"]) <= 500
    driver.wait(5 * S)
    assert driver.count("mm_orders_blocked_total", SYMBOL, "risk_limit") == 1
    assert driver.count("mm_limit_breaches_total", "inventory") == 1


def test_a_grant_with_tighter_limits_tightens_ours() -> None:
    driver = Driver().start()
    driver.tell(ev.GrantReceived(driver.now, "acct", 1, D(150), D(2000), 5.0))
    driver.granting = False
    driver.wait(S)
    assert {order.qty_lots for order in driver.venue.values()} == {2}


def test_a_post_only_refusal_is_requoted_with_back_off_and_is_no_rejection() -> None:
    driver = Driver()
    driver.silent = {it.PlaceOrder}
    driver.start()
    first = of(it.PlaceOrder, driver.sent)
    for intent in first:
        driver.tell(ev.OrderRefused(driver.now, intent.client_order_id, 0, "EC_PostOnlyWillTakeLiquidity", True))
    assert driver.count("mm_post_only_rejects_total", SYMBOL) == 2
    assert of(it.PlaceOrder, driver.wait(200 * MS)) == []
    assert len(of(it.PlaceOrder, driver.wait(200 * MS))) == 2
    rejected = [count for (name, _), count in driver.engine.counts.items() if name == "mm_orders_rejected_total"]
    assert set(rejected) == {0}


def test_a_refusal_for_size_or_price_is_a_filter_violation() -> None:
    driver = Driver()
    driver.silent = {it.PlaceOrder}
    driver.start()
    order = of(it.PlaceOrder, driver.sent)[0]
    driver.tell(ev.OrderRefused(driver.now, order.client_order_id, 110094, "Order does not meet minimum value", False))
    assert driver.count("mm_orders_rejected_total", SYMBOL, "filters") == 1
    assert driver.count("mm_filter_violations_total", SYMBOL) == 1
    assert len(driver.notes("order_rejected")) == 1


# ---- permission ----


def test_an_expired_grant_freezes_as_a_fault_and_a_new_epoch_takes_the_same_bot_on() -> None:
    driver = Driver().start()
    driver.granting = False
    driver.wait(5 * S)
    assert driver.engine.stop is not None
    assert (driver.engine.stop.reason, driver.engine.stop.stop_class) == ("grant_expired", "fault")
    assert driver.venue == {}
    assert driver.engine.grant_age_s(driver.now) is None
    driver.granting, driver.epoch = True, 2
    driver.wait(3 * S)
    assert driver.engine.view == "RUNNING"
    assert all(name.startswith("slwq-2-") for name in driver.venue)


def test_a_revoked_grant_is_planned_and_a_lower_epoch_changes_nothing() -> None:
    driver = Driver().start()
    driver.granting = False
    driver.grant(0.0, revoked=True)
    assert driver.engine.stop is not None
    assert (driver.engine.stop.reason, driver.engine.stop.stop_class) == ("grant_revoked", "planned")
    assert driver.venue == {}
    driver.epoch = 0
    driver.grant()
    assert driver.engine.grant_age_s(driver.now) is None
    assert driver.engine.epoch == 1


def test_no_order_leaves_in_the_moment_between_expiry_and_the_next_tick() -> None:
    driver = Driver().start()
    driver.granting = False
    driver.now += 5 * S
    told = driver.book(BID + 3_000, ASK + 3_000)
    assert of(it.AmendOrder, told) == of(it.PlaceOrder, told) == []


def test_a_position_without_a_grant_is_flattened_in_bounded_slices_that_trip_no_taker_gate() -> None:
    driver = Driver(order_notional_max_quote=D(250), flatten_band_bps=D(50)).start()
    for _ in range(2):
        order = driver.quotes[Side.BUY]
        driver.fill(order.client_order_id, order.qty_lots)
        driver.wait(S)
    held = driver.position_lots
    driver.granting = False
    slices = of(it.FlattenReduceOnly, driver.wait(34 * S))
    assert slices == []
    slices = of(it.FlattenReduceOnly, driver.wait(3 * S))
    assert len(slices) == 3
    assert all(one.side is Side.SELL and one.qty_lots <= 4 < held for one in slices)
    assert all(one.price_limit_ticks == BID * 9_950 // 10_000 for one in slices)
    assert all(later.at_ns - one.at_ns >= S for one, later in pairwise(slices))
    one = slices[0]
    driver.tell(
        ev.Filled(driver.now, "x1", one.client_order_id, "v", SYMBOL, one.side, D(50000), held, D(1), False, driver.now)
    )
    driver.position_lots = 0
    assert driver.count("mm_taker_fills_total", SYMBOL) == driver.count("mm_crossing_orders_total", SYMBOL) == 0
    assert of(it.FlattenReduceOnly, driver.wait(3 * S)) == []


# ---- fills and shown numbers ----


def test_a_fill_more_than_one_percent_from_the_quoted_price_is_a_warning() -> None:
    driver = Driver().start()
    driver.fill(driver.quotes[Side.BUY].client_order_id, 2)
    driver.fill(driver.quotes[Side.BUY].client_order_id, 1, price=D(49_000))
    assert [note.level for note in driver.notes("fill_generated")] == ["INFO", "WARNING"]


def test_a_fill_told_twice_counts_once_and_is_accounted_while_stopped() -> None:
    driver = Driver().start()
    order = driver.quotes[Side.BUY]
    driver.tell(ev.StopRequested(driver.now, "operator_freeze", "planned", "people", "ops"))
    driver.venue[order.client_order_id] = order
    driver.fill(order.client_order_id, 2, execution="same")
    driver.fill(order.client_order_id, 1, execution="same")
    assert driver.engine.positions()[SYMBOL]["qty"] == "0.002"


def test_a_fill_before_its_filters_are_known_waits_for_them() -> None:
    driver = Driver()
    fill = ev.Filled(driver.now, "x", "slwq-0-1", "v", SYMBOL, Side.BUY, D(50000), 2, D(0), True, driver.now)
    driver.tell(fill)
    driver.tell(filters(driver.now))
    assert driver.engine.positions()[SYMBOL]["qty"] == "0.002"


def test_ratios_are_absent_before_the_first_fill_and_there_after_it() -> None:
    names = ("mm_edge_bps", "mm_net_bps", "mm_maker_taker_ratio", "mm_fill_rate", "mm_markout_bps")
    driver = Driver().start()
    assert not {name for name, _ in gauges(driver)} & set(names)
    driver.fill(driver.quotes[Side.BUY].client_order_id, 4)
    driver.wait(1100 * MS)
    assert {name for name, _ in gauges(driver)} >= set(names)
    assert gauges(driver)["mm_maker_taker_ratio", ()] == 1.0


def test_markouts_measure_the_mids_move_for_us() -> None:
    driver = Driver(markout_weight_pct=D(100)).start()
    driver.fill(driver.quotes[Side.BUY].client_order_id, 4)
    driver.book(BID - 100, ASK - 100)
    driver.wait(1100 * MS)
    assert gauges(driver)["mm_markout_bps", (SYMBOL, "1s")] == pytest.approx(-2.0, abs=0.001)


def test_quoting_time_is_counted_in_milliseconds_and_shown_in_seconds() -> None:
    driver = Driver().start()
    driver.wait(2 * S)
    assert driver.count("mm_quoting_ms_total", SYMBOL, "two") == 2000
    assert driver.engine.seconds["mm_may_quote_seconds_total", (SYMBOL,)] == 2.0


def test_every_counter_and_gauge_is_in_the_catalogue_with_its_labels() -> None:
    driver = Driver().start()
    driver.fill(driver.quotes[Side.BUY].client_order_id, 4)
    driver.wait(3 * S)
    labels = {metric.name: len(metric.labels) for metric in CATALOGUE}
    shown = {name.replace("_ms_total", "_seconds_total"): values for name, values in driver.engine.counts}
    shown |= {name: values for name, values, _ in driver.engine.gauges(driver.now)}
    shown |= {name: values for name, values, _ in driver.engine.drain_observations()}
    for name, values in shown.items():
        assert labels[name] == len(values), name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"symbols": ()}, "symbols"),
        ({"half_spread_bps": D(0)}, "half_spread_bps: 0"),
        ({"min_qty_pad": D("0.9")}, "min_qty_pad: 0.9"),
        ({"inventory_max_quote": D(3000)}, "inventory_max_quote: 3000"),
        ({"total_max_quote": D("NaN")}, "total_max_quote: NaN"),
        ({"post_only_offset_bps": D("1.0000001")}, "post_only_offset_bps: 1.0000001"),
    ],
)
def test_a_parameter_out_of_range_is_refused_by_name_and_value(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parameters(**changes)
