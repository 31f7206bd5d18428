"""A stop, from the inbox or from the guard's own address: ends what runs, at once, whoever says so."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from gates.course import FINAL
from tasks.account_file import load_account
from tasks.guard.closing import by_people, end_stage
from tasks.guard.refusals import Refusals
from tasks.guard.state import Active, GuardState, Refused
from tasks.guard.stop_url import NOT_LET_IN, Stopped

WITHIN_S = 2.0
WRITTEN_WITHIN_S = 1.0
NOTHING_RUNS = "nothing_runs"


async def stop_now(guard: GuardState, active: Active, who: str, reason: str) -> None:
    """Returns once it is written: an acknowledged stop stands in the record, whatever dies next."""
    end_stage(guard, active, by_people(who, reason))
    await guard.store.written()


async def stop_asked(guard: GuardState, payload: dict[str, Any]) -> dict[str, Any]:
    """The inbox's `stop`. Raises Refused."""
    active = guard.active
    if active is None and guard.resuming:
        raise Refused(f"what runs on account {guard.account} is not known yet; use the kill switch")
    wanted = {"stage_run_id": payload.get("stage_run_id"), "rollout": payload.get("rollout")}
    if wanted == {"stage_run_id": None, "rollout": ""}:
        return {"step": NOTHING_RUNS}  # said where nothing ran: it holds by standing there, for what was under way then
    if active is None or (wanted["stage_run_id"] != active.id and wanted["rollout"] != active.row.rollout):
        raise Refused(f"nothing of {wanted['rollout'] or wanted['stage_run_id']} runs on account {guard.account}")
    who, reason = str(payload.get("who", "somebody")), str(payload.get("reason", "no reason given"))
    await stop_now(guard, active, who, reason)
    return {"step": active.row.step}


class StoppedByUrl:
    """What `/stop` does, called from its threads. See `tasks.guard.stop_url.Stopping`."""

    def __init__(self, guard: GuardState) -> None:
        self._guard = guard
        self._refusals = Refusals()  # of its own: a flood here leaves out nothing that the inbox refuses

    def token(self) -> str:
        return load_account(self._guard.folder.root, self._guard.account).approve_token

    def stop(self, who: str, reason: str) -> Stopped:
        if self._guard.loop is None:
            raise TimeoutError("the guard has not begun")
        asked = asyncio.run_coroutine_threadsafe(self._stop(who, reason), self._guard.loop)
        return asked.result(WITHIN_S)

    async def _stop(self, who: str, reason: str) -> Stopped:
        active = self._guard.active
        if active is None or active.step in FINAL:  # one that has ended is still being written and put away
            if active is None and self._guard.resuming:
                raise TimeoutError("what runs is not known yet")
            written = await self._stop_what_begins(who, reason)
            return Stopped(f"account {self._guard.account}", NOTHING_RUNS, written=written)
        end_stage(self._guard, active, by_people(who, reason))
        # The record may be away: the stop holds all the same, and the answer says what is not written yet.
        written = await self._stop_what_begins(who, reason)
        return Stopped(f"{active.row.rollout}/{active.row.stage}", active.row.step, written=written)

    async def _stop_what_begins(self, who: str, reason: str) -> bool:
        """A rollout may be between two stages, and a run may be queued. In line with what else is told, so never lost.
        Returns whether it is written."""
        guard = self._guard
        record, account = guard.store.record, guard.account
        guard.store.tell("stop", lambda: record.submit_stop_of_what_begins(None, who, reason, account))
        return await guard.store.written_within(WRITTEN_WITHIN_S)

    def refused(self, said: str) -> None:
        guard = self._guard
        if guard.loop is not None:
            guard.loop.call_soon_threadsafe(self._note, said)

    def _note(self, said: str) -> None:
        """Of wrong tokens each, for those are throttled; of the rest, which anybody may send without end, the first.

        A flood of links would fill the disk, and a stop's own write would wait behind them.
        """
        record, now_s = self._guard.store.record, time.monotonic()
        link: dict[str, Any] | None = {"why": said}
        if said != NOT_LET_IN:
            link = self._refusals.link("stop", said, now_s)
            if link is None:
                return
            self._refusals.told("stop", said, now_s)
        self._guard.store.tell("stop refused", lambda: record.append("stop_refused", link or {}))
