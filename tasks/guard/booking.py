"""The last word on what an attempt came to: once its account is flat, from the executions that the venue tells.

What it costs to flatten what a bot held is the attempt's as much as what the bot lost itself. It is stored as one more
measurement of the attempt's result, which the candidate's budgets go by, and left beside the journal, where the next
run of the account finds it. What could not be read is UNKNOWN in both places, and promotes and launches nothing; and
nothing is promoted that came to a loss beyond its budgets, whatever its bot had told.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import SQLAlchemyError

from bot.booked import Booked, NotBooked, booked_net, write_booked
from bot.config import load_settings
from bot.domain.order import OWN_PREFIX
from bot.journal import JournalError
from bot.runtime.kill_switch_report import flatten_named_at_ms
from bot.settings_file import ConfigError
from bot.stores.redis_place import RedisPlace, place_for
from gates.criteria import Criterion
from gates.decision import CONTINUE, Action, Decision, decide_final
from gates.judge import Cause, Reading, Sample, Word, verdict
from gates.sources.checks import CheckFacts, measure_checks
from gates.stages import under_root
from tasks.flattenings import flattenings_of
from tasks.guard.facts import RESULTS, Net, pooled
from tasks.guard.keeping import Kept, judged, storing
from tasks.guard.results import BOOKED, RESULT
from tasks.guard.state import Active, GuardState, now_ms
from tasks.record_engine import RecordDamaged
from tasks.rollback import DeskError, in_words
from tasks.venue_desk import VenueDesk

if TYPE_CHECKING:
    from pathlib import Path

    from bot.booked import Execution, Flattening
    from bot.domain.instrument import Instrument
    from bot.venues.bybit.account_client import AccountClient
    from bot.venues.bybit.account_orders import AccountOrder

log = logging.getLogger("slipway.guard.booking")
JOURNAL_STORE: Final = "MM_JOURNAL_STORE"
IN_FILE: Final = "sqlite"
AGAIN_S: Final = (0.5, 1.0, 2.0, 5.0)
WITHIN_S: Final = 60.0
"""For so long it is tried again: a venue lists an execution a moment after it happened."""
AWAY_WITHIN_S: Final = 600.0
"""And for so long where the venue does not answer, or the journal's own server: what stays unknown keeps the candidate
from every live stage."""
RECORD_WITHIN_S: Final = 5.0
"""For so long the record is waited for in one try: until it has what this closing flattened."""
TOLD_AFTER_S: Final = 10.0
"""After so long it is told why the stage does not end yet, whose steps were told as they were proven."""
LOOK_AGAIN_S: Final = 0.5
UNLISTED: Final = Criterion(
    id=RESULT,
    title="Result of this attempt since its launch",
    source="check",
    check=RESULT,
    unit="quote",
    no_go="< -500",  # type: ignore[arg-type]
    severity="advisory",
    phase="guard",
    unknown_deadline_s=60,
    why="Of a stage that is closed without its criteria.",
)


class RecordAway(Exception):
    """What was flattened is not known, as the record is behind or cannot be read. It is waited for however long that
    takes: no stage ends before the record has its steps."""


async def book(guard: GuardState, active: Active, desk: VenueDesk) -> Booked | None:
    """What was left beside the journal; None where there is nothing to book.

    Call once the account is proven flat. Never raises for what a venue, a journal or a disk can do.
    """
    row = active.row
    if active.stage.env != "live" or not active.stage.flatten or row.obs_url is None or active.state_dir is None:
        return None
    began_s, tries = time.monotonic(), 0
    asked_s = began_s
    answered_s: float | None = None  # the venue, since when; only from then on is an execution late
    while True:
        asked_at_ms = now_ms()
        try:
            flattenings = await _flattenings(guard, active)
            net = await desk.read(partial(_net, active, active.state_dir, flattenings, asked_at_ms))
            booked = Booked(asked_at_ms * 1_000_000, net, "", row.account, active.stage.env)
            await asyncio.to_thread(write_booked, active.state_dir, booked, partial(_in_redis, active))
            _store(guard, active, asked_at_ms, net, "")
            return booked
        except Exception as error:  # also what nobody expected: the account is flat, and its end waits for no sum
            now_s = time.monotonic()
            if isinstance(error, RecordAway):
                asked_s, answered_s, until_s = now_s, None, math.inf
            elif isinstance(error, DeskError | JournalError):
                answered_s, until_s = None, asked_s + AWAY_WITHIN_S
            else:
                answered_s = now_s if answered_s is None else answered_s
                until_s = answered_s + WITHIN_S
            why = str(error) if isinstance(error, NotBooked | DeskError | RecordAway) else in_words(error)
            log.error("what %s came to is not known, try %d: %s", row.rollout, tries + 1, why, exc_info=True)
        if time.monotonic() >= began_s + TOLD_AFTER_S:
            words = f"closed but for its result: what the attempt came to is still asked for: {why}"
            guard.notice(active, "result_awaited", words)
        again_s = AGAIN_S[min(tries, len(AGAIN_S) - 1)]
        if time.monotonic() + again_s > until_s:
            break
        await asyncio.sleep(again_s)
        tries += 1
    return await _not_known(guard, active, active.state_dir, why)


async def judge_booked(guard: GuardState, active: Active, booked: Booked) -> Decision:
    """Whether a promotion stands once the attempt is booked: CONTINUE where the loss budgets, by their own bands, PASS.

    A result that is not known parks. What other attempts came to is asked until the shortest deadline, and then parks.
    """
    net = booked.net_quote
    if net is None:
        limit = "known once the account is flat"
        return Decision(Action.PARK, "environment", RESULT, None, limit, (), now_ms(), booked.why)
    budgets = [one for one in active.criteria if _is_budget(one)]
    if not budgets:
        return CONTINUE
    until = time.monotonic() + min(one.unknown_deadline_s for one in budgets)
    while True:
        asked_at_ms = now_ms()
        measured = judged(budgets, measure_checks(budgets, await _facts(guard, active, net), asked_at_ms))
        found = verdict(budgets, [one for _, one in measured])
        if found.word is not Word.HOLD or time.monotonic() >= until:
            guard.store.tell("booked look", storing(guard, active, measured, Kept()))
            return decide_final(found, prolonged=True, at_ms=now_ms())
        await asyncio.sleep(LOOK_AGAIN_S)


def _is_budget(one: Criterion) -> bool:
    return (one.phase, one.severity, one.source) == ("guard", "critical", "check") and one.check in RESULTS


async def _facts(guard: GuardState, active: Active, net: Decimal) -> CheckFacts:
    try:
        told = await pooled(guard, active, net)
    except SQLAlchemyError as failure:
        told = Net(net, error=f"the record could not be read: {str(failure).splitlines()[0]}")
    return CheckFacts(
        digest_signed=active.rollout.settings_digest,
        version_signed=active.rollout.code_version,
        grant_ttl_s=active.plan.grant_ttl_s,
        attempt_net_quote=told.attempt,
        candidate_net_quote=told.candidate,
        stage_net_quote=told.stage,
        told_error=told.error,
    )


async def _not_known(guard: GuardState, active: Active, state_dir: Path, why: str) -> Booked:
    at_ms = now_ms()
    _store(guard, active, at_ms, None, why)
    guard.notice(active, "result_unknown", f"what this attempt came to once it was flat is not known: {why}")
    booked = Booked(at_ms * 1_000_000, None, why, active.row.account, active.stage.env)
    try:
        await asyncio.to_thread(write_booked, state_dir, booked, partial(_in_redis, active))
    except (OSError, ConfigError, JournalError) as error:
        log.error("that the result is not known was not left with the journal: %s", in_words(error))
    return booked


def _in_redis(active: Active) -> RedisPlace | None:
    """Where the run's journal is kept in Redis: a machine that took the account over has no folder that names it.

    Raises ConfigError where neither the environment nor the settings tell.
    """
    store = os.environ.get(JOURNAL_STORE) or load_settings(under_root(active.plan.settings)).journal.store
    if store == IN_FILE or active.state_dir is None:
        return None
    return place_for(store, active.row.account, active.state_dir)


async def _flattenings(guard: GuardState, active: Active) -> list[Flattening]:
    """What this closing flattened, and what an earlier guard's had. Raises RecordAway where the record does not tell:
    without it nobody knows what has to be listed."""
    if not await guard.store.written_within(RECORD_WITHIN_S):
        raise RecordAway("the record is behind: what was flattened is not known")
    rows = guard.store.call(guard.store.record.rollback_steps, active.id)
    try:
        told = await asyncio.wait_for(rows, RECORD_WITHIN_S)
    except RecordDamaged:  # later it is no better
        raise
    except (SQLAlchemyError, TimeoutError) as error:
        raise RecordAway(f"the record does not tell what was flattened: {in_words(error)}") from error
    return flattenings_of(told)


def _filled(client: AccountClient, symbol: str, since_ms: int, names: Sequence[str]) -> Mapping[str, Decimal]:
    """Of the orders named, and of any others of ours since then, whoever sent them: a bot that has not heard of its
    fills, a kill switch of its own process, a guard that did not live to say so. Those are among the newest."""
    found = {
        one.client_order_id: one.filled
        for one in client.recent_orders([symbol])
        if one.client_order_id in names or _is_of_run(one, since_ms)
    }
    for name in names:
        if name not in found and (order := client.order(symbol, name)) is not None:
            found[name] = order.filled
    return found


def _is_of_run(order: AccountOrder, since_ms: int) -> bool:
    """By the venue's clock, as its executions are asked for; where it does not tell, by the id where that does."""
    name, at_ms = order.client_order_id, order.created_ms
    at_ms = flatten_named_at_ms(name) if at_ms is None else at_ms
    return name.startswith(OWN_PREFIX) and at_ms is not None and at_ms >= since_ms


