"""A run that was queued in Prefect when somebody said stop begins nothing once a worker takes it; a new one begins."""

from __future__ import annotations

import signal

import pytest

from tests.flows.prefect_stack import PrefectStack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]


def test_a_run_that_is_queued_begins_nothing_after_a_stop_and_a_new_one_does(prefect_stack: PrefectStack) -> None:
    stack, worker = prefect_stack, "prefect-worker"
    (stack.folder.suspended / worker).touch()
    stack.process(worker).send(signal.SIGKILL)
    stack.until("no worker lives", lambda: True if not stack.process(worker).is_alive() else None, 10)

    queued = stack.run_deployment(rollout="queued")
    said = stack.rollout("stop", "queued", "--reason", "lunch")
    assert said.returncode == 2, said.stdout + said.stderr  # nothing has begun: it may be a slip of the pen
    assert "rollout 'queued' is not known" in said.stderr
    assert "a run of that name that is queued begins nothing" in said.stderr
    (stack.folder.suspended / worker).unlink()

    ended = stack.until_ended(queued, within_s=120)
    assert (ended["type"], ended["name"]) == ("FAILED", "Refused")
    assert "rollout queued was stopped by" in ended["message"]
    assert ": lunch, at 20" in ended["message"]
    assert ended["message"].endswith("when this run was there already; start a new run to go on")

    assert stack.record.stage_runs(rollout="queued") == []

    new = stack.run_deployment(rollout="queued")
    stack.stage_run("queued")
    assert stack.rollout("stop", "queued").returncode == 0
    assert stack.until_ended(new, within_s=120)["name"] in ("Parked", "RolledBack")
