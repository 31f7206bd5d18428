"""The engine through its one door: getting ready, quoting, permission, unknown outcomes, and the laws under chaos."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.order import OrderState, Side
from bot.engine.engine import Engine
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


# ---- unknown outcomes ----


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
    old = ev.VenueOrder(
        SYMBOL, order.client_order_id, order.venue_order_id, order.side, order.price_ticks, order.qty_lots, 0,
        ev.OrderStatus.WORKING,
    )  # fmt: skip
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
    old = ev.VenueOrder(
        SYMBOL, order.client_order_id, order.venue_order_id, order.side, order.price_ticks, order.qty_lots, 0,
        ev.OrderStatus.WORKING,
    )  # fmt: skip
    driver.tell(ev.AmendAnswered(driver.now, amend.client_order_id, amend.price_ticks, amend.qty_lots, "unknown"))
    order.unwanted = True
    told = driver.tell(ev.OrderUpdated(driver.now, old))
    assert [one.client_order_id for one in of(it.CancelOrder, told)] == [order.client_order_id]
    assert order.state is OrderState.PENDING_CANCEL
    assert order.pending_qty_lots == amend.qty_lots
    driver.tell(ev.CancelAnswered(driver.now, order.client_order_id, "unknown"))
    again = driver.tell(ev.OrderUpdated(driver.now, old))
    assert [one.client_order_id for one in of(it.CancelOrder, again)] == [order.client_order_id]


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


# ---- the laws under chaos ----

happenings = st.lists(
    st.sampled_from(
        ["up", "down", "jump", "fill", "part", "taker", "lost", "deaf", "hear", "uncertain", "revoke", "grant",
         "freeze", "resume", "drop", "private", "wait", "long", "gone"]
    ),
    min_size=1, max_size=40,
)  # fmt: skip


class Chaos:
    """A driver that does what hypothesis says, and holds the laws after every event."""

    def __init__(self) -> None:
        self.driver = Driver(recon_interval_s=D(1), hysteresis_s=D(1), edge_threshold_bps=D(1))
        self.events: list[ev.Event] = []
        self.intents: list[list[it.Intent]] = []
        engine = self.driver.engine
        receive = engine.receive

        def watched(event: ev.Event) -> list[it.Intent]:
            before = engine.state.may_quote()
            intents = receive(event)
            self.events.append(event)
            self.intents.append(list(intents))
            self._hold_laws(event, before, intents)
            return intents

        engine.receive = watched  # type: ignore[method-assign]
        self.driver.start()

    def _hold_laws(self, event: ev.Event, could_quote: bool, intents: list[it.Intent]) -> None:
        state = self.driver.engine.state
        orders = [intent for intent in intents if isinstance(intent, it.PlaceOrder | it.AmendOrder)]
        if orders:
            assert state.has_grant, f"an order without a grant at {event}"
            assert could_quote or not state.stops.any, f"an order while stopped at {event}"
            top = state.books[SYMBOL].top
            assert top is not None
            for order in orders:
                known = state.orders.get(order.client_order_id)
                assert known is not None
                side = known.side
                assert order.price_ticks < top[1] if side is Side.BUY else order.price_ticks > top[0]
            self._hold_exposure(orders)
        for side in Side:
            levels = [order.price_ticks for order in state.orders.live_on(SYMBOL, side)]
            assert len(levels) <= 1, f"two orders on one side at {event}"

    def _hold_exposure(self, orders: list[it.PlaceOrder | it.AmendOrder]) -> None:
        state = self.driver.engine.state
        position = state.ledger.accounts[SYMBOL].position_lots
        buys, sells = state.orders.exposed_lots(SYMBOL)
        mid = state.mark(SYMBOL)
        assert mid is not None
        for order in orders:
            known = state.orders.get(order.client_order_id)
            assert known is not None
            leaning = position + buys if known.side is Side.BUY else sells - position
            grew = known.pending_qty_lots is None or known.pending_qty_lots > known.qty_lots
            if leaning > 0 and grew:
                assert D(leaning) / 1000 * mid <= state.inventory_max_quote

    def do(self, what: str) -> None:
        driver = self.driver
        top = driver.engine.state.books[SYMBOL].top or (BID, ASK)
        orders = list(driver.venue.values())
        if what in ("up", "down", "jump"):
            move = {"up": 40, "down": -40, "jump": -900}[what]
            driver.book(top[0] + move, top[1] + move)
        elif what in ("fill", "part", "taker") and orders:
            lots = 1 if what == "part" else orders[0].qty_lots - orders[0].filled_lots
            driver.fill(orders[0].client_order_id, max(1, lots), maker=what != "taker")
        elif what == "lost":
            driver.tell(ev.BookLost(driver.now, SYMBOL, "gap"))
        elif what == "deaf":
            driver.silent = {it.PlaceOrder, it.AmendOrder, it.CancelOrder, it.CancelAll}
        elif what == "hear":
            driver.silent = set()
        elif what == "uncertain":
            for order in driver.engine.live_orders():
                driver.tell(ev.OrderUncertain(driver.now, order.client_order_id, 0, "time-out"))
        elif what == "revoke":
            driver.granting = False
            driver.grant(0.0, revoked=True)
        elif what == "grant":
            driver.granting = True
        elif what == "freeze":
            driver.tell(ev.StopRequested(driver.now, "drill", "planned", "auto", "ops"))
        elif what == "resume":
            driver.tell(ev.ResumeRequested(driver.now, "*", "people"))
        elif what == "drop" and orders:
            del driver.venue[orders[0].client_order_id]
        elif what == "private":
            driver.tell(ev.StreamDown(driver.now, "private", "reset"))
            driver.tell(ev.StreamUp(driver.now, "private"))
        elif what == "gone":
            for order in driver.engine.live_orders():
                driver.tell(ev.OrderNotFound(driver.now, order.client_order_id))
        driver.wait({"wait": S, "long": 9 * S}.get(what, 100 * MS))


@settings(max_examples=60, deadline=None)
@given(happenings)
def test_whatever_happens_no_order_while_stopped_no_limit_passed_and_a_replay_says_the_same(plan: list[str]) -> None:
    chaos = Chaos()
    for what in plan:
        chaos.do(what)
    engine = Engine(chaos.driver.parameters)
    encoder = msgspec.json.Encoder()
    for event, intents in zip(chaos.events, chaos.intents, strict=True):
        assert encoder.encode(engine.receive(event)) == encoder.encode(intents)
    assert engine.counts == chaos.driver.engine.counts
    if "resume" not in plan:  # people who resume take over the venue's position
        fills = {event.execution_id: event for event in chaos.events if isinstance(event, ev.Filled)}
        position = sum(fill.side.sign * fill.qty_lots for fill in fills.values())
        assert engine.state.ledger.accounts[SYMBOL].position_lots == position


def test_a_drop_in_orders_ends_with_no_own_order_standing_after_a_stop() -> None:
    chaos = Chaos()
    for what in ("deaf", "up", "jump", "uncertain", "hear", "freeze", "long"):
        chaos.do(what)
    chaos.driver.granting = False
    chaos.driver.wait(20 * S)
    assert chaos.driver.venue == {}
    assert chaos.driver.engine.live_orders() == []
