"""Positions at average cost: the arithmetic is exact, whatever is closed in whichever parts."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from bot.domain.order import Side
from bot.simulator.accounts import COST_SCALE, LinkIds, Position

_fills = st.lists(st.tuples(st.sampled_from(list(Side)), st.integers(1, 10**6), st.integers(1, 10**4)), max_size=40)


@given(_fills, st.integers(1, 2 * 10**6))
def test_realised_plus_unrealised_is_the_cash_of_all_fills_plus_the_position_at_the_mark(
    fills: list[tuple[Side, int, int]], mark_half_ticks: int
) -> None:
    position, realised, cash, lots_held = Position(), 0, 0, 0
    for side, price, lots in fills:
        realised += position.apply(side, price, lots)
        cash -= side.sign * price * lots
        lots_held += side.sign * lots
    assert position.lots == lots_held
    assert (
        2 * (realised + position.unrealised(mark_half_ticks)) == (2 * cash + lots_held * mark_half_ticks) * COST_SCALE
    )
    if lots_held == 0:
        assert position.cost == 0
        assert realised == cash * COST_SCALE


def test_adding_averages_reducing_keeps_the_average_and_turning_starts_anew() -> None:
    position = Position()
    position.apply(Side.BUY, 100, 10)
    position.apply(Side.BUY, 130, 20)
    assert Decimal(position.cost) / COST_SCALE / position.lots == 120
    assert position.apply(Side.SELL, 150, 12) == 12 * 30 * COST_SCALE
    assert Decimal(position.cost) / COST_SCALE / position.lots == 120
    assert position.apply(Side.SELL, 110, 20) == 18 * -10 * COST_SCALE
    assert (position.lots, position.cost) == (-2, -2 * 110 * COST_SCALE)
    assert position.apply(Side.BUY, 100, 2) == 2 * 10 * COST_SCALE


@given(st.lists(st.sampled_from(["a-0", "a-1", "a-2", "a-3", "a-7", "a-07", "b-1", "a", "a-", "-1", "a-1-2", "a-x"])))
def test_a_client_order_id_is_known_exactly_when_it_was_used(used: list[str]) -> None:
    known, ids = set[str](), LinkIds()
    for link_id in used:
        ids.add(link_id)
        known.add(link_id)
        for asked in ("a-0", "a-1", "a-2", "a-3", "a-4", "a-7", "a-07", "b-1", "b-2", "a", "a-", "-1", "a-1-2", "a-x"):
            assert (asked in ids) == (asked in known)
