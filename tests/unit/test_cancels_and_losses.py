"""Through the engine's door: the cancel budget and its reserve, and the numbers of losses and edge."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.order import Side
from bot.engine.performance import Earning
from tests.support.engine_driver import ASK, BID, MS, SYMBOL, Driver, S, of

D = Decimal


def trade(driver: Driver, price_ticks: int) -> None:
    """The collar's mark moves."""
    driver.tell(ev.TradePrinted(driver.now, SYMBOL, price_ticks, 1, Side.SELL, driver.now))


def wanted_cancels(driver: Driver) -> int:
    """Once round: a mark far away takes both quotes out of the collar, a near one brings them back. Cancels sent."""
    driver.sent.clear()
    trade(driver, 450_000)
    driver.book(BID + 2_000, ASK + 2_000)
    driver.wait(S)
    cancels = len(of(it.CancelOrder, driver.sent))
    trade(driver, BID)
    driver.book(BID, ASK)
    driver.wait(S)
    return cancels


def budgeted() -> Driver:
    driver = Driver(cancel_budget_per_min=6, cancel_budget_reserve=2, requote_interval_ms=100).start()
    driver.wait(S)
    assert set(driver.quotes) == set(Side)
    return driver


def test_the_plan_leaves_the_reserve_of_the_cancel_budget_alone() -> None:
    driver = budgeted()
    assert [wanted_cancels(driver) for _ in range(4)] == [2, 2, 0, 0]
    assert driver.count("mm_limit_breaches_total", "cancel_budget") == 1
    assert driver.engine.view == "RUNNING"


def test_a_stop_cancels_although_the_plan_has_used_its_budget_up() -> None:
    driver = budgeted()
    for _ in range(3):
        wanted_cancels(driver)
    driver.silent.add(it.PlaceOrder)
    standing = driver.quotes[Side.BUY]
    driver.fill(standing.client_order_id, standing.qty_lots)
    driver.wait(S)
    (in_flight,) = of(it.PlaceOrder, driver.sent)[-1:]
    driver.sent.clear()
    driver.tell(ev.StopRequested(driver.now, "operator_freeze", "planned", "people", "ops"))
    assert len(of(it.CancelAll, driver.sent)) == 1
    driver.tell(ev.OrderAccepted(driver.now, in_flight.client_order_id, "v-late"))
    late = ev.VenueOrder(
        SYMBOL, in_flight.client_order_id, "v-late", in_flight.side, in_flight.price_ticks, in_flight.qty_lots, 0,
        ev.OrderStatus.WORKING,
    )  # fmt: skip
    driver.tell(ev.OrderUpdated(driver.now, late))
    driver.wait(S)
    assert in_flight.client_order_id in {cancel.client_order_id for cancel in of(it.CancelOrder, driver.sent)}


def test_three_breaches_of_the_cancel_budget_in_ten_minutes_halt() -> None:
    driver = budgeted()
    driver.stated()
    for breaches in (1, 2):
        while wanted_cancels(driver):
            pass
        assert driver.count("mm_limit_breaches_total", "cancel_budget") == breaches
        assert driver.engine.view == "RUNNING"
        driver.wait(61 * S)
        wanted_cancels(driver)  # room again: the next refusal is a breach of its own
    while driver.engine.view == "RUNNING" and wanted_cancels(driver):
        pass
    assert driver.engine.view == "HALTED"
    assert [stop.reason for stop in driver.engine.stops] == ["cancel_budget"]
    driver.wait(S)
    assert driver.venue == {}


def far_mark(driver: Driver) -> None:
    """Between two turns of the clock the market alone has the plan cancel both quotes."""
    trade(driver, 450_000)
    driver.book(BID + 2_000, ASK + 2_000)


def test_a_cancel_that_the_market_asked_for_is_waited_for_no_longer_than_any_other() -> None:
    driver = Driver(ack_timeout_s=D(1), recon_interval_s=D(60), stale_after_ms=60_000).start()
    driver.wait(2 * S)
    driver.silent |= {it.CancelOrder}
    driver.sent.clear()
    far_mark(driver)
    assert len(of(it.CancelOrder, driver.sent)) == 2
    driver.wait(900 * MS)
    assert not of(it.ProbeOrder, driver.sent)
    driver.wait(200 * MS)
    assert len(of(it.ProbeOrder, driver.sent)) == 2


def test_the_breach_that_halts_does_so_at_the_next_turn_of_the_clock() -> None:
    driver = Driver(
        cancel_budget_per_min=6, cancel_budget_reserve=4, cancel_budget_breaches_max=1, requote_interval_ms=100,
        recon_interval_s=D(60), stale_after_ms=60_000,
    ).start()  # fmt: skip
    driver.wait(S)
    assert wanted_cancels(driver) == 2
    driver.wait(3 * S)
    far_mark(driver)
    assert driver.count("mm_limit_breaches_total", "cancel_budget") == 1
    driver.wait(100 * MS)
    assert driver.engine.view == "HALTED"


