"""Measurements are told in ranges: what was told is never written over, and what comes after the end is not kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import SQLModel

from tasks import record_writer
from tasks.record import Record
from tasks.record_audit import measurements_fault, record_fault
from tasks.record_digest import digest_of
from tasks.record_engine import open_engine
from tasks.record_tables import MeasurementRow, Rollout, StageRun
from tasks.record_writer import RecordWriter

ROWS = 5


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordWriter]:
    monkeypatch.setattr(record_writer, "RANGE_ROWS", ROWS)
    made = RecordWriter(Record(open_engine(f"sqlite:///{tmp_path}/rollout.db")), "a")
    SQLModel.metadata.create_all(made.engine)
    told = dict.fromkeys(("plan_name", "plan_path", "plan_digest", "code_version", "settings_digest", "nonce"), "x")
    made.add_rollout(Rollout(name="r", account="a", candidate="c", author="x", requested_by="x", **told))
    named = {"rollout": "r", "account": "a", "stage": "canary", "candidate": "c", "plan_path": "p"}
    made.add_stage_run(StageRun(**named, attempt=1, step="watch"))
    yield made
    made.close()


def row(at_ms: int, number: int | None = None) -> MeasurementRow:
    words = {"criterion_id": "x", "phase": "guard", "outcome": "PASS", "value": str(at_ms)}
    return MeasurementRow(id=number, stage_run_id=1, at_ms=at_ms, **words)


def ranges(writer: RecordWriter) -> list[tuple[int, int, int]]:
    bodies = [json.loads(one.body) for one in writer.entries("a") if one.kind == "measurements"]
    return [(body["after"], body["upto"], body["rows"]) for body in bodies]


def test_a_range_is_told_as_soon_as_it_is_full_and_the_rest_at_the_end(writer: RecordWriter) -> None:
    for at_ms in range(2 * ROWS + 2):
        writer.store_measurements([row(at_ms)], [])
    assert ranges(writer) == [(0, 5, 5), (5, 10, 5)]
    writer.change_stage_run(1, "step", step="parked")
    assert ranges(writer)[2:] == [(10, 12, 2)]
    assert measurements_fault(writer, "a") == ""


def test_when_it_was_looked_at_before_is_told_and_shows_where_it_is_altered(writer: RecordWriter) -> None:
    kept = row(7)
    kept.looked_before_ms = 3
    writer.store_measurements([row(1), kept], [])
    writer.change_stage_run(1, "step", step="parked")
    assert measurements_fault(writer, "a") == ""
    with writer.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE measurement SET looked_before_ms = 6 WHERE id = 2")
    assert measurements_fault(writer, "a") != ""


def test_of_rows_from_before_that_column_the_digest_is_the_one_that_was_told(writer: RecordWriter) -> None:
    writer.store_measurements([row(1)], [])
    with writer.reading() as session:
        told = digest_of(session, 1, 0, 1)
    words = ["1", "1", "x", "guard", "1", "PASS", "None", "1", "", "", "0", "0", "0", "", "", "0", "{}"]
    assert told.sha256 == hashlib.sha256("".join(f"{len(one)}:{one}" for one in words).encode()).hexdigest()


def test_a_guard_that_comes_back_tells_on_from_where_the_one_before_it_stood(writer: RecordWriter) -> None:
    for at_ms in range(ROWS + 1):
        writer.store_measurements([row(at_ms)], [])
    again = RecordWriter(Record(open_engine(str(writer.engine.url))), "a")
    again.change_stage_run(1, "step", step="parked")
    assert ranges(again) == [(0, 5, 5), (5, 6, 1)]
    assert measurements_fault(again, "a") == ""
    again.close()


def test_a_row_that_was_told_stays_and_what_would_replace_it_is_a_row_of_its_own(writer: RecordWriter) -> None:
    first = [row(at_ms) for at_ms in range(ROWS)]
    writer.store_measurements(first, [])
    later = row(99, number=first[-1].id)
    writer.store_measurements([later], [])
    assert [one.value for one in writer.measurements(1)] == ["0", "1", "2", "3", "4", "99"]
    assert later.id == 6, "the next change of the same minute is written over this one"
    writer.store_measurements([row(100, number=6)], [])
    assert [one.value for one in writer.measurements(1)][5:] == ["100"]
    assert measurements_fault(writer, "a") == ""


def test_what_is_measured_after_the_end_is_not_kept_and_what_is_put_in_then_shows(writer: RecordWriter) -> None:
    writer.store_measurements([row(1)], [])
    writer.change_stage_run(1, "step", step="parked")
    writer.store_measurements([row(2)], [])
    assert [one.value for one in writer.measurements(1)] == ["1"]
    assert measurements_fault(writer, "a") == ""
    with writer.writing() as session:
        session.add(row(3))
    assert measurements_fault(writer, "a", "another candidate") == ""
    assert measurements_fault(writer, "a", "c") == "measurement 2 of stage run 1 was put in after its end"
    assert record_fault(writer, "a") == "", "that look does not read them"
