"""A backup of the record and of a journal, taken while both are written to, and restored into an empty folder.

The record is copied row by row out of one transaction, so it is the same whichever database it stands in, and the copy
is always a SQLite file: `SLIPWAY_RECORD_URL=sqlite:///…/rollout.db` opens it. A journal is copied by SQLite's own
backup, which waits for no writer. Beside them stands what every table must hold; `faults_of` compares, and checks every
chain.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import SQLModel, col

from bot.journal import JournalError, JournalReader
from tasks.record import Record, RecordError, open_record
from tasks.record_engine import open_engine
from tasks.record_tables import RecordEntry

RECORD: Final = "rollout.db"
JOURNAL: Final = "journal.db"
MANIFEST: Final = "manifest.json"
ROWS_AT_ONCE: Final = 500


class BackupFailed(Exception):
    """It was not taken, or not restored. One line."""


def back_up(record_url: str, journal: Path, into: Path) -> dict[str, Any]:
    """Copies both into the empty folder `into`; returns what the manifest says. Raises BackupFailed."""
    _empty(into)
    try:
        manifest = {
            "record": _copy_record(record_url, into / RECORD),
            "journal": _copy_journal(journal, into / JOURNAL),
        }
    except (SQLAlchemyError, sqlite3.Error, JournalError, OSError) as error:
        raise BackupFailed(f"{into}: {' '.join(str(error).split())[:200]}") from error
    (into / MANIFEST).write_text(json.dumps(manifest, sort_keys=True, indent=1))
    return manifest


def restore(backup: Path, into: Path) -> None:
    """Puts the copies into the empty folder `into`. Raises BackupFailed."""
    _empty(into)
    try:
        for name in (RECORD, JOURNAL, MANIFEST):
            shutil.copyfile(backup / name, into / name)
    except OSError as error:
        raise BackupFailed(f"{backup}: {error.strerror or error}") from error


def faults_of(restored: Path) -> list[str]:
    """What differs from when the backup was taken, and every chain of the record that does not hold; none: whole.

    Raises BackupFailed where it cannot be read at all: that says nothing about its rows.
    """
    try:
        manifest = json.loads((restored / MANIFEST).read_text())
        found = {"record": _record_rows(restored / RECORD), "journal": _journal_rows(restored / JOURNAL)}
    except (RecordError, SQLAlchemyError, sqlite3.Error, JournalError, OSError, ValueError) as error:
        raise BackupFailed(f"{restored}: {' '.join(str(error).split())[:200]}") from error
    faults = []
    for part, tables in manifest.items():
        for table, said in tables.items():
            if (now := found[part].get(table)) != said:
                faults.append(f"{part}.{table}: {now}, backed up was {said}")
    return faults + _broken_chains(restored / RECORD)


def _broken_chains(path: Path) -> list[str]:
    record = open_record(f"sqlite:///{path}")
    try:
        with record.reading() as session:
            accounts = session.scalars(select(col(RecordEntry.account)).distinct()).all()
        reports = [record.verify_chain(account) for account in accounts]
    finally:
        record.close()
    if not reports:
        return ["record: it has no chain at all"]
    return [f"record of {one.account}: {one.reason}" for one in reports if not one.ok]


def _empty(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise BackupFailed(f"{folder}: is not empty; allowed: an empty folder")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


# ---- the record ------------------------------------------------------------------------------------------------------


def _copy_record(url: str, path: Path) -> dict[str, str]:
    """One transaction of the source: what is written meanwhile is in none of the tables."""
    source, target = open_engine(url), open_engine(f"sqlite:///{path}")
    try:
        with source.connect() as reading, target.begin() as writing:
            if source.dialect.name == "postgresql":  # SQLite's reading transaction is one look anyway
                reading = reading.execution_options(isolation_level="REPEATABLE READ")  # noqa: PLW2901
            SQLModel.metadata.create_all(writing)
            revision = reading.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
            writing.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
            writing.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision})
            for table in SQLModel.metadata.sorted_tables:
                rows = reading.execute(select(table)).mappings()
                while some := rows.fetchmany(ROWS_AT_ONCE):
                    writing.execute(table.insert(), [dict(row) for row in some])
            return _rows_of(reading)
    finally:
        source.dispose()
        target.dispose()


def _record_rows(path: Path) -> dict[str, str]:
    record = Record(open_engine(f"sqlite:///{path}"))
    try:
        with record.engine.connect() as reading:
            return _rows_of(reading)
    finally:
        record.close()


def _rows_of(reading: Connection) -> dict[str, str]:
    """Table → count and digest of its rows, by its primary key."""
    found = {}
    for table in SQLModel.metadata.sorted_tables:
        rows = reading.execute(select(table).order_by(*table.primary_key.columns))
        found[table.name] = _digest(tuple(row) for row in rows)
    return found


# ---- the journal -----------------------------------------------------------------------------------------------------


def _copy_journal(journal: Path, path: Path) -> dict[str, str]:
    if not journal.exists():
        raise BackupFailed(f"{journal}: no such journal; one that is kept in Redis is backed up by Redis")
    with (
        closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(path)) as copy,
    ):
        source.backup(copy)
    rows = _journal_rows(path)
    last_seq = int(rows["last_seq"])
    with JournalReader(journal) as reader:  # it only grows: up to there both must be the same
        entries = _digest(reader.rows(_ENTRIES, (last_seq,)))
    if entries != rows["entry"]:
        raise BackupFailed(f"{journal}: its entries up to {last_seq} are {entries}, in the copy {rows['entry']}")
    return rows


_ENTRIES: Final = (
    "SELECT seq, at_ns, direction, kind, symbol, client_order_id, body FROM entry WHERE seq <= ? ORDER BY seq"
)


def _journal_rows(path: Path) -> dict[str, str]:
    with JournalReader(path) as reader:
        last_seq = next(reader.rows("SELECT coalesce(max(seq), 0) FROM entry"))[0]
        return {
            "last_seq": str(last_seq),
            "entry": _digest(reader.rows(_ENTRIES, (last_seq,))),
            "total": _digest(reader.rows("SELECT name, labels, value FROM total ORDER BY name, labels")),
            "meta": _digest(reader.rows("SELECT key, value FROM meta ORDER BY key")),
        }


def _digest(rows: Iterable[tuple[Any, ...]]) -> str:
    """`count:sha256` over the rows in their order."""
    whole, count = hashlib.sha256(), 0
    for line in _lines(rows):
        whole.update(line)
        count += 1
    return f"{count}:{whole.hexdigest()[:16]}"


def _lines(rows: Iterable[tuple[Any, ...]]) -> Iterator[bytes]:
    for row in rows:
        yield json.dumps(list(row), sort_keys=True, default=str).encode() + b"\n"
