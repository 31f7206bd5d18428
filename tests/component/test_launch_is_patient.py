"""What is not known of a bot that is still being started is the launch's to judge, which has a deadline of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gates.decision import FIRST_ANSWER_S, Action, GuardHistory
from gates.judge import Cause, Outcome
from tasks.guard.launching import _is_up
from tasks.guard.measuring import decide
from tasks.guard.state import Active, GuardState, now_ms
from tests.support.guard_parts import activate, guard_at, looks, never_close, writing


@pytest.fixture(autouse=True)
def _never_close(monkeypatch: pytest.MonkeyPatch) -> None:
    never_close(monkeypatch)


def _starting(home: Path, **bad: Outcome | Cause) -> tuple[GuardState, Active]:
    """A bot that has been starting for longer than anything may be unknown, and what was seen of it until now."""
    guard = guard_at(home, "launching", run="one")
    active = activate(guard)
    active.launching = True
    longest_s = max(one.unknown_deadline_s for one in active.criteria) + FIRST_ANSWER_S + 1
    seen = looks(active, **bad)
    active.history = GuardHistory(now_ms() - round(longest_s * 1000)).after(one for _, one in seen)
    return guard, active


def test_a_bot_that_has_not_told_its_address_yet_is_no_candidates_fault(tmp_path: Path) -> None:
    async def run() -> None:
        guard, active = _starting(tmp_path / "home", fault_freezes=Cause.NO_DATA)
        async with writing(guard):
            decide(guard, active)
            assert active.decision is None, "a machine that starts it slowly is the launch's to judge"
            up_ms = now_ms()
            await _is_up(guard, active)
            active.launching = False
            decide(guard, active)
            assert active.decision is None, "it has its first answer's time from when it is up"
            assert active.history is not None
            assert active.history.started_at_ms >= up_ms

    asyncio.run(run())


def test_what_is_seen_to_fail_ends_the_stage_also_while_it_starts(tmp_path: Path) -> None:
    async def run() -> None:
        guard, active = _starting(tmp_path / "home", fault_freezes=Outcome.FAIL)
        async with writing(guard):
            decide(guard, active)
            assert active.decision is not None
            assert (active.decision.action, active.decision.criterion_id) == (Action.ROLL_BACK, "fault_freezes")

    asyncio.run(run())
