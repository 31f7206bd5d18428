"""Builds criteria, readings and measurements for the tests of the gates."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from gates.criteria import Criterion
from gates.judge import Cause, Measurement, Reading, Sample, judge

AT_MS = 1_700_000_000_000


def criterion(name: str = "latency", **changes: Any) -> Criterion:
    """A guard criterion: PASS below 500, FAIL above 1000 ms."""
    values: dict[str, Any] = {
        "id": name,
        "title": "Order latency",
        "source": "promql",
        "query": "max(mm_book_age_ms)",
        "unit": "bps",
        "go": "< 500",
        "no_go": "> 1000",
        "phase": "guard",
        "unknown_deadline_s": 10,
        "why": "Slow orders are stale orders.",
    }
    return Criterion.model_validate(values | changes)


def reading(
    *values: Decimal | int | str | None,
    name: str = "latency",
    failure: Cause | None = None,
    expected: int = 0,
    observed: int = 0,
) -> Reading:
    """One sample for each value; None is NaN."""
    samples = tuple(
        Sample(AT_MS, None if value is None else Decimal(value), {"symbol": f"S{at}"})
        for at, value in enumerate(values)
    )
    return Reading(name, AT_MS, 1, "q", samples, failure, "", expected, observed)


def measured(asked: Criterion, value: Decimal | int | Cause, at_ms: int = AT_MS) -> Measurement:
    """A measurement of `value`, or the UNKNOWN of a cause."""
    if isinstance(value, Cause):
        return judge(asked, reading(name=asked.id, failure=value), at_ms)
    return judge(asked, reading(value, name=asked.id), at_ms)
