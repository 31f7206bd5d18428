"""What the flow `drill` says of the drill that it asked for: never what an earlier one of that name came to."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows import drill
from tasks.record_tables import Drill
from tests.support.guard_parts import guard_at


def test_a_drill_that_is_asked_for_again_is_not_told_as_the_one_that_had_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drill, "OUTCOME_DEADLINE_S", 0.1)
    monkeypatch.setattr(drill, "LOOK_EVERY_S", 0.05)
    guard = guard_at(tmp_path, "drills")
    record, run = guard.store.record, guard.store.record.stage_run(1)
    first = record.add_drill(Drill(stage_run_id=1, name="freeze"))
    record.end_drill(first, "passed", {"held_or_frozen": "0.3"})
    ended = frozenset(row.id for row in drill._of_name(record, run, "freeze") if row.outcome)
    assert drill._outcome(record, run, "freeze", ended).name == "NotInTime"
    again = record.add_drill(Drill(stage_run_id=1, name="freeze"))
    record.end_drill(again, "failed", {"why": "not seen to trip: held_or_frozen"})
    assert drill._outcome(record, run, "freeze", ended).name == "Failed"
    guard.store.close()
