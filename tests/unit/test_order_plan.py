"""The order plan and the budgets: few messages, one order a side, nothing raced."""

from __future__ import annotations

from bot.domain.order import OrderState, Side
from bot.engine.budgets import MINUTE_NS, CancelBudget, Rate
from bot.engine.order_plan import Action, Amend, Cancel, Place, Tolerance, plan_side
from bot.engine.orders import OwnOrder
from bot.engine.quoting import Quote

TOLERANCE = Tolerance(price_ticks=5, qty_pct=50, interval_ns=100)
NOW = 1_000


def working(price: int = 1_000, lots: int = 10, state: OrderState = OrderState.WORKING, name: str = "a") -> OwnOrder:
    return OwnOrder(name, "BTCUSDT", Side.BUY, price, lots, 1, 1, 1, 1, state=state)


def plan(wanted: Quote | None, *live: OwnOrder, cap: int = 100, now: int = NOW) -> list[Action]:
    return plan_side(wanted, cap, list(live), TOLERANCE, now)


def quote(price: int = 1_000, lots: int = 10) -> Quote:
    return Quote(Side.BUY, price, lots)


def test_an_empty_side_gets_one_order() -> None:
    assert plan(quote()) == [Place(quote())]
    assert plan(None) == []


def test_what_is_near_enough_is_kept() -> None:
    assert plan(quote(1_005), working()) == []
    assert plan(quote(lots=19), working()) == []


def test_what_is_not_near_enough_is_amended_in_place_and_never_cancelled_and_sent_anew() -> None:
    one = working()
    assert plan(quote(1_006), one) == [Amend(one, quote(1_006))]
    assert plan(quote(lots=21), one) == [Amend(one, quote(lots=21))]


def test_amends_of_one_order_keep_their_distance_unless_it_is_over_the_cap() -> None:
    one = working()
    one.amended_at_ns = NOW - 99
    assert plan(quote(2_000), one) == []
    assert plan(quote(2_000, 4), one, cap=9) == [Amend(one, quote(2_000, 4))]
    assert plan(quote(2_000), one, now=NOW + 1) == [Amend(one, quote(2_000))]


def test_what_is_not_wanted_is_cancelled() -> None:
    one = working()
    assert plan(None, one) == [Cancel(one)]


def test_a_side_with_anything_in_flight_or_unknown_waits() -> None:
    for state in OrderState:
        if state in (OrderState.PENDING_NEW, OrderState.PENDING_AMEND, OrderState.PENDING_CANCEL, OrderState.UNKNOWN):
            assert plan(quote(2_000), working(state=state)) == []
            assert plan(None, working(), working(state=state, name="b")) == []


def test_of_two_orders_on_a_side_the_nearer_one_stays() -> None:
    near, far = working(1_001), working(1_200, name="b")
    assert plan(quote(), far, near) == [Cancel(far)]


def test_a_partly_filled_order_is_judged_by_what_is_open() -> None:
    one = working(lots=10)
    one.executed_lots = 6
    assert plan(quote(), one) == [Amend(one, quote())]


def test_a_rate_counts_a_sliding_window() -> None:
    rate = Rate(2)
    rate.spend(0)
    rate.spend(MINUTE_NS - 1)
    assert rate.room(MINUTE_NS - 1) == 0
    assert rate.room(MINUTE_NS) == 1


def test_the_reserve_of_the_cancel_budget_is_not_for_the_plan() -> None:
    budget = CancelBudget(per_min=5, reserve=2)
    for _ in range(3):
        assert budget.may_plan(0)
        budget.spend(0)
    assert not budget.may_plan(0)
    assert budget.may_plan(MINUTE_NS)


def test_three_breaches_in_ten_minutes_break_the_cancel_budget_and_a_lasting_one_counts_once() -> None:
    budget = CancelBudget(per_min=1, reserve=0)
    assert budget.refuse(0)
    assert not budget.refuse(1)
    for at_ns in (MINUTE_NS, 2 * MINUTE_NS):
        assert not budget.broken(at_ns)
        assert budget.may_plan(at_ns)
        budget.spend(at_ns)
        assert not budget.may_plan(at_ns)
        assert budget.refuse(at_ns)
    assert budget.broken(2 * MINUTE_NS)
    assert not budget.broken(11 * MINUTE_NS)
