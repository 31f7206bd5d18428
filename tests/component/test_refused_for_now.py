"""What the guard cannot see just now it refuses for now, and says so: the flow asks again. Other refusals end it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from flows import stage
from gates.course import Step
from gates.criteria import Criterion
from gates.judge import Measurement, Outcome
from tasks.ask import GuardSilent, Refused, RefusedForNow
from tasks.evidence_process import EvidenceFailed
from tasks.guard import beginning, judging, requests
from tasks.guard.requests import answer_for_ever
from tasks.guard.state import Active, GuardState, now_ms
from tasks.preflight import Checked
from tasks.record import Answer
from tasks.record_tables import SignOff
from tests.support.gate_parts import measured
from tests.support.guard_parts import DIGEST, activate, guard_at, never_close, value_of, writing

FAIL, UNKNOWN = Outcome.FAIL, Outcome.UNKNOWN


def _asked(home: Path, step: str, kind: str, before: Callable[[GuardState], object] = activate) -> Answer:
    """What the guard answers where everybody has signed."""

    async def asked() -> Answer:
        guard = guard_at(home, step)
        before(guard)
        record = guard.store.record
        signed = SignOff(
            stage_run_id=1, gate="entry", person="ada", decision="GO", accepted=True, evidence_digest=DIGEST
        )
        record.add_sign_off(signed)
        number = record.submit("a", kind, {"stage_run_id": 1}, kind)
        async with writing(guard):
            answering = asyncio.create_task(answer_for_ever(guard))
            while (answer := record.answer(number)) is None:  # noqa: ASYNC110 - another thread writes it
                await asyncio.sleep(0.01)
            answering.cancel()
        return answer

    return asyncio.run(asyncio.wait_for(asked(), 20))


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    never_close(monkeypatch)
    monkeypatch.setattr(requests, "EVERY_S", 0.01)
    monkeypatch.setattr(stage, "get_run_logger", lambda: logging.getLogger("flow"))
    monkeypatch.setattr(stage, "ASK_AGAIN_S", 0.001)
    monkeypatch.setattr(stage, "ASK_AGAIN_MAX_S", 0.002)


@pytest.mark.parametrize(
    ("found", "for_now"),
    [
        ({"preflight_clock": UNKNOWN}, True),
        ({"preflight_flat": FAIL}, False),
        ({"preflight_clock": UNKNOWN, "preflight_flat": FAIL}, False),
    ],
)
def test_a_launch_is_refused_for_now_where_nothing_but_the_sight_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: dict[str, Outcome], for_now: bool
) -> None:
    async def preflight(subject: object, names: frozenset[str]) -> list[Checked]:
        return [Checked(name, name, found.get(name, Outcome.PASS), "", "") for name in sorted(names)]

    monkeypatch.setattr(beginning, "preflight", preflight)
    answer = _asked(tmp_path / "home", "ready", "launch")
    assert (answer.done, answer.for_now) == (False, for_now)
    assert all(f"{name} {outcome.value}" in answer.reason for name, outcome in found.items())


def test_a_guard_that_has_not_taken_the_stage_up_yet_refuses_for_now(tmp_path: Path) -> None:
    answer = _asked(tmp_path / "home", "ready", "launch", before=lambda guard: None)
    assert (answer.done, answer.for_now) == (False, True)
    answer = _asked(tmp_path / "other", "watch", "judge")
    assert (answer.done, answer.for_now) == (False, False), "there is nothing to judge"


def test_an_evidence_that_cannot_be_built_refuses_the_judgement_for_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look(guard: GuardState, active: Active, criteria: list[Criterion]) -> list[tuple[Criterion, Measurement]]:
        return [(one, measured(one, value_of(one, Outcome.PASS), now_ms())) for one in criteria]

    async def fails(*_: object) -> None:
        raise EvidenceFailed("not built within 90 s")

    monkeypatch.setattr(judging, "measure_now", look)
    monkeypatch.setattr(judging, "build_evidence", fails)
    answer = _asked(tmp_path / "home", "watched", "judge")
    assert (answer.done, answer.for_now) == (False, True)
    assert "not built within 90 s" in answer.reason


class SlowGuard:
    """Refuses so often, then does it; or the guard's clock ends the stage."""

    def __init__(self, at: Step, refusals: list[Exception], after: Step) -> None:
        self.at, self.first, self.refusals, self.after = at, at, refusals, after
        self.asked = list[str]()
        self.board = self

    def show_criteria(self, *, now: bool) -> None:
        return None

    def step(self) -> Step:
        return self.at

    def pause(self) -> None:
        if not self.refusals and self.after is Step.ROLLING_BACK:
            self.at = self.after

    def ask(self, kind: str, at: Step) -> None:
        assert at is self.first
        self.asked.append(kind)
        if self.refusals:
            raise self.refusals.pop(0)
        self.at = self.after


WORK = [(stage.launch, Step.READY, Step.LAUNCHING), (stage.judge, Step.WATCHED, Step.JUDGED)]


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize(("work", "at", "after"), WORK)
def test_what_is_refused_for_now_is_asked_again_until_the_stage_goes_on_or_ends(
    work: Callable[[stage.Course], None], at: Step, after: Step, ends: bool
) -> None:
    refusals = [RefusedForNow("clock UNKNOWN"), GuardSilent("no answer")] * 4  # Prefect alone would have tried 4 times
    guard = SlowGuard(at, list(refusals), Step.ROLLING_BACK if ends else after)
    work.fn(cast(stage.Course, guard))  # type: ignore[attr-defined]
    assert guard.at is (Step.ROLLING_BACK if ends else after)
    assert len(guard.asked) == (8 if ends else 9)


@pytest.mark.parametrize(("work", "at", "after"), WORK)
def test_what_is_refused_for_good_is_not(work: Callable[[stage.Course], None], at: Step, after: Step) -> None:
    guard = SlowGuard(at, [RefusedForNow("clock UNKNOWN"), Refused("flat FAIL 0.004")], after)
    with pytest.raises(Refused, match="flat FAIL"):
        work.fn(cast(stage.Course, guard))  # type: ignore[attr-defined]
    assert len(guard.asked) == 2
