"""A closing that begins anew, by another guard or after a try that broke off, keeps when the bot was first gone."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from tasks.guard import closing
from tasks.guard.resume import resume
from tasks.guard.state import Active, GuardState
from tasks.record_audit import record_fault
from tasks.record_tables import utc_now
from tests.support.guard_parts import activate, guard_at, writing
from tests.support.venue_away import VenueAway, close_at

STOPPED = {"end_wanted": "roll_back", "reason": "candidate", "decided_criterion": "taker_fills", "decided_why": "1"}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> None:
        return

    monkeypatch.setattr(closing, "_book", nothing)
    monkeypatch.setattr(closing, "_bundle", nothing)
    monkeypatch.setattr(closing, "CLOSE_AGAIN_S", (0.0,))
    back = asyncio.Event()
    back.set()
    close_at(monkeypatch, VenueAway(back))


async def _closed(guard: GuardState, active: Active) -> None:
    assert active.closing is not None
    await asyncio.wait_for(active.closing, 20)
    await guard.store.settled()
    assert guard.store.record.stage_run(1).step == "rolled_back"
    assert record_fault(guard.store.record, "a") == ""


def test_a_guard_that_comes_back_hours_later_leaves_when_the_bot_was_gone(tmp_path: Path) -> None:
    """Else the hours between are taken for those of a bot that nobody heard: what it came to is unknown a day later."""
    gone_at = utc_now() - timedelta(hours=4)
    told = {"state_dir": str(tmp_path / "run"), "run": "run", "launched_at": gone_at, "bot_gone_at": gone_at}
    guard = guard_at(tmp_path / "home", "rolling_back", **told, **STOPPED)

    async def back() -> None:
        async with writing(guard):
            await resume(guard)
            assert guard.active is not None
            await _closed(guard, guard.active)
            run = guard.store.record.stage_run(1)
            assert run.bot_gone_at == gone_at
            assert run.flat_at is not None
            assert run.flat_at > gone_at, "what is proven of the account is proven anew"

    asyncio.run(back())


def test_a_try_to_close_that_breaks_off_leaves_when_the_bot_was_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"state_dir": str(tmp_path / "run"), "run": "run", "launched_at": utc_now()}
    guard = guard_at(tmp_path / "home", "rolling_back", **told, **STOPPED)
    gone = []

    async def breaks_off(guard: GuardState, *_: object) -> None:
        await guard.store.settled()
        gone.append(guard.store.record.stage_run(1).bot_gone_at)
        if len(gone) == 1:
            raise OSError(24, "Too many open files")

    monkeypatch.setattr(closing, "_looked", breaks_off)

    async def twice() -> None:
        active = activate(guard)
        async with writing(guard):
            closing.continue_closing(guard, active)
            await _closed(guard, active)
            first, second = gone
            assert first is not None
            assert second == first

    asyncio.run(twice())
