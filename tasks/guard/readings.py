"""Gathers what the sources need: journals, the bot's own word, Prometheus. Every question has its time-out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from bot.journal import JournalError, JournalReader
from gates.criteria import Criterion
from gates.judge import Reading
from gates.promql import Selector
from gates.sources.checks import WITNESSED, CheckFacts, by_name, measure_checks
from gates.sources.prometheus import Failed, PrometheusSource
from gates.sources.tables import measure_tables
from gates.sources.totals import Totals
from tasks.guard.drill_facts import drill_facts
from tasks.guard.facts import part_s, told_facts
from tasks.guard.state import Active, GuardState, now_ms
from tasks.guard.watchdog_beat import watchdog_beats
from tasks.launch import counted_before_restart, is_alive


def selector_of(active: Active) -> Selector:
    """This stage run's series: nothing before its launch counts."""
    since_ms = active.history.started_at_ms if active.history is not None else now_ms()
    begun_s = active.row.launched_at.timestamp() if active.row.launched_at else since_ms / 1000
    return Selector(active.row.account, active.row.rollout, active.row.stage, begun_s)


def judged_selector(active: Active) -> Selector:
    """The same from the begin of the watch on: what the end judges."""
    since, whole = active.row.watch_from, selector_of(active)
    return whole if since is None else replace(whole, since_s=max(whole.since_s, since.timestamp()))


def baseline_of(active: Active) -> Totals:
    """What the journal had counted when the watch began."""
    return {(str(name), str(labels)): int(count) for name, labels, count in active.row.baseline}


def data_check_file(active: Active) -> Path | None:
    """Where the data check leaves its result."""
    return active.state_dir / "data_check.json" if active.state_dir else None


async def read_prometheus(
    guard: GuardState, active: Active, criteria: Sequence[Criterion], source: PrometheusSource
) -> list[Reading]:
    at_s, readings = time.time(), list[Reading]()
    for final, selector in ((False, selector_of(active)), (True, judged_selector(active))):
        chosen = [one for one in criteria if (one.phase == "final") == final]
        if chosen:
            readings += await source.measure(chosen, selector, at_s)
    return readings


async def read_tables(
    guard: GuardState, active: Active, criteria: Sequence[Criterion], source: PrometheusSource
) -> list[Reading]:
    journals = [active.state_dir / "journal.db"] if active.state_dir else []
    checked, baseline = data_check_file(active), baseline_of(active)
    readings = await asyncio.to_thread(measure_tables, criteria, journals, now_ms(), checked, baseline)
    return active.drilled.without_drills(criteria, readings)


async def read_checks(
    guard: GuardState, active: Active, criteria: Sequence[Criterion], source: PrometheusSource
) -> list[Reading]:
    asked_at_ms = now_ms()
    return measure_checks(criteria, await _facts(guard, active, criteria, source), asked_at_ms)


async def _facts(
    guard: GuardState, active: Active, criteria: Sequence[Criterion], source: PrometheusSource
) -> CheckFacts:
    witnesses = any(one.check == "journal_agrees_with_prometheus" for one in criteria)
    status, witnessed = await asyncio.gather(
        _status(active), _witnesses(active, source) if witnesses else _no_witnesses()
    )
    told, status_error = status
    asked = {one.check for one in criteria}
    more = await told_facts(guard, active, told, asked)
    beats, watchdog_said = None, ""
    if "watchdog_beats" in asked:
        beats, watchdog_said = await asyncio.to_thread(watchdog_beats, guard.folder.targets, guard.account)
    stale, margin = _statement(told)
    drilled = await drill_facts(guard.folder, active, asked, source)
    journal, prometheus, witness_error = witnessed
    age = told.get("grant_age_s")
    return CheckFacts(
        digest_signed=active.rollout.settings_digest,
        version_signed=active.rollout.code_version,
        grant_ttl_s=active.plan.grant_ttl_s,
        process_alive=None if active.bot is None else is_alive(active.bot.identity),
        digest_reported=_text(told.get("digest")),
        version_reported=_text(told.get("version")),
        status_error=status_error,
        launching=active.launching,
        grant_age_s=float(age) if isinstance(age, int | float) else None,
        journal_totals=journal,
        prometheus_totals=prometheus,
        witness_error=witness_error,
        drills_missing=more.drills_missing,
        part_s=part_s(active),
        report_repeats=more.repeated.same,
        repeated_placed=more.repeated.placed,
        repeated_filled=more.repeated.filled,
        attempt_net_quote=more.attempt_net_quote,
        candidate_net_quote=more.candidate_net_quote,
        stage_net_quote=more.stage_net_quote,
        told_error=more.error,
        statement_stale=stale,
        margin_ratio=margin,
        watchdog_beats=beats,
        watchdog_said=watchdog_said,
        **drilled,
    )


def _statement(told: Mapping[str, Any]) -> tuple[bool | None, Decimal | None]:
    """Whether the venue's statement is too old, and the margin in use by it, as the bot tells them."""
    found = told.get("statement")
    if not isinstance(found, dict) or not isinstance(found.get("stale"), bool):
        return None, None
    try:
        return found["stale"], None if found.get("margin_ratio") is None else Decimal(str(found["margin_ratio"]))
    except InvalidOperation:
        return found["stale"], None


async def _status(active: Active) -> tuple[dict[str, Any], str]:
    if active.operator is None:
        return {}, "the bot has not told its address yet"
    told = await active.operator.status()
    return told.body, "" if told.ok else told.detail


_Witnesses = tuple[Mapping[str, int] | None, Mapping[str, Decimal] | None, str]


async def _no_witnesses() -> _Witnesses:
    return None, None, "not asked"


async def _witnesses(active: Active, source: PrometheusSource) -> _Witnesses:
    answer = await source.totals(WITNESSED, selector_of(active), time.time())
    prometheus, error = (None, answer.detail) if isinstance(answer, Failed) else (answer, "")
    try:
        journal = await asyncio.to_thread(_journal_totals, active.state_dir)
    except (JournalError, OSError) as failure:
        return None, prometheus, str(failure)
    return journal, prometheus, error


def _journal_totals(state_dir: Path | None) -> Mapping[str, int]:
    if state_dir is None:
        raise FileNotFoundError("no run of this stage has a state folder")
    before = counted_before_restart(state_dir)
    with JournalReader(state_dir / "journal.db") as reader:
        counted = by_name(reader.totals())
    return {name: count - before.get(name, 0) for name, count in counted.items()}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
