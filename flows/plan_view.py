"""`rollout plan`: what a plan would do from now on, with dates. Nothing is started and no record is needed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from gates.approvers import SignOffs
from gates.stages import Plan, Stage, cannot_be_measured, criteria_of
from tasks.record import iso

HEAD = ("stage", "part", "env", "lasts", "size, quote", "begins (UTC)", "signs at its end")
WIDTHS = (8, 9, 7, 6, 11, 16, 17)
ROLE_WORDS = {"Quant Lead": "Quant", "SRE Lead": "SRE", "Risk Manager": "Risk"}


def plan_rows(plan: Plan, begins: datetime) -> list[dict[str, Any]]:
    """A row for each part of each stage, if everything passes at once and people sign at once.

    What comes next waits for the next promotion window; where none opens within two months there is no date.
    """
    rows: list[dict[str, Any]] = []
    at: datetime | None = begins
    for stage in plan.stages:
        at = None if at is None else at + timedelta(seconds=stage.warm_up_s)
        for number in range(stage.part_count):
            part = stage.at(number)
            rows.append(_row(plan, stage, part, number, at))
            ends = None if at is None else at + timedelta(seconds=part.lasts_s)
            waits = number == stage.part_count - 1 or part.env == "live"
            at = plan.promotion.next_open(ends) if ends is not None and waits else ends
    return rows


def _row(plan: Plan, stage: Stage, part: Stage, number: int, at: datetime | None) -> dict[str, Any]:
    return {
        "stage": stage.id,
        "part": stage.part_name(number),
        "env": part.env,
        "available": stage.available,
        "unavailable_because": stage.unavailable_because,
        "lasts_s": part.lasts_s,
        "inventory_max_quote": f"{part.inventory_max_quote:f}",
        "total_max_quote": f"{part.total_max_quote:f}",
        "symbols": list(part.symbols),
        "begins": iso(at),
        "drills": [one.name for one in part.drills],
        "criteria": len(criteria_of(part)),
        "not_yet_measurable": [one.id for one in cannot_be_measured(stage)],
        "exit_sign_offs": {"roles": list(part.exit_sign_offs.roles), "people": part.exit_sign_offs.people_count},
    }


def print_plan(plan: Plan, plan_file: Path, *, as_json: bool) -> int:
    rows = plan_rows(plan, datetime.now(UTC))
    if as_json:
        print(json.dumps({"plan": plan.name, "venue": plan.venue, "file": str(plan_file), "parts": rows}, indent=2))
        return 0
    print("\n".join(wrapped(f"plan {plan.name}, venue {plan.venue}, {plan_file}")))
    print(_line(HEAD))
    before = ""
    for row, sign_offs in zip(rows, _sign_offs(plan), strict=True):
        name = "" if row["stage"] == before else row["stage"]
        before = row["stage"]
        begins = "no window opens" if row["begins"] is None else row["begins"][:16].replace("T", " ")
        size = f"{whole(row['inventory_max_quote'])}/{whole(row['total_max_quote'])}"
        print(_line((name, row["part"], row["env"], _span(row["lasts_s"]), size, begins, _people(sign_offs))))
    for line in _notes(plan):
        print(line)
    return 0


def _notes(plan: Plan) -> list[str]:
    """What keeps stages from starting, in words."""
    lines = [f"{stage.id} cannot run: {stage.unavailable_because}" for stage in plan.stages if not stage.available]
    for stage in plan.stages:
        missing = [one.id for one in cannot_be_measured(stage)]
        if missing and stage.env == "live" and plan.venue != "simulated":
            lines.append(f"{stage.id} does not start on live, not yet measurable: {', '.join(missing)}")
    return [part for line in lines for part in wrapped(line)]


def wrapped(text: str, width: int = 80) -> list[str]:
    """Lines of at most so many letters, but for a word that is longer (a path, an address): that is not broken."""
    rows = [""]
    for word in text.split(" "):
        if rows[-1] and len(rows[-1]) + 1 + len(word) > width:
            rows.append("  " + word)
        else:
            rows[-1] = f"{rows[-1]} {word}" if rows[-1] else word
    return rows


def _sign_offs(plan: Plan) -> list[SignOffs]:
    return [stage.at(number).exit_sign_offs for stage in plan.stages for number in range(stage.part_count)]


def _people(wanted: SignOffs) -> str:
    """`Quant, SRE, Risk`; `Risk + 1`; `1 person`; `-`."""
    roles = ", ".join(ROLE_WORDS[role] for role in wanted.roles)
    more = wanted.people_count - len(wanted.roles)
    if not roles:
        return "-" if not more else f"{more} {'person' if more == 1 else 'people'}"
    return f"{roles} + {more}" if more else roles


def _span(seconds: float) -> str:
    for unit_s, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit_s and seconds % unit_s == 0:
            return f"{seconds / unit_s:g} {unit}"
    return f"{seconds:g} s"


def whole(quote: str) -> str:
    """An amount for a narrow column, to the whole quote; what is exact stands in the JSON."""
    return f"{Decimal(quote):.0f}"


def _line(cells: Sequence[str]) -> str:
    return fitted(cells, WIDTHS)


def fitted(cells: Sequence[str], widths: Sequence[int]) -> str:
    """One line of a table; a cell that is wider than its column ends in `…`, and stands whole in the JSON."""
    fits = [cell if len(cell) <= width else f"{cell[: width - 1]}…" for cell, width in zip(cells, widths, strict=True)]
    return " ".join(f"{cell:<{width}}" for cell, width in zip(fits, widths, strict=True)).rstrip()
