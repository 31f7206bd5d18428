"""Flow `approval`: asks one person for one sign-off, by a form in the Prefect UI. One run per person and gate.

Prefect authenticates nobody behind the form and checks only its schema. So the form takes everything, the guard judges
it (identity by one-time code) through the inbox, and a refusal asks again, with the reason at the head of the form.

The run is suspended while it waits: its process ends, and its body starts from the top once the form is sent. Each
question has its own key, so an answered one is passed over and its answer read again; the guard in turn answers the
same request with what it said the first time.
"""

from __future__ import annotations

import time
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from uuid import UUID

import httpx
from prefect import flow, get_client, runtime, suspend_flow_run
from prefect.exceptions import PrefectException
from prefect.input import RunInput
from pydantic import Field

from flows.states import Completed, State
from flows.words import approval_question
from gates.course import FINAL, Step
from gates.stages import load_plan
from tasks.ask import GuardSilent, ask_guard
from tasks.evidence_process import judged_name
from tasks.record import Record, open_record
from tasks.record_tables import StageRun, utc_now
from tasks.state_folder import StateFolder

EVIDENCE_DEADLINE_S = 600.0
"""How long the flow waits for the evidence that is to be signed before it gives up; a new run asks again."""
RESUMING = "Resuming"
"""The name that Prefect gives the state of a suspended run whose form was sent."""
ENDED = "The stage has ended meanwhile; there is nothing to sign."


class Decision(StrEnum):
    """A drop-down in the form."""

    GO = "GO"
    NO_GO = "NO-GO"


class SignOffForm(RunInput):
    """What the person fills in. Permissive on purpose: the guard judges, and says what is wrong."""

    reviewer: str = Field(title="Reviewer", description="Your name, as in the approvers file.")
    decision: Decision = Field(title="Decision", description="GO promotes, NO-GO ends the stage.")
    one_time_code: str = Field(title="One-time code", description="Six digits from your authenticator.")
    evidence: str = Field(title="Evidence", description="First six characters of the digest of the evidence you read.")
    comment: str = Field(
        default="", title="Comment", description="With NO-GO: begin with 'candidate:' where the candidate is at fault."
    )


@flow(name="approval", flow_run_name="{gate} sign-off by {person}", persist_result=True)
def approval(stage_run_id: int, gate: str, person: str, link: str = "", visit: int = 1) -> State:
    """Asks until the guard accepts, the stage ends, or the time for sign-offs is over.

    `visit`: for which of the parts that the stage run has begun, counted from 1; 0 is the entry, before the first.
    """
    record = open_record(StateFolder.here().record_url)
    try:
        return _ask(record, stage_run_id, gate, person, link, visit)
    finally:
        record.close()


def _ask(record: Record, stage_run_id: int, gate: str, person: str, link: str, visit: int) -> State:
    refusal = ""
    asked = 0
    while True:
        stage_run = _askable(record, stage_run_id, gate, visit)
        if stage_run is None:
            return Completed(name="Ended", message=ENDED)
        left_s = _seconds_left(stage_run)
        if left_s <= 0:
            return Completed(name="Expired", message="The time for sign-offs is over.")
        question = approval_question(
            stage_run,
            gate,
            record.measurements_latest(stage_run_id),
            link,
            _evidence_page(record, stage_run),
            refusal,
            next_part=_next_part(stage_run) if gate == "exit" else "",
        )
        form = suspend_flow_run(
            wait_for_input=SignOffForm.with_initial_data(description=question, reviewer=person),
            timeout=int(left_s) + 1,
            key=f"question-{asked}",
        )
        payload = {
            "stage_run_id": stage_run_id,
            "gate": gate,
            "person": form.reviewer.strip(),
            "decision": form.decision.value,
            "code": form.one_time_code.strip(),
            "evidence_prefix": form.evidence.strip(),
            "comment": form.comment,
            "form_sent_at_s": _sent_at_s(),
        }
        key = f"sign-off-{runtime.flow_run.id}-{asked}"
        try:
            answer = ask_guard(record, stage_run.account, "sign_off", payload, key)
        except GuardSilent as silence:
            refusal = f"{silence}. Try again in a moment."
        else:
            if answer.done:
                missing = ", ".join(answer.result.get("missing", [])) or "nobody"
                return Completed(name="Signed", message=f"{form.reviewer}: {form.decision.value}. Missing: {missing}.")
            refusal = answer.reason
        asked += 1


def _sent_at_s() -> float:
    """When the person sent the form, wall clock: this process began only then, and on a busy machine takes its time.

    The server's word; now where it cannot be had.
    """
    now_s = time.time()
    try:
        with get_client(sync_client=True) as client:
            states = client.read_flow_run_states(UUID(str(runtime.flow_run.id)))
    except (PrefectException, httpx.HTTPError, ValueError):
        return now_s
    sent = [state.timestamp.timestamp() for state in states if state.name == RESUMING]
    return min(now_s, max(sent, default=now_s))


def _askable(record: Record, stage_run_id: int, gate: str, visit: int) -> StageRun | None:
    """The stage run once its evidence is there to be signed; None where the stage has passed this gate or ended."""
    end = time.monotonic() + EVIDENCE_DEADLINE_S
    passed = _passed(gate)
    while time.monotonic() < end:
        stage_run = record.stage_run(stage_run_id)
        if Step(stage_run.step) in passed or (gate == "exit" and len(record.parts(stage_run_id)) > visit):
            return None
        if stage_run.step == (Step.READY if gate == "entry" else Step.JUDGED):
            return stage_run
        time.sleep(0.2)
    raise TimeoutError(f"no evidence to sign for {gate} within {EVIDENCE_DEADLINE_S:.0f} s")


def _passed(gate: str) -> set[Step]:
    """The steps in which this gate has nothing left to ask."""
    ended = {*FINAL, Step.ROLLING_BACK, Step.ROLLBACK_FAILED, Step.PROMOTING}
    if gate == "entry":
        ended |= {Step.LAUNCHING, Step.WARM_UP, Step.DRILLS, Step.WATCH, Step.WATCHED, Step.JUDGED}
    return ended


def _seconds_left(stage_run: StageRun) -> float:
    """Until nobody is waited for any more, by the plan. The guard parks the stage then; the form ends with it."""
    plan = load_plan(Path(stage_run.plan_path))
    ends_s = plan.sign_offs_end_s(plan.stage(stage_run.stage))
    since = stage_run.judged_at or stage_run.ready_at or stage_run.created_at
    return (since + timedelta(seconds=ends_s) - utc_now()).total_seconds()


def _next_part(stage_run: StageRun) -> str:
    """What GO leads to, in words, where it is not the end of the stage; empty at the end."""
    stage = load_plan(Path(stage_run.plan_path)).stage(stage_run.stage)
    if stage_run.part >= stage.part_count - 1:
        return ""
    later = stage.at(stage_run.part + 1)
    return (
        f"{stage.part_name(stage_run.part + 1)}, {later.inventory_max_quote:f} per symbol on {', '.join(later.symbols)}"
    )


def _evidence_page(record: Record, stage_run: StageRun) -> str:
    """What is signed: the page of the part that was judged, else the stage run's."""
    if stage_run.evidence_dir is None:
        return ""
    signed = Path(stage_run.evidence_dir) / judged_name(record, stage_run) / "index.html"
    return str(signed if signed.exists() else Path(stage_run.evidence_dir) / "index.html")
