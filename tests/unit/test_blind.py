"""Time that counts: what nobody saw is made up for once and a little, what the candidate left unsaid never is."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gates.blind import LOOK_WITHIN_MS, MINUTE_MS, Seen, blind_ms, blindest, decide_watched
from gates.decision import BLIND, Action
from gates.judge import Cause
from tests.support.gate_parts import criterion

BOTH = [criterion("first"), criterion("second")]
KEPT_WITHIN_MS = MINUTE_MS + LOOK_WITHIN_MS
S = 1000
DAY_S = 86_400.0
FIVE = Decimal("0.05")


def passes(name: str, at_ms: int) -> Seen:
    return Seen(name, at_ms, "PASS", None)


def unknown(name: str, at_ms: int, cause: Cause = Cause.SOURCE_UNREACHABLE) -> Seen:
    return Seen(name, at_ms, "UNKNOWN", cause.value)


def watched(*extra: Seen, until_s: int = 60) -> int:
    """Blind ms of a watch in which both were seen at its begin, and then `extra`."""
    told = [passes("first", 0), passes("second", 0), *extra]
    return blind_ms(BOTH, told, 0, until_s * S)


def test_a_watch_that_was_seen_throughout_has_no_blind_time() -> None:
    assert watched() == 0
    assert watched(Seen("first", 5 * S, "FAIL", None), Seen("first", 6 * S, "INCONCLUSIVE", None)) == 0


def test_what_a_source_did_not_tell_counts_until_it_tells_again() -> None:
    assert watched(unknown("first", 10 * S), passes("first", 17 * S)) == 7 * S
    assert watched(unknown("first", 10 * S)) == 50 * S, "to the end of the watch"


def test_two_that_are_blind_together_count_once_and_one_after_the_other_twice() -> None:
    told = [unknown("first", 10 * S), unknown("second", 12 * S), passes("first", 14 * S), passes("second", 20 * S)]
    assert watched(*told) == 10 * S
    told = [unknown("first", 10 * S), passes("first", 14 * S), unknown("second", 20 * S), passes("second", 23 * S)]
    assert watched(*told) == 7 * S


def test_the_criterion_that_was_unseen_the_longest_is_named() -> None:
    told = [passes("first", 0), passes("second", 0)]
    assert blindest(BOTH, told, 0, 60 * S) == ("", 0)
    told += [unknown("first", 10 * S), unknown("second", 12 * S), passes("first", 14 * S), passes("second", 20 * S)]
    assert blindest(BOTH, told, 0, 60 * S) == ("second", 8 * S)
    found = decide_watched(10 * S, 60.0, FIVE, 3.0, 1, ("second", 8 * S))
    assert found.sentence == "10 s of the watch were not seen (the longest: second, 8 s)"


def test_what_the_candidates_own_process_left_unsaid_is_downtime_and_not_made_up_for() -> None:
    assert watched(unknown("first", 10 * S, Cause.NO_DATA), passes("first", 40 * S)) == 0
    one_after_the_other = [
        unknown("first", 10 * S, Cause.NO_DATA),
        unknown("first", 20 * S, Cause.STALE),
        passes("first", 25 * S),
    ]
    assert watched(*one_after_the_other) == 5 * S, "of one silence each part by its own cause"


def test_only_the_watch_counts() -> None:
    told = [passes("second", 0), unknown("first", 0), passes("first", 30 * S)]
    assert blind_ms(BOTH, told, 20 * S, 60 * S) == 10 * S
    assert blind_ms(BOTH, told, 30 * S, 60 * S) == 0


def test_where_nobody_measured_nobody_saw() -> None:
    assert blind_ms(BOTH, [passes("first", 0)], 0, 60 * S) == 60 * S, "the second was never measured"
    away = [passes(name, at) for name in ("first", "second") for at in (0, KEPT_WITHIN_MS + 1)]
    assert blind_ms(BOTH, away, 0, KEPT_WITHIN_MS + 1) == KEPT_WITHIN_MS + 1
    kept = [passes(name, at * 60 * S) for name in ("first", "second") for at in range(60)]
    assert blind_ms(BOTH, kept, 0, 3600 * S) == 0, "once a minute is how often what does not change is kept"


def late(name: str, at_s: int, looked_before_s: int) -> Seen:
    return Seen(name, at_s * S, "PASS", None, looked_before_s * S)


def test_a_row_that_comes_late_is_not_blind_where_it_was_looked_at_all_the_time() -> None:
    told = [passes("first", 0), passes("second", 0), late("first", 100, 95), late("second", 100, 91)]
    assert blind_ms(BOTH, told, 0, 100 * S) == 0


def test_of_a_late_look_only_what_nobody_looked_at_is_blind() -> None:
    assert watched(late("first", 41, 30), late("second", 41, 40)) == 11 * S
    assert watched(late("first", 40, 30)) == 0, "as near as looks may be"
    assert blindest(BOTH, [passes("first", 0), passes("second", 0), late("second", 41, 30)], 0, 50 * S) == (
        ("second", 11 * S)
    )
    told = [passes("first", 0), late("first", 100, 70)]
    assert blind_ms([criterion("first")], told, 0, 100 * S) == 30 * S
    assert blind_ms([criterion("first", every_s=15)], told, 0, 100 * S) == 0
    assert blind_ms([criterion("first")], told, 0, 100 * S, round_s=15) == 0, "the plan looks no more often"


def test_after_the_newest_look_and_before_the_first_nobody_saw_for_as_long_as_it_was() -> None:
    one = [criterion("first")]
    assert blind_ms(one, [passes("first", 0), late("first", 30, 30)], 0, 41 * S) == 11 * S
    assert blind_ms(one, [passes("first", 0), late("first", 30, 30)], 0, 40 * S) == 0, "as near as looks may be"
    assert blind_ms(one, [passes("first", 30 * S)], 0, 40 * S) == 30 * S
    assert blind_ms(one, [passes("first", 9 * S)], 0, 40 * S) == 0


def test_a_look_before_the_row_before_hides_no_time_and_adds_none() -> None:
    out_of_turn = [passes("first", 0), passes("first", 50 * S), late("first", 55, 0)]
    assert blind_ms([criterion("first")], out_of_turn, 0, 55 * S) == 0


def test_what_is_looked_at_seldom_is_kept_as_seldom_and_is_not_blind_for_it() -> None:
    seldom = criterion("seldom", every_s=45)
    told = [passes("seldom", at * S) for at in (0, 90, 180)]  # the look after 45 s is not worth a row
    assert blind_ms([seldom], told, 0, 180 * S) == 0
    assert blind_ms([seldom], [passes("seldom", 0), passes("seldom", 240 * S)], 0, 240 * S) == 240 * S
    assert blind_ms([criterion("often")], [passes("often", at * S) for at in (0, 90, 180)], 0, 180 * S) == 180 * S


def test_advisory_final_and_windowed_criteria_make_nothing_blind() -> None:
    over_a_window = "max(rate(mm_may_quote_seconds_total[$window]))"
    for other in (
        criterion("other", severity="advisory"),
        criterion("other", phase="final"),
        criterion("other", query=over_a_window, window_s=3600),
    ):
        told = [passes("first", 0), unknown("other", 0)]
        assert blind_ms([criterion("first"), other], told, 0, 60 * S) == 0


@given(st.lists(st.tuples(st.sampled_from(["first", "second"]), st.integers(0, 90), st.booleans()), max_size=40))
def test_blind_time_is_never_negative_and_never_more_than_the_watch(told: list[tuple[str, int, bool]]) -> None:
    seen = [unknown(name, at * S) if blind else passes(name, at * S) for name, at, blind in told]
    assert 0 <= blind_ms(BOTH, sorted(seen, key=lambda one: one.at_ms), 10 * S, 60 * S) <= 50 * S


@pytest.mark.parametrize(
    ("unseen_s", "prolonged_s", "action", "value"),
    [
        (0, 0, Action.CONTINUE, None),
        (0.9, 0, Action.CONTINUE, None),  # less than one look
        (60, 0, Action.PROLONG, Decimal(60)),
        (4320, 0, Action.PROLONG, Decimal(4320)),
        (4321, 0, Action.PROLONG, Decimal(4320)),  # at most 5 % of the day
        (17_280, 0, Action.PROLONG, Decimal(4320)),  # 4.8 h
        (60, 60, Action.CONTINUE, None),
        (4320, 4320, Action.CONTINUE, None),
        (4321, 4320, Action.PARK, Decimal(4321)),
        (17_280, 4320, Action.PARK, Decimal(17_280)),
        (4321, 8640, Action.PARK, Decimal(4321)),  # a HOLD has prolonged it: not twice
    ],
)
def test_a_day_is_prolonged_once_by_what_is_missing_and_at_most_by_a_twentieth_and_then_parked(
    unseen_s: float, prolonged_s: float, action: Action, value: Decimal | None
) -> None:
    found = decide_watched(round(unseen_s * 1000), DAY_S, FIVE, prolonged_s, 1)
    assert (found.action, found.value) == (action, value)
    if action is Action.PARK:
        assert (found.reason, found.criterion_id) == ("environment", BLIND)
        assert f"{unseen_s} s of the watch were not seen" in found.sentence
        assert found.limit == "at most 4320 s of 86400 s unseen"
