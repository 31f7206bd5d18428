"""The command of the matrix: nothing is run twice, another code's result is no pass, a word for no cell is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.__main__ import is_done, main
from tests.chaos.matrix import chosen
from tests.chaos.results import Result, keep, product_code


def test_what_was_run_with_this_code_is_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, table = tmp_path / "results.jsonl", tmp_path / "chaos.md"
    for cell in chosen("guard"):
        keep(results, Result(cell.name, "as it should be", "promoted", "", "watch", [1], [], 30.0, product_code()))
    before = results.read_text()
    assert main(["--cells", "guard", "--results", str(results), "--table", str(table)]) == 0
    assert "14 of 98 cells chosen, 0 to run" in capsys.readouterr().out
    assert results.read_text() == before
    assert "84 NOT RUN, 14 as it should be" in table.read_text()


def test_a_cell_that_was_missed_or_ran_with_other_code_is_due_again(tmp_path: Path) -> None:
    known = {"guard@watch": Result("guard@watch", "missed", "promoted", "", "", [], [], 30.0, "now")}
    (cell,) = chosen("guard@watch")
    assert not is_done(known, cell, "now")
    known["guard@watch"] = Result("guard@watch", "as it should be", "promoted", "", "watch", [1], [], 30.0, "now")
    assert is_done(known, cell, "now")
    assert not is_done(known, cell, "changed since")


def test_a_word_that_names_no_cell_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--cells", "gard", "--results", str(tmp_path / "results.jsonl")])
    assert ended.value.code == 2
    assert "cells 'gard'; allowed: VICTIM@STEP" in capsys.readouterr().err
