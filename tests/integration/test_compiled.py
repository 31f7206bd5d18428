"""The compiled bot is the bot: it decides and says the same as its sources, to the byte, and is never a stale one."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMPILE = ROOT / "infra" / "compile.py"

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("compiled")
    done = subprocess.run(
        [sys.executable, str(COMPILE), "--into", str(into), "--opt", "0"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return into


def said(environment: dict[str, str]) -> dict[str, Any]:
    """What the runs say under that environment."""
    words = [sys.executable, "-P", "-m", "tests.support.digests", "--few"]
    done = subprocess.run(
        words, check=False, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_it_decides_and_says_the_same_to_the_byte(built: Path) -> None:
    of_sources = said({"PYTHONPATH": str(ROOT)})
    compiled = said({"PYTHONPATH": f"{built}{os.pathsep}{ROOT}", "PYTHONHASHSEED": "77"})
    assert of_sources["bot"] == str(ROOT / "bot" / "__init__.py")
    assert compiled["bot"] == str(built / "bot" / "__init__.py")
    assert compiled["compiled"] > 90, "most of the modules that were loaded are C extensions"
    assert of_sources["compiled"] == 0
    assert compiled["digests"] == of_sources["digests"]
    assert len(set(of_sources["digests"].values())) == len(of_sources["digests"]) >= 20, "each run is one of its own"


@pytest.mark.parametrize("lane", ["wire", "kernel"])
def test_its_command_line_rehearses_as_that_of_the_sources(built: Path, tmp_path: Path, lane: str) -> None:
    reports: list[str] = []
    for name, path in (("sources", str(ROOT)), ("compiled", f"{built}{os.pathsep}{ROOT}")):
        report = tmp_path / f"{name}.json"
        done = subprocess.run(
            [
                *(sys.executable, "-P", "-m", "bot", "rehearse", "--settings", "configs/bot/demo.yaml"),
                *("--span-s", "120", "--lane", lane, "--report", str(report)),
            ],
            check=False, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), name
        reports.append(report.read_text(encoding="utf-8"))
    assert reports[0] == reports[1]
    assert json.loads(reports[0])["orders"]["placed"] > 0


def test_a_build_is_kept_while_its_sources_are_and_no_longer(built: Path, tmp_path: Path) -> None:
    module = runpy.run_path(str(COMPILE))
    assert module["is_built"](built)
    digest = built / module["DIGEST"]
    digest.write_text("of other sources", encoding="ascii")
    try:
        assert not module["is_built"](built)
    finally:
        digest.write_text(module["digest"](), encoding="ascii")
    assert not module["is_built"](tmp_path)


def test_without_a_compiler_it_says_so_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    into = tmp_path / "compiled"
    done = subprocess.run(
        [sys.executable, str(COMPILE), "--into", str(into)], check=False, capture_output=True, text=True,
        env={**os.environ, "CC": "/nonexistent/cc"},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["compile: /nonexistent/cc: no C compiler; on Debian: apt-get install gcc"]
    assert not into.exists()
