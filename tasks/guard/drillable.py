"""Which drills of a stage cannot be made where this guard runs: said before the stage begins, and not in its middle."""

from __future__ import annotations

import asyncio
import os

import httpx

from bot.config import Settings
from gates.stages import Stage, each_part
from tasks.guard.drill_faults import DrillNotRun
from tasks.guard.drill_operations import LOWERED, RELOAD_TIMEOUT_S, lowered_rule
from tasks.guard.state import GuardState

IN_FILE = "sqlite"


async def cannot_be_drilled(guard: GuardState, stage: Stage, settings: Settings) -> list[str]:
    """One line a drill, with what it needs. A Prometheus that does not answer is not known to be unfit: that one the
    preflight waits for."""
    names = {drill.name for part in each_part(stage) for drill in part.drills}
    said = []
    store = os.environ.get("MM_JOURNAL_STORE") or settings.journal.store
    if "backup" in names and store != IN_FILE:
        said.append(
            f"drill backup: the journal is in {store}; allowed: {IN_FILE}, for what keeps the other backs it up"
        )
    if "alert" in names and (why := await _unfit_for_alerts(guard)):
        said.append(f"drill alert: {why}")
    return said


async def _unfit_for_alerts(guard: GuardState) -> str:
    try:
        await asyncio.to_thread(lowered_rule, guard.folder.rules, LOWERED, guard.account)
    except DrillNotRun as error:
        return str(error)
    try:
        async with httpx.AsyncClient(timeout=RELOAD_TIMEOUT_S, trust_env=False) as client:
            answer = await client.get(f"{guard.prometheus_url}/api/v1/status/flags")
            flags = answer.raise_for_status().json()["data"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return ""
    if flags.get("web.enable-lifecycle") == "true":
        return ""
    return f"{guard.prometheus_url} does not read rules anew; allowed: a Prometheus with --web.enable-lifecycle"
