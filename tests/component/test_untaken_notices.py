"""Notices while the record hangs, which is not to refuse: each goes out beside it, and none goes out twice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from gates.course import Happening
from tasks.guard import store as store_module
from tasks.guard import watching
from tasks.guard.state import Active, GuardState, said
from tasks.notify import Delivery
from tasks.record_tables import Outbox
from tests.support.asked_guard import run_guard

WORDS = "ROLLBACK_FAILED: closing broke off"


class Slack:
    """Takes what `answers` say, then everything; and nothing before it is `open`."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.open = asyncio.Event()
        self.open.set()
        self.tried, self.told = list[str](), list[str]()

    async def deliver(self, notice: Outbox) -> Delivery:
        self.tried.append(notice.text)
        await self.open.wait()
        error = self.answers.pop(0) if self.answers else ""
        if not error:
            self.told.append(notice.text)
        return Delivery(error)


class Hanging:
    """The record as behind a lock that somebody else holds: what is told next waits, and then it is written."""

    def __init__(self, guard: GuardState) -> None:
        self._free = threading.Event()
        guard.store.tell("what hangs", lambda: self._free.wait(10))

    def goes_on(self) -> None:
        self._free.set()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "OUTBOX_EVERY_S", 0.01)
    monkeypatch.setattr(watching, "UNTAKEN_S", 0.05)
    monkeypatch.setattr(store_module, "RETRY_S", 0.01)


def _hangs_in_the_write(guard: GuardState, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """The next notices are written once that is set: their write has begun, and waits for its turn."""
    free, write = threading.Event(), guard.store.record.queue_notices

    def waits(*given: object) -> None:
        assert free.wait(10)
        write(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(guard.store.record, "queue_notices", waits)
    return free


async def _until(wanted: Callable[[], object], loop: asyncio.Task[None]) -> None:
    while not wanted():
        assert not loop.done(), loop
        await asyncio.sleep(0.005)


def _beside(guard: GuardState, slack: Slack, monkeypatch: pytest.MonkeyPatch) -> asyncio.Task[None]:
    monkeypatch.setattr(watching, "deliverer", lambda: slack.deliver)
    return asyncio.create_task(watching.deliver_untaken(guard))


def test_what_went_out_while_its_write_hung_is_not_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = list[str]()

    async def work(guard: GuardState, active: Active) -> None:
        slack = Slack()
        free = _hangs_in_the_write(guard, monkeypatch)
        guard.notice(active, "rollback_failed", WORDS)
        loop = _beside(guard, slack, monkeypatch)
        await _until(lambda: slack.told, loop)
        free.set()
        await guard.store.settled()
        await watching.deliver_due(guard, slack.deliver)
        told.extend(slack.told)
        assert not guard.untaken
        loop.cancel()

    _, (notice,) = run_guard(tmp_path / "home", work)
    assert told == [f"[r/canary] {WORDS} (not in the record yet)"]
    assert notice.delivered_at is not None


@pytest.mark.parametrize("answer", ["", "Slack answered HTTP 500"])
def test_what_is_on_its_way_when_its_write_ends_is_left_alone_until_it_is_known_how_that_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    tried, told = list[str](), list[str]()

    async def work(guard: GuardState, active: Active) -> None:
        slack = Slack(answer)
        free = _hangs_in_the_write(guard, monkeypatch)
        guard.notice(active, "rollback_failed", WORDS)
        slack.open.clear()
        loop = _beside(guard, slack, monkeypatch)
        await _until(lambda: slack.tried, loop)
        free.set()
        await guard.store.settled()
        assert [one.kind for one in guard.store.record.notices("a")] == ["rollback_failed"]
        await asyncio.wait_for(watching.deliver_due(guard, slack.deliver), 5)  # would wait for Slack
        slack.open.set()
        await _until(lambda: not guard.untaken, loop)
        await watching.deliver_due(guard, slack.deliver)
        tried.extend(slack.tried)
        told.extend(slack.told)
        loop.cancel()

    _, (notice,) = run_guard(tmp_path / "home", work)
    assert (len(tried), len(told)) == (2 if answer else 1, 1)
    assert notice.delivered_at is not None


def test_a_write_that_is_done_is_not_repeated_because_the_record_hangs_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it is out is tried on alone: the step it was written with would be told to the chain twice."""
    told, refused = list[str](), list[str]()

    async def work(guard: GuardState, active: Active) -> None:
        slack, record, free = Slack(), guard.store.record, threading.Event()
        change, is_out = record.change_stage_run, record.notice_is_out

        def waits(*given: object, **changes: object) -> object:
            assert free.wait(10)
            return change(*given, **changes)  # type: ignore[arg-type]

        def refuses_once(key: str) -> None:
            refused.append(key)
            if len(refused) == 1:
                raise OperationalError("UPDATE", {}, Exception("database is locked"))
            is_out(key)

        monkeypatch.setattr(record, "change_stage_run", waits)
        monkeypatch.setattr(record, "notice_is_out", refuses_once)
        guard.move_at_once(active, Happening.STOPPED, [said(active, "no_go", "parking")])
        loop = _beside(guard, slack, monkeypatch)
        await _until(lambda: slack.told, loop)
        free.set()
        await _until(lambda: refused, loop)
        await watching.deliver_due(guard, slack.deliver)
        await guard.store.settled()
        await watching.deliver_due(guard, slack.deliver)
        told.extend(slack.told)
        assert [one.kind for one in record.entries("a")].count("step") == 1
        loop.cancel()

    _, (notice,) = run_guard(tmp_path / "home", work)
    assert (len(told), len(refused)) == (1, 2)
    assert notice.delivered_at is not None


def test_the_same_told_again_while_the_record_is_away_goes_out_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closing that breaks off again and again for the same reason says so each time, under one key."""
    told = list[str]()

    async def work(guard: GuardState, active: Active) -> None:
        slack, hanging = Slack(), Hanging(guard)
        loop = _beside(guard, slack, monkeypatch)
        guard.notice(active, "rollback_failed", WORDS)
        await _until(lambda: slack.told, loop)
        guard.notice(active, "rollback_failed", WORDS)
        guard.notice(active, "parked", "the end")
        await _until(lambda: any("the end" in one for one in slack.told), loop)
        hanging.goes_on()
        await guard.store.settled()
        await watching.deliver_due(guard, slack.deliver)
        told.extend(slack.told)
        loop.cancel()

    _, notices = run_guard(tmp_path / "home", work)
    assert [one.split()[1] for one in told] == ["ROLLBACK_FAILED:", "the"]
    assert [one.kind for one in notices if one.delivered_at is not None] == ["rollback_failed", "parked"]


def test_what_the_record_has_taken_is_not_sent_beside_it_when_it_is_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = list[str]()

    async def work(guard: GuardState, active: Active) -> None:
        slack = Slack()
        guard.notice(active, "rollback_failed", WORDS)
        await guard.store.settled()
        await watching.deliver_due(guard, slack.deliver)
        hanging, loop = Hanging(guard), _beside(guard, slack, monkeypatch)
        guard.notice(active, "rollback_failed", WORDS)
        guard.notice(active, "parked", "the end")
        await _until(lambda: any("the end" in one for one in slack.told), loop)
        hanging.goes_on()
        await guard.store.settled()
        await watching.deliver_due(guard, slack.deliver)
        told.extend(slack.told)
        loop.cancel()

    run_guard(tmp_path / "home", work)
    assert [one.split()[1] for one in told] == ["ROLLBACK_FAILED:", "the"]
