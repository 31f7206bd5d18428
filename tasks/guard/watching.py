"""What goes on by itself: the clock of the course, the bot's process, people's deadlines, the outbox, the beat."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy.exc import SQLAlchemyError

from gates.course import Happening, IllegalStep, Step
from gates.decision import Action, decide_silence, decide_unasked
from tasks.guard.asking import where
from tasks.guard.blindness import watch_is_whole
from tasks.guard.closing import bot_died, end_stage
from tasks.guard.drilling import run_drills
from tasks.guard.judging import run_data_check
from tasks.guard.parts import begin_watch
from tasks.guard.promoting import needs_window
from tasks.guard.repeating import repeat_run
from tasks.guard.state import Active, GuardState, Refused, now_ms, said
from tasks.guard.untaken import Untaken
from tasks.launch import how_it_ended, is_alive
from tasks.notify import ON_ITS_WAY, Deliver, Delivery, again_in_s, deliverer
from tasks.record_tables import Outbox, utc_now
from tasks.record_writer import Notice

log = logging.getLogger("slipway.guard.watching")
BOT_EVERY_S = 0.1
COURSE_EVERY_S = 0.2
PEOPLE_EVERY_S = 1.0
OUTBOX_EVERY_S = 0.5
UNTAKEN_S = 3.0
"""How long a notice waits for a record that takes nothing."""
NETWORKED = ("testnet", "live")
WAITING = (Step.READY, Step.WATCHED, Step.JUDGED)
"""Where a stage goes on only when somebody asks."""


async def watch_bot(guard: GuardState) -> None:
    """The bot's own process, ten times a second: an undrilled death is a NO-GO of the candidate.

    Also while it is promoted, until it is asked to stop.
    """
    while True:
        active = guard.active
        if active is not None and active.bot is not None and _must_live(active):
            identity = active.bot.identity
            if not is_alive(identity) and active.stage.env in NETWORKED:
                end_stage(guard, active, bot_died(active, how_it_ended(identity, active.bot.state_dir)))
        await asyncio.sleep(BOT_EVERY_S)


def _must_live(active: Active) -> bool:
    closing = active.closing is not None and active.step is not Step.PROMOTING
    if active.bot is not None and active.drilled.kills(active.bot.identity):
        return False
    return not (active.launching or active.stop_asked or active.bot_gone or closing)


async def keep_course(guard: GuardState) -> None:
    """Warm-up and watch end by the clock of the tables, so a guard that comes back goes on where it stood."""
    while True:
        async with guard.course:  # a drill asked for by hand moves the stage as well
            active = guard.active
            if active is not None and not active.launching:
                try:
                    await _course_of(guard, active)
                except SQLAlchemyError as error:
                    log.error("the course was not written: %s", str(error).splitlines()[0])
                except IllegalStep as error:  # a guard that ended by it would leave a rollback half done
                    log.error("the course was overtaken and looks again: %s", error)
        await asyncio.sleep(COURSE_EVERY_S)


async def _course_of(guard: GuardState, active: Active) -> None:
    row, stage = active.row, active.stage
    now = utc_now()
    if active.step is Step.WARM_UP and row.launched_at is not None:
        warm_at = row.launched_at + timedelta(seconds=stage.warm_up_s)
        if now >= warm_at and stage.drills:
            await guard.move(active, Happening.DRILLS_BEGUN)
        elif now >= warm_at:
            await begin_watch(guard, active, Happening.WARMED_UP)
    elif active.step is Step.DRILLS:
        if active.drilling is None or active.drilling.done():
            active.drilling = guard.spawn(run_drills(guard, active), "drills")
    elif active.step is Step.WATCH and row.watch_until is not None:
        left_s = (row.watch_until - now).total_seconds()
        wanted = any(one.check == "great_expectations" for one in active.criteria)
        if wanted and active.data_check is None and left_s <= stage.lasts_s / 3:
            active.data_check = guard.spawn(run_data_check(guard, active), "data check")
        if active.repeat_check is None and any(one.check == "report_repeats" for one in active.criteria):
            active.repeat_check = guard.spawn(repeat_run(active), "repeated run")
        if left_s <= 0 and await watch_is_whole(guard, active):
            await guard.move(active, Happening.WATCH_OVER, watched_at=now)


async def watch_people(guard: GuardState) -> None:
    """Reminder and expiry of sign-offs, and of a step that nobody asks for. Silence parks on live: flat where the bot
    runs, before the grant otherwise. Before live the stage holds first."""
    while True:
        active = guard.active
        if active is None or active.closing is not None or active.step not in (Step.READY, Step.JUDGED):
            guard.shown.pending(sign_offs=0)
        if active is not None and active.closing is None and active.step in WAITING:
            try:
                async with guard.course:  # a judgement or a promotion that is under way has been asked for
                    if active.step is Step.WATCHED:
                        _expire(guard, active, "judge", active.row.watched_at, active.stage.sign_off_expiry_s)
                    elif active.step in WAITING:
                        await _people_of(guard, active)
            except SQLAlchemyError as error:
                log.error("sign-offs could not be read: %s", str(error).splitlines()[0])
        await asyncio.sleep(PEOPLE_EVERY_S)


async def _people_of(guard: GuardState, active: Active) -> None:
    name = "entry" if active.step is Step.READY else "exit"
    asked_at = active.row.ready_at if name == "entry" else active.row.judged_at
    try:
        gate = active.gate(name)
    except Refused:
        return
    if asked_at is None:
        return
    quorum = await guard.store.call(guard.desk.quorum, gate)
    guard.shown.pending(sign_offs=len(quorum.missing))
    waited_s = (utc_now() - asked_at).total_seconds()
    if active.closing is not None:
        return
    if quorum.complete and name == "entry":
        _expire(guard, active, "launch", asked_at, active.plan.max_age_s)
    elif quorum.complete:
        signed_at = await guard.store.call(guard.desk.complete_since, gate)
        may_since = _may_promote_since(active, max(asked_at, signed_at or asked_at))
        _expire(guard, active, "promote", may_since, active.stage.sign_off_expiry_s)
    elif waited_s >= active.stage.sign_off_expiry_s:
        _silent(guard, active, name, waited_s, quorum.missing)
    elif waited_s >= active.stage.sign_off_reminder_s and active.row.reminded_at is None:
        reminded_at = active.row.reminded_at = utc_now()
        record, number = guard.store.record, active.id
        words = f"{name} sign-offs: still waiting for {', '.join(quorum.missing)}; {where(active, gate.digest)}"
        told = [said(active, "reminder", words, f"{name} {active.visit}")]

        def remind(notices: Sequence[Notice]) -> None:
            record.change_stage_run(number, "reminder", notices, reminded_at=reminded_at)

        guard.store.tell("reminder", guard.telling(told, remind))


def _may_promote_since(active: Active, signed_at: datetime) -> datetime | None:
    """From when on somebody could have asked to promote: signed, and the window open ever since. None while it is
    closed: then the stage waits for the window, not for people."""
    return active.plan.promotion.open_since(utc_now(), signed_at) if needs_window(active) else signed_at


def _silent(guard: GuardState, active: Active, gate: str, waited_s: float, missing: Sequence[str]) -> None:
    """Nobody signed in time: parked, or held, which is told and recorded once."""
    ends_s = active.plan.sign_offs_end_s(active.stage)
    decision = decide_silence(gate, waited_s, ends_s, now_ms())
    if decision.action is not Action.CONTINUE:
        end_stage(guard, active, decision)
        return
    key = f"{gate} expired {active.visit}"
    if key in active.told:
        return
    active.told.add(key)
    record, body = guard.store.record, {"stage_run": active.id, "gate": gate, "missing": list(missing)}
    words = (
        f"HOLD: {gate} sign-offs expired, missing {', '.join(missing)}; parked where nobody signs within {ends_s:g} s"
    )

    def hold(notices: Sequence[Notice]) -> None:
        record.append_told("hold", body, notices)

    guard.store.tell("hold", guard.telling([said(active, "hold", words, key)], hold))


def _expire(guard: GuardState, active: Active, what: str, since: datetime | None, within_s: float) -> None:
    if since is not None and (utc_now() - since).total_seconds() >= within_s and active.closing is None:
        end_stage(guard, active, decide_unasked(what, within_s, now_ms()))


async def deliver_notices(guard: GuardState) -> None:
    """The outbox: each notice until it is delivered, with back-off; nothing waits for it, and it ends nothing."""
    deliver = deliverer()
    while True:
        try:
            await deliver_due(guard, deliver)
        except SQLAlchemyError as error:
            log.error("outbox: %s", str(error).splitlines()[0])
        except Exception as error:  # a notice is never worth the guard: what nobody expected is logged, and tried again
            log.error("outbox: %s", type(error).__name__, exc_info=error)
        await asyncio.sleep(OUTBOX_EVERY_S)


async def deliver_due(guard: GuardState, deliver: Deliver) -> None:
    """One try of the notices that are due now, in their order: while Slack is away, none is told before an older one.

    One that is refused for what it says holds up no other.
    """
    record = guard.store.record
    async with guard.delivering:
        if guard.tried:  # how they ended decides who is next, and the record still calls them due
            return
        due = await guard.store.call(lambda: [one for one in record.due_notices() if one.key not in guard.untaken])
        newest = max((one.id or 0 for one in due), default=0)
        if time.monotonic() < guard.slack_away[0] and newest <= guard.slack_away[1]:
            return
        guard.shown.pending(notices=await guard.store.call(record.undelivered))
        for notice in due:
            await guard.store.call(record.notice_leaves, notice.id or 0, ON_ITS_WAY)
            try:
                came = await deliver(notice)
            except Exception as error:  # noqa: BLE001 - holds up no other notice; a trace may tell the address, a secret
                came = Delivery(f"not delivered: {type(error).__name__}", about_this_one=True)
            _write_try(guard, notice.id or 0, came.error, again_in_s(notice.attempts) if came.about_this_one else None)
            if came.error and not came.about_this_one:
                guard.slack_away = (time.monotonic() + again_in_s(notice.attempts), newest)
                break


def _write_try(guard: GuardState, number: int, error: str, again_in_s: float | None) -> None:
    """As soon as the record takes it; until then the notice is not tried again: it may have been delivered."""

    def write() -> None:
        guard.store.record.notice_tried(number, error, again_in_s)
        guard.tried.discard(number)

    guard.tried.add(number)
    guard.store.tell("notice", write)


async def deliver_untaken(guard: GuardState) -> None:
    """Notices that a record which is away has not taken for UNTAKEN_S go out without it, each once."""
    deliver = deliverer()
    while True:
        await asyncio.sleep(OUTBOX_EVERY_S)
        if guard.store.away_s() < UNTAKEN_S:
            continue
        for key, one in guard.untaken.unsent():
            if guard.untaken.begin_sending(key):  # not taken meanwhile
                await _send_untaken(guard, deliver, key, one)


async def _send_untaken(guard: GuardState, deliver: Deliver, key: str, one: Untaken) -> None:
    notice = Outbox(key=key, account=guard.account, kind=one.kind, text=f"{one.line} (not in the record yet)")
    untaken, delivered, is_out = guard.untaken, False, guard.store.record.notice_is_out
    try:
        delivered = not (await deliver(notice)).error
    except Exception as error:  # noqa: BLE001 - tried again; a trace may tell the address, a secret
        log.error("notice %s was not delivered: %s", one.kind, type(error).__name__)
    finally:
        written = untaken.end_sending(key, delivered=delivered)
    if written:  # while it was on its way
        guard.store.tell("notice is out", lambda: untaken.settle(key, is_out))


async def say_last_words(guard: GuardState) -> None:
    """Before an orderly end: what was told is written, what is due is delivered. The rest keeps for the next guard."""
    await guard.store.settled()
    await deliver_due(guard, deliverer())
    await guard.store.settled()


async def beat(guard: GuardState) -> None:
    while True:
        guard.shown.beat(time.time())
        await asyncio.sleep(0.5)
