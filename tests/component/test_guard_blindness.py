"""The end of a watch at the guard: what nobody saw prolongs it once and a little, then parks it; downtime does not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from gates.course import Step
from gates.judge import Cause, Outcome
from gates.stages import load_plan
from tasks.guard import watching
from tasks.guard.keeping import Kept, Worth, measurement_row, storing
from tasks.guard.state import Active, GuardState
from tasks.guard.watching import _course_of
from tasks.record_tables import utc_now
from tests.support.gate_parts import measured
from tests.support.guard_parts import PLAN, activate, guard_at, never_close, value_of, writing

LASTS_S = load_plan(PLAN).stage("canary").lasts_s
ALLOWED_S = LASTS_S * float(load_plan(PLAN).blind_share)


@pytest.fixture(autouse=True)
def _never_close(monkeypatch: pytest.MonkeyPatch) -> None:
    never_close(monkeypatch)


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _watched(home: Path, blind: Sequence[tuple[float, float]], cause: Cause = Cause.STALE) -> tuple[GuardState, Active]:
    """A guard whose watch has just ended; `blind`: spans of it, seconds from its begin, of which nothing was told."""
    begun = utc_now() - timedelta(seconds=LASTS_S)
    times = {"launched_at": begun, "watch_from": begun, "watch_until": begun + timedelta(seconds=LASTS_S)}
    guard = guard_at(home, "watch", **times)
    active = activate(guard)
    _tell(guard, active, blind, cause)
    return guard, active


def _tell(guard: GuardState, active: Active, blind: Sequence[tuple[float, float]], cause: Cause = Cause.STALE) -> None:
    begun_ms = _ms(active.row.watch_from or utc_now())
    guards = [one for one in active.criteria if one.phase == "guard"]
    for one in guards:
        good = value_of(one, Outcome.PASS)
        looks = [measured(one, good, begun_ms)]
        for from_s, until_s in blind:
            looks.append(measured(one, cause, begun_ms + round(1000 * from_s)))
            looks.append(measured(one, good, begun_ms + round(1000 * until_s)))
        guard.store.record.store_measurements([measurement_row(active.id, Worth(one, look)) for look in looks], [])


def _turn(guard: GuardState, active: Active) -> None:
    async def run() -> None:
        async with writing(guard):
            await _course_of(guard, active)
            await guard.store.settled()

    asyncio.run(run())


def test_a_watch_that_was_seen_ends_when_its_time_is_over(tmp_path: Path) -> None:
    guard, active = _watched(tmp_path, [])
    _turn(guard, active)
    assert active.step is Step.WATCHED


def test_blind_time_prolongs_the_watch_by_itself_once_and_is_told_and_recorded(tmp_path: Path) -> None:
    guard, active = _watched(tmp_path, [(2, 3), (4, 5.5)])
    was = active.row.watch_until
    assert was is not None
    _turn(guard, active)
    assert active.step is Step.WATCH
    assert active.row.watch_until == was + timedelta(seconds=2.5)
    stored = guard.store.record.stage_run(1)
    assert stored.watch_until == active.row.watch_until, "a guard that comes back goes on with it"
    (told,) = [one.text for one in guard.store.record.notices("a") if one.kind == "hold"]
    assert "2.5 s of the watch were not seen (the longest: process_up, 2.5 s), prolonged once by 2.500 s" in told
    assert "prolonged" in [one.kind for one in guard.store.record.entries("a")]


def test_it_is_prolonged_by_no_more_than_its_share_and_then_parked_with_the_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard, active = _watched(tmp_path, [(0, ALLOWED_S + 1)])
    was = active.row.watch_until
    assert was is not None
    monkeypatch.setattr(watching, "utc_now", lambda: was)  # its time is over to the moment, and no further

    async def run() -> None:
        async with writing(guard):
            await _course_of(guard, active)
            assert active.step is Step.WATCH
            assert active.row.watch_until == was + timedelta(seconds=ALLOWED_S)
            await _course_of(guard, active)
            assert active.step is Step.WATCH, "its time is not over yet"
            monkeypatch.setattr(watching, "utc_now", utc_now)
            active.row.watch_until = utc_now() - timedelta(milliseconds=1)
            active.row.watch_from = active.row.watch_until - timedelta(seconds=LASTS_S + ALLOWED_S)
            await asyncio.to_thread(_tell, guard, active, [(0, ALLOWED_S + 1)])
            await _course_of(guard, active)
            await guard.store.settled()

    asyncio.run(run())
    decided = active.decision
    assert active.step is Step.ROLLING_BACK
    assert decided is not None
    assert (decided.reason, decided.criterion_id) == ("environment", "blind")
    assert decided.value is not None
    assert float(decided.value) >= ALLOWED_S + 1
    assert f"of {LASTS_S:g} s unseen" in decided.limit


def test_a_look_that_is_written_after_a_later_one_was_made_all_the_same(tmp_path: Path) -> None:
    begun = utc_now() - timedelta(seconds=120)
    guard = guard_at(tmp_path, "watch", launched_at=begun, watch_from=begun, watch_until=begun + timedelta(seconds=120))
    active = activate(guard)
    for at_s in (0, 110, 55):  # a verdict's are written before the watch's own, which wait for their turn
        rows = [
            measurement_row(active.id, Worth(one, measured(one, value_of(one, Outcome.PASS), _ms(begun) + 1000 * at_s)))
            for one in active.criteria
            if one.phase == "guard"
        ]
        guard.store.record.store_measurements(rows, [])
    _turn(guard, active)
    assert active.step is Step.WATCHED


def test_the_last_minute_of_a_watch_that_nobody_measured_is_not_seen(tmp_path: Path) -> None:
    begun = utc_now() - timedelta(seconds=LASTS_S + 30)
    until = begun + timedelta(seconds=LASTS_S)
    guard = guard_at(tmp_path, "watch", launched_at=begun, watch_from=begun, watch_until=until)
    active = activate(guard)
    guards, kept = [one for one in active.criteria if one.phase == "guard"], Kept()
    for at_s in range(5):  # then the machine slept, and woke when the time was over
        looks = [(one, measured(one, value_of(one, Outcome.PASS), _ms(begun) + 1000 * at_s)) for one in guards]
        storing(guard, active, looks, kept)()
    _turn(guard, active)
    assert active.step is Step.WATCH
    (told,) = [one.text for one in guard.store.record.notices("a") if one.kind == "hold"]
    assert "s of the watch were not seen" in told


def test_what_the_candidate_itself_left_unsaid_prolongs_nothing(tmp_path: Path) -> None:
    guard, active = _watched(tmp_path, [(0, ALLOWED_S + 1)], Cause.NO_DATA)
    _turn(guard, active)
    assert active.step is Step.WATCHED
