"""Risk: only it approves, and what may fill never exceeds a limit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.instrument import Instrument
from bot.domain.intent import RiskNumber
from bot.domain.order import Side
from bot.engine.exposure import pico
from bot.engine.order_plan import Amend, Place
from bot.engine.orders import OwnOrder
from bot.engine.parameters import UBPS
from bot.engine.quoting import Quote
from bot.engine.risk import Approved, Permission, Refusal, Risk, Sight, Standing, limits_of, worst_quote
from tests.support.engine_driver import parameters

D = Decimal
INSTRUMENT = Instrument("BTCUSDT", "linear", "BTC", "USDT", D("0.1"), D("0.001"), D("0.001"), D(100), D(5))
MID2 = 1_000_000  # mid 50,000
FINE = Permission(running=True, granted=True, edge_ubps=6 * UBPS, edge_min_ubps=5 * UBPS, orders_left=10)


def standing(
    position: int = 0, buys: int = 0, sells: int = 0, *, inventory: int = 500, total: int = 2000, others: int = 0,
    **changes: Any,
) -> Standing:  # fmt: skip
    limits = limits_of(parameters(**changes), INSTRUMENT, D(inventory), D(total))
    return Standing(limits, position, buys, sells, 0, MID2, MID2, pico(D(others)))


def having(seen: Standing, **changes: int) -> Standing:
    for name, value in changes.items():
        setattr(seen, name, value)
    return seen


def place(side: Side, lots: int, price: int = 500_000) -> Place:
    return Place(Quote(side, price, lots))


def refusal(action: Place, seen: Standing, permission: Permission = FINE) -> tuple[str, Decimal, Decimal]:
    answer = Risk(parameters()).approve(action, seen, permission)
    assert isinstance(answer, Refusal)
    return answer.number.limit, answer.number.value, answer.number.allowed


def approved(action: Place, seen: Standing, permission: Permission = FINE) -> bool:
    return isinstance(Risk(parameters()).approve(action, seen, permission), Approved)


def test_nobody_else_can_make_an_approval() -> None:
    with pytest.raises(PermissionError):
        Approved(Side.BUY, 500_000, 1, None, False, object())


def test_the_inventory_limit_is_met_exactly_and_not_passed() -> None:
    assert approved(place(Side.BUY, 10), standing())
    assert refusal(place(Side.BUY, 11), standing()) == ("inventory", D(550), D(500))


def test_working_and_unknown_orders_count_as_filled() -> None:
    assert approved(place(Side.BUY, 4), standing(position=3, buys=3))
    assert refusal(place(Side.BUY, 5), standing(position=3, buys=3)) == ("inventory", D(550), D(500))


def test_over_the_limit_only_the_reducing_side_passes_and_never_round_to_the_other() -> None:
    over = standing(position=14)
    assert refusal(place(Side.BUY, 1), over)[0] == "inventory"
    assert approved(place(Side.SELL, 10), over)
    assert approved(place(Side.SELL, 10), standing(position=14, total=100))
    assert refusal(place(Side.SELL, 20), standing(position=14, total=100))[0] == "total"


def test_other_symbols_take_of_the_total_limit() -> None:
    assert approved(place(Side.BUY, 10), standing(others=1500))
    assert refusal(place(Side.BUY, 10), standing(others=1501)) == ("total", D(2001), D(2000))


def test_each_of_the_other_limits_refuses_with_its_number() -> None:
    wide = standing(inventory=10_000, total=10_000)
    assert refusal(place(Side.BUY, 30), wide) == ("order_notional", D(1500), D(1000))
    assert refusal(place(Side.BUY, 1, 400_000), standing())[0] == "price_collar"
    assert refusal(place(Side.BUY, 1), having(standing(), active_orders=4)) == ("active_orders", D(5), D(4))
    assert refusal(place(Side.BUY, 1), standing(), FINE._replace(running=False))[0] == "state"
    assert refusal(place(Side.BUY, 1), standing(), FINE._replace(granted=False))[0] == "grant"
    assert refusal(place(Side.BUY, 1), standing(), FINE._replace(orders_left=0))[0] == "order_rate"
    other = having(standing(max_open_positions=2), others_open=2)
    assert refusal(place(Side.BUY, 1), other) == ("open_positions", D(3), D(2))
    assert approved(place(Side.SELL, 1), having(other, position_lots=1))
    barred = FINE._replace(barred=RiskNumber("daily_loss_cap", D(7), D(5)))
    assert refusal(place(Side.BUY, 1), standing(), barred) == ("daily_loss_cap", D(7), D(5))
    low = FINE._replace(edge_ubps=4_900_000)
    assert refusal(place(Side.BUY, 1), standing(), low) == ("edge", D("4.9"), D(5))


@given(
    st.integers(-30, 30), st.integers(0, 30), st.integers(0, 30), st.sampled_from(list(Side)), st.integers(1, 30),
    st.integers(480_000, 520_000), st.integers(0, 2500),
)  # fmt: skip
def test_an_approved_order_never_takes_a_worst_case_over_a_limit_unless_it_only_reduces(
    position: int, buys: int, sells: int, side: Side, lots: int, price: int, others: int
) -> None:
    seen = standing(position, buys, sells, others=others)
    if not approved(place(side, lots, price), seen):
        return
    if side is Side.BUY:
        leaning = position + buys + lots
        worst = worst_quote(INSTRUMENT, position, buys + lots, 0, MID2) if leaning > 0 else D(0)
    else:
        leaning = sells + lots - position
        worst = worst_quote(INSTRUMENT, position, 0, sells + lots, MID2) if leaning > 0 else D(0)
    if leaning > 0:
        own = INSTRUMENT.notional_quote(MID2 // 2, leaning)
        assert own <= D(500)
        assert own + others <= D(2000)
        assert worst >= own


@given(
    st.integers(-30, 30), st.integers(0, 30), st.integers(0, 30), st.sampled_from(list(Side)), st.integers(1, 30),
    st.integers(470_000, 530_000), st.integers(0, 2500), st.sampled_from([4 * UBPS, 5 * UBPS, 6 * UBPS]),
    st.integers(-3, 3), st.booleans(),
)  # fmt: skip
def test_an_amend_is_approved_in_whole_numbers_where_it_is_approved_in_full(
    position: int, buys: int, sells: int, side: Side, lots: int, price: int, others: int, edge: int, away: int,
    running: bool,
) -> None:  # fmt: skip
    seen = having(standing(position, buys, sells, others=others), mark2_ticks=MID2 + 16_000 * away)
    permission = FINE._replace(
        running=running, edge_ubps=edge, barred=RiskNumber("x", D(1), D(0)) if away == 3 else None
    )
    order, quote = OwnOrder("slwq-1-1", "BTCUSDT", side, 500_000, 3, 1, 1, 1, 1), Quote(side, price, lots)
    sight = Sight()
    sight.running, sight.barred = permission.running, permission.barred is not None
    sight.edge_ubps, sight.edge_min_ubps = permission.edge_ubps, permission.edge_min_ubps
    sight.order_units, sight.room_units2 = seen.limits.order_units, seen.limits.left_units2(seen.others_pico)[1]
    sight.mid2_ticks, sight.mark2_ticks = seen.mid2_ticks, seen.mark2_ticks
    leaning = position + buys if side is Side.BUY else sells - position
    risk = Risk(parameters(price_collar_bps=D(400)))
    in_full = isinstance(risk.approve(Amend(order, quote), seen, permission), Approved)
    assert (risk.approve_amend(order, price, lots, sight, leaning) is not None) == in_full


@given(st.integers(-30, 30), st.integers(0, 20), st.integers(0, 20), st.sampled_from(list(Side)))
def test_room_is_exactly_what_would_be_approved(position: int, buys: int, sells: int, side: Side) -> None:
    seen, risk = standing(position, buys, sells), Risk(parameters())
    lots = risk.room(seen, side, 500_000).lots
    assert not lots or isinstance(risk.approve(place(side, min(lots, 20)), seen, FINE), Approved)
    assert isinstance(risk.approve(place(side, lots + 1), seen, FINE), Refusal)
