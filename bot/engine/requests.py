"""What people and the process around the engine ask for: stops, resuming, re-arming, other thresholds.

A request may carry an idempotency key. The same key again does nothing and is counted: its first result stands.
"""

from __future__ import annotations

from typing import Final

from bot.domain import events as ev
from bot.engine.reconciliation import Reconciliation
from bot.engine.state import State
from bot.engine.stop import STOPS
from bot.engine.stopping import Stopping

_OPERATIONS_KEPT: Final = 10_000
"""Idempotency keys that are remembered."""


def reason_of(event: ev.StopRequested) -> str:
    """Under which reason of the table it holds."""
    return event.reason if event.reason in STOPS and event.reason != "shutdown" else "external"


def detail_of(event: ev.StopRequested) -> str:
    """Who asked for it, and in what word."""
    return f"{event.who}: {event.reason}"


class Requests:
    """Of one engine."""

    def __init__(self, state: State, stopping: Stopping, reconciliation: Reconciliation) -> None:
        self._state = state
        self._stopping = stopping
        self._reconciliation = reconciliation

    def stop(self, event: ev.StopRequested) -> None:
        """Enter it under its reason, or as `external` where the table does not know that."""
        if self._is_repeat(event.key):
            return
        reason = reason_of(event)
        self._stopping.enter(reason, detail_of(event))
        if STOPS[reason].resume == "auto":
            self._state.stops.cause_gone(reason, self._state.now_ns)

    def resume(self, event: ev.ResumeRequested) -> None:
        """Release what people may release, once it is proven that nothing of ours stands."""
        state = self._state
        if self._is_repeat(event.key):
            return
        if not self._stopping.proven:
            state.note("WARNING", "stop_changed", refused=event.reason, who=event.who, why="cancel-all not proven yet")
            return
        before = state.view
        for stop in state.stops.release_by_people(event.reason):
            state.note("INFO", "stop_changed", released=stop.reason, who=event.who)
            if stop.reason in ("recon_divergence", "position_drift"):
                self._reconciliation.adopt_venue_positions()
        self._stopping.note_view(before)

    def rearm(self, event: ev.RearmRequested) -> None:
        """Release HALTED, if two different people say so and nothing of ours stands."""
        state = self._state
        if self._is_repeat(event.key):
            return
        if not self._stopping.proven:
            state.note("WARNING", "stop_changed", refused=event.reason, why="cancel-all not proven yet")
            return
        before, who = state.view, ",".join(event.people)
        released = state.stops.rearm(event.reason, event.people)
        if not released:
            state.note("WARNING", "stop_changed", refused=event.reason, who=who, why="two people, a HALTED stop")
        for stop in released:
            state.note("INFO", "stop_changed", released=stop.reason, who=who)
        self._stopping.note_view(before)

    def reload_thresholds(self, event: ev.ThresholdsReloaded) -> None:
        """Take over the thresholds file; every change is told, refused ones too."""
        state = self._state
        held = state.grant is not None and state.has_grant
        for change in state.thresholds.reload(event.thresholds, granted=held):
            state.note(
                "WARNING" if change.refused else "INFO", "threshold_changed", source=event.source,
                symbol=change.symbol, name=change.name, before=str(change.before), after=str(change.after),
                refused=change.refused,
            )  # fmt: skip

    def _is_repeat(self, key: str) -> bool:
        """Whether a request under that idempotency key was taken before; its first result stands."""
        state = self._state
        if not key:
            return False
        if key in state.operations:
            state.counters.add("mm_duplicate_operations_total")
            state.note("INFO", "idem_hit", key=key)
            return True
        state.operations[key] = None
        while len(state.operations) > _OPERATIONS_KEPT:
            del state.operations[next(iter(state.operations))]
        return False
