"""The matrix's command runs nothing twice, names what it could not run, and refuses what names no cell."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.__main__ import main
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


def test_cells_that_cannot_be_run_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cells", "postgresql", "--results", str(tmp_path / "results.jsonl")]) == 0
    assert "NOT RUN, 14: postgresql@preflight" in capsys.readouterr().out


def test_a_word_that_names_no_cell_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--cells", "gard", "--results", str(tmp_path / "results.jsonl")])
    assert ended.value.code == 2
    assert "cells 'gard'; allowed: VICTIM@STEP" in capsys.readouterr().err
