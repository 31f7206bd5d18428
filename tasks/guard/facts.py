"""Facts for checks that neither bot nor Prometheus tells: drills, the repeated run, the candidate's other attempts."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy.exc import SQLAlchemyError

from gates.course import Step
from tasks.guard.results import NotKnownError
from tasks.guard.state import Active, GuardState, now_ms
from tasks.record import Record
from tasks.record_tables import utc_now

RESULTS = frozenset({"attempt_pnl", "candidate_pnl_24h", "stage_pnl"})
"""The checks that ask what attempts came to."""


@dataclass(frozen=True)
class ToldFacts:
    """What is None is not known, and `error` says why."""

    drills_missing: int | None = None
    report_repeats: bool | None = None
    attempt_net_quote: Decimal | None = None
    candidate_net_quote: Decimal | None = None
    stage_net_quote: Decimal | None = None
    error: str = ""


async def told_facts(
    guard: GuardState, active: Active, status: Mapping[str, Any], asked: Collection[str | None]
) -> ToldFacts:
    """Only what a criterion asks for is looked up. Never raises for a record that is away."""
    error, drills, repeats, net = "", None, None, _Net()
    try:
        if "drills_passed" in asked:
            drills = await _drills_missing(guard, active)
        if not RESULTS.isdisjoint(asked):
            net = await _net(guard, active, status)
            error = net.error
    except SQLAlchemyError as failure:
        error = f"the record could not be read: {str(failure).splitlines()[0]}"
    if "report_repeats" in asked:
        repeats, said = read_repeat(repeat_file(active))
        error = error or said
    return ToldFacts(drills, repeats, net.attempt, net.candidate, net.stage, error)


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
    rows = await guard.store.call(guard.store.record.drills, active.id)
    passed = {row.name for row in rows if row.part == active.row.part and row.outcome == "passed"}
    return sum(one.name not in passed for one in active.stage.drills)


class _Net(NamedTuple):
    """Results, quote: of this attempt by the bot's own word, of the candidate's last 24 hours, of the stage."""

    attempt: Decimal | None = None
    candidate: Decimal | None = None
    stage: Decimal | None = None
    error: str = ""


async def _net(guard: GuardState, active: Active, status: Mapping[str, Any]) -> _Net:
    own = status.get("pnl")
    try:
        net = Decimal(str(own["net"])) if isinstance(own, dict) else None
    except (KeyError, InvalidOperation):
        net = None
    if net is None:
        return _Net(error="the bot does not tell its result")
    return await guard.store.call(_pooled, guard.store.record, active, net)


def _pooled(record: Record, active: Active, net: Decimal) -> _Net:
    """With every attempt of this candidate that traded with money, on whatever account."""
    live = {stage.id for stage in active.plan.stages if stage.env == "live"}
    runs = record.attempts_of(active.row.candidate)
    others = [run for run in runs if run.id != active.id and run.stage in live and run.run is not None]
    asked = (record, active.row, net, others, now_ms())
    candidate, why = _or_why(lambda: active.results.of_24_h(*asked))
    stage, why_not = _or_why(lambda: active.results.of_stage(*asked))
    return _Net(net, candidate, stage, why or why_not)


def _or_why(ask: Callable[[], Decimal]) -> tuple[Decimal | None, str]:
    try:
        return ask(), ""
    except NotKnownError as failure:
        return None, str(failure)


def repeat_file(active: Active) -> Path | None:
    """Where the repeated run leaves its result."""
    return active.state_dir / "repeated_run.json" if active.state_dir else None


def read_repeat(path: Path | None) -> tuple[bool | None, str]:
    """Whether both reports were the same, or why that is not known."""
    if path is None or not path.exists():
        return None, "the run was not repeated yet"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return (bool(found["same"]), "") if found["status"] == "repeated" else (None, str(found["detail"]))
    except (OSError, ValueError, KeyError, TypeError) as failure:
        return None, f"{path}: not a result ({type(failure).__name__})"
