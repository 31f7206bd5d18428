"""The judge: what a reading means. Pure: no clock, no I/O; the same reading gives the same measurement for ever.

PASS, FAIL and INCONCLUSIVE are said of a value that was really measured. Everything else is UNKNOWN with its cause,
which is neither good nor bad: an outage of Prometheus must not look like a bad bot, nor like a good one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Final

from gates.criteria import Criterion, Fault


class Outcome(StrEnum):
    """What one measurement says."""

    PASS = "PASS"  # noqa: S105 - the word of a verdict, not a secret
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    UNKNOWN = "UNKNOWN"


class Cause(StrEnum):
    """Why a measurement is UNKNOWN."""

    NO_DATA = "no data"
    NOT_FINITE = "NaN or infinite"
    SEVERAL_SERIES = "several series where one was expected"
    STALE = "stale"
    PARTIAL_WINDOW = "partial window"
    SOURCE_ERROR = "source error"
    SOURCE_UNREACHABLE = "source unreachable"


class Word(StrEnum):
    """What all measurements together say."""

    GO = "GO"
    NO_GO = "NO_GO"
    HOLD = "HOLD"


@dataclass(frozen=True, slots=True)
class Sample:
    """One series' value. `value` None is NaN or an infinity."""

    at_ms: int
    value: Decimal | None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a source answered for one criterion, unjudged.

    `query` as it was sent; `failure` set where no answer can be trusted, with `detail` saying why in one sentence.
    `expected_samples` and `observed_samples` are scrapes over the query's window, 0 where it has none.
    """

    criterion_id: str
    asked_at_ms: int
    took_ms: int
    query: str
    samples: tuple[Sample, ...] = ()
    failure: Cause | None = None
    detail: str = ""
    expected_samples: int = 0
    observed_samples: int = 0


@dataclass(frozen=True, slots=True)
class Measurement:
    """A reading, judged. `value` may be there for an UNKNOWN too (a partial window), for people to see.

    `coverage` is the share of expected scrapes seen (0 to 1), None where the query has no window.
    """

    criterion_id: str
    at_ms: int
    outcome: Outcome
    cause: Cause | None
    value: Decimal | None
    limit: str
    unit: str
    window_s: float | None
    sample_count: int
    coverage: Decimal | None
    query: str
    reason: str
    took_ms: int
    reading: Reading


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the critical criteria say together.

    `decided_by` is the worst (ties: first in the file), None for GO; `others` are the further ones that are not PASS.
    `fault` is whose fault a NO_GO is, by the deciding criterion.
    """

    word: Word
    measurements: tuple[Measurement, ...]
    decided_by: Measurement | None
    others: tuple[Measurement, ...]
    fault: Fault | None = None


SEVERITY: Final[Mapping[Outcome, int]] = {
    Outcome.PASS: 0,
    Outcome.INCONCLUSIVE: 1,
    Outcome.UNKNOWN: 2,
    Outcome.FAIL: 3,
}
"""Worst wins, in this order."""


def judge(criterion: Criterion, reading: Reading, at_ms: int) -> Measurement:
    """The measurement that `reading` is. Raises ValueError where it belongs to another criterion."""
    if reading.criterion_id != criterion.id:
        raise ValueError(f"a reading of {reading.criterion_id} cannot be judged as {criterion.id}")
    coverage = _coverage(reading)
    value, outcome, cause, reason = _judged(criterion, reading, coverage)
    return Measurement(
        criterion_id=criterion.id,
        at_ms=at_ms,
        outcome=outcome,
        cause=cause,
        value=value,
        limit=criterion.limit,
        unit=criterion.unit,
        window_s=criterion.window_s,
        sample_count=len(reading.samples),
        coverage=coverage,
        query=reading.query,
        reason=reason,
        took_ms=reading.took_ms,
        reading=reading,
    )


_Judged = tuple[Decimal | None, Outcome, Cause | None, str]


def _judged(criterion: Criterion, reading: Reading, coverage: Decimal | None) -> _Judged:
    if reading.failure is not None:
        return _unknown(reading.failure, reading.detail or reading.failure.value)
    if not reading.samples:
        return _unknown(Cause.NO_DATA, reading.detail or "the source answered without a sample")
    values = [sample.value for sample in reading.samples if sample.value is not None and sample.value.is_finite()]
    if len(values) < len(reading.samples):
        return _unknown(Cause.NOT_FINITE, f"{len(reading.samples) - len(values)} of {len(reading.samples)} samples")
    if criterion.reduce == "one" and len(values) > 1:
        return _unknown(Cause.SEVERAL_SERIES, f"{len(values)} series")
    value, outcome, series = _reduced(criterion, reading.samples, values)
    detail = f" ({reading.detail})" if reading.detail else ""
    said = f"{plain(value)} {criterion.unit}{series}; {criterion.limit}{detail}"
    if criterion.windowed and (coverage is None or coverage < criterion.min_coverage):
        seen = f"{reading.observed_samples} of {reading.expected_samples} scrapes, needs {criterion.min_coverage}"
        return value, Outcome.UNKNOWN, Cause.PARTIAL_WINDOW, f"{Cause.PARTIAL_WINDOW.value}: {seen} ({said})"
    return value, outcome, None, said


