"""The measuring loops: one a source, so that a hung Prometheus never delays what the journal shows.

Each round: read → judge → history → decide. A breach ends the stage before anything is written, and no loop waits for
the record. Rows are kept on every change of value or outcome and once a minute; the newest of each criterion always.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from gates.course import Step
from gates.criteria import Criterion
from gates.decision import Action, GuardHistory, decide_guard, decide_unrecorded
from gates.judge import Outcome, Reading
from gates.sources.prometheus import PrometheusSource
from tasks.guard.closing import end_stage, with_how_it_ended
from tasks.guard.keeping import Kept, judged, storing
from tasks.guard.looking import SOURCES
from tasks.guard.state import Active, GuardState, now_ms

log = logging.getLogger("slipway.guard.measuring")
DECIDE_EVERY_S = 0.25
FINAL_EVERY_S = 5.0
"""Criteria of the final judgement are also measured during the watch, for people to see, but not as often."""


async def measure_for_ever(guard: GuardState, source: str) -> None:
    """The loop of one source. Nothing it meets ends it but a cancellation."""
    kept, due = Kept(), _Due()
    prometheus: PrometheusSource | None = None
    address: tuple[Any, ...] = ()
    while True:
        begun = time.monotonic()
        active = guard.active
        every_s = 0.2
        if active is not None and active.watched_over:
            every_s = active.plan.measure_every_s
            plan = active.plan
            wanted = (guard.prometheus_url, plan.source_timeout_s, plan.stale_after_s, plan.scrape_every_s)
            if prometheus is None or wanted != address:
                if prometheus is not None:
                    await prometheus.aclose()
                prometheus, address = PrometheusSource(*wanted), wanted
            criteria = due.of(active, source)
            if criteria:
                readings = await SOURCES[source](guard, active, criteria, prometheus)
                _take(guard, active, criteria, readings, kept)
        await asyncio.sleep(max(0.02, every_s - (time.monotonic() - begun)))


async def decide_for_ever(guard: GuardState) -> None:
    """Decides also when no measurement comes: a source that hangs becomes blindness past its deadline."""
    while True:
        active = guard.active
        if active is not None:
            decide(guard, active)
        await asyncio.sleep(DECIDE_EVERY_S)


def decide(guard: GuardState, active: Active) -> None:
    """Ends the stage where a guard criterion says so, or the record is away for as long as none of them may be.

    Once a closing has begun nothing more is decided here, but for a promotion: that is decided on until the bot is
    proven gone.
    """
    if active.history is None or active.bot_gone or active.decision is not None:
        return
    if active.closing is not None and active.step is not Step.PROMOTING:
        return
    decision = decide_guard(_deciding(active, active.history), active.history, now_ms())
    if decision.action is Action.CONTINUE and active.step is not Step.PROMOTING:
        decision = decide_unrecorded(active.criteria, guard.store.away_s(), now_ms())
    if decision.action is not Action.CONTINUE:
        end_stage(guard, active, with_how_it_ended(active, decision))


def _deciding(active: Active, history: GuardHistory) -> Sequence[Criterion]:
    """What decides now. A promotion takes the grant away and stops the bot, so from then on only the journal's totals
    say something about the candidate; of the others what was seen to FAIL before it. And what is not known of a bot
    that is still being started is the launch's to judge: it has deadlines of its own, and knows a slow machine from a
    bot that ended."""
    if active.step is not Step.PROMOTING:
        streaks = {name: streak.last.outcome for name, streak in history.streaks.items()}
        decisive = [one for one in active.criteria if active.drilled.decides(one.id, streaks.get(one.id))]
        if active.step is Step.LAUNCHING and active.launching:
            return [one for one in decisive if streaks.get(one.id) is Outcome.FAIL]
        return decisive

    def failed_before(one: Criterion) -> bool:
        streak, since_ms = history.streaks.get(one.id), active.promoting_since_ms
        if streak is None or since_ms is None:
            return False
        return streak.last.outcome is Outcome.FAIL and streak.last.reading.asked_at_ms < since_ms

    return [one for one in active.criteria if one.source == "table" or failed_before(one)]


def _take(
    guard: GuardState, active: Active, criteria: Sequence[Criterion], readings: Sequence[Reading], kept: Kept
) -> None:
    measured = judged(criteria, readings)
    if active.history is None or guard.active is not active:
        return
    active.history = active.history.after(one for _, one in measured if not active.drilled.is_old(one))
    decide(guard, active)
    if any(one.outcome is Outcome.UNKNOWN and criterion.phase == "guard" for criterion, one in measured):
        guard.shown.blind(active.plan.measure_every_s)
    for _, one in measured:
        guard.shown.measurement(one)
    guard.store.tell("measurements", storing(guard, active, measured, kept))


class _Due:
    """Which criteria of a source are due, by their own `every_s`."""

    def __init__(self) -> None:
        self._stage_run_id = 0
        self._next_s: dict[str, float] = {}

    def of(self, active: Active, source: str) -> list[Criterion]:
        if active.id != self._stage_run_id:
            self._stage_run_id, self._next_s = active.id, {}
        now_s, due = time.monotonic(), []
        for one in active.criteria:
            if one.source != source or one.phase not in ("guard", "final") or now_s < self._next_s.get(one.id, 0.0):
                continue
            every_s = one.every_s if one.phase == "guard" else max(one.every_s, FINAL_EVERY_S)
            # A tenth earlier than exactly: a round that comes a little early must not wait for the next one.
            self._next_s[one.id] = now_s + every_s * 0.9
            due.append(one)
        return due
