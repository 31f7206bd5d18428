"""A promotion goes by what its attempt came to once it was flat: beyond a budget, or not known, it is none."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.booked import NotBooked
from gates.decision import CONTINUE, Decision
from tasks.guard import booking, closing
from tasks.guard.closing import promote
from tasks.guard.results import BOOKED, RESULT
from tasks.guard.state import Active, GuardState, load_active
from tasks.record_tables import StageRun, utc_now
from tests.component.test_guard_booking import Desk
from tests.support.asked_guard import PLAN as SMOKE
from tests.support.guard_parts import guard_at, writing


@pytest.fixture(autouse=True)
def _all_else_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    async def proven(guard: GuardState, active: Active, recorder: object) -> None:
        active.bot_gone = True

    async def clean(guard: GuardState, active: Active) -> Decision:
        return CONTINUE

    async def bundled(guard: GuardState, active: Active, recorder: object) -> None:
        active.row.evidence_dir = f"built while {active.row.step}"

    monkeypatch.setattr(closing, "_prove", proven)
    monkeypatch.setattr(closing, "last_look", clean)
    monkeypatch.setattr(closing, "_bundle", bundled)
    monkeypatch.setattr(booking, "AGAIN_S", (0.01,))
    monkeypatch.setattr(booking, "WITHIN_S", 0.05)


class ClosedDesk(Desk):
    def close(self) -> None:
        """Nothing was opened."""


def _promoted(
    home: Path, monkeypatch: pytest.MonkeyPatch, told: Decimal | Exception, earlier: dict[str, Any] | None = None
) -> tuple[StageRun, str]:
    """How a promotion ends, and what the bundle was built of. `earlier`: another attempt of the candidate."""
    monkeypatch.setattr(closing, "_desk", lambda *_: ClosedDesk(told))
    (home / "run").mkdir(parents=True)
    columns: dict[str, Any] = {
        "state_dir": str(home / "run"),
        "run": "run",
        "obs_url": "http://127.0.0.1:9",
        "launched_at": utc_now(),
    }

    async def work() -> tuple[StageRun, str]:
        guard = guard_at(home, "promoting", source=SMOKE, **columns)
        record = guard.store.record
        rollout = record.rollout("r")
        assert rollout is not None
        if earlier is not None:
            with record.writing() as session:
                named: dict[str, Any] = {
                    "rollout": "r",
                    "account": "b",
                    "candidate": "c",
                    "plan_path": "/p",
                    "run": "x",
                }
                session.add(StageRun(**named, attempt=2, obs_url="http://127.0.0.1:1", **earlier))
        active = guard.active = load_active(guard.folder, record.stage_run(1), rollout)
        active.plan = active.plan.model_copy(update={"source_timeout_s": 60.0})
        active.criteria = tuple(one.model_copy(update={"unknown_deadline_s": 0.1}) for one in active.criteria)
        async with writing(guard):
            promote(guard, active)
            assert active.closing is not None
            await asyncio.wait_for(active.closing, 60)
            await guard.store.settled()
            return record.stage_run(1), str(active.row.evidence_dir)

    return asyncio.run(work())


@pytest.mark.parametrize(
    ("net", "step"),
    [("-90", "promoted"), ("-100", "promoted"), ("-100.0000001", "rolled_back"), ("-120", "rolled_back")],
)
def test_what_it_cost_to_get_flat_counts_before_it_is_promoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, net: str, step: str
) -> None:
    run, built = _promoted(tmp_path, monkeypatch, Decimal(net))
    assert run.step == step
    if step == "rolled_back":
        assert (run.reason, run.decided_criterion, run.end_wanted) == ("candidate", "stage_pnl", "roll_back")
        assert built == "built while rolling_back", "the bundle shows how it ended"


def test_a_loss_of_the_candidates_day_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    over = utc_now()
    earlier = {"stage": "soak", "step": "parked", "launched_at": over, "ended_at": over, "flat_at": over}
    monkeypatch.setattr("tasks.record.Record.booked", _booked_at("-420"))
    run, _ = _promoted(tmp_path, monkeypatch, Decimal("-90"), earlier)
    assert (run.step, run.reason, run.decided_criterion) == ("rolled_back", "candidate", "candidate_pnl_24h")
    assert run.decided_value == "-510"


def _booked_at(net: str) -> Any:
    def booked(*asked: Any) -> tuple[int, Decimal, str]:
        assert asked[-2:] == (RESULT, BOOKED)
        return 0, Decimal(net), ""

    return booked


def test_what_it_came_to_and_is_not_known_parks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, built = _promoted(tmp_path, monkeypatch, NotBooked("some are missing"))
    assert (run.step, run.reason, run.decided_criterion) == ("parked", "environment", RESULT)
    assert "some are missing" in str(run.decided_why)
    assert built == "built while rolling_back"


def test_what_another_attempt_came_to_and_is_not_known_parks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    over = utc_now()
    earlier = {"stage": "canary", "step": "parked", "launched_at": over, "ended_at": over}
    run, _ = _promoted(tmp_path, monkeypatch, Decimal("-90"), earlier)
    assert (run.step, run.reason) == ("parked", "environment")
    assert "r/canary attempt 2" in str(run.decided_why)
