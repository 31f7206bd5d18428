"""One look at criteria now, whatever the loops have measured: for a verdict, for a promotion, and for the last look at
how a bot that is gone had behaved."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from bot.journal import JournalError
from gates.criteria import Criterion
from gates.decision import CONTINUE, Action, Decision, decide_final
from gates.judge import Cause, Measurement, Outcome, Reading, Word, verdict
from gates.sources.prometheus import PrometheusSource
from gates.sources.tables import found_since, less, sums_dated, sums_totals
from gates.sources.totals import Totals
from tasks.guard.keeping import Kept, judged, storing
from tasks.guard.readings import read_checks, read_prometheus, read_tables
from tasks.guard.state import Active, GuardState, now_ms

Read = Callable[[GuardState, Active, Sequence[Criterion], PrometheusSource], Awaitable[list[Reading]]]
SOURCES: dict[str, Read] = {"promql": read_prometheus, "table": read_tables, "check": read_checks}
LOOK_AGAIN_S = 0.5


async def measure_now(
    guard: GuardState, active: Active, criteria: Sequence[Criterion]
) -> list[tuple[Criterion, Measurement]]:
    """One reading of each, at one time. A source that does not answer makes them UNKNOWN within its time-out."""
    plan = active.plan
    source = PrometheusSource(guard.prometheus_url, plan.source_timeout_s, plan.stale_after_s, plan.scrape_every_s)
    measured: list[tuple[Criterion, Measurement]] = []
    async with source:
        for name, read in SOURCES.items():
            chosen = [one for one in criteria if one.source == name]
            if chosen:
                measured += judged(chosen, await read(guard, active, chosen, source))
    return measured


async def last_look(guard: GuardState, active: Active) -> Decision:
    """The hard-safety totals once more, now that nothing can be added to them: the bot is proven gone.

    CONTINUE where all PASS. What cannot be read is read again until its shortest deadline, and then parks.
    """
    hard = _hard(active)
    if not hard:
        return CONTINUE
    until = time.monotonic() + min(one.unknown_deadline_s for one in hard)
    while True:
        measured = await measure_now(guard, active, hard)
        found = verdict(hard, [one for _, one in measured])
        if found.word is not Word.HOLD or time.monotonic() >= until:
            guard.store.tell("last look", storing(guard, active, measured, Kept()))
            return decide_final(found, prolonged=True, at_ms=now_ms())
        await asyncio.sleep(LOOK_AGAIN_S)


async def look_back(guard: GuardState, active: Active) -> Decision:
    """The last look at a stage that is parked: whether the candidate had broken a hard-safety criterion by its stop.

    The guard's criteria count until the bot is proven gone, and a stop for another's sake must not hide what nobody had
    looked at yet. But a stop breaks criteria itself, so here only these count:

    - what sums the journal's totals, whose FAIL is the candidate's and needs no duration. What asks the process, its
      grant or Prometheus sees our own stop.
    - of them in full what tells of orders that the bot sent, until it was gone: no stop makes one cross or take. What
      the bot found about itself and the account (freezes, differences) counts as of the stop, by the times in its
      journal: afterwards the kill switch trades on the account beside it. Where that is open, it stays parked.
    - not what a drill that has not passed was to break: what that made it count is not known yet.

    CONTINUE where nothing is held against it, also for a bot that was never sent a grant; PARK where it was not told
    until the shortest deadline. What a journal does not have will not come: that is not waited for.
    """
    row = active.row
    if not active.criteria and row.obs_url is not None:
        said = "its criteria do not load any more"
        return Decision(Action.PARK, "environment", "last_look", None, "criteria load", (), now_ms(), said)
    hard = [one for one in _hard(active) if _tells_of_before(one) and one.id not in active.drilled.unproven]
    if not hard or row.obs_url is None:
        return CONTINUE
    until = time.monotonic() + min(one.unknown_deadline_s for one in hard)
    while True:
        measured = await measure_now(guard, active, hard)
        if any(one.outcome is Outcome.FAIL for _, one in measured):
            measured = await asyncio.to_thread(_as_of_the_stop, active, measured)
        found = verdict(hard, [one for _, one in measured])
        unread = any(one.outcome is Outcome.UNKNOWN and one.cause is not Cause.NO_DATA for _, one in measured)
        if found.word is Word.NO_GO or not unread or time.monotonic() >= until:
            guard.store.tell("last look", storing(guard, active, measured, Kept()))
            return decide_final(found, prolonged=True, at_ms=now_ms())
        await asyncio.sleep(LOOK_AGAIN_S)


def _hard(active: Active) -> list[Criterion]:
    return [one for one in active.criteria if (one.phase, one.severity, one.source) == ("guard", "critical", "table")]


def _tells_of_before(one: Criterion) -> bool:
    return one.on_no_go == "candidate" and one.for_s == 0 and sums_totals(one)


def _as_of_the_stop(
    active: Active, measured: Sequence[tuple[Criterion, Measurement]]
) -> list[tuple[Criterion, Measurement]]:
    """The same without what the bot found after its stop; UNKNOWN where the journal does not tell when it did."""
    stopped_at = active.row.seen_at
    since_ns = 0 if stopped_at is None else round(stopped_at.timestamp() * 1000) * 1_000_000
    later: Totals = {}
    unread = ""
    try:
        if active.state_dir is None:
            raise FileNotFoundError("no run of this stage has a state folder")
        later = found_since(active.state_dir / "journal.db", since_ns)
    except (JournalError, OSError, sqlite3.Error) as error:
        unread = " ".join(str(error).split())
    readings = [less(criterion, one.reading, later, "found after the stop") for criterion, one in measured]
    if unread:
        readings = [
            replace(one, samples=(), failure=Cause.SOURCE_ERROR, detail=unread) if sums_dated(criterion) else one
            for (criterion, _), one in zip(measured, readings, strict=True)
        ]
    return judged([criterion for criterion, _ in measured], readings)
