"""Watches the file of freeze thresholds: read at the start and again whenever it changes, about once a second.

A file that cannot be used is refused with its line; what held goes on holding, and the refusal is told once a change.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bot.domain.events import ThresholdsReloaded
from bot.settings_file import ConfigError
from bot.thresholds_file import load_thresholds

EVERY_NS: Final = 1_000_000_000


class ThresholdsFile:
    """One file, by its time of change and size."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._due_ns = 0
        self._missing_told = False

    def turn(self, now_ns: int) -> ThresholdsReloaded | str | None:
        """The event where it reads well and is new; why not, in one line; None where nothing changed."""
        if now_ns < self._due_ns:
            return None
        self._due_ns = now_ns + EVERY_NS
        try:
            found = self._path.stat()
        except OSError as error:
            if self._missing_told:
                return None
            self._missing_told = True
            return f"{self._path}: cannot be read ({error.strerror})"
        self._missing_told = False
        seen = (found.st_mtime_ns, found.st_size, found.st_ino)
        if seen == self._seen:
            return None
        self._seen = seen
        try:
            return ThresholdsReloaded(now_ns, str(self._path), load_thresholds(self._path))
        except ConfigError as error:
            return str(error)
