"""Drills as deployments of Prefect, on a stage that is being watched: one is made and seen, one is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.flows.prefect_stack import PLAN, PrefectStack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]


def _plan_with_a_freeze_drill(folder: Path) -> Path:
    """The short plan with one drill, one signature, and a watch that outlasts the flows started in it."""
    plan = yaml.safe_load(PLAN.read_text())
    drills = [{"name": "freeze", "trips": ["held_or_frozen"], "window_s": 30}]
    plan["stages"][0] |= {"drills": drills, "lasts_s": 1200, "entry_sign_offs": {"roles": ["Quant Lead"]}}
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(plan))
    return path


def test_a_drill_is_run_by_its_deployment_and_one_that_the_plan_does_not_name_is_refused(
    prefect_stack: PrefectStack, tmp_path: Path
) -> None:
    stack = prefect_stack
    flow_run_id = stack.run_deployment(rollout="drilled", plan=_plan_with_a_freeze_drill(tmp_path))
    number = stack.stage_run("drilled").id or 0
    stack.sign(number, "entry", "ada")
    begun = stack.until_step(number, "watch", within_s=120).watch_from
    assert begun is not None

    refused = stack.until_ended(stack.run_drill("alert", "drilled"), 90)
    assert refused["name"] == "Refused"
    assert "drill 'alert' in stage canary; allowed: freeze" in refused["message"]
    assert stack.record.stage_run(number).watch_from == begun, "it was watched on"

    passed = stack.until_ended(stack.run_drill("freeze", "drilled"), 120)
    assert (passed["name"], passed["message"].split()[:2]) == ("Passed", ["tripped:", "held_or_frozen"])
    run = stack.until_step(number, "watch")
    assert run.watch_from is not None
    assert run.watch_from > begun, "its watch begins anew after it"
    assert [(one.name, one.outcome) for one in stack.record.drills(number)] == [("freeze", "passed")] * 2

    assert stack.rollout("stop", "drilled").returncode == 0
    stack.until_ended(flow_run_id)
    truth = stack.truth(run.account)
    assert (truth["orders"], truth["positions"]) == ([], [])
