"""What a guard does when it starts: reads the tables, adopts or proves dead, and goes on. Safe to repeat."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from gates.course import Step
from gates.decision import Action, Decision
from gates.stages import KEPT, Plan
from tasks.guard.beginning import BAD_INPUT, do_preflight
from tasks.guard.closing import by_no_go, continue_closing, end_stage
from tasks.guard.drilled import drilled_so_far
from tasks.guard.history import restored_history
from tasks.guard.launching import adopt, launch, park_elsewhere
from tasks.guard.plateau import resume_proof
from tasks.guard.state import Active, GuardState, PlanChanged, load_active, load_for_closing, now_ms
from tasks.launch import BotProcess, find_bots, read_ready_line
from tasks.operate import Operator
from tasks.record_tables import Rollout, StageRun
from tasks.rollback import STEPS

log = logging.getLogger("slipway.guard.resume")
WITH_BOT = (Step.WARM_UP, Step.DRILLS, Step.WATCH, Step.WATCHED, Step.JUDGED)
STOP_STEP = STEPS.index("stop_bot")
AGAIN_S = 5.0


class CannotResume(Exception):
    """Neither the files nor the record say how to close the open stage run. The bot's grant runs out meanwhile."""


async def resume(guard: GuardState) -> None:
    """Takes up the account's unfinished stage run, if there is one."""
    guard.resuming = True
    await _resume(guard)
    guard.resuming = False


async def _resume(guard: GuardState) -> None:
    record = guard.store.record
    row = await guard.store.call(record.open_on_account, guard.account)
    guard.epoch = await guard.store.call(record.epoch)
    if row is None:
        return
    rollout = await guard.store.call(record.rollout, row.rollout)
    if rollout is None:
        raise CannotResume(f"stage run {row.id} belongs to rollout {row.rollout}, which is not in the record")
    try:
        active = load_active(guard.folder, row, rollout)
    except PlanChanged as error:
        await _close_without_files(guard, row, rollout, str(error), "plan_as_signed")
        return
    except BAD_INPUT as error:
        await _close_without_files(guard, row, rollout, str(error), "files")
        return
    rows = await guard.store.call(record.drills, active.id)
    active.drilled = drilled_so_far(active.whole, rows, active.drilled_part)
    # Written by the move that prolongs, and gone with the part. The verdict's own row may stand without that move.
    active.prolonged = row.verdict == "HOLD"
    guard.active = active
    log.info("taking up %s/%s at %s", row.rollout, row.stage, row.step)
    guard.shown.stage(row.stage, row.step)
    await _take_up(guard, active)


async def resume_later(guard: GuardState, why: str) -> None:
    """Pages once and tries until a person has put right what is missing: a guard that ends could not even page."""
    record, said = guard.store.record, ""
    while True:
        if why != said:
            log.error("%s", why)
            text, said = f"account {guard.account} has no guard over it: {why}", why
            guard.store.tell("page", partial(record.put_notice, f"page:{text}", "page", text))
        await asyncio.sleep(AGAIN_S)
        try:
            await resume(guard)
            return
        except CannotResume as error:
            why = str(error)
        except SQLAlchemyError as error:
            log.error("the record could not be read: %s", str(error).splitlines()[0])


async def _close_without_files(guard: GuardState, row: StageRun, rollout: Rollout, why: str, criterion_id: str) -> None:
    """What belongs to the stage run does not load any more, or is not what was signed: it is closed by the plan that
    the record keeps, and never promoted."""
    kept = await guard.store.call(guard.store.record.plan_begun, row)
    try:
        if kept is None:
            raise CannotResume(f"{row.rollout}/{row.stage} cannot be taken up: {why}; the record keeps no plan of it")
        active = load_for_closing(guard.folder, row, rollout, Plan.model_validate(kept, context=KEPT))
    except ValidationError as error:
        said = f"the plan that the record keeps does not load: {error.errors()[0]['msg']}"
        raise CannotResume(f"{row.rollout}/{row.stage} cannot be taken up: {why}; {said}") from error
    guard.active = active
    guard.shown.stage(row.stage, row.step)
    _know_bot(guard, active)
    log.error("%s/%s is closed by what the record keeps: %s", row.rollout, row.stage, why)
    guard.notice(active, "page", f"closed by what the record keeps: {why}")
    if active.step in (Step.ROLLING_BACK, Step.ROLLBACK_FAILED):
        active.decision = _decision(active)
        continue_closing(guard, active)
    else:
        limit = "plan, criteria, approvers and account load, as signed"
        end_stage(guard, active, Decision(Action.PARK, "environment", criterion_id, None, limit, (), now_ms(), why))


