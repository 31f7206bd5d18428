"""Time that counts: how much of a watch nobody saw, and what follows at its end. Pure.

Blind is what was UNKNOWN for a cause that is not the candidate's, and what nobody measured at all. What the candidate's
own process left unsaid (it died, it hangs, its exporter is silent while Prometheus answers) is its downtime: that is
judged by criteria, and never made up for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Final, NamedTuple

from gates.criteria import Criterion
from gates.decision import BLIND, CONTINUE, UNKNOWN_ENDS, Action, Decision
from gates.judge import Cause, Outcome, plain

KEPT_WITHIN_MS: Final = 70_000
"""A measurement that does not change is kept once a minute: where there is none for longer, nobody measured. Of what is
looked at more seldom than every few seconds the first look after that minute is kept, or the one after it."""
MINUTE_MS: Final = 60_000
LEAST_MS: Final = 1000
"""What is shorter than one measuring interval is no blindness that could be told from a late look."""


class Seen(NamedTuple):
    """One kept measurement of a guard criterion. `cause` as it is stored, None where a value was known."""

    criterion_id: str
    at_ms: int
    outcome: str
    cause: str | None


def blind_ms(criteria: Sequence[Criterion], seen: Iterable[Seen], from_ms: int, until_ms: int) -> int:
    """How long, of the watch from `from_ms` to `until_ms`, at least one critical guard criterion was not seen, ms.

    `seen` oldest first, with the last of each criterion before `from_ms` where there is one. Where two are blind at the
    same time it counts once. Criteria with a window are left out: one gap makes them UNKNOWN for long after it is over.
    """
    spans = _spans(criteria, seen, from_ms, until_ms)
    return _length((span for own in spans.values() for span in own), from_ms, until_ms)


def blindest(criteria: Sequence[Criterion], seen: Iterable[Seen], from_ms: int, until_ms: int) -> tuple[str, int]:
    """Which criterion was unseen the longest, and for how many ms: where people look first. ("", 0) where none was."""
    spans = _spans(criteria, seen, from_ms, until_ms)
    own = [(_length(one, from_ms, until_ms), name) for name, one in spans.items()]
    longest_ms, name = max(own, default=(0, ""), key=lambda one: one[0])
    return (name, longest_ms) if longest_ms else ("", 0)


def _spans(
    criteria: Sequence[Criterion], seen: Iterable[Seen], from_ms: int, until_ms: int
) -> dict[str, list[tuple[int, int]]]:
    """From and to, ms, of each criterion that counts."""
    told, spans = list(seen), dict[str, list[tuple[int, int]]]()
    for criterion in criteria:
        if criterion.phase == "guard" and criterion.severity == "critical" and not criterion.windowed:
            own = [one for one in told if one.criterion_id == criterion.id]
            kept_within_ms = max(KEPT_WITHIN_MS, MINUTE_MS + round(2000 * criterion.every_s))
            spans[criterion.id] = _unseen(own, from_ms, until_ms, kept_within_ms)
    return spans


def _unseen(seen: Sequence[Seen], from_ms: int, until_ms: int, kept_within_ms: int) -> list[tuple[int, int]]:
    if not seen:
        return [(from_ms, until_ms)]
    spans = [(from_ms, seen[0].at_ms)] if seen[0].at_ms - from_ms > kept_within_ms else []
    ends = [*seen, Seen("", max(until_ms, seen[-1].at_ms), "", None)]
    for one, following in pairwise(ends):
        if _is_blind(one) or following.at_ms - one.at_ms > kept_within_ms:
            spans.append((one.at_ms, following.at_ms))
    return spans


def _is_blind(one: Seen) -> bool:
    if one.outcome != Outcome.UNKNOWN.value:
        return False
    return UNKNOWN_ENDS[Cause(one.cause)] is not None if one.cause else False


def _length(spans: Iterable[tuple[int, int]], from_ms: int, until_ms: int) -> int:
    """Of the union of the spans, within the watch."""
    total, reached = 0, from_ms
    for begin, end in sorted(spans):
        begins, ends = max(begin, reached), min(end, until_ms)
        if ends > begins:
            total += ends - begins
            reached = ends
    return total


def decide_watched(
    unseen_ms: int, lasts_s: float, share: Decimal, prolonged_s: float, at_ms: int, longest: tuple[str, int] = ("", 0)
) -> Decision:
    """What follows at the end of a watch of `lasts_s` of which `unseen_ms` were not seen; `longest`: see `blindest`.

    CONTINUE where nothing is missing. PROLONG the first time, by what is missing and at most by `share` of the watch:
    `value` is by how many seconds. Once it has been prolonged (by `prolonged_s`, for whatever reason), PARK where more
    than `share` was not seen, with that number; else it may be judged.
    """
    allowed_s, unseen_s = lasts_s * float(share), unseen_ms / 1000
    shown = round(Decimal(unseen_s), 3)
    limit = f"at most {allowed_s:g} s of {lasts_s:g} s unseen"
    if unseen_ms < LEAST_MS or (prolonged_s > 0 and unseen_s <= allowed_s):
        return CONTINUE
    sentence = f"{plain(shown)} s of the watch were not seen"
    if longest[0]:
        sentence += f" (the longest: {longest[0]}, {plain(round(Decimal(longest[1]) / 1000, 3))} s)"
    if prolonged_s <= 0:
        by_s = round(Decimal(min(unseen_s, allowed_s)), 3)
        return Decision(Action.PROLONG, None, BLIND, by_s, limit, (), at_ms, sentence)
    return Decision(Action.PARK, "environment", BLIND, shown, limit, (), at_ms, sentence, shown)
