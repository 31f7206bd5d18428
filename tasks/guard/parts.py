"""Parts of a stage: the begin of a watch, the next step, the step down. A resize is a limits event under a new epoch.

The bot runs on between two parts. What is smaller holds at once: the grant of the new epoch carries the part's limits,
and the engine lets inventory above them only be reduced.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from bot.journal import JournalError
from gates.course import Happening, Step, next_step
from gates.decision import Action, Decision, decide_unrecorded
from gates.sources.tables import totals_of
from tasks.guard.closing import end_stage
from tasks.guard.grants import Fenced, next_epoch, renew_once
from tasks.guard.plateau import STEPPED_DOWN, begin_proof
from tasks.guard.state import Active, GuardState, Refused, now_ms, said
from tasks.guard.store import RETRY_S
from tasks.record_engine import is_away
from tasks.record_tables import StagePart, utc_now
from tasks.record_writer import EpochLost, Notice

log = logging.getLogger("slipway.guard.parts")


class Uncounted(Exception):
    """The journal's totals, from which a part is judged, cannot be read yet. One line."""


async def begin_watch(guard: GuardState, active: Active, happening: Happening) -> bool:
    """Into WATCH, for the part's whole length from now on. What the journal has counted so far is written down first:
    the end is judged from there. False where the journal cannot be read yet; the next turn tries again. Also where the
    stage was stopped meanwhile."""
    was, counted = active.step, await _counted(active)
    if counted is None or not active.at(was):
        return False
    record = guard.store.record
    await guard.store.call(record.change_stage_run, active.id, "baseline", baseline=counted)
    active.row.baseline = counted
    if not active.at(was):
        return False
    now = utc_now()
    until = now + timedelta(seconds=active.stage.lasts_s)
    await guard.move(active, happening, watch_from=now, watch_until=until)
    active.data_check = None  # the one of a watch that a drill broke off says nothing of this one
    return True


async def _counted(active: Active) -> list[Any] | None:
    if active.state_dir is None:
        return None
    try:
        found = await asyncio.to_thread(totals_of, active.state_dir / "journal.db")
    except (JournalError, OSError, sqlite3.Error) as error:
        if str(error) not in active.told:
            active.told.add(str(error))
            log.warning("the watch does not begin yet: %s", error)
        return None
    return [[name, labels, count] for (name, labels), count in found.items()]


def first_part(active: Active, epoch: int) -> StagePart:
    """The row of the part in which a launch begins."""
    return _row(active, active.row.part, epoch)


async def next_part(guard: GuardState, active: Active) -> None:
    """JUDGED → the watch (or the drills) of the next part, at its size. Raises what the record raises, and Refused
    where the journal does not tell from what on the part is judged."""
    number, counted = active.row.part + 1, await _counted(active)
    if counted is None:
        raise Refused("the journal's totals, from which the next part is judged, cannot be read: ask again")
    stage = active.whole.at(number)
    happening = Happening.NEXT_PART_DRILLED if stage.drills else Happening.NEXT_PART
    size = f"{stage.inventory_max_quote:f} per symbol, {stage.total_max_quote:f} in all"

    def told(epoch: int) -> Notice:
        words = f"next part {active.whole.part_name(number)}: {size}, epoch {epoch}"
        return said(active, "next_part", words, f"{number}-{epoch}")

    await _enter(guard, active, number, happening, "passed", told, counted)


async def may_step_down(guard: GuardState, active: Active, decision: Decision) -> bool:
    """Whether a verdict against this part leads back to the one before it: where the plan says so, and once. What parks
    (a HOLD the second time, a fault of the environment) says nothing against its size, and goes flat."""
    if decision.action is not Action.ROLL_BACK or active.whole.rollback_to != "plateau" or active.row.part == 0:
        return False
    been = await guard.store.call(guard.store.record.parts, active.id)
    return not any(one.outcome == STEPPED_DOWN for one in been)


async def step_down(guard: GuardState, active: Active, decision: Decision) -> None:
    """WATCHED → the watch of the part before, at its size, which is smaller and holds at once."""
    number = active.row.part - 1

    def told(epoch: int) -> Notice:
        why = f"{decision.criterion_id} {decision.sentence}"
        words = f"stepped down to {active.whole.part_name(number)} under epoch {epoch}: {why}"
        log.warning("%s", words)
        return said(active, STEPPED_DOWN, words, epoch)

    if await _enter(guard, active, number, Happening.STEPPED_DOWN, STEPPED_DOWN, told):
        begin_proof(guard, active)


