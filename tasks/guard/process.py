"""The guard's process: its loops side by side, its one lock, its orderly end.

The loops never wait for one another: grant, measuring (one a source), deciding, inbox, bot watch, course, people,
outbox, beat. When one of them ends by an error nobody expected, the process ends too: its supervisor starts it again,
it reads the tables and goes on, and until then the bot's grant runs out by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
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
from tasks.record_tables import Lock, utc_now
from tasks.record_writer import RecordWriter
from tasks.supervise.identity import Identity, identify

LAST_WORDS_S = 2.0
log = logging.getLogger("slipway.guard")


class AccountTaken(Exception):
    """Another living guard holds this account."""


def take_account(record: RecordWriter) -> None:
    """Locks the account for this process; the lock of a dead process is taken over. Raises AccountTaken."""
    me = identify(os.getpid())
    if me is None:
        raise AccountTaken("this process does not find itself in /proc")
    name = f"guard:{record.account}"
    with record.writing() as session:
        held = session.get(Lock, name)
        if held is not None:
            holder = Identity(held.pid, held.pid_started_ticks)
            if holder != me and holder.is_alive():
                raise AccountTaken(f"account {record.account} already has a guard: pid {held.pid}")
            session.delete(held)
            session.flush()
        session.add(Lock(name=name, holder="guard", pid=me.pid, pid_started_ticks=me.started_ticks, taken_at=utc_now()))


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
    return 1 if broken else 0
