"""What people attested may grow too old, or be changed, while others sign: it is looked at again before the launch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from sqlalchemy.exc import OperationalError

from gates.judge import Outcome
from tasks.attestation import keep_evidence
from tasks.guard import beginning, requests
from tasks.guard.requests import answer_for_ever
from tasks.guard.state import GuardState
from tasks.preflight import AGAIN_AT_LAUNCH, Checked, Subject, preflight
from tasks.record import Answer
from tasks.record_tables import Attested, Drill, SignOff, StageRun, utc_now
from tasks.record_writer import RecordWriter
from tests.support.guard_parts import DIGEST, PLAN, activate, guard_at, never_close, writing

DAY_S = 86_400
AGE_S = 100.0
"""How old what was said may be in this checklist."""
WORDS = {"title": "It was looked at", "why": "Somebody has to have looked."}
REVIEW = {"id": "code_review", **WORDS, "attestation": {"by": {"roles": ["Quant Lead"]}, "max_age_s": AGE_S}}
FROZE = {"id": "drill_freeze", **WORDS, "drill": {"name": "freeze", "stage": "testnet", "max_age_s": AGE_S}}


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """The brief plan with a checklist that asks a person and a drill."""
    (tmp_path / "list.yaml").write_text(yaml.safe_dump({"items": [REVIEW, FROZE]}))
    content = yaml.safe_load(PLAN.read_text())
    content["stages"][0] |= {"checklist": str(tmp_path / "list.yaml")}
    path = tmp_path / "source.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def said(guard: GuardState, age_s: float) -> Path:
    """`ada` has attested so long ago; returns her evidence."""
    (guard.folder.root / "review.txt").write_text("both approved")
    kept = keep_evidence(guard.folder.root / "review.txt", guard.folder.attestations)
    row = Attested(
        account="a", candidate="c", item="code_review", person="ada", accepted=True,
        evidence_path=str(kept.path), evidence_sha256=kept.sha256, at=utc_now() - timedelta(seconds=age_s),
    )  # fmt: skip
    guard.store.record.add_attestation(row)
    return kept.path


def drilled(guard: GuardState, age_s: float) -> None:
    """The candidate has passed that drill so long ago, on the account of its testnet."""
    record = RecordWriter(guard.store.record, "b")
    record.know_account("simulated")
    run = StageRun(rollout="r", account="b", stage="testnet", attempt=1, step="promoted", candidate="c", plan_path="")
    drill = record.add_drill(Drill(stage_run_id=record.add_stage_run(run).id or 0, name="freeze"))
    record.end_drill(drill, "passed", {})
    with record.writing() as session:
        row = session.get(Drill, drill)
        assert row is not None
        row.ends_at = utc_now() - timedelta(seconds=age_s)
        session.add(row)


def launched(
    home: Path,
    plan: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: Callable[[GuardState], object],
    *,
    attested_ago_s: float = 0,
    drilled_ago_s: float = 0,
) -> tuple[Answer, StageRun, list[int]]:
    """The answer to `launch`, the stage run after it, and what was started. The venue's own checks all pass."""
    started: list[int] = []

    async def passes(subject: Subject, names: frozenset[str]) -> list[Checked]:
        own = await preflight(subject, names - AGAIN_AT_LAUNCH)
        return [*own, *(Checked(name, name, Outcome.PASS, "", "") for name in AGAIN_AT_LAUNCH)]

    async def launch(guard: GuardState, active: object) -> None:
        started.append(1)

    monkeypatch.setattr(beginning, "preflight", passes)
    monkeypatch.setattr(requests, "launch", launch)
    monkeypatch.setattr(requests, "EVERY_S", 0.01)
    never_close(monkeypatch)

    async def asked() -> tuple[Answer, StageRun]:
        guard = guard_at(home, "ready", source=plan)
        said(guard, attested_ago_s)
        drilled(guard, drilled_ago_s)
        activate(guard)
        record = guard.store.record
        signed = SignOff(
            stage_run_id=1, gate="entry", person="ada", decision="GO", accepted=True, evidence_digest=DIGEST
        )
        record.add_sign_off(signed)
        before(guard)
        async with writing(guard):
            number = record.submit("a", "launch", {"stage_run_id": 1}, "launch")
            answering = asyncio.create_task(answer_for_ever(guard))
            while (answer := record.answer(number)) is None:  # noqa: ASYNC110 - another thread writes it
                await asyncio.sleep(0.01)
            answering.cancel()
            await guard.store.settled()
            run = record.stage_run(1)
        return answer, run

    answer, run = asyncio.run(asyncio.wait_for(asked(), 20))
    return answer, run, started


def test_what_still_holds_is_launched(tmp_path: Path, plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, run, started = launched(tmp_path / "home", plan, monkeypatch, lambda _: None)
    assert (answer.done, run.step, started) == (True, "launching", [1]), answer.reason


@pytest.mark.parametrize(
    ("attested_ago_s", "drilled_ago_s", "decided", "reason", "why"),
    [
        (2 * DAY_S, 0, "code_review", "people", "missing Quant Lead; ada's is 2.0 d old, allowed: at most"),
        (0, 2 * DAY_S, "drill_freeze", "environment", "passed 2.0 d ago, allowed: "),
    ],
)
def test_what_has_grown_too_old_since_preflight_parks_the_stage_by_its_name(
    tmp_path: Path,
    plan: Path,
    monkeypatch: pytest.MonkeyPatch,
    attested_ago_s: float,
    drilled_ago_s: float,
    decided: str,
    reason: str,
    why: str,
) -> None:
    ages = {"attested_ago_s": attested_ago_s, "drilled_ago_s": drilled_ago_s}
    answer, run, started = launched(tmp_path / "home", plan, monkeypatch, lambda _: None, **ages)
    assert (answer.done, started) == (False, [])
    assert f"{decided} FAIL {why}" in answer.reason
    assert (run.step, run.end_wanted, run.reason, run.decided_criterion) == ("rolling_back", "park", reason, decided)
    assert why in str(run.decided_why)


def test_evidence_that_was_changed_meanwhile_parks_the_stage(
    tmp_path: Path, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(guard: GuardState) -> None:
        next(guard.folder.attestations.rglob("review.txt")).write_text("nobody approved")

    _, run, started = launched(tmp_path / "home", plan, monkeypatch, change)
    assert (run.end_wanted, run.reason, started) == ("park", "people", [])
    assert "ada's evidence is not the file that was attested" in str(run.decided_why)


def test_what_cannot_be_looked_at_just_now_launches_nothing_and_can_be_asked_again(
    tmp_path: Path, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise OperationalError("SELECT", {}, Exception("the record is away"))

    answer, run, started = launched(
        tmp_path / "home", plan, monkeypatch, lambda _: monkeypatch.setattr(beginning, "gather", away)
    )
    assert (answer.done, run.step, started) == (False, "ready", [])
    assert "code_review UNKNOWN the record was not asked" in answer.reason
