"""Ends a stage run: decided once, closed with proof, bundled, told. Also the end of a promotion."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from bot.booked import Booked
from gates.course import FINAL, Happening, Step, next_step
from gates.decision import Action, Decision, SignOffEnd, decide_sign_off
from gates.judge import plain
from tasks.evidence_process import Built, EvidenceFailed, build_evidence
from tasks.guard.booking import book, judge_booked
from tasks.guard.grants import BotPermission
from tasks.guard.looking import last_look, look_back
from tasks.guard.state import Active, GuardState, account_now, now_ms, said
from tasks.guard.store import StepRecorder
from tasks.launch import how_it_ended, is_alive
from tasks.record_tables import RollbackStep, utc_now
from tasks.record_writer import Notice
from tasks.rollback import EVERY_STEP, STEPS, Closing, Proven, Waits, all_proven, in_words, proven_flat, proven_in_words
from tasks.sign_off import names_candidate
from tasks.venue_desk import VenueDesk

log = logging.getLogger("slipway.guard.closing")
SETTLE_S = 5.0
CLOSE_AGAIN_S = (0.5, 1.0, 2.0, 5.0)
BUNDLE_AGAIN_S = (0.5, 1.0, 2.0, 5.0)
"""Between the tries of a bundle; after the last of them it is given up."""
BUNDLE_WITHIN_S = 60.0
"""No try of a bundle begins later than this after the first. One alone may take longer."""


def end_stage(guard: GuardState, active: Active, decision: Decision) -> None:
    """A guard's, a judge's or a person's end of the stage. Never waits; the first decision holds, a repeat is noted."""
    if active.step in (Step.ROLLING_BACK, Step.ROLLBACK_FAILED, *FINAL):
        return
    guard.granting = False
    active.decision = decision
    why = decision.sentence or decision.action.value
    log.warning("ending %s: %s %s: %s", active.row.rollout, decision.reason, decision.criterion_id, why)
    value = "" if decision.value is None else f" is {plain(decision.value)}"
    word = "NO-GO" if decision.action is Action.ROLL_BACK else "parking"
    words = f"{word}, {decision.reason}: {decision.criterion_id}{value} ({decision.limit}): {why}"
    changes = {**_written(decision), "replicas_frozen": True, "seen_at": utc_now()}
    guard.move_at_once(active, Happening.STOPPED, [said(active, "no_go", words)], **changes)
    _begin_looking_back(guard, active)
    if active.closing is None or active.closing.done():
        active.closing = guard.spawn(close(guard, active), "closing")


def promote(guard: GuardState, active: Active) -> None:
    """Closes a stage that people and judge let pass. The course has already moved to PROMOTING."""
    if active.closing is None or active.closing.done():
        active.closing = guard.spawn(close(guard, active), "closing")


def continue_closing(guard: GuardState, active: Active) -> None:
    """After a restart of the guard: the steps begin anew, the decision stands as it was written. A stop that came
    meanwhile has begun them already."""
    guard.granting = False
    if active.closing is None or active.closing.done():
        active.closing = guard.spawn(close(guard, active), "closing")


async def close(guard: GuardState, active: Active) -> None:
    """Closes the stage. What ends a try unexpectedly is paged, and all of it begins anew: each step may be repeated."""
    tries = 0
    while active.step not in FINAL:
        try:
            await _close_once(guard, active)
            return
        except Exception as error:  # a closing that ends without proof would leave the account to nobody
            why = in_words(error)
            log.error("closing %s broke off: %s; beginning anew", active.row.rollout, why, exc_info=error)
            guard.notice(active, "rollback_failed", f"ROLLBACK_FAILED: closing broke off: {why}; still trying", why)
        await asyncio.sleep(CLOSE_AGAIN_S[min(tries, len(CLOSE_AGAIN_S) - 1)])
        tries += 1
    if guard.active is active:
        guard.active = None


def process_up_id(active: Active) -> str:
    """The criterion that a dead bot breaks, by what it measures; its absence from the file changes nothing."""
    named = [one.id for one in active.criteria if one.check in ("process_up", "bot_process", "bot_alive")]
    return named[0] if named else "process_up"


