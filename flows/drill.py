"""Flow `drill`: asks the guard for one drill on what runs now. Its outcome stands in the record, and decides there."""

from __future__ import annotations

import time

from prefect import flow, get_run_logger, runtime

from flows.states import Completed, Failed, State
from gates.course import Step
from tasks.ask import GuardSilent, Refused, ask_guard, must
from tasks.record import FINAL_STEPS, Record, open_record
from tasks.record_tables import Drill, StageRun
from tasks.state_folder import StateFolder

OUTCOME_DEADLINE_S = 300.0
LOOK_EVERY_S = 0.5


@flow(name="drill", flow_run_name="{name}")
def drill(name: str, rollout: str | None = None) -> State:
    """`rollout`: on which; None is the newest that is in the middle of a watch. The watch begins anew after it."""
    record = open_record(StateFolder.here().record_url)
    try:
        run = _watched(record, rollout)
        if run is None:
            which = f"of rollout {rollout} " if rollout else ""
            return Failed(name="Refused", message=f"no stage {which}is in the middle of a watch")
        key = f"drill-{run.id}-{name}-{runtime.flow_run.id}"
        ended = frozenset(row.id for row in _of_name(record, run, name) if row.outcome)
        try:
            must(ask_guard(record, run.account, "drill", {"stage_run_id": run.id, "name": name}, key))
        except (Refused, GuardSilent) as refusal:
            return Failed(name="Refused", message=str(refusal))
        get_run_logger().info("drill %s on %s/%s", name, run.rollout, run.stage)
        return _outcome(record, run, name, ended)
    finally:
        record.close()


def _watched(record: Record, rollout: str | None) -> StageRun | None:
    runs = [run for run in record.stage_runs(rollout=rollout) if run.step in (Step.WATCH, Step.DRILLS)]
    return runs[-1] if runs else None


def _outcome(record: Record, run: StageRun, name: str, before: frozenset[int | None]) -> State:
    """Of the one that was asked for: what `before` names had ended by then."""
    end = time.monotonic() + OUTCOME_DEADLINE_S
    while time.monotonic() < end:
        row = next((row for row in _of_name(record, run, name) if row.outcome and row.id not in before), None)
        if row is not None:
            said = ", ".join(f"{key} {value}" for key, value in row.proof.items())
            if row.outcome == "passed":
                return Completed(name="Passed", message=f"tripped: {said}")
            return Failed(name="Failed" if row.outcome == "failed" else "NotRun", message=said)
        if record.stage_run(run.id or 0).step in FINAL_STEPS:
            return Failed(name="Ended", message="the stage ended before the drill did")
        time.sleep(LOOK_EVERY_S)
    return Failed(name="NotInTime", message=f"the drill has no outcome after {OUTCOME_DEADLINE_S:.0f} s")


def _of_name(record: Record, run: StageRun, name: str) -> list[Drill]:
    return [row for row in record.drills(run.id or 0) if row.name == name]
