"""The ledger is the account's, not the run's: what an earlier run of the same account lost still counts in this one.

A fresh journal has no yesterday of its own. It is taken from the newest journal of the same account, beside its state
folder or on the same Redis server: the results it noted in the 24 hours before now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from bot.domain.events import EquityCarried
from bot.domain.intent import Note
from bot.journal import JournalError, JournalReader
from bot.stores.redis_place import MARKER

DAY_NS: Final = 24 * 3600 * 1_000_000_000
SAMPLES: Final = """
    SELECT body FROM entry WHERE kind = 'Note' AND json_extract(body, '$.event') = 'equity_sample' AND at_ns > ?
    ORDER BY seq
"""


class Carried(NamedTuple):
    """`event`: the day before, None where no journal of the account knows one. `unread`: why some were not read."""

    event: EquityCarried | None
    unread: tuple[str, ...]


def carried_equity(
    state_dir: Path, account: str, now_ns: int, elsewhere: Iterable[Callable[[], JournalReader]] = ()
) -> Carried:
    """Looks at the journals in `<state_dir>/../*`, and `elsewhere`.

    A journal that cannot be read is told, not taken for one without loss.
    """
    found: list[Note] = []
    unread: list[str] = []
    for opening in (*_beside(state_dir), *elsewhere):
        try:
            with opening() as reader:
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


def _beside(state_dir: Path) -> list[Callable[[], JournalReader]]:
    folders = {path.parent for name in ("journal.db", MARKER) for path in state_dir.parent.glob(f"*/{name}")}
    return [partial(JournalReader, folder / "journal.db") for folder in sorted(folders - {state_dir})]
