"""Own orders that may still stand at the venue, by what journals wrote down before they were sent.

For who has to cancel without being able to ask the venue: an order was journaled before it left, so what is not in a
journal was not sent by us, and what the journal saw end does not stand. A journal in Redis is found by the word of it
in its folder.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bot.journal import JournalError, JournalReader, is_there

NEWEST: Final = 2_000
"""Creates of one journal that are looked through, newest first; an order that is left alone for longer is rare."""

JOURNALS: Final = 4
"""The newest of those beside each other: an account has one bot at a time."""

_MAY_STAND: Final = """
    SELECT client_order_id, symbol FROM (
        SELECT seq, client_order_id, symbol FROM entry WHERE kind = 'PlaceOrder' ORDER BY seq DESC LIMIT ?
    ) AS sent
    WHERE NOT EXISTS (
        SELECT 1 FROM entry AS told WHERE told.client_order_id = sent.client_order_id AND (
            told.kind IN ('OrderRefused', 'OrderUnreachable')
            OR (told.kind = 'OrderUpdated' AND json_extract(told.body, '$.order.status') <> 'working')
        )
    )
    ORDER BY seq DESC
"""


def orders_that_may_stand(folders: Sequence[Path], account: str = "") -> list[tuple[str, str]]:
    """(symbol, client order id), newest first. `folders`: state folders of runs, or folders of such.

    `account`: whose journals; empty: all. One that cannot be read keeps no other from being read; raises JournalError
    where that leaves nothing.
    """
    found: dict[tuple[str, str], None] = {}
    unread = ""
    for folder in folders:
        for journal in _journals(folder):
            try:
                found.update(dict.fromkeys(_of_one(journal, account)))
            except (JournalError, OSError, sqlite3.Error) as error:
                unread = unread or f"{journal}: {' '.join(str(error).split())}"
    if unread and not found:
        raise JournalError(unread)
    return list(found)


def _journals(folder: Path) -> list[Path]:
    if is_there(folder / "journal.db"):
        return [folder / "journal.db"]
    try:
        inside = [one / "journal.db" for one in folder.iterdir() if is_there(one / "journal.db")]
        return sorted(inside, key=lambda path: path.parent.stat().st_mtime, reverse=True)[:JOURNALS]
    except OSError:
        return []


def _of_one(journal: Path, account: str) -> list[tuple[str, str]]:
    with JournalReader(journal) as reader:
        if account and reader.meta().get("account") != account:
            return []
        return [(str(symbol), str(name)) for name, symbol in reader.rows(_MAY_STAND, [NEWEST])]
