"""One look at criteria now, whatever the loops have measured: for a verdict, for a promotion, and for its last look."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from gates.criteria import Criterion
from gates.decision import CONTINUE, Decision, decide_final
from gates.judge import Measurement, Reading, Word, verdict
from gates.sources.prometheus import PrometheusSource
from tasks.guard.keeping import Kept, judged, storing
from tasks.guard.readings import read_checks, read_prometheus, read_tables
from tasks.guard.state import Active, GuardState, now_ms

Read = Callable[[GuardState, Active, Sequence[Criterion], PrometheusSource], Awaitable[list[Reading]]]
SOURCES: dict[str, Read] = {"promql": read_prometheus, "table": read_tables, "check": read_checks}
LOOK_AGAIN_S = 0.5


async def measure_now(
    guard: GuardState, active: Active, criteria: Sequence[Criterion]
) -> list[tuple[Criterion, Measurement]]:
    """One reading of each, at one time. A source that does not answer makes them UNKNOWN within its time-out."""
    plan = active.plan
    source = PrometheusSource(guard.prometheus_url, plan.source_timeout_s, plan.stale_after_s, plan.scrape_every_s)
    measured: list[tuple[Criterion, Measurement]] = []
    async with source:
        for name, read in SOURCES.items():
            chosen = [one for one in criteria if one.source == name]
            if chosen:
                measured += judged(chosen, await read(guard, active, chosen, source))
    return measured


async def last_look(guard: GuardState, active: Active) -> Decision:
    """The hard-safety totals once more, now that nothing can be added to them: the bot is proven gone.

    CONTINUE where all PASS. What cannot be read is read again until its shortest deadline, and then parks.
    """
    hard = [one for one in active.criteria if (one.phase, one.severity, one.source) == ("guard", "critical", "table")]
    if not hard:
        return CONTINUE
    until = time.monotonic() + min(one.unknown_deadline_s for one in hard)
    while True:
        measured = await measure_now(guard, active, hard)
        found = verdict(hard, [one for _, one in measured])
        if found.word is not Word.HOLD or time.monotonic() >= until:
            guard.store.tell("last look", storing(guard, active, measured, Kept()))
            return decide_final(found, prolonged=True, at_ms=now_ms())
        await asyncio.sleep(LOOK_AGAIN_S)
