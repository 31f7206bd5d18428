"""Starts the bot of a stage run under a new epoch, or adopts the one that runs. Never two on one account."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy.exc import SQLAlchemyError

from gates.course import Happening, Step
from gates.criteria import Fault
from gates.decision import BLIND, Action, Decision, decide_unrecorded
from gates.sources.checks import by_name
from gates.sources.tables import totals_of
from gates.stages import under_root
from tasks.guard.closing import bot_died, end_stage, promote
from tasks.guard.exposition import write_target
from tasks.guard.grants import Fenced, next_epoch, renew_once
from tasks.guard.history import restored_history
from tasks.guard.parts import first_part
from tasks.guard.state import Active, GuardState, now_ms, said
from tasks.launch import (
    REPO,
    BotEnded,
    BotProcess,
    LaunchError,
    Sizes,
    belongs,
    bot_command,
    find_bots,
    how_it_ended,
    is_alive,
    leave_for_restart,
    read_ready_line,
    start_process,
    wait_ready,
)
from tasks.operate import Operator
from tasks.public_market import public_environment
from tasks.record_engine import is_away
from tasks.record_tables import utc_now
from tasks.record_writer import EpochLost

log = logging.getLogger("slipway.guard.launching")
GRANT_SHARE = 0.25
"""Of the launch's deadline: how long a bot that is there may take until it has its first grant."""
GRANT_LIVES = 2.0
"""But no more than so many lives of a grant: it may have taken one whose answer was lost."""
RECORD_AGAIN_S = 0.5
JOURNAL = ("MM_JOURNAL_STORE", "MM_REDIS_PASSWORD")
"""Where this machine keeps journals, if not in the state folder."""
TRUST = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""Whose certificates are believed: the guard has asked the venue by them, the bot trades there."""
_SURROUNDINGS = ("PATH", "HOME", "LANG", "TMPDIR", "TZ", "VIRTUAL_ENV", "PYTHONPATH", "SLIPWAY_STACK")
KEPT_ENVIRONMENT = (*_SURROUNDINGS, *JOURNAL, *TRUST)


async def launch(guard: GuardState, active: Active) -> None:
    """LAUNCHING → WARM_UP, or the end of the stage. Continues a launch that a dead guard had begun."""

    async def once() -> None:
        active.bot = await _start_or_find(guard, active)
        await _take_over(guard, active, "launch")
        if active.step is Step.LAUNCHING:
            await _is_up(guard, active)

    active.launching = True
    try:
        await _while_recorded(active, once)
    except LaunchError as error:
        end_stage(guard, active, launch_failed(active, error))
        return
    except (EpochLost, Fenced) as error:
        limit = "one guard per account"
        end_stage(guard, active, Decision(Action.PARK, "environment", "epoch", None, limit, (), now_ms(), str(error)))
        return
    except SQLAlchemyError as error:
        end_stage(guard, active, _unrecorded(error))
        return
    finally:
        active.launching = False


async def _while_recorded(active: Active, once: Callable[[], Awaitable[None]]) -> None:
    """Tries again while the record is away, but for no longer than anything may be unknown; each try takes up what the
    one before it left. Raises what it then raises."""
    begun_s = time.monotonic()
    while True:
        try:
            await once()
            return
        except SQLAlchemyError as error:
            waited = decide_unrecorded(active.criteria, time.monotonic() - begun_s, now_ms())
            if not is_away(error) or waited.action is not Action.CONTINUE:
                raise
            log.error("%s waits for the record: %s", active.row.rollout, str(error).splitlines()[0])
        await asyncio.sleep(RECORD_AGAIN_S)


async def _is_up(guard: GuardState, active: Active) -> None:
    """LAUNCHING → WARM_UP. Raises what the record raises: then the step would stand there for ever."""
    record, part = guard.store.record, first_part(active, guard.epoch)
    await guard.store.call(record.enter_part, part, "", part_from=part.began_at)
    active.row.part_from = part.began_at
    if not active.at(Step.LAUNCHING):  # stopped meanwhile
        return
    told = [said(active, "started", f"bot of run {active.row.run} is up under epoch {guard.epoch}")]
    if active.history is not None:  # from here on it has to be known, and has the time of a first answer for it
        active.history = replace(active.history, started_at_ms=now_ms())
    await guard.move(active, Happening.BOT_UP, told, launched_at=utc_now(), epoch=guard.epoch)


def launch_failed(active: Active, error: LaunchError) -> Decision:
    """A bot that ended is the candidate's NO-GO. One that lives and was not ready in time may be a slow machine's."""
    ended = isinstance(error, BotEnded) or (active.bot is not None and not is_alive(active.bot.identity))
    action = Action.ROLL_BACK if ended else Action.PARK
    reason: Fault = "candidate" if ended else "environment"
    return Decision(action, reason, "launch", None, "ready and granted in time", (), now_ms(), str(error))


async def _start_or_find(guard: GuardState, active: Active) -> BotProcess:
    row = active.row
    active.history = await restored_history(guard, active)
    run = row.run or f"{row.rollout}-{row.stage}-{row.attempt}"
    state_dir = Path(row.state_dir) if row.state_dir else guard.folder.runs / run
    # Written before the process starts: a guard that dies in between finds the bot by its state folder, and one on
    # another machine knows that it cannot.
    await _keep(guard, active, run=run, state_dir=str(state_dir), machine=str(guard.machine))
    if row.replicas_frozen:
        raise LaunchError("the launcher is frozen at zero: nothing may be started any more")
    found = find_bots(state_dir)
    if found:
        identity = found[0]
    elif active.bot is not None:  # started by the try before this one
        raise BotEnded(how_it_ended(active.bot.identity, state_dir))
    else:
        command = bot_command(_mode(active), sizes_of(active), state_dir, under_root(active.plan.settings))
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        at = REPO if active.needs_grant else state_dir  # a shadow run archives its report where it stands
        identity = start_process(command, state_dir, bot_environment(active, run), at)
    active.bot = BotProcess(run, identity, state_dir, "")
    await _keep(guard, active, pid=identity.pid, pid_started_ticks=identity.started_ticks)
    return await wait_ready(run, identity, state_dir, active.stage.launch_deadline_s)


async def relaunch(guard: GuardState, active: Active) -> None:
    """A bot that a drill has killed, again: on its own journal, at its own address, under the next epoch.

    The address stays, so Prometheus scrapes on without looking for it anew. Raises LaunchError, EpochLost, Fenced,
    SQLAlchemyError; JournalError or OSError where the journal cannot be read.
    """
    row, state_dir = active.row, active.state_dir
    if row.run is None or state_dir is None or row.replicas_frozen:
        raise LaunchError("the launcher is frozen at zero: nothing may be started any more")
    active.launching = True
    guard.granting = False  # at the same address a renewal would reach the new process, under an epoch it has outlived
    try:
        if active.operator is not None:
            await active.operator.close()
            active.operator = None
        found = find_bots(state_dir)  # a guard that died in between may have started it already
        if found:
            identity = found[0]
        else:
            counted = by_name(await asyncio.to_thread(totals_of, state_dir / "journal.db"))
            leave_for_restart(state_dir, counted)
            command = bot_command(
                _mode(active),
                sizes_of(active),
                state_dir,
                under_root(active.plan.settings),
                obs_port=urlsplit(row.obs_url or "").port or 0,
                recover=True,
            )
            if row.replicas_frozen:  # looked at last, with no turn of the loop before the start
                raise LaunchError("stopped while it was being launched")
            identity = start_process(command, state_dir, bot_environment(active, row.run))
        noted = {"pid": identity.pid, "pid_started_ticks": identity.started_ticks, "machine": str(guard.machine)}
        await _keep(guard, active, **noted)
        active.bot = BotProcess(row.run, identity, state_dir, "")
        active.bot = await wait_ready(row.run, identity, state_dir, active.stage.launch_deadline_s)
        await _take_over(guard, active, "restart")
    finally:
        active.launching = False


async def _keep(guard: GuardState, active: Active, **changes: object) -> None:
    await guard.store.call(guard.store.record.change_stage_run, active.id, "bot", **changes)
    for name, value in changes.items():
        setattr(active.row, name, value)


async def _take_over(guard: GuardState, active: Active, why: str) -> None:
    """A new epoch, the first grant accepted, the target written."""
    bot = active.bot
    if bot is None or active.row.replicas_frozen:
        raise LaunchError("stopped while it was being launched")
    if active.operator is None:  # there is one where the try before this one has come so far
        access = active.access
        active.operator = Operator(
            bot.obs_url,
            grant_token=access.grant_token,
            approve_token=access.approve_token,
            grant_ttl_s=active.plan.grant_ttl_s,
        )
    await _keep(guard, active, obs_url=bot.obs_url)
    labels = {"account": guard.account, "rollout": active.row.rollout, "stage": active.row.stage, "run": bot.run}
    write_target(guard.folder.targets / f"{bot.run}.json", urlsplit(bot.obs_url).port or 0, labels)
    await next_epoch(guard, why)
    await _keep(guard, active, epoch=guard.epoch)
    if active.row.replicas_frozen:
        raise LaunchError("stopped while it was being launched")
    if not active.needs_grant:
        return
    guard.granting = True
    wait_s = min(active.stage.launch_deadline_s * GRANT_SHARE, GRANT_LIVES * active.plan.grant_ttl_s)
    until = time.monotonic() + wait_s
    while not (answer := await renew_once(guard, active)).accepted:
        if time.monotonic() > until or not guard.granting:
            raise LaunchError(f"the bot did not take its grant: {answer.status} {answer.detail}")
        await asyncio.sleep(0.1)


def _unrecorded(error: SQLAlchemyError) -> Decision:
    """A bot whose launch or adoption cannot be written does not trade."""
    words = f"the record did not take it: {str(error).splitlines()[0]}"
    return Decision(Action.PARK, "environment", BLIND, None, "the record takes what is done", (), now_ms(), words)


async def adopt(guard: GuardState, active: Active) -> None:
    """After a restart of the guard: the same bot under epoch + 1, or the proof that it is dead."""
    active.launching = True
    try:
        await _while_recorded(active, lambda: _adopt(guard, active))
    except SQLAlchemyError as error:
        end_stage(guard, active, _unrecorded(error))
    finally:
        active.launching = False


async def _adopt(guard: GuardState, active: Active) -> None:
    row, state_dir = active.row, active.state_dir
    active.history = await restored_history(guard, active)
    if host := guard.elsewhere(row):
        park_elsewhere(guard, active, host)
        return
    identity = guard.bot_of(row)
    if identity is None or state_dir is None or row.run is None:
        end_stage(guard, active, bot_died(active, "no bot was noted for a stage that should have one"))
        return
    obs_url = row.obs_url or read_ready_line(state_dir, row.run) or ""
    active.bot = BotProcess(row.run, identity, state_dir, obs_url)
    if not belongs(identity, state_dir):
        if active.drilled.kills(identity):
            return  # the guard before this one killed it, for a drill; that begins anew, and starts it again
        end_stage(guard, active, bot_died(active, f"pid {row.pid} was dead when the guard came back"))
        return
    identity.send(signal.SIGCONT)  # a guard that died in a drill may have left it stopped
    try:
        await _take_over(guard, active, "adopt")
    except (LaunchError, EpochLost, Fenced) as error:
        limit = "the bot is adopted"
        if active.step is Step.PROMOTING:  # it needs no bot any more: closing it is what is left to do
            promote(guard, active)
            return
        end_stage(guard, active, Decision(Action.PARK, "environment", "adopt", None, limit, (), now_ms(), str(error)))
        return
    log.info("adopted pid %d of run %s under epoch %d", identity.pid, row.run, guard.epoch)
    guard.notice(active, "adopted", f"the guard came back and adopted pid {identity.pid}", guard.epoch)


def park_elsewhere(guard: GuardState, active: Active, host: str) -> None:
    """Ends a stage whose bot was started on that other machine: dead or alive, nobody here sees it, and no candidate is
    at fault."""
    words = f"its bot was started on machine {host}: whether it lives cannot be seen from {guard.machine.host}"
    limit = "the bot is adopted"
    end_stage(guard, active, Decision(Action.PARK, "environment", "adopt", None, limit, (), now_ms(), words))


def bot_environment(active: Active, run: str) -> dict[str, str]:
    """What the bot may know: the venue's address and key, its tokens, and that it is armed. Nothing of the guard's.

    In shadow it knows no key, and of addresses only where public market data is; and only live is armed.
    """
    kept = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    known = active.access.venue_environment() if active.needs_grant else {"MM_ACCOUNT": active.access.account}
    known |= public_environment(active.access) if active.keyless else {}
    armed = {"MM_LIVE_ENABLE": "1"} if active.stage.env == "live" else {}
    return {
        **kept,
        **known,
        **armed,
        "MM_RUN": run,
        "MM_GRANT_TOKEN": active.access.grant_token,
        "APPROVE_TOKEN": active.access.approve_token,
        "PYTHONUNBUFFERED": "1",
    }


def launch_of(active: Active, state_dir: Path) -> tuple[list[str], dict[str, str]]:
    """The command and the environment that the bot of this stage would be started with, for whoever looks first."""
    command = bot_command(_mode(active), sizes_of(active), state_dir, under_root(active.plan.settings))
    return command, bot_environment(active, "preflight")


def _mode(active: Active) -> str:
    return "public" if active.keyless else active.stage.env


def sizes_of(active: Active) -> Sizes:
    """Those of the stage's largest part: the grant of each part allows its own."""
    stage, (inventory_max_quote, total_max_quote) = active.whole, active.whole.largest
    return Sizes(
        symbols=stage.symbols,
        inventory_max_quote=f"{inventory_max_quote:f}",
        total_max_quote=f"{total_max_quote:f}",
        edge_threshold_bps=f"{stage.edge_threshold_bps:f}",
        post_only_offset_bps=f"{stage.post_only_offset_bps:f}",
        min_qty_pad=f"{stage.min_qty_pad:f}",
    )