def bot_died(active: Active, words: str) -> Decision:
    """An undrilled death of the bot on a networked stage is the candidate's NO-GO: it was looked for, and 0 live.

    Not of one that ended with its boot: the machine was booted again, and what the bot had broken until then the last
    look finds.
    """
    if active.bot is not None and active.bot.identity.over:
        return _ended_with_its_boot(active.bot.identity.pid)
    name = process_up_id(active)
    limit = next((one.limit for one in active.criteria if one.id == name), "the bot's process lives")
    return Decision(Action.ROLL_BACK, "candidate", name, Decimal(0), limit, (), now_ms(), words)


def _ended_with_its_boot(pid: int) -> Decision:
    words = f"its bot, pid {pid}, was started in an earlier boot of this machine, which was booted again since"
    return Decision(Action.PARK, "environment", "adopt", None, "the bot is adopted", (), now_ms(), words)


def with_how_it_ended(active: Active, decision: Decision) -> Decision:
    """The same decision, saying how the bot ended: a round of looks may find it dead before its own watch does."""
    bot = active.bot
    if decision.criterion_id != process_up_id(active) or bot is None or is_alive(bot.identity):
        return decision
    return replace(decision, sentence=how_it_ended(bot.identity, bot.state_dir))


async def _close_once(guard: GuardState, active: Active) -> None:
    """Steps 0 to 3 until they are proven, then 4 and 5, then the final step of the course."""
    recorder = StepRecorder(guard.store, active.id, lambda row: _on_step(guard, active, row), guard.telling)
    if active.row.state_dir is None:
        await _nothing_to_close(active, recorder)
    else:
        await _prove(guard, active, recorder)
    _forget_bot(guard, active)
    if active.step is Step.PROMOTING:
        active.looking = guard.spawn(_look_last(guard, active), "last look")
    await _looked(guard, active)
    booked = await _book(guard, active)
    if active.step is Step.PROMOTING and booked is not None:
        decision = await judge_booked(guard, active, booked)
        if decision.action is not Action.CONTINUE:
            end_stage(guard, active, decision)
    await _bundle(guard, active, recorder)
    await _finish(guard, active, recorder)


async def _look_last(guard: GuardState, active: Active) -> None:
    found = await last_look(guard, active)
    if not active.at(Step.PROMOTING):  # stopped meanwhile: what it found is true all the same
        _after_looking_back(guard, active, found)
    elif found.action is not Action.CONTINUE:
        end_stage(guard, active, found)


def _begin_looking_back(guard: GuardState, active: Active) -> None:
    """Once for each park, as soon as the bot is gone: the venue may be away for hours, and what the candidate had
    broken burns it meanwhile. It runs beside the proof, which waits for nothing of it."""
    if active.bot_gone and active.looking is None and active.row.end_wanted == Action.PARK.value:
        active.looking = guard.spawn(_look_back(guard, active), "look back")


async def _look_back(guard: GuardState, active: Active) -> None:
    _after_looking_back(guard, active, await look_back(guard, active))


async def _looked(guard: GuardState, active: Active) -> None:
    """Waits for the look, without which no stage ends. One that broke off is begun anew by the next try to close."""
    _begin_looking_back(guard, active)
    if active.looking is None:
        return
    try:
        await active.looking
    except Exception:
        active.looking = None
        raise


def _after_looking_back(guard: GuardState, active: Active, found: Decision) -> None:
    """A guard's NO-GO outranks what it was parked for: that stands beside it, with the times of the first stop."""
    row = active.row
    if found.action is Action.PARK:
        words = f"the last look at the journal was open, parked all the same: {found.criterion_id}: {found.sentence}"
        guard.notice(active, "last_look", words)
    if found.action is not Action.ROLL_BACK or row.end_wanted != Action.PARK.value:
        return
    first = f"{row.reason}: {row.decided_criterion}: {row.decided_why}"
    value = "" if found.value is None else f" is {plain(found.value)}"
    words = f"NO-GO after the stop, {found.reason}: {found.criterion_id}{value} ({found.limit}): {found.sentence}"
    log.warning("%s is rolled back, not parked: %s; stopped for %s", row.rollout, words, first)
    others = [*([row.decided_criterion] if row.decided_criterion else []), *row.decided_others, *found.others]
    sentence = f"{found.sentence}; seen after it was stopped for {first}"
    active.decision = replace(found, others=tuple(dict.fromkeys(map(str, others))), sentence=sentence)
    changes = _written(active.decision)
    del changes["breach_at"]
    told = [said(active, "no_go_after_stop", f"{words}; rolled back, not parked for {first}")]
    guard.move_at_once(active, Happening.STOPPED, told, **changes)


