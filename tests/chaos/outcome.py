"""What became of a cell, and the moment from which it may be judged."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from tasks.record import Record
from tasks.record_tables import StageRun
from tests.chaos.matrix import Cell
from tests.chaos.strike import Hit

DELIVERED_WITHIN_S = 15.0


@dataclass(frozen=True)
class Outcome:
    """`wrong` is judged only where the step was hit; a missed cell says why."""

    cell: Cell
    ended: str
    decided_by: str
    hit: Hit | None
    missed: str
    wrong: list[str] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def word(self) -> str:
        if self.hit is None:
            return "missed"
        return "WRONG" if self.wrong else "as it should be"


def settled(record: Record, run: StageRun) -> None:
    """Returns once every notice of it is delivered, or the time for that is over: then the books say so."""
    end = time.monotonic() + DELIVERED_WITHIN_S
    last = f"{run.id}:{run.step}:"
    while time.monotonic() < end:
        rows = record.notices(run.account)
        if any(one.key == last for one in rows) and all(one.delivered_at is not None for one in rows):
            return
        time.sleep(0.1)
