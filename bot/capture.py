"""Captures: a venue's public market data in a file, as the engine was told it. What `record` writes and `replay` reads.

One gzipped file of JSON lines. The first says what it is; every other line is one event, with the time it was received
(`at_ns`) and the venue's own. A capture in the making is `FILE.part`; it gets its name when it is whole.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from bot.domain.events import (
    BookDelta,
    BookLost,
    BookSnapshot,
    Event,
    InstrumentsRead,
    StreamDown,
    StreamUp,
    TradePrinted,
)

FORMAT: Final = 1
COMPRESSION: Final = 5
FLUSH_EVENTS: Final = 500
"""A recorder that is killed has left at least all but so many in its `.part`."""
GZIP_MAGIC: Final = b"\x1f\x8b"

PublicEvent = InstrumentsRead | BookSnapshot | BookDelta | BookLost | TradePrinted | StreamUp | StreamDown
_EVENTS: Final = msgspec.json.Decoder(PublicEvent)


class CaptureUnreadable(Exception):
    """The file is no whole capture; one line naming file, line and what is wrong."""


class Header(msgspec.Struct, frozen=True):
    """The first line. `capture`: the format's number."""

    capture: int
    exchange: str
    category: str
    symbols: tuple[str, ...]
    version: str


class CaptureWriter:
    """Writes one capture. `take` is a Sink. Raises OSError."""

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = gzip.open(self._part, "wb", compresslevel=COMPRESSION)  # noqa: SIM115 - closed by `__exit__`
        self._file.write(msgspec.json.encode(header) + b"\n")
        self._file.flush()
        self.events = 0
        self.books = dict.fromkeys(header.symbols, 0)
        """Symbol → book messages."""

    def take(self, event: Event) -> None:
        """Writes what is public; anything else is not the market's word."""
        if isinstance(event, PublicEvent):
            self._file.write(msgspec.json.encode(event) + b"\n")
            self.events += 1
            if self.events % FLUSH_EVENTS == 0:
                self._file.flush()
            if isinstance(event, BookSnapshot | BookDelta):
                self.books[event.symbol] += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None:
            self._part.replace(self._path)


def is_capture(path: Path) -> bool:
    """Whether the file begins as a capture does. False for what cannot be read."""
    try:
        with path.open("rb") as file:
            if file.read(len(GZIP_MAGIC)) != GZIP_MAGIC:
                return False
        return b'"capture":' in next(_lines(path))[1][:40]
    except (OSError, StopIteration, CaptureUnreadable):
        return False


def read_header(path: Path) -> Header:
    """Raises CaptureUnreadable."""
    try:
        _, line = next(_lines(path))
        header = msgspec.json.decode(line, type=Header)
    except (StopIteration, msgspec.MsgspecError):
        raise CaptureUnreadable(f"{path}:1: is no capture: its first line does not say so") from None
    if header.capture != FORMAT:
        raise CaptureUnreadable(f"{path}:1: capture format {header.capture}; allowed: {FORMAT}")
    return header


def read_events(path: Path) -> Iterator[PublicEvent]:
    """Every event, oldest first. Raises CaptureUnreadable at the line that does not fit, or where time goes back."""
    read_header(path)
    last_ns = 0
    for number, line in _lines(path):
        if number == 1:
            continue
        try:
            event = _EVENTS.decode(line)
        except (msgspec.MsgspecError, ValueError) as error:
            raise CaptureUnreadable(f"{path}:{number}: no event of a market: {error}") from None
        if event.at_ns < last_ns:
            raise CaptureUnreadable(f"{path}:{number}: at_ns {event.at_ns} is before the line above it, {last_ns}")
        last_ns = event.at_ns
        yield event


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    number = 0
    try:
        with gzip.open(path) as lines:
            for number, line in enumerate(lines, 1):
                yield number, line
    except (OSError, EOFError, zlib.error) as error:
        said = getattr(error, "strerror", None) or error
        raise CaptureUnreadable(f"{path}: cannot be read after line {number}: {said}") from None
