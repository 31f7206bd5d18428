"""A guard with one canary that was just asked for, and its record being written beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from gates.approvers import load_approvers
from gates.stages import ROOT, load_plan, stage_criteria, under_root
from tasks.account_file import AccountAccess
from tasks.guard.exposition import Exposition
from tasks.guard.state import Active, GuardState
from tasks.guard.store import Store
from tasks.record_tables import Outbox, StageRun
from tasks.sign_off import Seeds
from tasks.state_folder import StateFolder
from tests.support.guard_parts import record_at

PLAN = ROOT / "configs" / "rollout.smoke.yaml"
URLS = ("http://127.0.0.1:9", "ws://127.0.0.1:9", "ws://127.0.0.1:9", "ws://127.0.0.1:9")


def asked_guard(home: Path) -> tuple[GuardState, Active]:
    """Over a record with one canary that was just asked for."""
    folder = StateFolder(home)
    record = record_at(folder)
    rollout = record.rollout("r")
    assert rollout is not None
    plan = load_plan(PLAN)
    row = StageRun(rollout="r", account="a", stage="canary", attempt=1, step="requested", candidate="c", plan_path="/p")
    row = record.add_stage_run(row, plan.model_dump(mode="json"))
    people = load_approvers(under_root(plan.approvers))
    access = AccountAccess("a", "simulated", *URLS, "key", "secret", "grant", "approve")
    stage = plan.stage("canary")
    active = Active(row, rollout, plan, stage, stage_criteria(plan, "canary"), people, access)
    store, shown = Store(record), Exposition("a", folder.targets)
    guard = GuardState("a", folder, "http://127.0.0.1:9", store, shown, Seeds(folder.seeds), active=active)
    return guard, active


def run_guard(home: Path, work: Callable[[GuardState, Active], Awaitable[None]]) -> tuple[StageRun, list[Outbox]]:
    """`work` with the record being written beside it; the stage run and the notices afterwards."""

    async def run() -> tuple[StageRun, list[Outbox]]:
        guard, active = asked_guard(home)
        writing = asyncio.create_task(guard.store.write_told())
        await asyncio.wait_for(work(guard, active), 15)
        await guard.store.settled()
        found = guard.store.record.stage_run(active.id), list(guard.store.record.notices("a"))
        writing.cancel()
        guard.store.close()
        return found

    return asyncio.run(run())
