"""A guard that comes back knows since when what fails has failed: the stored rows tell it the same history."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlmodel import SQLModel

from gates.blind import Seen, blind_ms
from gates.criteria import Criterion
from gates.decision import CONTINUE, Action, GuardHistory, decide_guard
from gates.judge import Cause, Measurement, Outcome, plain
from tasks.guard.history import restored_history, told_again
from tasks.guard.keeping import Kept, Worth, latest_row, measurement_row, store_now, storing
from tasks.guard.state import Active, GuardState
from tasks.record import Record
from tasks.record_engine import open_engine
from tasks.record_tables import Drill, MeasurementLatest, MeasurementRow, Rollout, StageRun, utc_now
from tasks.record_writer import RecordWriter
from tests.support.gate_parts import AT_MS, criterion, measured
from tests.support.guard_parts import activate, guard_at, writing

BACK_AT_MS = AT_MS + 1_000_000
ASKED = criterion("pnl")
VALUES = st.sampled_from([Decimal(1), Decimal(2), Decimal(700), Decimal(2000), Cause.STALE, Cause.SOURCE_ERROR])


def _stored(rounds: list[Measurement], asked: Criterion = ASKED) -> tuple[list[MeasurementRow], MeasurementLatest]:
    """What would stand there of them: rows of the same number are one, written anew."""
    kept, rows = Kept(), dict[int, MeasurementRow]()
    for one in rounds:
        if (worth := kept.worth(1, asked, one)) is not None:
            row = measurement_row(1, worth)
            row.id = row.id or len(rows) + 1
            if worth.shared is not None:
                worth.shared.id = row.id
            rows[row.id] = row
    return list(rows.values()), latest_row(1, asked, rounds[-1], 0)


@given(st.lists(VALUES, min_size=1, max_size=30), st.sampled_from([1, 7, 25, 70]))
def test_the_stored_rows_tell_the_same_streaks(values: list[Decimal | Cause], every_s: int) -> None:
    rounds = [measured(ASKED, value, AT_MS + 1000 * every_s * at) for at, value in enumerate(values)]
    rows, latest = _stored(rounds)
    lived = GuardHistory(AT_MS).after(rounds).streaks["pnl"]
    told = told_again([ASKED], rows, [latest], AT_MS, BACK_AT_MS).streaks["pnl"]
    assert (told.fail_since_ms, told.unknown_since_ms, told.ever_known, told.last.at_ms) == (
        (lived.fail_since_ms, lived.unknown_since_ms, lived.ever_known, lived.last.at_ms)
    )
    assert (told.last.outcome, told.last.value, told.last.cause, told.last.reason) == (
        (lived.last.outcome, lived.last.value, lived.last.cause, lived.last.reason)
    )


@given(st.lists(VALUES, min_size=1, max_size=90), st.sampled_from([1, 7, 25, 70]))
def test_no_change_of_a_value_is_lost_where_changes_share_a_row(values: list[Decimal | Cause], every_s: int) -> None:
    rounds = [measured(ASKED, value, AT_MS + 1000 * every_s * at) for at, value in enumerate(values)]
    rows, _ = _stored(rounds)
    kept = [
        (row.at_ms - ago_ms, value)
        for row in rows
        for ago_ms, value in (*row.raw.get("before", ()), (0, row.value or ""))
    ]
    assert kept == sorted(kept)
    last: tuple[object, ...] = ()
    for one in rounds:
        said = (one.outcome, one.cause, one.value)
        if said != last:
            assert (one.at_ms, "" if one.value is None else plain(one.value)) in kept
        last = said


def test_a_value_that_always_moves_is_one_row_a_minute(writer: RecordWriter) -> None:
    kept = Kept()
    for second in range(301):
        one = measured(ASKED, 600 + second % 7, AT_MS + 1000 * second)
        worth = kept.worth(1, ASKED, one)
        assert worth is not None
        row = measurement_row(1, worth)
        writer.store_measurements([row], [latest_row(1, ASKED, one, 0)])
        if worth.shared is not None:
            worth.shared.id = row.id
    rows = writer.measurements(1)
    assert [row.at_ms - AT_MS for row in rows] == [1000 * second for second in (0, 60, 120, 180, 240, 300)]
    assert [len(row.raw.get("before", ())) for row in rows] == [0, 59, 59, 59, 59, 59]
    assert rows[1].raw["before"][0] == [59_000, "601"]


def test_a_late_look_is_a_row_of_its_own_and_says_since_when_nobody_had_looked(tmp_path: Path) -> None:
    guard = guard_at(tmp_path, "watch")
    active = activate(guard)
    (asked,) = [one for one in active.criteria if one.id == "placed"]
    kept = Kept()
    for at_s, value in ((0, 1), (1, 1), (12, 1), (13, 2), (14, 3), (90, 4)):
        storing(guard, active, [(asked, measured(asked, value, AT_MS + 1000 * at_s))], kept)()
    told = [(row.at_ms - AT_MS, row.looked_before_ms) for row in guard.store.record.measurements(active.id)]
    assert [(at, None if before is None else before - AT_MS) for at, before in told] == [
        (0, None),
        (12_000, 1000),
        (14_000, 13_000),
        (90_000, 14_000),
    ]


def _unseen_ms(guard: GuardState, active: Active, asked: Criterion, until_s: int) -> int:
    told = [Seen(*one) for one in guard.store.record.seen_of_guards(active.id, AT_MS)]
    return blind_ms([asked], told, AT_MS, AT_MS + 1000 * until_s, active.plan.measure_every_s)


@pytest.mark.parametrize(
    ("loop_saw", "verdict_saw", "unseen_ms"),
    [(1, Cause.SOURCE_UNREACHABLE, 500), (Cause.SOURCE_UNREACHABLE, 1, 88_500)],
    ids=["a verdict that could not see is no minute of blindness", "one that could see hides none"],
)
def test_a_verdict_s_look_tells_nothing_of_those_after_it(
    tmp_path: Path, loop_saw: int | Cause, verdict_saw: int | Cause, unseen_ms: int
) -> None:
    guard = guard_at(tmp_path, "watch")
    active = activate(guard)
    (asked,) = [one for one in active.criteria if one.id == "process_up"]
    kept = Kept()
    for at_s in range(90):
        storing(guard, active, [(asked, measured(asked, loop_saw if at_s else 1, AT_MS + 1000 * at_s))], kept)()
        if at_s == 65:
            storing(guard, active, [(asked, measured(asked, verdict_saw, AT_MS + 65_500))], Kept())()
    assert _unseen_ms(guard, active, asked, 90) == unseen_ms


def test_a_look_that_the_record_did_not_take_at_once_is_written_later_and_hides_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = guard_at(tmp_path, "watch")
    active = activate(guard)
    (asked,) = [one for one in active.criteria if one.id == "process_up"]
    kept, record = Kept(), guard.store.record
    store = record.store_measurements

    def away(*_: object) -> None:
        raise OperationalError("INSERT", {}, Exception("the connection was closed"))

    async def asked_to_judge() -> None:
        async with writing(guard):
            monkeypatch.setattr(record, "store_measurements", away)
            with pytest.raises(OperationalError):
                await store_now(guard, active, [(asked, measured(asked, 1, AT_MS + 51_000))])
            monkeypatch.setattr(record, "store_measurements", store)

    storing(guard, active, [(asked, measured(asked, 1, AT_MS + 1000))], kept)()
    asyncio.run(asked_to_judge())
    storing(guard, active, [(asked, measured(asked, 1, AT_MS + 52_000))], kept)()
    assert _unseen_ms(guard, active, asked, 52) == 50_000


def test_a_guard_that_comes_back_knows_when_the_one_before_it_looked_last(tmp_path: Path) -> None:
    guard = guard_at(tmp_path, "watch", launched_at=utc_now(), watch_from=utc_now())
    active = activate(guard)
    (asked,) = [one for one in active.criteria if one.id == "process_up"]
    kept = Kept()
    for at_s in (0, 5):
        storing(guard, active, [(asked, measured(asked, 1, AT_MS + 1000 * at_s))], kept)()
    again = activate(guard)
    asyncio.run(restored_history(guard, again))
    storing(guard, again, [(asked, measured(asked, 1, AT_MS + 30_000))], Kept())()
    assert [row.looked_before_ms for row in guard.store.record.measurements(active.id)] == [None, AT_MS + 5000]


def test_an_adoption_that_tries_again_forgets_no_look_that_is_not_written_yet(tmp_path: Path) -> None:
    guard = guard_at(tmp_path, "watch", launched_at=utc_now(), watch_from=utc_now())
    active = activate(guard)
    (asked,) = [one for one in active.criteria if one.id == "process_up"]
    storing(guard, active, [(asked, measured(asked, 1, AT_MS))], Kept())()
    again, kept = activate(guard), Kept()
    asyncio.run(restored_history(guard, again))
    waiting = [storing(guard, again, [(asked, measured(asked, 1, AT_MS + 1000 * at_s))], kept) for at_s in range(5, 26)]
    asyncio.run(restored_history(guard, again))
    waiting.append(storing(guard, again, [(asked, measured(asked, 1, AT_MS + 26_000))], kept))
    for write in waiting:
        write()
    assert _unseen_ms(guard, again, asked, 26) == 0


@pytest.fixture(params=["sqlite", "postgresql"])
def writer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RecordWriter]:
    url = f"sqlite:///{tmp_path}/rollout.db"
    made = _writer(url if request.param == "sqlite" else request.getfixturevalue("postgres_server").emptied())
    yield made
    made.close()


def _writer(url: str) -> RecordWriter:
    """A record with one stage run in its watch."""
    engine = open_engine(url)
    SQLModel.metadata.create_all(engine)
    made = RecordWriter(Record(engine), "a")
    made.know_account("simulated")
    words = ("plan_name", "plan_path", "plan_digest", "code_version", "settings_digest", "nonce", "author")
    told = dict.fromkeys((*words, "requested_by"), "x")
    made.add_rollout(Rollout.model_validate({"name": "r", "account": "a", "candidate": "c", **told}))
    made.add_stage_run(
        StageRun(rollout="r", account="a", stage="canary", attempt=1, step="watch", candidate="c", plan_path="/p"),
        {"name": "kept", "grant_ttl_s": 5.0},
    )
    return made


def test_of_each_criterion_only_what_came_since_its_last_good_row_is_read(writer: RecordWriter) -> None:
    other = criterion("never_good")
    pnl: list[Decimal | int | Cause] = [1, 2000, 2, 2000, Cause.STALE]
    for at, value in enumerate(pnl):
        rows = [measurement_row(1, Worth(ASKED, measured(ASKED, value, AT_MS + at)))]
        rows.append(measurement_row(1, Worth(other, measured(other, 3000 + at, AT_MS + at))))
        writer.store_measurements(rows, [])
    final = criterion("last", phase="final")
    writer.store_measurements([measurement_row(1, Worth(final, measured(final, 1)))], [])
    read = writer.measurements_since_good(1)
    assert [(row.at_ms - AT_MS, row.outcome) for row in read if row.criterion_id == "pnl"] == [
        (2, "PASS"),
        (3, "FAIL"),
        (4, "UNKNOWN"),
    ]
    assert len([row for row in read if row.criterion_id == "never_good"]) == len(pnl)
    assert not [row for row in read if row.criterion_id == "last"]
    streak = told_again([ASKED, other], read, [], AT_MS, BACK_AT_MS).streaks["pnl"]
    assert (streak.fail_since_ms, streak.unknown_since_ms) == (AT_MS + 3, AT_MS + 4)


def test_many_rows_of_a_look_are_written_with_as_few_questions_as_one(writer: RecordWriter) -> None:
    """While it writes, everybody else who writes waits."""
    asked: list[str] = []
    event.listen(writer.engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
    counts = []
    for many in (1, 40):
        looked = [(one := criterion(f"one_of_{at}"), measured(one, at)) for at in range(many)]
        rows = [measurement_row(1, Worth(*look)) for look in looked]
        asked.clear()
        writer.store_measurements(rows, [latest_row(1, *look, 0) for look in looked])
        counts.append(len([one for one in asked if one.startswith("SELECT")]))
    assert counts[1] == counts[0] <= 2


@settings(max_examples=25, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=30))
def test_no_slice_of_blindness_is_lost_or_counted_twice_with_a_guard(values: list[Decimal | Cause]) -> None:
    rounds = [measured(ASKED, value, AT_MS + 1000 * at) for at, value in enumerate(values)]
    rows, latest = _stored(rounds)
    with TemporaryDirectory() as folder:
        made = _writer(f"sqlite:///{folder}/rollout.db")
        made.store_measurements(rows, [])
        before, since = made.blind_before_good_ms(1), made.measurements_since_good(1)
        made.close()
    told = replace(told_again([ASKED], since, [latest], AT_MS, BACK_AT_MS), blind_before_ms=before)
    lived = GuardHistory(AT_MS).after(rounds)
    assert told.blind_ms("pnl") == lived.blind_ms("pnl")


def test_the_blindness_before_the_last_good_row_is_summed_by_either_database(writer: RecordWriter) -> None:
    values: list[Decimal | int | Cause] = [
        Cause.STALE,
        1,
        Cause.STALE,
        Cause.STALE,
        2,
        Cause.SOURCE_ERROR,
        3,
        Cause.STALE,
    ]
    rows, _ = _stored([measured(ASKED, value, AT_MS + 1000 * at) for at, value in enumerate(values)])
    writer.store_measurements(rows, [])  # under the numbers that they have
    assert writer.blind_before_good_ms(1) == {"pnl": 3000}


def test_the_slices_of_an_earlier_part_are_told_to_no_guard_that_comes_back(tmp_path: Path) -> None:
    """The guard that entered the present part does not count them either."""
    now = utc_now()
    launched_at, part_from = now - timedelta(seconds=100), now - timedelta(seconds=50)
    guard = guard_at(tmp_path, "watch", launched_at=launched_at, part_from=part_from)
    active = activate(guard)
    (asked,) = [one for one in active.criteria if one.id == "halted"]
    at_ms = round(launched_at.timestamp() * 1000)
    looks: list[tuple[int, int | Cause]]
    looks = [(0, 0), (10, Cause.STALE), (40, 0), (60, Cause.STALE), (67, 0), (70, 0)]
    rows, latest = _stored([measured(asked, value, at_ms + 1000 * at) for at, value in looks], asked)
    guard.store.record.store_measurements(rows, [latest])
    assert asyncio.run(restored_history(guard, active)).blind_ms("halted") == 7000
    guard.store.close()


@pytest.mark.parametrize("name", ["restart", "freeze"])
@pytest.mark.parametrize(
    ("looks", "blind_s", "unknown_since_s"),
    [
        ([(0, 1), (11, Cause.NO_DATA), (38, 1), (50, 1)], 27, None),
        ([(0, 1), (11, Cause.NO_DATA), (45, 1), (50, 1)], 34, None),  # 5 s of it after the drill
        ([(0, 1), (11, Cause.NO_DATA), (50, Cause.STALE)], 0, 11),
    ],
)
def test_what_a_drill_kept_the_bot_from_answering_is_counted_by_no_guard_that_comes_back(
    tmp_path: Path, looks: list[tuple[int, int | Cause]], blind_s: int, unknown_since_s: int | None, name: str
) -> None:
    """The guard that made the drill does not count it either. From 10 s to 40 s it lasted."""
    guard = guard_at(tmp_path, "watch", launched_at=utc_now() - timedelta(seconds=100))
    active = activate(guard)
    (asked,) = [one for one in active.criteria if one.id == "halted"]
    made = utc_now() - timedelta(seconds=60)
    at_ms = round(made.timestamp() * 1000)
    drill = Drill(stage_run_id=1, name=name, started_at=made + timedelta(seconds=10))
    drill.ends_at, drill.outcome = made + timedelta(seconds=40), "passed"
    guard.store.record.add_drill(drill)
    rounds = [measured(asked, value if isinstance(value, Cause) else 0, at_ms + 1000 * at) for at, value in looks]
    rows, latest = _stored(rounds, asked)
    guard.store.record.store_measurements(rows, [latest])
    told = asyncio.run(restored_history(guard, active))
    streak, silenced = told.streaks["halted"], name == "restart"
    after_s = max(0, looks[2][0] - 40) if blind_s else 0
    assert told.blind_ms("halted") == 1000 * (after_s if silenced else blind_s)
    since_ms = None if streak.unknown_since_ms is None else streak.unknown_since_ms - at_ms
    assert since_ms == (None if unknown_since_s is None else 1000 * (40 if silenced else unknown_since_s))
    guard.store.close()


def test_what_an_earlier_part_measured_is_judged_by_nobody_by_the_bands_of_the_present_one(tmp_path: Path) -> None:
    """A value that was good at one size may be none at another. It is looked at anew; until then it was what it was."""
    now = utc_now()
    part_from = now - timedelta(seconds=5)
    guard = guard_at(tmp_path, "watch", launched_at=now - timedelta(seconds=100), part_from=part_from)
    active = activate(guard)
    (asked,) = [one for one in active.criteria if one.id == "halted"]
    earlier = criterion("halted", go="< 10", no_go=None)
    at_ms = round(part_from.timestamp() * 1000) - 1000
    rows, latest = _stored([measured(earlier, 7, at_ms)], earlier)
    guard.store.record.store_measurements(rows, [latest])
    told = asyncio.run(restored_history(guard, active))
    assert decide_guard([asked], told, at_ms + 2000) == CONTINUE
    assert told.streaks["halted"].last.outcome is Outcome.PASS
    found_now = told.after([measured(asked, 7, at_ms + 3000)])
    assert decide_guard([asked], found_now, at_ms + 3000).action is Action.ROLL_BACK
    guard.store.close()


def test_a_criterion_that_the_plan_no_longer_has_is_left_out() -> None:
    rows, latest = _stored([measured(ASKED, 1)])
    assert told_again([], rows, [latest], AT_MS, BACK_AT_MS) == replace(GuardHistory(AT_MS), resumed_at_ms=BACK_AT_MS)


def test_the_plan_of_a_stage_run_is_kept_in_the_chain(writer: RecordWriter) -> None:
    assert writer.plan_begun(writer.stage_run(1)) == {"name": "kept", "grant_ttl_s": 5.0}
    assert writer.verify_chain("a").ok
    other = writer.stage_run(1).model_copy(update={"id": 2})
    assert writer.plan_begun(other) is None
