"""Readings from the journals of a stage's runs: totals, one SELECT, or the result of the data check.

Hard-safety guards read here: a journal's totals survive restarts and are not lost between two scrapes. The value is the
sum over all runs of the stage. A journal that is missing or cannot be read makes the whole reading UNKNOWN: never 0.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from bot.journal import JournalError, JournalReader, is_there, label_text
from gates.criteria import Criterion
from gates.judge import Cause, Reading, Sample
from gates.sources import totals
from gates.sources.totals import Totals

RESULT_SCHEMA: Final = 1
"""Version of the data check's result file."""
STOPS: Final = "mm_freeze_events_total"
DIVERGENCES: Final = "mm_recon_divergence_total"


def measure_tables(
    criteria: Sequence[Criterion],
    journals: Sequence[Path],
    asked_at_ms: int,
    data_check: Path | None = None,
    baseline: Totals | None = None,
    *,
    all_from_baseline: bool = False,
) -> list[Reading]:
    """One reading for each criterion of source `table`, in order.

    `journals`: of every run of this stage on this account. `data_check`: the result file of
    `python -m gates.sources.great_expectations_journal`, None where it has not been run. `baseline`: totals that do not
    count, those from before what is judged; it is taken off the sums of phase `final` alone, because hard-safety guards
    count from the launch; `all_from_baseline` takes it off every sum, as a drill wants. Never raises for their state.
    """
    return [
        _timed(one, journals, asked_at_ms, data_check, baseline if all_from_baseline or one.phase == "final" else None)
        for one in criteria
        if one.source == "table"
    ]


def totals_of(journal: Path) -> Totals:
    """The totals of a journal now. Raises JournalError, OSError or sqlite3.Error where it cannot be read."""
    if not journal.exists():
        raise FileNotFoundError(f"{journal}: no such journal")
    with JournalReader(journal) as reader:
        return dict(reader.totals())


FOUND_SINCE: Final = """
    SELECT json_extract(body, '$.event'), json_extract(body, '$.fields.reason'),
        json_extract(body, '$.fields.stop_class'), json_extract(body, '$.fields.type'), count(*)
    FROM entry WHERE kind = 'Note' AND at_ns >= ?
    AND json_extract(body, '$.event') IN ('freeze_triggered', 'recon_divergence') GROUP BY 1, 2, 3, 4
"""


def found_since(journal: Path, since_ns: int) -> Totals:
    """What the totals of stops and of divergences were counted up by from `since_ns` (since the epoch) on: the bot
    notes each of them with its time. Raises JournalError, OSError or sqlite3.Error where it cannot be read."""
    if not is_there(journal):
        raise FileNotFoundError(f"{journal}: no such journal")
    found: dict[tuple[str, str], int] = {}
    with JournalReader(journal) as reader:
        for event, reason, stop_class, kind, count in reader.rows(FOUND_SINCE, [since_ns]):
            if event == "freeze_triggered":
                key = STOPS, label_text(STOPS, (str(reason), str(stop_class)))
            else:
                key = DIVERGENCES, label_text(DIVERGENCES, (str(kind),))
            found[key] = found.get(key, 0) + int(count)
    return found


def sums_totals(criterion: Criterion) -> bool:
    """Whether it is a sum of the journal's totals, and not a SELECT or the data check."""
    return criterion.source == "table" and criterion.query is not None and not _is_select(criterion.query)


def sums_dated(criterion: Criterion) -> bool:
    """Whether such a sum has a total in it that `found_since` dates."""
    return any(term.metric in (STOPS, DIVERGENCES) for term in totals.parse(criterion.query or ""))


def less(criterion: Criterion, reading: Reading, uncounted: Totals, of: str) -> Reading:
    """The reading of a sum of totals without what `uncounted` has of it; `of` says what that is."""
    count = totals.counted(totals.parse(criterion.query or ""), uncounted)
    if not count:
        return reading
    samples = tuple(
        sample if sample.value is None else replace(sample, value=sample.value - count) for sample in reading.samples
    )
    return replace(reading, samples=samples, query=f"({reading.query}) - {count} {of}")


def _timed(
    criterion: Criterion,
    journals: Sequence[Path],
    asked_at_ms: int,
    data_check: Path | None,
    baseline: Totals | None,
) -> Reading:
    began_ns = time.monotonic_ns()
    if criterion.query is None:
        value, failure, detail = _data_check(data_check)
    elif not journals:
        value, failure, detail = None, Cause.NO_DATA, "no run of this stage has a journal"
    else:
        value, failure, detail = _sum(criterion.query, journals)
        if value is not None and baseline and not _is_select(criterion.query):
            value -= totals.counted(totals.parse(criterion.query), baseline)  # not there yet: it was 0
    samples = () if value is None else (Sample(asked_at_ms, value, {}),)
    took_ms = (time.monotonic_ns() - began_ns) // 1_000_000
    query = criterion.query or f"data check {data_check}"
    return Reading(criterion.id, asked_at_ms, took_ms, query, samples, failure, detail)


_Answer = tuple[Decimal | None, Cause | None, str]


def _sum(query: str, journals: Sequence[Path]) -> _Answer:
    whole = Decimal(0)
    for path in journals:
        value, failure, detail = _of_one(query, path)
        if value is None:
            return None, failure, detail
        whole += value
    return whole, None, ""


def _of_one(query: str, path: Path) -> _Answer:
    if not is_there(path):
        return None, Cause.NO_DATA, f"{path}: no such journal"
    try:
        with JournalReader(path) as reader:
            if _is_select(query):
                return _one_number(list(reader.rows(query)), path)
            value = totals.evaluate(totals.parse(query), reader.totals())
    except (JournalError, OSError, sqlite3.Error, totals.TotalsError) as error:
        return None, Cause.SOURCE_ERROR, " ".join(str(error).split())
    if value is None:
        return None, Cause.NO_DATA, f"{path}: has no such total"
    return Decimal(value), None, ""


def _is_select(query: str) -> bool:
    return query.lstrip().lower().startswith("select ")


def _one_number(rows: list[tuple[Any, ...]], path: Path) -> _Answer:
    if len(rows) != 1 or len(rows[0]) != 1:
        return None, Cause.SOURCE_ERROR, f"{path}: the query gave {len(rows)} rows; one row with one number is wanted"
    value = rows[0][0]
    if value is None:
        return None, Cause.NO_DATA, f"{path}: the query gave NULL"
    if not isinstance(value, int | float):
        return None, Cause.SOURCE_ERROR, f"{path}: the query gave {value!r}; a number is wanted"
    number = Decimal(str(value))
    return (number, None, "") if number.is_finite() else (None, Cause.NOT_FINITE, f"{path}: the query gave {value!r}")


def _data_check(result: Path | None) -> _Answer:
    """The count of failed expectations, from the result file."""
    if result is None or not result.exists():
        return None, Cause.NO_DATA, "the data check has not given a result"
    try:
        found = json.loads(result.read_text(encoding="utf-8"))
        version, status, failed = found["schema_version"], found["status"], [str(name) for name in found["failed"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return None, Cause.SOURCE_ERROR, f"{result}: not a result of the data check ({error.__class__.__name__})"
    if version != RESULT_SCHEMA:
        return None, Cause.SOURCE_ERROR, f"{result}: schema_version {version!r}; allowed: {RESULT_SCHEMA}"
    if status == "no_rows":
        return None, Cause.NO_DATA, str(found.get("detail", "nothing to check"))
    if status != "checked":
        return None, Cause.SOURCE_ERROR, str(found.get("detail", f"status {status!r}"))
    return Decimal(len(failed)), None, ", ".join(failed)
