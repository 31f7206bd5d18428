"""Every column of every table of the record is told in the chain, or excepted with a reason: an edit of one shows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import JSON, Boolean, Column, Integer, Table
from sqlmodel import SQLModel

from tasks.record import Record
from tasks.record_audit import NOT_TOLD, NOT_TOLD_UNTIL_DONE, measurements_fault, record_fault
from tasks.record_chain import GENESIS, canonical_json, link_hash
from tasks.record_engine import open_engine
from tasks.record_tables import UtcDateTime
from tasks.record_told import DONE
from tasks.record_writer import RecordWriter
from tests.support.filled_record import fill, long_plan

TABLES: list[Table] = [one for one in SQLModel.metadata.sorted_tables if one.name not in NOT_TOLD]
HARMLESS_IF_PUT_IN = {"used_code": "one more spent code serves nobody", "account": "no chain, no run", "grant": "so"}
"""Tables in which a row that somebody puts in permits nothing, each with its reason."""


@pytest.fixture
def record(tmp_path: Path) -> Iterator[RecordWriter]:
    made = RecordWriter(Record(open_engine(f"sqlite:///{tmp_path}/rollout.db")), "a")
    SQLModel.metadata.create_all(made.engine)
    fill(made, long_plan(tmp_path))
    yield made
    made.close()


def fault(record: Record) -> str:
    return record_fault(record, "a") or measurements_fault(record, "a")


def other(column: Column[Any], value: Any) -> Any:
    """A value of the column's kind that is not the one it has."""
    if isinstance(column.type, UtcDateTime):
        return "2031-02-03 04:05:06.000000"
    if isinstance(column.type, JSON):
        return '{"put":"in"}' if not str(value).startswith("[") else '["put in"]'
    if isinstance(column.type, Boolean):
        return 1 - int(value)
    if isinstance(column.type, Integer):
        return (value or 0) + 1000
    return "put in"


def test_the_filled_record_holds_and_has_a_row_in_every_table(record: RecordWriter, tmp_path: Path) -> None:
    assert fault(record) == ""
    with closing(sqlite3.connect(tmp_path / "rollout.db")) as db:
        empty = [one.name for one in TABLES if not db.execute(f'SELECT 1 FROM "{one.name}"').fetchone()]  # noqa: S608
    assert empty == []


def test_an_edit_of_any_column_of_any_row_shows(record: RecordWriter, tmp_path: Path) -> None:
    unseen, edits = set(), 0
    with closing(sqlite3.connect(tmp_path / "rollout.db", isolation_level=None)) as db:  # and no foreign keys
        db.row_factory = sqlite3.Row
        for table in TABLES:
            for row in db.execute(f'SELECT rowid AS its_number, * FROM "{table.name}"').fetchall():  # noqa: S608
                for column in table.columns:
                    edits += 1
                    if not _shows(db, record, table, row, column) and not _waits(table, row, column):
                        unseen.add(f"{table.name}.{column.name}")
    assert fault(record) == "", "every edit was taken back"
    assert edits > 400
    assert unseen == {name for name in NOT_TOLD if "." in name}


def _shows(db: sqlite3.Connection, record: Record, table: Table, row: sqlite3.Row, column: Column[Any]) -> bool:
    name, value = f'"{table.name}"', row[column.name]
    number = row["its_number"]
    db.execute(f'UPDATE {name} SET "{column.name}" = ? WHERE rowid = ?', (other(column, value), number))  # noqa: S608
    if column.primary_key and column.name == "id":
        number = other(column, value)  # an integer key is the row's number
    found = fault(record)
    db.execute(f'UPDATE {name} SET "{column.name}" = ? WHERE rowid = ?', (value, number))  # noqa: S608
    return bool(found)


def _waits(table: Table, row: sqlite3.Row, column: Column[Any]) -> bool:
    return table.name == "rollback_step" and row["state"] not in DONE and column.name in NOT_TOLD_UNTIL_DONE


