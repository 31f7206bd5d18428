"""Who holds the bot: renewals and revokes that overtake one another, and epochs that somebody else has taken."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy.exc import OperationalError

from tasks.guard import grants
from tasks.guard.beginning import begin
from tasks.guard.grants import BotPermission, Fenced, next_epoch, renew_once
from tasks.guard.resume import resume
from tasks.guard.state import Active, GuardState
from tasks.launch import BotProcess
from tasks.operate import GrantAnswer, Operator
from tasks.record_writer import EpochLost
from tasks.supervise.identity import identify
from tests.support.guard_parts import activate, guard_at, writing

FENCED = GrantAnswer(409, detail="epoch 1 is not above the epoch 2 held")
Meanwhile = Callable[[], Awaitable[object]]


class SilentBot:
    """Takes what it is sent, perhaps, and answers nothing."""

    async def grant(self, *_: object) -> GrantAnswer:
        return GrantAnswer(0, detail="ReadTimeout")


class FencingBot:
    """Refuses what it is sent, as one that holds a higher epoch; `meanwhile` happens while a renewal is on its way."""

    def __init__(self, meanwhile: Meanwhile | None = None) -> None:
        self._meanwhile = meanwhile

    async def grant(self, *_: object) -> GrantAnswer:
        if self._meanwhile is not None:
            await self._meanwhile()
        return FENCED

    async def revoke(self, *_: object) -> GrantAnswer:
        return FENCED


def _run(home: Path, work: Callable[[GuardState, Active], Awaitable[None]], step: str = "watch") -> None:
    async def run() -> None:
        guard = guard_at(home, step)
        active = activate(guard)
        guard.granting = True
        async with writing(guard):
            await work(guard, active)

    asyncio.run(run())


def _another(guard: GuardState) -> GuardState:
    """Another guard of the same account, on the same record."""
    return GuardState(guard.account, guard.folder, guard.prometheus_url, guard.store, guard.shown, guard.seeds)


def test_a_renewal_that_was_sent_and_not_answered_counts(tmp_path: Path) -> None:
    """A revoke that the bot does not answer is proven by expiry, from the last renewal that it may have taken."""

    async def renewed(guard: GuardState, active: Active) -> None:
        active.operator = cast(Operator, SilentBot())
        sent_s = time.monotonic()
        guard.granted_at_s = sent_s - 100
        assert not (await renew_once(guard, active)).accepted
        assert guard.granted_at_s >= sent_s

    _run(tmp_path / "home", renewed)


def test_a_renewal_that_our_own_revoke_has_overtaken_fences_nobody(tmp_path: Path) -> None:
    """The guard would end in the middle of its rollback."""

    async def overtaken(guard: GuardState, active: Active) -> None:
        async def revoked() -> None:
            guard.granting = False
            await next_epoch(guard, "revoke")

        active.operator = cast(Operator, FencingBot(revoked))
        assert await renew_once(guard, active) == FENCED

    _run(tmp_path / "home", overtaken)


def test_a_renewal_that_our_own_next_epoch_has_overtaken_fences_nobody(tmp_path: Path) -> None:
    async def overtaken(guard: GuardState, active: Active) -> None:
        active.operator = cast(Operator, FencingBot(lambda: next_epoch(guard, "part")))
        assert await renew_once(guard, active) == FENCED
        assert guard.granting

    _run(tmp_path / "home", overtaken)


def test_a_bot_that_refuses_the_epoch_held_belongs_to_somebody_else(tmp_path: Path) -> None:
    async def fenced(guard: GuardState, active: Active) -> None:
        active.operator = cast(Operator, FencingBot())
        with pytest.raises(Fenced, match="account a: bot refuses epoch 0: epoch 1 is not above"):
            await renew_once(guard, active)
        assert not guard.granting

    _run(tmp_path / "home", fenced)


def test_a_guard_that_another_has_fenced_gets_no_epoch_any_more(tmp_path: Path) -> None:
    async def stale(guard: GuardState, active: Active) -> None:
        await next_epoch(guard, "launch")
        other = _another(guard)
        await resume(other)
        assert await next_epoch(other, "adopt") == 2
        with pytest.raises(EpochLost, match="epoch is 2, expected 1"):
            await next_epoch(guard, "part step-2")
        assert (guard.epoch, guard.store.record.epoch()) == (1, 2), "and the other is not fenced by it"

    _run(tmp_path / "home", stale, "ready")


def test_an_epoch_whose_answer_was_lost_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lost(guard: GuardState, active: Active) -> None:
        record = guard.store.record
        take_epoch = record.take_epoch

        def unanswered(*args: Any) -> int:
            take_epoch(*args)
            raise OperationalError("commit", {}, Exception("server closed the connection unexpectedly"))

        monkeypatch.setattr(record, "take_epoch", unanswered)
        with pytest.raises(OperationalError):
            await next_epoch(guard, "launch")
        monkeypatch.setattr(record, "take_epoch", take_epoch)
        assert (guard.epoch, record.epoch()) == (0, 1)
        assert [await next_epoch(guard, "launch") for _ in range(2)] == [1, 2]
        assert record.epoch() == 2

    _run(tmp_path / "home", lost)


def test_an_epoch_that_comes_too_late_for_a_revoke_is_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grants, "EPOCH_PATIENCE_S", 0.01)

    async def late(guard: GuardState, active: Active) -> None:
        may_go_on = threading.Event()
        guard.store._thread.submit(may_go_on.wait, 10)
        assert not await BotPermission(guard, active, lambda: None, lambda: None)._raise_epoch()
        may_go_on.set()
        assert await next_epoch(guard, "revoke") == 1
        assert guard.store.record.epoch() == 1

    _run(tmp_path / "home", late)


def test_a_stage_that_is_begun_anew_counts_from_the_epoch_in_the_record(tmp_path: Path) -> None:
    """Nothing runs then, so whoever took an epoch meanwhile holds no bot."""

    async def begun(guard: GuardState, active: Active) -> None:
        guard.active = None
        await next_epoch(_another(guard), "launch")
        payload = {"rollout": "r2", "stage": "canary", "plan": str(guard.folder.root / "plan.yaml")}
        answer = await begin(guard, payload)
        for task in list(guard.tasks):
            task.cancel()
        assert answer["step"] == "requested"
        assert await next_epoch(guard, "launch") == 2

    _run(tmp_path / "home", begun, "parked")


def test_a_revoke_that_the_bot_refuses_is_not_proven_by_its_expiry(tmp_path: Path) -> None:
    """Somebody else renews it: what runs out of ours says nothing about that."""

    async def refused(guard: GuardState, active: Active) -> None:
        me = identify(os.getpid())
        assert me is not None
        active.bot = BotProcess("run", me, tmp_path, "")
        active.operator = cast(Operator, FencingBot())
        guard.granted_at_s = time.monotonic() - 100
        sure, proof = await BotPermission(guard, active, lambda: None, lambda: None).revoke()
        assert not sure
        assert "409" in proof["detail"]
        active.bot = replace(active.bot, identity=replace(me, started_ticks=me.started_ticks + 1))
        sure, _ = await BotPermission(guard, active, lambda: None, lambda: None).revoke()
        assert sure, "the bot is gone"

    _run(tmp_path / "home", refused)
