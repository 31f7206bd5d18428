"""The ledger is the account's, not the run's: what an earlier run of the same account lost still counts in this one.

A fresh journal has no yesterday of its own. It is taken from the newest journal beside its state folder that is of the
same account: the results it noted in the 24 hours before now.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from bot.domain.events import EquityCarried
from bot.domain.intent import Note
from bot.journal import JournalError, JournalReader

DAY_NS: Final = 24 * 3600 * 1_000_000_000
SAMPLES: Final = """
    SELECT body FROM entry WHERE kind = 'Note' AND json_extract(body, '$.event') = 'equity_sample' AND at_ns > ?
    ORDER BY seq
"""


class Carried(NamedTuple):
    """`event`: the day before, None where no journal of the account knows one. `unread`: why some were not read."""

    event: EquityCarried | None
    unread: tuple[str, ...]


def carried_equity(state_dir: Path, account: str, now_ns: int) -> Carried:
    """Looks at `<state_dir>/../*/journal.db`. A journal that cannot be read is told, not taken for one without loss."""
    found: list[Note] = []
    unread: list[str] = []
    for path in sorted(state_dir.parent.glob("*/journal.db")):
        if path.parent == state_dir:
            continue
        try:
            with JournalReader(path) as reader:
                if reader.meta().get("account") != account:
                    continue
                bodies = list(reader.rows(SAMPLES, [now_ns - DAY_NS]))
            notes = [msgspec.json.decode(body, type=Note) for (body,) in bodies]
        except (JournalError, msgspec.MsgspecError) as error:
            unread.append(str(error))
            continue
        if notes and (not found or notes[-1].at_ns > found[-1].at_ns):
            found = notes
    if not found:
        return Carried(None, tuple(unread))
    samples = tuple((note.at_ns, Decimal(str(note.fields["net_quote"]))) for note in found)
    peak_quote = max(Decimal(str(note.fields["peak_quote"])) for note in found)
    return Carried(EquityCarried(now_ns, account, samples, peak_quote), tuple(unread))
