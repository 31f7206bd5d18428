"""Slack is away for a whole rollout: nothing of it takes longer, and every notice arrives in order once it is back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tasks.notify import BACK_OFF_S
from tasks.record_tables import StageRun
from tests.support.guard_stack import GuardStack
from tests.support.plans import patient_brief
from tests.support.slack_receiver import Receiver

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1500)]
SLACK_S = 30.0
"""By how much one leg may differ between two runs on a busy machine. What waited for Slack would not end without it."""
ONCE = ("requested", "sign_off_wanted", "signed", "started", "go", "promoted")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def stack(tmp_path: Path, receiver: Receiver) -> Iterator[GuardStack]:
    plan = tmp_path / "plan.yaml"
    plan.write_text(patient_brief())
    made = GuardStack(tmp_path / "home", plan)
    made.environment["SLIPWAY_SLACK_WEBHOOK"] = receiver.url
    try:
        made.start_guard()
        yield made
    finally:
        made.close()


def _promoted(stack: GuardStack, rollout: str, person: str) -> StageRun:
    number = stack.begin(rollout)
    signed = stack.sign(number, "entry", person)
    assert signed.done, signed.reason
    assert stack.ask("launch", {"stage_run_id": number}).done
    stack.wait_step(number, ("watched",), 60)
    assert stack.ask("judge", {"stage_run_id": number}, 90).result["word"] == "GO"
    stack.promote(number)
    return stack.wait_step(number, ("promoted",), 40)


def _legs_s(run: StageRun) -> dict[str, float]:
    """How long what the guard does by itself took."""

    def between(begun: datetime | None, ended: datetime | None) -> float:
        assert begun is not None
        assert ended is not None
        return (ended - begun).total_seconds()

    return {
        "preflight": between(run.created_at, run.ready_at),
        "warm-up": between(run.launched_at, run.watch_from),
        "watch": between(run.watch_from, run.watched_at),
        "end": between(run.judged_at, run.ended_at),
    }


def test_an_outage_from_begin_to_promotion_delays_nothing_and_loses_nothing(
    stack: GuardStack, receiver: Receiver
) -> None:
    usual = _legs_s(_promoted(stack, "usual", "ada"))
    told = stack.record.notices(stack.account)
    stack.until("all of the first is out", lambda: len(receiver.taken) == len(told), 15)

    receiver.status = 500
    run = _promoted(stack, "without-slack", "barbara")
    away = _legs_s(run)
    assert {leg: round(away[leg] - usual[leg], 1) for leg in away if away[leg] > usual[leg] + SLACK_S} == {}
    notices = stack.record.notices(stack.account)
    waiting = [one for one in notices if one.delivered_at is None]
    assert [one.kind for one in waiting if one.kind in ONCE] == list(ONCE)
    assert len(receiver.taken) == len(told)
    assert len(receiver.texts) > len(receiver.taken), "none was tried: there was no outage"

    receiver.status = 200
    within_s = BACK_OFF_S[-1] + 15
    stack.until("every notice is taken", lambda: len(receiver.taken) >= len(notices), within_s)
    assert receiver.taken == [one.text for one in notices], "each once, in the order in which it happened"
    stack.until("so it is written", lambda: all(one.delivered_at for one in stack.record.notices(stack.account)), 15)
