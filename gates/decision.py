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

    `breached_at_ms` is when the deciding criterion was broken by its own `for` or deadline. For one without a `for`,
    such as every hard-safety criterion, that is the time of the first measurement that failed: what it shows had
    happened up to one measuring interval earlier. For a dead process it is when it was seen dead. `others` are the ids
    of the further criteria that were broken too; `sentence` is for people.
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

UNKNOWN_ENDS: Final[Mapping[Cause, Fault | None]] = {
    Cause.NO_DATA: None,  # the source answers, the bot's own part of it is silent: whose fault a FAIL would be
    Cause.STALE: "environment",  # nobody has looked at the bot for too long
    Cause.NOT_FINITE: "environment",
    Cause.SEVERAL_SERIES: "environment",
    Cause.PARTIAL_WINDOW: "environment",
    Cause.SOURCE_ERROR: "environment",
    Cause.SOURCE_UNREACHABLE: "environment",
}
"""Whose fault it is that a guard criterion stays UNKNOWN past its deadline, by cause; None is what its `on_no_go` says.

A bot that hangs, or whose exporter is silent while Prometheus answers, leaves every criterion without data at once: the
first of them in the file decides, and that is one about the candidate."""

BLIND: Final = "blind"
"""The criterion that decides where we ourselves could not see: no single gate is to blame, so none is named first."""


FIRST_ANSWER_S: Final = 10.0
"""What has never been known since the launch has this much longer: Prometheus looks for new targets every 5 s and
hands them to its scraper every 5 s, whatever the refresh interval of the target files."""

FORGIVEN_S: Final = 600.0
"""A guard that was away looks once before it calls anything unseen, within FIRST_ANSWER_S of its return. A guard that
comes back again and again without ever looking cannot put a decision off for longer than this: ten minutes blind end a
stage at once."""

BLIND_SHARE: Final = 0.05
"""Blindness in slices: the UNKNOWN times of one criterion together may not exceed this share of what the part lasts,
or its `unknown_deadline_s` where that is longer. Each slice alone may be shorter than any deadline. A plan for the
simulated venue, whose stages last seconds, may bear more (`blind_share`)."""


class SignOffEnd(StrEnum):
    """How asking people can end without a complete GO."""

    EXPIRED = "nobody signed"
    NO_GO = "NO-GO"
    NO_GO_CANDIDATE = "NO-GO naming the candidate"


EXIT_CODES: Final[Mapping[str, int]] = {"promoted": 0, "rolled_back": 3, "parked": 4}
"""Of `rollout demo`, by the final step."""

STEPPED_MS: Final = 5000
"""Where the last look is dated so long after now, the clock was set back since."""


@dataclass(frozen=True, slots=True)
class Streak:
    """One criterion's recent past: when the present FAIL and UNKNOWN began (None where there is none), and whether it
    was known at all since the launch.

    `blind_ms`: how long it was UNKNOWN since it was first known, all slices together that have ended in this part. The
    present one and what was never known have deadlines of their own.
    """

    last: Measurement
    fail_since_ms: int | None = None
    unknown_since_ms: int | None = None
    ever_known: bool = False
    blind_ms: int = 0

    def then(self, measurement: Measurement, now_ms: int | None = None) -> Streak:
        """The streak after one more measurement. An UNKNOWN neither confirms nor ends a FAIL.

        `now_ms`: by the clock that dates measurements; None where each comes as it is made. One that was made before
        the last one and comes after it, as where its writing was waited for, makes nothing last longer, and ends
        nothing that was seen after it (`_seen_late`).
        """
        now_ms = measurement.at_ms if now_ms is None else now_ms
        if (back_ms := self.last.at_ms - now_ms) > STEPPED_MS:
            return self._set_back(back_ms).then(measurement, now_ms)
        if measurement.at_ms < self.last.at_ms <= now_ms:
            return self._seen_late(measurement)
        # Else the clock was set back: before this one by a moment, or after it by however much.
        measurement = replace(measurement, at_ms=max(self.last.at_ms, min(measurement.at_ms, now_ms)))
        at_ms, outcome = measurement.at_ms, measurement.outcome
        if outcome is Outcome.UNKNOWN:
            since = self.unknown_since_ms if self.unknown_since_ms is not None else at_ms
            return Streak(measurement, self.fail_since_ms, since, self.ever_known, self.blind_ms)
        slice_ended = self.ever_known and self.unknown_since_ms is not None
        blind_ms = self.blind_ms + (at_ms - (self.unknown_since_ms or at_ms) if slice_ended else 0)
        if outcome is Outcome.FAIL:
            since = self.fail_since_ms if self.fail_since_ms is not None else at_ms
            return Streak(measurement, since, None, True, blind_ms)
        return Streak(measurement, ever_known=True, blind_ms=blind_ms)

    def _seen_late(self, measurement: Measurement) -> Streak:
        """The streak with one more that was made before the last one.

        A FAIL counts as of the last one: it is one also where nobody else saw it. What was known ends what was not
        known, or failed, before it; what is so now has then lasted since it at most.
        """
        at_ms, outcome = measurement.at_ms, measurement.outcome
        if outcome is Outcome.UNKNOWN:
            return self
        unknown_since_ms, blind_ms, fail_since_ms = self.unknown_since_ms, self.blind_ms, self.fail_since_ms
        if unknown_since_ms is not None and unknown_since_ms < at_ms:
            blind_ms += at_ms - unknown_since_ms if self.ever_known else 0
            unknown_since_ms = at_ms
        if outcome is Outcome.FAIL:
            last = replace(measurement, at_ms=self.last.at_ms)
            fail_since_ms = last.at_ms if fail_since_ms is None else fail_since_ms
            return Streak(last, fail_since_ms, unknown_since_ms, True, blind_ms)
        fail_since_ms = None if fail_since_ms is None else max(fail_since_ms, at_ms)
        return Streak(self.last, fail_since_ms, unknown_since_ms, True, blind_ms)

    def _set_back(self, by_ms: int) -> Streak:
        """The same by a clock that was set back by so much: what has lasted goes on having lasted."""
        return replace(
            self,
            last=replace(self.last, at_ms=self.last.at_ms - by_ms),
            fail_since_ms=None if self.fail_since_ms is None else self.fail_since_ms - by_ms,
            unknown_since_ms=None if self.unknown_since_ms is None else self.unknown_since_ms - by_ms,
        )


