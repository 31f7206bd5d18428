"""A guard whose launch fails, and what it refuses to begin."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from gates.decision import Action
from gates.stages import ROOT
from tasks.guard import launching, requests
from tasks.guard.beginning import begin
from tasks.guard.launching import launch_failed
from tasks.guard.state import Active, GuardState, Refused
from tasks.launch import BotEnded, BotProcess, LaunchError
from tasks.record_tables import Inbox, StageRun
from tasks.supervise.identity import Identity
from tests.support.asked_guard import PLAN, run_guard

DEAD = Identity(2**22 - 1, 1)


def test_a_launch_waits_for_a_record_that_is_back_in_time_and_starts_no_second_bot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is killed while the first bot is being noted: the same bot is found, noted and launched."""
    monkeypatch.setattr(launching, "RECORD_AGAIN_S", 0.01)
    started, away = list[int](), [1, 1]
    bot = Identity(os.getpid(), 1)

    def start(*_: object) -> Identity:
        started.append(1)
        return bot

    async def ready(run: str, identity: Identity, state_dir: Path, deadline_s: float) -> BotProcess:
        assert deadline_s == 20
        return BotProcess(run, identity, state_dir, "http://127.0.0.1:9")

    async def taken_over(*_: object) -> None:
        return None

    monkeypatch.setattr(launching, "start_process", start)
    monkeypatch.setattr(launching, "find_bots", lambda _: [bot] if started else [])
    monkeypatch.setattr(launching, "wait_ready", ready)
    monkeypatch.setattr(launching, "_take_over", taken_over)

    async def work(guard: GuardState, active: Active) -> None:
        change = guard.store.record.change_stage_run

        def away_at_first(*args: Any, **changes: Any) -> StageRun:
            if "pid" in changes and away:
                away.pop()
                raise OperationalError("update", {}, Exception("the server closed the connection"))
            return change(*args, **changes)

        active.row.step = "launching"
        active.bot = None
        monkeypatch.setattr(guard.store.record, "change_stage_run", away_at_first)
        await launching.launch(guard, active)
        assert active.row.step == "warm_up"

    run, _ = run_guard(tmp_path / "home", work)
    assert (run.pid, len(started)) == (bot.pid, 1)


def test_a_bot_that_died_while_its_launch_waited_for_the_record_is_not_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "find_bots", lambda _: [])

    async def work(guard: GuardState, active: Active) -> None:
        active.bot = BotProcess("run", DEAD, tmp_path, "")
        with pytest.raises(BotEnded):
            await launching._start_or_find(guard, active)

    run_guard(tmp_path / "home", work)


@pytest.mark.parametrize(
    ("error", "bot", "action", "reason"),
    [
        (BotEnded("it ended before it was ready"), None, Action.ROLL_BACK, "candidate"),
        (LaunchError("not ready within 20 s"), None, Action.PARK, "environment"),
        (LaunchError("the bot did not take its grant"), DEAD, Action.ROLL_BACK, "candidate"),
    ],
)
def test_a_launch_that_failed_blames_the_candidate_only_where_its_process_ended(
    tmp_path: Path, error: LaunchError, bot: Identity | None, action: Action, reason: str
) -> None:
    async def work(guard: GuardState, active: Active) -> None:
        active.bot = None if bot is None else BotProcess("run", bot, tmp_path, "")
        found = launch_failed(active, error)
        assert (found.action, found.reason) == (action, reason)

    run_guard(tmp_path / "home", work)


@pytest.mark.parametrize("name", ["../../etc", "a/b", "..", "Upper", "a b"])
def test_a_begin_under_a_name_that_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    async def work(guard: GuardState, active: Active) -> None:
        with pytest.raises(Refused, match=r"^rollout: .*allowed: "):
            await begin(guard, {"rollout": name, "stage": "canary", "plan": str(PLAN)})

    run_guard(tmp_path / "home", work)


def test_a_begin_with_made_up_people_at_a_real_venue_is_refused(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    real = (ROOT / "configs" / "rollout.yaml").read_text()
    plan.write_text(real.replace("configs/approvers.yaml", "configs/approvers.demo.yaml"))

    async def work(guard: GuardState, active: Active) -> None:
        guard.active = None
        with pytest.raises(Refused, match="approvers: demo people at venue bybit"):
            await begin(guard, {"rollout": "s", "stage": "canary", "plan": str(plan)})

    run_guard(tmp_path / "home", work)


def test_a_begin_on_spot_is_refused_because_no_proof_of_its_end_is_possible(tmp_path: Path) -> None:
    settings, plan = tmp_path / "settings.yaml", tmp_path / "plan.yaml"
    settings.write_text("venue:\n  category: spot\n")
    said = next(line for line in PLAN.read_text().splitlines() if line.startswith("settings:"))
    plan.write_text(PLAN.read_text().replace(said, f"settings: {settings}"))

    async def work(guard: GuardState, active: Active) -> None:
        guard.active = None
        with pytest.raises(Refused, match=r"venue\.category spot; allowed in this version: linear: .* proven flat"):
            await begin(guard, {"rollout": "s", "stage": "canary", "plan": str(plan)})

    run_guard(tmp_path / "home", work)


@pytest.mark.parametrize(
    ("form_sent_ago_s", "counts"),
    [
        (None, False),
        (25, True),
        (600, True),
        (-3600, False),
        ("soon", False),
        (True, False),
        ({}, False),
        (float("nan"), False),
    ],
)
def test_a_sign_off_is_as_old_as_the_record_says_or_as_its_form_where_that_is_older(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form_sent_ago_s: object, counts: bool
) -> None:
    asked = list[float]()

    async def handler(guard: GuardState, payload: dict[str, float]) -> dict[str, float]:
        asked.append(payload["asked_at_s"])
        return {}

    monkeypatch.setitem(requests.HANDLERS, "sign_off", handler)

    async def work(guard: GuardState, active: Active) -> None:
        record = guard.store.record
        sent = form_sent_ago_s
        if isinstance(sent, int) and not isinstance(sent, bool):
            sent = time.time() - sent
        number = record.submit("a", "sign_off", {"asked_at_s": 1.0, "form_sent_at_s": sent}, "key")
        (row,) = record.waiting()
        assert isinstance(row, Inbox)
        await requests._answer(guard, row)
        assert asked == [pytest.approx(sent if counts else row.created_at.timestamp(), abs=0.001)]
        assert record.answer(number) is not None

    run_guard(tmp_path / "home", work)
