"""The verdict: worst wins, what is missing holds, advisory never decides."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from gates.judge import SEVERITY, Cause, Measurement, Outcome, Word, verdict
from tests.support.gate_parts import criterion, measured

RANK = {Word.GO: 0, Word.HOLD: 1, Word.NO_GO: 2}
FILE = tuple(criterion(name) for name in ("first", "second", "third"))
ANYTHING = st.one_of(st.sampled_from(list(Cause)), st.sampled_from([Decimal(1), Decimal(700), Decimal(2000)]))


def test_every_critical_pass_is_go_and_nothing_decided() -> None:
    found = verdict(FILE, [measured(one, 1) for one in FILE])
    assert (found.word, found.decided_by, found.others, found.fault) == (Word.GO, None, (), None)


def test_one_fail_is_no_go_by_the_first_in_the_file_and_the_rest_are_listed() -> None:
    given_values = [measured(FILE[2], 2000), measured(FILE[1], 2000), measured(FILE[0], Cause.STALE)]
    found = verdict(FILE, given_values)
    assert found.word is Word.NO_GO
    assert found.decided_by is not None
    assert found.decided_by.criterion_id == "second"
    assert [one.criterion_id for one in found.others] == ["third", "first"]
    assert found.fault == "candidate"


def test_whose_fault_a_no_go_is_comes_from_the_criterion() -> None:
    asked = criterion(on_no_go="environment")
    assert verdict([asked], [measured(asked, 2000)]).fault == "environment"


def test_unknown_and_inconclusive_hold() -> None:
    for value in (700, Cause.SOURCE_UNREACHABLE):
        found = verdict(FILE, [measured(FILE[0], 1), measured(FILE[1], value), measured(FILE[2], 1)])
        assert found.word is Word.HOLD
        assert found.decided_by is not None
        assert found.decided_by.criterion_id == "second"


def test_a_critical_criterion_without_a_measurement_is_unknown() -> None:
    found = verdict(FILE, [measured(FILE[0], 1), measured(FILE[2], 1)])
    assert found.word is Word.HOLD
    assert found.decided_by is not None
    assert (found.decided_by.criterion_id, found.decided_by.reason) == ("second", "no data: never measured")
    assert len(found.measurements) == 3


def test_advisory_never_decides() -> None:
    shown = criterion("shown", severity="advisory")
    critical = criterion("critical")
    for value in (2000, Cause.NO_DATA):
        found = verdict([shown, critical], [measured(shown, value), measured(critical, 1)])
        assert found.word is Word.GO
        assert len(found.measurements) == 2


def test_a_verdict_over_nothing_is_never_go() -> None:
    assert verdict([], []).word is Word.HOLD
    assert verdict([criterion(severity="advisory")], []).word is Word.HOLD


@given(st.lists(st.one_of(st.none(), ANYTHING), min_size=3, max_size=3))
def test_no_missing_datum_ever_gives_go(values: list[Decimal | Cause | None]) -> None:
    found = verdict(FILE, [measured(one, value) for one, value in zip(FILE, values, strict=True) if value is not None])
    healthy = all(value == Decimal(1) for value in values)
    assert (found.word is Word.GO) is healthy
    assert (found.decided_by is None) is healthy


@given(st.lists(ANYTHING, min_size=3, max_size=3), st.integers(0, 2), ANYTHING)
def test_a_worse_measurement_never_improves_the_verdict(
    values: list[Decimal | Cause], at: int, other: Decimal | Cause
) -> None:
    before = [measured(one, value) for one, value in zip(FILE, values, strict=True)]
    after: list[Measurement] = [*before[:at], measured(FILE[at], other), *before[at + 1 :]]
    if SEVERITY[after[at].outcome] >= SEVERITY[before[at].outcome]:
        assert RANK[verdict(FILE, after).word] >= RANK[verdict(FILE, before).word]


@given(st.permutations(range(3)), st.lists(ANYTHING, min_size=3, max_size=3))
def test_the_order_of_measurements_decides_nothing(order: list[int], values: list[Decimal | Cause]) -> None:
    given_values = [measured(one, value) for one, value in zip(FILE, values, strict=True)]
    one, other = verdict(FILE, given_values), verdict(FILE, [given_values[at] for at in order])
    assert (one.word, one.decided_by) == (other.word, other.decided_by)


def test_of_two_measurements_of_one_criterion_the_worse_counts() -> None:
    asked = criterion()
    found = verdict([asked], [measured(asked, 2000), measured(asked, 1)])
    assert found.decided_by is not None
    assert found.decided_by.outcome is Outcome.FAIL
