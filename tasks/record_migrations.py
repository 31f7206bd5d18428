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
DEADLINE_S = 60.0
DEADLINE_MAX_S = 86_400.0
DEADLINE_VARIABLE = "SLIPWAY_MIGRATION_DEADLINE_S"
"""In the environment, s, for a record that is so large, or a machine that is so slow, that it takes longer."""


class MigrationFailed(Exception):
    """Alembic did not get there. One line with its last words."""


def ensure_newest(engine: Engine, url: str) -> None:
    """Migrates where needed. Raises MigrationFailed with Alembic's last line where it fails."""
    if _revision(engine) == NEWEST_REVISION:
        return
    deadline_s = _deadline_s(url)
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
                timeout=deadline_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            said = (
                f"not done within {deadline_s:g} s; each revision is one transaction, so what it was at is as it was; "
                f"allowed: more seconds, by {DEADLINE_VARIABLE}"
            )
            raise MigrationFailed(f"record {without_password(url)}: migration failed: {said}") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no output"]
        raise MigrationFailed(f"record {without_password(url)}: migration failed: {lines[-1]}")


def _deadline_s(url: str) -> float:
    word = os.environ.get(DEADLINE_VARIABLE, "") or str(DEADLINE_S)
    try:
        deadline_s = float(word)
    except ValueError:
        deadline_s = 0.0
    if not 0 < deadline_s <= DEADLINE_MAX_S:
        said = f"{DEADLINE_VARIABLE}: {word!r}; allowed: seconds, above 0 and at most {DEADLINE_MAX_S:g}"
        raise MigrationFailed(f"record {without_password(url)}: {said}")
    return deadline_s


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
            wait_ms = max(1, round(_deadline_s(url) * 1000))  # 0 would be: for ever
            connection.execute(text(f"SET lock_timeout = '{wait_ms}ms'"))
            connection.execute(text("SELECT pg_advisory_lock(:n)"), {"n": ADVISORY_LOCK})
            yield
        finally:
            connection.invalidate()  # closed, and with it go the lock and the patience
