"""What the attempts of a candidate came to, net, in quote: in the last 24 hours, and of one stage over all attempts.

An attempt's result counts from its launch, so what it came to within a day is what it is now less what it was a day
ago; that was stored, once a minute at least. What was not stored is not known, and never nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

from bot.journal import JournalError
from gates.sources.tables import totals_of
from tasks.record import Record
from tasks.record_tables import StageRun

RESULT: Final = "attempt_pnl"
"""The criterion whose rows tell an attempt's result since its launch, by the bot's own ledger."""
PLACED: Final = "mm_orders_placed_total"
DAY_MS: Final = 24 * 3_600_000
KEPT_WITHIN_MS: Final = 120_000
"""How old the row before a moment may be to stand for it: one is kept every minute, and a busy record may be late."""
STRETCH_MS: Final = 600_000


class NotKnownError(Exception):
    """What an attempt came to is not known. One sentence that names it."""


@dataclass(frozen=True)
class _Stretch:
    """Stored results (ms, quote) of one attempt, oldest first, that tell every moment from `since_ms` to `until_ms`."""

    since_ms: int
    until_ms: int
    known: tuple[tuple[int, Decimal], ...]


@dataclass
class Results:
    """Remembers what cannot change any more: the result of an attempt that ended, and rows of a day ago, in stretches.

    Its methods read the record, so they run on the record's thread. They raise NotKnownError, and what the record does.
    """

    _final: dict[int, Decimal] = field(default_factory=dict)
    _stretches: dict[int, _Stretch] = field(default_factory=dict)

    def of_24_h(
        self, record: Record, own: StageRun, own_quote: Decimal, others: Sequence[StageRun], at_ms: int
    ) -> Decimal:
        """The candidate's result in the 24 hours before `at_ms`, all attempts pooled."""
        since_ms = at_ms - DAY_MS
        total = own_quote - self._before(record, own, since_ms)
        for run in others:
            over = run.bot_gone_at or run.ended_at
            if over is None or _ms(over) >= since_ms:
                total += self._result(record, run, at_ms) - self._before(record, run, since_ms)
        return total

    def of_stage(
        self, record: Record, own: StageRun, own_quote: Decimal, others: Sequence[StageRun], at_ms: int
    ) -> Decimal:
        """The candidate's result in this stage, all its attempts pooled from their launches on."""
        same = [run for run in others if run.stage == own.stage]
        return own_quote + sum((self._result(record, run, at_ms) for run in same), Decimal(0))

    def _result(self, record: Record, run: StageRun, at_ms: int) -> Decimal:
        """What that attempt came to; where it still runs (on another account), what it stands at."""
        number = run.id or 0
        if run.ended_at is None:
            return self._newest(run, (), record.known_values(number, RESULT, at_ms - KEPT_WITHIN_MS, at_ms), at_ms, "")
        if number not in self._final:
            told = record.last_known_value(number, RESULT)
            if told is None and not _placed_nothing(run):
                raise NotKnownError(f"what {_named(run)} came to is not known")
            self._final[number] = Decimal(told or 0)
        return self._final[number]

    def _before(self, record: Record, run: StageRun, since_ms: int) -> Decimal:
        """What it had come to by then; nothing before its launch."""
        begun_ms = _ms(run.launched_at or run.created_at)
        if since_ms <= begun_ms:
            return Decimal(0)
        if run.id in self._final and run.launched_at is None:
            return Decimal(0)  # it placed no order
        number = run.id or 0
        stretch = self._stretches.get(number)
        if stretch is None or not stretch.since_ms <= since_ms <= stretch.until_ms:
            until_ms = since_ms + STRETCH_MS
            found = record.known_values(number, RESULT, since_ms - KEPT_WITHIN_MS, until_ms)
            stretch = self._stretches[number] = _Stretch(since_ms, until_ms, tuple(found))
        return self._newest(run, ((begun_ms, Decimal(0)),), stretch.known, since_ms, " 24 h ago")

    def _newest(
        self,
        run: StageRun,
        first: Sequence[tuple[int, Decimal]],
        known: Sequence[tuple[int, Decimal]],
        at_ms: int,
        when: str,
    ) -> Decimal:
        told = [one for one in (*first, *known) if at_ms - KEPT_WITHIN_MS <= one[0] <= at_ms]
        if not told:
            raise NotKnownError(f"what {_named(run)} had come to{when} was not stored")
        return told[-1][1]


def _placed_nothing(run: StageRun) -> bool:
    """Whether its journal proves that it never placed an order; a journal that cannot be read proves nothing."""
    path = None if run.state_dir is None else Path(run.state_dir) / "journal.db"
    try:
        if path is None or not path.exists():
            return False
        return not sum(count for (name, _), count in totals_of(path).items() if name == PLACED)
    except (JournalError, OSError, sqlite3.Error):
        return False


def _named(run: StageRun) -> str:
    return f"{run.rollout}/{run.stage} attempt {run.attempt}"


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
