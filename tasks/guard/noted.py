"""What a bot noted of its own result, from its journal: that tells a moment at which nobody stored it.

It notes the figure that the guard stores (net, by the same ledger, since the launch), each minute and whenever it moved
by a thousandth of its total limit, also while it has no grant. Its exports are no such source: `minute.csv` tells a
minute that could not be written in time by what was known later.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

import msgspec

from bot.carrying import equity_notes
from bot.domain.intent import Note
from bot.journal import JournalError, JournalReader

NS_PER_MS = 1_000_000


class NotReadError(Exception):
    """The journal does not tell it. One line that says why."""


@dataclass(frozen=True)
class Hole:
    """Time of stage run `number` that the record does not tell, from `since_ms` to `until_ms`, and where its bot's
    journal lies. `is_live`: its bot still runs, so that a later read may tell more."""

    number: int
    account: str
    state_dir: str
    since_ms: int
    until_ms: int
    is_live: bool = False


def noted(hole: Hole) -> list[tuple[int, Decimal]]:
    """(ms, quote) of every result that the bot noted in that time, oldest first. Raises NotReadError."""
    path = Path(hole.state_dir) / "journal.db"
    try:
        with JournalReader(path) as reader:
            account = reader.meta().get("account")
            if account != hole.account:
                raise NotReadError(f"{path} is of account {account!r}, not {hole.account!r}")
            notes = equity_notes(reader, hole.since_ms * NS_PER_MS - 1, hole.until_ms * NS_PER_MS)
        return [(one.at_ns // NS_PER_MS, _net_quote(one)) for one in notes]
    except (JournalError, OSError, sqlite3.Error) as error:
        raise NotReadError(" ".join(str(error).split())) from error
    except (KeyError, InvalidOperation, msgspec.MsgspecError) as error:
        raise NotReadError(f"{path}: a result noted in it cannot be read ({type(error).__name__})") from error


def noted_at(notes: Sequence[tuple[int, Decimal]], at_ms: int, within_ms: int) -> Decimal | None:
    """What the result was at `at_ms`: of the notes before and after it, each at most `within_ms` away, the higher.

    What is lost since then is lost from the higher of them, so a loss is never told smaller than one that was noted.
    None where nothing was noted shortly before: what comes later does not say what was. `notes`: oldest first.
    """
    before = [net for noted_ms, net in notes if at_ms - within_ms <= noted_ms <= at_ms]
    after = [net for noted_ms, net in notes if at_ms < noted_ms <= at_ms + within_ms]
    return max(before[-1:] + after[:1]) if before else None


def _net_quote(note: Note) -> Decimal:
    net_quote = Decimal(str(note.fields["net_quote"]))
    if not net_quote.is_finite():
        raise InvalidOperation
    return net_quote