def _net(
    active: Active, state_dir: Path, flattenings: Sequence[Flattening], asked_at_ms: int, client: AccountClient
) -> Decimal:
    def told(symbol: str, since_ms: int) -> tuple[Instrument, Sequence[Execution]]:
        return client.instrument(symbol), client.accounted(symbol, since_ms)

    row = active.row
    created_ms = round(row.created_at.timestamp() * 1000)
    begun_ms = created_ms if row.launched_at is None else round(row.launched_at.timestamp() * 1000)
    begun_ms -= round(active.stage.launch_deadline_s * 1000)
    begun_ms = max(begun_ms, created_ms)  # what happened before is the account's last run's, and was booked there
    journal, filled = state_dir / "journal.db", partial(_filled, client)
    return booked_net(journal, active.whole.symbols, told, begun_ms, asked_at_ms, flattenings, filled)


def _store(guard: GuardState, active: Active, at_ms: int, net: Decimal | None, why: str) -> None:
    criterion = next((one for one in active.criteria if one.id == RESULT), None)
    if criterion is None and active.criteria:
        return  # a plan that measures no results pools none
    samples = () if net is None else (Sample(at_ms, net),)
    reading = Reading(RESULT, at_ms, now_ms() - at_ms, BOOKED, samples, None if samples else Cause.SOURCE_ERROR, why)
    measured = judged([criterion or UNLISTED], [reading])
    guard.store.tell("booked result", storing(guard, active, measured, Kept()))
