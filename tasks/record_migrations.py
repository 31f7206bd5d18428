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
from sqlalchemy.exc import OperationalError

NEWEST_REVISION = "0002"
"""A test holds this equal to the head under infra/alembic."""
ALEMBIC_FOLDER = Path(__file__).resolve().parent.parent / "infra" / "alembic"
ADVISORY_LOCK = 7_305_809
"""PostgreSQL: the number of the lock that whoever migrates holds."""


class MigrationFailed(Exception):
    """Alembic did not get there. One line with its last words."""


def ensure_newest(engine: Engine, url: str) -> None:
    """Migrates where needed. Raises MigrationFailed with Alembic's last line where it fails."""
    if _revision(engine) == NEWEST_REVISION:
        return
    with _only_one(engine, url):
        if _revision(engine) == NEWEST_REVISION:
            return
        done = subprocess.run(
            [sys.executable, "-m", "alembic", "-c", str(ALEMBIC_FOLDER / "alembic.ini"), "upgrade", "head"],
            env={**os.environ, "SLIPWAY_RECORD_URL": url},
            cwd=ALEMBIC_FOLDER.parent.parent,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no output"]
        raise MigrationFailed(f"record {url}: migration failed: {lines[-1]}")


def _revision(engine: Engine) -> str | None:
    if not inspect(engine).has_table("alembic_version"):
        return None
    try:
        with engine.connect() as connection:
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    except OperationalError:
        return None


@contextmanager
def _only_one(engine: Engine, url: str) -> Iterator[None]:
    """Holds everybody else off while the tables change. The lock dies with the process that holds it."""
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///") + ".migrating")
        with path.open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        return
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:n)"), {"n": ADVISORY_LOCK})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:n)"), {"n": ADVISORY_LOCK})
