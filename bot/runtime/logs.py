"""Logs for machines: one JSON object a line, keys sorted, secrets scrubbed, counted by level.

Keys of every line: `ts_utc` (ISO 8601, microseconds), `lvl`, `name`, `component`, `event`, then the event's fields.
What libraries say through the standard `logging` module comes out the same way, as event `library`.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO

import msgspec

from bot.domain.counts import Counts
from bot.metrics import LOG_LEVELS
from bot.runtime.secrets import Scrubber, Secret

_encode_any: Callable[[object], str] = json.JSONEncoder(sort_keys=True, ensure_ascii=False, default=str).encode
_encoder = msgspec.json.Encoder(order="sorted", enc_hook=str)
_encode_quickly: Callable[[object], bytes] = _encoder.encode
_encode_lines_quickly: Callable[[Iterable[object]], bytes] = _encoder.encode_lines

LINES_TOGETHER: Final = 256
"""Of a log that need not be written line by line."""

Field = str | int | float | bool | None


def _encode(record: dict[str, Field]) -> str:
    """One line. Whatever the quick encoder cannot say (a number past 64 bits) the patient one can."""
    try:
        return _encode_quickly(record).decode()
    except (msgspec.MsgspecError, ValueError, OverflowError, TypeError):
        return _encode_any(record)


class JsonLog:
    """One process's log. `secrets` never appear in a line, wherever in it they would stand."""

    def __init__(
        self,
        streams: Iterable[TextIO],
        now_ns: Callable[[], int],
        secrets: Iterable[str] = (),
        *,
        flush: bool = True,
    ) -> None:
        """`flush`: every line at once, so that a killed process has left it. Without it lines are gathered and written
        together, the last of them by `close`: in simulated time alone.
        """
        self._streams = tuple(streams)
        self._flush = flush
        self._gathered: list[dict[str, Field]] = []
        self._second = -1
        self._second_text = ""
        self._now_ns = now_ns
        self._scrubber = Scrubber(secrets)
        self._forms = self._scrubber.forms
        self.counts = Counts(LOG_LEVELS)

    def conceal(self, secrets: Iterable[Secret | str]) -> None:
        """From now on these never appear either."""
        self._scrubber.learn(secrets)
        self._forms = self._scrubber.forms

    def write(self, lvl: str, name: str, event: str, fields: Mapping[str, Field] | None = None) -> None:
        """Writes one line. `lvl`: DEBUG INFO WARNING ERROR; `name`: dotted, its last part is the component."""
        self.counts.add(lvl)
        now_ns = self._now_ns()
        seconds = now_ns // 1_000_000_000
        if self._second != seconds:
            self._second = seconds
            self._second_text = datetime.fromtimestamp(seconds, UTC).isoformat().removesuffix("+00:00") + "."
        record: dict[str, Field] = dict(fields) if fields else {}
        record["ts_utc"] = self._second_text + str(1_000_000 + now_ns % 1_000_000_000 // 1000)[1:] + "Z"
        record["lvl"] = lvl
        record["name"] = name
        record["component"] = name.rpartition(".")[2]
        record["event"] = event
        if self._flush:
            self._put(self._clean(_encode(record) + "\n"))
            return
        self._gathered.append(record)
        if len(self._gathered) >= LINES_TOGETHER:
            self.close()

    def close(self) -> None:
        """Writes what is gathered; the streams stay open, and more may be written."""
        records, self._gathered = self._gathered, []
        try:
            lines = _encode_lines_quickly(records).decode()
        except (msgspec.MsgspecError, ValueError, OverflowError, TypeError):
            lines = ""
        if lines and self._clean(lines) is lines:
            self._put(lines)
            return
        for record in records:  # one that cannot be written takes no other with it, nor what looks like a secret in two
            self._put(self._clean(_encode(record) + "\n"))

    def _clean(self, text: str) -> str:
        """Without any secret; the very same where there was none."""
        for form in self._forms:
            if form in text:
                return self._scrubber.scrub(text)
        return text

    def _put(self, text: str) -> None:
        for stream in self._streams:
            try:
                stream.write(text)
                if self._flush:
                    stream.flush()
            except (OSError, ValueError):  # a full disk or a closed pipe must not stop a stop
                continue

    def adopt_standard_logging(self) -> None:
        """Sends the standard `logging` module's records (WARNING and above) through this log."""
        root = logging.getLogger()
        root.handlers[:] = [_Bridge(self)]
        root.setLevel(logging.WARNING)


def open_log(log_file: Path | None, now_ns: Callable[[], int], secrets: Iterable[str]) -> JsonLog:
    """A log on stderr and, where given, appended to `log_file`. Raises OSError where that cannot be opened."""
    streams: list[TextIO] = [sys.stderr]
    if log_file is not None:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        streams.append(log_file.open("a", encoding="utf-8"))
    return JsonLog(streams, now_ns, secrets)


class _Bridge(logging.Handler):
    def __init__(self, log: JsonLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        lvl = "ERROR" if record.levelno >= logging.ERROR else "WARNING"
        message = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            message += f" | {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        self._log.write(lvl, record.name, "library", {"message": " ".join(message.split())})
