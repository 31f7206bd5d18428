"""The journal in a file of the state folder."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bot.stores import sqlite
from bot.stores.sqlite import JournalError, JournalUnwritable
from bot.stores.store import Row, Totals

ROWS_TOGETHER: Final = 64
"""So many rows by one statement, where as many are written: each alone costs a third more."""
_INSERT: Final = "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?)"
_INSERT_TOGETHER: Final = _INSERT + ", (?, ?, ?, ?, ?, ?, ?)" * (ROWS_TOGETHER - 1)


class SqliteStore:
    """See `bot.stores.store.Store`."""

    def __init__(self, path: Path, meta: Mapping[str, str], synchronous: str, *, packed: bool = False) -> None:
        """Creates the file or continues it. Raises JournalDamaged; JournalError where it is another account's;
        JournalUnwritable where there is no room to unpack it.

        `packed`: whether a new file is written by `write_packed`: for one that is written once and read a few times. It
        becomes one like the others, with their indexes, when it is continued.
        """
        self._path = path
        self.continued = path.exists()
        self.packed: Final = packed and not self.continued
        if self.continued:
            _refuse_other_account(path, meta.get("account", ""))
            self._db = sqlite.open_existing(path, synchronous)
            self._unpack()
            self._add_indexes()
        else:
            self._db = sqlite.create(path, dict(meta), synchronous, packed=packed)

    def totals(self) -> Totals:
        rows = self._db.execute("SELECT name, labels, value FROM total").fetchall()
        return {(name, labels): value for name, labels, value in rows}

    def last_seq(self) -> int:
        return self._number("SELECT coalesce(max(seq), 0) FROM entry")

    def last_epoch(self) -> int:
        return self._number(
            "SELECT coalesce(max(json_extract(body, '$.epoch')), 0) FROM entry WHERE kind = 'GrantReceived'"
        )

    def execution_count(self) -> int:
        return self._number("SELECT count(*) FROM fills")

    def last_ns(self, until_seq: int) -> int:
        return self._number("SELECT coalesce(max(at_ns), 0) FROM entry WHERE seq <= ?", until_seq)

    def write(self, rows: Sequence[Row], totals: Mapping[tuple[str, str], int]) -> None:
        """In one transaction: all of it or nothing."""
        self._write(rows, "", totals)

    def write_packed(self, body: str, totals: Mapping[tuple[str, str], int]) -> None:
        """A batch of a `packed` file, in one transaction. `body`: JSON, as `sqlite.PACKED_ENTRY` has it."""
        self._write((), body, totals)

    def _write(self, rows: Sequence[Row], packed: str, totals: Mapping[tuple[str, str], int]) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            if packed:
                self._db.execute("INSERT INTO batch (body) VALUES (?)", (packed,))
            if rows:
                self._insert(rows)
            self._db.executemany(
                "INSERT INTO total VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
                [(name, labels, value) for (name, labels), value in totals.items()],
            )
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise JournalUnwritable(f"{self._path}: cannot write ({error})") from error

    def _insert(self, rows: Sequence[Row]) -> None:
        whole = len(rows) - len(rows) % ROWS_TOGETHER
        for at in range(0, whole, ROWS_TOGETHER):
            values: list[int | str] = []
            for row in rows[at : at + ROWS_TOGETHER]:
                values += row
            self._db.execute(_INSERT_TOGETHER, values)
        self._db.executemany(_INSERT, rows[whole:])

    def close(self) -> None:
        self._db.close()

    def _unpack(self) -> None:
        try:
            sqlite.unpack(self._db)
        except sqlite3.Error as error:
            self._db.close()
            raise JournalUnwritable(f"{self._path}: cannot be unpacked to be continued ({error})") from error

    def _add_indexes(self) -> None:
        """Where there is no room for them, readers take longer and read the same."""
        try:
            sqlite.add_indexes(self._db)
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _number(self, query: str, *arguments: int) -> int:
        return int(self._db.execute(query, arguments).fetchone()[0])


def _refuse_other_account(path: Path, account: str) -> None:
    db = sqlite.open_read_only(path)
    try:
        row = db.execute("SELECT value FROM meta WHERE key = 'account'").fetchone()
    except sqlite3.Error as error:
        raise sqlite.damage(path, str(error)) from error
    finally:
        db.close()
    held = row[0] if row else ""
    if held != account:
        raise JournalError(f"{path}: journal of account {held!r}, this run is for account {account!r}")