@dataclass(frozen=True, slots=True)
class GuardHistory:
    """What guard criteria have shown since the bot was launched at `started_at_ms`. Immutable.

    `resumed_at_ms`: since when the guard that asks has been there, where it is not the one that launched the bot; its
    history is then the stored measurements told again (`after`), so that no streak begins anew with a guard.
    `lasts_s`: how long the part is to be watched, which says with `blind_share` how much blindness in slices it bears:
    each part its own (`in_next_part`). `blind_before_ms`: of each criterion what an earlier guard had counted of that
    in this part before what is told again here.
    """

    started_at_ms: int
    streaks: Mapping[str, Streak] = field(default_factory=dict)
    resumed_at_ms: int | None = None
    lasts_s: float = 0.0
    blind_share: float = BLIND_SHARE
    blind_before_ms: Mapping[str, int] = field(default_factory=dict)

    def in_next_part(self) -> GuardHistory:
        """The history at the begin of another part: slices that have ended count in the part in which they ended. What
        is UNKNOWN or fails now goes on."""
        streaks = {name: replace(streak, blind_ms=0) for name, streak in self.streaks.items()}
        return replace(self, streaks=streaks, blind_before_ms={})

    def blind_ms(self, criterion_id: str) -> int:
        """For how long this criterion was UNKNOWN since it was first known, all slices together that have ended in this
        part, ms."""
        streak = self.streaks.get(criterion_id)
        return self.blind_before_ms.get(criterion_id, 0) + (0 if streak is None else streak.blind_ms)

    def seen_since(self, began_ms: int, before: GuardHistory, at_ms: int) -> GuardHistory:
        """The history without what was not seen from `began_ms` to `at_ms`, because the bot was silenced on purpose.

        A slice that has ended since then is not counted, one that lasts begins at `at_ms`. `before`: as it was then.
        """
        streaks = {}
        for name, streak in self.streaks.items():
            known = before.streaks.get(name)
            since_ms = streak.unknown_since_ms
            if since_ms is not None and since_ms >= began_ms:
                since_ms = at_ms
            streaks[name] = replace(streak, unknown_since_ms=since_ms, blind_ms=known.blind_ms if known else 0)
        return replace(self, streaks=streaks)

    def after(self, measurements: Iterable[Measurement], now_ms: int | None = None) -> GuardHistory:
        """The history with one more round in it. `now_ms`: where they may come later than others made after them."""
        streaks = dict(self.streaks)
        for one in measurements:
            before = streaks.get(one.criterion_id)
            streaks[one.criterion_id] = (before or Streak(one)).then(one, now_ms)
        return replace(self, streaks=streaks)


