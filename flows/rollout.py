"""Flow `rollout`: takes a candidate through one stage (or, as `full`, through all): asks people, shows, promotes.

The guard owns the bot; this flow only asks it (launch, judge, promote) and asks people. It may die at any moment: a new
run of the same deployment reads the record and goes on where the stage stands. The course itself is in `flows.stage`.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prefect import flow, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.flows import Flow

from flows.stage import ASK_TRIES, Course, submit_stop, take_through
from flows.states import Completed, Failed, State
from flows.words import end_sentence
from gates.course import Step
from gates.stages import Plan, PlanError, load_plan
from tasks.account_file import SIMULATED, real_accounts
from tasks.ask import Refused, ask_guard, must
from tasks.names import NameRefused, check_name
from tasks.record import Record, open_record
from tasks.record_stops import Created, clock_here
from tasks.resume import CannotResume, continued_run, open_run, resumed, unfinished_rollout
from tasks.simulated_account import open_account, retire_finished
from tasks.state_folder import REPOSITORY, StateFolder

BEGIN_TIMEOUT_S = 90
LOOPBACK = ("127.0.0.1", "localhost", "::1")
REFUSALS = (PlanError, Refused, NameRefused, CannotResume)
FULL = "full"
"""The deployment that goes through every stage of the plan."""


def stop_what_was_cancelled(flow: Flow[Any, Any], flow_run: FlowRun, state: State) -> None:
    """Cancelling the run in Prefect means stop. A second way only: the flow's own loop sees the wish too."""
    parameters = flow_run.parameters
    folder = StateFolder.here()
    plan = load_plan(plan_path(parameters.get("plan")))
    record = open_record(folder.record_url)
    try:
        named = parameters.get("rollout"), parameters.get("account")
        found = open_run(record, folder, str(parameters.get("stage")), plan.name, *named)
        if found is not None:
            submit_stop(record, found)
    finally:
        record.close()


@flow(name="rollout", flow_run_name="{stage} {rollout}", on_cancellation=[stop_what_was_cancelled])
def rollout(stage: str, plan: str | None = None, rollout: str | None = None, account: str | None = None) -> State:
    """One stage, or `full`: every stage of the plan from the first that has not passed.

    `plan`: path; None is the plan that `rollout up` recorded, else configs/rollout.yaml. `rollout`: a name; None
    continues the newest unfinished one of stage and plan, else makes a new one. A name that is known is resumed as the
    candidate it is, on its own account: a parked stage begins its next attempt. `account`: None on the simulated venue,
    where each rollout gets a new one; anywhere else one that was set up for the stage's env.
    """
    folder = StateFolder.here()
    path = plan_path(plan)
    try:
        loaded = load_plan(path)
    except PlanError as error:
        return Failed(name="Refused", message=str(error))
    record = open_record(folder.record_url)
    try:
        what = Beginning(record, folder, path, loaded, record.newest_request(), run_created())
        if stage != FULL:
            return _run_stage(what, stage, rollout, account)
        name = rollout or unfinished_rollout(record, folder, loaded.name, account) or _new_name(stage)
        ended: State = Completed(name="Nothing", message="Every stage has passed already.")
        for one in [one.id for one in loaded.stages]:
            if _has_passed(record, name, one):
                continue
            ended = _run_stage(what, one, name, account)
            if not ended.is_completed():
                break
        return ended
    finally:
        record.close()


def plan_path(given: str | None) -> Path:
    """The plan to use, absolute. A relative path counts from the repository."""
    path = Path(given or os.environ.get("SLIPWAY_PLAN") or "configs/rollout.yaml")
    return path if path.is_absolute() else REPOSITORY / path


def _new_name(stage: str) -> str:
    """From the flow run, so that a repeated task asks for the same rollout again and not for a second."""
    return f"{stage}-{runtime.flow_run.scheduled_start_time:%Y%m%d-%H%M%S}-{runtime.flow_run.id[:4]}"


def _has_passed(record: Record, rollout: str, stage: str) -> bool:
    return any(run.stage == stage and run.step == Step.PROMOTED for run in record.stage_runs(rollout=rollout))


