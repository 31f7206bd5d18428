"""A transition and what is told of it are one write: a guard that dies in between has told both or neither."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from gates.course import Happening, Step
from gates.decision import Action, Decision
from tasks.guard.closing import end_stage
from tasks.guard.state import GuardState, said
from tasks.guard.watching import deliver_due
from tasks.notify import TOLD_AGAIN, Delivery, words
from tasks.record_tables import Drill, Outbox, RollbackStep
from tasks.record_writer import Notice
from tests.support.guard_parts import activate, guard_at, never_close

NOTICE = Notice("k", "kind", "words")


def _kinds(guard: GuardState) -> list[str]:
    return [one.kind for one in guard.store.record.notices("a")]


def test_a_step_forward_stands_with_its_notice_before_anything_else_is_written(tmp_path: Path) -> None:
    guard = guard_at(tmp_path, Step.REQUESTED.value)
    active = activate(guard)

    async def work() -> None:  # what is told in the background is never written here, as where the guard dies at once
        await guard.move(active, Happening.PREFLIGHT_BEGUN, [said(active, "requested", "words")])

    asyncio.run(work())
    assert guard.store.record.stage_run(1).step == "preflight"
    assert _kinds(guard) == ["requested"]
    guard.store.close()


def test_an_end_is_told_by_the_same_write_that_decides_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    never_close(monkeypatch)
    guard = guard_at(tmp_path, Step.WATCH.value)
    active = activate(guard)

    async def work() -> None:
        decision = Decision(Action.ROLL_BACK, "candidate", "placed", None, "> 0", (), None, "none")
        end_stage(guard, active, decision)
        one = OneWrite()
        monkeypatch.setattr(guard.store, "call", one.call)
        writing = asyncio.create_task(guard.store.write_told())
        await one.written.wait()
        writing.cancel()

    asyncio.run(work())
    assert guard.store.record.stage_run(1).step == "rolling_back"
    assert _kinds(guard) == ["no_go"]
    guard.store.close()


class OneWrite:
    """The record takes the first write, and then no more: the guard has died."""

    def __init__(self) -> None:
        self.written = asyncio.Event()

    async def call(self, function: Callable[[], object]) -> None:
        if self.written.is_set():
            await asyncio.Event().wait()
        function()
        self.written.set()


def test_what_is_not_written_is_not_told(tmp_path: Path) -> None:
    guard = guard_at(tmp_path, Step.WATCH.value)
    record = guard.store.record
    with pytest.raises(Exception, match="has no zone"):
        record.change_stage_run(1, "step", [NOTICE], step="watched", watched_at=datetime(2026, 1, 2))  # noqa: DTZ001
    assert record.stage_run(1).step == "watch"
    assert _kinds(guard) == []
    guard.store.close()


def test_a_drill_and_a_rollback_step_are_told_once_however_often_they_are_written(tmp_path: Path) -> None:
    guard = guard_at(tmp_path, Step.DRILLS.value)
    record = guard.store.record
    number = record.add_drill(Drill(stage_run_id=1, name="freeze"))
    heads = []
    for _ in range(2):
        record.end_drill(number, "passed", {}, [Notice("d", "drill", "passed")])
        row = RollbackStep(stage_run_id=1, number=0, name="revoke_grant", state="verified")
        record.write_rollback_step(row, [Notice("s", "rollback_step", "proven")])
        heads.append(record.head()[:12])
    assert _kinds(guard) == ["drill", "rollback_step"]
    assert record.notices("a")[-1].text == f"proven (record {heads[0]})", "the head of what it tells is in it"
    guard.store.close()


def test_a_notice_whose_guard_died_while_it_was_on_its_way_is_told_again_and_says_so(tmp_path: Path) -> None:
    guard = guard_at(tmp_path, Step.WATCH.value)
    record = guard.store.record
    came: list[str] = []

    async def dies(notice: Outbox) -> Delivery:
        came.append(words(notice))
        raise asyncio.CancelledError

    async def delivers(notice: Outbox) -> Delivery:
        came.append(words(notice))
        return Delivery()

    async def work() -> None:
        record.queue_notices([Notice("k", "go", "GO")])
        with pytest.raises(asyncio.CancelledError):
            await deliver_due(guard, dies)
        assert record.due_notices(), "it is not lost"
        writing = asyncio.create_task(guard.store.write_told())
        for _ in range(2):
            await deliver_due(guard, delivers)
            await guard.store.settled()
        writing.cancel()

    asyncio.run(work())
    text = record.notices("a")[0].text
    assert came == [text, text + TOLD_AGAIN]
    assert record.notices("a")[0].error == ""
    guard.store.close()
