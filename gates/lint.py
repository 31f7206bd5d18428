"""Refuses gates that cannot do their work: that cannot fail, that compare for themselves, that see another's bot.

What one criterion's own numbers already contradict (no band, a FAIL out of reach, no `unknown_deadline_s`, unknown
keys) does not even load; see `gates.criteria`. Here is what needs the catalogue, the checks or the plan to be seen.
Every fault is one line: file, line, criterion, what, allowed.
"""

from __future__ import annotations

import asyncio
import difflib
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bot.config import load_settings
from bot.metrics import CATALOGUE, PIPELINE, TARGET_LABELS, Metric, exposed_names
from bot.stores.sqlite import SCHEMA
from gates import promql
from gates.approvers import Person, can_ever_sign_off, load_approvers
from gates.checklists import ChecklistFile, Item, is_checklist, load_checklist
from gates.criteria import CriteriaError, CriteriaFile, Criterion, files_of, load_criteria
from gates.promql import Selector, Use
from gates.sources import totals
from gates.sources.checks import CHECKS
from gates.sources.prometheus import Failed, PrometheusSource
from gates.stages import (
    ROOT,
    Plan,
    Stage,
    checklist_files,
    checklist_of,
    criteria_files,
    criteria_of,
    each_part,
    load_plan,
    plan_digest,
    under_root,
)
from gates.yaml_file import YamlFile

_EXPOSED: Final = exposed_names()
_SCRAPE_LABELS: Final = frozenset({*TARGET_LABELS, "job", "instance"})
_PARTS: Final = ("_bucket", "_sum", "_count")

Fault = tuple[str, str]
"""(key of the criterion, what is wrong and what is allowed)"""


def lint_file(path: Path) -> list[str]:
    """The faults of a criteria file or checklist, each one line. Raises CriteriaError where it does not load."""
    if is_checklist(path):
        load_checklist(path)  # an item has nothing that its own schema does not see
        return []
    load_criteria(path)
    return [fault for file, whole in files_of(path) for fault in _own_faults(file, whole)]


def _own_faults(file: YamlFile, whole: CriteriaFile) -> list[str]:
    return [
        f"{file.path}:{file.line(('criteria', at, key))}: {criterion.id}.{key}: {said}"
        for at, criterion in enumerate(whole.criteria)
        for key, said in criterion_faults(criterion)
    ]


def lint_not_yet(path: Path) -> list[str]:
    """What the file, and the one it includes, name as not measurable yet: each one line. Raises CriteriaError."""
    if is_checklist(path):
        return [line for file in load_checklist(path).files for line in _own_not_yet(file, file.read(ChecklistFile))]
    return [line for file, whole in files_of(path) for line in _own_not_yet(file, whole)]


def _own_not_yet(file: YamlFile, whole: ChecklistFile | CriteriaFile) -> list[str]:
    lines = [file.line(("not_yet_measurable", at, "id")) for at in range(len(whole.not_yet_measurable))]
    return [
        f"{file.path}:{line}: {one.id} ({one.limit}): not yet measurable: {one.needs}"
        for line, one in zip(lines, whole.not_yet_measurable, strict=True)
    ]


def lint_plan(path: Path, root: Path = ROOT) -> list[str]:
    """The faults of a plan and of every criteria file and checklist it uses, with its own numbers set over theirs.

    Raises PlanError, CriteriaError, ApproversError or ConfigError where one of the files does not load.
    """
    plan = load_plan(path)
    plan_digest(plan, root)
    load_settings(under_root(plan.settings, root))
    people = load_approvers(under_root(plan.approvers, root)).people
    file = YamlFile(path, CriteriaError)
    sources = (*criteria_files(plan), *checklist_files(plan))
    faults = [fault for source in sources for fault in lint_file(under_root(source, root))]
    for at, stage in enumerate(plan.stages):
        for item in checklist_of(stage, root).items:
            where = file.line(("stages", at, "checklist"))
            faults += [
                f"{path}:{where}: stage {stage.id}: {item.id}: {said}"
                for said in _item_faults(plan, stage, item, people)
            ]
        for number, part in enumerate(each_part(stage)):
            named = f"stage {stage.id}" + (f", part {stage.part_name(number)}" if stage.parts else "")
            criteria = criteria_of(part, root)
            for criterion in criteria:
                line = _line(file, at, number, criterion.id)
                for key, said in stage_faults(criterion, part):
                    faults.append(f"{path}:{line}: {named}: {criterion.id}.{key}: {said}")
            where = file.line(("stages", at))
            faults += [f"{path}:{where}: {named}: {said}" for said in _drill_faults(part, criteria)]
            faults += [f"{path}:{where}: {named}: {said}" for said in _sign_off_faults(plan, part, people)]
    return faults


def _line(file: YamlFile, at: int, number: int, criterion_id: str) -> int:
    """Where the numbers of that criterion stand: in its part, in its stage, else where the stage begins."""
    of_part = file.line(("stages", at, "parts", number, "overrides", criterion_id))
    of_stage = file.line(("stages", at, "overrides", criterion_id))
    return max(of_part, of_stage)


