"""A stop that comes while the course waits for the record or the journal is left alone: nothing moves, nothing ends."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest

from bot.stores.sqlite import SCHEMA
from gates.course import Happening, IllegalStep, Step
from gates.decision import Action, Decision
from tasks.guard import closing, judging, launching, parts, requests, resume, watching
from tasks.guard.closing import by_people, end_stage
from tasks.guard.drilling import drill_by_hand
from tasks.guard.judging import judge_stage
from tasks.guard.parts import begin_watch, first_part, next_part, step_down
from tasks.guard.requests import HANDLERS
from tasks.guard.state import Active, GuardState, Refused
from tasks.guard.watching import _course_of, keep_course
from tasks.operate import GrantAnswer, Limits, Operator
from tasks.record_tables import StagePart, utc_now
from tasks.record_writer import StepLost
from tests.support.guard_parts import activate, guard_at, never_close, writing

PLAN = Path(__file__).parents[1] / "support" / "plan_stages.yaml"
AGAINST = Decision(Action.ROLL_BACK, "candidate", "filled", None, "go > 0", (), 0, "too few")
Work = Callable[[GuardState, Active], Awaitable[None]]


class TakesEveryGrant:
    """A bot's HTTP that takes each grant and remembers its epoch."""

    def __init__(self) -> None:
        self.granted: list[int] = []

    async def grant(self, account: str, epoch: int, limits: Limits, ttl_s: float) -> GrantAnswer:
        self.granted.append(epoch)
        return GrantAnswer(200, "RUNNING")


@pytest.fixture(autouse=True)
def _never_close(monkeypatch: pytest.MonkeyPatch) -> None:
    never_close(monkeypatch)


def _run(home: Path, step: str, work: Work, *, stage: str = "scale-up", part: int = 0, **columns: Any) -> None:
    """`work` at a guard whose stage stands at `step`, over a journal that can be read. Afterwards everything is written
    and a stopped stage stands in the record as stopped."""

    async def run() -> None:
        state_dir = home / "runs" / "one"
        state_dir.mkdir(parents=True)
        with sqlite3.connect(state_dir / "journal.db") as db:
            db.executescript(SCHEMA)
            db.execute("INSERT INTO meta VALUES ('schema_version', '1')")
        guard = guard_at(home, step, source=PLAN, stage=stage, part=part, state_dir=str(state_dir), **columns)
        active = activate(guard)
        active.operator, guard.granting = cast(Operator, TakesEveryGrant()), True
        guard.store.record.enter_part(first_part(active, guard.epoch), "")
        async with writing(guard):
            await work(guard, active)
            await guard.store.settled()
            assert guard.store.record.stage_run(1).step == active.row.step
            for task in list(guard.tasks):
                task.cancel()

    asyncio.run(run())


def _stopped_in(monkeypatch: pytest.MonkeyPatch, guard: GuardState, active: Active, name: str, kind: str = "") -> None:
    """People stop the stage while the record is at `name`, once; of changes to the run while it writes a `kind`."""
    loop, known, stopped = asyncio.get_running_loop(), getattr(guard.store.record, name), list[int]()

    def call(*args: Any, **changes: Any) -> Any:
        if not stopped and (not kind or kind in args):
            stopped.append(1)
            loop.call_soon_threadsafe(end_stage, guard, active, by_people("ada", "lunch"))
        return known(*args, **changes)

    monkeypatch.setattr(guard.store.record, name, call)


def _is_stopped(active: Active) -> None:
    assert active.step is Step.ROLLING_BACK
    assert active.row.end_wanted == Action.PARK.value


def test_a_stop_at_the_end_of_a_watch_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def over(guard: GuardState, active: Active) -> None:
        active.criteria = ()  # nothing of it was left unseen
        _stopped_in(monkeypatch, guard, active, "seen_of_guards")
        await _course_of(guard, active)
        _is_stopped(active)

    begun = utc_now() - timedelta(seconds=3600)
    _run(tmp_path / "home", "watch", over, launched_at=begun, watch_from=begun, watch_until=utc_now())


def test_a_stop_at_the_begin_of_a_watch_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def warm(guard: GuardState, active: Active) -> None:
        _stopped_in(monkeypatch, guard, active, "change_stage_run", "baseline")
        await _course_of(guard, active)
        _is_stopped(active)

    _run(tmp_path / "home", "warm_up", warm, stage="canary", launched_at=utc_now() - timedelta(seconds=3600))


