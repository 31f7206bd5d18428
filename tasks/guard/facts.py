"""Facts for checks that neither bot nor Prometheus tells: drills, the repeated run, the candidate's other attempts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy.exc import SQLAlchemyError

from gates.course import Step
from tasks.guard.noted import Hole
from tasks.guard.results import NotKnownError, NotStoredError
from tasks.guard.state import Active, GuardState, now_ms
from tasks.record import Record
from tasks.record_tables import utc_now

RESULTS = frozenset({"attempt_pnl", "candidate_pnl_24h", "stage_pnl"})
"""The checks that ask what attempts came to."""
REPEATED = frozenset({"report_repeats", "repeated_placed", "repeated_filled"})
"""The checks that ask what the repeated run showed."""


class Repeated(NamedTuple):
    """The shadow run that was made twice. `placed`: of its iterations, `filled`: of those placed; None is not known."""

    same: bool | None = None
    placed: Decimal | None = None
    filled: Decimal | None = None
    error: str = ""


NOT_REPEATED = Repeated()


@dataclass(frozen=True)
class ToldFacts:
    """What is None is not known, and `error` says why."""

    drills_missing: int | None = None
    repeated: Repeated = NOT_REPEATED
    attempt_net_quote: Decimal | None = None
    candidate_net_quote: Decimal | None = None
    stage_net_quote: Decimal | None = None
    error: str = ""


async def told_facts(
    guard: GuardState, active: Active, status: Mapping[str, Any], asked: Collection[str | None]
) -> ToldFacts:
    """Only what a criterion asks for is looked up. Never raises for a record that is away."""
    error, drills, repeated, net = "", None, NOT_REPEATED, Net()
    try:
        if "drills_passed" in asked:
            drills = await _drills_missing(guard, active)
        if not RESULTS.isdisjoint(asked):
            net = await _net(guard, active, status)
            error = net.error
    except TimeoutError:
        error = _no_answer(active)
    except SQLAlchemyError as failure:
        error = f"the record could not be read: {str(failure).splitlines()[0]}"
    if not REPEATED.isdisjoint(asked):
        repeated = read_repeat(repeat_file(active))
        error = error or repeated.error
    return ToldFacts(drills, repeated, net.attempt, net.candidate, net.stage, error)


def part_s(active: Active) -> float | None:
    """How long the present part has lasted since the bot was warm, its drills included, s; None before the launch.

    Until its watch is over: how long whoever asks for the judgement was away is not the part's.
    """
    row = active.row
    if row.launched_at is None:
        return None
    warm_at = row.launched_at + timedelta(seconds=active.stage.warm_up_s)
    until = row.watched_at if active.step in (Step.WATCHED, Step.JUDGED) else None
    return max(0.0, ((until or utc_now()) - max(warm_at, row.part_from or warm_at)).total_seconds())


async def _drills_missing(guard: GuardState, active: Active) -> int:
    async with asyncio.timeout(active.plan.source_timeout_s):  # what needs no record is measured on time
        rows = await guard.store.call(guard.store.record.drills, active.id)
    passed = {row.name for row in rows if row.part == active.row.part and row.outcome == "passed"}
    return sum(one.name not in passed for one in active.stage.drills)


class Net(NamedTuple):
    """Results, quote: of this attempt as it was told, of the candidate's last 24 hours, of the stage.

    `hole`: what the record does not tell of it, and a journal may.
    """

    attempt: Decimal | None = None
    candidate: Decimal | None = None
    stage: Decimal | None = None
    error: str = ""
    hole: Hole | None = None


async def _net(guard: GuardState, active: Active, status: Mapping[str, Any]) -> Net:
    own = status.get("pnl")
    try:
        net = Decimal(str(own["net"])) if isinstance(own, dict) else None
    except (KeyError, InvalidOperation):
        net = None
    if net is None:
        return Net(error="the bot does not tell its result")
    return await pooled(guard, active, net)


async def pooled(guard: GuardState, active: Active, net: Decimal) -> Net:
    """The candidate's results with `net` for this attempt's; what is None is not known. Raises SQLAlchemyError."""
    while True:
        try:
            async with asyncio.timeout(active.plan.source_timeout_s):
                found = await guard.store.call(_pooled, guard.store.record, active, net)
        except TimeoutError:
            return Net(net, error=_no_answer(active))
        if found.hole is None:
            return found
        why = await active.results.fill(found.hole)
        if why:
            return found._replace(error=f"{found.error}, and its journal does not tell it: {why}")


def _no_answer(active: Active) -> str:
    return f"the record did not answer in {active.plan.source_timeout_s:g} s"


def _pooled(record: Record, active: Active, net: Decimal) -> Net:
    """With every attempt of this candidate that may have traded with money, on whatever account.

    The address of its bot is kept before it is sent its first grant: one without was never allowed to trade, and
    a launch that failed on one account must not blind the watch of the same candidate on all others.
    """
    live = {stage.id for stage in active.plan.stages if stage.env == "live"}
    runs = record.attempts_of(active.row.candidate)
    others = [run for run in runs if run.id != active.id and run.stage in live and run.obs_url is not None]
    at_ms = now_ms()
    active.results.look(record, others, at_ms)
    asked = (record, active.row, net, others, at_ms)
    candidate, why = _or_why(lambda: active.results.of_24_h(*asked))
    stage, why_not = _or_why(lambda: active.results.of_stage(*asked))
    hole = next((one.hole for one in (why, why_not) if isinstance(one, NotStoredError)), None)
    return Net(net, candidate, stage, str(why or why_not or ""), hole)


def _or_why(ask: Callable[[], Decimal]) -> tuple[Decimal | None, NotKnownError | None]:
    try:
        return ask(), None
    except NotKnownError as failure:
        return None, failure


def repeat_file(active: Active) -> Path | None:
    """Where the repeated run leaves its result."""
    return active.state_dir / "repeated_run.json" if active.state_dir else None


def read_repeat(path: Path | None) -> Repeated:
    """What the repeated run showed, or why that is not known."""
    if path is None or not path.exists():
        return Repeated(error="the run was not repeated yet")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["status"] != "repeated":
            return Repeated(error=str(found["detail"]))
        placed, filled = int(found["placed"]), int(found["filled"])
        of_placed = Decimal(filled) / placed if placed else None
        return Repeated(bool(found["same"]), Decimal(placed) / int(found["iterations"]), of_placed)
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as failure:
        return Repeated(error=f"{path}: not a result ({type(failure).__name__})")