def _ended_by(drill: str, criteria: Sequence[Criterion]) -> list[str]:
    """Guard criteria that this drill breaks: where it does not announce them, they end the stage."""
    guards = [one for one in criteria if one.phase == "guard" and one.severity == "critical"]
    if drill == "restart":
        return [one.id for one in guards if one.check == "process_up"]
    if drill == "orphan":
        return [one.id for one in guards if one.source == "table" and "mm_recon_divergence_total" in (one.query or "")]
    return []


def _drill_faults(stage: Stage, criteria: Sequence[Criterion]) -> Iterator[str]:
    """A drill that must trip what is not measured here could never pass; one that trips more ends the stage."""
    known = {one.id: one for one in criteria}
    names = [one.name for one in stage.drills]
    for twice in dict.fromkeys(one for one in names if names.count(one) > 1):
        yield f"drill {twice}: stands {names.count(twice)} times; allowed: once in a part"
    for drill in stage.drills:
        for broken in _ended_by(drill.name, criteria):
            if broken not in drill.trips:
                yield f"drill {drill.name}: breaks {broken!r}, which would end the stage; allowed: named under trips"
        for name in drill.trips:
            if name not in known:
                yield f"drill {drill.name}: trips {name!r}, which is no criterion here; allowed: one of the stage's"
        if drill.window_s > stage.lasts_s:
            yield f"drill {drill.name}: window_s {drill.window_s:g}; allowed: at most the part's {stage.lasts_s:g} s"


ASK_AGAIN_S = 0.2


class QueryUnanswered(Exception):
    """Prometheus has not answered, so nothing is known of a query. One line: which, and what came instead."""


async def refused_queries(files: Sequence[Path], plans: Sequence[Path], url: str, patience_s: float = 0.0) -> list[str]:
    """The PromQL queries that the Prometheus at `url` refuses, each a line with its own message.

    A query that it does not answer is asked again, for at most `patience_s` over all of them: one look that fails is no
    word on the query. Raises QueryUnanswered where that was in vain and no query was refused until then.
    """
    criteria = [(path, one) for path in files for one in load_criteria(path)]
    for path in plans:
        parts = [part for stage in load_plan(path).stages for part in each_part(stage)]
        criteria += [(path, one) for part in parts for one in criteria_of(part)]
    faults: list[str] = []
    now_s = time.time()
    nobody = Selector("nobody", "nothing", "nowhere", now_s - 60)
    async with PrometheusSource(url) as source:
        for path, one in criteria:
            if one.source != "promql":
                continue
            query = promql.resolve(one.query or "", nobody, nobody.window_s(now_s, one.window_s))
            asked_s = time.monotonic()
            while isinstance(answer := await source.query(query, now_s), Failed):
                said = f"{path}: {one.id}.query: {answer.detail}"
                if answer.refused:
                    faults.append(said)
                    break
                if time.monotonic() - asked_s >= patience_s:
                    if faults:
                        return faults
                    raise QueryUnanswered(said)
                await asyncio.sleep(ASK_AGAIN_S)
                patience_s, asked_s = patience_s - (time.monotonic() - asked_s), time.monotonic()
    return faults


def criterion_faults(criterion: Criterion) -> Iterator[Fault]:
    """What is wrong with one criterion, whatever the stage."""
    if criterion.unknown_deadline_s < criterion.every_s:
        yield "unknown_deadline_s", f"{criterion.unknown_deadline_s:g}; allowed: at least every_s {criterion.every_s:g}"
    if criterion.for_s and criterion.phase != "guard":
        yield "for_s", f"{criterion.for_s:g} in phase {criterion.phase}, which looks once; allowed: 0, or phase guard"
    if criterion.window_s is not None and not criterion.windowed:
        yield (
            "window_s",
            f"{criterion.window_s:g}, but the query has no $window; allowed: null, or [$window] in the query",
        )
    if criterion.source == "promql":
        yield from (("query", said) for said in _promql_faults(criterion.query or ""))
    elif criterion.query is not None:
        yield from (("query", said) for said in _table_faults(criterion.query))
    elif criterion.source == "check":
        yield from _check_faults(criterion)


def stage_faults(criterion: Criterion, stage: Stage) -> Iterator[Fault]:
    """What is wrong with one criterion in a stage that lasts `stage.lasts_s`."""
    longest = f"allowed: at most the stage's {stage.lasts_s:g} s"
    for key in ("window_s", "for_s", "every_s"):
        value = getattr(criterion, key)
        if value is not None and value > stage.lasts_s:
            yield key, f"{value:g} s outlasts the stage, so it could never fail; {longest}"
    if criterion.phase == "guard" and criterion.unknown_deadline_s > stage.lasts_s:
        yield "unknown_deadline_s", f"{criterion.unknown_deadline_s:g} s outlasts the stage; {longest}"
    for span_s in promql.ranges_s(criterion.query or "") if criterion.source == "promql" else ():
        if span_s > stage.lasts_s:
            yield "query", f"looks back {span_s:g} s; {longest}"