async def _enter(
    guard: GuardState,
    active: Active,
    number: int,
    happening: Happening,
    before: str,
    told: Callable[[int], Notice],
    counted: list[Any] | None = None,
) -> bool:
    """The next epoch, the record, the grant; False where the stage was stopped meanwhile or somebody else holds it.

    `counted`: the journal's totals, from which the part is judged. Where they are not given they are read once the size
    holds, and waited for like the record: the part before would else be judged with this one.
    """
    was = Step.WATCHED if happening is Happening.STEPPED_DOWN else Step.JUDGED
    step = next_step(was, happening)
    if not active.at(was):
        return False
    try:
        epoch = await next_epoch(guard, f"part {active.whole.part_name(number)}")
    except EpochLost as error:
        _lost(guard, active, str(error))
        return False
    if not active.at(was):  # written now, this would come after the stop, and the record would say that it is watched
        return False
    if happening is Happening.STEPPED_DOWN:
        active.below = active.whole.at(number)
    now = utc_now()
    until = now + timedelta(seconds=active.whole.at(number).lasts_s)
    changes: dict[str, Any] = {"part": number, "part_from": now, "epoch": epoch, "watch_from": now}
    changes |= {"watch_until": until, "watched_at": None, "judged_at": None, "reminded_at": None, "verdict": None}
    changes |= {"evidence_digest": None} | ({} if counted is None else {"baseline": counted})
    record = guard.store.record
    row = _row(active, number, epoch)
    watched_s, notices = _watched_s(active), [told(epoch)]
    steps = {"only_from": was.value, "step": step.value}

    async def enter() -> None:
        if "baseline" not in changes:
            found = await _counted(active)
            if found is None or not active.at(was):
                raise Uncounted("the journal's totals, from which the part is judged, could not be read")
            changes["baseline"] = found
        await guard.store.call(record.enter_part, row, before, watched_s, notices, **steps, **changes)

    if not await _while_recorded(guard, active, was, enter):
        return False
    for name, value in changes.items():
        setattr(active.row, name, value)
    watched = {one.id for one in active.criteria}
    active.enter(number)
    active.prolonged, active.data_check = False, None
    if active.history is not None:
        # What the part before did not look at begins anew: nobody was to look at it, so nobody has failed to.
        streaks = {name: one for name, one in active.history.streaks.items() if name in watched}
        begun = replace(active.history, started_at_ms=now_ms(), lasts_s=active.stage.lasts_s, streaks=streaks)
        active.history = begun.in_next_part()
    if active.at(was):
        active.row.step = step.value
        guard.shown.stage(active.row.stage, active.row.step)
        log.info("%s/%s is %s, part %s", active.row.rollout, active.row.stage, step.value, active.part_name)
    try:
        await renew_once(guard, active)  # at once: the loop would take up to a fifth of the grant's life
    except Fenced as error:
        _lost(guard, active, str(error))
        return False
    return active.at(step)


async def _while_recorded(guard: GuardState, active: Active, was: Step, enter: Callable[[], Awaitable[None]]) -> bool:
    """The same entry again while record or journal is away: the record's answer alone may be lost, and whoever asked
    for a new one would find a part there that is not known here. False where the stage was stopped meanwhile, also by
    this: it waits for no longer than anything may be unknown. Raises what the record raises else."""
    begun_s = time.monotonic()
    while True:
        try:
            await enter()
            return True
        except SQLAlchemyError as error:
            if not is_away(error):
                raise
            log.error("%s waits for the record: %s", active.row.rollout, str(error).splitlines()[0])
            why = ""
        except Uncounted as error:
            why = str(error)
        waited = decide_unrecorded(active.criteria, time.monotonic() - begun_s, now_ms())
        if why:
            waited = replace(waited, sentence=why)
        if waited.action is not Action.CONTINUE:
            end_stage(guard, active, waited)
        if not active.at(was):
            return False
        await asyncio.sleep(RETRY_S)
        if not active.at(was):
            return False


def _watched_s(active: Active) -> float | None:
    """How long the part that ends now was watched."""
    since, until = active.row.watch_from, active.row.watched_at
    return None if since is None or until is None else (until - since).total_seconds()


def _lost(guard: GuardState, active: Active, why: str) -> None:
    limit = "one guard per account"
    end_stage(guard, active, Decision(Action.PARK, "environment", "epoch", None, limit, (), now_ms(), why))


def _row(active: Active, number: int, epoch: int) -> StagePart:
    stage = active.whole.at(number)
    return StagePart(
        stage_run_id=active.id,
        number=number,
        name=active.whole.part_name(number),
        symbols=list(stage.symbols),
        inventory_max_quote=f"{stage.inventory_max_quote:f}",
        total_max_quote=f"{stage.total_max_quote:f}",
        epoch=epoch,
    )
