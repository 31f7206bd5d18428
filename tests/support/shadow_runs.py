"""Shadow run from its command line, in the folder of the test."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from bot.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


def run(*flags: str, code: int = 0) -> dict[str, Any]:
    assert main(["run", "--shadow", *flags, "--report", "report.json"]) == code
    found: dict[str, Any] = json.loads(Path("report.json").read_text(encoding="utf-8"))
    return found


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said of input that cannot be used: one line, exit code 2."""
    try:
        code = main(list(arguments))
    except SystemExit as ended:
        code = int(ended.code or 0)
    said = capsys.readouterr().err
    assert code == 2, said
    assert said.count("\n") == 1, said
    return said


def rows(name: str) -> list[dict[str, str]]:
    with Path(name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
