"""The `gates` command: `lint` refuses gates that cannot do their work and lists what cannot be measured yet, `evaluate`
judges once, `replay` judges a folder of evidence again, `list` shows them.

Exit codes: 0 GO (or nothing to refuse, or all as it was), 1 a verdict that is not GO (or not what it was), 2 bad input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bot.command_line import Parser
from bot.settings_file import ConfigError
from gates.approvers import ApproversError
from gates.criteria import CriteriaError, Criterion, load_criteria
from gates.evidence_folder import MANIFEST, EvidenceError, sha256_of
from gates.judge import Measurement, Verdict, Word, judge, plain, verdict
from gates.lint import QueryUnanswered, lint_file, lint_not_yet, lint_plan, refused_queries
from gates.promql import Selector
from gates.replay import replay
from gates.replay_view import as_json, lines_of
from gates.sources.checks import CHECKS
from gates.sources.prometheus import PrometheusSource
from gates.sources.tables import measure_tables
from gates.stages import PlanError, checklist_files, criteria_files, load_plan, under_root

BAD_INPUT: Final = 2


class InputError(Exception):
    """Something given on the command line cannot be used. One line for a person."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Returns the exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        return int(chosen.run(chosen))
    except (CriteriaError, PlanError, ApproversError, ConfigError, EvidenceError, InputError) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT


def _parser() -> Parser:
    parser = Parser(prog="gates", description="Criteria: refuse bad ones, judge once, show them.")
    commands = parser.add_subparsers(required=True, metavar="lint | evaluate | replay | list")
    lint = commands.add_parser("lint", help="refuse gates that cannot do their work")
    lint.add_argument("files", nargs="*", type=Path, metavar="FILE", help="criteria files and checklists")
    lint.add_argument(
        "--plan",
        action="append",
        type=Path,
        default=[],
        metavar="PLAN",
        help="a plan with all that it names (may be given again)",
    )
    lint.add_argument("--prometheus", metavar="URL", help="also ask this Prometheus whether it takes each query")
    lint.set_defaults(run=_lint)
    evaluate = commands.add_parser("evaluate", help="measure and judge once")
    evaluate.add_argument("file", type=Path, metavar="FILE", help="a criteria file")
    evaluate.add_argument("--at", default="now", metavar="T", help="now, unix seconds, or UTC as 2026-01-31T12:00:00Z")
    evaluate.add_argument("--since", metavar="T", help="no query looks further back (default: one hour before --at)")
    url = "SLIPWAY_PROMETHEUS_URL"
    evaluate.add_argument("--prometheus", default=os.environ.get(url), metavar="URL", help=f"default: {url}")
    for name in ("account", "rollout", "stage"):
        evaluate.add_argument(f"--{name}", required=True, metavar="NAME", help=f"the series' label {name}")
    evaluate.add_argument(
        "--journal", action="append", type=Path, default=[], metavar="FILE", help="of a run of this stage"
    )
    evaluate.add_argument("--data-check", type=Path, metavar="FILE", help="the data check's result file")
    evaluate.add_argument("--phase", choices=["preflight", "guard", "final", "kpi"], help="this phase alone")
    evaluate.add_argument("--json", action="store_true", help="JSON instead of a table")
    evaluate.set_defaults(run=_evaluate)
    again = commands.add_parser("replay", help="judge a folder of evidence again, offline, from the samples in it")
    again.add_argument("folder", type=Path, metavar="EVIDENCE", help="a stage's folder of evidence, or its judged part")
    again.add_argument("--json", action="store_true", help="JSON instead of a table")
    again.set_defaults(run=_replay)
    listing = commands.add_parser("list", help="show the criteria of files, and the named checks")
    listing.add_argument("files", nargs="*", type=Path, metavar="FILE", help="criteria files (default: the checks)")
    listing.add_argument("--json", action="store_true", help="JSON instead of a table")
    listing.set_defaults(run=_list)
    return parser


def _lint(chosen: argparse.Namespace) -> int:
    if not chosen.files and not chosen.plan:
        raise InputError("nothing to lint; allowed: criteria files, --plan PLAN, or both")
    faults = [fault for path in chosen.files for fault in lint_file(path)]
    faults += [fault for path in chosen.plan for fault in lint_plan(path)]
    if chosen.prometheus:
        try:
            faults += asyncio.run(refused_queries(chosen.files, chosen.plan, chosen.prometheus))
        except QueryUnanswered as error:
            faults.append(str(error))
    for fault in faults:
        print(fault, file=sys.stderr)
    waiting = dict.fromkeys(line for path in _criteria_of_all(chosen) for line in lint_not_yet(path))
    for line in waiting:
        print(line)
    if not faults:
        print(f"{len(chosen.files) + len(chosen.plan)} files: nothing to refuse")
    return BAD_INPUT if faults else 0


