"""The record's revisions, on either database: they make the tables the code describes, and keep what stands in them."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, Table
from sqlmodel import SQLModel

from tasks.record import RecordError, open_record
from tasks.record_engine import open_engine
from tasks.record_migrations import ALEMBIC_FOLDER, NEWEST_REVISION, MigrationFailed, ensure_newest
from tasks.record_writer import RecordWriter
from tasks.state_folder import REPOSITORY
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.integration


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where there is no table yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new.db"
    made: str = request.getfixturevalue("postgres_server").database()
    return made


def test_the_revision_that_is_checked_for_is_the_newest_one() -> None:
    versions = [path.stem.split("_")[0] for path in (ALEMBIC_FOLDER / "versions").glob("*.py")]
    assert max(versions) == NEWEST_REVISION


def test_a_record_of_the_first_revision_is_brought_to_the_newest_with_its_rows(url: str) -> None:
    command = [sys.executable, "-m", "alembic", "-c", str(ALEMBIC_FOLDER / "alembic.ini"), "upgrade", "0001"]
    subprocess.run(command, env={**os.environ, "SLIPWAY_RECORD_URL": url}, cwd=REPOSITORY, check=True, timeout=240)
    engine = open_engine(url)
    names = ("name", "account", "plan_name", "plan_path", "plan_digest", "code_version", "settings_digest", "nonce")
    told = dict.fromkeys((*names, "candidate", "author", "requested_by"), "r")
    run = {"rollout": "r", "account": "r", "stage": "canary", "attempt": 1, "step": "promoted", "candidate": "r"}
    run |= {"plan_path": "r", "decided_others": [], "epoch": 3, "replicas_frozen": False}
    moment = "2026-01-02 03:04:05.000000"
    with engine.begin() as connection:
        for table, row in (("rollout", told), ("stage_run", run)):
            stored = Table(table, MetaData(), autoload_with=connection)  # as it was then, not as it is now
            connection.execute(stored.insert(), {**row, "created_at": datetime.fromisoformat(moment)})
    engine.dispose()
    record = open_record(url)
    (kept,) = record.stage_runs("r")
    assert (kept.epoch, kept.part, kept.predecessor_passed, kept.baseline) == (3, 0, False, [])
    assert kept.machine == "", "of this machine, as before machines were noted"
    assert kept.created_at.isoformat() == "2026-01-02T03:04:05+00:00"
    with record.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), SQLModel.metadata) == []
    writer = RecordWriter(record, "a")
    writer.know_account("simulated")
    assert writer.take_epoch(0, "me", "test") == 1
    assert writer.verify_chain("a").length == 2
    record.close()


def test_a_migration_that_takes_too_long_leaves_nothing_half_done_and_says_what_there_is_to_do(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(url)
    monkeypatch.setenv("SLIPWAY_MIGRATION_DEADLINE_S", "0.2")
    said = r"not done within 0\.2 s.*allowed: more seconds, by SLIPWAY_MIGRATION_DEADLINE_S"
    with pytest.raises(MigrationFailed, match=said):
        ensure_newest(engine, url)
    monkeypatch.setenv("SLIPWAY_MIGRATION_DEADLINE_S", "240")
    ensure_newest(engine, url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), SQLModel.metadata) == []
    engine.dispose()


@pytest.mark.parametrize("word", ["soon", "0", "-1", "nan", "inf"])
def test_a_deadline_that_is_none_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv("SLIPWAY_MIGRATION_DEADLINE_S", word)
    url = f"sqlite:///{tmp_path}/new.db"
    with pytest.raises(MigrationFailed, match=f"SLIPWAY_MIGRATION_DEADLINE_S: '{word}'; allowed: seconds, above 0"):
        ensure_newest(open_engine(url), url)


def test_several_processes_may_open_a_new_record_at_once(url: str) -> None:
    code = f"from tasks.record import open_record; open_record({url!r}).rollouts()"
    started = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(3)]
    errors = [process.communicate(timeout=240)[1].decode() for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], errors


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:////proc/nowhere/rollout.db", "sqlite:////proc/nowhere/rollout.db: cannot be opened"),
        ("postgresql://me:hush@127.0.0.1:1/record", r"postgresql://me:\*\*\*@127.0.0.1:1/record: .*refused"),
        ("mysql://me:hush@127.0.0.1/record", "mysql: allowed are sqlite:///PATH and postgresql://"),
        ("postgresql+nothing://me:hush@127.0.0.1/record", "allowed are sqlite:///PATH and postgresql://"),
        ("me:hush", "SLIPWAY_RECORD_URL: cannot be opened: no database URL"),
    ],
)
def test_a_record_that_cannot_be_opened_is_one_line_without_its_password(url: str, said: str) -> None:
    with pytest.raises(RecordError, match=said) as raised:
        open_record(url)
    assert "\n" not in str(raised.value)
    assert "hush" not in str(raised.value)


def test_a_database_that_cannot_hold_every_letter_is_refused(postgres_server: PostgresServer) -> None:
    with pytest.raises(RecordError, match=r"encoding SQL_ASCII: allowed is UTF8"):
        open_record(postgres_server.database("SQL_ASCII"))
