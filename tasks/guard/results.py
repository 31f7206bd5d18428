"""What the attempts of a candidate came to, net, in quote: in the last 24 hours, and of one stage over all attempts.

An attempt's result counts from its launch, so what it came to within a day is what it is now less what it was a day
ago; that was stored, once a minute at least. Where it was not (the guard was away), the bot's journal tells what it had
noted at that moment. A longer day, begun at the last row before the hole, would be another figure: a gain of before the
day would hide a loss of within it. What neither tells is not known, and never nothing: UNKNOWN promotes nobody.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

from bot.journal import JournalError
from gates.sources.tables import totals_of
from tasks.guard.noted import Hole, NotReadError, noted, noted_at
from tasks.record import Record
from tasks.record_tables import StageRun

RESULT: Final = "attempt_pnl"
"""The criterion whose rows tell an attempt's result since its launch, by the bot's own ledger."""
BOOKED: Final = "every execution of the account, once it was flat"
"""The query of the last of these rows: by the venue, and not by a bot that was gone before the account was flat."""
PLACED: Final = "mm_orders_placed_total"
DAY_MS: Final = 24 * 3_600_000
KEPT_WITHIN_MS: Final = 120_000
"""How old the row before a moment may be to stand for it: one is kept every minute, and a busy record may be late."""
STRETCH_MS: Final = 600_000
LATELY_MS: Final = 20_000
READ_WITHIN_S: Final = 2.0
"""How long a look waits for a journal to be read: a long one takes a second, one in Redis is copied first."""


class NotKnownError(Exception):
    """What an attempt came to is not known. One sentence that names it."""


class NotStoredError(NotKnownError):
    """The record does not tell it; the journal may, see `Results.fill`."""

    def __init__(self, said: str, hole: Hole) -> None:
        super().__init__(said)
        self.hole = hole


@dataclass(frozen=True)
class _Stretch:
    """Stored results (ms, quote) of one attempt, oldest first, that tell every moment from `since_ms` to `until_ms`."""

    since_ms: int
    until_ms: int
    known: tuple[tuple[int, Decimal], ...]


@dataclass
class Results:
    """Remembers what cannot change any more: the result of an attempt that ended, and rows of a day ago, in stretches.

    `of_…` read the record, so they run on the record's thread. They raise NotKnownError, and what the record does.
    """

    _final: dict[int, tuple[int, Decimal]] = field(default_factory=dict)
    """when that was last told (ms), and what it was"""
    _stretches: dict[int, _Stretch] = field(default_factory=dict)
    _filled: dict[Hole, Sequence[tuple[int, Decimal]]] = field(default_factory=dict)
    _newest: dict[int, Decimal] = field(default_factory=dict)
    """by attempt that runs: what it stood at when that was looked at last"""
    _lately: dict[int, tuple[Hole, Sequence[tuple[int, Decimal]]]] = field(default_factory=dict)
    """by attempt that runs: the stretch of its journal that was read last, and what it says"""
    _reading: asyncio.Task[str] | None = None

    def look(self, record: Record, others: Sequence[StageRun], at_ms: int) -> None:
        """Reads what the attempts that run stand at, all at once: `of_…` at that moment go by it."""
        running = [run.id or 0 for run in others if _still_counts(run)]
        known = record.newest_known(running, RESULT, at_ms - KEPT_WITHIN_MS, at_ms)
        self._newest = {number: net for number, (_, net) in known.items()}

    def of_24_h(
        self, record: Record, own: StageRun, own_quote: Decimal, others: Sequence[StageRun], at_ms: int
    ) -> Decimal:
        """The candidate's result in the 24 hours before `at_ms`, all attempts pooled."""
        since_ms = at_ms - DAY_MS
        total = own_quote - self._before(record, own, since_ms)
        for run in others:
            over = run.flat_at or run.ended_at
            if over is None or _still_counts(run) or _ms(over) >= since_ms:
                total += self._result(record, run, at_ms) - self._before(record, run, since_ms)
        return total

    def of_stage(
        self, record: Record, own: StageRun, own_quote: Decimal, others: Sequence[StageRun], at_ms: int
    ) -> Decimal:
        """The candidate's result in this stage, all its attempts pooled from their launches on."""
        same = [run for run in others if run.stage == own.stage]
        return own_quote + sum((self._result(record, run, at_ms) for run in same), Decimal(0))

    async def fill(self, hole: Hole) -> str:
        """Reads a NotStoredError's journal, beside everything else. Empty once it is read: ask again. Else why not.

        A look waits READ_WITHIN_S for it; what takes longer goes on being read. What could not be read is tried anew.
        """
        reading = self._reading
        if reading is None or reading.done():
            reading = self._reading = asyncio.create_task(self._read(hole))
        done, _ = await asyncio.wait({reading}, timeout=READ_WITHIN_S)
        return reading.result() if done else "is still being read"

    async def _read(self, hole: Hole) -> str:
        try:
            notes = await asyncio.to_thread(noted, hole)
        except NotReadError as failure:
            return str(failure)
        if hole.is_live:
            self._lately[hole.number] = hole, notes
        else:
            self._filled[hole] = notes
        return ""

    def _result(self, record: Record, run: StageRun, at_ms: int) -> Decimal:
        """What that attempt came to; where it still runs (on another account), what it stands at."""
        number = run.id or 0
        if number in self._final:
            return self._final[number][1]
        booked = _booked(record, run)
        if booked is None and _still_counts(run):
            newest = self._newest.get(number)
            return self._noted_lately(run, at_ms) if newest is None else newest
        if booked is not None:
            if run.ended_at is not None:  # until then it may be booked anew
                self._final[number] = booked
            return booked[1]
        told = record.last_known(number, RESULT)
        if told is None and not _placed_nothing(run):
            raise NotKnownError(f"what {_named(run)} came to is not known")
        final = (0, Decimal(0)) if told is None else self._at_end(run, told)
        if run.ended_at is not None:  # until then its guard may still store what it saw last
            self._final[number] = final
        return final[1]

    def _noted_lately(self, run: StageRun, at_ms: int) -> Decimal:
        """What an attempt that still runs noted of itself, where its guard stored nothing: one whose bot is not heard
        for a while must not blind the watch of the candidate on every other account. Its journal is read anew once in
        LATELY_MS at most, and not while what it noted last is young."""
        said, number = f"what {_named(run)} had come to was not stored", run.id or 0
        if run.state_dir is None:
            raise NotKnownError(said)
        until_ms = at_ms - at_ms % LATELY_MS + LATELY_MS
        wanted = Hole(number, run.account, run.state_dir, until_ms - LATELY_MS - KEPT_WITHIN_MS, until_ms, is_live=True)
        read, notes = self._lately.get(number, (None, ()))
        since_ms = at_ms - (KEPT_WITHIN_MS if read == wanted else KEPT_WITHIN_MS // 2)
        newest = _newest([one for one in notes if one[0] >= since_ms], at_ms)
        if newest is not None:
            return newest
        if read == wanted:
            raise NotKnownError(f"{said}, nor was it noted in its journal")
        raise NotStoredError(said, wanted)

    def _at_end(self, run: StageRun, told: tuple[int, Decimal]) -> tuple[int, Decimal]:
        """The newest word on an attempt that ended: where nobody looked at its end, it is not what was `told` last."""
        over_ms = _ms(run.bot_gone_at or run.ended_at or run.created_at)
        if run.state_dir is None or over_ms - told[0] <= KEPT_WITHIN_MS:
            return told
        said = f"what {_named(run)} came to at its end was not stored"
        noted_since = self._in(Hole(run.id or 0, run.account, run.state_dir, told[0], over_ms), said)
        return noted_since[-1] if noted_since else told

    def _in(self, hole: Hole, said: str) -> Sequence[tuple[int, Decimal]]:
        if hole not in self._filled:
            raise NotStoredError(said, hole)
        return self._filled[hole]

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
        told = _newest([(begun_ms, Decimal(0)), *stretch.known], since_ms)
        return self._by_journal(record, run, since_ms) if told is None else told

    def _by_journal(self, record: Record, run: StageRun, since_ms: int) -> Decimal:
        """The same where the record has a hole, once its journal was read. It is read in stretches of one grid."""
        said, number = f"what {_named(run)} had come to 24 h ago was not stored", run.id or 0
        held = _held(record, run, since_ms)
        if held is not None:
            return held
        if run.state_dir is None:
            raise NotKnownError(said)
        from_ms = since_ms - since_ms % STRETCH_MS - KEPT_WITHIN_MS
        until_ms = from_ms + STRETCH_MS + 2 * KEPT_WITHIN_MS
        notes = self._in(Hole(number, run.account, run.state_dir, from_ms, until_ms), said)
        found = noted_at(notes, since_ms, KEPT_WITHIN_MS)
        if found is not None:
            return found
        last_ms, last_quote = self._final.get(number, (since_ms + 1, Decimal(0)))
        if last_ms > since_ms:
            raise NotKnownError(f"{said}, nor was it noted in its journal")
        return last_quote  # its bot was gone by then, before that was proven


def _newest(known: Sequence[tuple[int, Decimal]], at_ms: int) -> Decimal | None:
    told = [net for told_ms, net in known if at_ms - KEPT_WITHIN_MS <= told_ms <= at_ms]
    return told[-1] if told else None


def _still_counts(run: StageRun) -> bool:
    """Whether its result may still move: it has not ended, and was not booked. One that is rolled back and not flat yet
    loses without anybody to note it: it is known for as long as any other."""
    return run.ended_at is None


def _booked(record: Record, run: StageRun) -> tuple[int, Decimal] | None:
    """When its account was booked flat (ms), and with what result; None where it was not. Raises NotKnownError."""
    booked = None if run.flat_at is None else record.booked(run.id or 0, RESULT, BOOKED)
    if booked is None:
        return None
    at_ms, net, why = booked
    if net is None:
        raise NotKnownError(f"what {_named(run)} came to once it was flat is not known: {why}")
    return at_ms, net


def _held(record: Record, run: StageRun, since_ms: int) -> Decimal | None:
    """What it had come to by a moment between its bot's end and its booking, when nobody noted it: of what it was
    before and after the higher one, which shows the greater loss since. None for any other moment."""
    if run.bot_gone_at is None or since_ms < _ms(run.bot_gone_at):
        return None
    booked = _booked(record, run)
    if booked is None or booked[0] <= since_ms:
        return None if booked is None else booked[1]
    gone_ms = _ms(run.bot_gone_at)
    before = record.known_values(run.id or 0, RESULT, gone_ms - KEPT_WITHIN_MS, since_ms)
    return max(before[-1][1], booked[1]) if before else None


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
