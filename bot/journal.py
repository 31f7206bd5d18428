"""The write-ahead record of a run: every event in, every intent out, and every counter's total. Append-only.

One writer, any number of readers; `bot.stores` knows where it is kept. `Journal.event` and `Journal.intent` only
gather; `Journal.commit` writes the batch and the totals durably, and nothing is sent before it returns (group commit).
Market data is not durable: where it is kept at all it goes to segment files, numbered in the same sequence, so that
merging both by `seq` gives back exactly what the engine was told, in order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO, cast

import msgspec

from bot.domain.events import MARKET_DATA, Event
from bot.domain.intent import Intent
from bot.metrics import CATALOGUE
from bot.stores.reading import Reading, check, is_there, open_reading
from bot.stores.sqlite import JournalDamaged, JournalError, JournalUnwritable, StateFolderTaken, StateLock
from bot.stores.sqlite_store import SqliteStore
from bot.stores.store import Store

__all__ = [
    "Entry",
    "Journal",
    "JournalDamaged",
    "JournalError",
    "JournalReader",
    "JournalUnwritable",
    "StateFolderTaken",
    "StateLock",
    "check",
    "is_there",
    "label_text",
]

_LABELS = {metric.name: metric.labels for metric in CATALOGUE}
_MS_SUFFIX = "_ms_total"

_encode = msgspec.json.Encoder().encode
_MARKET_DATA: Final = frozenset(MARKET_DATA)
_Row = tuple[int, int, str, str, str, str, str]
"""A plain tuple in the order of `Entry`: SQLite takes it in half the time."""
_Packed = tuple[int, str, str, Event | Intent]
"""seq, direction, kind, and what becomes its body with the whole batch: a fifth of the work of a row."""


class _Kind:
    """A kind of entry, and which of symbol and client order id it has: itself, or its order."""

    __slots__ = ("has_client_order_id", "has_order", "has_symbol", "name")

    def __init__(self, kind: type) -> None:
        fields = kind.__struct_fields__  # type: ignore[attr-defined]  # every event and intent is a struct
        self.has_order: Final = "order" in fields
        self.has_symbol: Final = "symbol" in fields or self.has_order
        self.has_client_order_id: Final = "client_order_id" in fields or self.has_order
        self.name: Final[str] = kind.__name__


_kinds: Final[dict[type, _Kind]] = {}

TAIL_BYTES = 1_000_000
"""The end of a segment is looked for its newest line in this much; a line is far shorter."""

SEGMENT_LINE = re.compile(rb"\[\d+,\{.*\]$")


@cache
def label_text(name: str, values: tuple[str, ...]) -> str:
    """`k=v,k=v` in catalogue order; empty for a metric without labels. KeyError for an unknown metric.

    Time is totalled in whole milliseconds: `mm_x_ms_total` has the labels of the catalogue's `mm_x_seconds_total`.
    """
    labels = _LABELS[name] if name in _LABELS else _LABELS[name.removesuffix(_MS_SUFFIX) + "_seconds_total"]
    return ",".join(f"{label}={value}" for label, value in zip(labels, values, strict=True))


class Entry(NamedTuple):
    """One row: `at_ns` nanoseconds since the epoch, `direction` in | out, `body` the event or intent as JSON."""

    seq: int
    at_ns: int
    direction: str
    kind: str
    symbol: str
    client_order_id: str
    body: str


class Segments:
    """Market data in rotated files `market-<first seq>.jsonl`, one `[seq,event]` a line. Not durable."""

    def __init__(self, folder: Path, bytes_max: int, files_max: int) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._files_max = files_max
        self._file: TextIO | None = None
        self._bytes = 0

    def append(self, seq: int, event: Event) -> None:
        if self._file is None or self._bytes >= self._bytes_max:
            self._rotate(seq)
        assert self._file is not None  # noqa: S101 - told to the type checker; _rotate has just opened it
        line = f"[{seq},{msgspec.json.encode(event).decode()}]\n"
        self._bytes += len(line)
        self._file.write(line)

    def flush(self) -> None:
        """Hands what was written to the system, so that a killed process has left it; a lost machine may not have."""
        if self._file is not None:
            self._file.flush()

    def last_seq(self) -> int:
        """The number of the newest line that is whole, 0 without one."""
        for segment in sorted(self._folder.glob("market-*.jsonl"), reverse=True):
            with segment.open("rb") as file:
                file.seek(max(0, segment.stat().st_size - TAIL_BYTES))
                lines = [line for line in file.read().split(b"\n")[:-1] if SEGMENT_LINE.match(line)]
            if lines:
                return int(lines[-1][1:].partition(b",")[0])
        return 0

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _rotate(self, seq: int) -> None:
        self.close()
        for old in sorted(self._folder.glob("market-*.jsonl"))[: -self._files_max + 1 or None]:
            old.unlink()
        self._file = (self._folder / f"market-{seq:015d}.jsonl").open("a", encoding="utf-8")
        self._bytes = 0


class Journal:
    """The writer. `synchronous`: FULL live, NORMAL in simulated time. `segments`: where market data goes, if at all."""

    def __init__(
        self,
        path: Path,
        meta: dict[str, str],
        *,
        synchronous: str = "FULL",
        segments: Segments | None = None,
        rows_min: int = 1,
        store: Store | None = None,
    ) -> None:
        """Creates the journal or continues it. Raises JournalDamaged; JournalError where it is another account's.

        `path`: where readers find it. `store`: where it is kept; None: in the SQLite file at `path`.
        `rows_min`: a commit waits for this many rows and `close` writes the rest. Above 1 in simulated time alone,
        where nothing is sent that a lost machine could have forgotten; a new file is packed there until continued.
        """
        self.path = path
        file = SqliteStore(path, meta, synchronous, packed=rows_min > 1) if store is None else None
        self._packs = file if file is not None and file.packed else None
        self._store: Store = file if file is not None else cast("Store", store)
        self.continued = self._store.continued
        self._segments = segments
        self._rows: list[Any] = []
        """of `_Row`, or of `_Packed` where the file is packed"""
        self._rows_min = rows_min
        self._due_rows = 0
        self._due_totals: dict[tuple[str, str], int] = {}
        self.market_data_error = ""
        """Why market data is no longer kept; empty while all is well. Whoever reports it empties it."""
        self._totals: dict[tuple[str, str], int] = {}
        self._base = self._store.totals()
        self._seq = self._store.last_seq()
        if segments is not None:
            self._seq = max(self._seq, segments.last_seq())
        self._first_seq = self._seq

    @property
    def pending(self) -> bool:
        """Whether something gathered is not committed yet."""
        return len(self._rows) > self._due_rows

    @property
    def last_epoch(self) -> int:
        """The highest epoch any grant in this journal carried, 0 without one. A new process must be given a higher."""
        return self._store.last_epoch()

    @property
    def execution_count(self) -> int:
        """How many executions this journal knows."""
        return self._store.execution_count()

    @property
    def last_ns(self) -> int:
        """When the newest entry of earlier processes was written, 0 in a journal without entries."""
        return self._store.last_ns(self._first_seq)

    def event(self, event: Event) -> None:
        """Gathers an event for the next commit. Market data goes to the segments, or nowhere."""
        if type(event) in _MARKET_DATA:
            self._keep_market_data(event)
            return
        self._gather("in", event)

    def heartbeat(self, event: Event) -> None:
        """Gathers one of the clock's events, so that the journal shows that the bot lived between two happenings."""
        if self._segments is None:
            self._gather("in", event)

    def intent(self, intent: Intent) -> None:
        """Gathers an intent. It may be acted upon only after the next commit."""
        self._gather("out", intent)

    def commit(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Writes what was gathered and the totals that changed, durably, in one transaction.

        `counts` are this process's counters, those that did not change may be left out; totals are theirs added to
        what earlier processes of this run left. Raises JournalUnwritable (disk full, I/O error); nothing of the batch
        is then written and all of it is kept.
        """
        for key, value in counts.items():
            if self._totals.get(key) != value:
                self._due_totals[key] = value
        self._due_rows = len(self._rows)
        if self._due_rows >= self._rows_min or (self._rows_min == 1 and self._due_totals):
            self._write()

    def puts_off(self) -> bool:
        """True where a commit would only wait for more rows (`rows_min`): then nobody need add up the totals for it."""
        if len(self._rows) >= self._rows_min or self._rows_min == 1:
            return False
        self._due_rows = len(self._rows)
        return True

    def _write(self) -> None:
        """What is due, in one transaction."""
        changed, count, self._due_rows = dict(self._due_totals), self._due_rows, 0
        self._flush_market_data()
        rows = self._rows[:count]
        totals = {key: value + self._base.get(key, 0) for key, value in changed.items()}
        if self._packs is None:
            self._store.write(rows, totals)
        else:
            self._packs.write_packed(_encode(rows).decode() if rows else "", totals)
        del self._rows[:count]
        self._due_totals.clear()
        self._totals.update(changed)

    def close(self) -> None:
        """Closes the file; what was gathered but not committed is not written."""
        if self._rows_min > 1:
            self._write()
        if self._segments is not None:
            self._segments.close()
        self._store.close()

    def _keep_market_data(self, event: Event) -> None:
        if self._segments is None:
            return
        self._seq += 1
        try:
            self._segments.append(self._seq, event)
        except OSError as error:
            self.market_data_error = str(error)
            self._segments = None  # trading goes on without it; a segment with a hole would replay wrongly

    def _flush_market_data(self) -> None:
        """Before the entries that were decided on it, so that a journal never knows more than its segments."""
        if self._segments is None:
            return
        try:
            self._segments.flush()
        except OSError as error:
            self.market_data_error = str(error)
            self._segments = None

    def _gather(self, direction: str, item: Event | Intent) -> None:
        self._seq += 1
        kind = _kinds.get(type(item))
        if kind is None:
            kind = _kinds[type(item)] = _Kind(type(item))
        if self._packs is not None:
            packed: _Packed = (self._seq, direction, kind.name, item)
            self._rows.append(packed)
            return
        about: Any = item
        if kind.has_order:
            about = about.order
        symbol: str = about.symbol if kind.has_symbol else ""
        client_order_id: str = about.client_order_id if kind.has_client_order_id else ""
        body = _encode(item).decode()
        self._rows.append((self._seq, item.at_ns, direction, kind.name, symbol, client_order_id, body))


class JournalReader:
    """Reads a journal while its writer lives, and after it was killed. Never writes to it.

    Every method raises JournalDamaged where it turns out to be damaged, JournalError where its server is away.
    """

    def __init__(self, path: Path, reading: Reading | None = None) -> None:
        """`reading`: of one that `path` does not stand for.

        Raises JournalDamaged where there is no journal, or it is damaged or of another schema.
        """
        self.path = path
        self._reading = open_reading(path) if reading is None else reading

    def __enter__(self) -> JournalReader:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._reading.close()

    def meta(self) -> dict[str, str]:
        """schema_version, account, run, config_digest, version."""
        return {str(key): str(value) for key, value in self.rows("SELECT key, value FROM meta")}

    def totals(self) -> dict[tuple[str, str], int]:
        """(metric, `k=v,k=v`) to its value, as of the last commit."""
        rows = self.rows("SELECT name, labels, value FROM total")
        return {(str(name), str(labels)): int(value) for name, labels, value in rows}

    def entries(self, *, after_seq: int = 0, kind: str = "", client_order_id: str = "") -> Iterator[Entry]:
        """Entries in order, optionally of one kind or one order only."""
        query = "SELECT seq, at_ns, direction, kind, symbol, client_order_id, body FROM entry WHERE seq > ?"
        arguments: list[int | str] = [after_seq]
        if kind:
            query += " AND kind = ?"
            arguments.append(kind)
        if client_order_id:
            query += " AND client_order_id = ?"
            arguments.append(client_order_id)
        for row in self.rows(query + " ORDER BY seq", arguments):
            yield Entry(*row)

    def rows(self, query: str, arguments: list[int | str] | tuple[int | str, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """Any SELECT over the journal's tables and views."""
        yield from self._reading.select(query, arguments)
