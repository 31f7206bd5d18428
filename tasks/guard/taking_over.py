"""The inbox's `takeover`, as a guard that lives answers it: nobody takes its account, whatever is said of it."""

from __future__ import annotations

import os
from typing import Any

from tasks.guard.attesting import word as _word
from tasks.guard.state import GuardState, Refused


async def take_over(guard: GuardState, payload: dict[str, Any]) -> dict[str, Any]:
    """Takes the word for the one thing that this guard cannot see itself: a bot that was started on that machine."""
    active, off, here = guard.active, _word(payload, "off"), guard.machine.host
    host = "" if active is None else guard.elsewhere(active.row)
    if active is None or not host or off != host:
        said = f"account {guard.account} has a guard that lives, on machine {here} (pid {os.getpid()})"
        more = f", and its open stage's bot was started on {host}" if host else ""
        raise Refused(f"{said}{more}: nothing is taken over from {off!r}")
    who, reason = _word(payload, "who"), str(payload.get("reason", ""))
    record, inbox_id = guard.store.record, payload["inbox_id"]
    await guard.store.call(record.say_off, active.row.machine, who, reason, inbox_id, guard.machine)
    return {"off": off, "by": here}
