"""A canary of two symbols on one account, on a good day and on one with every link fault at its mildest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bot.journal import JournalReader
from tasks.record_tables import StageRun
from tasks.state_folder import REPOSITORY
from tests.support.guard_stack import PLAN, GuardStack
from tests.support.proofs import proofs

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

SYMBOLS = ["BTCUSDT", "ETHUSDT"]
MILD = REPOSITORY / "configs" / "faults" / "mild.yaml"
FAULTS_PLAN = yaml.safe_load((REPOSITORY / "configs" / "rollout.faults.yaml").read_text())["stages"][-1]["overrides"]
UNDER_FAULTS = {name: FAULTS_PLAN[name] for name in ("held_or_frozen", "two_sided_quoting", "two_sided_quoting_hour")}
UNDER_FAULTS["cancel_all_over_1_s"] = {"go": "<= 6"}
"""A cancel-all that the venue refuses, or for which it is away, is sent again after half a second: on a slow machine
two round trips more are over a second. How fast it is, the benchmark of cancels says."""
LONGER_S = 45
"""Long enough for the cuts, the silence and the refusals of the plan to come."""


def plan_of_two(folder: Path, overrides: dict[str, Any]) -> Path:
    """The guard's own plan with two symbols; under faults for longer."""
    content = yaml.safe_load(PLAN.read_text())
    (canary,) = content["stages"]
    canary["symbols"] = SYMBOLS
    canary["overrides"] |= overrides
    if overrides:
        canary["lasts_s"] = LONGER_S
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GuardStack]:
    made = GuardStack(tmp_path / "home", plan_of_two(tmp_path, request.param))
    try:
        made.start_guard()
        yield made
    finally:
        made.close()


def promoted(stack: GuardStack, rollout: str, faults: dict[str, Any] | None = None) -> StageRun:
    """`faults`: a plan that the venue goes through once the bot is watched: before, it would keep it from starting."""
    number = stack.launch(rollout)
    if faults is not None:
        assert stack.control("plan", faults) == {"plan": faults["name"]}
    stack.wait_step(number, ("watched",), 60)
    stack.until("the verdict GO", lambda: judged_go(stack, number), 90)
    stack.sign_all(number, "exit")
    stack.promote(number)
    run = stack.wait_step(number, ("promoted",), 40)
    proofs(stack, run)
    return run


def judged_go(stack: GuardStack, number: int) -> bool:
    """Judges; a HOLD for a datum that a busy machine has not brought yet is asked again, anything else is final."""
    answer = stack.judged(number)
    assert answer.result["word"] == "GO" or answer.result["decided_by"] == "journal_data", answer
    return bool(answer.result["word"] == "GO")


def placed(run: StageRun) -> set[str]:
    """The symbols in which the bot placed orders."""
    with JournalReader(Path(str(run.state_dir)) / "journal.db") as reader:
        return {entry.symbol for entry in reader.entries(kind="PlaceOrder")}


def of_the_plan(fault: dict[str, Any]) -> tuple[str, ...]:
    """Its kind, and which one of that kind: the way, the stream or the request it happens to."""
    parameters = {**fault, **fault.get("parameters", {})}
    return (fault["kind"], *(str(parameters[name]) for name in ("way", "stream", "request") if name in parameters))


@pytest.mark.parametrize("stack", [{}], indirect=True)
def test_two_symbols_are_traded_judged_promoted_and_both_left_flat(stack: GuardStack) -> None:
    run = promoted(stack, "two")
    assert placed(run) == set(SYMBOLS)
    page = (Path(str(run.evidence_dir)) / "index.html").read_text()
    assert all(f"{symbol}: " in page for symbol in SYMBOLS), "the evidence shows a curve for each symbol"


@pytest.mark.parametrize("stack", [UNDER_FAULTS], indirect=True)
def test_it_is_promoted_too_with_every_link_fault_at_its_mildest(stack: GuardStack) -> None:
    plan = yaml.safe_load(MILD.read_text())
    run = promoted(stack, "mild", plan)
    assert placed(run) == set(SYMBOLS)
    fired = {of_the_plan(fault) for fault in stack.truth()["faults"] if fault["fired_at_ms"]}
    assert {of_the_plan(fault) for fault in plan["faults"]} - fired == set(), "it is in the plan and did not come"
