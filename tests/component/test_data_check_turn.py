"""Data checks of several accounts on one machine take turns; one that never ends keeps nobody for ever."""

from __future__ import annotations

import asyncio
import fcntl
from pathlib import Path

import pytest

from tasks.guard import judging


def test_a_data_check_waits_for_its_turn_and_then_has_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "data_check.lock"

    async def run() -> None:
        with path.open("w") as first, path.open("w") as second:
            await judging._take(first)
            waiting = asyncio.create_task(judging._take(second))
            await asyncio.wait({waiting}, timeout=2 * judging.TURN_ASKED_EVERY_S)
            assert not waiting.done()
            fcntl.flock(first, fcntl.LOCK_UN)
            await asyncio.wait_for(waiting, 10)
            with path.open("w") as third, pytest.raises(BlockingIOError):
                fcntl.flock(third, fcntl.LOCK_EX | fcntl.LOCK_NB)

    asyncio.run(run())


def test_a_turn_that_does_not_come_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "TURN_WITHIN_S", 0.5)
    path = tmp_path / "data_check.lock"

    async def run() -> None:
        with path.open("w") as first, path.open("w") as second:
            await judging._take(first)
            await asyncio.wait_for(judging._take(second), 10)

    asyncio.run(run())
