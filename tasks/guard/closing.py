"""Ends a stage run: decided once, closed with proof, bundled, told. Also the end of a promotion."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from gates.course import Happening, Step
from gates.decision import Action, Decision
from gates.judge import plain
from tasks.evidence_process import EvidenceFailed, build_evidence
from tasks.guard.grants import BotPermission
from tasks.guard.state import Active, GuardState, now_ms
from tasks.guard.store import StepRecorder
from tasks.record_tables import RollbackStep, utc_now
from tasks.rollback import STEPS, Closing, Waits, proof_wait_s
from tasks.venue_desk import VenueDesk

log = logging.getLogger("slipway.guard.closing")
SETTLE_S = 5.0


def end_stage(guard: GuardState, active: Active, decision: Decision) -> None:
    """A guard's, a judge's or a person's end of the stage. Never waits; the first decision holds, a repeat is noted."""
    if active.step in (Step.ROLLING_BACK, Step.ROLLBACK_FAILED):
        return
    guard.granting = False
    active.decision = decision
    why = decision.sentence or decision.action.value
    log.warning("ending %s: %s %s: %s", active.row.rollout, decision.reason, decision.criterion_id, why)
    guard.move_at_once(active, Happening.STOPPED, **_written(decision), replicas_frozen=True, seen_at=utc_now())
    value = "" if decision.value is None else f" is {plain(decision.value)}"
    word = "NO-GO" if decision.action is Action.ROLL_BACK else "parking"
    said = f"{word}, {decision.reason}: {decision.criterion_id}{value} ({decision.limit}): {why}"
    guard.notice(active, "no_go", said)
    if active.closing is None or active.closing.done():
        active.closing = guard.spawn(close(guard, active), "closing")


def promote(guard: GuardState, active: Active) -> None:
    """Closes a stage that people and judge let pass. The course has already moved to PROMOTING."""
    if active.closing is None or active.closing.done():
        active.closing = guard.spawn(close(guard, active), "closing")


def continue_closing(guard: GuardState, active: Active) -> None:
    """After a restart of the guard: the steps begin anew, the decision stands as it was written."""
    guard.granting = False
    active.closing = guard.spawn(close(guard, active), "closing")


async def close(guard: GuardState, active: Active) -> None:
    """Steps 0 to 3 until they are proven, then 4 and 5, then the final step of the course."""
    recorder = StepRecorder(guard.store, active.id, lambda row: _on_step(guard, active, row))
    if active.row.state_dir is None:
        await _nothing_to_close(active, recorder)
    else:
        await _closing(guard, active, recorder).run()
    _forget_bot(guard, active)
    await _bundle(guard, active, recorder)
    await _finish(guard, active, recorder)


def _closing(guard: GuardState, active: Active, recorder: StepRecorder) -> Closing:
    plan, stage = active.plan, active.stage
    wait_s = proof_wait_s(plan.grant_ttl_s, plan.recv_window_ms, plan.quote_interval_ms / 1000)

    async def on_failed(words: str) -> None:
        guard.notice(active, "rollback_failed", f"ROLLBACK_FAILED: {words}")
        if active.step is Step.PROMOTING:
            end_stage(guard, active, _unproven(words))
        guard.move_at_once(active, Happening.PROOF_LATE)

    return Closing(
        stage_run_id=active.id,
        permission=BotPermission(guard, active, lambda: _on_gone(active)),
        desk=VenueDesk(active.access, stage.symbols),
        log=recorder,
        waits=Waits(wait_s, stage.proof_deadline_s),
        flatten=stage.flatten,
        on_failed=on_failed,
    )


def _unproven(words: str) -> Decision:
    return Decision(Action.PARK, "environment", "closing", None, "proven within its deadline", (), now_ms(), words)


async def _nothing_to_close(active: Active, recorder: StepRecorder) -> None:
    """No grant was ever given in this stage run, so nothing of it can stand at the venue."""
    active.bot_gone = True
    for number, name in enumerate(STEPS[:4]):
        why = {"why": "nothing was launched in this stage run: no grant was given, no order can stand"}
        row = RollbackStep(stage_run_id=active.id, number=number, name=name, state="skipped", proof=why)
        await recorder.write(row)


