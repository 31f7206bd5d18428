"""The inbox: what others ask of the guard, answered row by row. Each request runs beside the others.

A stop and a sign-off never wait for a judgement that is under way; what moves the course forward goes one by one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from gates.approvers import Quorum
from gates.course import Happening, IllegalStep, Step
from tasks.guard.attesting import attest
from tasks.guard.beginning import begin, refuse_what_changed
from tasks.guard.closing import by_no_go, end_stage
from tasks.guard.damage import refuse_damaged
from tasks.guard.drilling import drill_by_hand
from tasks.guard.enrolling import enroll
from tasks.guard.judging import judge_stage
from tasks.guard.launching import launch
from tasks.guard.promoting import promote_stage
from tasks.guard.releasing import release_ask, release_confirm
from tasks.guard.spent import refuse_burnt, refuse_without_attempt
from tasks.guard.standing import refuse_what_was_changed
from tasks.guard.state import Active, GuardState, Refused, RefusedAndTold, RefusedForNow
from tasks.guard.stopping import stop_asked
from tasks.guard.taking_over import take_over
from tasks.record import FINAL_STEPS, FOR_NOW, RecordError
from tasks.record_damage import DamagedRow
from tasks.record_engine import RecordDamaged, is_away, storable
from tasks.record_tables import Inbox, SignOff
from tasks.sign_off import Request, SeedsError

log = logging.getLogger("slipway.guard.requests")
EVERY_S = 0.2
RECORD_AGAIN_S = 0.5
AFTER_LAUNCH = (
    Step.LAUNCHING,
    Step.WARM_UP,
    Step.DRILLS,
    Step.WATCH,
    Step.WATCHED,
    Step.JUDGED,
    Step.PROMOTING,
    Step.PROMOTED,
)


async def answer_for_ever(guard: GuardState) -> None:
    """Polls the inbox. A request that a dead guard left unanswered is taken up again: every kind is idempotent."""
    busy: dict[int, asyncio.Task[None]] = {}
    while True:
        try:
            for row in await guard.store.call(guard.store.record.waiting):
                number = row.id or 0
                if number in busy:
                    continue
                if isinstance(row, DamagedRow):
                    busy[number] = guard.spawn(_answer_damaged(guard, row), f"inbox {number}")
                else:
                    busy[number] = guard.spawn(_answer(guard, row), f"inbox {number} {row.kind}")
        except SQLAlchemyError as error:
            log.error("inbox could not be read: %s", str(error).splitlines()[0])
        busy = {number: task for number, task in busy.items() if not task.done()}
        await asyncio.sleep(EVERY_S)


async def _answer_damaged(guard: GuardState, row: DamagedRow) -> None:
    with contextlib.suppress(RefusedForNow):  # it waits until it is known what runs
        await refuse_damaged(guard, row)


async def _answer(guard: GuardState, row: Inbox) -> None:
    number, record = row.id or 0, guard.store.record
    try:
        # When it was asked is the record's word, not the payload's: a code that has waited here is no wrong code.
        known = {"asked_at_s": _asked_at_s(row), "inbox_id": number}
        result = await HANDLERS[row.kind](guard, {**storable(row.payload), **known})
    except (Refused, IllegalStep, RecordError, RecordDamaged, SeedsError) as error:
        log.info("refused %s: %s", row.kind, error)
        told, for_now = isinstance(error, RefusedAndTold), isinstance(error, RefusedForNow)
        await _refuse(guard, row, str(error), told=told, for_now=for_now)
    except Exception as error:
        if is_away(error):  # the row waits, and is taken up again
            log.error("inbox %d %s waits for the record: %s", number, row.kind, str(error).splitlines()[0])
            await asyncio.sleep(RECORD_AGAIN_S)
            return
        # A row that nobody expected is answered once, and not tried for ever.
        log.error("refused inbox %d %s: %s", number, row.kind, type(error).__name__, exc_info=error)
        await _refuse(guard, row, f"the guard could not handle it: {type(error).__name__}")
    else:
        await guard.store.call(lambda: record.reply(number, done=True, result=result))


def _asked_at_s(row: Inbox) -> float:
    """When it was asked, wall clock: when the form was sent where one says so, but never later than it came here.

    Somebody who lies about it gains nothing but 90 s for a code of their own: an older one is refused unread.
    """
    came_at_s, sent_at_s = row.created_at.timestamp(), row.payload.get("form_sent_at_s")
    if isinstance(sent_at_s, bool) or not isinstance(sent_at_s, int | float):
        return came_at_s
    return min(came_at_s, float(sent_at_s))  # in this order, NaN is not the lesser


async def _refuse(guard: GuardState, row: Inbox, why: str, *, told: bool = False, for_now: bool = False) -> None:
    """Answers it and records it, both or neither. `told`: a row or a link of its own says so already. `for_now`: who
    asked may ask again, and is told so."""
    now_s, number = time.monotonic(), row.id or 0
    link = None if told else guard.refusals.link(row.kind, why, now_s)
    result = {FOR_NOW: True} if for_now else None
    await guard.store.call(
        lambda: guard.store.record.reply(number, done=False, reason=why, result=result, refused=link)
    )
    if link is not None:
        guard.refusals.told(row.kind, why, now_s)


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
        await refuse_what_was_changed(guard, active)
        quorum = await guard.store.call(guard.desk.quorum, active.gate("entry"))
        if not quorum.complete:
            raise Refused(f"entry sign-offs are missing: {', '.join(quorum.missing)}")
        await refuse_what_changed(guard, active)
        await refuse_burnt(guard, active)
        await refuse_without_attempt(guard, active)
        active.refuse_unless(Step.READY)
        await guard.move(active, Happening.LAUNCH_ASKED)
        if active.at(Step.LAUNCHING):
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
        return active if isinstance(active, dict) else await promote_stage(guard, active)


async def _drill(guard: GuardState, payload: dict[str, Any]) -> dict[str, Any]:
    async with guard.course:
        active = await _named(guard, payload)
        if isinstance(active, dict):
            raise Refused(f"the stage is {active['step']}: nothing runs that could be drilled")
        await drill_by_hand(guard, active, str(payload.get("name", "")))
        return {"step": active.row.step}


async def _sign_off(guard: GuardState, payload: dict[str, Any]) -> dict[str, Any]:
    again = await guard.store.call(guard.store.record.sign_off_of, payload["inbox_id"])
    if again is not None:
        return await _signed_before(guard, again)
    active = await _named(guard, payload)
    if isinstance(active, dict):
        raise Refused(f"the stage is {active['step']}: nothing is signed any more")
    named = ("person", "decision", "code", "evidence_prefix", "comment")
    words = {name: str(payload.get(name, "")) for name in named}
    asked_at_s, inbox_id = payload["asked_at_s"], payload["inbox_id"]
    request = Request(**words, gate=str(payload.get("gate", "")), asked_at_s=asked_at_s, inbox_id=inbox_id)
    gate = active.gate(request.gate)
    if request.decision != "NO-GO":  # against it people may always be
        await refuse_what_was_changed(guard, active)
    judged = await guard.store.call(guard.desk.judge, request, gate)
    guard.shown.pending(sign_offs=len(judged.quorum.missing))
    if not judged.accepted:
        raise RefusedAndTold(judged.reason)
    _tell_signed(guard, active, inbox_id, request.person, request.decision, gate.name)
    if request.decision == "NO-GO":
        end_stage(guard, active, by_no_go(gate.name, request.person, request.comment))
    await guard.store.written()  # who is told that it is accepted may rely on it, whatever dies next
    return _signed(judged.quorum)


def _tell_signed(guard: GuardState, active: Active, inbox_id: int, person: str, decision: str, gate: str) -> None:
    """Once for each request, also where the guard that took it died before it had told of it."""
    guard.notice(active, "signed", f"{person} signed {decision} ({gate})", inbox_id)


async def _signed_before(guard: GuardState, row: SignOff) -> dict[str, Any]:
    """The same request again, whose answer got lost: what became of it the first time, and nothing is judged anew."""
    if not row.accepted:
        raise RefusedAndTold(row.refused_reason)
    active = guard.active
    if active is None or active.id != row.stage_run_id:
        return {"accepted": True, "counted": [row.person] if row.decision == "GO" else [], "missing": []}
    _tell_signed(guard, active, row.inbox_id or 0, row.person, row.decision, row.gate)
    if row.decision == "NO-GO":
        end_stage(guard, active, by_no_go(row.gate, row.person, row.comment))
    await guard.store.written()
    try:
        return _signed(await guard.store.call(guard.desk.quorum, active.gate(row.gate)))
    except Refused:  # the gate has been passed since
        return {"accepted": True, "counted": [row.person] if row.decision == "GO" else [], "missing": []}


def _signed(quorum: Quorum) -> dict[str, Any]:
    return {"accepted": True, "counted": list(quorum.counted), "missing": list(quorum.missing)}


async def _named(guard: GuardState, payload: dict[str, Any]) -> Active | dict[str, Any]:
    """The active stage run that the request names; for one that has ended, its step as an answer."""
    wanted = payload.get("stage_run_id")
    if guard.active is not None and guard.active.id == wanted:
        return guard.active
    if not isinstance(wanted, int):
        raise Refused(f"stage_run_id: {wanted!r}, needs a whole number")
    row = await guard.store.call(guard.store.record.stage_run, wanted)
    if row.account == guard.account and row.step not in FINAL_STEPS and guard.active is None:
        raise RefusedForNow(f"stage run {wanted} is {row.step}, and not taken up by the guard yet: ask again")
    if row.account != guard.account or row.step not in FINAL_STEPS:
        raise Refused(f"stage run {wanted} is {row.step} on account {row.account}, not busy here")
    return {"step": row.step, "word": row.verdict}


HANDLERS: dict[str, Callable[[GuardState, dict[str, Any]], Awaitable[dict[str, Any]]]] = {
    "begin": _begin,
    "launch": _launch,
    "judge": _judge,
    "promote": _promote,
    "drill": _drill,
    "sign_off": _sign_off,
    "attest": attest,
    "enroll": enroll,
    "release_ask": release_ask,
    "release_confirm": release_confirm,
    "stop": stop_asked,
    "takeover": take_over,
}
