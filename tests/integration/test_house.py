"""The rules of the house, held wherever the suite runs: ruff, strict mypy, and the floor plan of import-linter."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gates.stages import ROOT

BIN = Path(sys.executable).parent
PACKAGES = ("flows", "tasks", "gates", "bot")


def _run(folder: Path, name: str, *arguments: str) -> tuple[int, str]:
    """One of the tools in that folder: its exit code and all that it said."""
    ran = subprocess.run([BIN / name, *arguments], check=False, cwd=folder, capture_output=True, text=True)
    return ran.returncode, ran.stdout + ran.stderr


@pytest.mark.timeout(1_800)  # mypy without a cache reads the libraries too: minutes, on a machine with other work
@pytest.mark.parametrize(
    "command", [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",), ("lint-imports",)], ids=" ".join
)
def test_the_house_is_clean(command: tuple[str, ...]) -> None:
    code, said = _run(ROOT, *command)
    assert code == 0, said


def test_what_is_looked_at_here_is_what_make_lint_looks_at() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nlint:")[1].split("\n\n")[0]
    assert [line.removeprefix("\t@$(BIN)/") for line in recipe.splitlines()[1:]] == [
        "ruff check .", "ruff format --check .", "mypy", "lint-imports",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "line"), [("gates/judge.py", "import tasks.record"), ("bot/journal.py", "import gates.criteria")]
)
def test_an_import_up_the_stairs_is_refused(tmp_path: Path, file: str, line: str) -> None:
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / file).open("a", encoding="utf-8") as module:
        module.write(f"\n{line}\n")
    code, said = _run(tmp_path, "lint-imports")
    assert code == 1, said
    assert "BROKEN" in said
