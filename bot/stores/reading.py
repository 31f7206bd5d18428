"""The read side of a journal, wherever it is kept: SQL over its tables and views.

A journal in Redis is copied into a private temporary database and caught up before each question, so that every reader
asks the same SELECTs of both. SQLite keeps that copy in a file of its own that goes with the connection. Entries are
copied only for questions about them: totals, which gates ask for every second, cost one read.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from bot.stores import sqlite
from bot.stores.redis_place import RedisPlace, marker_beside, read_marker
from bot.stores.sqlite import JournalError

ABOUT_ENTRIES: Final = re.compile(r"\b(entry|fills|orders|stops)\b", re.IGNORECASE)
"""The table of entries, or a view over it."""


class Reading(Protocol):
    """An open journal. `select` raises JournalError where it cannot be read."""

    def select(self, query: str, arguments: list[int | str] | tuple[int | str, ...]) -> Iterator[tuple[Any, ...]]: ...

    def close(self) -> None: ...


def is_there(path: Path) -> bool:
    """Whether the state folder of `path` (`…/journal.db`) has a journal: the file itself, or word of one in Redis."""
    return path.exists() or marker_beside(path).exists()


def open_reading(path: Path) -> Reading:
    """Opens the journal that `path` (`…/journal.db`) stands for. Raises JournalDamaged, JournalError."""
    marker = marker_beside(path)
    return RedisReading(read_marker(marker)) if marker.exists() and not path.exists() else SqliteReading(path)


def check(path: Path) -> None:
    """Raises JournalError where the journal is not whole. Changes nothing."""
    if path.exists() or not marker_beside(path).exists():
        sqlite.check(path)
    else:
        open_reading(path).close()


class SqliteReading:
    """The file itself, read-only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = sqlite.open_read_only(path)

    def select(self, query: str, arguments: list[int | str] | tuple[int | str, ...]) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._db.execute(query, arguments)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError | sqlite3.ProgrammingError):
                raise  # a wrong query or a locked file is not damage
            raise sqlite.damage(self._path, str(error)) from error

    def close(self) -> None:
        self._db.close()


class RedisReading:
    """A copy that follows the server."""

    def __init__(self, place: RedisPlace) -> None:
        from redis import RedisError

        self._place = place
        self._client = place.connect()
        self._last_seq = 0
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(sqlite.SCHEMA)
        try:
            self._begin()
        except RedisError as error:
            self.close()
            raise _unread(place, error) from error
        except JournalError:
            self.close()
            raise

    def select(self, query: str, arguments: list[int | str] | tuple[int | str, ...]) -> Iterator[tuple[Any, ...]]:
        from redis import RedisError

        try:
            self._catch_up(entries=ABOUT_ENTRIES.search(query) is not None)
        except RedisError as error:
            raise _unread(self._place, error) from error
        yield from self._db.execute(query, arguments)

    def close(self) -> None:
        self._db.close()
        self._client.close()

    def _begin(self) -> None:
        from bot.stores.redis_store import check_meta

        held: dict[str, str] = self._client.hgetall(self._place.key("meta"))
        if not held:
            raise sqlite.JournalDamaged(f"{self._place}: no such journal")
        check_meta(self._client, self._place, held)
        own = [(name, value) for name, value in held.items() if name not in ("rows", "epoch")]
        self._db.executemany("INSERT INTO meta VALUES (?, ?)", own)

    def _catch_up(self, *, entries: bool) -> None:
        from bot.stores.redis_store import read_rows, read_totals

        self._db.execute("BEGIN")
        try:
            if entries:
                rows = read_rows(self._client, self._place, self._last_seq)
                self._db.executemany("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            totals = [(*key, value) for key, value in read_totals(self._client, self._place).items()]
            self._db.executemany("INSERT OR REPLACE INTO total VALUES (?, ?, ?)", totals)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        self._last_seq = self._db.execute("SELECT coalesce(max(seq), 0) FROM entry").fetchone()[0]


def _unread(place: RedisPlace, error: Exception) -> JournalError:
    return JournalError(f"{place}: cannot be read ({type(error).__name__}: {' '.join(str(error).split())})")
