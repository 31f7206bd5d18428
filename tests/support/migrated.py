"""A new record of a test is a copy of one that Alembic has made once: else each costs a second of a core or more.

What the migrations themselves do is tested where they run, in tests/integration/test_record_migration.py.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tasks import record, record_migrations
from tasks.record_engine import SQLITE, open_engine, record_address


def _copy_where_new(path: Path, made: Callable[[], Path], engine: Engine, url: str) -> None:
    """What is there already, locked or damaged, is left to the product."""
    if path.exists() or not path.parent.is_dir():
        return
    with record_migrations._only_one(engine, url):
        if not path.exists():
            with closing(sqlite3.connect(made())) as old, closing(sqlite3.connect(path)) as new:
                old.backup(new)


@pytest.fixture(scope="session", autouse=True)
def migrated_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Import it where tests open records in their own process: what they start opens records as ever."""
    real = record.ensure_newest
    folder = tmp_path_factory.mktemp("migrated")

    @cache
    def made() -> Path:
        path = folder / "record.db"
        engine = open_engine(f"sqlite:///{path}")
        real(engine, f"sqlite:///{path}")
        engine.dispose()
        return path

    def copied(engine: Engine, url: str) -> None:
        address = record_address(url)
        if address.get_backend_name() == SQLITE and address.database is not None:
            _copy_where_new(Path(address.database), made, engine, url)
        real(engine, url)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "ensure_newest", copied)
        yield
