"""A canary through Prefect: a person signs in the browser, wrong and used codes are refused, a crash is rolled back."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tasks.bundle import save_bundle
from tasks.evidence_process import judged_name
from tasks.record_tables import Inbox, SignOff
from tasks.sign_off import STEP_S
from tests.flows.prefect_stack import PrefectStack
from tests.flows.sign_off_page import await_words, browser_page, fill_in, open_form
from tests.support.evidence_browser import shown
from tests.support.planted import shown_secrets

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]
USED = "this code has already served: wait for the next one"


def test_people_sign_in_the_browser_and_the_canary_is_promoted(prefect_stack: PrefectStack) -> None:
    stack = prefect_stack
    flow_run_id = stack.run_deployment(rollout="signed")
    run = stack.stage_run("signed")
    number = run.id or 0
    ui_url = stack.table().endpoints["prefect_ui"]
    asked = stack.approval(number, "entry", "ada")

    with browser_page() as page:
        dialog = open_form(page, ui_url, asked["id"])
        await_words(dialog, "preflight checks PASS")
        assert "refused" not in dialog.inner_text()
        fill_in(page, dialog, "000000", stack.prefix(number, "entry"))

        # a wrong code: asked again, with the reason
        again = stack.approval(number, "entry", "ada", not_state=asked["state"]["id"])
        dialog = open_form(page, ui_url, again["id"])
        await_words(dialog, "Your last answer was refused: wrong code (4 tries left)")

        # the right one: accepted
        from_s = time.time()
        fill_in(page, dialog, stack.fresh_code("ada"), stack.prefix(number, "entry"))
        until_s = time.time()
        signed = stack.until(
            "ada has signed", lambda: stack.record.sign_offs(number, "entry", accepted=True) or None, 60
        )
    assert [(row.person, row.decision) for row in signed] == [("ada", "GO")]
    asked_of_the_guard = _request_of(stack, signed[0])
    sent_s = asked_of_the_guard.payload["form_sent_at_s"]
    assert from_s < sent_s < until_s, "the code counts as of when the form was sent, not of when its new process asked"
    assert sent_s + 0.1 < asked_of_the_guard.created_at.timestamp()

    # the others sign by the same form through the API, at the start of a time step: the code has to serve twice below
    stack.sign(number, "entry", "grace")
    _await_start_of_a_step()
    used, until_s = stack.sign(number, "entry", "katherine"), (time.time() // STEP_S + 2) * STEP_S
    stack.until_step(number, "judged", within_s=120)

    # a used code, sent again while it would still be valid: refused
    asked = stack.approval(number, "exit", "katherine")
    form = {"reviewer": "katherine", "decision": "GO", "evidence": stack.prefix(number, "exit")}
    assert stack.send(asked, one_time_code=used, **form) == "ACCEPT"
    again = stack.approval(number, "exit", "katherine", not_state=asked["state"]["id"])
    (refused,) = stack.record.sign_offs(number, "exit", accepted=False)
    still_valid = _request_of(stack, refused).payload["form_sent_at_s"] < until_s
    assert refused.refused_reason == (USED if still_valid else "wrong code")
    assert f"Your last answer was refused: {refused.refused_reason}" in (stack.question(again) or "")

    stack.sign(number, "exit", "katherine")
    stack.sign(number, "exit", "ada")
    ended = stack.until_step(number, "promoted")
    assert None not in (ended.bot_gone_at, ended.none_open_at, ended.flat_at), "promoted is left flat, and proven so"
    truth = stack.truth(ended.account)
    assert truth["orders"] == []
    assert truth["positions"] == []
    state = stack.until_ended(flow_run_id)
    assert state["name"] == "Promoted"
    names = {one["key"].rpartition("canary-")[2] for one in _artifacts(stack, flow_run_id)}
    assert {"criteria", "sign-offs", "decision", "entry-evidence", "exit-evidence"} <= names
    asked_by = [text for text in stack.receiver.texts if "sign-offs wanted" in text]
    assert len(asked_by) == 2
    assert all(f"/v2/runs/flow-run/{flow_run_id}" in text and "of ada, grace, katherine" in text for text in asked_by)
    _evidence_is_shown(Path(str(ended.evidence_dir)), judged_name(stack.record, ended))


def _request_of(stack: PrefectStack, row: SignOff) -> Inbox:
    """What the guard was asked for that sign-off."""
    with stack.record.reading() as session:
        asked = session.get(Inbox, row.inbox_id)
    assert asked is not None
    return asked


def _evidence_is_shown(folder: Path, signed: str) -> None:
    """What was signed, and what was left at the end, as a browser shows it from its folder."""
    with browser_page() as page:
        for file, said in ((folder / signed / "index.html", "GO"), (folder / "index.html", "PROMOTED")):
            headline, widths = shown(page, file)
            assert headline.startswith("signed / canary: ")
            assert said in headline
            assert len(widths) == 3
            assert min(widths) > 0, f"{file}: an image is not shown"


def test_a_crash_is_rolled_back_and_the_flow_says_so(prefect_stack: PrefectStack) -> None:
    stack = prefect_stack
    flow_run_id = stack.run_deployment(rollout="crashed")
    number = stack.stage_run("crashed").id or 0
    for person in ("ada", "grace", "katherine"):
        stack.sign(number, "entry", person)
    run = stack.until_step(number, "watch")
    assert run.pid is not None
    os.kill(run.pid, signal.SIGKILL)
    ended = stack.until_step(number, "rolled_back")
    assert (ended.reason, ended.decided_criterion) == ("candidate", "process_up")
    truth = stack.truth(ended.account)
    assert truth["orders"] == []
    assert truth["positions"] == []
    state = stack.until_ended(flow_run_id)
    assert state["name"] == "RolledBack"
    assert "process_up" in state["message"]
    # nobody is left with a form for a stage that has ended
    paused = stack.api.post("/flow_runs/filter", json={"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}}).json()
    assert [one for one in paused if one["parameters"].get("stage_run_id") == number] == []
    save_bundle(stack.folder, "to be looked into for secrets")
    assert len(stack.receiver.texts) > 1, "no notice was sent again after its failure"
    assert shown_secrets(stack.folder, {"webhook": stack.receiver.secret}) == []


def test_an_unknown_stage_ends_the_flow_before_anything_is_opened(prefect_stack: PrefectStack) -> None:
    stack = prefect_stack
    flow_run_id = stack.run_deployment(stage="soak", rollout="too-early")
    state = stack.until_ended(flow_run_id)
    assert "soak" in state["message"]
    assert stack.record.stage_runs(rollout="too-early") == []


def _await_start_of_a_step() -> None:
    end = time.monotonic() + STEP_S + 1
    while int(time.time()) % STEP_S > 3 and time.monotonic() < end:
        time.sleep(0.1)


def _artifacts(stack: PrefectStack, flow_run_id: str) -> list[dict[str, str]]:
    query = {"artifacts": {"flow_run_id": {"any_": [flow_run_id]}}}
    answer = stack.api.post("/artifacts/filter", json=query).raise_for_status().json()
    assert isinstance(answer, list)
    return answer
