"""Brings the record's tables to the newest revision, once, whoever comes first.

Alembic runs in a process of its own: the guard, which opens the record at every start, never loads it.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, inspect, text

from tasks.names import without_secrets
from tasks.record_engine import SQLITE, record_address, without_password

NEWEST_REVISION = "0006"
"""A test holds this equal to the head under infra/alembic."""
ALEMBIC_FOLDER = Path(__file__).resolve().parent.parent / "infra" / "alembic"
ADVISORY_LOCK = 7_305_809
"""PostgreSQL: the number of the lock that whoever migrates holds."""
DEADLINE_S = 60


class MigrationFailed(Exception):
    """Alembic did not get there. One line with its last words."""


def ensure_newest(engine: Engine, url: str) -> None:
    """Migrates where needed. Raises MigrationFailed with Alembic's last line where it fails."""
    if _revision(engine) == NEWEST_REVISION:
        return
    with _only_one(engine, url):
        if _revision(engine) == NEWEST_REVISION:
            return
        try:
            done = subprocess.run(
                [sys.executable, "-m", "alembic", "-c", str(ALEMBIC_FOLDER / "alembic.ini"), "upgrade", "head"],
                env={**without_secrets(os.environ), "SLIPWAY_RECORD_URL": url},
                cwd=ALEMBIC_FOLDER.parent.parent,
                capture_output=True,
                text=True,
                timeout=DEADLINE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            said = f"not done within {DEADLINE_S} s"
            raise MigrationFailed(f"record {without_password(url)}: migration failed: {said}") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no output"]
        raise MigrationFailed(f"record {without_password(url)}: migration failed: {lines[-1]}")


def _revision(engine: Engine) -> str | None:
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


@contextmanager
def _only_one(engine: Engine, url: str) -> Iterator[None]:
    """Holds everybody else off while the tables change. The lock dies with the process that holds it."""
    address = record_address(url)
    if address.get_backend_name() == SQLITE:
        with Path(f"{address.database}.migrating").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        return
    # In no transaction, which would be ended for idleness meanwhile.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        try:
            connection.execute(text(f"SET lock_timeout = '{DEADLINE_S}s'"))
            connection.execute(text("SELECT pg_advisory_lock(:n)"), {"n": ADVISORY_LOCK})
            yield
        finally:
            connection.invalidate()  # closed, and with it go the lock and the patience