def _reduced(criterion: Criterion, samples: Sequence[Sample], values: list[Decimal]) -> tuple[Decimal, Outcome, str]:
    """The value that stands for all series, its outcome, and which series it is."""
    if criterion.reduce in {"one", "sum"}:
        value = sum(values, Decimal(0)) if len(values) > 1 else values[0]
        return value, outcome_of(criterion, value), f" over {len(values)} series" if len(values) > 1 else ""
    outcomes = [outcome_of(criterion, value) for value in values]
    worst = max(range(len(values)), key=lambda at: (SEVERITY[outcomes[at]], _excess(criterion, values[at])))
    if len(values) == 1:
        return values[0], outcomes[0], ""
    names = "; ".join(_named(samples[at]) for at in range(len(values)) if outcomes[at] is outcomes[worst])
    shown = names if criterion.reduce == "each" else _named(samples[worst])
    return values[worst], outcomes[worst], f" at {shown} of {len(values)} series"


def _excess(criterion: Criterion, value: Decimal) -> Decimal:
    """How far `value` lies from the nearest go value: among equal outcomes the farthest is the worst."""
    gaps = [
        Decimal(0) if part.holds(value) else min(abs(value - part.low), abs(value - part.high))
        for part in criterion.passes
    ]
    return min(gaps, default=Decimal(0))


def outcome_of(criterion: Criterion, value: Decimal) -> Outcome:
    """Where `value` lies: FAIL in no_go, PASS in go, else INCONCLUSIVE; one band given, the rest is the other."""
    if any(part.holds(value) for part in criterion.fails):
        return Outcome.FAIL
    return Outcome.PASS if any(part.holds(value) for part in criterion.passes) else Outcome.INCONCLUSIVE


def verdict(criteria: Iterable[Criterion], measurements: Iterable[Measurement]) -> Verdict:
    """Worst wins over the critical criteria; GO needs every one of them to PASS, and at least one to exist.

    A critical criterion without a measurement is UNKNOWN. Advisory ones are kept in `measurements` and never decide.
    Where one criterion was measured more than once, its worst measurement counts.
    """
    given = tuple(measurements)
    found: list[tuple[Criterion, Measurement]] = []
    for criterion in criteria:
        if criterion.severity == "critical":
            own = [one for one in given if one.criterion_id == criterion.id]
            worst = max(own, key=lambda one: SEVERITY[one.outcome]) if own else never_measured(criterion)
            found.append((criterion, worst))
    known = {id(one) for one in given}
    shown = (*given, *(one for _, one in found if id(one) not in known))
    ranked = sorted(found, key=lambda pair: -SEVERITY[pair[1].outcome])
    bad = [pair for pair in ranked if pair[1].outcome is not Outcome.PASS]
    if not bad:
        return Verdict(Word.GO if found else Word.HOLD, shown, None, ())
    criterion, decided_by = bad[0]
    failed = decided_by.outcome is Outcome.FAIL
    others = tuple(one for _, one in bad[1:])
    return Verdict(
        Word.NO_GO if failed else Word.HOLD, shown, decided_by, others, criterion.on_no_go if failed else None
    )


def never_measured(criterion: Criterion, at_ms: int = 0) -> Measurement:
    """The UNKNOWN that stands for a criterion nobody measured."""
    reading = Reading(
        criterion.id, at_ms, 0, criterion.query or criterion.check or "", (), Cause.NO_DATA, "never measured"
    )
    return judge(criterion, reading, at_ms)


def plain(value: Decimal) -> str:
    """A value as people write it: no exponent, at most six digits after the point, no trailing zeros."""
    rounded = round(value, 6) if abs(value) < Decimal("1e15") else value
    text = f"{rounded:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) if rounded else "0"


def _coverage(reading: Reading) -> Decimal | None:
    if reading.expected_samples <= 0:
        return None
    return min(Decimal(1), Decimal(reading.observed_samples) / Decimal(reading.expected_samples))


def _unknown(cause: Cause, detail: str) -> _Judged:
    return None, Outcome.UNKNOWN, cause, f"{cause.value}: {detail}" if detail != cause.value else cause.value


def _named(sample: Sample) -> str:
    labels = ",".join(f"{key}={sample.labels[key]}" for key in sorted(sample.labels) if key != "__name__")
    return f"{{{labels}}}={plain(sample.value) if sample.value is not None else 'NaN'}"
