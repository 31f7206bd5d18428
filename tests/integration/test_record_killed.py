"""PostgreSQL is killed under a rollout: the guard watches on, tries again, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import httpx
import pytest
from sqlalchemy.exc import SQLAlchemyError

from tasks.guard.store import Store
from tasks.record import Record
from tasks.record_engine import open_engine
from tasks.record_writer import RecordWriter
from tests.support.guard_stack import GuardStack
from tests.support.plans import patient_brief
from tests.support.planted import dump_holds, shown_secrets
from tests.support.postgres import PostgresServer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]
AWAY_S = 7.0
"""Longer than a grant lasts in that plan: a bot that still trades then was granted without the record."""
TOLD = 60


def patient_plan(folder: Path) -> Path:
    """The brief plan, with criteria that outlast a server that comes back on a busy machine, and grants a guard that
    stands still for a moment."""
    plan = folder / "plan.yaml"
    text = patient_brief(unknown_deadline_s=30).replace("lasts_s: 9", "lasts_s: 30")
    plan.write_text(text.replace("grant_ttl_s: 3", "grant_ttl_s: 6"))
    return plan


def test_a_killed_server_holds_up_no_watch_and_loses_nothing(tmp_path: Path, postgres_server: PostgresServer) -> None:
    stack = GuardStack(tmp_path / "home", patient_plan(tmp_path), record_url=postgres_server.database())
    try:
        guard = stack.start_guard()
        number = stack.begin("killed")
        assert stack.sign(number, "entry", "ada").done
        assert stack.ask("launch", {"stage_run_id": number}).done
        bot = stack.bot(stack.wait_step(number, ("watch",), 30))
        postgres_server.kill()
        with pytest.raises(SQLAlchemyError):
            stack.record.stage_run(number)
        end = time.monotonic() + AWAY_S
        while time.monotonic() < end:
            assert guard.poll() is None, stack.tail("guard")
            assert bot is not None
            assert bot.is_alive()
            time.sleep(0.1)
        assert not [line for line in _metrics(stack) if "grant_expired" in line and not line.endswith(" 0.0")]
        postgres_server.start()
        stack.wait_step(number, ("watched",), 30)
        assert stack.bot() == bot, "the one bot, all the time"
        steps = [json.loads(one.body) for one in stack.record.entries(stack.account) if one.kind == "step"]
        assert [one["step"] for one in steps] == ["preflight", "ready", "launching", "warm_up", "watch", "watched"]
        assert stack.record.verify_chain(stack.account).ok
        outcomes = {
            one.criterion_id: one.outcome for one in stack.record.measurements_latest(number) if one.ordinal >= 0
        }
        assert outcomes == dict.fromkeys(("process_up", "fault_freezes", "halted", "placed"), "PASS")
        assert guard.poll() is None
        assert shown_secrets(stack.folder, record_url=stack.record_url) == []
        assert dump_holds(stack.record_url, ["process_up"]), "the record was looked into"
    finally:
        if not postgres_server.is_up():
            postgres_server.start()
        stack.close()


def _metrics(stack: GuardStack) -> list[str]:
    """What the bot itself shows of its freezes; its address was known before the record went away."""
    host = json.loads((stack.folder.targets / "killed-canary-1.json").read_text())[0]["targets"][0]
    shown = httpx.get(f"http://{host}/metrics", timeout=5).text
    assert "mm_freeze_events_total" in shown
    return [line for line in shown.splitlines() if line.startswith("mm_freeze_events_total")]


def test_what_is_told_while_the_server_dies_is_written_once_and_in_order(postgres_server: PostgresServer) -> None:
    async def tell() -> None:
        store = Store(writer)
        writing = asyncio.create_task(store.write_told())
        for number in range(TOLD):
            store.tell("notice", lambda number=number: writer.put_notice(f"k{number}", "note", str(number)))
            store.tell("step", lambda number=number: writer.append("note", {"number": number}))
            if number == TOLD // 3:
                await asyncio.to_thread(postgres_server.kill)
        await asyncio.to_thread(postgres_server.start)
        await store.settled()
        writing.cancel()

    writer = RecordWriter(Record(open_engine(postgres_server.emptied())), "a")
    writer.know_account("simulated")
    try:
        asyncio.run(tell())
    finally:
        if not postgres_server.is_up():
            postgres_server.start()
    assert [notice.text for notice in writer.notices("a")] == [str(number) for number in range(TOLD)]
    told = [json.loads(entry.body)["number"] for entry in writer.entries("a") if entry.kind == "note"]
    # What was committed and not answered for is told again: a link may stand twice, none is missing or out of order.
    assert told == sorted(told)
    assert set(told) == set(range(TOLD))
    assert len(told) <= TOLD + 1
    assert writer.verify_chain("a").ok
    writer.close()
