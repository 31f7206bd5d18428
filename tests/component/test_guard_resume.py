"""A guard that can neither go on with a stage nor close it stays, pages once and tries again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gates.decision import Action, Decision
from gates.stages import ROOT, load_plan
from tasks.guard import resume as resuming
from tasks.guard.drilled import KILLS
from tasks.guard.exposition import Exposition
from tasks.guard.requests import HANDLERS
from tasks.guard.resume import CannotResume, resume, resume_later
from tasks.guard.state import GuardState, Refused
from tasks.guard.stopping import StoppedByUrl
from tasks.guard.store import Store
from tasks.guard.watching import _must_live
from tasks.record_audit import record_fault
from tasks.record_tables import Drill, StageRun, utc_now
from tasks.sign_off import Seeds
from tasks.state_folder import StateFolder
from tests.support.guard_parts import guard_at, never_close, record_at, writing

STAGES = Path(__file__).parents[1] / "support" / "plan_stages.yaml"


def _guard(home: Path, kept: dict[str, Any] | None = None) -> GuardState:
    """Over a record with one stage in its watch, whose plan is gone; `kept` of it was told to the chain."""
    folder = StateFolder(home)
    record = record_at(folder)
    plan = str(home / "gone.yaml")
    row = StageRun(rollout="r", account="a", stage="canary", attempt=1, step="watch", candidate="c", plan_path=plan)
    record.add_stage_run(row, kept)
    return GuardState("a", folder, "http://127.0.0.1:9", Store(record), Exposition("a", folder.targets), Seeds(home))


def test_while_it_does_not_know_what_runs_a_stop_is_not_told_that_nothing_does(tmp_path: Path) -> None:
    async def asked() -> None:
        guard = _guard(tmp_path / "home")
        with pytest.raises(CannotResume):
            await resume(guard)
        guard.loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(StoppedByUrl(guard).stop, "ada", "lunch")
        with pytest.raises(Refused, match="what runs on account a is not known yet; use the kill switch"):
            await HANDLERS["stop"](guard, {"rollout": "r"})
        guard.store.close()

    asyncio.run(asked())


def test_it_stays_pages_once_and_tries_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "AGAIN_S", 0.01)

    async def tried() -> list[str]:
        guard = _guard(tmp_path / "home")
        writing = asyncio.create_task(guard.store.write_told())
        with pytest.raises(CannotResume) as caught:
            await resume(guard)
        assert guard.active is None
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(resume_later(guard, str(caught.value)), 0.5)
        await guard.store.settled()
        notices = [one.text for one in guard.store.record.notices("a")]
        writing.cancel()
        guard.store.close()
        return notices

    (page,) = asyncio.run(tried())
    assert "r/canary" in page
    assert "gone.yaml" in page
    assert "keeps no plan" in page


def test_what_was_agreed_on_under_older_rules_is_closed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a plan may say today decides what begins, never whether what runs can be ended."""
    never_close(monkeypatch)
    kept = load_plan(ROOT / "configs" / "rollout.yaml").model_dump(mode="json")
    canary = next(one for one in kept["stages"] if one["id"] == "canary")
    canary["total_max_quote"] = "3000"  # at most 2000 at a real venue

    async def taken_up() -> None:
        guard = _guard(tmp_path / "home", kept)
        await resume(guard)
        assert guard.active is not None
        assert guard.active.decision is not None
        assert guard.active.decision.criterion_id == "files"
        guard.store.close()

    asyncio.run(taken_up())


class Dead(NamedTuple):
    """The process of a bot that is gone."""

    pid: int
    started_ticks: int


def _back_in_a_restart(home: Path, killed: Dead | None) -> tuple[GuardState, Decision | None]:
    """A guard that comes back to a dead bot while a restart drill is open, whose row says that `killed` was to be."""

    async def back() -> tuple[GuardState, Decision | None]:
        died = {"pid": 2**22 + 4711, "pid_started_ticks": 12}
        columns = {"run": "one", "state_dir": str(home), "launched_at": utc_now(), **died}
        guard = guard_at(home, "drills", source=STAGES, stage="testnet", **columns)
        record = guard.store.record
        number = record.add_drill(Drill(stage_run_id=1, name="restart", criteria=["process_up"]))
        if killed is not None:
            record.note_in_drill(number, {KILLS: [killed.pid, killed.started_ticks]})
        async with writing(guard):
            await resume(guard)
            assert guard.active is not None
            await asyncio.gather(*(task for task in guard.tasks if task.get_name() == "adopt"))
            for task in list(guard.tasks):
                task.cancel()
            assert record_fault(record, "a") == "", "and the chain tells it"
            return guard, guard.active.decision

    return asyncio.run(back())


@pytest.mark.parametrize(
    "killed", [None, Dead(2**22 + 4710, 12), Dead(2**22 + 4711, 11)], ids=["nobody", "the one before", "another start"]
)
def test_a_bot_that_died_in_a_restart_drill_before_the_guard_had_killed_it_died_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: Dead | None
) -> None:
    never_close(monkeypatch)
    _, decision = _back_in_a_restart(tmp_path / "home", killed)
    assert decision is not None, "and it is not started again"
    assert (decision.action, decision.reason, decision.criterion_id) == (Action.ROLL_BACK, "candidate", "process_up")


def test_a_bot_that_the_guard_before_this_one_killed_for_its_drill_is_started_again_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_close(monkeypatch)
    guard, decision = _back_in_a_restart(tmp_path / "home", Dead(2**22 + 4711, 12))
    assert decision is None
    assert guard.active is not None
    assert not _must_live(guard.active)
