"""The inbox: what others ask of the guard, answered row by row. Each request runs beside the others.

A stop and a sign-off never wait for a judgement that is under way; what moves the course forward goes one by one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from gates.course import Happening, IllegalStep, Step
from gates.decision import Action as GuardAction
from gates.decision import SignOffEnd, decide_guard, decide_sign_off
from tasks.guard.beginning import begin
from tasks.guard.closing import by_people, end_stage, promote
from tasks.guard.judging import judge_stage
from tasks.guard.launching import launch
from tasks.guard.state import Active, GuardState, Refused, now_ms
from tasks.record import FINAL_STEPS, RecordError
from tasks.record_tables import Inbox
from tasks.sign_off import Request, SeedsError

log = logging.getLogger("slipway.guard.requests")
EVERY_S = 0.2
AFTER_LAUNCH = (Step.LAUNCHING, Step.WARM_UP, Step.WATCH, Step.WATCHED, Step.JUDGED, Step.PROMOTING, Step.PROMOTED)


async def answer_for_ever(guard: GuardState) -> None:
    """Polls the inbox. A request that a dead guard left unanswered is taken up again: every kind is idempotent."""
    busy: dict[int, asyncio.Task[None]] = {}
    while True:
        try:
            for row in await guard.store.call(guard.store.record.waiting):
                number = row.id or 0
                if number not in busy:
                    busy[number] = guard.spawn(_answer(guard, row), f"inbox {number} {row.kind}")
        except SQLAlchemyError as error:
            log.error("inbox could not be read: %s", str(error).splitlines()[0])
        busy = {number: task for number, task in busy.items() if not task.done()}
        await asyncio.sleep(EVERY_S)


async def _answer(guard: GuardState, row: Inbox) -> None:
    number, record = row.id or 0, guard.store.record
    try:
        result = await HANDLERS[row.kind](guard, row.payload)
    except (Refused, IllegalStep, RecordError, SeedsError) as error:
        reason = str(error)
        log.info("refused %s: %s", row.kind, reason)
        await guard.store.call(lambda: record.reply(number, done=False, reason=reason))
    else:
        await guard.store.call(lambda: record.reply(number, done=True, result=result))


async def _begin(guard: GuardState, payload: dict[str, Any]) -> dict[str, Any]:
    async with guard.course:
        return await begin(guard, payload)


async def _launch(guard: GuardState, payload: dict[str, Any]) -> dict[str, Any]:
    async with guard.course:
        active = await _named(guard, payload)
        if isinstance(active, dict):
            return active
        if active.step in AFTER_LAUNCH:
            return {"step": active.row.step}
        if active.step is not Step.READY:
            raise Refused(f"nothing is launched before preflight has passed: the stage is {active.row.step}")
        quorum = await guard.store.call(guard.desk.quorum, active.gate("entry"))
        if not quorum.complete:
            raise Refused(f"entry sign-offs are missing: {', '.join(quorum.missing)}")
        await guard.move(active, Happening.LAUNCH_ASKED)
        active.launching = True
        guard.spawn(launch(guard, active), "launch")
        return {"step": active.row.step}


async def _judge(guard: GuardState, payload: dict[str, Any]) -> dict[str, Any]:
    async with guard.course:
        active = await _named(guard, payload)
        return active if isinstance(active, dict) else await judge_stage(guard, active)


async def _promote(guard: GuardState, payload: dict[str, Any]) -> dict[str, Any]:
    async with guard.course:
        active = await _named(guard, payload)
        if isinstance(active, dict):
            return active
        if active.step in (Step.PROMOTING, Step.PROMOTED):
            return {"step": active.row.step}
        if not active.at(Step.JUDGED) or active.row.verdict != "GO":
            raise Refused(f"only a stage with verdict GO is promoted: it is {active.row.step} ({active.row.verdict})")
        quorum = await guard.store.call(guard.desk.quorum, active.gate("exit"))
        if not quorum.complete:
            raise Refused(f"exit sign-offs are missing: {', '.join(quorum.missing)}")
        if active.history is not None:
            decision = decide_guard(active.criteria, active.history, now_ms())
            if decision.action is not GuardAction.CONTINUE:
                end_stage(guard, active, decision)
        if not active.at(Step.JUDGED):
            raise Refused(f"the stage became {active.row.step} meanwhile")
        await guard.move(active, Happening.PROMOTE_ASKED, replicas_frozen=True)
        if active.at(Step.PROMOTING):
            promote(guard, active)
        return {"step": active.row.step}


async def _sign_off(guard: GuardState, payload: dict[str, Any]) -> dict[str, Any]:
    active = await _named(guard, payload)
    if isinstance(active, dict):
        raise Refused(f"the stage is {active['step']}: nothing is signed any more")
    words = {name: str(payload.get(name, "")) for name in ("person", "decision", "code", "evidence_prefix", "comment")}
    request = Request(gate=str(payload.get("gate", "")), **words)
    gate = active.gate(request.gate)
    judged = await guard.store.call(guard.desk.judge, request, gate)
    guard.shown.pending(sign_offs=len(judged.quorum.missing))
    if not judged.accepted:
        raise Refused(judged.reason)
    guard.notice(active, "signed", f"{request.person} signed {request.decision} ({gate.name})", now_ms())
    if request.decision == "NO-GO":
        end = SignOffEnd.NO_GO_CANDIDATE if request.names_candidate else SignOffEnd.NO_GO
        end_stage(guard, active, decide_sign_off(end, gate.name, now_ms()))
    return {"accepted": True, "counted": list(judged.quorum.counted), "missing": list(judged.quorum.missing)}


async def _stop(guard: GuardState, payload: dict[str, Any]) -> dict[str, Any]:
    active = guard.active
    wanted = {"stage_run_id": payload.get("stage_run_id"), "rollout": payload.get("rollout")}
    if active is None or (wanted["stage_run_id"] != active.id and wanted["rollout"] != active.row.rollout):
        raise Refused(f"nothing of {wanted['rollout'] or wanted['stage_run_id']} runs on account {guard.account}")
    who, reason = str(payload.get("who", "somebody")), str(payload.get("reason", "no reason given"))
    end_stage(guard, active, by_people(who, reason))
    return {"step": active.row.step}


async def _named(guard: GuardState, payload: dict[str, Any]) -> Active | dict[str, Any]:
    """The active stage run that the request names; for one that has ended, its step as an answer."""
    wanted = payload.get("stage_run_id")
    if guard.active is not None and guard.active.id == wanted:
        return guard.active
    if not isinstance(wanted, int):
        raise Refused(f"stage_run_id: {wanted!r}, needs a whole number")
    row = await guard.store.call(guard.store.record.stage_run, wanted)
    if row.account != guard.account or row.step not in FINAL_STEPS:
        raise Refused(f"stage run {wanted} is {row.step} on account {row.account}, not busy here")
    return {"step": row.step, "word": row.verdict}


HANDLERS: dict[str, Callable[[GuardState, dict[str, Any]], Awaitable[dict[str, Any]]]] = {
    "begin": _begin,
    "launch": _launch,
    "judge": _judge,
    "promote": _promote,
    "sign_off": _sign_off,
    "stop": _stop,
}