def _on_gone(active: Active) -> None:
    active.bot_gone = True


def _on_step(guard: GuardState, active: Active, row: RollbackStep) -> None:
    log.info("step %d %s %s %s", row.number, row.name, row.state, row.error)
    guard.shown.rollback_step(row.name, row.state == "verified")
    if row.state == "verified":
        guard.notice(active, "rollback_step", f"{row.name}: proven", row.number)


def _forget_bot(guard: GuardState, active: Active) -> None:
    active.bot_gone = True
    if active.row.run:
        (guard.folder.targets / f"{active.row.run}.json").unlink(missing_ok=True)
    if active.data_check is not None:
        active.data_check.cancel()


async def _bundle(guard: GuardState, active: Active, recorder: StepRecorder) -> None:
    """Step 4. A bundle that cannot be built is told and recorded; what is proven stays proven."""
    row = RollbackStep(stage_run_id=active.id, number=4, name=STEPS[4], state="started")
    await recorder.write(row)
    await _settled(guard)
    try:
        built = await build_evidence(
            guard.folder, guard.store.record, active.row, guard.prometheus_url, _end(active)[2]
        )
    except (EvidenceFailed, SQLAlchemyError) as error:
        row.state, row.error = "failing", str(error)
        await recorder.write(row)
        return
    active.row.evidence_dir = str(built.folder)
    record, number = guard.store.record, active.id
    guard.store.tell("evidence", lambda: record.add_evidence(number, built.files))
    guard.store.tell("evidence", lambda: record.change_stage_run(number, None, evidence_dir=str(built.folder)))
    row.state, row.verified_at = "verified", utc_now()
    row.proof = {"folder": str(built.folder), "digest": built.digest, "files": len(built.files)}
    await recorder.write(row)


async def _finish(guard: GuardState, active: Active, recorder: StepRecorder) -> None:
    """Step 5 is queued with the final step; delivering it delays nothing."""
    happening, words, _ = _end(active)
    ended = RollbackStep(stage_run_id=active.id, number=5, name=STEPS[5], state="verified")
    ended.verified_at, ended.proof = utc_now(), {"queued": words}
    await recorder.write(ended)
    guard.move_at_once(active, happening, ended_at=utc_now())
    guard.notice(active, active.row.step, words)
    await _settled(guard)
    if active.operator is not None:
        await active.operator.close()
        active.operator = None
    if guard.active is active:
        guard.active = None


def _end(active: Active) -> tuple[Happening, str, str]:
    """What happens now that it is proven, in words, and the step that follows."""
    if active.step is Step.PROMOTING:
        return Happening.PROMOTION_PROVEN, "promoted: stopped, none open, flat", Step.PROMOTED.value
    why = f"({active.row.reason}): every step is proven"
    if active.row.end_wanted == Action.ROLL_BACK.value:
        return Happening.ROLLBACK_PROVEN, f"rolled back {why}", Step.ROLLED_BACK.value
    return Happening.PARKING_PROVEN, f"parked flat {why}", Step.PARKED.value


async def _settled(guard: GuardState) -> None:
    try:
        await asyncio.wait_for(guard.store.settled(), SETTLE_S)
    except TimeoutError:
        log.error("the record is %g s behind; going on", SETTLE_S)


def _written(decision: Decision) -> dict[str, Any]:
    breached_ms = decision.breached_at_ms if decision.breached_at_ms is not None else now_ms()
    return {
        "reason": decision.reason,
        "end_wanted": decision.action.value,
        "decided_criterion": decision.criterion_id,
        "decided_value": None if decision.value is None else plain(decision.value),
        "decided_limit": decision.limit,
        "decided_why": decision.sentence,
        "decided_others": list(decision.others),
        "breach_at": datetime.fromtimestamp(breached_ms / 1000, UTC),
    }


def by_people(who: str, reason: str, *, candidate: bool = False) -> Decision:
    """`rollout stop`, or a NO-GO: parks, unless the candidate itself is named."""
    action = Action.ROLL_BACK if candidate else Action.PARK
    decision = Decision(action, "people", "stop", None, "nobody stops it", (), now_ms(), f"{who}: {reason}")
    return replace(decision, reason="candidate") if candidate else decision
