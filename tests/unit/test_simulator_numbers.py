"""Texts of the simulated venue's numbers are what decimals print, and plain texts are read as decimals read them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.simulator.bybit_numbers import NOT_PLAIN, TEXTS_KEPT, Grid, fixed, places_of, units

PLACES = [0, 1, 4, 9]
STEPS = [Decimal(step) for step in ("0.1", "0.01", "1E-9", "1", "0.05", "2.5", "10", "1E+1", "0.10")]


@pytest.mark.parametrize("places", PLACES)
@given(st.integers(-(10**20), 10**20))
def test_a_fixed_number_of_decimals_is_what_a_decimal_prints(places: int, count: int) -> None:
    assert fixed(count, places) == format(Decimal(count).scaleb(-places), "f")


@pytest.mark.parametrize("step", STEPS)
@given(st.lists(st.integers(0, 10**9) | st.integers(-2, 9) | st.integers(TEXTS_KEPT - 2, TEXTS_KEPT + 9)))
def test_a_multiple_of_a_step_is_shown_as_the_decimal_is_whatever_was_shown_before(
    step: Decimal, counts: list[int]
) -> None:
    grid = Grid(step)
    assert [grid.text(count) for count in counts] == [format(step * count, "f") for count in counts]


@pytest.mark.parametrize(
    ("step", "places"), [("0.1", 1), ("1", 0), ("0.05", -1), ("10", -1), ("1E+1", -1), ("0.10", -1)]
)
def test_only_a_power_of_ten_has_decimals_that_can_be_counted(step: str, places: int) -> None:
    assert places_of(Decimal(step)) == places


@pytest.mark.parametrize("places", PLACES)
@given(st.integers(0, 10**8))
def test_a_plain_text_is_read_as_it_was_written(places: int, count: int) -> None:
    assert units(fixed(count, places), places) == count


@given(st.text("0123456789.", max_size=12) | st.text(max_size=4), st.integers(0, 4))
def test_what_is_read_at_all_is_what_a_decimal_reads(text: str, places: int) -> None:
    found = units(text, places)
    assert found == NOT_PLAIN or Decimal(text) == Decimal(found).scaleb(-places)


@pytest.mark.parametrize("text", ["", ".", ".5", "-1", "+1", "1e3", " 1", "1_0", "0.12", "٣", "1" * 19, "1.2.3", "NaN"])
def test_other_texts_are_left_to_decimals(text: str) -> None:
    assert units(text, 1) == NOT_PLAIN