async def _take_up(guard: GuardState, active: Active) -> None:
    if active.step in (Step.REQUESTED, Step.PREFLIGHT):
        guard.spawn(do_preflight(guard, active), "preflight")
    elif active.step is Step.LAUNCHING and (host := guard.elsewhere(active.row)):
        park_elsewhere(guard, active, host)  # also where no process was noted: it may have been started
    elif active.step is Step.LAUNCHING:
        if active.row.pid is None:
            active.launching = True
            guard.spawn(launch(guard, active), "launch")
        else:
            _know_bot(guard, active)
            guard.spawn(_finish_launch(guard, active), "launch")
    elif active.step in WITH_BOT:
        if await _ended_by_people(guard, active):
            return
        _know_bot(guard, active)  # a stop may come before it is adopted, and must not find that none lives
        active.launching = True
        guard.spawn(adopt(guard, active), "adopt")
        await resume_proof(guard, active)
    elif active.step is Step.PROMOTING:
        _know_bot(guard, active)
        steps = await guard.store.call(guard.store.record.rollback_steps, active.id)
        active.stop_asked = any(step.number == STOP_STEP for step in steps)
        active.history = await restored_history(guard, active)
        continue_closing(guard, active)
    elif active.step in (Step.ROLLING_BACK, Step.ROLLBACK_FAILED):
        _know_bot(guard, active)
        active.decision = _decision(active)
        continue_closing(guard, active)
    elif active.step is Step.READY:
        await _ended_by_people(guard, active)


async def _ended_by_people(guard: GuardState, active: Active) -> bool:
    """A NO-GO that the guard before this one accepted and did not live to act on."""
    if active.step not in (Step.READY, Step.JUDGED):
        return False
    gate = active.gate("entry" if active.step is Step.READY else "exit")
    signed = await guard.store.call(guard.desk.standing_no_go, gate)
    if signed is None:
        return False
    _know_bot(guard, active)
    end_stage(guard, active, by_no_go(signed.gate, signed.person, signed.comment))
    return True


async def _finish_launch(guard: GuardState, active: Active) -> None:
    """A bot was started and noted, then the guard died: it is taken over where it lives, else it counts as dead."""
    if active.state_dir is not None and find_bots(active.state_dir):
        await launch(guard, active)
    else:
        await adopt(guard, active)


def _know_bot(guard: GuardState, active: Active) -> None:
    """The bot as the tables know it, alive or dead, so that closing can stop it. One of another machine has no process
    and no address here: at its port on this machine somebody else would be asked."""
    row, state_dir = active.row, active.state_dir
    identity = guard.bot_of(row)
    if identity is None or state_dir is None or row.run is None:
        return
    obs_url = row.obs_url or read_ready_line(state_dir, row.run) or ""
    active.bot = BotProcess(row.run, identity, state_dir, obs_url)
    access = active.known_access
    if obs_url and access is not None:
        active.operator = Operator(
            obs_url,
            grant_token=access.grant_token,
            approve_token=access.approve_token,
            grant_ttl_s=active.plan.grant_ttl_s,
        )


def _decision(active: Active) -> Decision:
    row = active.row
    action = Action.ROLL_BACK if row.end_wanted == Action.ROLL_BACK.value else Action.PARK
    return Decision(action, None, row.decided_criterion, None, row.decided_limit or "", (), None, row.decided_why or "")
