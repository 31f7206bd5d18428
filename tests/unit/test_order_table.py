"""The states of an order, and what an order may cost at worst."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.order import (
    REVIVALS,
    TERMINAL,
    TRANSITIONS,
    IllegalTransition,
    OrderHappening,
    OrderState,
    Side,
    next_state,
)
from bot.engine.orders import OrderTable, OwnOrder

SYMBOL = "BTCUSDT"
H = OrderHappening


def order(name: str = "slwq-1-1", side: Side = Side.BUY, lots: int = 10) -> OwnOrder:
    return OwnOrder(name, SYMBOL, side, 500_000, lots, 1, 5, 5, 5)


def table_with(*orders: OwnOrder) -> OrderTable:
    table = OrderTable((SYMBOL,))
    for one in orders:
        table.add(one)
    return table


@given(st.sampled_from(list(OrderState)), st.sampled_from(list(OrderHappening)))
def test_an_illegal_transition_raises_and_changes_nothing(state: OrderState, happening: OrderHappening) -> None:
    one = order()
    one.state = state
    table = table_with(one)
    version, changed = table.of[SYMBOL].version, one.changed_at_ns
    if (state, happening) in TRANSITIONS:
        assert next_state(state, happening) is TRANSITIONS[state, happening]
        return
    with pytest.raises(IllegalTransition):
        table.happen(one, happening, 9)
    assert (one.state, one.changed_at_ns, table.of[SYMBOL].version) == (state, changed, version)


@pytest.mark.parametrize("state", OrderState)
def test_the_usual_steps_of_an_amend_go_by_the_table_from_every_state(state: OrderState) -> None:
    for happening in (H.AMEND_SENT, H.AMENDED):
        one = order()
        table = table_with(one)
        one.state = state

        def step(table: OrderTable = table, one: OwnOrder = one, happening: OrderHappening = happening) -> None:
            if happening is H.AMEND_SENT:
                table.amend(one, 500_001, 10, 9)
            else:
                table.amended(one, 9)

        if (state, happening) in TRANSITIONS:
            step()
            assert one.state is TRANSITIONS[state, happening]
        else:
            with pytest.raises(IllegalTransition):
                step()
            assert (one.state, one.changed_at_ns, one.pending_price_ticks) == (state, 5, None)


@pytest.mark.parametrize("state", OrderState)
def test_an_order_lives_until_a_state_that_ends_it(state: OrderState) -> None:
    one = order()
    one.state, one.reported_lots = state, 3
    assert one.live is (state not in TERMINAL)
    assert one.exposed_lots == (3 if state in TERMINAL else 10)


def test_an_order_that_has_ended_lives_again_only_against_the_venues_own_earlier_word() -> None:
    revived = {row for row, after in TRANSITIONS.items() if row[0] in TERMINAL and after not in TERMINAL}
    assert revived == {
        (OrderState.CANCELLED, H.FOUND_WORKING),
        (OrderState.FILLED, H.FOUND_WORKING),
        (OrderState.REJECTED, H.FOUND_WORKING),
        (OrderState.REJECTED, H.PARTLY_FILLED),
    }
    assert revived == REVIVALS


def test_whatever_may_come_late_is_no_surprise_to_an_order_that_has_ended() -> None:
    late = set(H) - {H.AMEND_SENT, H.CANCEL_SENT}
    for state in TERMINAL:
        assert {told for told in late if (state, told) not in TRANSITIONS} == set()


def test_an_order_that_lives_again_counts_again_is_unwanted_and_is_not_forgotten() -> None:
    one = order()
    table = table_with(one)
    table.happen(one, H.REFUSED, 6)
    assert table.exposed_lots(SYMBOL) == (0, 0)
    table.happen(one, H.PARTLY_FILLED, 7)
    assert (one.state, one.unwanted, table.exposed_lots(SYMBOL)) == (OrderState.UNKNOWN, True, (10, 0))
    table.forget_finished(10**18)
    assert table.get(one.client_order_id) is one


def test_every_live_state_can_be_filled_and_cancelled() -> None:
    for state in OrderState:
        if state not in TERMINAL:
            assert (state, H.FULLY_FILLED) in TRANSITIONS
            assert (state, H.CANCELLED) in TRANSITIONS


def test_a_client_order_id_is_used_once() -> None:
    table = table_with(order())
    with pytest.raises(ValueError, match="slwq-1-1"):
        table.add(order())


def test_an_amend_in_flight_counts_with_the_larger_quantity() -> None:
    one = order(lots=10)
    table = table_with(one)
    table.happen(one, H.ACCEPTED, 6)
    table.happen(one, H.AMEND_SENT, 7)
    one.asked_lots = 14
    table.recount(one)
    assert table.exposed_lots(SYMBOL) == (14, 0)
    one.asked_lots = 3
    table.recount(one)
    assert table.exposed_lots(SYMBOL) == (10, 0)


def test_an_unknown_order_counts_and_a_cancelled_one_does_not() -> None:
    one = order(side=Side.SELL)
    table = table_with(one)
    table.happen(one, H.UNCERTAIN, 6)
    assert table.exposed_lots(SYMBOL) == (0, 10)
    assert table.happen(one, H.FOUND_GONE, 7)
    assert table.exposed_lots(SYMBOL) == (0, 0)


def test_a_fill_reported_but_not_yet_executed_still_counts() -> None:
    one = order()
    table = table_with(one)
    one.reported_lots = 10
    table.happen(one, H.FULLY_FILLED, 6)
    assert not table.any_live()
    assert table.exposed_lots(SYMBOL) == (10, 0)
    one.executed_lots = 10
    table.recount(one)
    assert table.exposed_lots(SYMBOL) == (0, 0)


def test_finished_orders_leave_memory_but_not_while_executions_are_owed() -> None:
    paid, owing, alive = order("slwq-1-1"), order("slwq-1-2"), order("slwq-1-3")
    table = table_with(paid, owing, alive)
    owing.reported_lots = 4
    table.happen(paid, H.CANCELLED, 10)
    table.happen(owing, H.CANCELLED, 11)
    table.forget_finished(before_ns=10)
    assert len(table) == 3
    table.forget_finished(before_ns=12)
    assert [table.get(name) is not None for name in ("slwq-1-1", "slwq-1-2", "slwq-1-3")] == [False, True, True]
