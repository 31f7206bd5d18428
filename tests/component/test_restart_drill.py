"""The restart drill, begun anew after its guard died in it: what it has to show is shown, and not left out."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tasks.guard import drill_faults
from tasks.guard.drill_faults import DrillFailed, DrillNotRun, Restart
from tasks.guard.state import Active, GuardState
from tasks.guard.watching import _must_live
from tasks.launch import BotEnded, BotProcess, LaunchError
from tasks.operate import Operator, Told
from tasks.record_tables import Drill
from tasks.supervise.identity import Identity
from tasks.venue_desk import VenueDesk
from tests.support.guard_parts import activate, guard_at


class Process:
    """A bot's process that a signal kills."""

    pid, started_ticks = 4711, 12

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


def guard_in_it(home: Path) -> GuardState:
    """A guard whose drill has been begun."""
    guard = guard_at(home, "drills")
    guard.store.record.add_drill(Drill(stage_run_id=1, name="restart"))
    return guard


def _bot(process: Process) -> BotProcess:
    return BotProcess("one", cast(Identity, process), Path("/nowhere"), "")


def test_a_bot_that_is_dead_already_is_started_and_killed_again_with_its_orders_and_losses_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = guard_in_it(tmp_path)
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


class InTime(TwoOut):
    """Its quotes are out as long as it is not too late to look."""

    now_s = 100.0
    """A clock of its own: what the test itself takes is no part of the window."""

    async def orders_out(self, desk: VenueDesk) -> int:
        if self.now_s >= self.until:
            raise DrillNotRun("two quotes were not out in time")
        return 2


def test_what_starting_it_again_takes_is_not_taken_from_the_time_it_has_to_quote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = guard_in_it(tmp_path)
    active = activate(guard)
    active.bot = _bot(Process(alive=False))

    async def slowly(_: GuardState, of: Active) -> None:
        fault.now_s += 0.3
        of.bot, of.operator = _bot(Process(alive=True)), cast(Operator, Losing())

    monkeypatch.setattr(drill_faults, "relaunch", slowly)
    fault = InTime(guard, active, 1, InTime.now_s + 0.1)
    monkeypatch.setattr(drill_faults, "time", SimpleNamespace(monotonic=lambda: fault.now_s))
    asyncio.run(fault.make())
    guard.store.close()
    assert fault.proof == {"orders_left": "2"}
    assert fault.starting_s == pytest.approx(0.3), "and the whole window is longer by as much"


@pytest.mark.parametrize(
    ("error", "started", "blamed"),
    [
        (BotEnded("bot of run one ended before it was ready"), None, DrillFailed),
        (LaunchError("bot of run one was not ready within 20 s"), Process(alive=True), DrillNotRun),
        (LaunchError("the bot did not take its grant"), Process(alive=True), DrillNotRun),
        (LaunchError("the bot did not take its grant"), Process(alive=False), DrillFailed),
        (LaunchError("the machine did not start it: Cannot allocate memory"), None, DrillNotRun),
    ],
)
def test_only_a_bot_that_ended_is_to_blame_for_not_starting_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: LaunchError,
    started: Process | None,
    blamed: type[Exception],
) -> None:
    guard = guard_in_it(tmp_path)
    active = activate(guard)
    active.bot = _bot(Process(alive=False))

    async def relaunch(_: GuardState, of: Active) -> None:
        if started is not None:
            of.bot = _bot(started)
        raise error

    monkeypatch.setattr(drill_faults, "relaunch", relaunch)
    with pytest.raises(blamed, match=str(error)):
        asyncio.run(TwoOut(guard, active, 1, time.monotonic() + 5).make())
    guard.store.close()


def test_the_kill_is_written_down_before_it_is_made_and_only_that_death_is_the_drills(tmp_path: Path) -> None:
    guard = guard_in_it(tmp_path)
    active, process = activate(guard), Process(alive=True)
    active.bot, active.operator = _bot(process), cast(Operator, Losing())
    seen = []

    def send(number: int) -> None:
        seen.append((number, guard.store.record.drills(1)[0].proof))

    process.send = send  # type: ignore[method-assign]
    assert _must_live(active), "until then it has to live, whatever the drill will do"
    asyncio.run(TwoOut(guard, active, 1, time.monotonic() + 5).make())
    assert seen == [(signal.SIGKILL, {"kills": [4711, 12]})]
    assert not _must_live(active)
    process.started_ticks = 13
    assert _must_live(active), "the one that is started again has to live"
    guard.store.close()


def test_a_bot_that_ended_by_itself_before_it_was_killed_has_failed(tmp_path: Path) -> None:
    guard = guard_in_it(tmp_path)
    active, process = activate(guard), Process(alive=True)
    active.bot = _bot(process)

    class Dies(Losing):
        async def status(self) -> Told:
            process.alive = False
            return await super().status()

    active.operator = cast(Operator, Dies())
    with pytest.raises(DrillFailed, match="the bot ended before it was killed"):
        asyncio.run(TwoOut(guard, active, 1, time.monotonic() + 5).make())
    assert process.signals == []
    guard.store.close()
