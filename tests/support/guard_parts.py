"""A guard over a real record, busy with a stage run of the brief plan, without venue, bot and Prometheus."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import SQLModel

from gates.approvers import load_approvers
from gates.criteria import Criterion
from gates.decision import GuardHistory
from gates.judge import Cause, Measurement, Outcome
from gates.stages import load_plan, plan_digest, under_root
from tasks.guard import closing
from tasks.guard.exposition import Exposition
from tasks.guard.state import Active, GuardState, load_active, now_ms
from tasks.guard.store import Store
from tasks.record import Record
from tasks.record_engine import open_engine
from tasks.record_tables import Rollout, StageRun, utc_now
from tasks.record_writer import RecordWriter
from tasks.sign_off import Seeds, enroll_demo
from tasks.state_folder import StateFolder, write_private
from tests.support.gate_parts import measured

PLAN = Path(__file__).parents[1] / "support" / "plan_brief.yaml"
DIGEST = "abc123" + "0" * 58
TOLD = ("plan_name", "plan_path", "plan_digest", "code_version", "settings_digest", "nonce", "author", "requested_by")


def record_at(folder: StateFolder, **told: str) -> RecordWriter:
    """The record of account `a` in a new folder, with rollout `r`, of which only `told` says anything."""
    folder.create()
    engine = open_engine(f"sqlite:///{folder.record}")
    SQLModel.metadata.create_all(engine)
    record = RecordWriter(Record(engine), "a")
    record.know_account("simulated")
    known = {"name": "r", "account": "a", "candidate": "c", **dict.fromkeys(TOLD, "x"), **told}
    record.add_rollout(Rollout.model_validate(known))
    return record


def guard_at(home: Path, step: str, *, source: Path = PLAN, stage: str = "canary", **columns: Any) -> GuardState:
    """The guard of account `a` with one run of `stage` at `step`; its plan, as signed, is `home`/plan.yaml."""
    folder = StateFolder(home)
    folder.create()
    (home / "plan.yaml").write_text(source.read_text())
    plan = load_plan(home / "plan.yaml")
    urls = ("rest_url", "ws_public_url", "ws_private_url", "ws_trade_url")
    keys = ("api_key", "api_secret", "grant_token", "approve_token")
    access = {
        "account": "a",
        "venue": "simulated",
        **dict.fromkeys(urls, "http://127.0.0.1:9"),
        **dict.fromkeys(keys, "k" * 32),
    }
    write_private(folder.accounts / "a.json", json.dumps(access))
    enroll_demo(folder.seeds, load_approvers(under_root(plan.approvers)), "simulated")
    plan_path = str(home / "plan.yaml")
    record = record_at(folder, plan_name=plan.name, plan_path=plan_path, plan_digest=plan_digest(plan))
    named = {"rollout": "r", "account": "a", "stage": stage, "candidate": "c", "plan_path": plan_path}
    digests = {"ready_at": utc_now(), "entry_digest": DIGEST, "evidence_digest": DIGEST}
    row = StageRun(**named, attempt=1, step="requested")
    record.add_stage_run(row, plan.model_dump(mode="json"))
    record.change_stage_run(1, "step", step=step, **{**digests, **columns})  # told in the chain, as the guard would
    shown = Exposition("a", folder.targets)
    return GuardState("a", folder, "http://127.0.0.1:9", Store(record), shown, Seeds(folder.seeds))


def activate(guard: GuardState) -> Active:
    """As if this guard had launched the bot: every criterion has just passed."""
    record = guard.store.record
    row, rollout = record.stage_run(1), record.rollout("r")
    assert rollout is not None
    active = guard.active = load_active(guard.folder, row, rollout)
    seen = [one for one in active.criteria if not one.windowed]  # a window has nothing in it yet
    passes = [measured(one, value_of(one, Outcome.PASS), now_ms()) for one in seen]
    active.history = GuardHistory(now_ms()).after(passes)
    return active


def value_of(one: Criterion, outcome: Outcome) -> int:
    return next(value for value in (0, 1, 1000) if measured(one, value).outcome is outcome)


def looks(active: Active, **bad: Outcome | Cause) -> list[tuple[Criterion, Measurement]]:
    """What one look at the guard criteria finds: all PASS, but for `bad`."""
    found = []
    for one in active.criteria:
        if one.phase == "guard":
            wanted = bad.get(one.id, Outcome.PASS)
            value = wanted if isinstance(wanted, Cause) else value_of(one, wanted)
            found.append((one, measured(one, value, now_ms())))
    return found


@contextlib.asynccontextmanager
async def writing(guard: GuardState) -> AsyncIterator[None]:
    """The record's loop runs; at the end everything told is written."""
    task = asyncio.create_task(guard.store.write_told())
    try:
        yield
        await guard.store.settled()
    finally:
        task.cancel()
        guard.store.close()


def never_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closing that is begun and proves nothing: what decides is looked at here, not how it is proven."""

    async def close(guard: GuardState, active: Active) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(closing, "close", close)
