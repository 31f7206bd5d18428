"""Drills on the running bot, before its watch: a fault is made on purpose, and must be seen by the criteria it names.

Each is measured over its own window: PromQL since the drill began, totals from what was counted until then. Expected is
that they FAIL; a drill whose criteria do not, or after which the bot does not quote again, has failed, and the
candidate with it. Guard criteria among them end nothing meanwhile, and have to PASS again without what the drill made
them count. What could not be made or measured is nobody's fault but ours.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from bot.journal import JournalError, JournalReader
from gates.course import Happening, Step
from gates.criteria import Criterion
from gates.decision import Action, Decision
from gates.judge import Measurement, Outcome, plain
from gates.parts import Drill
from gates.promql import Selector
from gates.sources import totals
from gates.sources.prometheus import PrometheusSource
from gates.sources.tables import measure_tables, totals_of
from gates.sources.totals import Totals
from gates.stages import criteria_of
from tasks.guard.closing import end_stage
from tasks.guard.drill_faults import (
    DrillFailed,
    DrillNotRun,
    Fault,
    Freeze,
    KillSwitchRun,
    MakerPolicy,
    Orphan,
    Restart,
    StreamLoss,
)
from tasks.guard.drill_operations import Alert, Backup
from tasks.guard.drilled import BEFORE, SILENCED, SINCE, add, counts, drilled_so_far
from tasks.guard.grants import Fenced
from tasks.guard.keeping import Kept, judged, storing
from tasks.guard.looking import measure_now
from tasks.guard.parts import begin_watch
from tasks.guard.readings import read_checks
from tasks.guard.state import Active, GuardState, Refused, RefusedForNow, now_ms, said
from tasks.launch import is_alive
from tasks.record_tables import Drill as DrillRow
from tasks.record_writer import EpochLost
from tasks.rollback import in_words

log = logging.getLogger("slipway.guard.drilling")
LOOK_EVERY_S = 0.5
LOOK_TIMEOUTS: Final = 2
"""A look that takes this many times as long as Prometheus may take was held up by the machine."""
ENDS: Final = ("failed", "not_run")
"""Outcomes of a drill that end its stage."""

FAULTS: Final[Mapping[str, type[Fault]]] = {
    "freeze": Freeze,
    "maker-policy": MakerPolicy,
    "kill-switch": KillSwitchRun,
    "restart": Restart,
    "orphan": Orphan,
    "stream-loss": StreamLoss,
    "alert": Alert,
    "backup": Backup,
}
"""How each drill that a plan may name is made."""


async def drill_by_hand(guard: GuardState, active: Active, name: str) -> None:
    """A drill that somebody asks for in the middle of a watch, which then begins anew. Raises Refused."""
    known = {one.name: (one, number) for number, one in reversed(_declared(active))}
    if name not in known:
        allowed = ", ".join(sorted(known)) or "none: the plan names no drill for it"
        raise Refused(f"drill {name!r} in stage {active.row.stage}; allowed: {allowed}")
    if active.step is Step.DRILLS:
        rows = await guard.store.call(guard.store.record.drills, active.id)
        to_come = _to_come(active, [row for row in rows if row.part == active.row.part])
        if name not in to_come:  # one that has passed before is not made by asking for it now
            others = ", ".join(to_come) or "none any more"
            raise RefusedForNow(f"drill {name!r} is not among the drills that are made now: {others}; ask again")
        return
    if active.step is not Step.WATCH:
        raise Refused(f"a drill is run in the middle of a watch; the stage is {active.row.step}")
    # The step first: a row without it would stand open for ever, and excuse what it names at every next guard.
    await guard.move(active, Happening.DRILLS_BEGUN)
    active.refuse_unless(Step.DRILLS)
    await _open(guard, active, known[name][0])
    active.refuse_unless(Step.DRILLS)


def _declared(active: Active) -> list[tuple[int, Drill]]:
    """Every drill of the stage, with the number of its part."""
    return [(number, one) for number in range(active.whole.part_count) for one in active.whole.at(number).drills]


async def run_drills(guard: GuardState, active: Active) -> None:
    """DRILLS → WATCH once each of the part's drills, and any asked for by hand, has passed; else the end of the stage.

    A guard that comes back runs again what had no outcome yet.
    """
    rows = await guard.store.call(guard.store.record.drills, active.id)
    of_part = [row for row in rows if row.part == active.row.part]
    # From the record: one that is made again, because it was not written that it had passed, is taken off once.
    so_far = drilled_so_far(active.whole, rows, active.drilled_part)
    active.drilled.uncounted, active.drilled.unproven = so_far.uncounted, so_far.unproven
    by_name: dict[str, Drill] = {one.name: one for _, one in reversed(_declared(active))}
    ended = next((row for row in of_part if row.outcome in ENDS and row.name in by_name), None)
    if ended is not None:  # the guard that made it died before it had written what follows
        _end(guard, active, by_name[ended.name], ended.outcome, str(ended.proof.get("why", "")))
        return
    open_rows = {row.name: row for row in of_part if not row.outcome}
    wanted = _to_come(active, of_part)
    for drill in wanted.values():
        row = open_rows.get(drill.name)
        unseen = "" if row is not None else await _out_of_sight(guard, active, drill)
        if not active.at(Step.DRILLS):
            return
        if row is None:
            row = await _open(guard, active, drill)
        if not await _run(guard, active, drill, row, unseen):
            return
    if active.at(Step.DRILLS):
        await begin_watch(guard, active, Happening.DRILLS_PASSED)  # else the course looks again at its next turn


def _to_come(active: Active, of_part: Sequence[DrillRow]) -> dict[str, Drill]:
    """By name, what has to be made: what the part names and has not passed, and what was begun."""
    passed = {row.name for row in of_part if row.outcome == "passed"}
    begun = {row.name for row in of_part if not row.outcome}
    wanted: dict[str, Drill] = {one.name: one for one in active.stage.drills if one.name not in passed}
    wanted.update((one.name, one) for _, one in reversed(_declared(active)) if one.name in begun)
    return wanted


def _criteria(active: Active, drill: Drill) -> tuple[Criterion, ...]:
    """What the drill must trip: as the present part measures it, else as the part that declares the drill does."""
    parts = [number for number, one in _declared(active) if one.name == drill.name]
    declared = [one for number in parts for one in criteria_of(active.whole.at(number))]
    known = {one.id: one for one in (*reversed(declared), *active.criteria)}
    return tuple(known[name] for name in drill.trips if name in known)


async def _open(guard: GuardState, active: Active, drill: Drill) -> DrillRow:
    """Its row, with what its totals are now: a guard that comes back in the middle must not take off less."""
    proof: dict[str, Any] = {}
    if counted := counts(_criteria(active, drill), drill.trips):
        before, newest = await _totals(active, counted), await _newest_entry(active)
        proof = ({BEFORE: before} if before else {}) | ({} if newest is None else {SINCE: newest})
    row = DrillRow(
        stage_run_id=active.id, name=drill.name, part=active.row.part, criteria=list(drill.trips), proof=proof
    )
    row.id = await guard.store.call(guard.store.record.add_drill, row)
    return row


async def _totals(active: Active, criteria: Sequence[Criterion]) -> dict[str, str] | None:
    """What the journal has counted for each of these so far; None where one cannot be read."""
    if active.state_dir is None:
        return None
    journals = [active.state_dir / "journal.db"]
    readings = await asyncio.to_thread(measure_tables, criteria, journals, now_ms())
    if any(not one.samples or one.samples[0].value is None for one in readings):
        return None
    return {one.criterion_id: plain(value) for one in readings if (value := one.samples[0].value) is not None}


async def _newest_entry(active: Active) -> int | None:
    """The number of the newest entry of the bot's journal, 0 where it has none; None where that cannot be read."""
    if active.state_dir is None:
        return None
    path = active.state_dir / "journal.db"

    def read() -> int:
        with JournalReader(path) as reader:
            return int(next(iter(reader.rows("SELECT coalesce(max(seq), 0) FROM entry")))[0])

    try:
        return await asyncio.to_thread(read)
    except (JournalError, OSError) as error:
        log.warning("where a drill begins in the journal could not be read: %s", error)
        return None


