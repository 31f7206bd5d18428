"""What a run's report wants and nothing else keeps: taken down from events and intents as they pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from bot.domain.events import Event, OpenOrdersRead, PositionRead
from bot.domain.intent import Intent, Note

Counts = Mapping[tuple[str, tuple[str, ...]], int]

FREEZES_KEPT: Final = 100
_NOTE: Final = Note
"""By `isinstance` the question would be put to the types' own metaclass."""
SHUTDOWN: Final = "shutdown"
_READS: Final = frozenset((OpenOrdersRead, PositionRead))
_RECON_RUNS: Final = ("mm_recon_runs_total", ())


class Tally:
    """`freezes`: the last stops entered, the end of the run apart. Times in milliseconds since the epoch."""

    def __init__(self, symbols: tuple[str, ...], counts: Callable[[], Counts]) -> None:
        self._symbols = symbols
        self._counts = counts
        self._recon_runs = 0
        self.freezes: list[dict[str, object]] = []
        self.last_freeze_reason = ""
        self.last_freeze_symbol = ""
        self.duplicate_operations = 0
        self.recon_last_run_ms: int | None = None
        self.found_open: list[str] = []

    def note(self, event: Event, intents: list[Intent]) -> None:
        """Call with every event and what the engine made of it."""
        for intent in intents:
            if type(intent) is _NOTE:
                self._read(intent)
        if type(event) in _READS:
            runs = self._counts().get(_RECON_RUNS, 0)
            if runs != self._recon_runs:
                self._recon_runs, self.recon_last_run_ms = runs, event.at_ns // 1_000_000

    def repeated(self) -> None:
        """An operation under a key that was carried out before: the sender dropped it."""
        self.duplicate_operations += 1

    def _read(self, note: Note) -> None:
        fields = note.fields
        if note.event == "idem_hit":
            self.duplicate_operations += 1
        elif note.event == "orphan_order_canceled":
            self.found_open.append(str(fields.get("client_order_id", "")))
        elif note.event == "freeze_triggered" and fields.get("reason") != SHUTDOWN:
            detail = str(fields.get("detail", ""))
            named = next((symbol for symbol in self._symbols if symbol in detail), "")
            self.last_freeze_reason, self.last_freeze_symbol = str(fields.get("reason", "")), named
            self.freezes.append(
                {
                    "at_ms": note.at_ns // 1_000_000,
                    "class": fields.get("stop_class", ""),
                    "detail": detail,
                    "reason": self.last_freeze_reason,
                    "symbol": named,
                }
            )
            del self.freezes[:-FREEZES_KEPT]