def test_a_row_that_is_taken_away_or_put_in_shows(record: RecordWriter, tmp_path: Path) -> None:
    unseen = []
    with closing(sqlite3.connect(tmp_path / "rollout.db", isolation_level=None)) as db:
        for table in TABLES:
            first: list[Any] = []
            names = [f'"{column.name}"' for column in table.columns]
            for number, *values in db.execute(f'SELECT rowid, {", ".join(names)} FROM "{table.name}"').fetchall():  # noqa: S608
                first = first or values
                put = f'INSERT INTO "{table.name}" ({", ".join(names)}) VALUES ({", ".join("?" * len(names))})'  # noqa: S608
                db.execute(f'DELETE FROM "{table.name}" WHERE rowid = ?', (number,))  # noqa: S608
                last = table.name == "record" and number == db.execute("SELECT max(id) + 1 FROM record").fetchone()[0]
                if not fault(record) and not last:  # of a chain that was cut off the head tells, that went out
                    unseen.append(f"{table.name} {values}: taken away")
                db.execute(put, values)
            if table.name not in HARMLESS_IF_PUT_IN and table.name != "record":
                unseen += _put_in(db, record, table, put, first)
    assert fault(record) == ""
    assert unseen == []


def _put_in(db: sqlite3.Connection, record: Record, table: Table, put: str, values: list[Any]) -> list[str]:
    """The table's first row once more, under another key."""
    again = [other(c, v) if c.primary_key or c.unique else v for c, v in zip(table.columns, values, strict=True)]
    if table.name == "rollback_step":
        again[[column.name for column in table.columns].index("number")] += 5
    db.execute(put, again)
    found = fault(record)
    db.execute(f'DELETE FROM "{table.name}" WHERE rowid = last_insert_rowid()')  # noqa: S608
    return [] if found else [f"{table.name} {again}: put in"]


LATER = {
    "stage_run": ("columns",),
    "part_ended": ("ended_at",),
    "part": ("run", "symbols", "began_at", "proof", "proof_before"),
    "drill": ("id", "part", "started_at", "ends_at", "outcome", "proof"),
    "drill_ended": ("id",),
    "verdict": ("at",),
    "evidence": ("sizes_bytes", "at"),
    "sign_off": ("at", "counts_as_wrong_code", "time_step"),
    "release": ("at", "counts_as_wrong_code", "time_step"),
    "attestation": ("counts_as_wrong_code", "time_step"),
    "rollback_step": ("attempts", "started_at", "verified_at"),
    "rollout": ("account", "plan_name", "plan_path", "code_version", "settings_digest", "nonce", "requested_by",
                "created_at"),
}  # fmt: skip
"""What links of a kind tell that they once did not."""


def test_a_record_from_before_all_was_told_is_read_and_compared_by_what_it_tells(
    record: RecordWriter, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "rollout.db", isolation_level=None)) as db:
        _as_once_told(db)
        assert fault(record) == ""
        for edit in (
            "UPDATE stage_run SET flat_at = '2031-02-03 04:05:06', reminded_at = NULL, evidence_dir = '/other'",
            "UPDATE rollout SET nonce = 'other'",
            "UPDATE measurement SET value = '9'",
            "UPDATE stage_part SET symbols = '[]'",
        ):
            db.execute(edit)
            assert fault(record) == "", edit
        for edit, back, said in (
            ("verdict SET word = 'HOLD'", "verdict SET word = 'GO'", "verdict 1 of HOLD at stage run 1 is not"),
            ("stage_part SET number = 7", "stage_part SET number = 0", "part 1 step-1-a-long-name-for-what-is-"),
            ("stage_run SET predecessor_passed = 1", "stage_run SET predecessor_passed = 0", "predecessor_passed is"),
            ("rollout SET author = 'other'", "rollout SET author = 'demo-author'", ": author is 'other', and the"),
            ("stage_run SET attempt = 9", "stage_run SET attempt = 1", "attempt is 9, and the chain tells 1"),
        ):
            db.execute(f"UPDATE {edit} WHERE rowid = 1")
            assert said in fault(record)
            db.execute(f"UPDATE {back} WHERE rowid = 1")
        assert fault(record) == ""


def _as_once_told(db: sqlite3.Connection) -> None:
    """The same chain without what is told today and once was not, under hashes that hold."""
    links = db.execute("SELECT kind, body, at FROM record ORDER BY seq").fetchall()
    db.execute("DELETE FROM record")
    seq, prev = 0, GENESIS
    for kind, text, at in links:
        if kind in ("baseline", "reminder", "evidence_place", "proven", "measurements"):
            continue
        body = json.loads(text)
        if kind == "part":
            body |= body["run"]
        told = canonical_json({name: value for name, value in body.items() if name not in LATER.get(kind, ())})
        seq += 1
        head = link_hash("a", seq, prev, at, kind, told)
        words = ("a", seq, prev, head, at, kind, told)
        db.execute(
            "INSERT INTO record (account, seq, prev_hash, hash, at, kind, body) VALUES (?, ?, ?, ?, ?, ?, ?)", words
        )
        prev = head