def _run_stage(what: Beginning, stage: str, rollout: str | None, account: str | None) -> State:
    record, plan = what.record, what.plan
    try:
        plan.stage(stage)  # an unknown or unavailable stage is refused here, before anything is opened
        for called, name in (("rollout", rollout), ("account", account)):
            if name is not None:
                check_name(called, name)
        number = begin(what, stage, rollout, account)
    except REFUSALS as refusal:
        return Failed(name="Refused", message=str(refusal))
    ended = take_through(Course(record, number, plan, _link()))
    if ended.step == Step.PROMOTED:
        return Completed(name="Promoted", message=end_sentence(ended))
    return Failed(name="RolledBack" if ended.step == Step.ROLLED_BACK else "Parked", message=end_sentence(ended))


def _link() -> str:
    """Where people see this flow run; empty where no server is named."""
    server = os.environ.get("PREFECT_API_URL", "").removesuffix("/api")
    return f"{server}/v2/runs/flow-run/{runtime.flow_run.id}" if server else ""


def run_created() -> Created:
    """When Prefect's server wrote this flow run down, and by whose clock: this machine's where the server is here."""
    context = FlowRunContext.get()
    run = None if context is None else context.flow_run
    at = None if run is None else run.created
    host = urlsplit(os.environ.get("PREFECT_API_URL", "")).hostname
    # What is not known is of long ago: every stop that was ever said of it holds.
    return Created(0 if at is None else int(at.timestamp() * 1000), clock_here() if host in LOOPBACK else "")


class Beginning:
    """What `begin` works with; one opaque object, so that Prefect does not look into it for futures."""

    def __init__(
        self, record: Record, folder: StateFolder, path: Path, plan: Plan, requests_seen: int, created: Created
    ) -> None:
        """`requests_seen`: the newest request in the inbox when the flow run began. A stop behind it is meant for this
        run, and so is one that was said since it was `created`, while it was queued."""
        self.record, self.folder, self.path, self.plan = record, folder, path, plan
        self.requests_seen, self.created = requests_seen, created


def is_no_refusal(task: object, task_run: object, state: State) -> bool:
    """A refusal stands: asked again it would be the same answer, or a stage that a newer run has begun meanwhile."""
    return not isinstance(state.data, REFUSALS)


@task(
    retries=ASK_TRIES,
    retry_delay_seconds=2,
    retry_condition_fn=is_no_refusal,
    timeout_seconds=BEGIN_TIMEOUT_S,
    cache_policy=NO_CACHE,
)
def begin(what: Beginning, stage: str, rollout: str | None, account: str | None) -> int:
    """Continues the unfinished stage run or asks the guard for a new one; returns its number."""
    record, plan = what.record, what.plan
    found = continued_run(record, what.folder, stage, plan.name, rollout, account)
    if found is not None and found.id is not None:
        get_run_logger().info("continuing %s/%s, which is at %s", found.rollout, found.stage, found.step)
        return found.id
    name = rollout or _new_name(stage)
    simulated = plan.venue == SIMULATED
    known_as = resumed(record, what.folder, name, account)
    if known_as is not None:
        account, nonce = known_as
    else:
        nonce = secrets.token_hex(4) if simulated else ""
    if simulated and account is None:
        retire_finished(what.folder, record)
        account = open_account(what.folder, name)
    if account is None:
        known = ", ".join(real_accounts(what.folder.accounts, plan.venue)) or "none is set up (`rollout account add`)"
        raise Refused(f"account: none given; plan {plan.name} trades on {plan.venue}, allowed: {known}")
    payload = {
        "rollout": name,
        "stage": stage,
        "plan": str(what.path),
        "nonce": nonce,
        "link": _link(),
        "requests_seen": what.requests_seen,
        "run_created_ms": what.created.at_ms,
        "run_created_on": what.created.machine,
        "requested_by": f"prefect:{runtime.flow_run.name or runtime.flow_run.id}",
    }
    get_run_logger().info("rollout %s on account %s, plan %s", name, account, plan.name)
    answer = ask_guard(record, account, "begin", payload, f"begin-{name}-{stage}-{runtime.flow_run.id}")
    return int(must(answer)["stage_run_id"])
