"""Drills on the running bot, before its watch: a fault is made on purpose, and must be seen by the criteria it names.

Each is measured over its own window: PromQL since the drill began, totals from what was counted until then. Expected is
that they FAIL; a drill whose criteria do not, or after which the bot does not quote again, has failed, and the
candidate with it. What could not be made or measured is nobody's fault but ours.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Mapping, Sequence

from bot.journal import JournalError
from gates.course import Happening, Step
from gates.criteria import Criterion
from gates.decision import Action, Decision
from gates.judge import Measurement, Outcome, plain
from gates.parts import Drill
from gates.promql import Selector
from gates.sources.prometheus import PrometheusSource
from gates.sources.tables import measure_tables, totals_of
from gates.sources.totals import Totals
from tasks.guard.closing import end_stage
from tasks.guard.keeping import judged
from tasks.guard.parts import begin_watch
from tasks.guard.state import Active, GuardState, Refused, now_ms, said
from tasks.record_tables import Drill as DrillRow

log = logging.getLogger("slipway.guard.drilling")
LOOK_EVERY_S = 0.5
CALL_AGAIN_S = 1.0


class DrillNotRun(Exception):
    """The drill could not be made or measured; one line."""


async def drill_by_hand(guard: GuardState, active: Active, name: str) -> None:
    """A drill that somebody asks for in the middle of a watch, which then begins anew. Raises Refused."""
    known = [one for number in range(active.whole.part_count) for one in active.whole.at(number).drills]
    if name not in {one.name for one in known}:
        allowed = ", ".join(sorted({one.name for one in known})) or "none: the plan names no drill for it"
        raise Refused(f"drill {name!r} in stage {active.row.stage}; allowed: {allowed}")
    if active.step is Step.DRILLS:
        return
    if active.step is not Step.WATCH:
        raise Refused(f"a drill is run in the middle of a watch; the stage is {active.row.step}")
    await _open(guard, active, next(one for one in known if one.name == name))
    await guard.move(active, Happening.DRILLS_BEGUN)


async def run_drills(guard: GuardState, active: Active) -> None:
    """DRILLS → WATCH once each of the part's drills, and any asked for by hand, has passed; else the end of the stage.

    A guard that comes back runs again what had no outcome yet.
    """
    rows = await guard.store.call(guard.store.record.drills, active.id)
    of_part = [row for row in rows if row.part == active.row.part]
    passed = {row.name for row in of_part if row.outcome == "passed"}
    open_rows = {row.name: row for row in of_part if not row.outcome}
    wanted = {one.name: one for one in active.stage.drills if one.name not in passed}
    everywhere = [one for number in range(active.whole.part_count) for one in active.whole.at(number).drills]
    wanted |= {one.name: one for one in everywhere if one.name in open_rows}
    for drill in wanted.values():
        row = open_rows.get(drill.name) or await _open(guard, active, drill)
        if not await _run(guard, active, drill, row):
            return
    if active.at(Step.DRILLS):
        await begin_watch(guard, active, Happening.DRILLS_PASSED)  # else the course looks again at its next turn


async def _open(guard: GuardState, active: Active, drill: Drill) -> DrillRow:
    row = DrillRow(stage_run_id=active.id, name=drill.name, part=active.row.part, criteria=list(drill.trips))
    row.id = await guard.store.call(guard.store.record.add_drill, row)
    return row


async def _run(guard: GuardState, active: Active, drill: Drill, row: DrillRow) -> bool:
    """Whether it passed; where it did not, the stage is being ended."""
    log.info("drill %s begins; it must trip %s", drill.name, ", ".join(drill.trips))
    try:
        tripped = await _tripped(active, drill, guard.prometheus_url)
    except DrillNotRun as error:
        await guard.store.call(guard.store.record.end_drill, row.id or 0, "not_run", {"why": str(error)})
        _end(guard, active, drill, Action.PARK, str(error))
        return False
    missing = [name for name in drill.trips if name not in tripped]
    if not active.at(Step.DRILLS):
        return False
    if missing:
        why = f"not seen to trip: {', '.join(missing)}"
        await guard.store.call(guard.store.record.end_drill, row.id or 0, "failed", {**tripped, "why": why})
        _end(guard, active, drill, Action.ROLL_BACK, why)
        return False
    words = ", ".join(f"{name} {value}" for name, value in tripped.items())
    told = [said(active, "drill", f"drill {drill.name} passed: tripped {words}", row.id)]
    await guard.store.call(guard.store.record.end_drill, row.id or 0, "passed", dict(tripped), told)
    return True


def _end(guard: GuardState, active: Active, drill: Drill, action: Action, why: str) -> None:
    limit = f"trips {', '.join(drill.trips)} within {drill.window_s:g} s, and quotes again"
    fault = "candidate" if action is Action.ROLL_BACK else "environment"
    name = f"drill_{drill.name.replace('-', '_')}"
    end_stage(guard, active, Decision(action, fault, name, None, limit, (), now_ms(), why))  # type: ignore[arg-type]


async def _tripped(active: Active, drill: Drill, prometheus_url: str) -> Mapping[str, str]:
    """Criterion → the value by which it was tripped; those that were not are missing. Raises DrillNotRun."""
    if active.operator is None or active.state_dir is None:
        raise DrillNotRun("the bot has not told its address")
    journal = active.state_dir / "journal.db"
    try:
        before = await asyncio.to_thread(totals_of, journal)
    except (JournalError, OSError, sqlite3.Error) as error:
        raise DrillNotRun(str(error)) from error
    since_s, until = time.time(), time.monotonic() + drill.window_s
    await _call(active, drill, until)
    criteria = [one for one in active.criteria if one.id in drill.trips]
    tripped: dict[str, str] = {}
    quotes_again, last = False, {}
    plan = active.plan
    source = PrometheusSource(prometheus_url, plan.source_timeout_s, plan.stale_after_s, plan.scrape_every_s)
    async with source:
        while active.at(Step.DRILLS) and time.monotonic() < until:
            open_ones = [one for one in criteria if one.id not in tripped]
            for one in await _measured(active, open_ones, source, since_s, before):
                last[one.criterion_id] = one
                if one.outcome is Outcome.FAIL:
                    tripped[one.criterion_id] = "" if one.value is None else plain(one.value)
            quotes_again = await _is_running(active)
            if len(tripped) == len(drill.trips) and quotes_again:
                return tripped
            await asyncio.sleep(LOOK_EVERY_S)
    unseen = [name for name, one in last.items() if name not in tripped and one.outcome is Outcome.UNKNOWN]
    if unseen and active.at(Step.DRILLS):
        raise DrillNotRun(f"{unseen[0]} could not be measured: {last[unseen[0]].reason}")
    if not quotes_again:
        return {}
    return tripped


async def _call(active: Active, drill: Drill, until: float) -> None:
    """Asks the bot until it takes the call. Raises DrillNotRun once half of the window is gone."""
    half = until - drill.window_s / 2
    while active.operator is not None:
        told = await active.operator.drill(drill.name)
        if told.ok:
            return
        if time.monotonic() >= half:
            raise DrillNotRun(f"the bot does not take the call: {told.detail}")
        await asyncio.sleep(CALL_AGAIN_S)
    raise DrillNotRun("the bot's address is gone")


async def _is_running(active: Active) -> bool:
    if active.operator is None:
        return False
    told = await active.operator.status()
    return told.ok and told.body.get("state") == "RUNNING"


async def _measured(
    active: Active, criteria: Sequence[Criterion], source: PrometheusSource, since_s: float, before: Totals
) -> list[Measurement]:
    if not criteria or active.state_dir is None:
        return []
    row, journals = active.row, [active.state_dir / "journal.db"]
    readings = await asyncio.to_thread(
        lambda: measure_tables(criteria, journals, now_ms(), None, before, all_from_baseline=True)
    )
    selector = Selector(row.account, row.rollout, row.stage, since_s)
    readings += await source.measure(criteria, selector, time.time())
    return [one for _, one in judged(criteria, readings)]
