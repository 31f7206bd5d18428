"""The flow asks for the promotion until the guard accepts it or the stage ends, and outlasts a record that is away."""

from __future__ import annotations

import logging
from typing import cast

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from flows import stage
from gates.course import Step
from tasks.ask import GuardSilent, Refused
from tasks.record_tables import StageRun


class SlowGuard:
    """A stage that is promoted, or ended by the guard, after so many refusals."""

    def __init__(self, refusals: list[Exception], ends_in: Step) -> None:
        self.refusals = refusals
        self.ends_in = ends_in
        self.at = Step.JUDGED
        self.asked = 0

    def step(self) -> Step:
        return self.at

    def pause(self) -> None:
        if not self.refusals and self.ends_in is Step.ROLLING_BACK:
            self.at = self.ends_in

    def ask(self, kind: str, at: Step) -> None:
        assert (kind, at) == ("promote", Step.JUDGED)
        self.asked += 1
        if self.refusals:
            raise self.refusals.pop()
        self.at = self.ends_in


@pytest.mark.parametrize("ends_in", [Step.PROMOTING, Step.ROLLING_BACK])
def test_a_refused_promotion_is_asked_again(monkeypatch: pytest.MonkeyPatch, ends_in: Step) -> None:
    monkeypatch.setattr(stage, "get_run_logger", lambda: logging.getLogger("flow"))
    monkeypatch.setattr(stage, "ASK_AGAIN_S", 0.001)
    monkeypatch.setattr(stage, "ASK_AGAIN_MAX_S", 0.002)
    guard = SlowGuard([Refused("halted UNKNOWN"), GuardSilent("no answer")] * 3, ends_in)
    stage.promote.fn(cast(stage.Course, guard))
    assert guard.at is ends_in
    assert guard.asked == (7 if ends_in is Step.PROMOTING else 6)


def test_a_record_that_is_away_is_waited_for_and_a_broken_one_is_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stage, "get_run_logger", lambda: logging.getLogger("flow"))
    monkeypatch.setattr(stage, "AWAY_AGAIN_S", 0.001)
    away = OperationalError("select", {}, Exception("the database system is starting up"))
    broken = IntegrityError("insert", {}, Exception("unique"))
    ended = StageRun(
        rollout="r", account="a", stage="canary", attempt=1, step="promoted", candidate="c", plan_path="/p"
    )
    answers: list[Exception | StageRun] = [away, away, ended, broken]

    def stand(course: stage.Course) -> StageRun:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(stage, "_from_where_it_stands", stand)
    course = cast(stage.Course, None)
    assert stage.take_through(course) is ended
    assert len([one for one in caplog.records if "the record is away" in one.getMessage()]) == 1, "said once"
    with pytest.raises(IntegrityError):
        stage.take_through(course)
