"""Refuses a request that cannot be read, by its number; one that is a stop has stopped before that."""

from __future__ import annotations

import contextlib
import logging
import time

from tasks.guard.state import GuardState, Refused, RefusedForNow
from tasks.guard.stopping import stop_asked, stop_now
from tasks.record_damage import DAMAGED, DamagedRow
from tasks.record_engine import storable

log = logging.getLogger("slipway.guard.damage")


async def refuse_damaged(guard: GuardState, row: DamagedRow) -> None:
    """Answers it, makes it one that can be read, and tells of it in the chain: all or nothing. Whoever comes upon it
    first, so a stop ends what runs before it is one that was answered. Raises RefusedForNow where that is not known
    yet: then it waits."""
    if row.is_stop and row.told.get("account") == guard.account and not row.is_answered:
        await _stop(guard, row)
    log.error("refused: %s", row)
    now_s = time.monotonic()
    link = guard.refusals.link(DAMAGED, str(row), now_s)
    await guard.store.call(guard.store.record.refuse_damaged, row, link)
    if link is not None:
        guard.refusals.told(DAMAGED, str(row), now_s)


async def _stop(guard: GuardState, row: DamagedRow) -> None:
    """A stop is one also where its words cannot be read: on its account one stage alone can be meant, and what ends it
    wrongly parks it, flat and not burnt, where what does not end it lets trade what somebody wanted to stop. It is
    answered after that, so it ends no other. A row of which not even the kind can be read is nobody's word for it."""
    active, words = guard.active, row.told.get("payload")
    if active is None and guard.resuming:
        raise RefusedForNow(f"{row}, and what runs on account {guard.account} is not known yet: ask again")
    if words is not None:
        with contextlib.suppress(Refused):  # it names another stage
            await stop_asked(guard, storable(words))
    elif active is not None:
        await stop_now(guard, active, "somebody", str(row))