async def _out_of_sight(guard: GuardState, active: Active, drill: Drill) -> str:
    """Waits until Prometheus sees the bot, where it measures what the drill must trip; why it does not, in words.

    One that has just been launched is found there some seconds later: a fault that was over by then nobody could have
    seen, and it would be held against the candidate.
    """
    if not any(one.source == "promql" for one in _criteria(active, drill)):
        return ""
    plan, row, until = active.plan, active.row, time.monotonic() + drill.window_s
    selector = Selector(row.account, row.rollout, row.stage, 0.0)
    async with PrometheusSource(
        guard.prometheus_url, plan.source_timeout_s, plan.stale_after_s, plan.scrape_every_s
    ) as source:
        while active.at(Step.DRILLS):
            failed = await source.freshness(selector, time.time())
            if failed is None:
                break
            if time.monotonic() >= until:
                return f"the bot could not be seen: {failed.detail}"
            await asyncio.sleep(LOOK_EVERY_S)
    return ""


async def _run(guard: GuardState, active: Active, drill: Drill, row: DrillRow, unseen: str) -> bool:
    """Whether it passed; where it did not, the stage is being ended. `unseen`: why it cannot be made; empty: it can."""
    log.info("drill %s begins; it must trip %s", drill.name, ", ".join(drill.trips))
    run = _Run(guard, active, drill, row)
    # The bot is silenced since it was begun, by whichever guard.
    began_ms, before = round(row.started_at.timestamp() * 1000), active.history
    active.drilled.expect(run.criteria, drill.trips, now_ms() / 1000, silenced=drill.name in SILENCED)
    try:
        outcome, why = ("not_run", unseen) if unseen else await run.outcome()
        if not active.at(Step.DRILLS):
            return False
        proof: dict[str, Any] = {**run.proof, "why": why} if why else run.proof
        told = []
        if outcome == "passed":
            words = ", ".join(f"{name} {value}" for name, value in run.proof.items())
            told = [said(active, "drill", f"drill {drill.name} passed: tripped {words}", row.id)]
        write = partial(guard.store.record.end_drill, row.id or 0, outcome, proof, told)
        if outcome != "passed":  # told: made again because the record was away just then, it might pass
            guard.store.tell("drill", write)
            _end(guard, active, drill, outcome, why)
            return False
        await guard.store.call(write)
        active.drilled.passed()
    finally:
        if active.drilled.silenced and active.history is not None and before is not None:
            active.history = active.history.seen_since(began_ms, before, now_ms())
        active.drilled.lift(now_ms())
    return True


