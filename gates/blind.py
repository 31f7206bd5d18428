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

LOOK_WITHIN_MS: Final = 10_000
"""Looks that follow one another within this, or within two of their intervals, have seen what was between them."""
MINUTE_MS: Final = 60_000
"""A measurement that does not change is kept as often as this, or at the first look afterwards. Of rows that do not say
when was looked before, two that are further apart than that and a late look have nothing between them."""
LEAST_MS: Final = 1000
"""What is shorter than one measuring interval is no blindness that could be told from a late look."""


class Seen(NamedTuple):
    """One kept measurement of a guard criterion. `cause` as it is stored, None where a value was known.

    `looked_before_ms`: when it was looked at last before; None where that is not known. A look that came late is kept.
    As late as `at_ms`, it is the newest look of all, and what comes after it nobody saw.
    """

    criterion_id: str
    at_ms: int
    outcome: str
    cause: str | None
    looked_before_ms: int | None = None


def look_within_ms(every_s: float) -> int:
    """How far apart looks may be that are made every so many seconds, ms."""
    return max(LOOK_WITHIN_MS, round(2000 * every_s))


def blind_ms(
    criteria: Sequence[Criterion], seen: Iterable[Seen], from_ms: int, until_ms: int, round_s: float = 0.0
) -> int:
    """How long, of the watch from `from_ms` to `until_ms`, at least one critical guard criterion was not seen, ms.

    `seen` oldest first, with the last of each criterion before `from_ms` where there is one. Where two are blind at the
    same time it counts once. Criteria with a window are left out: one gap makes them UNKNOWN for long after it is over.
    `round_s`: the interval of the plan, which none is looked at more often than.
    """
    spans = _spans(criteria, seen, from_ms, until_ms, round_s)
    return _length((span for own in spans.values() for span in own), from_ms, until_ms)


def blindest(
    criteria: Sequence[Criterion], seen: Iterable[Seen], from_ms: int, until_ms: int, round_s: float = 0.0
) -> tuple[str, int]:
    """Which criterion was unseen the longest, and for how many ms: where people look first. ("", 0) where none was."""
    spans = _spans(criteria, seen, from_ms, until_ms, round_s)
    own = [(_length(one, from_ms, until_ms), name) for name, one in spans.items()]
    longest_ms, name = max(own, default=(0, ""), key=lambda one: one[0])
    return (name, longest_ms) if longest_ms else ("", 0)


def _spans(
    criteria: Sequence[Criterion], seen: Iterable[Seen], from_ms: int, until_ms: int, round_s: float
) -> dict[str, list[tuple[int, int]]]:
    """From and to, ms, of each criterion that counts."""
    told, spans = list(seen), dict[str, list[tuple[int, int]]]()
    for criterion in criteria:
        if criterion.phase == "guard" and criterion.severity == "critical" and not criterion.windowed:
            own = [one for one in told if one.criterion_id == criterion.id]
            within_ms = look_within_ms(max(criterion.every_s, round_s))
            spans[criterion.id] = _unseen(own, from_ms, until_ms, within_ms)
    return spans


def _unseen(seen: Sequence[Seen], from_ms: int, until_ms: int, within_ms: int) -> list[tuple[int, int]]:
    if not seen:
        return [(from_ms, until_ms)]
    spans = [(from_ms, seen[0].at_ms)] if seen[0].at_ms - from_ms > within_ms else []  # a first look is always kept
    newest = seen[-1]
    looked_last_ms = newest.at_ms if newest.looked_before_ms == newest.at_ms else None
    ends = [*seen, Seen("", max(until_ms, newest.at_ms), "", None, looked_last_ms)]
    for one, following in pairwise(ends):
        looked_ms = following.looked_before_ms
        if _is_blind(one):
            spans.append((one.at_ms, following.at_ms))
        elif looked_ms is None:
            if following.at_ms - one.at_ms > MINUTE_MS + within_ms:
                spans.append((one.at_ms, following.at_ms))
        elif following.at_ms - max(looked_ms, one.at_ms) > within_ms:
            spans.append((max(looked_ms, one.at_ms), following.at_ms))
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
