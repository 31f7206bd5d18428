"""Whether a candidate may still be tried: burnt by a rollback, or out of attempts, on whatever account that was.

`begin` asks first, but a stage may wait for weeks between two steps, and one of the same candidate may end badly on
another account meanwhile. So each decision that goes on with it asks again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gates.course import Step
from gates.criteria import Fault
from gates.decision import Action, Decision
from tasks.guard.closing import end_stage
from tasks.guard.state import Active, GuardState, Refused, now_ms
from tasks.record_tables import StageRun

BURNT: Final = "burnt"
ATTEMPTS: Final = "attempts"
"""What decides the end of a stage whose candidate is spent: neither is a criterion of a file."""


def burnt_by(runs: Iterable[StageRun]) -> str:
    """Which of a candidate's stage runs burns it, in words; empty where none does.

    One that is being rolled back burns it already: its proof may take for ever. One that was itself ended because the
    candidate was burnt is named last: it tells nobody why.
    """
    burning = [run for run in runs if Action.ROLL_BACK.value == run.end_wanted or run.step == Step.ROLLED_BACK.value]
    if not burning:
        return ""
    first = min(burning, key=lambda run: (run.decided_criterion == BURNT, run.id or 0))
    verb = "was" if first.step == Step.ROLLED_BACK.value else "is being"
    return f"{first.rollout}/{first.stage} on account {first.account} {verb} rolled back by {first.decided_criterion}"


def attempts_used(runs: Iterable[StageRun], stage: str) -> int:
    """How many of a candidate's stage runs had a bot at that stage, or are about to start one."""
    return len([run for run in runs if run.stage == stage and (run.run or run.step == Step.LAUNCHING.value)])


async def refuse_burnt(guard: GuardState, active: Active) -> None:
    """Ends the stage, as the candidate's fault, where its candidate was burnt elsewhere. Raises Refused, by name.

    Nothing makes a burnt digest good again, so there is nothing to hold the stage for.
    """
    if why := burnt_by(await _others(guard, active)):
        limit = "the candidate was rolled back nowhere"
        _end(guard, active, Action.ROLL_BACK, "candidate", BURNT, limit, f"candidate {_short(active)} is burnt: {why}")


async def refuse_without_attempt(guard: GuardState, active: Active) -> None:
    """Parks a stage whose candidate has used its attempts meanwhile. Raises Refused, by name."""
    stage, allowed = active.row.stage, active.plan.attempts_max
    if attempts_used(await _others(guard, active), stage) >= allowed:
        words = f"candidate {_short(active)} has used its {allowed} attempts at {stage}"
        _end(guard, active, Action.PARK, "environment", ATTEMPTS, f"at most {allowed} attempts", words)


async def _others(guard: GuardState, active: Active) -> list[StageRun]:
    runs = await guard.store.call(guard.store.record.attempts_of, active.rollout.candidate)
    return [run for run in runs if run.id != active.id]


def _short(active: Active) -> str:
    return active.rollout.candidate[:12]


def _end(
    guard: GuardState, active: Active, action: Action, fault: Fault, criterion: str, limit: str, words: str
) -> None:
    end_stage(guard, active, Decision(action, fault, criterion, None, limit, (), now_ms(), words))
    raise Refused(words)