def _end(guard: GuardState, active: Active, drill: Drill, outcome: str, why: str) -> None:
    action = Action.PARK if outcome == "not_run" else Action.ROLL_BACK
    limit = f"trips {', '.join(drill.trips)} within {drill.window_s:g} s, and quotes again"
    fault = "candidate" if action is Action.ROLL_BACK else "environment"
    name = f"drill_{drill.name.replace('-', '_')}"
    end_stage(guard, active, Decision(action, fault, name, None, limit, (), now_ms(), why))  # type: ignore[arg-type]


class _Run:
    """One drill: made, seen, undone, and all as before. `proof`: by what each criterion was tripped, and what else
    was shown."""

    def __init__(self, guard: GuardState, active: Active, drill: Drill, row: DrillRow) -> None:
        self.guard, self.active, self.drill, self.row = guard, active, drill, row
        self.criteria = _criteria(active, drill)
        self.proof: dict[str, str] = {}
        self._until = time.monotonic() + drill.window_s
        self._fault: Fault | None = None
        self._uncounted: dict[str, Decimal] = dict(active.drilled.uncounted)

    @property
    def _left_s(self) -> float:
        """Of the window; not counted what starting the bot again has taken."""
        starting_s = self._fault.starting_s if self._fault is not None else 0.0
        return self._until + starting_s - time.monotonic()

    @property
    def _is_over(self) -> bool:
        return self._left_s <= 0

    async def outcome(self) -> tuple[str, str]:
        """(passed | failed | not_run, why)."""
        try:
            await self._course()
        except DrillNotRun as error:
            return "not_run", str(error)
        except DrillFailed as error:
            return "failed", str(error)
        except (EpochLost, Fenced, SQLAlchemyError) as error:
            return "not_run", f"the bot could not be taken over again: {' '.join(str(error).split())[:200]}"
        except Exception as error:  # made again it would break off again, at every turn: the bot is killed, or hangs
            log.error("drill %s broke off: %s", self.drill.name, type(error).__name__, exc_info=error)
            return "not_run", in_words(error)
        return "passed", ""

    async def _course(self) -> None:
        active = self.active
        if active.operator is None and active.bot is None:
            raise DrillNotRun("the bot has not told its address")
        if active.state_dir is None:
            raise DrillNotRun("the bot has no state folder")
        try:
            before = await asyncio.to_thread(totals_of, active.state_dir / "journal.db")
        except (JournalError, OSError, sqlite3.Error) as error:
            raise DrillNotRun(str(error)) from error
        made_by = self._until - self.drill.window_s / 2
        self._fault = fault = FAULTS[self.drill.name](self.guard, active, self.row.id or 0, made_by)
        shown: DrillFailed | None = None
        try:
            await fault.make()
            await self._tripped(before)
            await fault.seen()
        except DrillFailed as failed:
            shown = failed
        finally:
            try:
                await fault.undo()
            except Exception as error:
                if shown is None:
                    raise
                log.error("drill %s is not taken back: %s", self.drill.name, in_words(error))
        if shown is not None:  # whatever taking it back met came later
            raise shown
        await self._as_before()
        await fault.prove()
        self.proof |= fault.proof

    async def _tripped(self, before: Totals) -> None:
        """Until every criterion has failed. Raises DrillFailed, and DrillNotRun where nobody was there to see it."""
        last: dict[str, Measurement] = {}
        unlooked_s = self.drill.window_s  # from the last look on
        plan = self.active.plan
        url = self.guard.prometheus_url
        async with PrometheusSource(url, plan.source_timeout_s, plan.stale_after_s, plan.scrape_every_s) as source:
            while self.active.at(Step.DRILLS) and not self._is_over:
                unlooked_s = self._left_s
                for one in await self._measured(source, before):
                    last[one.criterion_id] = one
                    if one.outcome is Outcome.FAIL:
                        self.proof[one.criterion_id] = "" if one.value is None else plain(one.value)
                if len(self.proof) == len(self.drill.trips):
                    return
                await asyncio.sleep(LOOK_EVERY_S)
        missing = [name for name in self.drill.trips if name not in self.proof]
        unknown = [name for name in missing if name in last and last[name].outcome is Outcome.UNKNOWN]
        if unknown:
            raise DrillNotRun(f"{unknown[0]} could not be measured: {last[unknown[0]].reason}")
        if not last or unlooked_s > LOOK_EVERY_S + LOOK_TIMEOUTS * plan.source_timeout_s:
            raise DrillNotRun(f"nobody looked in the last {unlooked_s:.1f} s of its window: {', '.join(missing)}")
        raise DrillFailed(f"not seen to trip: {', '.join(missing)}")

    async def _measured(self, source: PrometheusSource, before: Totals) -> list[Measurement]:
        """What has not failed yet, measured since the drill began."""
        active = self.active
        row, state_dir, since_s = active.row, active.state_dir, active.drilled.since_s
        if state_dir is None or since_s is None:
            return []
        criteria = [one for one in self.criteria if one.id not in self.proof]
        journals = [state_dir / "journal.db"]
        readings = await asyncio.to_thread(
            lambda: measure_tables(criteria, journals, now_ms(), None, before, all_from_baseline=True)
        )
        readings += await source.measure(criteria, Selector(row.account, row.rollout, row.stage, since_s), time.time())
        if any(one.source == "check" for one in criteria):
            readings += await read_checks(self.guard, active, criteria, source)
        return [one for _, one in judged(criteria, readings)]

    async def _as_before(self) -> None:
        """Until the bot quotes, and the guard criteria that were tripped PASS without what it made them count.

        Raises DrillFailed, and DrillNotRun where that could not be seen.
        """
        while self.active.at(Step.DRILLS):
            over = self._is_over  # looked at first: what is seen now was in time
            said, seen = await _does_not_run(self.active)
            if not said:
                said, seen = await self._passes_again()
            if not said:
                return
            if over:
                raise DrillFailed(said) if seen else DrillNotRun(said)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _passes_again(self) -> tuple[str, bool]:
        """(why not, whether that was seen): in words; empty where they do, and then their history says it."""
        active = self.active
        guards = [one for one in self.criteria if one.id in active.drilled.expected]
        counted = counts(guards, self.drill.trips)
        if counted:
            own = await self._own(counted)
            if own is None:
                return "what it made the journal count could not be read", False
            self.proof |= own
            active.drilled.uncounted = dict(self._uncounted)
            add(active.drilled.uncounted, self.proof, counted)
        measured = await measure_now(self.guard, active, guards)
        bad = [one for _, one in measured if one.outcome is not Outcome.PASS]
        if bad:
            worst = next((one for one in bad if one.outcome is Outcome.FAIL), bad[0])
            said = f"{worst.criterion_id} does not pass again: {worst.reason}"
            return said, worst.outcome is not Outcome.UNKNOWN
        if active.history is not None:
            active.history = active.history.after((one for _, one in measured), now_ms())
        self.guard.store.tell("after a drill", storing(self.guard, active, measured, Kept()))
        return "", True

    async def _own(self, counted: Sequence[Criterion]) -> dict[str, str] | None:
        """How much of these criteria's totals is the drill's: of what it can tell apart that alone, else (also of one
        that an older version began) all that was counted since it was begun. None where it cannot be read."""
        since, made = self.row.proof.get(SINCE), None
        if self._fault is not None and since is not None:
            try:
                made = await self._fault.counted(int(since))
            except DrillNotRun as error:  # looked at again until the window is over, as all of this is
                log.warning("what drill %s made the journal count: %s", self.drill.name, error)
                return None
        if made is not None:
            return {one.id: str(totals.counted(totals.parse(one.query or ""), made)) for one in counted}
        now, before = await _totals(self.active, counted), self.row.proof.get(BEFORE, {})
        if now is None or any(one.id not in before for one in counted):
            return None
        return {one.id: str(int(now[one.id]) - int(before[one.id])) for one in counted}


async def _does_not_run(active: Active) -> tuple[str, bool]:
    """(why it is not known to quote, whether that was seen): in words; empty where it says that it does."""
    told = None if active.operator is None else await active.operator.status()
    if told is not None and told.ok:
        return ("" if told.body.get("state") == "RUNNING" else "the bot does not quote again"), True
    if active.bot is not None and not is_alive(active.bot.identity):
        return "the bot ended: it does not quote again", True
    return f"the bot does not say whether it quotes again: {'no address' if told is None else told.detail}", False
