"""A revoke that the bot does not answer is proven by expiry, counted from the last renewal that it may have taken."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import cast

from tasks.guard.grants import renew_once
from tasks.operate import GrantAnswer, Operator
from tests.support.guard_parts import activate, guard_at, writing


class SilentBot:
    """Takes what it is sent, perhaps, and answers nothing."""

    async def grant(self, *_: object) -> GrantAnswer:
        return GrantAnswer(0, detail="ReadTimeout")


def test_a_renewal_that_was_sent_and_not_answered_counts(tmp_path: Path) -> None:
    async def renewed() -> float:
        guard = guard_at(tmp_path / "home", "watch")
        active = activate(guard)
        active.operator = cast(Operator, SilentBot())
        guard.granting, guard.granted_at_s = True, time.monotonic() - 100
        async with writing(guard):
            assert not (await renew_once(guard, active)).accepted
        return time.monotonic() - guard.granted_at_s

    assert asyncio.run(renewed()) < 3
