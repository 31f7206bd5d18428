"""Facts for checks that neither bot nor Prometheus tells: drills, the repeated run, the candidate's other attempts."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from tasks.guard.state import Active, GuardState
from tasks.record_tables import StageRun, utc_now

DAY = timedelta(hours=24)
RESULT = "pnl_guard"
"""The criterion whose last value is what an attempt came to, net, quote."""


@dataclass(frozen=True)
class ToldFacts:
    """What is None is not known, and `error` says why."""

    drills_missing: int | None = None
    report_repeats: bool | None = None
    candidate_net_quote: Decimal | None = None
    error: str = ""


async def told_facts(
    guard: GuardState, active: Active, status: Mapping[str, Any], asked: Collection[str | None]
) -> ToldFacts:
    """Only what a criterion asks for is looked up. Never raises for a record that is away."""
    error, drills, repeats, net = "", None, None, None
    try:
        if "drills_passed" in asked:
            drills = await _drills_missing(guard, active)
        if "candidate_pnl_24h" in asked:
            net, error = await _candidate_net(guard, active, status)
    except SQLAlchemyError as failure:
        error = f"the record could not be read: {str(failure).splitlines()[0]}"
    if "report_repeats" in asked:
        repeats, said = read_repeat(repeat_file(active))
        error = error or said
    return ToldFacts(drills, repeats, net, error)


def part_s(active: Active) -> float | None:
    """How long the present part has lasted since the bot was warm, its drills included, s; None before the launch."""
    row = active.row
    if row.launched_at is None:
        return None
    warm_at = row.launched_at + timedelta(seconds=active.stage.warm_up_s)
    return max(0.0, (utc_now() - max(warm_at, row.part_from or warm_at)).total_seconds())


async def _drills_missing(guard: GuardState, active: Active) -> int:
    rows = await guard.store.call(guard.store.record.drills, active.id)
    passed = {row.name for row in rows if row.part == active.row.part and row.outcome == "passed"}
    return sum(one.name not in passed for one in active.stage.drills)


async def _candidate_net(guard: GuardState, active: Active, status: Mapping[str, Any]) -> tuple[Decimal | None, str]:
    """All live attempts of this digest that ended in the last 24 hours, and this one by the bot's own word."""
    own = status.get("pnl")
    try:
        net = Decimal(str(own["net"])) if isinstance(own, dict) else None
    except (KeyError, InvalidOperation):
        net = None
    if net is None:
        return None, "the bot does not tell its result"
    earlier = await guard.store.call(guard.store.record.stage_runs)
    since = utc_now() - DAY
    for run in earlier:
        if _counts(run, active) and run.ended_at is not None and run.ended_at >= since:
            value = await guard.store.call(_result_of, guard, run)
            if value is None:
                return None, f"what {run.rollout}/{run.stage} attempt {run.attempt} came to is not known"
            net += value
    return net, ""


def _counts(run: StageRun, active: Active) -> bool:
    """An attempt of this candidate that traded with money, other than this one."""
    live = {stage.id for stage in active.plan.stages if stage.env == "live"}
    return run.candidate == active.row.candidate and run.id != active.id and run.stage in live and run.run is not None


def _result_of(guard: GuardState, run: StageRun) -> Decimal | None:
    """The last that was known of it: once the bot is gone its result is measured as unknown."""
    value = guard.store.record.last_known_value(run.id or 0, RESULT)
    return None if value is None else Decimal(value)


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
