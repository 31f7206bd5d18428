"""Decisions: for how long, who was first, and whose fault it is."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gates.criteria import Criterion
from gates.decision import (
    Action,
    GuardHistory,
    SignOffEnd,
    decide_final,
    decide_guard,
    decide_sign_off,
    decide_unrecorded,
)
from gates.judge import Cause, Outcome, verdict
from gates.stages import ROOT, load_plan, stage_criteria
from tests.support.gate_parts import AT_MS, criterion, measured

BAD = 2000
Round = dict[str, Decimal | int | Cause]


def _history(criteria: list[Criterion], *rounds: Round) -> GuardHistory:
    """One round a second from AT_MS on."""
    history = GuardHistory(AT_MS)
    by_id = {one.id: one for one in criteria}
    for second, values in enumerate(rounds):
        at_ms = AT_MS + second * 1000
        history = history.after(measured(by_id[name], value, at_ms) for name, value in values.items())
    return history


def test_a_fail_with_no_for_rolls_back_at_once_with_the_number_that_decided() -> None:
    asked = [criterion("pnl")]
    found = decide_guard(asked, _history(asked, {"pnl": 1}, {"pnl": BAD}), AT_MS + 1000)
    assert (found.action, found.reason, found.criterion_id) == (Action.ROLL_BACK, "candidate", "pnl")
    assert (found.value, found.limit, found.breached_at_ms) == (BAD, "go < 500, no-go > 1000", AT_MS + 1000)


def test_a_fail_must_last_for_s_and_be_seen_to_last() -> None:
    asked = [criterion("pnl", for_s=2)]
    rounds: list[Round] = [{"pnl": BAD}, {"pnl": BAD}]
    assert decide_guard(asked, _history(asked, *rounds), AT_MS + 5000).action is Action.CONTINUE
    found = decide_guard(asked, _history(asked, *rounds, {"pnl": BAD}), AT_MS + 2000)
    assert (found.action, found.breached_at_ms) == (Action.ROLL_BACK, AT_MS + 2000)


def test_a_pass_in_between_begins_the_for_again_and_an_unknown_does_not() -> None:
    asked = [criterion("pnl", for_s=2)]
    healed = _history(asked, {"pnl": BAD}, {"pnl": 1}, {"pnl": BAD})
    assert decide_guard(asked, healed, AT_MS + 2000).action is Action.CONTINUE
    hidden = _history(asked, {"pnl": BAD}, {"pnl": Cause.STALE}, {"pnl": BAD})
    assert decide_guard(asked, hidden, AT_MS + 2000).action is Action.ROLL_BACK


HOUR_MS = 3_600_000


@pytest.mark.parametrize(("value", "action"), [(BAD, Action.ROLL_BACK), (Cause.STALE, Action.PARK)])
def test_a_clock_that_is_set_back_delays_no_end(value: int | Cause, action: Action) -> None:
    """By an hour in the middle of it: what lasts has lasted, whatever the clock says now."""
    asked = [criterion("pnl", for_s=2, unknown_deadline_s=4)]
    history = _history(asked, {"pnl": 1})
    at_ms = AT_MS
    for second in range(1, 7):
        at_ms = AT_MS + second * 1000 - (HOUR_MS if second > 2 else 0)
        history = history.after([measured(asked[0], value, at_ms)])
    found = decide_guard(asked, history, at_ms)
    assert found.action is action
    assert found.breached_at_ms is not None
    assert abs(at_ms - found.breached_at_ms) < 10_000, "told by the clock as it is now"


def test_looks_that_come_in_another_order_by_a_moment_make_nothing_longer() -> None:
    asked = [criterion("pnl", for_s=2)]
    history = GuardHistory(AT_MS)
    for at_ms in (AT_MS + 1500, AT_MS + 700, AT_MS + 1600, AT_MS + 800, AT_MS + 1700):
        history = history.after([measured(asked[0], BAD, at_ms)])
    assert decide_guard(asked, history, AT_MS + 1700).action is Action.CONTINUE


SECONDS = range(0, 25_000, 1000)
LATE_MS = 8000
"""A look whose reading took so long to be written and counted, while others came."""


@pytest.mark.parametrize("value", [BAD, Cause.STALE])
def test_a_look_that_comes_late_makes_nothing_that_lasts_longer(value: int | Cause) -> None:
    """It is dated long before the last one, and no clock was set back: the last one is not of the future."""
    asked = [criterion("pnl", for_s=30, unknown_deadline_s=30)]
    history = GuardHistory(AT_MS).after([measured(asked[0], 1, AT_MS - 1000)])
    history = history.after(measured(asked[0], value, AT_MS + ms) for ms in SECONDS)
    at_ms = AT_MS + SECONDS[-1]
    history = history.after([measured(asked[0], value, at_ms - LATE_MS)], at_ms)
    for _ in range(5):
        assert decide_guard(asked, history, at_ms).action is Action.CONTINUE, f"after {at_ms - AT_MS} ms"
        history, at_ms = history.after([measured(asked[0], value, at_ms + 1000)], at_ms + 1000), at_ms + 1000
    history = history.after([measured(asked[0], value, AT_MS + 30_000)], AT_MS + 30_000)
    assert decide_guard(asked, history, AT_MS + 30_000).action is not Action.CONTINUE, "nor does it last shorter"


def test_a_late_look_that_fails_begins_no_streak_before_the_last_look_that_passed() -> None:
    asked = [criterion("pnl", for_s=10)]
    history = GuardHistory(AT_MS).after([measured(asked[0], 1, AT_MS)])
    history = history.after([measured(asked[0], BAD, AT_MS - LATE_MS)], AT_MS)
    at_ms = AT_MS + 9000
    history = history.after([measured(asked[0], BAD, at_ms)], at_ms)
    assert decide_guard(asked, history, at_ms).action is Action.CONTINUE
    at_ms = AT_MS + 10_000
    assert decide_guard(asked, history.after([measured(asked[0], BAD, at_ms)], at_ms), at_ms).action is Action.ROLL_BACK


def test_a_late_look_that_fails_with_no_for_rolls_back_all_the_same() -> None:
    """Nobody else may have seen it: what passes now has not always passed."""
    asked = [criterion("pnl")]
    history = GuardHistory(AT_MS).after([measured(asked[0], 1, AT_MS)])
    found = decide_guard(asked, history.after([measured(asked[0], BAD, AT_MS - LATE_MS)], AT_MS), AT_MS)
    assert (found.action, found.value) == (Action.ROLL_BACK, BAD)


def test_a_late_look_that_passed_ends_no_fail_that_was_seen_after_it() -> None:
    """It says nothing of what came later: the breach comes when it would have come without it."""
    asked = [criterion("pnl", for_s=10)]
    history = GuardHistory(AT_MS).after([measured(asked[0], 1, AT_MS - 1000)])
    history = history.after(measured(asked[0], BAD, AT_MS + ms) for ms in range(1000, 9000, 1000))
    history = history.after([measured(asked[0], 1, AT_MS)], AT_MS + 8000)
    for at_ms, action in ((AT_MS + 10_000, Action.CONTINUE), (AT_MS + 11_000, Action.ROLL_BACK)):
        history = history.after([measured(asked[0], BAD, at_ms)], at_ms)
        assert decide_guard(asked, history, at_ms).action is action


def test_a_late_look_that_passed_shortens_a_fail_to_what_came_after_it() -> None:
    asked = [criterion("pnl", for_s=10)]
    history = GuardHistory(AT_MS).after(measured(asked[0], BAD, AT_MS + ms) for ms in range(0, 9000, 1000))
    history = history.after([measured(asked[0], 1, AT_MS + 4500)], AT_MS + 8000)
    for at_ms, action in ((AT_MS + 14_000, Action.CONTINUE), (AT_MS + 14_500, Action.ROLL_BACK)):
        history = history.after([measured(asked[0], BAD, at_ms)], at_ms)
        assert decide_guard(asked, history, at_ms).action is action


@pytest.mark.parametrize("value", [1, BAD])
def test_a_late_look_that_was_known_ends_no_blindness_that_came_after_it(value: int) -> None:
    asked = [criterion("pnl", for_s=60, unknown_deadline_s=10)]
    history = GuardHistory(AT_MS).after([measured(asked[0], 1, AT_MS - 1000)])
    history = history.after(measured(asked[0], Cause.STALE, AT_MS + ms) for ms in range(1000, 9000, 1000))
    history = history.after([measured(asked[0], value, AT_MS)], AT_MS + 8000)
    for at_ms, action in ((AT_MS + 10_000, Action.CONTINUE), (AT_MS + 11_000, Action.PARK)):
        history = history.after([measured(asked[0], Cause.STALE, at_ms)], at_ms)
        assert decide_guard(asked, history, at_ms).action is action


def test_a_late_look_that_was_known_ends_the_blindness_before_it_and_counts_it() -> None:
    asked = [criterion("pnl", unknown_deadline_s=30)]
    history = GuardHistory(AT_MS).after([measured(asked[0], 1, AT_MS - 1000)])
    history = history.after(measured(asked[0], Cause.STALE, AT_MS + ms) for ms in range(0, 9000, 1000))
    history = history.after([measured(asked[0], 1, AT_MS + 4500)], AT_MS + 8000)
    assert (history.streaks["pnl"].unknown_since_ms, history.blind_ms("pnl")) == (AT_MS + 4500, 4500)
    history = history.after([measured(asked[0], 1, AT_MS + 9000)])
    assert history.blind_ms("pnl") == 9000


def test_a_late_look_that_saw_nothing_takes_nothing_from_what_was_seen_after_it() -> None:
    asked = [criterion("pnl", for_s=5)]
    history = GuardHistory(AT_MS).after(measured(asked[0], BAD, AT_MS + ms) for ms in range(0, 6000, 1000))
    history = history.after([measured(asked[0], Cause.STALE, AT_MS - LATE_MS)], AT_MS + 5000)
    assert decide_guard(asked, history, AT_MS + 5000).action is Action.ROLL_BACK


@pytest.mark.parametrize("value", [BAD, Cause.STALE])
@pytest.mark.parametrize("is_first", [False, True])
def test_a_look_from_before_the_clock_was_set_back_that_comes_after_it_lasts_no_hour(
    value: int | Cause, is_first: bool
) -> None:
    """It is of the future by the clock as it is now, and no look after it sets the clock back once more."""
    asked = [criterion("pnl", for_s=30, unknown_deadline_s=30)]
    history = GuardHistory(AT_MS - 2 * HOUR_MS)
    if not is_first:
        history = history.after([measured(asked[0], 1, AT_MS - 1000), measured(asked[0], value, AT_MS)])
    at_ms = AT_MS + 1000 - HOUR_MS
    history = history.after([measured(asked[0], value, AT_MS)], at_ms)
    for _ in range(20):
        at_ms += 1000
        history = history.after([measured(asked[0], value, at_ms)], at_ms)
        assert history.streaks["pnl"].last.at_ms == at_ms
        if not (is_first and value is Cause.STALE):  # what was never known goes by the launch
            assert decide_guard(asked, history, at_ms).action is Action.CONTINUE
    since_ms = history.streaks["pnl"].fail_since_ms or history.streaks["pnl"].unknown_since_ms
    assert since_ms is not None
    assert 20_000 <= at_ms - since_ms <= 22_000


def test_a_clock_that_is_set_back_is_told_from_a_look_that_comes_late_by_what_it_says_now() -> None:
    asked = [criterion("pnl", for_s=30)]
    history = GuardHistory(AT_MS).after(measured(asked[0], BAD, AT_MS + ms) for ms in SECONDS)
    at_ms = AT_MS + SECONDS[-1] - HOUR_MS
    history = history.after([measured(asked[0], BAD, at_ms)], at_ms)
    assert decide_guard(asked, history, at_ms).action is Action.CONTINUE
    at_ms += 6000
    history = history.after([measured(asked[0], BAD, at_ms)], at_ms)
    assert decide_guard(asked, history, at_ms).action is Action.ROLL_BACK


def test_a_fault_of_the_environment_parks() -> None:
    asked = [criterion("stale_book", on_no_go="environment")]
    found = decide_guard(asked, _history(asked, {"stale_book": BAD}), AT_MS)
    assert (found.action, found.reason) == (Action.PARK, "environment")


@pytest.mark.parametrize(
    ("cause", "action", "reason"),
    [
        (Cause.SOURCE_UNREACHABLE, Action.PARK, "environment"),
        (Cause.SOURCE_ERROR, Action.PARK, "environment"),
        (Cause.STALE, Action.PARK, "environment"),
        (Cause.NOT_FINITE, Action.PARK, "environment"),
        (Cause.SEVERAL_SERIES, Action.PARK, "environment"),
        (Cause.PARTIAL_WINDOW, Action.PARK, "environment"),
        (Cause.NO_DATA, Action.ROLL_BACK, "candidate"),
    ],
)
def test_an_unknown_past_its_deadline_ends_by_its_cause(cause: Cause, action: Action, reason: str) -> None:
    asked = [criterion("pnl", unknown_deadline_s=10)]
    history = _history(asked, {"pnl": 1}, {"pnl": cause})
    assert decide_guard(asked, history, AT_MS + 10_999).action is Action.CONTINUE
    found = decide_guard(asked, history, AT_MS + 11_000)
    assert (found.action, found.reason, found.breached_at_ms) == (action, reason, AT_MS + 11_000)
    assert found.limit == "known within 10 s"


def test_no_data_about_the_environment_past_its_deadline_parks() -> None:
    asked = [criterion("stale_book", unknown_deadline_s=10, on_no_go="environment")]
    history = _history(asked, {"stale_book": 1}, {"stale_book": Cause.NO_DATA})
    found = decide_guard(asked, history, AT_MS + 11_000)
    assert (found.action, found.reason) == (Action.PARK, "environment")


def test_a_bot_whose_exporter_is_silent_is_the_candidates_whatever_else_has_no_data() -> None:
    asked = list(stage_criteria(load_plan(ROOT / "configs" / "rollout.smoke.yaml"), "canary"))
    guards = [one for one in asked if one.phase == "guard" and one.severity == "critical"]
    silent = [one for one in guards if one.source == "promql"]
    assert {one.on_no_go for one in silent} == {"candidate", "environment"}
    history = GuardHistory(AT_MS)
    for second in range(120):
        at_ms = AT_MS + second * 1000
        seen = [measured(one, Cause.NO_DATA, at_ms) for one in silent if second]
        history = history.after([*seen, *(measured(one, _good(one), at_ms) for one in guards if one not in silent)])
    found = decide_guard(asked, history, AT_MS + 119_000)
    assert (found.action, found.reason) == (Action.ROLL_BACK, "candidate")


def _good(one: Criterion) -> int:
    return next(value for value in (0, 1, 60, 1000) if measured(one, value).outcome is Outcome.PASS)


def test_what_is_not_measured_at_all_is_blindness_too() -> None:
    asked = [criterion("pnl", unknown_deadline_s=10)]
    assert decide_guard(asked, GuardHistory(AT_MS), AT_MS + 19_999).action is Action.CONTINUE
    assert decide_guard(asked, GuardHistory(AT_MS), AT_MS + 20_000).reason == "environment"
    once = _history(asked, {"pnl": 1})
    assert decide_guard(asked, once, AT_MS + 10_000).sentence.startswith("pnl UNKNOWN for 10.0 s (not measured since)")


def test_where_we_were_blind_no_single_gate_is_named_and_all_that_were_unseen_are_listed() -> None:
    asked = [criterion("pnl", unknown_deadline_s=10), criterion("uptime", unknown_deadline_s=10)]
    gone = {"pnl": Cause.SOURCE_UNREACHABLE, "uptime": Cause.SOURCE_UNREACHABLE}
    found = decide_guard(asked, _history(asked, {"pnl": 1, "uptime": 1}, gone), AT_MS + 11_000)
    assert (found.criterion_id, found.value, found.limit) == ("blind", 10, "known within 10 s")
    assert found.others == ("pnl", "uptime")


def test_what_was_never_known_since_the_launch_has_ten_seconds_more_and_no_longer() -> None:
    asked = [criterion("pnl", unknown_deadline_s=10)]
    history = _history(asked, {"pnl": Cause.STALE}, {"pnl": Cause.STALE})
    assert decide_guard(asked, history, AT_MS + 19_999).action is Action.CONTINUE
    found = decide_guard(asked, history, AT_MS + 20_000)
    assert (found.action, found.limit, found.breached_at_ms) == (Action.PARK, "known within 20 s", AT_MS + 20_000)


def test_a_guard_that_came_back_looks_once_before_it_calls_anything_unseen() -> None:
    asked = [criterion("pnl", unknown_deadline_s=10)]
    back_at_ms = AT_MS + 60_000
    away = replace(_history(asked, {"pnl": 1}), resumed_at_ms=back_at_ms)
    assert decide_guard(asked, away, back_at_ms + 9_999).action is Action.CONTINUE
    assert decide_guard(asked, away, back_at_ms + 10_000).reason == "environment", "it has not looked in time"
    looked = away.after([measured(asked[0], 1, back_at_ms + 500)])
    assert decide_guard(asked, looked, back_at_ms + 10_000).action is Action.CONTINUE


def test_what_the_guard_before_it_could_not_see_either_is_not_forgiven_once_it_has_looked() -> None:
    asked = [criterion("pnl", unknown_deadline_s=10)]
    blind = _history(asked, {"pnl": 1}, {"pnl": Cause.SOURCE_UNREACHABLE})
    back = replace(blind, resumed_at_ms=AT_MS + 15_000)
    assert decide_guard(asked, back, AT_MS + 15_100).action is Action.CONTINUE
    looked = back.after([measured(asked[0], Cause.SOURCE_UNREACHABLE, AT_MS + 15_500)])
    found = decide_guard(asked, looked, AT_MS + 15_500)
    assert (found.reason, found.breached_at_ms) == ("environment", AT_MS + 11_000)


def test_a_guard_that_comes_back_again_and_again_puts_no_decision_off_for_more_than_ten_minutes() -> None:
    asked = [criterion("pnl", unknown_deadline_s=10)]
    once = _history(asked, {"pnl": 1})
    late_ms = AT_MS + 600_000
    assert decide_guard(asked, replace(once, resumed_at_ms=late_ms - 1), late_ms - 1).action is Action.CONTINUE
    assert decide_guard(asked, replace(once, resumed_at_ms=late_ms), late_ms).reason == "environment"


def test_a_record_that_takes_nothing_for_the_shortest_deadline_parks() -> None:
    asked = [
        criterion("slow", unknown_deadline_s=60),
        criterion("pnl", unknown_deadline_s=10),
        criterion("shown", unknown_deadline_s=1, severity="advisory"),
        criterion("last", unknown_deadline_s=1, phase="final"),
    ]
    assert decide_unrecorded(asked, 9.9, AT_MS).action is Action.CONTINUE
    found = decide_unrecorded(asked, 12.5, AT_MS)
    assert (found.action, found.reason, found.criterion_id) == (Action.PARK, "environment", "blind")
    assert (found.value, found.limit, found.breached_at_ms) == (Decimal("12.5"), "known within 10 s", AT_MS - 2500)


def _blinking(asked: Criterion, slices: int, lasts_s: float) -> GuardHistory:
    """Known, then `slices` times UNKNOWN for two seconds and known for one."""
    rounds = [1, *[Cause.STALE, Cause.STALE, 1] * slices]
    return replace(_history([asked], *({asked.id: value} for value in rounds)), lasts_s=lasts_s)


def test_blindness_in_slices_parks_past_the_deadline_or_a_twentieth_of_the_stage_whichever_is_longer() -> None:
    asked = criterion("pnl", unknown_deadline_s=10)
    enough = AT_MS + 60_000
    now_ms = AT_MS + 18_000
    assert decide_guard([asked], _blinking(asked, 5, lasts_s=15), AT_MS + 15_000).action is Action.CONTINUE
    found = decide_guard([asked], _blinking(asked, 6, lasts_s=15), now_ms)
    assert (found.action, found.reason, found.criterion_id) == (Action.PARK, "environment", "blind")
    assert (found.value, found.limit, found.others) == (12, "UNKNOWN for at most 10 s in all", ("pnl",))
    assert found.sentence.startswith("blind in slices: pnl UNKNOWN for 12.0 s in all")
    assert decide_guard([asked], _blinking(asked, 6, lasts_s=240), now_ms).action is Action.CONTINUE
    earlier = replace(_blinking(asked, 3, lasts_s=240), blind_before_ms={"pnl": 6001})
    found = decide_guard([asked], earlier, AT_MS + 9_000)
    assert found.limit == "UNKNOWN for at most 12 s in all", "what an earlier guard could not see counts"
    shown = criterion("pnl", unknown_deadline_s=10, severity="advisory")
    assert decide_guard([shown], _blinking(shown, 9, lasts_s=15), enough).action is Action.CONTINUE


def test_what_was_never_known_and_the_slice_that_goes_on_have_deadlines_of_their_own() -> None:
    asked = criterion("pnl", unknown_deadline_s=10)
    never = _history([asked], *({"pnl": Cause.STALE} for _ in range(9)), {"pnl": 1})
    assert never.blind_ms("pnl") == 0
    going_on = _history([asked], {"pnl": 1}, {"pnl": Cause.STALE}, {"pnl": BAD}, {"pnl": Cause.STALE})
    assert going_on.blind_ms("pnl") == 1_000


def test_an_inconclusive_value_is_known_and_goes_on() -> None:
    asked = [criterion("pnl")]
    assert decide_guard(asked, _history(asked, {"pnl": 700}), AT_MS).action is Action.CONTINUE


def test_the_first_breached_decides_and_the_others_are_listed() -> None:
    asked = [criterion("first"), criterion("second"), criterion("third", for_s=1)]
    history = _history(asked, {"first": 1, "second": 1, "third": BAD}, {"first": BAD, "second": BAD, "third": BAD})
    found = decide_guard(asked, history, AT_MS + 1000)
    assert (found.criterion_id, found.others) == ("first", ("second", "third"))
    slow = _history(asked, {"first": 1, "second": BAD, "third": 1}, {"first": BAD, "second": BAD, "third": 1})
    found = decide_guard(asked, slow, AT_MS + 1000)
    assert (found.criterion_id, found.others, found.breached_at_ms) == ("second", ("first",), AT_MS)


def test_advisory_and_other_phases_decide_nothing() -> None:
    asked = [criterion("shown", severity="advisory"), criterion("last", phase="final")]
    history = _history(asked, {"shown": BAD, "last": BAD})
    assert decide_guard(asked, history, AT_MS + 100_000).action is Action.CONTINUE


def test_a_stall_parks_where_the_bot_froze_and_rolls_back_where_it_did_not() -> None:
    asked = [
        criterion("quotes_on_stale_book", go="<= 500", no_go=None),
        criterion("stale_book", go="<= 1000", no_go=None, on_no_go="environment"),
    ]
    froze = _history(asked, {"quotes_on_stale_book": 0, "stale_book": 1001})
    assert decide_guard(asked, froze, AT_MS).reason == "environment"
    stood = _history(asked, {"quotes_on_stale_book": 1001, "stale_book": 1001})
    found = decide_guard(asked, stood, AT_MS)
    assert (found.action, found.reason, found.others) == (Action.ROLL_BACK, "candidate", ("stale_book",))


@given(st.lists(st.sampled_from([1, 700, *Cause]), max_size=20))
def test_without_a_fail_or_a_passed_deadline_the_guard_never_ends_anything(values: list[int | Cause]) -> None:
    asked = [criterion("pnl", unknown_deadline_s=60)]
    history = _history(asked, *({"pnl": value} for value in values))
    assert decide_guard(asked, history, AT_MS + len(values) * 1000).action is Action.CONTINUE


@given(st.lists(st.sampled_from([1, BAD, Cause.STALE]), max_size=20))
def test_a_last_measurement_that_fails_always_ends_it(values: list[int | Cause]) -> None:
    asked = [criterion("pnl")]
    history = _history(asked, *({"pnl": value} for value in [*values, BAD]))
    assert decide_guard(asked, history, AT_MS + len(values) * 1000).action is Action.ROLL_BACK


def test_a_final_verdict_goes_on_prolongs_once_parks_or_rolls_back() -> None:
    asked = [criterion("pnl", phase="final")]

    def decided(value: int | Cause, prolonged: bool) -> tuple[Action, str | None]:
        found = decide_final(verdict(asked, [measured(asked[0], value)]), prolonged, AT_MS)
        return found.action, found.reason

    assert decided(1, False) == (Action.CONTINUE, None)
    assert decided(700, False) == (Action.PROLONG, None)
    assert decided(700, True) == (Action.PARK, "environment")
    assert decided(Cause.STALE, True) == (Action.PARK, "environment")
    assert decided(BAD, False) == (Action.ROLL_BACK, "candidate")
    assert decide_final(verdict([], []), True, AT_MS).action is Action.PARK


def test_people_park_unless_their_no_go_names_the_candidate() -> None:
    ends = {end: decide_sign_off(end, "exit", AT_MS) for end in SignOffEnd}
    assert ends[SignOffEnd.EXPIRED].action is Action.PARK
    assert ends[SignOffEnd.NO_GO].action is Action.PARK
    assert ends[SignOffEnd.NO_GO_CANDIDATE].action is Action.ROLL_BACK
    assert {found.reason for found in ends.values()} == {"people"}
