"""The course of a stage run, as a table.

Rules, told once: a stage goes forward one step at a time, and only the guard moves it. `begin` leads to preflight by
itself; a run waits in READY until it is told to launch, in WATCHED until it is told to judge, in JUDGED until people
have signed and it is told to promote. Drills come before the watch, so that nothing of them counts; one asked for in
the middle of a watch makes it begin anew. A stage of several parts goes from JUDGED to the watch of the next part, and
where a verdict goes against a step and the plan says so, back to the one before it; the bot runs on meanwhile.

From every step that is not final a stop leads to ROLLING_BACK, and asking for a stop again changes nothing. What is not
proven in time is ROLLBACK_FAILED: it pages, goes on trying, and ends like any other rollback once the proof is there.
PROMOTED, ROLLED_BACK and PARKED are final. An illegal pair raises `IllegalStep` and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Step(StrEnum):
    """Where a stage run stands."""

    REQUESTED = "requested"
    PREFLIGHT = "preflight"
    READY = "ready"
    LAUNCHING = "launching"
    WARM_UP = "warm_up"
    DRILLS = "drills"
    WATCH = "watch"
    WATCHED = "watched"
    JUDGED = "judged"
    PROMOTING = "promoting"
    PROMOTED = "promoted"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    PARKED = "parked"
    ROLLBACK_FAILED = "rollback_failed"


class Happening(StrEnum):
    """What moves a stage run."""

    PREFLIGHT_BEGUN = "preflight_begun"
    PREFLIGHT_PASSED = "preflight_passed"
    LAUNCH_ASKED = "launch_asked"
    BOT_UP = "bot_up"
    DRILLS_BEGUN = "drills_begun"
    WARMED_UP = "warmed_up"
    DRILLS_PASSED = "drills_passed"
    WATCH_OVER = "watch_over"
    PROLONGED = "prolonged"
    JUDGED_GO = "judged_go"
    NEXT_PART = "next_part"
    NEXT_PART_DRILLED = "next_part_drilled"
    STEPPED_DOWN = "stepped_down"
    PROMOTE_ASKED = "promote_asked"
    PROMOTION_PROVEN = "promotion_proven"
    STOPPED = "stopped"
    ROLLBACK_PROVEN = "rollback_proven"
    PARKING_PROVEN = "parking_proven"
    PROOF_LATE = "proof_late"


class IllegalStep(Exception):
    """A stage run was told of a happening that its step has no row for. Nothing was changed."""


FINAL: Final = frozenset({Step.PROMOTED, Step.ROLLED_BACK, Step.PARKED})

_FORWARD: Final[Mapping[tuple[Step, Happening], Step]] = {
    (Step.REQUESTED, Happening.PREFLIGHT_BEGUN): Step.PREFLIGHT,
    (Step.PREFLIGHT, Happening.PREFLIGHT_PASSED): Step.READY,
    (Step.READY, Happening.LAUNCH_ASKED): Step.LAUNCHING,
    (Step.LAUNCHING, Happening.BOT_UP): Step.WARM_UP,
    (Step.WARM_UP, Happening.WARMED_UP): Step.WATCH,
    (Step.WARM_UP, Happening.DRILLS_BEGUN): Step.DRILLS,
    (Step.DRILLS, Happening.DRILLS_PASSED): Step.WATCH,
    (Step.WATCH, Happening.DRILLS_BEGUN): Step.DRILLS,  # by hand: what was watched so far does not count
    (Step.WATCH, Happening.WATCH_OVER): Step.WATCHED,
    (Step.WATCHED, Happening.PROLONGED): Step.WATCH,  # once: the verdict was HOLD
    (Step.WATCHED, Happening.JUDGED_GO): Step.JUDGED,
    (Step.JUDGED, Happening.NEXT_PART): Step.WATCH,
    (Step.JUDGED, Happening.NEXT_PART_DRILLED): Step.DRILLS,
    (Step.WATCHED, Happening.STEPPED_DOWN): Step.WATCH,
    (Step.JUDGED, Happening.PROMOTE_ASKED): Step.PROMOTING,
    (Step.PROMOTING, Happening.PROMOTION_PROVEN): Step.PROMOTED,
}
_BACK: Final[Mapping[tuple[Step, Happening], Step]] = {
    (step, happening): after
    for step in (Step.ROLLING_BACK, Step.ROLLBACK_FAILED)
    for happening, after in (
        (Happening.STOPPED, step),
        (Happening.ROLLBACK_PROVEN, Step.ROLLED_BACK),
        (Happening.PARKING_PROVEN, Step.PARKED),
        (Happening.PROOF_LATE, Step.ROLLBACK_FAILED),
    )
}
_STOPS: Final[Mapping[tuple[Step, Happening], Step]] = {
    (step, Happening.STOPPED): Step.ROLLING_BACK
    for step in Step
    if step not in FINAL and step not in {Step.ROLLING_BACK, Step.ROLLBACK_FAILED}
}

COURSE: Final[Mapping[tuple[Step, Happening], Step]] = {**_FORWARD, **_STOPS, **_BACK}


def next_step(step: Step, happening: Happening) -> Step:
    """The step after `happening`. Raises IllegalStep where the table has no such row."""
    try:
        return COURSE[(step, happening)]
    except KeyError:
        raise IllegalStep(f"a stage run that is {step.value} cannot be told {happening.value}") from None
