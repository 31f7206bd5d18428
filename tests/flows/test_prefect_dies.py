"""Flow, worker and server killed while a bot trades: the guard goes on alone, and a new run continues the stage."""

from __future__ import annotations

import os
import signal

import httpx
import pytest

from tests.flows.prefect_stack import PrefectStack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]


def test_the_guard_rolls_back_alone_and_a_new_run_continues_what_was_left(prefect_stack: PrefectStack) -> None:
    stack = prefect_stack
    people = ("ada", "grace", "katherine")

    # a stage in its watch, then no flow, no worker, no server any more
    stack.run_deployment(rollout="left-alone")
    number = stack.stage_run("left-alone").id or 0
    for person in people:
        stack.sign(number, "entry", person)
    run = stack.until_step(number, "watch")
    assert run.pid is not None
    bots = stack.bots()
    assert bots == [run.pid]
    _suspend(stack, "prefect-worker", "prefect-server")
    for flow in stack.flows():
        flow.send(signal.SIGKILL)
    for name in ("prefect-worker", "prefect-server"):
        stack.process(name).send(signal.SIGKILL)
    stack.until("Prefect is dead", lambda: True if not _alive(stack) else None, 10)

    # the guard goes on measuring to the end of the watch, and keeps the bot
    watched = stack.until_step(number, "watched", within_s=60)
    assert stack.bots() == bots
    newest_ms = max(row.at_ms for row in stack.record.measurements_latest(number))
    stack.until(
        "the guard measures although nobody asks",
        lambda: True if max(r.at_ms for r in stack.record.measurements_latest(number)) > newest_ms else None,
        10,
    )

    # Prefect comes back; a new run of the same deployment continues and starts no second bot
    for path in stack.folder.suspended.glob("*"):
        path.unlink()
    stack.until("the server is back", lambda: True if _healthy(stack) else None, 60)
    again = stack.run_deployment()
    judged = stack.until_step(number, "judged", within_s=90)
    assert stack.bots() == bots
    assert (judged.attempt, judged.run, judged.pid) == (run.attempt, run.run, watched.pid)
    assert [one.id for one in stack.record.stage_runs(account=run.account)] == [number]

    # and in the end a breach with Prefect gone once more is rolled back by the guard alone
    _suspend(stack, "prefect-worker", "prefect-server")
    for name in ("prefect-worker", "prefect-server"):
        stack.process(name).send(signal.SIGKILL)
    os.kill(run.pid, signal.SIGKILL)
    ended = stack.until_step(number, "rolled_back", within_s=60)
    assert ended.reason == "candidate"
    assert stack.truth(ended.account)["orders"] == []
    assert stack.truth(ended.account)["positions"] == []
    for path in stack.folder.suspended.glob("*"):
        path.unlink()
    stack.until("the server is back", lambda: True if _healthy(stack) else None, 60)
    assert stack.flow_run(again)["parameters"]["stage"] == "canary"


def _suspend(stack: PrefectStack, *names: str) -> None:
    for name in names:
        (stack.folder.suspended / name).touch()


def _alive(stack: PrefectStack) -> bool:
    return any(stack.process(name).is_alive() for name in ("prefect-worker", "prefect-server"))


def _healthy(stack: PrefectStack) -> bool:
    if not _alive(stack):
        return False
    try:
        return stack.api.get("/health", timeout=1).status_code == 200
    except httpx.TransportError:
        return False
