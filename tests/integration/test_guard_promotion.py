"""The moment of promotion with a real bot, venue and Prometheus: blindness, a death and a changed plan all end it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.guard_stack import GuardStack
from tests.support.plans import patient_brief
from tests.support.proofs import proofs

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardStack]:
    """Once for all: each test is a rollout of its own, with minutes to ask for what comes next."""
    folder = tmp_path_factory.mktemp("promotion")
    plan = folder / "plan.yaml"
    plan.write_text(patient_brief())
    made = GuardStack(folder / "home", plan)
    try:
        made.start_guard()
        yield made
    finally:
        made.processes["prometheus"].send_signal(signal.SIGCONT)
        made.close()


def _launched(stack: GuardStack, rollout: str, person: str) -> int:
    number = stack.begin(rollout)
    assert stack.sign(number, "entry", person).done
    assert stack.ask("launch", {"stage_run_id": number}).done
    stack.wait_step(number, ("watch",), 30)
    return number


def _judged(stack: GuardStack, rollout: str, person: str) -> int:
    number = _launched(stack, rollout, person)
    stack.wait_step(number, ("watched",), 20)
    answer = stack.ask("judge", {"stage_run_id": number})
    assert answer.result["word"] == "GO", answer
    return number


def test_what_prometheus_cannot_show_is_not_promoted_until_it_can_again(stack: GuardStack) -> None:
    number = _judged(stack, "blind", "ada")
    stack.processes["prometheus"].send_signal(signal.SIGSTOP)
    answer = stack.ask("promote", {"stage_run_id": number})
    stack.processes["prometheus"].send_signal(signal.SIGCONT)
    assert not answer.done
    assert "halted UNKNOWN (source unreachable" in answer.reason
    assert stack.record.stage_run(number).step == "judged", "blind for less than its deadline: the stage stands"
    stack.until("it is promoted", lambda: stack.ask("promote", {"stage_run_id": number}).done, 20)
    run = stack.wait_step(number, ("promoted",), 30)
    proofs(stack, run)


def test_a_bot_that_dies_before_its_promotion_asks_it_to_stop_is_rolled_back(stack: GuardStack) -> None:
    number = _judged(stack, "died", "barbara")
    bot = stack.bot()
    assert bot is not None
    os.kill(bot.pid, signal.SIGSTOP)  # it cannot take the revoke, which holds its stop up for a second
    stack.promote(number)
    os.kill(bot.pid, signal.SIGKILL)
    run = stack.wait_step(number, ("rolled_back",), 30)
    assert (run.reason, run.decided_criterion, run.decided_value) == ("candidate", "process_up", "0")
    proofs(stack, run)


def test_a_plan_that_changed_under_the_signature_parks_what_runs(stack: GuardStack) -> None:
    number = _launched(stack, "changed", "cecilia")
    epoch = stack.record.stage_run(number).epoch
    stack.kill("guard")
    text = stack.plan_path.read_text()
    stack.plan_path.write_text(text.replace("inventory_max_quote: 500", "inventory_max_quote: 600"))
    stack.start_guard()
    run = stack.wait_step(number, ("parked",), 30)
    stack.plan_path.write_text(text)
    assert (run.reason, run.decided_criterion) == ("environment", "plan_as_signed")
    assert run.epoch == epoch, "it was never granted again"
    proofs(stack, run)
