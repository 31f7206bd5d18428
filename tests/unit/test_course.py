"""The course of a stage run: one way forward, one way back, and an end that stays the end."""

from __future__ import annotations

from itertools import pairwise

import pytest

from gates.course import COURSE, FINAL, Happening, IllegalStep, Step, next_step

FORWARD = [
    (Happening.PREFLIGHT_BEGUN, Step.PREFLIGHT),
    (Happening.PREFLIGHT_PASSED, Step.READY),
    (Happening.LAUNCH_ASKED, Step.LAUNCHING),
    (Happening.BOT_UP, Step.WARM_UP),
    (Happening.WARMED_UP, Step.WATCH),
    (Happening.WATCH_OVER, Step.WATCHED),
    (Happening.JUDGED_GO, Step.JUDGED),
    (Happening.PROMOTE_ASKED, Step.PROMOTING),
    (Happening.PROMOTION_PROVEN, Step.PROMOTED),
]


def test_the_way_forward_leads_to_promoted_one_step_at_a_time() -> None:
    step = Step.REQUESTED
    for happening, after in FORWARD:
        step = next_step(step, happening)
        assert step is after


def test_a_watch_follows_drills_and_a_part_follows_a_part_or_the_one_before_it() -> None:
    assert next_step(Step.WARM_UP, Happening.DRILLS_BEGUN) is Step.DRILLS
    assert next_step(Step.WATCH, Happening.DRILLS_BEGUN) is Step.DRILLS
    assert next_step(Step.DRILLS, Happening.DRILLS_PASSED) is Step.WATCH
    assert next_step(Step.JUDGED, Happening.NEXT_PART) is Step.WATCH
    assert next_step(Step.JUDGED, Happening.NEXT_PART_DRILLED) is Step.DRILLS
    assert next_step(Step.WATCHED, Happening.STEPPED_DOWN) is Step.WATCH
    with pytest.raises(IllegalStep):
        next_step(Step.WATCH, Happening.NEXT_PART)


@pytest.mark.parametrize("step", [step for step in Step if step not in FINAL])
def test_every_step_that_is_not_final_can_be_stopped_and_then_ends_proven(step: Step) -> None:
    stopped = next_step(step, Happening.STOPPED)
    assert stopped is (Step.ROLLBACK_FAILED if step is Step.ROLLBACK_FAILED else Step.ROLLING_BACK)
    assert next_step(stopped, Happening.ROLLBACK_PROVEN) is Step.ROLLED_BACK
    assert next_step(stopped, Happening.PARKING_PROVEN) is Step.PARKED


def test_a_late_proof_is_a_failed_rollback_that_goes_on_trying() -> None:
    late = next_step(Step.ROLLING_BACK, Happening.PROOF_LATE)
    assert late is Step.ROLLBACK_FAILED
    assert next_step(late, Happening.PROOF_LATE) is Step.ROLLBACK_FAILED
    assert next_step(late, Happening.ROLLBACK_PROVEN) is Step.ROLLED_BACK


@pytest.mark.parametrize("step", sorted(FINAL))
@pytest.mark.parametrize("happening", list(Happening))
def test_what_has_ended_hears_nothing_more(step: Step, happening: Happening) -> None:
    with pytest.raises(IllegalStep, match=f"{step.value} cannot be told {happening.value}"):
        next_step(step, happening)


def reachable(start: Step, without: Step | None = None) -> set[Step]:
    """Every step to which some way leads that does not pass the one that is left out."""
    found, ahead = {start}, [start]
    while ahead:
        step = ahead.pop()
        after = {one for (at, _), one in COURSE.items() if at is step and one is not without} - found
        found |= after
        ahead += after
    return found


NEEDED = (Step.READY, Step.WATCH, Step.WATCHED, Step.JUDGED, Step.PROMOTING, Step.PROMOTED)


@pytest.mark.parametrize(("needed", "step"), list(pairwise(NEEDED)))
def test_nothing_is_promoted_that_was_not_watched_judged_and_proven(needed: Step, step: Step) -> None:
    assert step in reachable(Step.REQUESTED)
    assert step not in reachable(Step.REQUESTED, without=needed)


def test_nothing_is_promoted_that_has_once_been_stopped() -> None:
    assert {Step.ROLLED_BACK, Step.PARKED} <= reachable(Step.ROLLING_BACK)
    assert not reachable(Step.ROLLING_BACK) & {*NEEDED}


def test_every_step_can_be_reached_and_every_happening_has_a_row() -> None:
    assert {after for after in COURSE.values()} | {Step.REQUESTED} == set(Step)
    assert {happening for _, happening in COURSE} == set(Happening)
