"""What the journal's writer needs of the place where it is kept. One journal, one writer, rows that only grow.

    SqliteStore    a file in the state folder; the default
    RedisStore     a server with an append-only file, where the worker's disk does not outlive it

One or the other, never both: which one a state folder has is seen from what lies in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

Row = tuple[int, int, str, str, str, str, str]
"""seq, at_ns, direction, kind, symbol, client order id, body."""


def already_there(where: object) -> str:
    """What whoever did not ask for a recovery is told of a journal that is found."""
    return f"{where}: a journal is there already; --recover continues it, another --state-dir starts anew"


Totals = dict[tuple[str, str], int]
"""(metric, labels as text) to its value."""


class Store(Protocol):
    """Opened by one writer; it tells what it holds now."""

    continued: bool
    """Whether it held a journal already."""

    def totals(self) -> Totals: ...

    def last_seq(self) -> int:
        """The number of the newest row, 0 without one."""

    def last_epoch(self) -> int:
        """The highest epoch any grant carried, 0 without one."""

    def execution_count(self) -> int:
        """How many executions it knows, each counted once."""

    def last_ns(self, until_seq: int) -> int:
        """When the newest row up to that number was written, 0 without one."""

    def write(self, rows: Sequence[Row], totals: Mapping[tuple[str, str], int]) -> None:
        """Appends the rows and sets the totals, durably. Raises JournalUnwritable; the same call may then be repeated.

        A repeat never writes a row twice, also where the first try succeeded and only its answer was lost.
        """

    def close(self) -> None: ...
