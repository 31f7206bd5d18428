"""The measuring loops: one a source, so that a hung Prometheus never delays what the journal shows.

Each round: read → judge → history → decide. A breach ends the stage before anything is written. Rows are kept on
every change of value or outcome and once a minute; the newest of each criterion always.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from gates.criteria import Criterion
from gates.decision import Action, decide_guard
from gates.judge import Measurement, Outcome, Reading, judge, plain
from gates.sources.prometheus import PrometheusSource
from tasks.guard.closing import end_stage
from tasks.guard.readings import read_checks, read_prometheus, read_tables
from tasks.guard.state import Active, GuardState, now_ms
from tasks.record_tables import MeasurementLatest, MeasurementRow

log = logging.getLogger("slipway.guard.measuring")
KEEP_EVERY_MS = 60_000
DECIDE_EVERY_S = 0.25
FINAL_EVERY_S = 5.0
"""Criteria of the final judgement are also measured during the watch, for people to see, but not as often."""

Read = Callable[[GuardState, Active, Sequence[Criterion], PrometheusSource], Awaitable[list[Reading]]]
SOURCES: dict[str, Read] = {"promql": read_prometheus, "table": read_tables, "check": read_checks}


@dataclass
class Kept:
    """What was last written of each criterion, to write only changes."""

    stage_run_id: int = 0
    rows: dict[str, tuple[str, str, int]] = field(default_factory=dict)

    def worth(self, stage_run_id: int, one: Measurement) -> bool:
        if stage_run_id != self.stage_run_id:
            self.stage_run_id, self.rows = stage_run_id, {}
        value = "" if one.value is None else str(one.value)
        before = self.rows.get(one.criterion_id)
        changed = before is None or before[:2] != (one.outcome.value, value)
        if before is not None and not changed and one.at_ms - before[2] < KEEP_EVERY_MS:
            return False
        self.rows[one.criterion_id] = (one.outcome.value, value, one.at_ms)
        return True


async def measure_for_ever(guard: GuardState, source: str) -> None:
    """The loop of one source. Nothing it meets ends it but a cancellation."""
    kept, due = Kept(), _Due()
    prometheus: PrometheusSource | None = None
    address: tuple[Any, ...] = ()
    while True:
        begun = time.monotonic()
        active = guard.active
        every_s = 0.2
        if active is not None and active.watched_over:
            every_s = active.plan.measure_every_s
            plan = active.plan
            wanted = (guard.prometheus_url, plan.source_timeout_s, plan.stale_after_s, plan.scrape_every_s)
            if prometheus is None or wanted != address:
                if prometheus is not None:
                    await prometheus.aclose()
                prometheus, address = PrometheusSource(*wanted), wanted
            criteria = due.of(active, source)
            if criteria:
                readings = await SOURCES[source](guard, active, criteria, prometheus)
                await _take(guard, active, criteria, readings, kept)
        await asyncio.sleep(max(0.02, every_s - (time.monotonic() - begun)))


async def decide_for_ever(guard: GuardState) -> None:
    """Decides also when no measurement comes: a source that hangs becomes blindness past its deadline."""
    while True:
        active = guard.active
        if active is not None:
            decide(guard, active)
        await asyncio.sleep(DECIDE_EVERY_S)


def decide(guard: GuardState, active: Active) -> None:
    """Ends the stage where a guard criterion says so. Once closing has begun nothing more is decided here."""
    if active.history is None or active.bot_gone or active.decision is not None or active.closing is not None:
        return
    decision = decide_guard(active.criteria, active.history, now_ms())
    if decision.action is not Action.CONTINUE:
        end_stage(guard, active, decision)


async def _take(
    guard: GuardState, active: Active, criteria: Sequence[Criterion], readings: Sequence[Reading], kept: Kept
) -> None:
    measured = judged(criteria, readings)
    if active.history is None or guard.active is not active:
        return
    active.history = active.history.after(one for _, one in measured)
    decide(guard, active)
    if any(one.outcome is Outcome.UNKNOWN and criterion.phase == "guard" for criterion, one in measured):
        guard.shown.blind(active.plan.measure_every_s)
    for _, one in measured:
        guard.shown.measurement(one)
    try:
        await store(guard, active, measured, kept)
    except SQLAlchemyError as error:
        log.error("measurements were not written: %s", str(error).splitlines()[0])


def judged(criteria: Sequence[Criterion], readings: Sequence[Reading]) -> list[tuple[Criterion, Measurement]]:
    """Readings with their criteria, judged as of now."""
    by_id = {one.id: one for one in criteria}
    at_ms = now_ms()
    return [(by_id[one.criterion_id], judge(by_id[one.criterion_id], one, at_ms)) for one in readings]


async def store(
    guard: GuardState, active: Active, measured: Sequence[tuple[Criterion, Measurement]], kept: Kept
) -> None:
    """Rows worth keeping and the newest of each, in one transaction on the record's thread."""
    order = {one.id: at for at, one in enumerate(active.criteria)}
    rows = [_row(active.id, criterion, one) for criterion, one in measured if kept.worth(active.id, one)]
    latest = [_latest(active.id, criterion, one, order.get(criterion.id, 0)) for criterion, one in measured]
    await guard.store.call(guard.store.record.store_measurements, rows, latest)


