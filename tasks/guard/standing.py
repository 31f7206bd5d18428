"""Whether what was signed stands still: the plan and its people, the record's rows, the evidence.

What does not is refused by name, told and recorded once. It ends nothing: whoever put it there can put it back.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from gates.stages import load_plan, plan_digest
from tasks.evidence_process import judged_name, signed_evidence_fault
from tasks.guard.beginning import BAD_INPUT
from tasks.guard.state import Active, GuardState, RefusedAndTold
from tasks.record_audit import measurements_fault, record_fault


async def refuse_what_was_changed(guard: GuardState, active: Active) -> None:
    """The plan with its criteria, settings and approvers is as it was signed, and so are the record's rows.

    Raises Refused: an approver who was taken away midway signs nothing, and one who was put in neither.
    """
    if fault := await asyncio.to_thread(_plan_fault, active):
        _refuse(guard, active, "plan_changed", fault)
    if fault := await guard.store.call(record_fault, guard.store.record, guard.account):
        _refuse(guard, active, "record_changed", fault)


async def refuse_other_measurements(guard: GuardState, active: Active) -> None:
    """What was measured of this candidate is what the verdicts and ends told: losses of earlier attempts count too.

    Raises Refused. Beside the record's own thread, where it would hold up what is measured now.
    """
    candidate = active.rollout.candidate
    fault = await asyncio.to_thread(measurements_fault, guard.store.record, guard.account, candidate)
    if fault:
        _refuse(guard, active, "record_changed", fault)


async def refuse_other_evidence(guard: GuardState, active: Active) -> None:
    """What people signed is what stands there. Raises Refused."""
    name = await guard.store.call(judged_name, guard.store.record, active.row)
    folder = Path(active.row.evidence_dir or "") / name
    fault = await asyncio.to_thread(signed_evidence_fault, folder, active.row.evidence_digest or "")
    if fault:
        _refuse(guard, active, "evidence_changed", f"the evidence is not what was signed: {fault}")


def _plan_fault(active: Active) -> str:
    try:
        found = plan_digest(load_plan(Path(active.row.plan_path)))
    except BAD_INPUT as error:
        return f"the plan does not load any more: {error}"
    signed = active.rollout.plan_digest
    if found == signed:
        return ""
    return f"plan, criteria, settings or approvers changed: they are {found[:12]}, signed was {signed[:12]}"


def _refuse(guard: GuardState, active: Active, kind: str, fault: str) -> None:
    if fault not in active.told:
        active.told.add(fault)
        record, body = guard.store.record, {"stage_run": active.id, "why": fault}
        guard.store.tell("refused", lambda: record.append("refused", body))
        guard.notice(active, kind, f"refused: {fault}", fault)
    raise RefusedAndTold(fault)
