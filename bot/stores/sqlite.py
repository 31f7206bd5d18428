"""The journal's file: schema, opening, diagnosis of damage, and the lock on a state folder.

A damaged file is never repaired, truncated or moved: it is named, with what is wrong, and left as it is.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Final

SCHEMA_VERSION: Final = "1"
SQLITE_MAGIC: Final = b"SQLite format 3\x00"

INDEXES: Final = """
CREATE INDEX IF NOT EXISTS entry_of_order ON entry (client_order_id) WHERE client_order_id <> '';
CREATE INDEX IF NOT EXISTS entry_of_kind ON entry (kind);
"""
"""By which some questions are answered sooner; every question is answered without them too."""

ENTRY: Final = """
CREATE TABLE entry (
    seq INTEGER PRIMARY KEY,
    at_ns INTEGER NOT NULL,
    direction TEXT NOT NULL CHECK (direction IN ('in', 'out')),
    kind TEXT NOT NULL,
    symbol TEXT NOT NULL,
    client_order_id TEXT NOT NULL,
    body TEXT NOT NULL
);
"""

PACKED_ENTRY: Final = """
CREATE TABLE batch (number INTEGER PRIMARY KEY, body TEXT NOT NULL);
CREATE VIEW entry AS
    SELECT json_extract(one.value, '$[0]') AS seq, json_extract(one.value, '$[3].at_ns') AS at_ns,
        json_extract(one.value, '$[1]') AS direction, json_extract(one.value, '$[2]') AS kind,
        coalesce(json_extract(one.value, '$[3].order.symbol'), json_extract(one.value, '$[3].symbol'), '') AS symbol,
        coalesce(
            json_extract(one.value, '$[3].order.client_order_id'), json_extract(one.value, '$[3].client_order_id'), ''
        ) AS client_order_id,
        json_extract(one.value, '$[3]') AS body
    FROM batch, json_each(batch.body) AS one;
"""
"""Many entries in a row of the file, `[[seq, direction, kind, body], ...]`: a fifth of the work for who writes them.
Every question is answered as it is by the table, only later."""

_SET_ASIDE: Final = "BEGIN IMMEDIATE; CREATE TEMP TABLE unpacked AS SELECT * FROM entry ORDER BY seq; DROP VIEW entry;"
_PUT_BACK: Final = """
INSERT INTO entry SELECT * FROM temp.unpacked;
DROP TABLE temp.unpacked;
DROP TABLE batch;
COMMIT;
"""

REST: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE total (
    name TEXT NOT NULL, labels TEXT NOT NULL, value INTEGER NOT NULL, PRIMARY KEY (name, labels)
) WITHOUT ROWID;
CREATE VIEW fills AS
    SELECT json_extract(body, '$.execution_id') AS execution_id, min(at_ns) AS at_ns, client_order_id, symbol,
        json_extract(body, '$.side') AS side, json_extract(body, '$.price') AS price,
        json_extract(body, '$.qty_lots') AS qty_lots, json_extract(body, '$.fee_quote') AS fee_quote,
        json_extract(body, '$.is_maker') AS is_maker
    FROM entry WHERE kind = 'Filled' GROUP BY json_extract(body, '$.execution_id');
CREATE VIEW orders AS
    SELECT client_order_id, at_ns, symbol, json_extract(body, '$.side') AS side,
        coalesce(json_extract(body, '$.price_ticks'), json_extract(body, '$.price_limit_ticks')) AS price_ticks,
        json_extract(body, '$.qty_lots') AS qty_lots,
        coalesce(json_extract(body, '$.epoch'), CAST(substr(client_order_id, 6) AS INTEGER)) AS epoch
    FROM entry WHERE kind IN ('PlaceOrder', 'FlattenReduceOnly');
CREATE VIEW stops AS
    SELECT seq, at_ns, json_extract(body, '$.fields.reason') AS reason,
        json_extract(body, '$.fields.stop_class') AS class, json_extract(body, '$.fields.resume') AS resume,
        json_extract(body, '$.fields.view') AS view, json_extract(body, '$.fields.detail') AS detail
    FROM entry WHERE kind = 'Note' AND json_extract(body, '$.event') = 'freeze_triggered';
"""

SCHEMA: Final = ENTRY + REST + INDEXES
PACKED: Final = PACKED_ENTRY + REST


class JournalError(Exception):
    """Something about the journal that a person has to see. The message is one line that names the file."""


class JournalDamaged(JournalError):
    """The file cannot be trusted or is no journal of this schema. It was not changed."""


class JournalUnwritable(JournalError):
    """A commit did not succeed (disk full, I/O error). What was to be written is kept for the next try."""


class StateFolderTaken(JournalError):
    """Another process uses this state folder."""