def decide_guard(criteria: Sequence[Criterion], history: GuardHistory, at_ms: int) -> Decision:
    """The first guard criterion broken decides; ties go by the order in the file; the others are listed.

    Broken is: FAIL for `for_s`, or UNKNOWN (or not measured at all) for `unknown_deadline_s`; what was never known
    since the launch has FIRST_ANSWER_S more; or UNKNOWN in slices for more than `blind_share` of the stage. Advisory
    ones and other phases decide nothing.
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
    return failed or _blind(criterion, streak, history, at_ms) or _blind_in_slices(criterion, history, at_ms)


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


def decide_unrecorded(criteria: Sequence[Criterion], away_s: float, at_ms: int) -> Decision:
    """The record has taken nothing for `away_s`: past the shortest deadline of any guard criterion the stage parks.

    A stage that leaves no record proves nothing, whatever it measures.
    """
    deadlines = [one.unknown_deadline_s for one in criteria if one.phase == "guard" and one.severity == "critical"]
    patience_s = min(deadlines, default=FIRST_ANSWER_S)
    if away_s < patience_s:
        return CONTINUE
    breached_at_ms = at_ms - _ms(away_s - patience_s)
    unknown_for_s = round(Decimal(away_s), 3)
    sentence = f"the record has taken nothing for {away_s:.1f} s"
    limit = f"known within {patience_s:g} s"
    return Decision(
        Action.PARK, "environment", BLIND, unknown_for_s, limit, (), breached_at_ms, sentence, unknown_for_s
    )


def _blind(criterion: Criterion, streak: Streak | None, history: GuardHistory, at_ms: int) -> Decision | None:
    started_at_ms = history.started_at_ms
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
    if at_ms < max(breached_at_ms, _looked_by_ms(streak, history, since_ms)):
        return None
    fault = UNKNOWN_ENDS[cause] or criterion.on_no_go
    action = Action.ROLL_BACK if fault == "candidate" else Action.PARK
    limit = f"known within {patience_s:g} s"
    unknown_for_s = Decimal(at_ms - since_ms) / 1000
    sentence = f"{criterion.id} UNKNOWN for {unknown_for_s:.1f} s ({said}); {limit}"
    return Decision(action, fault, criterion.id, None, limit, (), breached_at_ms, sentence, unknown_for_s)


def _blind_in_slices(criterion: Criterion, history: GuardHistory, at_ms: int) -> Decision | None:
    """UNKNOWN again and again, each time for less than its deadline: not much of the stage was seen all the same."""
    allowed_s = max(criterion.unknown_deadline_s, history.lasts_s * history.blind_share)
    blind_ms = history.blind_ms(criterion.id)
    if blind_ms <= _ms(allowed_s):
        return None
    limit = f"UNKNOWN for at most {allowed_s:g} s in all"
    blind_s = Decimal(blind_ms) / 1000
    sentence = f"blind in slices: {criterion.id} UNKNOWN for {blind_s:.1f} s in all; {limit}"
    seen_at_ms = history.streaks[criterion.id].last.at_ms if criterion.id in history.streaks else at_ms
    breached_at_ms = seen_at_ms - (blind_ms - _ms(allowed_s))
    return Decision(Action.PARK, "environment", criterion.id, None, limit, (), breached_at_ms, sentence, blind_s)


def _looked_by_ms(streak: Streak | None, history: GuardHistory, since_ms: int) -> int:
    """Until when a guard that came back may take to look itself; `since_ms` where it has, or never was away."""
    if history.resumed_at_ms is None or (streak is not None and streak.last.at_ms >= history.resumed_at_ms):
        return since_ms
    return min(history.resumed_at_ms + _ms(FIRST_ANSWER_S), since_ms + _ms(FORGIVEN_S))


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


def decide_silence(gate: str, waited_s: float, ends_s: float, at_ms: int) -> Decision:
    """What follows once sign-offs have expired: parked once they have been waited for `ends_s`, and held until then.

    Whoever comes late may still sign what is held."""
    expired = decide_sign_off(SignOffEnd.EXPIRED, gate, at_ms)
    return expired if waited_s >= ends_s else replace(expired, action=Action.CONTINUE)


def decide_unasked(what: str, within_s: float, at_ms: int) -> Decision:
    """Nobody asked for the next step (launch, judge or promote) in time: people are away, and it parks."""
    said = f"nobody asked to {what} within {within_s:g} s"
    return Decision(Action.PARK, "people", what, None, f"asked within {within_s:g} s", (), at_ms, said)


def _fault(word: str | None) -> Fault | None:
    return "environment" if word == "environment" else None


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