def test_a_stop_while_the_journal_is_read_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def drilled(guard: GuardState, active: Active) -> None:
        loop = asyncio.get_running_loop()

        def stopped(path: Path) -> dict[Any, Any]:
            loop.call_soon_threadsafe(end_stage, guard, active, by_people("ada", "lunch"))
            return {("filled", ""): 1}

        monkeypatch.setattr(parts, "totals_of", stopped)
        assert not await begin_watch(guard, active, Happening.DRILLS_PASSED)
        _is_stopped(active)
        assert active.row.baseline == [], "what comes after the stop is not the watch's"

    _run(tmp_path / "home", "drills", drilled, stage="testnet")


def test_a_course_that_was_overtaken_looks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it was overtaken by: the loop that ends takes the guard with it, in the middle of a rollback."""
    turns, again = list[int](), asyncio.Event()

    async def overtaken(guard: GuardState, active: Active) -> None:
        turns.append(1)
        if len(turns) == 1:
            raise IllegalStep("a stage run that is rolling_back cannot be told watch_over")
        again.set()

    monkeypatch.setattr(watching, "_course_of", overtaken)
    monkeypatch.setattr(watching, "COURSE_EVERY_S", 0.01)

    async def kept(guard: GuardState, active: Active) -> None:
        loop = asyncio.create_task(keep_course(guard))
        seen = asyncio.create_task(again.wait())
        await asyncio.wait({loop, seen}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert not loop.done(), loop
        assert seen.done()
        loop.cancel()

    _run(tmp_path / "home", "watch", kept)
    assert "cannot be told watch_over" in caplog.text


def test_a_drill_that_is_being_begun_and_the_end_of_its_watch_come_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the record says that the watch is over while the guard drills."""

    async def both(guard: GuardState, active: Active) -> None:
        active.criteria = ()  # nothing of it was left unseen
        record, loop, asked = guard.store.record, asyncio.get_running_loop(), asyncio.Event()
        add_drill, may_go_on, run_drills = record.add_drill, threading.Event(), asyncio.Event()

        def slow(*args: Any) -> int:
            loop.call_soon_threadsafe(asked.set)
            assert may_go_on.wait(10)
            return add_drill(*args)

        async def drills(*_: object) -> None:
            run_drills.set()

        monkeypatch.setattr(record, "add_drill", slow)
        monkeypatch.setattr(watching, "run_drills", drills)
        name = active.stage.drills[0].name
        drill = asyncio.ensure_future(HANDLERS["drill"](guard, {"stage_run_id": 1, "name": name}))
        await asyncio.wait_for(asked.wait(), 10)
        course = asyncio.create_task(keep_course(guard))
        for _ in range(10):  # turns of the loop: as far as it comes before the drill goes on
            await asyncio.sleep(0)
        may_go_on.set()
        assert await drill == {"step": "drills"}
        await asyncio.wait_for(run_drills.wait(), 10)
        await guard.store.call(lambda: None)  # behind whatever the course has written
        course.cancel()
        assert (active.step, record.stage_run(1).step) == (Step.DRILLS, "drills")

    begun = utc_now() - timedelta(seconds=3600)
    times: dict[str, Any] = {"launched_at": begun, "watch_from": begun, "watch_until": utc_now()}
    _run(tmp_path / "home", "watch", both, stage="testnet", **times)


def test_a_stop_before_a_drill_by_hand_refuses_it_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def asked(guard: GuardState, active: Active) -> None:
        _stopped_in(monkeypatch, guard, active, "add_drill")
        with pytest.raises(Refused, match="became rolling_back meanwhile: ada: lunch"):
            await drill_by_hand(guard, active, active.stage.drills[0].name)

    _run(tmp_path / "home", "watch", asked, stage="testnet")


def test_a_stop_before_a_launch_refuses_it_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stopped(guard: GuardState, active: Active) -> None:
        end_stage(guard, active, by_people("ada", "lunch"))

    async def asked(guard: GuardState, active: Active) -> None:
        monkeypatch.setattr(requests, "refuse_what_was_changed", AsyncMock())
        monkeypatch.setattr(requests, "refuse_what_changed", stopped)
        with pytest.raises(Refused, match="became rolling_back meanwhile: ada: lunch"):
            await HANDLERS["launch"](guard, {"stage_run_id": 1})

    _run(tmp_path / "home", "ready", asked, predecessor_passed=True)


