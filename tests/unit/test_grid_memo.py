"""What a grid reads of a number is what the number is without one, whatever is written there."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.instrument import Instrument
from bot.venues.bybit import decode, wire
from bot.venues.port import VenueGarbled

STEPS = ("0.1", "0.5", "0.00000001", "1", "25", "1E+1")
TEXTS = st.from_regex(r"\A[0-9]{1,30}(\.[0-9]{0,30})?\Z") | st.sampled_from(
    ["", "0", "0.0", "-1", "+5", "1e3", "NaN", "sNaN", "Infinity", "1.", ".5", " 1", "1_0", "1.2.3", "9" * 30, "9" * 61]
)


def instrument(step: str) -> Instrument:
    size = Decimal(step)
    return Instrument("BTCUSDT", "linear", "BTC", "USDT", size, size, size, Decimal(100), Decimal(5))


def told(read: Callable[[], object]) -> object:
    try:
        return read()
    except VenueGarbled as error:
        return str(error)


@given(st.sampled_from(STEPS), TEXTS)
def test_a_number_on_a_grid_is_the_number(step: str, text: str) -> None:
    one = instrument(step)
    grid = decode.Grid(one)
    for _ in range(2):
        assert told(lambda: grid.lots(text, "f")) == told(lambda: decode.qty_lots(text, "f", one))
        assert told(lambda: grid.ticks(text, "f")) == told(lambda: decode.price_ticks(text, "f", one))


def test_no_execution_is_of_a_size_that_markets_do_not_have() -> None:
    row = wire.ExecutionRow(
        symbol="BTCUSDT", order_id="7", order_link_id="x", side="Buy", exec_id="9", exec_price="60000",
        exec_qty="9" * 30, exec_type="Trade", exec_time="1", exec_fee="0", is_maker=True,
    )  # fmt: skip
    one = instrument("0.1")
    with pytest.raises(VenueGarbled, match="execQty"):
        decode.fill(row, one, 1, decode.Grid(one))


def test_a_grid_remembers_only_so_many_numbers() -> None:
    grid = decode.Grid(instrument("1"))
    for number in range(1, 10_000):
        assert (grid.ticks(str(number), "f"), grid.lots(str(number), "f")) == (number, number)
    assert max(len(grid.known_ticks), len(grid.known_lots)) <= 4_000