async def _prove(guard: GuardState, active: Active, recorder: StepRecorder) -> None:
    desk = None if active.keyless else _desk(guard, active)
    closing = _closing(guard, active, recorder, desk)
    try:
        await closing.run()
    finally:
        active.row.bot_gone_at = closing.proven.bot_gone_at
        if desk is not None:
            desk.close()


def _desk(guard: GuardState, active: Active) -> VenueDesk:
    """The account's file may be damaged or away: then each call says so, and works once it is back."""
    return VenueDesk(lambda: account_now(guard, active), active.whole.symbols, active.state_dir)


async def _book(guard: GuardState, active: Active) -> Booked | None:
    desk = _desk(guard, active)
    try:
        return await book(guard, active, desk)
    finally:
        desk.close()


def _closing(guard: GuardState, active: Active, recorder: StepRecorder, desk: VenueDesk | None) -> Closing:
    plan, stage = active.plan, active.stage
    wait_s = 0.0  # in shadow no order was ever on its way
    if active.needs_grant:
        wait_s = plan.late_s

    async def on_failed(words: str) -> None:
        if active.step is Step.PROMOTING:
            end_stage(guard, active, _unproven(words))
        told = [said(active, "rollback_failed", f"ROLLBACK_FAILED: {words}")]
        guard.move_at_once(active, Happening.PROOF_LATE, told)

    return Closing(
        stage_run_id=active.id,
        permission=BotPermission(guard, active, lambda: _on_gone(guard, active), lambda: _on_dead(guard, active)),
        desk=desk,
        log=recorder,
        waits=Waits(wait_s, stage.proof_deadline_s),
        flatten=stage.flatten,
        on_failed=on_failed,
        proven=Proven(bot_gone_at=active.row.bot_gone_at),  # by another try: it is dated once, as nothing runs again
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


def _on_gone(guard: GuardState, active: Active) -> None:
    active.bot_gone = True
    _begin_looking_back(guard, active)


def _on_dead(guard: GuardState, active: Active) -> None:
    """A promotion finds the bot dead that nobody has asked to stop; every other closing knows why it closes."""
    if active.step is Step.PROMOTING and active.bot is not None:
        end_stage(guard, active, bot_died(active, how_it_ended(active.bot.identity, active.bot.state_dir)))


def _on_step(guard: GuardState, active: Active, row: RollbackStep) -> list[Notice]:
    log.info("step %d %s %s %s", row.number, row.name, row.state, row.error)
    guard.shown.rollback_step(row.name, row.state == "verified")
    words = f"{row.name}: proven{_of_others(row)}"
    return [said(active, "rollback_step", words, row.number)] if row.state == "verified" else []


def _of_others(row: RollbackStep) -> str:
    """What stands that is not ours, in words: it is told, and never touched."""
    reads = row.proof.get("reads") or [{}]
    count = reads[-1].get("foreign_open", 0)
    return f"; {count} order{'s' * (count != 1)} of others on the account, left alone" if count else ""


def _forget_bot(guard: GuardState, active: Active) -> None:
    active.bot_gone = True
    if active.row.run:
        try:
            (guard.folder.targets / f"{active.row.run}.json").unlink(missing_ok=True)
        except OSError as error:  # a target too many is scraped in vain; it holds up no proof
            log.error("the target of run %s stays: %s", active.row.run, error.strerror)
    for task in (active.data_check, active.drilling, active.repeat_check):
        if task is not None:
            task.cancel()


async def _bundle(guard: GuardState, active: Active, recorder: StepRecorder) -> None:
    """Step 4, tried again for a bounded time. A bundle that cannot be built is recorded and told; what is proven stays
    proven, and the stage ends without it."""
    row = RollbackStep(stage_run_id=active.id, number=4, name=STEPS[4], state="started")
    await recorder.write(row)
    await _settled(guard)
    built = await _built(guard, active, recorder, row)
    if built is None:
        tries = "1 try" if row.attempts == 1 else f"{row.attempts} tries"
        words = f"the bundle was not built in {tries}, the stage ends without it: {row.error}"
        guard.notice(active, "bundle_failed", words, active.row.step)
        return
    active.row.evidence_dir = str(built.folder)
    record, number = guard.store.record, active.id
    guard.store.tell("evidence", lambda: record.add_evidence(number, built.files))
    guard.store.tell(
        "evidence", lambda: record.change_stage_run(number, "evidence_place", evidence_dir=str(built.folder))
    )
    row.state, row.verified_at, row.error = "verified", utc_now(), ""
    row.proof = {"folder": str(built.folder), "digest": built.digest, "files": len(built.files)}
    await recorder.write(row)


async def _built(guard: GuardState, active: Active, recorder: StepRecorder, row: RollbackStep) -> Built | None:
    """None where no try within BUNDLE_WITHIN_S built it; `row` then says how often and why."""
    until = time.monotonic() + BUNDLE_WITHIN_S
    while True:
        row.attempts += 1
        try:
            ends = _end(active, recorder.rows)[2]
            return await build_evidence(guard.folder, guard.store.record, active.row, guard.prometheus_url, ends)
        except Exception as error:  # also a process that could not be started: no memory, no disk, no right
            row.state, row.error = "failing", str(error) if isinstance(error, EvidenceFailed) else in_words(error)
            log.error("the bundle was not built, try %d: %s", row.attempts, row.error, exc_info=True)
        await recorder.write(row)
        again_s = BUNDLE_AGAIN_S[min(row.attempts, len(BUNDLE_AGAIN_S)) - 1]
        if row.attempts > len(BUNDLE_AGAIN_S) or time.monotonic() + again_s > until:
            return None
        await asyncio.sleep(again_s)


async def _finish(guard: GuardState, active: Active, recorder: StepRecorder) -> None:
    """Step 5 is queued with the final step; delivering it delays nothing."""
    happening, words, _ = _end(active, recorder.rows)
    ended = RollbackStep(stage_run_id=active.id, number=5, name=STEPS[5], state="verified")
    ended.verified_at, ended.proof = utc_now(), {"queued": words}
    await recorder.write(ended)
    step = next_step(active.step, happening)
    record, number = guard.store.record, active.id
    outcome = "passed" if happening is Happening.PROMOTION_PROVEN else "ended"
    guard.store.tell("part ended", lambda: record.end_part(number, outcome))  # before the end: nobody comes back to it
    guard.move_at_once(active, happening, [said(active, step.value, words)], ended_at=utc_now())
    await _settled(guard)
    if active.operator is not None:
        await active.operator.close()
        active.operator = None
    if guard.active is active:
        guard.active = None


def _end(active: Active, rows: Sequence[RollbackStep]) -> tuple[Happening, str, str]:
    """What happens now, in words that claim no more than `rows` prove, and the step that follows."""
    proven = proven_in_words(rows)
    if active.step is Step.PROMOTING:
        words = "stopped, none open, flat" if all_proven(rows) else proven
        return Happening.PROMOTION_PROVEN, f"promoted: {words}", Step.PROMOTED.value
    why = f"({active.row.reason}): {EVERY_STEP if all_proven(rows) else proven}"
    if active.row.end_wanted == Action.ROLL_BACK.value:
        return Happening.ROLLBACK_PROVEN, f"rolled back {why}", Step.ROLLED_BACK.value
    words = "parked flat" if proven_flat(rows) else "parked"
    return Happening.PARKING_PROVEN, f"{words} {why}", Step.PARKED.value


async def _settled(guard: GuardState) -> None:
    """Waits for the record, however long: what is proven is proven, but the end counts once it is written."""
    written = asyncio.ensure_future(guard.store.settled())
    try:
        if not (await asyncio.wait({written}, timeout=SETTLE_S))[0]:
            log.error("steps 0 to 3 are proven, but the record is %.0f s behind; waiting for it", guard.store.away_s())
        await written
    finally:
        written.cancel()


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


def by_no_go(gate: str, person: str, comment: str) -> Decision:
    """A person's accepted NO-GO at a gate."""
    candidate = names_candidate("NO-GO", comment)
    decision = decide_sign_off(SignOffEnd.NO_GO_CANDIDATE if candidate else SignOffEnd.NO_GO, gate, now_ms())
    words = f"{person} signed {decision.sentence}: {comment.strip() or 'without a comment'}"
    return replace(decision, sentence=words)
