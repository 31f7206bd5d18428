"""What follows from measurements, verdicts and people. Pure: the guard and the flow act on it, nothing here acts.

Two questions, answered apart: what happens (continue, prolong, park, roll back) and whose fault it is. Only a fault of
the candidate burns its digest, so where it is open whether we were blind or the bot was bad, it is parked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from typing import Final

from gates.criteria import Criterion, Fault
from gates.judge import Cause, Measurement, Outcome, Verdict, Word


class Action(StrEnum):
    """What to do. PARK and ROLL_BACK both end flat and proven."""

    CONTINUE = "continue"
    PROLONG = "prolong"
    PARK = "park"
    ROLL_BACK = "roll_back"


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do and which number decided it.

    `breached_at_ms` is when the deciding criterion was broken by its own `for` or deadline; `others` are the ids of
    the further criteria that were broken too; `sentence` is for people.
    """

    action: Action
    reason: Fault | None = None
    criterion_id: str | None = None
    value: Decimal | None = None
    limit: str = ""
    others: tuple[str, ...] = ()
    breached_at_ms: int | None = None
    sentence: str = ""
    unknown_for_s: Decimal | None = None
    """How long the deciding criterion was UNKNOWN, in seconds; None where a value decided."""


CONTINUE: Final = Decision(Action.CONTINUE)

UNKNOWN_ENDS: Final[Mapping[Cause, tuple[Action, Fault]]] = {
    Cause.NO_DATA: (Action.ROLL_BACK, "candidate"),  # the source answers, the bot's own part of it is silent
    Cause.STALE: (Action.PARK, "environment"),  # nobody has looked at the bot for too long
    Cause.NOT_FINITE: (Action.PARK, "environment"),
    Cause.SEVERAL_SERIES: (Action.PARK, "environment"),
    Cause.PARTIAL_WINDOW: (Action.PARK, "environment"),
    Cause.SOURCE_ERROR: (Action.PARK, "environment"),
    Cause.SOURCE_UNREACHABLE: (Action.PARK, "environment"),
}
"""A guard criterion that stays UNKNOWN past its deadline, by cause."""

BLIND: Final = "blind"
"""The criterion that decides where we ourselves could not see: no single gate is to blame, so none is named first."""


FIRST_ANSWER_S: Final = 10.0
"""What has never been known since the launch has this much longer: Prometheus looks for new targets every 5 s and
hands them to its scraper every 5 s, whatever the refresh interval of the target files."""


class SignOffEnd(StrEnum):
    """How asking people can end without a complete GO."""

    EXPIRED = "nobody signed"
    NO_GO = "NO-GO"
    NO_GO_CANDIDATE = "NO-GO naming the candidate"


EXIT_CODES: Final[Mapping[str, int]] = {"promoted": 0, "rolled_back": 3, "parked": 4}
"""Of `rollout demo`, by the final step."""


@dataclass(frozen=True, slots=True)
class Streak:
    """One criterion's recent past: when the present FAIL and UNKNOWN began (None where there is none), and whether it
    was known at all since the launch."""

    last: Measurement
    fail_since_ms: int | None = None
    unknown_since_ms: int | None = None
    ever_known: bool = False

    def then(self, measurement: Measurement) -> Streak:
        """The streak after one more measurement. An UNKNOWN neither confirms nor ends a FAIL."""
        at_ms, outcome = measurement.at_ms, measurement.outcome
        if outcome is Outcome.UNKNOWN:
            since = self.unknown_since_ms if self.unknown_since_ms is not None else at_ms
            return Streak(measurement, self.fail_since_ms, since, self.ever_known)
        if outcome is Outcome.FAIL:
            return Streak(measurement, self.fail_since_ms if self.fail_since_ms is not None else at_ms, None, True)
        return Streak(measurement, ever_known=True)


@dataclass(frozen=True, slots=True)
class GuardHistory:
    """What guard criteria have shown since the bot was launched at `started_at_ms`. Immutable."""

    started_at_ms: int
    streaks: Mapping[str, Streak] = field(default_factory=dict)

    def after(self, measurements: Iterable[Measurement]) -> GuardHistory:
        """The history with one more round in it."""
        streaks = dict(self.streaks)
        for one in measurements:
            before = streaks.get(one.criterion_id)
            streaks[one.criterion_id] = (before or Streak(one)).then(one)
        return replace(self, streaks=streaks)