def _row(stage_run_id: int, criterion: Criterion, one: Measurement) -> MeasurementRow:
    return MeasurementRow(
        stage_run_id=stage_run_id,
        criterion_id=one.criterion_id,
        phase=criterion.phase,
        at_ms=one.at_ms,
        outcome=one.outcome.value,
        cause=one.cause.value if one.cause else None,
        value=None if one.value is None else plain(one.value),
        limit=one.limit,
        unit=one.unit,
        window_s="" if one.window_s is None else f"{one.window_s:g}",
        sample_count=one.sample_count,
        coverage="" if one.coverage is None else plain(one.coverage),
        query=one.query,
        reason=one.reason,
        took_ms=str(one.took_ms),
        raw=raw_reading(one.reading),
    )


def raw_reading(reading: Reading) -> dict[str, Any]:
    """A reading as it is stored: everything that the judge saw, so that the verdict can be computed again."""
    return {
        "asked_at_ms": reading.asked_at_ms,
        "took_ms": reading.took_ms,
        "query": reading.query,
        "failure": reading.failure.value if reading.failure else None,
        "detail": reading.detail,
        "expected_samples": reading.expected_samples,
        "observed_samples": reading.observed_samples,
        "samples": [
            {"at_ms": one.at_ms, "value": None if one.value is None else str(one.value), "labels": dict(one.labels)}
            for one in reading.samples
        ],
    }


def _latest(stage_run_id: int, criterion: Criterion, one: Measurement, ordinal: int) -> MeasurementLatest:
    return MeasurementLatest(
        stage_run_id=stage_run_id,
        criterion_id=one.criterion_id,
        phase=criterion.phase,
        at_ms=one.at_ms,
        outcome=one.outcome.value,
        cause=one.cause.value if one.cause else None,
        value=None if one.value is None else plain(one.value),
        limit=one.limit,
        unit=one.unit,
        severity=criterion.severity,
        title=criterion.title,
        reason=one.reason,
        ordinal=ordinal,
    )


class _Due:
    """Which criteria of a source are due, by their own `every_s`."""

    def __init__(self) -> None:
        self._stage_run_id = 0
        self._next_s: dict[str, float] = {}

    def of(self, active: Active, source: str) -> list[Criterion]:
        if active.id != self._stage_run_id:
            self._stage_run_id, self._next_s = active.id, {}
        now_s, due = time.monotonic(), []
        for one in active.criteria:
            if one.source != source or one.phase not in ("guard", "final") or now_s < self._next_s.get(one.id, 0.0):
                continue
            every_s = one.every_s if one.phase == "guard" else max(one.every_s, FINAL_EVERY_S)
            # A tenth earlier than exactly: a round that comes a little early must not wait for the next one.
            self._next_s[one.id] = now_s + every_s * 0.9
            due.append(one)
        return due
