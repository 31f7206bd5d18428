"""A stop that reaches a guard which has just come back, before it has adopted the bot, takes away that bot's grant."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gates.decision import Action, Decision
from tasks.guard import resume
from tasks.guard.closing import end_stage
from tasks.guard.grants import BotPermission
from tasks.guard.state import Active, GuardState, now_ms
from tasks.record_tables import utc_now
from tasks.supervise.identity import Identity, identify
from tests.support.guard_parts import guard_at, never_close, writing


@pytest.fixture
def bot() -> Iterator[Identity]:
    child = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True)
    identity = identify(child.pid)
    assert identity is not None
    yield identity
    child.kill()
    child.wait(5)


@pytest.mark.parametrize("step", ["warm_up", "drills", "watch", "watched", "judged"])
def test_a_bot_that_is_not_adopted_yet_is_not_taken_for_dead(
    step: str, bot: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_close(monkeypatch)
    state_dir = tmp_path / "runs" / "r-1"
    state_dir.mkdir(parents=True)
    process = {"pid": bot.pid, "pid_started_ticks": bot.started_ticks, "run": "r-1", "state_dir": str(state_dir)}
    guard = guard_at(tmp_path, step, **process, obs_url="http://127.0.0.1:9", launched_at=utc_now(), epoch=1)
    asked = asyncio.Event()

    async def waits(_guard: GuardState, _active: Active) -> None:
        await asked.wait()

    monkeypatch.setattr(resume, "adopt", waits)

    async def run() -> None:
        async with writing(guard):
            await resume.resume(guard)
            active = guard.active
            assert active is not None
            said = Decision(Action.ROLL_BACK, "person", "stop", None, "", (), now_ms(), "stopped by ada")
            end_stage(guard, active, said)
            sure, proof = await BotPermission(guard, active, lambda: None, lambda: None).revoke()
            asked.set()
            assert not sure, proof
            assert "did not take the revoke" in proof["detail"]
            await guard.store.settled()

    asyncio.run(run())