def _promql_faults(query: str) -> Iterator[str]:
    for name in promql.unknown_variables(query):
        yield f"unknown variable ${name}; allowed: {', '.join('$' + known for known in promql.VARIABLES)}"
    for word in dict.fromkeys(promql.words(query)):
        if word in promql.COMPARISONS:
            yield f"compares ({word}) inside the query; allowed: the number alone, the bands compare"
        if word in promql.INVENTS_DATA:
            yield f"{word!r} gives a value where there is no data; allowed: no data stays no data"
    found = promql.uses(query)
    if not found:
        yield "reads no metric; allowed: at least one of the catalogue"
    for use in found:
        yield from _use_faults(use)


def _use_faults(use: Use) -> Iterator[str]:
    if use.metric not in _EXPOSED:
        near = difflib.get_close_matches(use.metric, sorted(_EXPOSED), 1)
        yield f"unknown metric {use.metric!r}; allowed: the catalogue" + (f" (did you mean {near[0]}?)" if near else "")
        return
    selected = {
        matcher.value for matcher in use.matchers if matcher.operator == "=" and matcher.value == "$" + matcher.label
    }
    missing = [f'{name}="${name}"' for name in promql.SELECTED_BY if f"${name}" not in selected]
    if missing:
        yield f"{use.metric} is not selected by {', '.join(missing)}; allowed: all three, with ="
    labels = _labels(use.metric)
    for matcher in use.matchers:
        if matcher.label not in labels:
            yield f"label {matcher.label!r} of {use.metric}; allowed: {', '.join(sorted(labels))}"
    edges = {str(edge) for edge in _edges(use.metric)} | {"+Inf"}
    for matcher in use.matchers:
        if matcher.label == "le" and matcher.operator == "=" and matcher.value not in edges:
            yield f"le={matcher.value!r} of {use.metric} is no edge; allowed: {', '.join(sorted(edges))}"


def _metric(name: str) -> Metric | None:
    bare = {name, *(name.removesuffix(part) for part in _PARTS)}
    return next((metric for metric in (*CATALOGUE, *PIPELINE) if metric.name in bare), None)


def _labels(name: str) -> frozenset[str]:
    metric = _metric(name)
    own = set(metric.labels) if metric else set()
    return _SCRAPE_LABELS | own | ({"le"} if name.endswith("_bucket") else set())


def _edges(name: str) -> tuple[float, ...]:
    metric = _metric(name)
    return metric.edges if metric else ()


def _table_faults(query: str) -> Iterator[str]:
    if not query.lower().startswith("select "):
        try:
            totals.parse(query)
        except totals.TotalsError as error:
            yield str(error)
        return
    with sqlite3.connect(":memory:") as db:
        db.executescript(SCHEMA)
        try:
            columns = db.execute(f"SELECT * FROM ({query}) LIMIT 0").description  # noqa: S608 - our own file's query
            if len(columns) != 1:
                yield f"gives {len(columns)} columns; allowed: one number"
        except sqlite3.Error as error:
            yield f"the journal's tables refuse it: {error}; allowed: one SELECT over them"


def _check_faults(criterion: Criterion) -> Iterator[Fault]:
    found = CHECKS.get(criterion.check or "")
    if found is None:
        yield "check", f"unknown check {criterion.check!r}; allowed: {', '.join(CHECKS)}"
    elif found.unit != criterion.unit:
        yield "unit", f"{criterion.unit} for check {criterion.check}; allowed: {found.unit}"


def _item_faults(plan: Plan, stage: Stage, item: Item, people: Sequence[Person]) -> Iterator[str]:
    """An item that nobody could ever fulfil keeps the stage from starting for ever."""
    if item.drill is not None:
        before = {one.id: one for one in plan.stages if one.id in plan.before(stage.id)}
        if item.drill.stage not in before:
            yield f"drill.stage {item.drill.stage!r}; allowed: a stage before it: {', '.join(before) or 'it has none'}"
        elif item.drill.name not in {one.name for part in each_part(before[item.drill.stage]) for one in part.drills}:
            yield f"drill.name {item.drill.name!r}; allowed: a drill that stage {item.drill.stage} of the plan makes"
    if item.attestation is not None:
        missing = can_ever_sign_off(item.attestation.by, people, plan.author).missing
        if missing:
            yield f"attestation.by can never be complete: {plan.approvers} lacks {', '.join(missing)}"


def _sign_off_faults(plan: Plan, stage: Stage, people: Sequence[Person]) -> Iterator[str]:
    for gate, wanted in (("entry", stage.entry_sign_offs), ("exit", stage.exit_sign_offs)):
        missing = can_ever_sign_off(wanted, people, plan.author).missing
        if missing:
            lacking = ", ".join(missing)
            yield f"{gate}_sign_offs can never be complete: {plan.approvers} lacks {lacking}"
