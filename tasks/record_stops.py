"""Which stops of the inbox are meant for a run that begins a stage: of those said where no stage was open.

A run that was under way when a stop was said goes by the numbers of the inbox, which need no clock. One that was queued
in Prefect then had written nothing yet, so its creation and the stop are told apart by their times: exactly where both
are by one clock, else as far as two machines' clocks may differ, in favour of the stop.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tasks.record_engine import storable
from tasks.record_tables import Inbox
from tasks.supervise.machine import MachineUnknown, one_clock, this_machine

CLOCKS_APART_S = 30
"""How far the clocks of two machines may be apart."""
MACHINE = "machine"
"""In the payload of a stop: by whose clock it was said, as `tasks.supervise.machine` notes one."""
UNSAID = {"who": "somebody", "reason": "no reason given"}
"""What stands for the words of a stop that lacks them."""


@dataclass(frozen=True)
class Created:
    """When a flow run was created in Prefect, unix ms, and by which machine's clock; empty where that is not known."""

    at_ms: int
    machine: str = ""


@dataclass(frozen=True)
class StopSaid:
    """A stop that holds for whoever asks. `go_on_after`: a run created after that is not meant by it."""

    who: str
    why: str
    at: datetime
    go_on_after: datetime


def clock_here() -> str:
    """By which clock times are told here; empty where this system does not tell."""
    try:
        return str(this_machine())
    except MachineUnknown:
        return ""


def first_meant(stops: Iterable[Inbox], rollout: str, after: int, created: Created | None) -> StopSaid | None:
    """The first of these stops that is of that rollout, or of all, and stands behind request `after`, or was said when
    the flow run that was `created` was there already. Its words as every database holds them: they are written on."""
    for row in stops:
        said: Any = row.payload
        if not isinstance(said, dict) or said.get("rollout") not in (rollout, ""):
            continue
        exact = created is not None and one_clock(created.machine, str(said.get(MACHINE, "")))
        go_on_after = row.created_at if created is None or exact else row.created_at + timedelta(seconds=CLOCKS_APART_S)
        was_there = created is not None and created.at_ms <= int(go_on_after.timestamp() * 1000)
        if was_there or (row.id or 0) > after:
            who, why = (storable(str(said.get(name, other))) for name, other in UNSAID.items())
            return StopSaid(who, why, row.created_at, go_on_after)
    return None
