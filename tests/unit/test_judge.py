"""The judge: PASS, FAIL and INCONCLUSIVE only of what was measured; everything else UNKNOWN with its cause."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gates.judge import SEVERITY, Cause, Outcome, judge
from tests.support.gate_parts import AT_MS, criterion, measured, reading

VALUES = st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-5000, max_value=5000)


@pytest.mark.parametrize(
    ("value", "outcome"),
    [(499, "PASS"), (500, "INCONCLUSIVE"), (1000, "INCONCLUSIVE"), ("1000.01", "FAIL"), (-7, "PASS")],
)
def test_the_bands_decide_and_between_them_it_is_inconclusive(value: int | str, outcome: str) -> None:
    found = judge(criterion(), reading(value), AT_MS)
    assert found.outcome == outcome
    assert found.cause is None
    assert found.value == Decimal(value)
    assert found.limit == "go < 500, no-go > 1000"


def test_where_one_band_is_given_the_rest_is_the_other() -> None:
    assert measured(criterion(no_go=None), 500).outcome is Outcome.FAIL
    assert measured(criterion(go=None), 1000).outcome is Outcome.PASS


@pytest.mark.parametrize("cause", list(Cause))
def test_a_reading_that_failed_is_unknown_with_its_cause(cause: Cause) -> None:
    found = judge(criterion(), reading(0, failure=cause), AT_MS)
    assert (found.outcome, found.cause, found.value) == (Outcome.UNKNOWN, cause, None)
    assert cause.value in found.reason


@pytest.mark.parametrize(
    ("values", "cause"),
    [((), Cause.NO_DATA), ((None,), Cause.NOT_FINITE), ((1, None), Cause.NOT_FINITE), ((1, 2), Cause.SEVERAL_SERIES)],
)
def test_no_sample_nan_and_several_series_are_unknown(values: tuple[int | None, ...], cause: Cause) -> None:
    assert judge(criterion(), reading(*values), AT_MS).cause is cause


def test_infinity_is_not_a_value_even_where_it_would_pass() -> None:
    assert judge(criterion(), reading("-Infinity"), AT_MS).cause is Cause.NOT_FINITE


def test_several_series_are_reduced_as_the_criterion_says() -> None:
    values = (10, 1200, 1500)
    assert judge(criterion(reduce="sum"), reading(*values), AT_MS).value == 2710
    worst = judge(criterion(reduce="worst"), reading(*values), AT_MS)
    assert (worst.outcome, worst.value, worst.sample_count) == (Outcome.FAIL, 1500, 3)
    assert "symbol=S1" not in worst.reason
    each = judge(criterion(reduce="each"), reading(*values), AT_MS)
    assert (each.outcome, each.value) == (Outcome.FAIL, 1500)
    assert "symbol=S1" in each.reason
    assert "symbol=S2" in each.reason


def test_the_worst_of_low_limits_is_the_lowest() -> None:
    asked = criterion(go=">= -50", no_go="< -100", reduce="worst")
    assert judge(asked, reading(-20, -60, -300, -150), AT_MS).value == -300


def test_a_window_that_was_not_seen_in_full_is_unknown_whatever_its_value() -> None:
    asked = criterion(query="max(rate(mm_may_quote_seconds_total[$window]))", window_s=60, min_coverage="0.9")
    for value in (1, 5000):
        found = judge(asked, reading(value, expected=60, observed=53), AT_MS)
        assert (found.outcome, found.cause) == (Outcome.UNKNOWN, Cause.PARTIAL_WINDOW)
        assert "53 of 60" in found.reason
    assert judge(asked, reading(1, expected=60, observed=54), AT_MS).outcome is Outcome.PASS
    assert judge(asked, reading(1), AT_MS).cause is Cause.PARTIAL_WINDOW


def test_a_reading_is_judged_by_its_own_criterion_alone() -> None:
    with pytest.raises(ValueError, match="cannot be judged as latency"):
        judge(criterion(), reading(1, name="pnl"), AT_MS)


@given(VALUES, VALUES, st.sampled_from(["one", "each", "worst", "sum"]))
def test_a_worse_value_never_gives_a_better_outcome(one: Decimal, other: Decimal, reduce: str) -> None:
    better, worse = sorted((one, other))
    asked = criterion(reduce=reduce)
    ranks = [SEVERITY[judge(asked, reading(value), AT_MS).outcome] for value in (better, worse)]
    assert ranks[0] <= ranks[1]


@given(st.lists(st.one_of(st.none(), VALUES), max_size=4), st.sampled_from(["one", "each", "worst", "sum"]))
def test_nothing_missing_ever_passes(values: list[Decimal | None], reduce: str) -> None:
    found = judge(criterion(reduce=reduce), reading(*values), AT_MS)
    if not values or None in values:
        assert found.outcome is Outcome.UNKNOWN
    assert (found.outcome is Outcome.UNKNOWN) is (found.cause is not None)


@given(st.lists(VALUES, min_size=1, max_size=4), VALUES)
def test_one_more_series_never_improves_the_worst(values: list[Decimal], more: Decimal) -> None:
    asked = criterion(reduce="worst")
    before = judge(asked, reading(*values), AT_MS).outcome
    assert SEVERITY[judge(asked, reading(*values, more), AT_MS).outcome] >= SEVERITY[before]
