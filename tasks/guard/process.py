"""The guard's process: its loops side by side, its one lock, its orderly end.

The loops never wait for one another: grant, measuring (one a source), deciding, inbox, bot watch, course, people,
outbox, beat, lock. When one of them ends by an error nobody expected, the process ends too: its supervisor starts it
again, it reads the tables and goes on, and until then the bot's grant runs out by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal

from sqlalchemy.exc import SQLAlchemyError

from tasks.guard.drill_faults import DrillNotRun
from tasks.guard.drill_operations import forget_lowered
from tasks.guard.grants import renew_for_ever
from tasks.guard.looking import SOURCES
from tasks.guard.measuring import decide_for_ever, measure_for_ever
from tasks.guard.requests import answer_for_ever
from tasks.guard.resume import CannotResume, resume, resume_later
from tasks.guard.state import GuardState
from tasks.guard.watching import (
    beat,
    deliver_notices,
    deliver_untaken,
    keep_course,
    say_last_words,
    watch_bot,
    watch_people,
)
from tasks.record_lock import AccountTaken

LAST_WORDS_S = 2.0
KEEP_EVERY_S = 1.0
log = logging.getLogger("slipway.guard")


async def keep_account(guard: GuardState) -> None:
    """Ends where the account is not this guard's any more: another machine has it by a person's word. Raises
    AccountTaken; the bot's grant then runs out."""
    while True:
        await asyncio.sleep(KEEP_EVERY_S)
        try:
            held = await guard.store.call(guard.store.record.holds_account, guard.machine)
        except SQLAlchemyError as error:
            log.error("the lock could not be read: %s", str(error).splitlines()[0])
            continue
        if not held:
            raise AccountTaken(f"account {guard.account} was taken over: this guard ends, its bot's grant runs out")


async def _forget_lowered(guard: GuardState) -> None:
    """A guard that died in a drill may have left an alert that fires for nothing."""
    try:
        await forget_lowered(guard)
    except DrillNotRun as error:
        log.warning("%s", error)


async def run_guard(guard: GuardState) -> int:
    """Runs until SIGTERM or an error. Ending leaves the bot alone: its grant runs out, the next guard adopts it."""
    stopped = asyncio.Event()
    loop = guard.loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    writing = loop.create_task(guard.store.write_told(), name="record")
    guard.spawn(_forget_lowered(guard), "lowered alert")
    try:
        await resume(guard)
    except CannotResume as error:
        guard.spawn(resume_later(guard, str(error)), "resume")
    loops = [
        writing,
        loop.create_task(renew_for_ever(guard), name="grant"),
        *(loop.create_task(measure_for_ever(guard, source), name=f"measure {source}") for source in SOURCES),
        loop.create_task(decide_for_ever(guard), name="decide"),
        loop.create_task(answer_for_ever(guard), name="inbox"),
        loop.create_task(watch_bot(guard), name="bot"),
        loop.create_task(keep_course(guard), name="course"),
        loop.create_task(watch_people(guard), name="people"),
        loop.create_task(deliver_notices(guard), name="outbox"),
        loop.create_task(deliver_untaken(guard), name="outbox beside the record"),
        loop.create_task(beat(guard), name="beat"),
        loop.create_task(keep_account(guard), name="account"),
    ]
    ending = loop.create_task(stopped.wait(), name="signal")
    done, _ = await asyncio.wait({*loops, ending}, return_when=asyncio.FIRST_COMPLETED)
    broken = [task for task in done if task is not ending]
    for task in broken:
        log.error("loop %s ended: %r", task.get_name(), task.exception(), exc_info=task.exception())
    if not broken:
        with contextlib.suppress(TimeoutError, SQLAlchemyError):
            await asyncio.wait_for(say_last_words(guard), LAST_WORDS_S)
    for task in (*loops, *guard.tasks, ending):
        task.cancel()
    await asyncio.gather(*loops, *guard.tasks, ending, return_exceptions=True)
    if guard.active is not None and guard.active.operator is not None:
        await guard.active.operator.close()
    if not broken:  # last of all: from here on another machine may act on the account
        with contextlib.suppress(TimeoutError, SQLAlchemyError):
            await asyncio.wait_for(guard.store.call(guard.store.record.give_back_account, guard.machine), LAST_WORDS_S)
    return 1 if broken else 0
