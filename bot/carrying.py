"""The ledger is the account's, not the run's: what earlier runs of the same account lost still counts in this one.

A fresh journal has no yesterday of its own. It is put together from every journal of the same account and mode, beside
its state folder or on the same Redis server: the results that they noted in the 24 hours before now, each run going on
from where the one before it ended. Another mode is another account: what was won or lost on paper is nobody's money.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Container, Iterable, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from bot.booked import FILE, Booked, booked_in, read_booked
from bot.domain.events import EquityCarried
from bot.domain.intent import Note
from bot.engine.ledger import EquityCurve
from bot.journal import JournalError, JournalReader
from bot.stores.reading import RedisReading
from bot.stores.redis_place import MARKER, RedisPlace, journals_of, place_for

DAY_NS: Final = 24 * 3600 * 1_000_000_000
INT64_MAX: Final = 2**63 - 1
NOTHING_YET: Final[dict[str, str | int | float | bool]] = {"net_quote": "0", "peak_quote": "0"}
NEWEST: Final = "SELECT at_ns FROM entry ORDER BY seq DESC LIMIT 1"
SAMPLES: Final = """
    SELECT body FROM entry WHERE kind = 'Note' AND json_extract(body, '$.event') = 'equity_sample'
    AND at_ns > ? AND at_ns <= ? ORDER BY seq
"""


class Carried(NamedTuple):
    """`event`: the day before, None where no journal of the account knows one. `unread`: why some were not read."""

    event: EquityCarried | None
    unread: tuple[str, ...]

    @property
    def curve(self) -> EquityCurve:
        """What a run that began now would reckon its losses from."""
        curve = EquityCurve()
        if self.event is not None:
            curve.carry(self.event.samples, self.event.peak_quote)
        return curve


def carried_equity(
    state_dir: Path, account: str, mode: str, now_ns: int, elsewhere: Iterable[Callable[[], JournalReader]] = ()
) -> Carried:
    """Looks at the journals in `<state_dir>/../*`, and `elsewhere`.

    A journal that cannot be read is told, not taken for one without loss; but not a file that nobody has written to
    in those 24 hours: nothing of them can be in it. So is a result of those 24 hours whose journal is not here: how far
    that run had been below its peak nobody here knows.
    """
    found: dict[int, list[Note]] = {}  # a run that is found twice, by its folder and on the server, counts once
    unread, on_server = list[str](), set[str]()
    places: list[tuple[Path | None, Callable[[], JournalReader]]] = [
        (path, partial(JournalReader, path)) for path in _beside(state_dir)
    ]
    for path, opening in (*places, *((None, one) for one in elsewhere)):
        try:
            with opening() as reader:
                meta = reader.meta()
                if (meta.get("account"), meta.get("mode")) != (account, mode):
                    continue
                on_server |= {reader.path.name} if path is None else set()
                notes = equity_notes(reader, now_ns - DAY_NS)
                place = reader.path if path is None else path.parent
                booked = None if path is None else read_booked(place)
                if booked is None:
                    booked = booked_in(meta, place, next((at_ns for (at_ns,) in reader.rows(NEWEST)), 0))
                notes, why = _to_the_end(place, booked, reader, notes, now_ns - DAY_NS)
                unread += [why] if why else []
        except (JournalError, OSError, sqlite3.Error, msgspec.MsgspecError) as error:
            if path is None or _may_tell(path, now_ns - DAY_NS):
                said = " ".join(str(error).split())
                unread.append(said if path is None or str(path) in said else f"{path}: {said}")
            continue
        if notes and len(notes) > len(found.get(notes[0].at_ns, ())):
            found[notes[0].at_ns] = notes
    unread += _without_journal(state_dir, account, mode, now_ns - DAY_NS, on_server)
    return Carried(_one_day(account, now_ns, found.values()) if found else None, tuple(unread))


def _without_journal(state_dir: Path, account: str, mode: str, after_ns: int, on_server: Container[str]) -> list[str]:
    """Of each result beside no journal, which a machine leaves that took the account over, what is missing."""
    said: list[str] = []
    journals = {path.parent for path in _beside(state_dir)}
    for folder in sorted({path.parent for path in state_dir.parent.glob(f"*/{FILE}")} - journals - {state_dir}):
        booked = read_booked(folder)
        if booked is None or booked.at_ns <= after_ns or f"{account}:{folder.name}" in on_server:
            continue
        if not booked.account or (booked.account, booked.mode) == (account, mode):
            came_to = "is not known" if booked.net_quote is None else f"is {booked.net_quote:f}"
            said.append(f"{folder}: what it came to {came_to}, but not how: its journal is not on this machine")
    return said


def journals_in_redis(url: str, account: str, state_dir: Path) -> list[partial[JournalReader]]:
    """Every other journal of the account on that server. Raises JournalError where it cannot be asked."""
    own = place_for(url, account, state_dir)
    return [partial(_read_in_redis, other) for other in journals_of(url, account) if other != own]


def _one_day(account: str, now_ns: int, runs: Iterable[Sequence[Note]]) -> EquityCarried:
    """Each run's results begin at 0: they are told from where the run before it ended."""
    base, samples, peaks = Decimal(0), list[tuple[int, Decimal]](), list[Decimal]()
    for notes in sorted(runs, key=lambda notes: notes[0].at_ns):
        samples += [(note.at_ns, base + Decimal(str(note.fields["net_quote"]))) for note in notes]
        peaks += [base + Decimal(str(note.fields["peak_quote"])) for note in notes]
        base = samples[-1][1]
    return EquityCarried(now_ns, account, tuple(samples), max(peaks))