def test_a_stop_while_a_launch_is_written_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def up(guard: GuardState, active: Active) -> None:
        _stopped_in(monkeypatch, guard, active, "enter_part")
        await launching._is_up(guard, active)
        _is_stopped(active)

    _run(tmp_path / "home", "launching", up, stage="canary")


def test_a_stop_while_a_verdict_is_written_prolongs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def judged(guard: GuardState, active: Active) -> None:
        monkeypatch.setattr(judging, "measure_now", AsyncMock(return_value=[]))
        _stopped_in(monkeypatch, guard, active, "add_verdict")
        with pytest.raises(Refused, match="became rolling_back meanwhile: ada: lunch"):
            await judge_stage(guard, active)
        assert not active.prolonged
        assert "hold" not in [one.kind for one in guard.store.record.notices("a")]

    _run(tmp_path / "home", "watched", judged, stage="canary")


@pytest.mark.parametrize("moment", ["_counted", "take_epoch"])
def test_a_stop_on_the_way_to_the_next_part_enters_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Else the record says `watch` while it rolls back, and a guard that comes back takes the stopped bot for dead."""

    async def up(guard: GuardState, active: Active) -> None:
        _stop_at(monkeypatch, guard, active, moment)
        await next_part(guard, active)
        _not_entered(guard, active, 0)

    _run(tmp_path / "home", "judged", up, verdict="GO")


@pytest.mark.parametrize("moment", ["_counted", "take_epoch"])
def test_a_stop_on_the_way_down_enters_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    async def down(guard: GuardState, active: Active) -> None:
        _stop_at(monkeypatch, guard, active, moment)
        await step_down(guard, active, AGAINST)
        _not_entered(guard, active, 1)

    _run(tmp_path / "home", "watched", down, part=1)


def _stop_at(monkeypatch: pytest.MonkeyPatch, guard: GuardState, active: Active, moment: str) -> None:
    if moment == "take_epoch":
        _stopped_in(monkeypatch, guard, active, moment)
        return

    async def counted(active: Active) -> list[Any]:
        end_stage(guard, active, by_people("ada", "lunch"))
        return []

    monkeypatch.setattr(parts, "_counted", counted)


def _not_entered(guard: GuardState, active: Active, part: int) -> None:
    _is_stopped(active)
    stored = guard.store.record.stage_run(1)
    assert (stored.part, active.row.part) == (part, part)
    assert [one.number for one in guard.store.record.parts(1)] == [part]
    assert not cast(TakesEveryGrant, active.operator).granted


def test_the_record_enters_no_part_of_a_stage_that_stands_elsewhere(tmp_path: Path) -> None:
    async def entered(guard: GuardState, active: Active) -> None:
        record = guard.store.record
        row = StagePart(stage_run_id=1, number=1, name="step-2", inventory_max_quote="1", total_max_quote="1", epoch=7)
        links = len(record.entries("a"))
        with pytest.raises(StepLost, match="stage run 1 is rolling_back, expected judged"):
            record.enter_part(row, "passed", only_from="judged", step="watch", part=1)
        assert [one.number for one in record.parts(1)] == [0]
        assert (record.stage_run(1).step, record.stage_run(1).part) == ("rolling_back", 0)
        assert len(record.entries("a")) == links

    _run(tmp_path / "home", "rolling_back", entered)


def test_a_part_whose_entry_was_written_and_not_answered_is_entered_again(tmp_path: Path) -> None:
    async def entered(guard: GuardState, active: Active) -> None:
        record = guard.store.record
        row = StagePart(stage_run_id=1, number=1, name="step-2", inventory_max_quote="1", total_max_quote="1", epoch=7)
        record.enter_part(row, "passed", only_from="judged", step="watch", part=1)
        row.epoch = 8
        record.enter_part(row, "passed", only_from="judged", step="watch", part=1)
        assert [one.epoch for one in record.parts(1)] == [0, 7, 8]
        active.row.step = "watch"

    _run(tmp_path / "home", "judged", entered)


def test_a_stop_while_a_guard_comes_back_is_closed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was promoting: what takes that up again must not begin a second closing beside the stop's."""
    begun = list[int]()

    async def close(guard: GuardState, active: Active) -> None:
        begun.append(1)
        await asyncio.Event().wait()

    async def back(guard: GuardState, active: Active) -> None:
        monkeypatch.setattr(closing, "close", close)
        _stopped_in(monkeypatch, guard, active, "rollback_steps")
        await resume._take_up(guard, active)
        await asyncio.sleep(0)  # what was spawned begins
        assert begun == [1]

    _run(tmp_path / "home", "promoting", back)
