"""Stopping: one mechanism, one table, and the views of it.

    INIT → RUNNING → FROZEN | HELD | HALTED → SHUTDOWN

Rules, told once. Several stops may hold at the same time; the worst view shows, and quoting needs that none holds.
`auto`: released when its cause has been gone for `hysteresis_s`. `people`: released by a person's ReleaseAsked that
names it (or `*`) and another person's ReleaseConfirmed (see `releasing`), or by a ResumeRequested of a driver that has
asked people itself. `re-arm`: HALTED is released by two different people, and by nothing else. SHUTDOWN is never
released. Midnight releases nothing, and a restart releases only what time may release. A stop that already holds is
not entered again: nothing is counted, noted or cancelled a second time.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final, Literal

import msgspec

from bot.domain.quick_enum import quick

StopClass = Literal["planned", "market", "fault"]
Resume = Literal["auto", "people", "re-arm"]


@quick
class View(StrEnum):
    """What the stops that hold look like from outside; worst last."""

    INIT = "INIT"
    RUNNING = "RUNNING"
    FROZEN = "FROZEN"
    HELD = "HELD"
    HALTED = "HALTED"
    SHUTDOWN = "SHUTDOWN"


_INIT: Final = View.INIT
_RUNNING: Final = View.RUNNING
_SEVERITY: Final = {view: rank for rank, view in enumerate(View)}


class Stop(msgspec.Struct, frozen=True):
    """Why quoting stops, whose fault it is, who may release it, and how it shows."""

    reason: str
    stop_class: StopClass
    resume: Resume
    view: View


RESTART: Final = "restart"
"""A restart under the two-man rule: lifted by a new grant, or by people."""

REARM_PEOPLE_MIN: Final = 2

STOPS: Final[dict[str, Stop]] = {
    stop.reason: stop
    for stop in (
        # the market, or the way to it
        Stop("edge_below_threshold", "market", "auto", View.FROZEN),
        Stop("stale_book", "market", "auto", View.FROZEN),
        Stop("venue_unreachable", "market", "auto", View.FROZEN),
        Stop("venue_slow", "market", "auto", View.FROZEN),
        Stop("statement_stale", "market", "auto", View.FROZEN),  # the venue says no more what the account is worth
        Stop("result_unknown", "market", "auto", View.FROZEN),  # a position without a mark, and nobody else can say
        Stop("symbol_stopped", "market", "people", View.FROZEN),  # the venue takes no orders of an instrument
        Stop("account_stopped", "fault", "people", View.HELD),  # the venue lets the account trade no more
        # permission
        Stop("grant_expired", "fault", "auto", View.FROZEN),
        Stop("grant_revoked", "planned", "auto", View.FROZEN),
        # the machine it runs on
        Stop("disk_full", "fault", "people", View.HELD),
        Stop("journal_unwritable", "fault", "people", View.HELD),
        # people
        Stop("drill", "planned", "auto", View.FROZEN),
        Stop("drill_orphan", "planned", "auto", View.FROZEN),  # an announced order that reconciliation found
        Stop("drill_stream_loss", "planned", "auto", View.FROZEN),  # an announced loss of the streams
        Stop("operator_cancel_all", "planned", "auto", View.FROZEN),
        Stop("operator_freeze", "planned", "people", View.FROZEN),
        Stop("operator_hold", "planned", "people", View.HELD),
        Stop(RESTART, "planned", "people", View.HELD),
        Stop("external", "fault", "people", View.HELD),  # asked for under a reason that this table does not know
        Stop("shutdown", "planned", "re-arm", View.SHUTDOWN),
        # something we cannot account for
        Stop("taker_fill", "fault", "people", View.FROZEN),
        Stop("taker_fill_again", "fault", "re-arm", View.HALTED),
        Stop("position_drift", "fault", "people", View.HELD),
        Stop("recon_divergence", "fault", "people", View.HELD),
        Stop("runaway_breaker", "fault", "people", View.HELD),
        Stop("cancel_budget", "fault", "re-arm", View.HALTED),
        Stop("fee_mismatch", "fault", "people", View.HELD),
        # money
        Stop("daily_loss_cap", "fault", "people", View.HELD),
        Stop("strategy_budget", "fault", "people", View.HELD),
        Stop("leverage", "fault", "people", View.HELD),
        Stop("margin_ratio", "fault", "re-arm", View.HALTED),
        Stop("kill_caps", "fault", "re-arm", View.HALTED),
        Stop("daily_loss", "fault", "re-arm", View.HALTED),
        Stop("drawdown", "fault", "re-arm", View.HALTED),
        Stop("kill_switch", "fault", "re-arm", View.HALTED),
    )
}


class Holding:
    """A stop that holds. `gone_since_ns`: since when its cause is gone, None while it is there."""

    __slots__ = ("detail", "gone_since_ns", "since_ns", "stop")

    def __init__(self, stop: Stop, since_ns: int, detail: str = "") -> None:
        self.stop: Final = stop
        self.since_ns: Final = since_ns
        self.gone_since_ns: int | None = None
        self.detail: Final = detail


class StopBoard:
    """The stops that hold now, in the order in which they were entered. `changed` is called when these are others."""

    def __init__(self, hysteresis_ns: int, changed: Callable[[], None] = lambda: None) -> None:
        self._hysteresis_ns = hysteresis_ns
        self._changed = changed
        self._holding: dict[str, Holding] = {}

    def enter(self, reason: str, at_ns: int, detail: str = "") -> Stop | None:
        """The stop where it is new; None where it holds already (its cause is then there again)."""
        held = self._holding.get(reason)
        if held is not None:
            held.gone_since_ns = None
            return None
        stop = STOPS[reason]
        self._holding[reason] = Holding(stop, at_ns, detail)
        self._changed()
        return stop

    def cause_gone(self, reason: str, at_ns: int) -> None:
        """Start counting towards release, where that stop holds and its cause was there until now."""
        held = self._holding.get(reason)
        if held is not None and held.gone_since_ns is None:
            held.gone_since_ns = at_ns

    def release_due(self, at_ns: int) -> list[Stop]:
        """Release the auto stops whose causes have been gone long enough."""
        if not self._holding:
            return []
        due = [
            held.stop
            for held in self._holding.values()
            if held.stop.resume == "auto"
            and held.gone_since_ns is not None
            and at_ns - held.gone_since_ns >= self._hysteresis_ns
        ]
        return self._drop(due)

    def release_by_people(self, reason: str) -> list[Stop]:
        """Release one reason, or with `*` every stop that people (or time) may release. Re-arm stops stay."""
        due = [
            held.stop
            for held in self._holding.values()
            if held.stop.resume != "re-arm" and reason in ("*", held.stop.reason) and not _cause_is_there(held)
        ]
        return self._drop(due)

    def rearm(self, reason: str, people: tuple[str, ...]) -> list[Stop]:
        """Release HALTED stops by reason (or `*`), where enough different people say so. SHUTDOWN stays."""
        if len({name.strip().casefold() for name in people} - {""}) < REARM_PEOPLE_MIN:
            return []
        due = [
            held.stop
            for held in self._holding.values()
            if held.stop.view is View.HALTED and reason in ("*", held.stop.reason)
        ]
        return self._drop(due)

    def release(self, reason: str) -> list[Stop]:
        """Release one stop whatever may release it; for the one cause that undoes it."""
        held = self._holding.get(reason)
        return [] if held is None else self._drop([held.stop])

    def carry(self) -> None:
        """A new process: what time may release is looked at anew, and nobody is shutting down any more."""
        held = (held.stop for held in self._holding.values())
        self._drop([stop for stop in held if stop.resume == "auto" or stop.view is View.SHUTDOWN])

    def _drop(self, stops: list[Stop]) -> list[Stop]:
        """They hold no longer; the same list."""
        for stop in stops:
            del self._holding[stop.reason]
        if stops:
            self._changed()
        return stops

    def holds(self, reason: str) -> bool:
        return reason in self._holding

    @property
    def any(self) -> bool:
        return len(self._holding) > 0

    @property
    def principal(self) -> Holding | None:
        """The stop that shows: worst view, then the one entered first."""
        if not self._holding:
            return None
        worst: Holding | None = None
        for held in self._holding.values():
            if worst is None or _SEVERITY[held.stop.view] > _SEVERITY[worst.stop.view]:
                worst = held
        return worst

    @property
    def all(self) -> list[Holding]:
        return list(self._holding.values())

    def view(self, *, ready: bool) -> View:
        """The view of the whole: a stop outranks INIT and RUNNING."""
        if not self._holding:
            return _RUNNING if ready else _INIT
        worst = self.principal
        assert worst is not None  # noqa: S101 - told to the type checker; something holds
        return worst.stop.view


def _cause_is_there(held: Holding) -> bool:
    """An auto stop may be released early by people only once its cause is gone."""
    return held.stop.resume == "auto" and held.gone_since_ns is None
