"""What people are told of one part of a stage they are told of the next one too."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text

from gates.approvers import SignOffs
from gates.course import Step
from tasks.guard import judging
from tasks.guard.judging import _pass, _prolong
from tasks.guard.state import Active, GuardState
from tasks.guard.store import RETRY_S
from tasks.guard.watching import _people_of, _silent
from tasks.record_tables import utc_now
from tests.support.guard_parts import DIGEST, activate, guard_at, writing


@pytest.fixture(autouse=True)
def _evidence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def build(*_: Any) -> SimpleNamespace:
        return SimpleNamespace(files={}, digest=DIGEST, folder=tmp_path / "x" / "judged")

    monkeypatch.setattr(judging, "build_evidence", build)


async def _judged(guard: GuardState, active: Active) -> None:
    """One part: prolonged, judged GO, and nobody signs; each looked at twice."""
    active.row.step = Step.WATCHED.value
    await _prolong(guard, active)
    active.row.step = Step.WATCHED.value
    await _pass(guard, active)
    active.row.judged_at = utc_now() - timedelta(seconds=active.stage.sign_off_reminder_s)
    for _ in range(2):
        await _people_of(guard, active)
        _silent(guard, active, "exit", float(active.stage.sign_off_expiry_s), ["ada"])
    await guard.store.settled()


def test_each_part_is_told_of_once(tmp_path: Path) -> None:
    kinds: list[list[str]] = []

    async def run() -> None:
        guard = guard_at(tmp_path / "home", "watched", part_from=utc_now())
        active = activate(guard)
        wanted = {"env": "testnet", "exit_sign_offs": SignOffs(distinct_people=1)}  # on live silence parks at once
        active.stage = active.stage.model_copy(update=wanted)
        async with writing(guard):
            await _judged(guard, active)
            kinds.append(sorted(one.kind for one in guard.store.record.notices("a")))
            active.row.part_from, active.row.reminded_at = utc_now() + timedelta(seconds=1), None
            await _judged(guard, active)
            kinds.append(sorted(one.kind for one in guard.store.record.notices("a")))
            assert guard.store.record.stage_run(1).reminded_at is not None

    asyncio.run(run())
    assert kinds[0] == ["go", "hold", "hold", "reminder", "sign_off_wanted"]
    assert kinds[1] == sorted(kinds[0] * 2)


def test_an_expired_hold_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """A record that takes the notice and not the link would never be told of the link again."""
    found: list[tuple[int, int]] = []

    async def run() -> None:
        guard = guard_at(tmp_path / "home", "judged", part_from=utc_now())
        active = activate(guard)
        active.stage = active.stage.model_copy(update={"env": "testnet", "exit_sign_offs": SignOffs(distinct_people=1)})
        record = guard.store.record

        def written() -> tuple[int, int]:
            links = [one for one in record.entries("a") if one.kind == "hold"]
            told = [one for one in record.notices("a") if one.kind == "hold"]
            assert all(links[0].hash[:12] in one.text for one in told), "the head goes out with it"
            return len(links), len(told)

        with record.engine.begin() as connection:
            refusal = "BEGIN SELECT RAISE(ABORT, 'no room'); END"
            connection.execute(text(f"CREATE TRIGGER full BEFORE INSERT ON record WHEN NEW.kind = 'hold' {refusal}"))
        async with writing(guard):
            _silent(guard, active, "exit", float(active.stage.sign_off_expiry_s), ["ada"])
            while guard.store.away_s() < RETRY_S:  # noqa: ASYNC110 - refused at least once
                await asyncio.sleep(0.01)
            found.append(written())
            assert any(one.kind == "hold" for _, one in guard.untaken.unsent()), "it can go out beside the record"
            with record.engine.begin() as connection:
                connection.execute(text("DROP TRIGGER full"))
            await guard.store.settled()
            found.append(written())
            active.told.clear()  # as a guard that comes back: it looks again
            _silent(guard, active, "exit", float(active.stage.sign_off_expiry_s), ["ada"])
            await guard.store.settled()
            found.append(written())

    asyncio.run(run())
    assert found == [(0, 0), (1, 1), (1, 1)]