def decide_guard(criteria: Sequence[Criterion], history: GuardHistory, at_ms: int) -> Decision:
    """The first guard criterion broken decides; ties go by the order in the file; the others are listed.

    Broken is: FAIL for `for_s`, or UNKNOWN (or not measured at all) for `unknown_deadline_s`; what was never known
    since the launch has FIRST_ANSWER_S more. Advisory ones and other phases decide nothing.
    """
    broken = [
        decision
        for criterion in criteria
        if criterion.phase == "guard" and criterion.severity == "critical"
        if (decision := _broken(criterion, history, at_ms)) is not None
    ]
    if not broken:
        return CONTINUE
    first = min(broken, key=lambda decision: decision.breached_at_ms or 0)
    others = tuple(one.criterion_id for one in broken if one is not first and one.criterion_id is not None)
    if first.unknown_for_s is None or first.action is not Action.PARK:
        return replace(first, others=others)
    unseen = (first.criterion_id, *others) if first.criterion_id is not None else others
    return replace(first, criterion_id=BLIND, value=first.unknown_for_s, others=unseen)


def _broken(criterion: Criterion, history: GuardHistory, at_ms: int) -> Decision | None:
    streak = history.streaks.get(criterion.id)
    failed = None if streak is None else _failed(criterion, streak)
    return failed or _blind(criterion, streak, history.started_at_ms, at_ms)


def _failed(criterion: Criterion, streak: Streak) -> Decision | None:
    """A FAIL that has lasted `for_s`, seen by a measurement and not by the passing of time alone."""
    last = streak.last
    if last.outcome is not Outcome.FAIL or streak.fail_since_ms is None:
        return None
    breached_at_ms = streak.fail_since_ms + _ms(criterion.for_s)
    if last.at_ms < breached_at_ms:
        return None
    action = Action.ROLL_BACK if criterion.on_no_go == "candidate" else Action.PARK
    return Decision(action, criterion.on_no_go, criterion.id, last.value, last.limit, (), breached_at_ms, last.reason)


def _blind(criterion: Criterion, streak: Streak | None, started_at_ms: int, at_ms: int) -> Decision | None:
    if streak is None:
        since_ms, cause, said = started_at_ms, Cause.STALE, "never measured"
    elif streak.unknown_since_ms is not None:
        since_ms, cause, said = streak.unknown_since_ms, streak.last.cause or Cause.NO_DATA, streak.last.reason
    else:
        since_ms, cause, said = streak.last.at_ms, Cause.STALE, "not measured since"
    patience_s = criterion.unknown_deadline_s
    if streak is None or not streak.ever_known:
        since_ms, patience_s = started_at_ms, patience_s + FIRST_ANSWER_S
    breached_at_ms = since_ms + _ms(patience_s)
    if at_ms < breached_at_ms:
        return None
    action, fault = UNKNOWN_ENDS[cause]
    limit = f"known within {patience_s:g} s"
    unknown_for_s = Decimal(at_ms - since_ms) / 1000
    sentence = f"{criterion.id} UNKNOWN for {unknown_for_s:.1f} s ({said}); {limit}"
    return Decision(action, fault, criterion.id, None, limit, (), breached_at_ms, sentence, unknown_for_s)


def decide_final(judged: Verdict, prolonged: bool, at_ms: int) -> Decision:
    """What a stage's verdict leads to: GO continues to people, HOLD prolongs once and then parks, NO_GO ends it."""
    if judged.word is Word.GO:
        return replace(CONTINUE, sentence="every critical criterion passed")
    worst = judged.decided_by
    criterion_id = worst.criterion_id if worst else None
    value, limit = (worst.value, worst.limit) if worst else (None, "at least one critical criterion")
    said = worst.reason if worst else "there was no critical criterion to judge"
    others = tuple(one.criterion_id for one in judged.others)
    if judged.word is Word.HOLD:
        action, fault = (Action.PARK, "environment") if prolonged else (Action.PROLONG, None)
        return Decision(action, _fault(fault), criterion_id, value, limit, others, at_ms, said)
    candidate = judged.fault == "candidate"
    action = Action.ROLL_BACK if candidate else Action.PARK
    return Decision(action, judged.fault, criterion_id, value, limit, others, at_ms, said)


def decide_sign_off(end: SignOffEnd, gate: str, at_ms: int) -> Decision:
    """What silence or a NO-GO leads to. `gate` is entry or exit."""
    action = Action.ROLL_BACK if end is SignOffEnd.NO_GO_CANDIDATE else Action.PARK
    return Decision(action, "people", "sign_off", None, f"{gate} sign-offs", (), at_ms, end.value)


def _fault(word: str | None) -> Fault | None:
    return "environment" if word == "environment" else None


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
