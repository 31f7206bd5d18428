"""Refuses a request that cannot be read, by its number."""

from __future__ import annotations

import logging
import time

from tasks.guard.state import GuardState
from tasks.record_damage import DAMAGED, DamagedRow

log = logging.getLogger("slipway.guard.damage")


async def refuse_damaged(guard: GuardState, row: DamagedRow) -> None:
    """Answers it, makes it one that can be read, and tells of it in the chain: all or nothing."""
    log.error("refused: %s", row)
    now_s = time.monotonic()
    link = guard.refusals.link(DAMAGED, str(row), now_s)
    await guard.store.call(guard.store.record.refuse_damaged, row, link)
    if link is not None:
        guard.refusals.told(DAMAGED, str(row), now_s)
