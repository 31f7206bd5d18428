"""A candidate that was burnt on one account goes on nowhere: not by a launch, a verdict, a next step or a promotion."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from gates.course import Step
from gates.judge import Outcome
from gates.stages import load_plan
from tasks.guard import beginning, judging, promoting, requests
from tasks.guard.beginning import _refuse_unfit
from tasks.guard.judging import judge_stage
from tasks.guard.promoting import promote_stage
from tasks.guard.requests import answer_for_ever
from tasks.guard.state import Active, GuardState, Refused
from tasks.preflight import Checked
from tasks.record import Answer
from tasks.record_tables import Rollout, SignOff, StageRun
from tasks.record_writer import RecordWriter
from tests.support.guard_parts import DIGEST, PLAN, activate, guard_at, looks, never_close, writing

STAGES = Path(__file__).parents[1] / "support" / "plan_stages.yaml"


@pytest.fixture(autouse=True)
def _nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    never_close(monkeypatch)


def elsewhere(guard: GuardState, step: str, *, stage: str = "canary", **columns: object) -> None:
    """The same candidate on account `b`."""
    record = RecordWriter(guard.store.record, "b")
    record.know_account("simulated")
    named = {"rollout": "r", "account": "b", "stage": stage, "candidate": "c", "plan_path": "/p"}
    row = record.add_stage_run(StageRun(**named, attempt=2, step="requested"))
    record.change_stage_run(row.id or 0, "step", step=step, **columns)


BURNT = {"reason": "candidate", "end_wanted": "roll_back", "decided_criterion": "crossing_orders"}
PARKED = {"reason": "people", "end_wanted": "park", "decided_criterion": "stop", "run": "r-canary-2"}
LAUNCHED = {"run": "r-canary-2"}


def _launched(
    home: Path, monkeypatch: pytest.MonkeyPatch, *others: tuple[str, Mapping[str, str]]
) -> tuple[Answer, StageRun, list[int], list[str]]:
    """The answer to `launch` where nothing else stands against it; the run, what was started, the kinds of links."""
    started: list[int] = []

    async def passes(subject: object, names: frozenset[str]) -> list[Checked]:
        return [Checked(name, name, Outcome.PASS, "", "") for name in sorted(names)]

    async def launch(guard: GuardState, active: object) -> None:
        started.append(1)

    monkeypatch.setattr(beginning, "preflight", passes)
    monkeypatch.setattr(requests, "launch", launch)
    monkeypatch.setattr(requests, "EVERY_S", 0.01)

    async def asked() -> tuple[Answer, StageRun, list[str]]:
        guard = guard_at(home, "ready")
        activate(guard)
        record = guard.store.record
        signed = {"gate": "entry", "person": "ada", "decision": "GO", "evidence_digest": DIGEST}
        record.add_sign_off(SignOff(stage_run_id=1, accepted=True, **signed))
        for step, columns in others:
            elsewhere(guard, step, **columns)  # after this one had passed its preflight
        async with writing(guard):
            number = record.submit("a", "launch", {"stage_run_id": 1}, "launch")
            answering = asyncio.create_task(answer_for_ever(guard))
            while (answer := record.answer(number)) is None:  # noqa: ASYNC110 - another thread writes it
                await asyncio.sleep(0.01)
            answering.cancel()
            await guard.store.settled()
            return answer, record.stage_run(1), [entry.kind for entry in record.entries("a")]

    answer, run, kinds = asyncio.run(asked())
    return answer, run, started, kinds


@pytest.mark.parametrize(
    ("step", "verb"), [("rolled_back", "was"), ("rolling_back", "is being"), ("rollback_failed", "is being")]
)
def test_a_candidate_that_was_burnt_on_another_account_is_not_launched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, verb: str
) -> None:
    answer, run, started, kinds = _launched(tmp_path / "home", monkeypatch, (step, BURNT))
    said = f"candidate c is burnt: r/canary on account b {verb} rolled back by crossing_orders"
    assert (answer.done, answer.reason) == (False, said)
    assert started == []
    assert (run.step, run.reason, run.end_wanted) == ("rolling_back", "candidate", "roll_back")
    assert (run.decided_criterion, run.decided_why) == ("burnt", said)
    assert "refused" in kinds


def test_one_that_was_parked_elsewhere_is_launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, run, started, _ = _launched(tmp_path / "home", monkeypatch, ("parked", PARKED), ("watch", LAUNCHED))
    assert (answer.done, run.step, started) == (True, "launching", [1])


@pytest.mark.parametrize("last", ["watch", "launching"])
def test_of_two_that_are_ready_with_one_attempt_left_one_is_launched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    plan = load_plan(PLAN)
    used = [("parked", PARKED)] * (plan.attempts_max - 1)
    one_more: tuple[str, Mapping[str, str]] = (
        last,
        {} if last == "launching" else LAUNCHED,
    )  # a launch that was just asked for has no run yet
    answer, run, started, kinds = _launched(tmp_path / "home", monkeypatch, *used, one_more)
    said = f"candidate c has used its {plan.attempts_max} attempts at canary"
    assert (answer.done, answer.reason, started) == (False, said, [])
    assert (run.step, run.end_wanted, run.decided_criterion) == ("rolling_back", "park", "attempts")
    assert "refused" in kinds


def _going_on(home: Path, step: str, part: int, work: Callable[[GuardState, Active], Awaitable[object]]) -> Active:
    """A scale-up at that step, of a candidate that is burnt elsewhere; `work` is refused for it."""

    async def run() -> Active:
        guard = guard_at(home, step, source=STAGES, stage="scale-up", part=part, verdict="GO")
        active = activate(guard)
        elsewhere(guard, "rolled_back", **BURNT)
        async with writing(guard):
            with pytest.raises(Refused, match=r"candidate c is burnt: r/canary on account b was rolled back"):
                await work(guard, active)
        return active

    return asyncio.run(run())


@pytest.mark.parametrize("part", [0, 1])
def test_a_burnt_candidate_is_neither_promoted_nor_taken_to_its_next_step(tmp_path: Path, part: int) -> None:
    active = _going_on(tmp_path / "home", "judged", part, promote_stage)
    assert (active.step, active.row.part, active.row.decided_criterion) == (Step.ROLLING_BACK, part, "burnt")


def test_one_that_is_burnt_while_it_is_looked_at_for_its_promotion_is_not_promoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(guard: GuardState, active: Active) -> None:
        return

    for name in ("refuse_what_was_changed", "refuse_other_evidence", "refuse_other_measurements"):
        monkeypatch.setattr(promoting, name, nothing)

    async def measure(guard: GuardState, active: Active, criteria: object) -> object:
        elsewhere(guard, "rolled_back", **BURNT)
        return looks(active)

    monkeypatch.setattr(promoting, "measure_now", measure)

    async def asked() -> Active:
        guard = guard_at(tmp_path / "home", "judged", verdict="GO")
        active = activate(guard)
        async with writing(guard):
            with pytest.raises(Refused, match="is burnt"):
                await promote_stage(guard, active)
        return active

    assert asyncio.run(asked()).step is Step.ROLLING_BACK


def test_a_watched_step_of_a_burnt_candidate_is_closed_and_not_stepped_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "measure_now", None)  # it is not even measured
    active = _going_on(tmp_path / "home", "watched", 1, judge_stage)
    assert (active.step, active.row.part, active.row.decided_criterion) == (Step.ROLLING_BACK, 1, "burnt")


def test_nothing_begins_while_its_candidate_is_being_rolled_back_elsewhere(tmp_path: Path) -> None:
    guard = guard_at(tmp_path / "home", "promoted")
    elsewhere(guard, "rollback_failed", **BURNT)
    plan = load_plan(PLAN)
    rollout = SimpleNamespace(candidate="c", plan_digest="x")
    asked: Rollout = rollout  # type: ignore[assignment]
    try:
        with pytest.raises(Refused, match="is burnt: r/canary on account b is being rolled back by crossing_orders"):
            asyncio.run(_refuse_unfit(guard, asked, plan, plan.stages[0]))
    finally:
        guard.store.close()
