"""What is kept of measurements: rows on every change of value or outcome, once a minute, and of every look that came
late; and the newest of each.

A value that moves at every look would fill hundreds of MB a day. So changes of a value alone share one row a minute,
written anew at each: it is the newest of them, and holds the times and values of those before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from gates.blind import look_within_ms
from gates.criteria import Criterion
from gates.judge import Measurement, Reading, judge, plain
from tasks.guard.state import Active, GuardState, now_ms
from tasks.record_tables import MeasurementLatest, MeasurementRow

KEEP_EVERY_MS = 60_000


@dataclass
class Shared:
    """The row of changes within one minute. `id`: its number once it is written; `before`: earlier changes in it."""

    began_ms: int
    at_ms: int
    value: str
    id: int | None = None
    before: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Worth:
    """A measurement to write; into the row of `shared` where it only moved, with the (ms, value) `before` it.

    `looked_before_ms`: when the criterion was looked at last before it, in this stage run.
    """

    criterion: Criterion
    one: Measurement
    shared: Shared | None = None
    before: tuple[tuple[int, str], ...] = ()
    looked_before_ms: int | None = None


@dataclass
class _Last:
    """The newest row of a criterion."""

    outcome: str
    value: str
    at_ms: int
    shared: Shared | None = None


@dataclass
class Kept:
    """What was last written of each criterion, to write only changes."""

    stage_run_id: int = 0
    lasts: dict[str, _Last] = field(default_factory=dict)

    def worth(
        self,
        stage_run_id: int,
        criterion: Criterion,
        one: Measurement,
        before_ms: int | None = None,
        apart: bool = False,
    ) -> Worth | None:
        """What is to be written of it; None where nothing is. It counts as written from now on.

        `before_ms`: when it was looked at last before. Where this look comes late after that, or is another than
        somebody else's since, it stands `apart`: in a row of its own, which tells since when nobody had looked.
        """
        if stage_run_id != self.stage_run_id:
            self.stage_run_id, self.lasts = stage_run_id, {}
        value = "" if one.value is None else plain(one.value)
        outcome = _outcome(one)
        last = self.lasts.get(one.criterion_id)
        same = last is not None and last.outcome == outcome and not apart
        moved = last is not None and same and last.value != value
        if last is not None and same and not moved and one.at_ms - last.at_ms < KEEP_EVERY_MS:
            return None
        shared = _shared(last.shared, one.at_ms, value) if last is not None and moved else None
        self.lasts[one.criterion_id] = _Last(outcome, value, one.at_ms, shared)
        return Worth(criterion, one, shared, shared.before if shared is not None else (), before_ms)


def _outcome(one: Measurement) -> str:
    """An UNKNOWN of another cause may be another's fault."""
    return f"{one.outcome.value} {one.cause or ''}"


def _shared(row: Shared | None, at_ms: int, value: str) -> Shared:
    if row is None or at_ms - row.began_ms >= KEEP_EVERY_MS:
        return Shared(at_ms, at_ms, value)
    row.before = (*row.before, (row.at_ms, row.value))
    row.at_ms, row.value = at_ms, value
    return row


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
    worth = list[Worth]()
    for criterion, one in measured:
        before_ms = active.looked_ms.get(criterion.id)
        within_ms = look_within_ms(max(criterion.every_s, active.plan.measure_every_s))
        late = before_ms is not None and one.at_ms - before_ms > within_ms
        # A row tells until the next one: what another `Kept` has written since must not tell of this one's looks.
        differs = active.looked.get(criterion.id, _outcome(one)) != _outcome(one)
        found = kept.worth(active.id, criterion, one, before_ms, apart=late or differs)
        worth += [] if found is None else [found]
        active.looked_ms[criterion.id] = max(one.at_ms, before_ms or 0)
        active.looked[criterion.id] = _outcome(one)

    def write() -> None:
        # Made anew at each try: a row that a failed transaction has numbered keeps that number.
        rows = [measurement_row(active.id, one) for one in worth]
        latest = [latest_row(active.id, criterion, one, order.get(criterion.id, 0)) for criterion, one in measured]
        guard.store.record.store_measurements(rows, latest)
        for one, row in zip(worth, rows, strict=True):
            if one.shared is not None:
                one.shared.id = row.id

    return write


async def store_now(guard: GuardState, active: Active, measured: Sequence[tuple[Criterion, Measurement]]) -> None:
    """Writes a look that somebody waits for. Raises what the record raises; it is then written once the record takes
    it: the next look counts from this one, and a time before it that nobody saw is told by its rows alone."""
    write = storing(guard, active, measured, Kept())
    try:
        await guard.store.call(write)
    except SQLAlchemyError:
        guard.store.tell("a look", write)
        raise


def measurement_row(stage_run_id: int, worth: Worth) -> MeasurementRow:
    """The row to keep of a measurement; `tasks.guard.history` reads it back."""
    one = worth.one
    before = {"before": [(one.at_ms - at_ms, value) for at_ms, value in worth.before]} if worth.before else {}
    return MeasurementRow(
        id=worth.shared.id if worth.shared is not None else None,
        **_measured(stage_run_id, worth.criterion, one),
        window_s="" if one.window_s is None else f"{one.window_s:g}",
        sample_count=one.sample_count,
        coverage="" if one.coverage is None else plain(one.coverage),
        query=one.query,
        reason=one.reason,
        took_ms=str(one.took_ms),
        raw=raw_reading(one.reading) | before,
        looked_before_ms=worth.looked_before_ms,
    )


def raw_reading(reading: Reading) -> dict[str, Any]:
    """A reading as it is stored: with the row's query all that the judge saw, so that it can be judged again.

    What is empty is left out: 60,000 rows a day have it.
    """
    stored = {
        "asked_at_ms": reading.asked_at_ms,
        "took_ms": reading.took_ms,
        "failure": reading.failure.value if reading.failure else None,
        "detail": reading.detail or None,
        "expected_samples": reading.expected_samples or None,
        "observed_samples": reading.observed_samples or None,
        "samples": [
            {"at_ms": one.at_ms, "value": None if one.value is None else str(one.value)}
            | ({"labels": dict(one.labels)} if one.labels else {})
            for one in reading.samples
        ],
    }
    return {name: value for name, value in stored.items() if value is not None}


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
