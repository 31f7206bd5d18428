"""One table of a rollout's stages, a line for each part, in 80 columns: for the demo's end and `rollout report`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from flows.plan_view import fitted, whole
from tasks.record import Record, iso
from tasks.record_tables import SignOff, StagePart, StageRun, utc_now

HEAD = ("stage", "part", "size, quote", "watched", "gates", "signed GO", "ended")
WIDTHS = (8, 8, 11, 7, 6, 22, 11)
WORDS = {"promoted": "promoted", "rolled_back": "ROLLED BACK", "parked": "PARKED", "rollback_failed": "NOT PROVEN"}
PART_WORDS = {"passed": "passed", "stepped_down": "stepped dn", "ended": "ended", "": "running"}


def stages_of(record: Record, rollout: str) -> list[dict[str, Any]]:
    """A row for each part of each stage run, oldest first; one for a stage run that never began a part."""
    rows: list[dict[str, Any]] = []
    for run in record.stage_runs(rollout=rollout):
        parts = record.parts(run.id or 0)
        rows += [_row(record, run, parts, at) for at in range(len(parts))] or [_bare(run)]
    return rows


def as_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The lines, the head first. A stage's name stands at its first part alone."""
    lines, before = [_line(HEAD)], None
    for row in rows:
        same = before == (row["stage"], row["attempt"])
        before = (row["stage"], row["attempt"])
        size = f"{whole(row['inventory_max_quote'])}/{whole(row['total_max_quote'])}" if row["size_known"] else ""
        name = "" if same else row["stage"] + (f" #{row['attempt']}" if row["attempt"] > 1 else "")
        gates = "" if row["judged"] is None else f"{row['passed']}/{row['judged']}"
        watched = "" if row["watched_s"] is None else f"{row['watched_s']:.0f} s"
        lines.append(_line((name, row["part"], size, watched, gates, ", ".join(row["signed"]), row["ended_as"])))
    return lines


def _row(record: Record, run: StageRun, parts: Sequence[StagePart], at: int) -> dict[str, Any]:
    part, number = parts[at], run.id or 0
    until = part.ended_at or run.ended_at or utc_now()
    verdicts = [one for one in record.verdicts(number) if part.began_at <= one.at <= until + timedelta(seconds=1)]
    judged = verdicts[-1].body["measurements"] if verdicts else None
    signed = [one for one in record.sign_offs(number, "exit", accepted=True) if part.began_at <= one.at <= until]
    last = at == len(parts) - 1
    return {
        **_bare(run),
        "part": part.name,
        "size_known": True,
        "inventory_max_quote": part.inventory_max_quote,
        "total_max_quote": part.total_max_quote,
        "symbols": list(part.symbols),
        "epoch": part.epoch,
        "began": iso(part.began_at),
        "watched_s": _watched_s(run, part, last),
        "judged": None if judged is None else len(judged),
        "passed": None if judged is None else sum(one["outcome"] == "PASS" for one in judged),
        "signed": _people(signed),
        "drills": {one.name: one.outcome for one in record.drills(number) if one.part == part.number},
        "ended_as": WORDS.get(run.step, run.step) if last else PART_WORDS[part.outcome],
    }


def _bare(run: StageRun) -> dict[str, Any]:
    return {
        "stage": run.stage,
        "attempt": run.attempt,
        "part": "",
        "state": run.step,
        "size_known": False,
        "inventory_max_quote": None,
        "total_max_quote": None,
        "watched_s": None,
        "judged": None,
        "passed": None,
        "signed": [],
        "reason": run.reason,
        "ended_as": WORDS.get(run.step, run.step),
    }


def _watched_s(run: StageRun, part: StagePart, last: bool) -> float | None:
    """From the begin of the watch to its end; None where none has begun."""
    if not last or run.watch_from is None:
        found = part.proof.get("watched_s")
        return float(found) if isinstance(found, int | float) else None
    until = run.watched_at or run.breach_at or run.ended_at or utc_now()
    return max(0.0, (until - run.watch_from).total_seconds())


def _people(signed: Sequence[SignOff]) -> list[str]:
    return list(dict.fromkeys(one.person for one in signed if one.decision == "GO"))


def _line(cells: Sequence[str]) -> str:
    return fitted(cells, WIDTHS)