class StateLock:
    """An exclusive lock on a state folder. The kernel lets go of it when the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd = -1

    def __enter__(self) -> StateLock:
        """Creates the folder (0700). Raises StateFolderTaken, naming the holder's process id; JournalError."""
        path = self._folder / "lock"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalError(f"{self._folder}: no state folder can be kept there ({error.strerror})") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(fd, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise StateFolderTaken(f"{self._folder}: in use by another bot (process {holder})") from None
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        self._fd = fd
        return self

    def __exit__(self, *_exc: object) -> None:
        os.close(self._fd)
        self._fd = -1


def create(path: Path, meta: dict[str, str], synchronous: str, *, packed: bool = False) -> sqlite3.Connection:
    """A new journal with its schema and meta rows. `synchronous`: FULL or NORMAL. Fails where the file exists.

    `packed`: one that is written once and read seldom; `unpack` makes it one like the others.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        db = _connect_writer(path, synchronous)
        db.executescript(f"BEGIN;{PACKED if packed else SCHEMA}COMMIT;")
        db.execute("BEGIN")
        db.executemany("INSERT INTO meta VALUES (?, ?)", ({"schema_version": SCHEMA_VERSION} | meta).items())
        db.execute("COMMIT")
    except sqlite3.Error as error:
        raise JournalUnwritable(f"{path}: cannot create the journal ({error})") from error
    return db


def add_indexes(db: sqlite3.Connection) -> None:
    """Those that are missing. Raises sqlite3.Error."""
    db.executescript(f"BEGIN;{INDEXES}COMMIT;")


def unpack(db: sqlite3.Connection) -> None:
    """A row for every entry, where the file has batches of them. Raises sqlite3.Error, and nothing is changed then."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'batch'").fetchone():
        return
    try:
        db.executescript(_SET_ASIDE + ENTRY + _PUT_BACK)
    except sqlite3.Error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def open_existing(path: Path, synchronous: str) -> sqlite3.Connection:
    """An existing journal for writing, after every page was checked read-only. Raises JournalDamaged."""
    check(path)
    return _connect_writer(path, synchronous)


def check(path: Path) -> None:
    """Raises JournalDamaged where the file is cut, foreign, malformed or of another schema. Changes nothing."""
    db = open_read_only(path)
    try:
        answer = db.execute("PRAGMA quick_check(1)").fetchone()
        if answer is None or answer[0] != "ok":
            raise damage(path, str(answer and answer[0]))
    except sqlite3.Error as error:
        raise damage(path, str(error)) from error
    finally:
        db.close()


def open_read_only(path: Path) -> sqlite3.Connection:
    """A reader that may live beside the writer. Raises JournalDamaged; also where there is no such file."""
    if not path.is_file():
        raise JournalDamaged(f"{path}: no such journal")
    _refuse_foreign(path)
    uri = f"file:{_quoted(path)}?mode=ro"
    try:
        db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=5.0)
    except sqlite3.Error as error:
        raise damage(path, str(error)) from error
    try:
        row = db.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    except sqlite3.Error as error:
        db.close()
        raise damage(path, str(error)) from error
    version = row[0] if row else "absent"
    if version != SCHEMA_VERSION:
        db.close()
        raise JournalDamaged(f"{path}: schema_version is {version}, this version reads {SCHEMA_VERSION}")
    return db


def damage(path: Path, detail: str) -> JournalDamaged:
    """SQLite's complaint as one line for a person, with the sizes where the file was cut short."""
    with path.open("rb") as file:
        header = file.read(100)
    return _cut_short(path, header) or JournalDamaged(f"{path}: damaged journal: {' '.join(detail.split())}")


def _cut_short(path: Path, header: bytes) -> JournalDamaged | None:
    """SQLite's file format: page size at offset 16 (1 means 65536), number of pages at offset 28."""
    size = path.stat().st_size
    page_bytes = int.from_bytes(header[16:18], "big")
    expected = (65536 if page_bytes == 1 else page_bytes) * int.from_bytes(header[28:32], "big")
    if len(header) < 100 or size >= expected:
        return None
    return JournalDamaged(f"{path}: damaged journal, cut short: {size} bytes, its header says {expected}")


def _connect_writer(path: Path, synchronous: str) -> sqlite3.Connection:
    if synchronous not in {"FULL", "NORMAL"}:
        raise ValueError(f"synchronous {synchronous!r}: FULL or NORMAL")
    db = sqlite3.connect(path, isolation_level=None, timeout=5.0)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA synchronous = {synchronous}")
    db.execute("PRAGMA cache_size = -2000")  # KiB: the writer appends, a large page cache would only hold memory
    return db


def _refuse_foreign(path: Path) -> None:
    """What SQLite itself would take for an empty database, or would silently ignore, is damage here."""
    with path.open("rb") as file:
        header = file.read(100)
    if not header.startswith(SQLITE_MAGIC) or len(header) < 100:
        shown = header[:16].hex(" ") or "nothing"
        raise JournalDamaged(
            f"{path}: damaged journal: not a SQLite file ({path.stat().st_size} bytes, begins {shown})"
        )
    wal = path.with_name(path.name + "-wal")
    try:
        with wal.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError:
        magic = b""
    # SQLite reads what is missing of the last page as zeros. With a write-ahead log beside it, a file may be shorter
    # than its header says (killed while moving pages over); without one it is cut.
    if not magic and (cut := _cut_short(path, header)) is not None:
        raise cut
    if magic and magic not in {b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83"}:
        raise JournalDamaged(f"{wal}: damaged journal: not a write-ahead log (begins {magic.hex(' ')})")


def _quoted(path: Path) -> str:
    return str(path.resolve()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
