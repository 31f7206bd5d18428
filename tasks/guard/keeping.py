"""What is kept of measurements: rows on every change of value or outcome and once a minute, and the newest of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gates.criteria import Criterion
from gates.judge import Measurement, Reading, judge, plain
from tasks.guard.state import Active, GuardState, now_ms
from tasks.record_tables import MeasurementLatest, MeasurementRow

KEEP_EVERY_MS = 60_000


@dataclass
class Kept:
    """What was last written of each criterion, to write only changes."""

    stage_run_id: int = 0
    rows: dict[str, tuple[str, str, int]] = field(default_factory=dict)

    def worth(self, stage_run_id: int, one: Measurement) -> bool:
        if stage_run_id != self.stage_run_id:
            self.stage_run_id, self.rows = stage_run_id, {}
        value = "" if one.value is None else str(one.value)
        outcome = f"{one.outcome.value} {one.cause or ''}"  # an UNKNOWN of another cause may be another's fault
        before = self.rows.get(one.criterion_id)
        changed = before is None or before[:2] != (outcome, value)
        if before is not None and not changed and one.at_ms - before[2] < KEEP_EVERY_MS:
            return False
        self.rows[one.criterion_id] = (outcome, value, one.at_ms)
        return True


def judged(criteria: Sequence[Criterion], readings: Sequence[Reading]) -> list[tuple[Criterion, Measurement]]:
    """Readings with their criteria, judged as of now."""
    by_id = {one.id: one for one in criteria}
    at_ms = now_ms()
    return [(by_id[one.criterion_id], judge(by_id[one.criterion_id], one, at_ms)) for one in readings]


def storing(
    guard: GuardState, active: Active, measured: Sequence[tuple[Criterion, Measurement]], kept: Kept
) -> Callable[[], None]:
    """The transaction that writes the rows worth keeping and the newest of each. It may be tried again."""
    order = {one.id: at for at, one in enumerate(active.criteria)}
    worth = [(criterion, one) for criterion, one in measured if kept.worth(active.id, one)]

    def write() -> None:
        # Made anew at each try: a row that a failed transaction has numbered keeps that number.
        rows = [measurement_row(active.id, criterion, one) for criterion, one in worth]
        latest = [latest_row(active.id, criterion, one, order.get(criterion.id, 0)) for criterion, one in measured]
        guard.store.record.store_measurements(rows, latest)

    return write


def measurement_row(stage_run_id: int, criterion: Criterion, one: Measurement) -> MeasurementRow:
    """The row to keep of a measurement; `tasks.guard.history` reads it back."""
    return MeasurementRow(
        **_measured(stage_run_id, criterion, one),
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


def latest_row(stage_run_id: int, criterion: Criterion, one: Measurement, ordinal: int) -> MeasurementLatest:
    """The row that is replaced each time; `ordinal` is the criterion's place in its file."""
    return MeasurementLatest(
        **_measured(stage_run_id, criterion, one),
        severity=criterion.severity,
        title=criterion.title,
        reason=one.reason,
        ordinal=ordinal,
    )


def _measured(stage_run_id: int, criterion: Criterion, one: Measurement) -> dict[str, Any]:
    return {
        "stage_run_id": stage_run_id,
        "criterion_id": one.criterion_id,
        "phase": criterion.phase,
        "at_ms": one.at_ms,
        "outcome": one.outcome.value,
        "cause": one.cause.value if one.cause else None,
        "value": None if one.value is None else plain(one.value),
        "limit": one.limit,
        "unit": one.unit,
    }