def test_drawdown_and_loss_are_measured_against_the_total_and_halt_exactly_at_their_share() -> None:
    for ticks, halted in ((49_999, False), (50_000, True)):  # 4 lots of 0.001 by 4,999.9 or 5,000 quote: 20 of 2,000
        driver = Driver(daily_loss_pct_hard=D(90), drawdown_pct_hard=D(1), inventory_max_quote=D(500)).start()
        quoted = driver.quotes[Side.BUY]
        mid_ticks = (BID + ASK) // 2
        driver.fill(quoted.client_order_id, 4, price=D(mid_ticks) / 10)
        driver.wait(200 * MS)
        driver.book(BID - ticks, ASK - ticks)
        driver.wait(200 * MS)
        assert (driver.engine.view == "HALTED") is halted, ticks


NO_LIMIT: dict[str, Any] = {"daily_loss_pct_hard": D(90), "drawdown_pct_hard": D(90), "inventory_max_quote": D(500)}


def lost(driver: Driver, ticks: int) -> None:
    """4 lots of 0.001 were bought at the mid of the start: so many ticks below it each costs 0.0004 quote."""
    driver.book(BID - ticks, ASK - ticks)
    driver.wait(100 * MS)


def a_day_later(driver: Driver) -> None:
    """What is lost by now leaves the 24 hours: it is a sample of the curve, and the oldest."""
    driver.wait(61 * S)
    driver.now += 25 * 3_600 * S


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"drawdown_pct_hard": D(1)}, "drawdown"),
        ({"daily_loss_pct_hard": D(1)}, "daily_loss"),
        ({"kill_loss_max_quote": D(20)}, "kill_caps"),
        ({"daily_loss_cap_quote": D(20), "daily_loss_cap_auto_hold": True}, "daily_loss_cap"),
    ],
)
def test_a_loss_that_creeps_past_its_limit_is_seen_at_the_next_turn_of_the_clock(
    limit: dict[str, Any], reason: str
) -> None:
    driver = Driver(**{**NO_LIMIT, **limit}).start()
    driver.fill(driver.quotes[Side.BUY].client_order_id, 4, price=D((BID + ASK) // 2) / 10)
    driver.wait(200 * MS)
    lost(driver, 48_000)
    lost(driver, 48_001)
    spared = driver.engine._losses.unmoved()
    assert spared, "19.2 of 20 quote: a look would find everything in order, and nothing to write down until 21.2"
    assert not driver.engine.stops
    lost(driver, 50_200)
    assert [stop.reason for stop in driver.engine.stops] == [reason]


def test_what_was_lost_more_than_a_day_ago_leaves_the_cap_on_all_that_is_lost_as_near_as_it_was() -> None:
    driver = Driver(kill_loss_max_quote=D(20), **NO_LIMIT).start()
    driver.fill(driver.quotes[Side.BUY].client_order_id, 4, price=D((BID + ASK) // 2) / 10)
    lost(driver, 48_000)
    a_day_later(driver)
    lost(driver, 48_000)
    assert driver.engine.state.equity.loss_24h_quote == 0
    assert not driver.engine.state.stops.holds("kill_caps")
    lost(driver, 50_200)
    assert driver.engine.state.stops.holds("kill_caps")


def test_a_peak_that_is_older_than_a_day_is_as_near_as_it_was() -> None:
    """Nothing was lost in 24 hours: the drawdown alone is near its limit."""
    driver = Driver(**{**NO_LIMIT, "drawdown_pct_hard": D(1), "daily_loss_pct_hard": D(1)}).start()
    driver.fill(driver.quotes[Side.BUY].client_order_id, 4, price=D((BID + ASK) // 2) / 10)
    lost(driver, 48_000)
    a_day_later(driver)
    lost(driver, 48_000)
    assert driver.engine.state.equity.loss_24h_quote == 0
    lost(driver, 50_200)
    assert driver.engine.state.stops.holds("drawdown")


@pytest.mark.parametrize(
    ("limit", "reason"),
    [({"daily_loss_pct_hard": D(1)}, "daily_loss"), ({"kill_loss_max_quote": D(20)}, "kill_caps")],
)
def test_a_profit_that_is_lost_within_a_day_is_seen_though_no_money_is_lost_by_it(
    limit: dict[str, Any], reason: str
) -> None:
    """Above a first result of the day that is far above zero, the loss of 24 hours alone is near its limit."""
    driver = Driver(**{**NO_LIMIT, **limit}).start()
    driver.fill(driver.quotes[Side.BUY].client_order_id, 4, price=D((BID + ASK) // 2) / 10)
    lost(driver, -60_000)
    a_day_later(driver)
    lost(driver, -60_000)
    assert driver.engine.state.equity.oldest_quote > 20
    lost(driver, -12_000)
    lost(driver, -11_999)
    assert not driver.engine.state.stops.holds(reason)
    lost(driver, -9_800)
    assert driver.engine.state.stops.holds(reason)


def test_a_peak_that_was_seen_for_a_moment_counts() -> None:
    driver = Driver(**{**NO_LIMIT, "drawdown_pct_hard": D(1)}).start()
    driver.fill(driver.quotes[Side.BUY].client_order_id, 4, price=D((BID + ASK) // 2) / 10)
    driver.wait(200 * MS)
    lost(driver, -2_000)  # 0.8 quote more than ever: too little to be written down
    lost(driver, 48_500)
    assert [stop.reason for stop in driver.engine.stops] == ["drawdown"]


def test_edge_is_half_spread_less_fee_plus_rebate_less_expected_adverse_selection() -> None:
    driver = Driver(
        half_spread_bps=D(8), fee_maker_bps=D("1.5"), rebate_maker_bps=D("0.5"), post_only_offset_bps=D(0),
        inventory_skew_bps=D(0), edge_threshold_bps=D("0.5"), markout_weight_pct=D(50),
    ).start()  # fmt: skip
    shown = {name: value for name, _, value in driver.engine.gauges(driver.now)}
    assert "mm_edge_bps" not in shown
    driver.fill(driver.quotes[Side.BUY].client_order_id, 1)
    driver.book(BID - 100, ASK - 100)  # the mid falls by 2 bps after we bought
    driver.wait(5_100 * MS)
    shown = {name: value for name, _, value in driver.engine.gauges(driver.now)}
    adverse = 0.5 * 100 * 10_000 / (BID + 1)  # half of the weight is the new sample, the other half the 0 before it
    assert abs(shown["mm_edge_bps"] - (8 - 1.5 + 0.5 - adverse)) < 0.01


@pytest.mark.parametrize("average_ubps", [0, 1, -1, 6_999_999, -7_000_001, 1 << 20, -(1 << 20), 10**12 - 1, 1 - 10**12])
@pytest.mark.parametrize("memory_s", [1, 120, 999, 3_600])
def test_what_fades_is_the_same_to_the_last_digit_however_large_it_is(average_ubps: int, memory_s: int) -> None:
    memory_ns, earning = memory_s * S, Earning(0, memory_s * S)
    earning.average_ubps = average_ubps
    for passed_ns in (0, 1, 333_333_333, memory_ns // 3, memory_ns - 1):
        assert earning.adverse_ubps(passed_ns) == -average_ubps * (memory_ns - passed_ns) // memory_ns
    assert earning.adverse_ubps(memory_ns) == 0


def test_how_many_breaches_halt_and_how_far_a_fill_may_be_are_settings() -> None:
    driver = Driver(
        cancel_budget_per_min=6, cancel_budget_reserve=2, requote_interval_ms=100, cancel_budget_breaches_max=1,
        fill_far_pct=D(5),
    ).start()  # fmt: skip
    driver.wait(S)
    quoted = driver.quotes[Side.BUY]
    price = D(quoted.price_ticks) / 10
    for share, level in ((D("0.96"), "INFO"), (D("0.94"), "WARNING")):
        driver.sent.clear()
        driver.fill(quoted.client_order_id, 1, price=price * share)
        assert [note.level for note in driver.notes("fill_generated")] == [level]
    while driver.engine.view == "RUNNING" and wanted_cancels(driver):
        pass
    driver.wait(S)
    assert [stop.reason for stop in driver.engine.stops] == ["cancel_budget"]


class NothingLeaves(Driver):
    """Of `held_back`, an adapter lets no cancel leave: it says so at once, without a moment passing."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(**changes)
        self.held_back = False
        self.tries = 0

    def _answers(self, intent: it.Intent) -> list[ev.Event]:
        if not (self.held_back and isinstance(intent, it.CancelOrder)):
            return super()._answers(intent)
        self.tries += 1
        assert self.tries < 100, "tried again and again at one moment"
        return [ev.CancelAnswered(self.now, intent.client_order_id, "unreachable", "the rate limit is reached")]


def out_of_the_collar(driver: Driver) -> None:
    trade(driver, 450_000)
    driver.book(BID + 2_000, ASK + 2_000)


def unwanted(driver: Driver) -> None:
    """A quote that shall be gone wherever it is found working."""
    orders = driver.engine.state.orders
    orders.live_on(SYMBOL, Side.BUY)[0].unwanted = True
    orders.touch(SYMBOL)
    driver.book(BID + 1, ASK + 1)


@pytest.mark.parametrize("why", [out_of_the_collar, unwanted])
def test_a_cancel_that_did_not_leave_is_tried_again_after_half_a_second(why: Callable[[Driver], None]) -> None:
    driver = NothingLeaves(cancel_budget_per_min=8, cancel_budget_reserve=2, requote_interval_ms=100)
    driver.start()
    driver.wait(S)
    driver.held_back = True
    why(driver)
    first = driver.tries
    assert 1 <= first <= 2, "once each"
    driver.wait(400 * MS)
    assert driver.tries == first
    driver.wait(200 * MS)
    assert driver.tries == 2 * first
    assert driver.count("mm_limit_breaches_total", "cancel_budget") == 0
    driver.held_back = False
    driver.sent.clear()
    driver.wait(S)
    assert of(it.CancelOrder, driver.sent)
    assert driver.engine.view == "RUNNING"
