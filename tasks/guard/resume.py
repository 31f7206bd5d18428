"""What a guard does when it starts: reads the tables, adopts or proves dead, and goes on. Safe to repeat."""

from __future__ import annotations

import logging

from gates.course import Step
from gates.decision import Action, Decision
from tasks.guard.beginning import BAD_INPUT, do_preflight
from tasks.guard.closing import continue_closing
from tasks.guard.launching import adopt, launch
from tasks.guard.state import Active, GuardState, load_active
from tasks.launch import BotProcess, find_bots, read_ready_line
from tasks.operate import Operator
from tasks.supervise.identity import Identity

log = logging.getLogger("slipway.guard.resume")
WITH_BOT = (Step.WARM_UP, Step.WATCH, Step.WATCHED, Step.JUDGED)
CLOSING = (Step.ROLLING_BACK, Step.ROLLBACK_FAILED, Step.PROMOTING)


class CannotResume(Exception):
    """The open stage run's files do not load: a person must put them back. The bot's grant runs out meanwhile."""


async def resume(guard: GuardState) -> None:
    """Takes up the account's unfinished stage run, if there is one."""
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
    except BAD_INPUT as error:
        raise CannotResume(f"{row.rollout}/{row.stage} cannot be taken up: {error}") from error
    verdicts = await guard.store.call(record.verdicts, active.id)
    active.prolonged = any(one.word == "HOLD" for one in verdicts)
    guard.active = active
    log.info("taking up %s/%s at %s", row.rollout, row.stage, row.step)
    await _take_up(guard, active)


async def _take_up(guard: GuardState, active: Active) -> None:
    if active.step in (Step.REQUESTED, Step.PREFLIGHT):
        guard.spawn(do_preflight(guard, active), "preflight")
    elif active.step is Step.LAUNCHING:
        if active.row.pid is None:
            active.launching = True
            guard.spawn(launch(guard, active), "launch")
        else:
            _know_bot(active)
            guard.spawn(_finish_launch(guard, active), "launch")
    elif active.step in WITH_BOT:
        active.launching = True
        guard.spawn(adopt(guard, active), "adopt")
    elif active.step in CLOSING:
        _know_bot(active)
        active.decision = _decision(active)
        continue_closing(guard, active)


async def _finish_launch(guard: GuardState, active: Active) -> None:
    """A bot was started and noted, then the guard died: it is taken over where it lives, else it counts as dead."""
    if active.state_dir is not None and find_bots(active.state_dir):
        await launch(guard, active)
    else:
        await adopt(guard, active)


def _know_bot(active: Active) -> None:
    """The bot as the tables know it, alive or dead, so that closing can stop it."""
    row, state_dir = active.row, active.state_dir
    if row.pid is None or row.pid_started_ticks is None or state_dir is None or row.run is None:
        return
    obs_url = row.obs_url or read_ready_line(state_dir, row.run) or ""
    active.bot = BotProcess(row.run, Identity(row.pid, row.pid_started_ticks), state_dir, obs_url)
    if obs_url:
        access = active.access
        active.operator = Operator(obs_url, grant_token=access.grant_token, approve_token=access.approve_token)


def _decision(active: Active) -> Decision:
    row = active.row
    action = Action.ROLL_BACK if row.end_wanted == Action.ROLL_BACK.value else Action.PARK
    return Decision(action, None, row.decided_criterion, None, row.decided_limit or "", (), None, row.decided_why or "")
