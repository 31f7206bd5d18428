"""Backup and restore of record and journal: taken while both are written to; what is altered or missing is named."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlmodel import SQLModel

from bot.stores.sqlite import SCHEMA
from tasks.backup import JOURNAL, MANIFEST, RECORD, BackupFailed, back_up, faults_of, restore
from tasks.record import Record, open_record
from tasks.record_engine import open_engine
from tasks.record_migrations import NEWEST_REVISION
from tasks.record_writer import RecordWriter

ENTRY = "INSERT INTO entry VALUES (NULL, 1, 'in', 'Ticked', '', '', '{}')"


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "run" / JOURNAL
    path.parent.mkdir()
    with sqlite3.connect(path) as db:
        db.executescript(f"PRAGMA journal_mode=WAL;{SCHEMA}")
        db.execute("INSERT INTO meta VALUES ('schema_version', '1')")
        db.execute("INSERT INTO total VALUES ('mm_orders_placed_total', 'side=buy', 7)")
        db.executemany(ENTRY, [()] * 50)
    return path


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty record as migrated, without the seconds that takes; in SQLite where a test does not ask otherwise."""
    if getattr(request, "param", "sqlite") == "postgresql":
        made: str = request.getfixturevalue("postgres_server").emptied()
    else:
        made = f"sqlite:///{tmp_path / 'source.db'}"
    engine = open_engine(made)
    SQLModel.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS alembic_version"))
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)"))
        connection.execute(text("INSERT INTO alembic_version VALUES (:it)"), {"it": NEWEST_REVISION})
    engine.dispose()
    return made


@pytest.fixture
def writer(url: str) -> Iterator[RecordWriter]:
    """Some links in its chain."""
    made = RecordWriter(Record(open_engine(url)), "a")
    made.know_account("simulated")
    for epoch in range(5):
        made.take_epoch(epoch, "guard", "test")
    yield made
    made.close()


def _restored(tmp_path: Path, writer: RecordWriter, journal: Path) -> Path:
    back_up(writer.engine.url.render_as_string(hide_password=False), journal, tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "restored")
    return tmp_path / "restored"


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_a_restored_backup_has_every_row_and_its_chain_holds(
    tmp_path: Path, writer: RecordWriter, journal: Path
) -> None:
    restored = _restored(tmp_path, writer, journal)
    assert faults_of(restored) == []
    record = open_record(f"sqlite:///{restored / RECORD}")
    assert record.verify_chain("a") == writer.verify_chain("a")
    record.close()
    told = json.loads((restored / MANIFEST).read_text())
    assert told["record"]["record"].startswith("6:")
    assert told["journal"]["entry"].startswith("50:")


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_it_is_taken_while_both_are_written_to(tmp_path: Path, writer: RecordWriter, journal: Path) -> None:
    done, begun = threading.Event(), threading.Event()

    def write() -> None:
        with sqlite3.connect(journal, timeout=10) as db:
            while not done.is_set():
                epoch = writer.epoch()
                writer.take_epoch(epoch, "guard", "meanwhile")
                db.execute(ENTRY)
                db.commit()
                begun.set()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert begun.wait(10)
        restored = _restored(tmp_path, writer, journal)
        assert begun.is_set()
    finally:
        done.set()
        thread.join()
    assert faults_of(restored) == []


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE record SET body = '{}' WHERE seq = 3", "record of a: link 3 (epoch) was changed"),
        ("DELETE FROM record WHERE seq = 2", "record of a: link 2 is missing"),
        ("UPDATE account SET venue = 'bybit'", "record.account: 1:"),
    ],
)
def test_an_altered_or_missing_row_is_named(
    tmp_path: Path, writer: RecordWriter, journal: Path, statement: str, named: str
) -> None:
    restored = _restored(tmp_path, writer, journal)
    with sqlite3.connect(restored / RECORD) as db:
        assert db.execute(statement).rowcount == 1
    assert any(fault.startswith(named) for fault in faults_of(restored)), faults_of(restored)


def test_a_journal_that_lost_a_row_is_named(tmp_path: Path, writer: RecordWriter, journal: Path) -> None:
    restored = _restored(tmp_path, writer, journal)
    with sqlite3.connect(restored / JOURNAL) as db:
        db.execute("DELETE FROM entry WHERE seq = 7")
    assert [fault.partition(":")[0] for fault in faults_of(restored)] == ["journal.entry"]


def test_nothing_is_restored_over_anything_and_what_is_not_there_is_not_whole(
    tmp_path: Path, writer: RecordWriter, journal: Path
) -> None:
    restored = _restored(tmp_path, writer, journal)
    with pytest.raises(BackupFailed, match="is not empty; allowed: an empty folder"):
        restore(tmp_path / "backup", restored)
    (restored / MANIFEST).unlink()
    with pytest.raises(BackupFailed, match=r"manifest\.json"):
        faults_of(restored)
    with pytest.raises(BackupFailed, match="no such journal; one that is kept in Redis"):
        back_up(str(writer.engine.url), tmp_path / "none.db", tmp_path / "other")
