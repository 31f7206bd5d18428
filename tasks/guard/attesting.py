"""The inbox's `attest`: what a person says about a candidate, whether a stage of it runs or not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from gates.approvers import load_approvers
from gates.stages import Plan, attested_items, under_root
from tasks.attestation import Asked, AttestationDesk, Evidence, Statement, lacking
from tasks.guard.beginning import BAD_INPUT, candidate_of
from tasks.guard.state import GuardState, Refused, RefusedAndTold
from tasks.record_tables import Attested


async def attest(guard: GuardState, payload: dict[str, Any]) -> dict[str, Any]:
    """Takes it, or raises Refused with the reason; either way a row in the record says so. Idempotent by its row."""
    record, number = guard.store.record, payload["inbox_id"]
    again = await guard.store.call(record.attestation_of, number)
    if again is not None:
        return await _answered(guard, again, payload)
    try:
        asked, plan = await asyncio.to_thread(_asked, guard, payload)
    except BAD_INPUT as error:
        raise Refused(str(error)) from error
    words = {name: word(payload, name) for name in ("item", "person", "code")}
    comment = str(payload.get("comment", "")).encode(errors="replace").decode()
    said = Statement(**words, comment=comment, asked_at_s=payload["asked_at_s"], inbox_id=number)
    evidence = Evidence(Path(word(payload, "evidence")), word(payload, "sha256"), _bytes(payload))
    if not evidence.path.resolve().is_relative_to(guard.folder.attestations.resolve()):
        raise Refused(f"evidence: {evidence.path} is not kept; allowed: a file below {guard.folder.attestations}")
    await guard.store.call(record.know_account, plan.venue)
    desk = AttestationDesk(record, guard.seeds)
    taken = await guard.store.call(desk.take, said, asked, evidence)
    if not taken.accepted:
        raise RefusedAndTold(taken.reason)
    return {"accepted": True, "candidate": asked.candidate, "missing": list(taken.missing)}


def _asked(guard: GuardState, payload: dict[str, Any]) -> tuple[Asked, Plan]:
    """By the files as they are now. Raises Refused and what their loaders raise."""
    rollout, plan = candidate_of(guard, "", Path(word(payload, "plan")), payload)
    approvers = load_approvers(under_root(plan.approvers))
    return Asked(guard.account, rollout.candidate, attested_items(plan), approvers, plan.author), plan


async def _answered(guard: GuardState, row: Attested, payload: dict[str, Any]) -> dict[str, Any]:
    """The same request again, whose answer got lost: accepted as it was, and what the item lacks now."""
    if not row.accepted:
        raise RefusedAndTold(row.refused_reason)
    try:
        asked, _ = await asyncio.to_thread(_asked, guard, payload)
    except (*BAD_INPUT, Refused) as error:
        missing: tuple[str, ...] = (f"what else is missing could not be read: {error}",)
    else:
        item = next((one for one in asked.items if one.id == row.item), None)
        asked = replace(asked, candidate=row.candidate)
        missing = () if item is None else await guard.store.call(lacking, asked, item, guard.store.record)
    return {"accepted": True, "candidate": row.candidate, "missing": list(missing)}


def word(payload: dict[str, Any], name: str) -> str:
    """What stands under that name, as it can stand in a table. Raises Refused where it is no word."""
    value = payload.get(name)
    if not isinstance(value, str) or not value.strip():
        secret = name == "code" and not isinstance(value, str | None)  # a code that came as a number may still be good
        raise Refused(f"{name}: {'not shown' if secret else repr(value)}, needs a word")
    return value.strip().encode(errors="replace").decode()  # half a surrogate stands in no table


def _bytes(payload: dict[str, Any]) -> int:
    value = payload.get("size_bytes")
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise Refused(f"size_bytes: {value!r}, needs a whole number above 0")
    return value
