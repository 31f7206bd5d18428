"""The inbox's `enroll`: a person is given a seed, or another confirms that they are to be given a new one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from gates.approvers import Approvers, load_approvers
from gates.stages import Plan, load_plan, under_root
from tasks.account_file import load_account
from tasks.attestation import Taken
from tasks.enrolment import Confirmation, Enrolling, EnrolmentDesk
from tasks.guard.attesting import word
from tasks.guard.beginning import BAD_INPUT
from tasks.guard.state import GuardState, Refused
from tasks.record_audit import record_fault
from tasks.record_writer import Notice


async def enroll(guard: GuardState, payload: dict[str, Any]) -> dict[str, Any]:
    """Does it, or raises Refused or SeedsError with the reason. Idempotent by its row."""
    record, number = guard.store.record, payload["inbox_id"]
    try:
        plan, approvers = await asyncio.to_thread(_people, guard, Path(word(payload, "plan")))
    except BAD_INPUT as error:
        raise Refused(str(error)) from error
    asked = Enrolling(
        guard.account,
        word(payload, "person"),
        approvers,
        plan.author,
        number,
        str(payload.get("requested_by", ""))[:80],
    )
    await guard.store.call(record.know_account, plan.venue)
    # Who has confirmed stands in rows, and a new seed lets its owner sign: rows that were put in give nobody one.
    if fault := await guard.store.call(record_fault, record, guard.account):
        raise Refused(f"the record was changed by hand: {fault}")
    desk = EnrolmentDesk(record, guard.seeds, guard.folder.new_seeds)
    if not payload.get("by"):
        taken = await guard.store.call(desk.enroll, asked, word(payload, "seed_sha256"))
        return _answer(taken)
    again = await guard.store.call(record.attestation_of, number)
    if again is not None:
        taken = Taken(again.accepted, again.refused_reason, await guard.store.call(desk.missing, asked))
    else:
        said = Confirmation(word(payload, "by"), word(payload, "code"), payload["asked_at_s"])
        taken = await guard.store.call(desk.confirm, asked, said)
    if taken.accepted:
        words = f"[{guard.account}] {payload['by']} confirmed that {asked.person} is to be enrolled anew"
        notice = Notice(f"enrolment confirmed:{guard.account}:{number}", "enrolment_confirmed", words)
        await guard.store.call(record.queue_notices, [notice])
    return _answer(taken)


def _answer(taken: Taken) -> dict[str, Any]:
    if not taken.accepted:
        raise Refused(taken.reason)
    return {"accepted": True, "missing": list(taken.missing)}


def _people(guard: GuardState, plan_path: Path) -> tuple[Plan, Approvers]:
    """By the files as they are now. Raises Refused and what their loaders raise."""
    plan = load_plan(plan_path)
    approvers = load_approvers(under_root(plan.approvers))
    if approvers.demo:
        raise Refused(f"{plan.approvers}: demo people; `rollout up` enrols them; allowed: real people")
    access = load_account(guard.folder.root, guard.account)
    if access.venue != plan.venue:
        raise Refused(f"plan {plan.name} is for venue {plan.venue}, account {guard.account} is at {access.venue}")
    return plan, approvers
