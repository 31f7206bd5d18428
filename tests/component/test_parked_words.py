"""A parked stage is called flat where its flattening was proven, and nowhere else: page, Prefect, demo and notice."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.demo_view import View
from flows.words import decision_note
from tasks.evidence import gather
from tasks.evidence_page import render_page
from tasks.flattenings import FLATTENINGS
from tasks.guard.closing import _end
from tasks.guard.state import GuardState
from tasks.record_tables import RollbackStep
from tasks.rollback import NOT_FLATTENED
from tests.support.guard_parts import activate, guard_at

NOWHERE = "http://127.0.0.1:9"
SKIPPED = {"state": "skipped", "proof": {"why": "nothing was launched in this stage run"}}
KEPT = {"state": "verified", "proof": {"flatten": NOT_FLATTENED, "positions": {"BTCUSDT": "0.004"}}}
FLAT = {"state": "verified", "proof": {"flatten": "was flat", "positions": {"BTCUSDT": "0"}}}


def _page(guard: GuardState) -> str:
    return render_page(gather(guard.store.record, 1, "parked", NOWHERE), [])


def _note(guard: GuardState) -> str:
    return decision_note(guard.store.record.stage_run(1), guard.store.record.rollback_steps(1))


def _demo(guard: GuardState) -> str:
    return View(io.StringIO()).ended(guard.store.record, guard.store.record.stage_run(1))


def _notice(guard: GuardState) -> str:
    active = activate(guard)
    return _end(active, guard.store.record.rollback_steps(1))[1].upper()


@pytest.mark.parametrize("shown", [_page, _note, _demo, _notice])
@pytest.mark.parametrize(("flatten", "flat"), [(None, False), (SKIPPED, False), (KEPT, False), (FLAT, True)])
def test_a_stage_is_called_flat_where_that_is_proven(
    tmp_path: Path, shown: Callable[[GuardState], str], flatten: dict[str, object] | None, flat: bool
) -> None:
    at = "parked" if shown is not _notice else "rolling_back"
    guard = guard_at(tmp_path / "home", at, reason="environment", end_wanted="park")
    if flatten is not None:
        row = RollbackStep(stage_run_id=1, number=3, name="flatten", **flatten)
        guard.store.record.write_rollback_step(row)
    said = shown(guard)
    guard.store.close()
    assert "PARKED" in said
    assert ("PARKED FLAT" in said) is flat


def _timeline(guard: GuardState) -> str:
    out = io.StringIO()
    View(out).timeline(guard.store.record, guard.store.record.stage_run(1))
    return out.getvalue()


@pytest.mark.parametrize("shown", [_page, _note, _timeline])
def test_of_a_flattening_that_fails_it_is_said_why_also_where_its_tries_are_told(
    tmp_path: Path, shown: Callable[[GuardState], str]
) -> None:
    guard = guard_at(tmp_path / "home", "rollback_failed", reason="environment", end_wanted="park")
    row = RollbackStep(stage_run_id=1, number=3, name="flatten", state="failing", error="the market is halted")
    row.proof = {FLATTENINGS: [{"began_at": "2026-01-01T00:00:00.000Z", "held": {"BTCUSDT": "0.004"}}]}
    guard.store.record.write_rollback_step(row)
    said = shown(guard)
    guard.store.close()
    assert "the market is halted" in said
