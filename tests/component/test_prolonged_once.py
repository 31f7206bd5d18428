"""A HOLD prolongs the watch once. A move that the record did not take has prolonged nothing, and may be repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from gates.course import Step
from gates.criteria import Criterion
from gates.judge import Cause, Measurement
from tasks.guard import judging
from tasks.guard import resume as resuming
from tasks.guard.judging import judge_stage
from tasks.guard.resume import resume
from tasks.guard.state import Active, GuardState, RefusedForNow, now_ms
from tasks.record_tables import StagePart, utc_now
from tests.support.gate_parts import measured
from tests.support.guard_parts import activate, guard_at, never_close, writing


@pytest.fixture(autouse=True)
def _unclear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is measured cannot be seen: the verdict is HOLD. What a closing or an adoption does is not looked at."""

    async def look(guard: GuardState, active: Active, criteria: list[Criterion]) -> list[tuple[Criterion, Measurement]]:
        return [(one, measured(one, Cause.SOURCE_UNREACHABLE, now_ms())) for one in criteria]

    async def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr(judging, "measure_now", look)
    monkeypatch.setattr(resuming, "_take_up", nothing)
    never_close(monkeypatch)


def _run(home: Path, work: Callable[[GuardState, Active], Awaitable[None]]) -> None:
    async def run() -> None:
        guard = guard_at(home, Step.WATCHED.value, part_from=utc_now(), watch_from=utc_now(), watched_at=utc_now())
        async with writing(guard):
            await work(guard, activate(guard))
            for task in list(guard.tasks):
                task.cancel()

    asyncio.run(run())


def _locked_once(guard: GuardState, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next step is not written."""
    change = guard.store.record.change_stage_run

    def locked(*_: Any, **__: Any) -> None:
        monkeypatch.setattr(guard.store.record, "change_stage_run", change)
        raise OperationalError("UPDATE", {}, Exception("database is locked"))

    monkeypatch.setattr(guard.store.record, "change_stage_run", locked)


def test_a_hold_whose_write_failed_is_repeated_and_parks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(guard: GuardState, active: Active) -> None:
        _locked_once(guard, monkeypatch)
        with pytest.raises(OperationalError):
            await judge_stage(guard, active)
        assert active.step is Step.WATCHED
        assert (await judge_stage(guard, active))["step"] == "watch"
        active.row.step = Step.WATCHED.value  # the longer watch is over too
        assert (await judge_stage(guard, active))["step"] == "rolling_back", "once, then parked"
        assert active.decision is not None
        assert active.decision.action.value == "park"

    _run(tmp_path / "home", work)


@pytest.mark.parametrize("written", [False, True])
def test_a_guard_that_comes_back_knows_whether_it_was_prolonged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    """It may have died between the verdict and the step."""

    async def work(guard: GuardState, active: Active) -> None:
        if written:
            await judge_stage(guard, active)
        else:
            _locked_once(guard, monkeypatch)
            with pytest.raises(OperationalError):
                await judge_stage(guard, active)
        assert [one.word for one in guard.store.record.verdicts(active.id)] == ["HOLD"]
        guard.active = None
        await resume(guard)
        again = guard.active
        assert again is not None
        assert (again.step, again.prolonged) == ((Step.WATCH, True) if written else (Step.WATCHED, False))

    _run(tmp_path / "home", work)


def test_a_guard_that_is_adopting_the_bot_judges_nothing_yet(tmp_path: Path) -> None:
    """The bot has no grant until then: what is not known of it for that would prolong the stage, or park it."""

    async def work(guard: GuardState, active: Active) -> None:
        active.launching = True
        with pytest.raises(RefusedForNow, match="adopting the bot: ask again"):
            await judge_stage(guard, active)
        assert (active.step, guard.store.record.verdicts(active.id)) == (Step.WATCHED, [])

    _run(tmp_path / "home", work)


def test_a_part_is_prolonged_though_the_one_before_it_was(tmp_path: Path) -> None:
    async def work(guard: GuardState, active: Active) -> None:
        await judge_stage(guard, active)
        part = StagePart(stage_run_id=1, number=1, name="x", inventory_max_quote="1", total_max_quote="1", epoch=9)
        entered = {"part_from": utc_now(), "verdict": None}  # as the next part is entered
        guard.store.record.enter_part(part, "passed", None, [], step="watch", **entered)
        guard.active = None
        await resume(guard)
        again = guard.active
        assert again is not None
        assert not again.prolonged

    _run(tmp_path / "home", work)