def _to_the_end(
    place: Path, booked: Booked | None, reader: JournalReader, notes: list[Note], after_ns: int
) -> tuple[list[Note], str]:
    """The results of a run with what its account came to once it was flat, which its bot did not live to note; and why
    that is not known, empty where it is. Where its bot had ended before the day began, its last note tells that begin.
    """
    if booked is None or booked.at_ns <= after_ns:
        return notes, ""
    if booked.net_quote is None:
        return notes, f"{place}: what it came to once it was flat is not known: {booked.why}"
    if not notes:
        ended = equity_notes(reader, -1)[-1:]
        notes = [Note(after_ns + 1, "DEBUG", "equity_sample", ended[0].fields if ended else dict(NOTHING_YET))]
    peak_quote = max(booked.net_quote, Decimal(str(notes[-1].fields["peak_quote"])))
    fields: dict[str, str | int | float | bool] = {
        "net_quote": f"{booked.net_quote:f}",
        "peak_quote": f"{peak_quote:f}",
    }
    return [*notes, Note(booked.at_ns, "DEBUG", "equity_sample", fields)], ""


def _read_in_redis(other: RedisPlace) -> JournalReader:
    return JournalReader(Path(other.name), RedisReading(other))


def equity_notes(reader: JournalReader, after_ns: int, until_ns: int = INT64_MAX) -> list[Note]:
    """What the bot noted of its result in that time, oldest first: each minute, and whenever it moved by a thousandth
    of its total limit. Its fields are `net_quote`, since this journal began, and `peak_quote`, both decimals as text.

    Raises JournalError, OSError, sqlite3.Error, msgspec.MsgspecError.
    """
    if not any(at_ns > after_ns for (at_ns,) in reader.rows(NEWEST)):
        return []  # without a look at every note of a run that has long ended
    return [msgspec.json.decode(body, type=Note) for (body,) in reader.rows(SAMPLES, [after_ns, until_ns])]


def _beside(state_dir: Path) -> list[Path]:
    folders = {path.parent for name in ("journal.db", MARKER) for path in state_dir.parent.glob(f"*/{name}")}
    return [folder / "journal.db" for folder in sorted(folders - {state_dir})]


def _may_tell(path: Path, since_ns: int) -> bool:
    """Whether the journal's file was written to since then; of one that is in Redis its folder does not tell that."""
    files = [one for one in (path, path.with_name(f"{path.name}-wal")) if one.exists()]
    return not path.exists() or any(one.stat().st_mtime_ns > since_ns for one in files)
