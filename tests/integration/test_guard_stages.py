"""All five stages with a real bot, venue and Prometheus; drills on testnet and in the soak, two steps to size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

import httpx
import pytest

from gates.parts import DrillName
from gates.replay import replay
from tasks.record import open_record
from tasks.record_tables import Drill, StageRun
from tests.support.guard_stack import GuardStack
from tests.support.proofs import proofs

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]
PLAN = Path(__file__).parents[1] / "support" / "plan_stages.yaml"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardStack]:
    made = GuardStack(tmp_path_factory.mktemp("stages") / "home", PLAN)
    try:
        made.start_guard()
        yield made
    finally:
        made.close()


def _launch(stack: GuardStack, stage: str) -> int:
    number = stack.begin("road", stage)
    assert stack.ask("launch", {"stage_run_id": number}).done, "the stage before has passed: nobody signs here"
    return number


def _judge(stack: GuardStack, number: int) -> None:
    stack.wait_step(number, ("watched",), 90)
    assert stack.judged(number).result["word"] == "GO", _shown(stack, number)


def _shown(stack: GuardStack, number: int) -> str:
    rows = stack.record.measurements_latest(number)
    return "\n".join(f"{one.criterion_id} {one.outcome} {one.value} {one.reason}" for one in rows)


def _promoted(stack: GuardStack, number: int, *, granted: bool = True) -> StageRun:
    stack.promote(number)
    run = stack.wait_step(number, ("promoted",), 40)
    proofs(stack, run, granted=granted)
    assert replay(Path(str(run.evidence_dir))).same, "each part by its own numbers"
    return run


def test_a_candidate_goes_from_shadow_through_every_stage_to_size(stack: GuardStack) -> None:
    payload = {"rollout": "road", "plan": str(stack.plan_path), "nonce": "road"}
    early = stack.ask("begin", {**payload, "stage": "testnet"})
    assert "needs the stages before it passed with the same digest: shadow has not passed" in early.reason
    _through_shadow(stack)
    _through_the_testnet(stack)
    _through_the_canary(stack)
    _through_the_soak(stack)
    _through_both_steps(stack)


def _through_shadow(stack: GuardStack) -> None:
    number = _launch(stack, "shadow")
    stack.wait_step(number, ("watch",), 30)
    assert stack.record.stage_run(number).epoch > 0
    assert stack.is_clean()
    _judge(stack, number)
    assert "exit sign-offs are missing" in stack.ask("promote", {"stage_run_id": number}).reason
    assert stack.sign(number, "exit", "ada").done
    run = _promoted(stack, number, granted=False)
    steps = {one.name: one.proof for one in stack.record.rollback_steps(number)}
    assert "no order leaves" in steps["revoke_grant"]["how"]
    assert stack.is_clean(), "no order has left"
    assert (Path(str(run.state_dir)) / "journal.db").exists()


def _through_the_testnet(stack: GuardStack) -> None:
    number = _launch(stack, "testnet")
    stack.wait_step(number, ("drills",), 30)
    launched = stack.record.stage_run(number)
    run = stack.wait_step(number, ("watch",), 150)
    drills = {one.name: one for one in stack.record.drills(number)}
    assert {name: one.outcome for name, one in drills.items()} == dict.fromkeys(get_args(DrillName), "passed")
    assert drills["maker-policy"].proof == {"blocked_crossing": "2", "blocked_too_small": "1"}
    assert float(drills["freeze"].proof["held_or_frozen"]) > 0.02
    counted = {labels for name, labels, count in run.baseline if name == "mm_freeze_events_total" and count}
    assert counted, "what the drills froze is in the baseline, and so in no total of the stage"
    assert {labels.partition("class=")[2] for labels in counted} == {"planned"}
    _see_what_drills_left(stack, launched, run, drills)
    _judge(stack, number)
    first = stack.record.stage_run(number)
    shown = {one.criterion_id: one.value for one in stack.record.measurements_latest(number)}
    assert (shown["blocked_crossing"], shown["blocked_too_small"], shown["drills"]) == ("0", "0", "0")
    assert stack.promote(number).result["part"] == "unbroken"
    _judge(stack, number)
    second = stack.record.stage_run(number)
    assert (second.pid, second.epoch) == (first.pid, first.epoch + 1)
    assert "rejections" in {one.criterion_id for one in stack.record.measurements_latest(number)}
    _promoted(stack, number)


def _see_what_drills_left(stack: GuardStack, launched: StageRun, run: StageRun, drills: Mapping[str, Drill]) -> None:
    """Beside their criteria: a bot killed and started again as the same run, and nothing that stays."""
    assert (run.pid != launched.pid, run.run, run.obs_url) == (True, launched.run, launched.obs_url)
    assert run.epoch == launched.epoch + 1
    assert int(drills["restart"].proof["orders_left"]) >= 2
    assert "losses_since" in drills["restart"].proof
    assert int(drills["kill-switch"].proof["cancelled"]) >= 1
    assert drills["orphan"].proof["recon_divergences"] == "1"
    assert drills["stream-loss"].proof == {"sockets_reopened": "2", "read_before_quoting": "yes"}
    assert (drills["alert"].proof["fired"], drills["alert"].proof["resolved"]) == ("MMHighLatency", "yes")
    assert not list(stack.folder.rules.glob("drill-*")), "the lowered rule is gone"
    restored = stack.folder.backups / f"{stack.account}-{run.id}" / "restored"
    record = open_record(f"sqlite:///{restored / 'rollout.db'}")
    assert record.verify_chain(stack.account).ok
    record.close()


def _through_the_canary(stack: GuardStack) -> None:
    number = _launch(stack, "canary")
    _judge(stack, number)
    assert stack.sign(number, "exit", "katherine").done
    _promoted(stack, number)


def _through_the_soak(stack: GuardStack) -> None:
    """Two symbols, and the freeze drill before its watch: seen, over, and in nothing that is judged."""
    number = _launch(stack, "soak")
    run = stack.wait_step(number, ("watch",), 60)
    (drill,) = stack.record.drills(number)
    assert (drill.name, drill.outcome) == ("freeze", "passed")
    assert float(drill.proof["held_or_frozen"]) > 0.02
    frozen = [labels for name, labels, count in run.baseline if name == "mm_freeze_events_total" and count]
    assert [labels.partition("class=")[2] for labels in frozen] == ["planned"]
    _judge(stack, number)
    shown = {one.criterion_id: one for one in stack.record.measurements_latest(number)}
    for name in ("drills", "log_errors", "held_or_frozen", "files_growth", "connections_growth", "position_drift"):
        assert shown[name].outcome == "PASS", shown[name].reason
    assert stack.sign(number, "exit", "ada").done
    _promoted(stack, number)


def _through_both_steps(stack: GuardStack) -> None:
    number = _launch(stack, "scale-up")
    _judge(stack, number)
    first, signed = stack.record.stage_run(number), stack.record.stage_run(number).evidence_digest
    assert stack.sign(number, "exit", "grace").done
    assert stack.promote(number).result["part"] == "step-2"
    second = stack.record.stage_run(number)
    assert (second.step, second.pid, second.epoch) == ("watch", first.pid, first.epoch + 1), "it ran on, resized"
    bot = httpx.get(f"{second.obs_url}/api/ui/status", timeout=5).json()
    assert bot["epoch"] == second.epoch
    assert "exit sign-offs are missing" in _refused_at_the_end(stack, number), "what was signed was for the step before"
    assert stack.record.stage_run(number).evidence_digest != signed
    assert stack.sign(number, "exit", "katherine").done
    run = _promoted(stack, number)
    parts = stack.record.parts(number)
    assert [(one.name, one.inventory_max_quote, one.outcome) for one in parts] == [
        ("step-1", "2400", "passed"),
        ("step-2", "2880", "passed"),
    ]
    assert sorted(path.name for path in Path(str(run.evidence_dir)).glob("judged*")) == ["judged", "judged-2"]


def _refused_at_the_end(stack: GuardStack, number: int) -> str:
    _judge(stack, number)
    return stack.ask("promote", {"stage_run_id": number}).reason
