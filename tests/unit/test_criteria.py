"""Criteria files: what loads, what is refused, and that the refusal is one line that names thing, value and allowed."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gates.bands import EVERYTHING, Band, meet, rest
from gates.criteria import CriteriaError, load_criteria

GOOD = """
criteria:
  - id: latency
    title: Order latency
    source: promql
    query: max(mm_book_age_ms)
    unit: ms
    go: "< 500"
    no_go: "> 1000"
    phase: guard
    unknown_deadline_s: 10
    why: Slow orders are stale orders.
"""


def _file(folder: Path, text: str) -> Path:
    path = folder / "criteria.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_good_file_loads_with_its_bands(tmp_path: Path) -> None:
    (criterion,) = load_criteria(_file(tmp_path, GOOD))
    assert criterion.go == Band("< 500")
    assert criterion.limit == "go < 500, no-go > 1000"
    assert criterion.on_no_go == "candidate"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "phase: guard",
            "phase: guard\n    colour: red",
            ":11: criteria.latency: unknown key 'colour'; allowed: id, title",
        ),
        ("phase: guard", "phase: dream", "criteria.latency.phase = 'dream': input should be 'preflight', 'guard'"),
        ("    unknown_deadline_s: 10\n", "", "the key 'unknown_deadline_s' is missing"),
        ('    go: "< 500"\n    no_go: "> 1000"\n', "", "neither go nor no_go is given: it cannot fail"),
        ('go: "< 500"', 'go: "<< 500"', "'<< 500' is not a band; allowed: '< 1', '<= 1'"),
        ('go: "< 500"', 'go: "< 2000"', "go '< 2000' and no_go '> 1000' overlap"),
        ('go: "< 500"\n    no_go: "> 1000"', 'go: ">= 0"\n    no_go: "< -1"', "can never FAIL: no ms lies there"),
        ('    go: "< 500"\n    no_go: "> 1000"', '    go: ">= 0"', "can never FAIL"),
        ('go: "< 500"', 'go: "< 0"', "can never PASS"),
        ("source: promql", "source: check", "source check with query; allowed: check alone"),
        ("unknown_deadline_s: 10", "unknown_deadline_s: 0", "unknown_deadline_s = 0: input should be greater than 0"),
        ("title: Order latency", "title: Order latency\n    title: Again", "the key 'title' stands twice"),
        ("criteria:", "criteria: [", "not YAML"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_the_fault(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    path = _file(tmp_path, GOOD.replace(old, new))
    with pytest.raises(CriteriaError) as caught:
        load_criteria(path)
    line = str(caught.value)
    assert said in line
    assert line.startswith(f"{path}:")
    assert "\n" not in line
    assert "more)" not in line


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CriteriaError, match=r"absent\.yaml: cannot be read: No such file"):
        load_criteria(tmp_path / "absent.yaml")


def test_an_id_may_stand_only_once(tmp_path: Path) -> None:
    with pytest.raises(CriteriaError, match="the id 'latency' stands twice"):
        load_criteria(_file(tmp_path, GOOD + GOOD.replace("\ncriteria:\n", "")))


def test_an_override_changes_numbers_and_is_checked_like_the_file(tmp_path: Path) -> None:
    path = _file(tmp_path, GOOD)
    changes = {"*": {"unknown_deadline_s": 3, "for_s": 1}, "latency": {"go": "< 100", "for_s": 2}}
    (criterion,) = load_criteria(path, changes)
    assert (criterion.unknown_deadline_s, criterion.for_s, criterion.go) == (3, 2, Band("< 100"))
    with pytest.raises(CriteriaError, match=r"latency\.severity: not a number of a plan; allowed: go, no_go"):
        load_criteria(path, {"latency": {"severity": "advisory"}})
    with pytest.raises(CriteriaError, match="unknown criterion 'lateness'; allowed: \\*, latency"):
        load_criteria(path, {"lateness": {"for_s": 1}})
    with pytest.raises(CriteriaError, match="overlap"):
        load_criteria(path, {"latency": {"go": "< 5000"}})


NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-1000, max_value=1000)
SIGNS = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])


@given(SIGNS, NUMBERS, NUMBERS)
def test_a_band_holds_exactly_what_its_words_say(sign: str, limit: Decimal, value: Decimal) -> None:
    said = {
        "<": value < limit,
        "<=": value <= limit,
        ">": value > limit,
        ">=": value >= limit,
        "==": value == limit,
        "!=": value != limit,
    }
    assert Band(f"{sign} {limit:f}").holds(value) is said[sign]


@given(SIGNS, NUMBERS, NUMBERS)
def test_a_value_lies_in_a_band_or_in_its_rest_and_never_in_both(sign: str, limit: Decimal, value: Decimal) -> None:
    band = Band(f"{sign} {limit:f}")
    outside = rest(band.intervals)
    assert band.holds(value) is not any(part.holds(value) for part in outside)
    assert not meet(band.intervals, outside)
    assert rest(outside) == band.intervals


def test_ranges_hold_their_ends_and_outside_does_not() -> None:
    assert Band("0.8 .. 1.05").holds(Decimal("0.8"))
    assert not Band("outside 0.8 .. 1.05").holds(Decimal("1.05"))
    assert Band("outside 0.8 .. 1.05").holds(Decimal("1.06"))
    assert rest(()) == EVERYTHING
    assert not Band("> 0").holds(Decimal("NaN"))
    with pytest.raises(ValueError, match="empty range"):
        Band("2 .. 1")
