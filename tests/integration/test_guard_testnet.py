"""The testnet stage at venue bybit, the simulated venue standing in for Bybit's testnet on loopback.

Nothing that makes a demo easy is there: people are real, their codes are theirs, and no nonce makes a digest anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from gates.stages import ROOT
from tasks.guard.state import STAND_IN
from tests.support.guard_stack import GuardStack
from tests.support.proofs import proofs

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
PLAN = Path(__file__).parents[1] / "support" / "plan_bybit.yaml"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardStack]:
    made = GuardStack(tmp_path_factory.mktemp("testnet") / "home", PLAN)
    try:
        made.start_guard()
        yield made
    finally:
        made.close()


def _refused(stack: GuardStack, stage: str = "testnet", plan: Path = PLAN, **more: str) -> str:
    answer = stack.ask("begin", {"rollout": "no", "stage": stage, "plan": str(plan), "requested_by": "test", **more})
    assert not answer.done
    return answer.reason


def test_what_does_not_fit_an_account_for_testnet_is_refused_by_name(stack: GuardStack) -> None:
    said = _refused(stack, "canary", ROOT / "configs" / "rollout.yaml")
    assert said == (
        f"stage canary of production: env live, account {stack.account} is for testnet; allowed: an account for live"
    )
    assert "allowed: none, so that no digest is tried anew" in _refused(stack, nonce="once-more")
    demo = Path(stack.folder.root) / "demo.yaml"
    demo.write_text(PLAN.read_text().replace("configs/approvers.yaml", "configs/approvers.demo.yaml"))
    assert "demo people at venue bybit; allowed: real people" in _refused(stack, plan=demo)
    path = stack.folder.accounts / f"{stack.account}.json"
    content = path.read_text()
    held = json.loads(content)
    try:
        for changed, expected in (
            ({"rest_url": "https://api-testnet.example.com"}, "is not on loopback, allowed hosts: 127.0.0.1"),
            ({"api_secret": ""}, "missing api_secret"),
            ({"env": "demo"}, "env is 'demo'; allowed: testnet, live"),
        ):
            path.write_text(json.dumps({**held, **changed}))
            assert expected in _refused(stack)
    finally:
        path.write_text(content)


def test_a_candidate_passes_the_testnet_with_drills_and_three_signatures(stack: GuardStack) -> None:
    stack.enroll()
    number = stack.begin("real", "testnet")
    assert stack.ask("launch", {"stage_run_id": number}).done
    run = stack.wait_step(number, ("watch",), 90)
    assert run.pid is not None
    bot = psutil.Process(run.pid)
    assert {"--network", "--testnet"} <= set(bot.cmdline())
    told = bot.environ()
    assert (told["EXCHANGE_ENV"], told["MM_VENUE_GATEWAY"], "MM_LIVE_ENABLE" in told) == ("testnet", "", False)
    drills = {one.name: one for one in stack.record.drills(number)}
    assert {name: one.outcome for name, one in drills.items()} == {"orphan": "passed", "kill-switch": "passed"}
    assert drills["orphan"].proof["cancelled"].startswith("slwq-")
    stack.wait_step(number, ("watched",), 60)
    answer = stack.ask("judge", {"stage_run_id": number}, 60)
    rows = stack.record.measurements_latest(number)
    assert answer.result["word"] == "GO", "\n".join(f"{one.criterion_id} {one.outcome} {one.reason}" for one in rows)
    for person in ("quant.lead", "sre.lead"):
        assert stack.sign(number, "exit", person).done
    assert "missing: Risk Manager" in stack.ask("promote", {"stage_run_id": number}).reason
    assert stack.sign(number, "exit", "risk.manager").done
    stack.promote(number)
    ended = stack.wait_step(number, ("promoted",), 40)
    proofs(stack, ended)
    rollout = stack.record.rollout("real")
    assert rollout is not None
    assert rollout.nonce == STAND_IN, "what has passed at a stand-in is no candidate that passed at the testnet itself"
