"""Two people have a held bot resumed, through the guard and a real bot: strangers, used codes and one person do not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tasks.account_file import load_account
from tasks.record import Answer
from tests.support.guard_stack import GuardStack
from tests.support.plans import patient_brief

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[GuardStack]:
    """With people enough that nobody's code has to be waited for, and a watch that outlasts a hold."""
    plan = tmp_path / "plan.yaml"
    plan.write_text(patient_brief().replace("lasts_s: 9", "lasts_s: 600"))
    made = GuardStack(tmp_path / "home", plan)
    try:
        made.start_guard()
        yield made
    finally:
        made.close()


def test_a_held_bot_is_resumed_by_two_people_and_by_nobody_else(stack: GuardStack) -> None:
    number = stack.launch("held")
    run = stack.record.stage_run(number)
    first, second = "barbara", "cecilia"
    access = load_account(stack.folder.root, stack.account)
    headers = {"Authorization": f"Bearer {access.approve_token}"}

    def post(call: str, **body: str) -> httpx.Response:
        return httpx.post(f"{run.obs_url}/api/ui/{call}", json=body, headers=headers, timeout=5)

    def state() -> str:
        return str(httpx.get(f"{run.obs_url}/api/ui/status", timeout=5).json()["state"])

    def says(kind: str, person: str, code: str, **more: Any) -> Answer:
        return stack.ask(kind, {"person": person, "code": code, "comment": "looked", **more})

    post("hold", reason="somebody looks").raise_for_status()
    stack.until("it is held and nothing stands", lambda: state() == "HELD" and not stack.truth()["orders"], 15)

    stranger = says("release_ask", "mallory", "123456")
    assert "'mallory' is not one of the approvers" in stranger.reason
    code = stack.fresh_code(first)
    asked = says("release_ask", first, code, stop="operator_hold")
    assert asked.done, asked.reason
    request_id = asked.result["request_id"]
    alone = says("release_confirm", first, "123456", request_id=request_id)
    assert f"{first} asked for it; another person has to confirm" in alone.reason
    assert "already served" in says("release_ask", first, code).reason
    direct = post("resume-confirm", request_id=request_id, operator=second, code="123456")
    assert direct.status_code == 403, "the operator's token alone releases nothing"
    assert state() == "HELD"

    confirm = [sys.executable, "-m", "flows", "resume-confirm", request_id, "--by", second, "--comment", "so did I"]
    done = subprocess.run(
        [*confirm, "--code", "-"], input=f"{stack.fresh_code(second)}\n",
        env=stack.environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == f"{second} confirmed {request_id}: held/canary released operator_hold\n"
    stack.until("it quotes again", lambda: state() == "RUNNING" and stack.truth()["orders"], 15)
    kinds = [entry.kind for entry in stack.record.entries(stack.account)]
    assert kinds.count("release") == 5, "every word, refused ones too"
    assert kinds.count("release_answer") == 2
    assert stack.record.verify_chain(stack.account).ok
