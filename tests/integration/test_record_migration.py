"""The record's one revision: it makes the tables the code describes, also when several processes come at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlmodel import SQLModel

from tasks.record import RecordError, open_record
from tasks.record_migrations import ALEMBIC_FOLDER, NEWEST_REVISION

pytestmark = pytest.mark.integration


def test_the_revision_that_is_checked_for_is_the_newest_one() -> None:
    versions = [path.stem.split("_")[0] for path in (ALEMBIC_FOLDER / "versions").glob("*.py")]
    assert max(versions) == NEWEST_REVISION


def test_the_migration_makes_the_tables_that_the_code_describes(tmp_path: Path) -> None:
    record = open_record(f"sqlite:///{tmp_path}/new.db")
    with record.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), SQLModel.metadata) == []
    record.close()


def test_several_processes_may_open_a_new_record_at_once(tmp_path: Path) -> None:
    code = f"from tasks.record import open_record; open_record('sqlite:///{tmp_path}/new.db').rollouts()"
    started = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(3)]
    errors = [process.communicate(timeout=60)[1].decode() for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], errors


def test_a_record_that_cannot_be_opened_is_one_line() -> None:
    with pytest.raises(RecordError, match="cannot be opened") as raised:
        open_record("sqlite:////proc/nowhere/rollout.db")
    assert "\n" not in str(raised.value)
