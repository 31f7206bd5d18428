"""The matrix is made from its two lists, its ends follow by rule, and its page claims nothing that was not run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.chaos.matrix import STEPS, VICTIMS, chosen, matrix
from tests.chaos.moments import MOMENTS, Standing
from tests.chaos.page import page
from tests.chaos.results import Result, keep, read_results

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def _result(cell: str, word: str = "as it should be", code: str = "c1") -> Result:
    return Result(cell, word, "promoted", "", "watch", [1], [], 30.0, code)


def test_every_process_meets_every_step_once() -> None:
    cells = list(matrix())
    assert len(cells) == len(set(cells)) == 7 * 14
    assert {cell.victim for cell in cells} == set(VICTIMS)
    assert {cell.step for cell in cells} == set(STEPS) == set(MOMENTS), "each step has a moment at which it is hit"


@pytest.mark.parametrize(
    ("cell", "step", "reason"),
    [
        ("bot@watch", "rolled_back", "candidate"),
        ("bot@promote", "rolled_back", "candidate"),
        ("bot@preflight", "promoted", None),
        ("bot@flatten", "rolled_back", "candidate"),
        ("guard@watch", "promoted", None),
        ("guard@cancel_all", "rolled_back", "candidate"),
        ("prometheus@judge", "promoted", None),
        ("server@tell", "rolled_back", "candidate"),
    ],
)
def test_how_a_cell_must_end_follows_by_rule(cell: str, step: str, reason: str | None) -> None:
    (found,) = chosen(cell)
    assert (found.ending.step, found.ending.reason) == (step, reason)


def test_a_bot_can_be_killed_only_where_one_lives() -> None:
    without = [cell.name for cell in matrix() if not cell.has_victim]
    assert without == ["bot@preflight", "bot@flatten", "bot@bundle", "bot@tell"]


def test_cells_are_chosen_by_name_victim_step_or_place() -> None:
    assert len(chosen("")) == 98
    assert len(chosen("guard, bot@watch")) == 15
    assert len(chosen("tell")) == 7
    assert len(chosen("Prefect")) == 42
    assert {cell.victim for cell in chosen("guard alone")} == {"guard", "bot", "prometheus"}
    assert {cell.victim for cell in chosen("guard alone on PostgreSQL")} == {"postgresql"}
    for place in {cell.place for cell in matrix()}:
        assert {cell.place for cell in chosen(place)} == {place}, "each place can be chosen by its name"
    with pytest.raises(
        ValueError, match=r"cells 'gard'; allowed: VICTIM@STEP, or one of flow, worker.*, guard alone on Post"
    ):
        chosen("guard,gard")


def test_a_moment_is_the_records_word_and_not_a_neighbour_s() -> None:
    def standing(step: str, **more: object) -> Standing:
        known = {"bot": None, "epoch": 0, "closing": {}, "is_drilling": False, "is_judging": False, "exit_signed": 0}
        return Standing(1, "a", step, **{**known, **more})  # type: ignore[arg-type]

    def names(at: Standing) -> list[str]:
        return [name for name, is_there in MOMENTS.items() if is_there(at)]

    assert names(standing("launching")) == [], "no bot yet"
    assert names(standing("launching", epoch=1)) == ["grant"]
    assert names(standing("watched")) == [], "nobody has asked for the verdict"
    assert names(standing("judged", exit_signed=1)) == ["sign-off"]
    assert names(standing("judged", exit_signed=2)) == []
    assert names(standing("promoting", closing={0: "started"})) == ["promote"]
    assert names(standing("promoting", closing={0: "verified", 1: "started"})) == []
    assert names(standing("rolling_back", closing={0: "verified", 1: "started", 2: "failing"})) == [
        "stop_bot",
        "cancel_all",
    ]
    assert names(standing("rolling_back", closing={3: "verified", 4: "verified"})) == ["tell"]
    assert names(standing("rolled_back", closing={4: "verified", 5: "verified"})) == []


def test_the_page_shows_what_was_not_run_and_what_was_missed_and_passes_neither() -> None:
    results = {one.cell: one for one in (_result("guard@watch"), _result("guard@tell", "missed"))}
    text = page(results, "c1", NOW)
    assert "98 cells: 96 NOT RUN, 1 as it should be, 1 missed" in text
    assert "product's code `c1`" in text, "whoever compares two pages sees whether they are of the same code"
    assert "| watch | **NOT RUN** | **NOT RUN** | **NOT RUN** | ok | **NOT RUN**" in text
    assert "**missed**" in text
    assert "| flow@watch | Prefect | promoted | | | | | **NOT RUN** |" in text


def test_a_result_of_other_code_is_marked_and_is_no_pass_of_this_one() -> None:
    text = page({"guard@watch": _result("guard@watch", code="old")}, "c1", NOW)
    assert "1 as it should be, with earlier code" in text
    assert "ok (earlier code)" in text


def test_results_are_kept_and_the_newest_of_a_cell_counts(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.jsonl"
    keep(path, _result("guard@watch", "missed"))
    keep(path, _result("guard@watch"))
    assert read_results(path) == {"guard@watch": _result("guard@watch")}
    path.write_text("nonsense\n")
    with pytest.raises(ValueError, match=r"results.jsonl:1: not a result of the matrix"):
        read_results(path)
