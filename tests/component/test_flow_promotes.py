"""The flow asks for the promotion until the guard accepts it or the stage ends."""

from __future__ import annotations

import logging
from typing import cast

import pytest

from flows import stage
from gates.course import Step
from tasks.ask import GuardSilent, Refused


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
    monkeypatch.setattr(stage, "PROMOTE_AGAIN_S", 0.001)
    monkeypatch.setattr(stage, "PROMOTE_AGAIN_MAX_S", 0.002)
    guard = SlowGuard([Refused("halted UNKNOWN"), GuardSilent("no answer")] * 3, ends_in)
    stage.promote.fn(cast(stage.Course, guard))
    assert guard.at is ends_in
    assert guard.asked == (7 if ends_in is Step.PROMOTING else 6)
