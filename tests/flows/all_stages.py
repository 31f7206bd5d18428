"""One whole rollout as `rollout demo` makes it: all five stages, drills in two of them, people at each gate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.flows.prefect_stack import PrefectStack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]
PLAN = Path(__file__).parents[1] / "support" / "plan_stages.yaml"


def test_a_candidate_is_led_through_every_stage_to_its_size(prefect_stack: PrefectStack) -> None:
    stack = prefect_stack
    done = stack.rollout("demo", "--plan", str(PLAN), within_s=1100)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    lines = done.stdout.splitlines()
    table = lines[next(at for at, line in enumerate(lines) if line.startswith("stage    part")) :]
    assert [line.split()[:2] for line in table[1:8]] == [
        ["shadow", "10000/50000"],
        ["testnet", "smoke"],
        ["unbroken", "10000/50000"],
        ["canary", "1000/2000"],
        ["soak", "2000/10000"],
        ["scale-up", "step-1"],
        ["step-2", "2880/14400"],
    ]
    assert max(len(line) for line in table[:8]) <= 80
    assert "the plan's size is reached: 2880 per symbol and 14400 in all on BTCUSDT, ETHUSDT" in done.stdout

    newest = json.loads(stack.rollout("status", "--json").stdout)["rollouts"][0]
    assert (newest["stage"], newest["state"]) == ("scale-up", "promoted")
    rows = newest["stages"]
    assert [(row["stage"], row["part"], row["signed"], row["ended_as"]) for row in rows] == [
        ("shadow", "", ["ada"], "promoted"),
        ("testnet", "smoke", [], "passed"),
        ("testnet", "unbroken", [], "promoted"),
        ("canary", "", ["katherine"], "promoted"),
        ("soak", "", ["ada"], "promoted"),
        ("scale-up", "step-1", ["grace"], "passed"),
        ("scale-up", "step-2", ["katherine"], "promoted"),
    ]
    assert all(row["passed"] >= row["judged"] - 3 for row in rows), "only advisory ones may not have passed"
    runs = stack.record.stage_runs(rollout=newest["rollout"])
    assert len({run.candidate for run in runs}) == 1
    assert [run.predecessor_passed for run in runs] == [False, True, True, True, True]
    assert not [row for run in runs for row in stack.record.sign_offs(run.id or 0, "entry")], "nobody signs twice"
    truth = stack.truth(runs[-1].account)
    assert (truth["orders"], truth["positions"]) == ([], [])

    report = stack.rollout("report", newest["rollout"])
    assert report.returncode == 0
    assert max(len(line) for line in report.stdout.splitlines()[1:-1]) <= 80
    assert "drills" not in stack.rollout("explain", newest["rollout"]).stdout
