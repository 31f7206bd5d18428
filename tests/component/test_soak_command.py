"""`make soak` runs all its parts, and says at the end which of them failed: none keeps another from being run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.bot_rig import ROOT

PARTS = ["tests.bench.seeds", "tests.support.decoder_fuzz", "tests.bench.recovery", "tests.bench.soak"]
STAND_IN = """#!/bin/sh
[ "$1" = -m ] || exit 0
echo "$2" >> "{told}"
case "$2" in {failing}) exit 3;; esac
"""
"""In the place of Python: notes which module it was asked for; what compiles the bot is none."""


def soak(folder: Path, failing: str) -> tuple[int, list[str], str]:
    """Exit code, the modules in order, and what was said on stderr."""
    told, python = folder / "told", folder / "python"
    python.write_text(STAND_IN.format(told=told, failing=failing or "nothing"))
    python.chmod(0o755)
    words = ["make", "--old-file=setup", "soak", f"BIN={folder}", "HOURS=0.5", "KILLS=1"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, told.read_text().split(), done.stderr


def test_all_four_are_run_and_it_ends_well(tmp_path: Path) -> None:
    assert soak(tmp_path, "") == (0, PARTS, "")


@pytest.mark.parametrize("failing", PARTS)
def test_one_that_fails_keeps_no_other_from_running_and_is_named(tmp_path: Path, failing: str) -> None:
    code, ran, said = soak(tmp_path, failing)
    assert (code, ran) == (2, PARTS)
    assert f"make soak: failed: {failing.rpartition('.')[2]}\n" in said
