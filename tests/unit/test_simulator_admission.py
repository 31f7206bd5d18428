"""What the venue's bounds admit by whole numbers is what its checks, which say why, let pass."""

from __future__ import annotations

from decimal import Decimal

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.simulator import admission
from bot.simulator.orders import Refused
from bot.simulator.server import GENERATED

ODD = msgspec.structs.replace(
    GENERATED,
    tick_size=Decimal("0.03"),
    lot_size=Decimal("0.007"),
    qty_min=Decimal("0.01"),
    qty_max=Decimal("55.5"),
    notional_min_quote=Decimal("5.001"),
)


def passes(instrument: Instrument, side: Side, price_ticks: int, lots: int, mark_half_ticks: int) -> bool:
    try:
        admission.check_lots(instrument, lots)
        admission.check_price(instrument, side, price_ticks, mark_half_ticks)
        admission.check_notional(instrument, price_ticks, lots)
    except Refused:
        return False
    return True


@given(
    st.sampled_from([GENERATED, ODD]),
    st.sampled_from(list(Side)),
    st.integers(-5, 80_000_000),
    st.integers(-2, 120_000),
    st.integers(2, 100_000_000),
)
@example(ODD, Side.BUY, 24, 2, 44)
@example(GENERATED, Side.BUY, 660_000, 1, 1_200_000)
@example(GENERATED, Side.BUY, 660_001, 1, 1_200_000)
@example(GENERATED, Side.SELL, 540_000, 1, 1_200_000)
@example(GENERATED, Side.SELL, 539_999, 1, 1_200_000)
def test_bounds_admit_exactly_what_no_check_refuses(
    instrument: Instrument, side: Side, price_ticks: int, lots: int, mark_half_ticks: int
) -> None:
    admitted = admission.Bounds(instrument).admit(side, price_ticks, lots, mark_half_ticks)
    assert admitted == passes(instrument, side, price_ticks, lots, mark_half_ticks)


@given(st.lists(st.tuples(st.integers(500_000, 700_000), st.integers(1_000_000, 1_400_000)), max_size=20))
def test_bounds_go_by_the_mark_that_is_asked_about_and_not_by_an_earlier_one(asked: list[tuple[int, int]]) -> None:
    bounds = admission.Bounds(GENERATED)
    for price_ticks, mark_half_ticks in asked:
        assert bounds.admit(Side.BUY, price_ticks, 10, mark_half_ticks) == passes(
            GENERATED, Side.BUY, price_ticks, 10, mark_half_ticks
        )