def _criteria_of_all(chosen: argparse.Namespace) -> list[Path]:
    """Every criteria file that was named, by itself or by a plan."""
    plans = [load_plan(path) for path in chosen.plan]
    named = [under_root(path) for plan in plans for path in (*criteria_files(plan), *checklist_files(plan))]
    return [*chosen.files, *named]


def _evaluate(chosen: argparse.Namespace) -> int:
    at_s = _time_s(chosen.at, "--at")
    since_s = at_s - 3600 if chosen.since is None else _time_s(chosen.since, "--since")
    criteria = [one for one in load_criteria(chosen.file) if chosen.phase in {None, one.phase}]
    selector = Selector(chosen.account, chosen.rollout, chosen.stage, since_s)
    measurements = asyncio.run(_measure(chosen, criteria, selector, at_s))
    judged = verdict(criteria, measurements)
    if chosen.json:
        shown = [_as_json(one) for one in judged.measurements]
        decided_by = judged.decided_by.criterion_id if judged.decided_by else None
        print(json.dumps({"verdict": judged.word, "decided_by": decided_by, "measurements": shown}, indent=1))
    else:
        _print_verdict(criteria, judged)
    return 0 if judged.word is Word.GO else 1


async def _measure(
    chosen: argparse.Namespace, criteria: list[Criterion], selector: Selector, at_s: float
) -> list[Measurement]:
    """Every criterion that can be measured from here: named checks need the guard and stay unmeasured."""
    at_ms = round(at_s * 1000)
    readings = measure_tables(criteria, chosen.journal, at_ms, chosen.data_check)
    if any(one.source == "promql" for one in criteria):
        if chosen.prometheus is None:
            raise InputError("no Prometheus given; allowed: --prometheus URL or SLIPWAY_PROMETHEUS_URL")
        async with PrometheusSource(chosen.prometheus) as source:
            readings += await source.measure(criteria, selector, at_s)
    by_id = {one.id: one for one in criteria}
    order = {one.id: at for at, one in enumerate(criteria)}
    readings.sort(key=lambda reading: order[reading.criterion_id])
    return [judge(by_id[reading.criterion_id], reading, at_ms) for reading in readings]


def _replay(chosen: argparse.Namespace) -> int:
    found = replay(chosen.folder)
    digest = sha256_of(chosen.folder / MANIFEST)
    if chosen.json:
        print(json.dumps({"digest": digest, "same": found.same, **as_json(found)}, indent=1))
    else:
        for line in lines_of(found):
            print(line)
        print(f"evidence {digest[:12]}: {'as it was judged' if found.same else 'NOT as it was judged'}")
    return 0 if found.same else 1


def _list(chosen: argparse.Namespace) -> int:
    criteria = [(path, one) for path in chosen.files for one in load_criteria(path)]
    if chosen.json:
        print(json.dumps([one.model_dump(mode="json") for _, one in criteria], indent=1))
        return 0
    rows = [(one.id, one.phase, one.severity, one.source, one.limit, one.unit, one.why) for _, one in criteria]
    if rows:
        _print_table(("criterion", "phase", "severity", "source", "limit", "unit", "why"), rows)
    else:
        _print_table(("check", "unit", "meaning"), [(name, one.unit, one.meaning) for name, one in CHECKS.items()])
    return 0


def _print_verdict(criteria: Sequence[Criterion], judged: Verdict) -> None:
    titles = {one.id: one.title for one in criteria}
    rows = []
    for one in judged.measurements:
        value = plain(one.value) if one.value is not None else "-"
        said = one.reason if one.cause else titles[one.criterion_id]
        rows.append((one.criterion_id, one.outcome.value, value, one.limit, one.unit, said))
    _print_table(("criterion", "outcome", "value", "limit", "unit", ""), rows)
    because = f": {judged.decided_by.criterion_id}, {judged.decided_by.reason}" if judged.decided_by else ""
    print(f"verdict {judged.word.value.replace('_', '-')}{because}")


def _print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    for row in (head, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _as_json(one: Measurement) -> dict[str, Any]:
    return {
        "criterion": one.criterion_id,
        "outcome": one.outcome,
        "cause": one.cause,
        "value": None if one.value is None else str(one.value),
        "limit": one.limit,
        "unit": one.unit,
        "sample_count": one.sample_count,
        "coverage": None if one.coverage is None else str(round(one.coverage, 4)),
        "query": one.query,
        "reason": one.reason,
        "took_ms": one.took_ms,
    }


def _time_s(text: str, flag: str) -> float:
    if text == "now":
        return time.time()
    try:
        return float(text)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{flag} {text!r}; allowed: now, unix seconds, or UTC as 2026-01-31T12:00:00Z") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


if __name__ == "__main__":
    sys.exit(main())
