"""The measurements of a stage run under one digest: told in the chain, so that a row edited later shows.

One link for each of the thousands of rows a day would double the tables. So a range of them is told at once: every
`RANGE_ROWS`, with each verdict and at the end of the stage run. What was measured since is told with the next.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from sqlalchemy import Text, cast, func, select
from sqlmodel import Session, SQLModel, col

from tasks.record_tables import MeasurementRow

KIND = "measurements"
AT_ONCE = 1000
LATER = "looked_before_ms"
RANGE_ROWS = 2000
"""Of a live day about thirty ranges, each read in some ten milliseconds."""


class Range(NamedTuple):
    """The rows of a stage run with after < id <= upto: how many, and the SHA-256 (hex) over all their columns."""

    after: int
    upto: int
    rows: int
    sha256: str


def newest_id(session: Session, stage_run_id: int) -> int:
    """The number of the stage run's newest measurement; 0 where it has none."""
    query = select(func.max(col(MeasurementRow.id))).where(col(MeasurementRow.stage_run_id) == stage_run_id)
    return int(session.connection().execute(query).scalar() or 0)


def digest_of(session: Session, stage_run_id: int, after: int, upto: int) -> Range:
    """Reads the range once, a thousand rows at a time. Columns are taken as they are stored, JSON as its text."""
    number = col(MeasurementRow.id)
    query = (
        select(*_columns(MeasurementRow))
        .where(col(MeasurementRow.stage_run_id) == stage_run_id, number > after, number <= upto)
        .order_by(number)
    )
    found, count = hashlib.sha256(), 0
    for row in session.connection().execute(query.execution_options(yield_per=AT_ONCE)):
        *first, looked_before_ms = row  # a column that came later: told where it has a value
        words = first if looked_before_ms is None else [*first, looked_before_ms]
        texts = [str(one) for one in words]  # each behind its length: no text can pass for two
        found.update("".join(f"{len(text)}:{text}" for text in texts).encode(errors="replace"))
        count += 1
    return Range(after, upto, count, found.hexdigest())


def _columns(model: type[SQLModel]) -> list[Any]:
    table: Any = model.__table__  # type: ignore[attr-defined]
    told = [cast(one, Text) if one.name == "raw" else one for one in table.columns if one.name != LATER]
    return [*told, table.columns[LATER]]
