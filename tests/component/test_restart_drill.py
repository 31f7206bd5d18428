"""The restart drill, begun anew after its guard died in it: what it has to show is shown, and not left out."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any, cast

import pytest

from tasks.guard import drill_faults
from tasks.guard.drill_faults import Restart
from tasks.guard.state import Active, GuardState
from tasks.launch import BotProcess
from tasks.operate import Operator, Told
from tasks.supervise.identity import Identity
from tasks.venue_desk import VenueDesk
from tests.support.guard_parts import activate, guard_at


class Process:
    """A bot's process that a signal kills."""

    def __init__(self, *, alive: bool) -> None:
        self.alive = alive
        self.signals: list[int] = []

    def is_alive(self) -> bool:
        return self.alive

    def send(self, number: int) -> None:
        self.signals.append(number)
        self.alive = self.alive and number != signal.SIGKILL


class Losing:
    async def status(self) -> Told:
        return Told(True, body={"losses": {"since_quote": "-3", "peak_quote": "2"}})


class TwoOut(Restart):
    """With two own orders at the venue."""

    def desk(self) -> VenueDesk:
        return VenueDesk(lambda: self.active.access, ("BTCUSDT",))

    async def orders_out(self, desk: VenueDesk) -> int:
        return 2

    async def _own(self, desk: VenueDesk) -> set[str]:
        return {"slwq-1-1", "slwq-1-2"}


def _bot(process: Process) -> BotProcess:
    return BotProcess("one", cast(Identity, process), Path("/nowhere"), "")


def test_a_bot_that_is_dead_already_is_started_and_killed_again_with_its_orders_and_losses_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = guard_at(tmp_path, "drills")
    active = activate(guard)
    again = Process(alive=True)
    active.bot = _bot(Process(alive=False))

    async def relaunch(_: GuardState, of: Active) -> None:
        of.bot, of.operator = _bot(again), cast(Operator, Losing())

    monkeypatch.setattr(drill_faults, "relaunch", relaunch)
    fault: Any = TwoOut(guard, active, 1, time.monotonic() + 5)
    asyncio.run(fault.make())
    guard.store.close()
    assert fault.proof == {"orders_left": "2"}
    assert fault._losses == {"since_quote": "-3", "peak_quote": "2"}
    assert again.signals == [signal.SIGKILL]
