"""What has to be done now and then beside trading: exports, the exporter's histograms, the room left on the disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from bot.domain.events import Filled
from bot.engine.state import State
from bot.exports import Exports
from bot.runtime.exporter import Exporter, Sample
from bot.runtime.logs import JsonLog
from bot.runtime.process_metrics import ProcessMetrics

NAME: Final = "bot.runtime.housekeeping"
NS_PER_S: Final = 1_000_000_000
OBSERVE_NS: Final = NS_PER_S
"""How often histogram observations are handed on between scrapes: so few may wait, and no tick need ask for them."""


class Housekeeping:
    """`disk_reserve_bytes`: quoting stops below it. `last_ns`: last sign of life of the run that is continued."""

    def __init__(
        self,
        folder: Path,
        state: State,
        exporter: Exporter,
        metrics: ProcessMetrics,
        log: JsonLog,
        *,
        disk_reserve_bytes: int,
        export_interval_s: int,
        last_ns: int = 0,
    ) -> None:
        self._folder = folder
        self._state = state
        self._exporter = exporter
        self._metrics = metrics
        self._log = log
        self._drains: list[Callable[[], Iterable[Sample]]] = []
        self._disk_reserve_bytes = disk_reserve_bytes
        self._interval_ns = export_interval_s * NS_PER_S
        self._exports = Exports(folder, last_ns)
        self._due_ns = self._observe_due_ns = 0
        self._failing = False

    def note_fill(self, fill: Filled) -> None:
        self._exports.note_fill(fill, self._state)

    def drain(self, source: Callable[[], Iterable[Sample]]) -> None:
        """Adds a source of histogram observations."""
        self._drains.append(source)

    def observe(self) -> None:
        """Hands histogram observations on; called at each scrape as well, so that none is late."""
        for drain in self._drains:
            observed = drain()
            if observed:
                self._exporter.observe(observed)

    def turn(self, now_ns: int) -> str:
        """Does what is due. The reason for a stop, or an empty string."""
        if now_ns >= self._observe_due_ns:
            self._observe_due_ns = now_ns + OBSERVE_NS
            self.observe()
        self._exports.sample(self._state, now_ns)
        if now_ns < self._due_ns:
            return ""
        self._due_ns = now_ns + self._interval_ns
        self.write_exports(now_ns)
        free_bytes = shutil.disk_usage(self._folder).free
        if free_bytes >= self._disk_reserve_bytes:
            return ""
        self._log.write(
            "ERROR", NAME, "disk_full", {"free_bytes": free_bytes, "reserve_bytes": self._disk_reserve_bytes}
        )
        return "disk_full"

    def write_exports(self, now_ns: int, *, last: bool = False) -> None:
        """A failure is logged once and tried again; exports are copies, nothing depends on them."""
        try:
            if last:
                self._exports.finish(self._state, now_ns)
            else:
                self._exports.write(self._state, now_ns)
        except OSError as error:
            if not self._failing:
                self._log.write("WARNING", NAME, "exports_unwritable", {"message": str(error)})
            self._failing = True
            return
        self._failing = False
        self._metrics.exports_written_at_ns = now_ns
