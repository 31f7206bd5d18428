"""A fixed sample of the matrix of every process killed at every step; `make chaos` runs the whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.at_guard import run_cell
from tests.chaos.matrix import chosen

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]
TRIES = 3
"""On a busy machine a step that lasts milliseconds may be over before it is seen; the cell is then run again."""


@pytest.mark.parametrize("name", ["guard@grant", "bot@cancel_all", "prometheus@flatten", "guard@bundle"])
def test_a_process_killed_at_its_step_leaves_nothing_lost_or_doubled(name: str, tmp_path: Path) -> None:
    (cell,) = chosen(name)
    for number in range(TRIES):
        outcome = run_cell(cell, tmp_path / str(number) / "home")
        if outcome.hit is not None:
            break
    assert outcome.hit is not None, f"missed {TRIES} times: {outcome.missed}"
    assert outcome.wrong == [], f"killed while the record said {outcome.hit.at}"
