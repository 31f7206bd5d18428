"""A park is looked back at once the bot is gone: what the candidate broke before it was stopped makes it a rollback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bot.domain.intent import Note
from bot.journal import Journal, JournalError, label_text
from gates.decision import CONTINUE, Action, Decision
from tasks.guard import closing, looking
from tasks.guard.closing import by_people, end_stage
from tasks.guard.resume import resume
from tasks.guard.state import Active, GuardState, load_active, now_ms
from tasks.record_tables import Drill, Outbox, StageRun, utc_now
from tests.support.asked_guard import PLAN as SMOKE
from tests.support.guard_parts import guard_at, writing
from tests.support.venue_away import VenueAway, close_at

S = 1_000_000_000
BLIND = Decision(Action.PARK, "environment", "blind", None, "known within 60 s", (), None, "nobody has seen it")
Counts = Mapping[tuple[str, tuple[str, ...]], int]
NONE_YET: Counts = {
    ("mm_crossing_orders_total", ("BTCUSDT",)): 0,
    ("mm_taker_fills_total", ("BTCUSDT",)): 0,
    ("mm_filter_violations_total", ("BTCUSDT",)): 0,
    ("mm_orders_placed_total", ("BTCUSDT", "buy")): 0,
    ("mm_recon_divergence_total", ("orders_remote_only",)): 0,
    ("mm_recon_divergence_total", ("position_mismatch",)): 0,
    ("mm_freeze_events_total", ("drawdown", "fault")): 0,
    ("mm_freeze_events_total", ("position_drift", "fault")): 0,
    ("mm_freeze_events_total", ("grant_expired", "fault")): 0,
}
TAKER: Counts = {("mm_taker_fills_total", ("BTCUSDT",)): 1}
DRIFT: Counts = {("mm_freeze_events_total", ("position_drift", "fault")): 1}
MISMATCH: Counts = {("mm_recon_divergence_total", ("position_mismatch",)): 1}
DIVERGED = ("recon_divergence", {"type": "position_mismatch", "symbol": "BTCUSDT", "detail": "own 0 venue 1 lots"})
DRIFTED = ("freeze_triggered", {"reason": "position_drift", "stop_class": "fault", "resume": "people", "view": "HELD"})
PROVE = closing._prove
Noted = tuple[int, tuple[str, dict[str, str]]]


@pytest.fixture(autouse=True)
def _closes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at here comes after the proof, and before what is booked and bundled."""

    async def proven(guard: GuardState, active: Active, recorder: object) -> None:
        active.bot_gone = True

    async def nothing(*_: object) -> None:
        return

    monkeypatch.setattr(closing, "_prove", proven)
    monkeypatch.setattr(closing, "_book", nothing)
    monkeypatch.setattr(closing, "_bundle", nothing)
    monkeypatch.setattr(looking, "LOOK_AGAIN_S", 0.01)


def _counted(folder: Path, counts: Counts, *noted: Noted) -> None:
    """The journal of a bot that has ended: `counts` beside zeros, and what it `noted`, so many seconds from now."""
    folder.mkdir(parents=True)
    journal = Journal(folder / "journal.db", {"account": "a", "run": "run"}, synchronous="NORMAL")
    for after_s, (event, fields) in noted:
        journal.intent(Note(time.time_ns() + after_s * S, "WARNING", event, {**fields}))
    whole = {**NONE_YET, **counts}
    journal.commit({(name, label_text(name, values)): count for (name, values), count in whole.items()})
    journal.close()


def _watched(home: Path, step: str = "watch", **columns: Any) -> GuardState:
    told: dict[str, Any] = {
        "state_dir": str(home / "run"),
        "run": "run",
        "obs_url": "http://127.0.0.1:9",
        "launched_at": utc_now(),
    }
    return guard_at(home, step, source=SMOKE, **{**told, **columns})


def _loaded(guard: GuardState) -> Active:
    rollout = guard.store.record.rollout("r")
    assert rollout is not None
    active = guard.active = load_active(guard.folder, guard.store.record.stage_run(1), rollout)
    active.criteria = tuple(one.model_copy(update={"unknown_deadline_s": 0.05}) for one in active.criteria)
    return active


def _ended(guard: GuardState, decision: Decision, *, in_drill: str = "") -> tuple[StageRun, list[Outbox]]:
    async def end() -> tuple[StageRun, list[Outbox]]:
        active = _loaded(guard)
        async with writing(guard):
            if in_drill:
                active.drilled.expect(active.criteria, [in_drill], now_ms() / 1000)
                active.drilled.lift(now_ms())
            end_stage(guard, active, decision)
            assert active.closing is not None
            await asyncio.wait_for(active.closing, 10)
            await guard.store.settled()
            return guard.store.record.stage_run(1), list(guard.store.record.notices("a"))

    return asyncio.run(end())


@pytest.mark.parametrize("decision", [by_people("ada", "lunch"), BLIND])
def test_a_taker_fill_that_nobody_saw_before_the_stop_burns_the_candidate(tmp_path: Path, decision: Decision) -> None:
    guard = _watched(tmp_path)
    _counted(tmp_path / "run", TAKER)
    run, notices = _ended(guard, decision)
    assert (run.step, run.reason, run.end_wanted) == ("rolled_back", "candidate", "roll_back")
    assert (run.decided_criterion, run.decided_value) == ("taker_fills", "1")
    assert run.decided_others == [decision.criterion_id], "what it was ended for first is kept"
    assert run.decided_why is not None
    assert decision.sentence in run.decided_why
    late = [one.text for one in notices if one.kind == "no_go_after_stop"]
    assert len(late) == 1
    assert "taker_fills is 1" in late[0]
    assert [one.kind for one in notices].count("no_go") == 1


@pytest.mark.parametrize(
    ("counts", "noted", "step"),
    [
        ({}, [], "parked"),
        ({("mm_freeze_events_total", ("grant_expired", "fault")): 9}, [], "parked"),
        (DRIFT, [(-5, DRIFTED)], "rolled_back"),
        (DRIFT, [(60, DRIFTED)], "parked"),
        (MISMATCH, [(-5, DIVERGED)], "rolled_back"),
        (MISMATCH, [(60, DIVERGED)], "parked"),
        ({**TAKER, **DRIFT}, [(60, DRIFTED)], "rolled_back"),
    ],
    ids=[
        "nothing",
        "the environment's",
        "a freeze before the stop",
        "a freeze after it",
        "a difference before the stop",
        "a difference after it",
        "a taker fill, whenever",
    ],
)
def test_what_the_bot_found_after_its_stop_is_not_held_against_it(
    tmp_path: Path, counts: Counts, noted: list[Noted], step: str
) -> None:
    guard = _watched(tmp_path)
    _counted(tmp_path / "run", counts, *noted)
    run, _ = _ended(guard, by_people("ada", "lunch"))
    assert run.step == step


def test_what_a_drill_that_did_not_pass_was_to_break_is_not_held_against_it(tmp_path: Path) -> None:
    for name, drill, step in (("in", "recon_divergences", "parked"), ("other", "process_up", "rolled_back")):
        guard = _watched(tmp_path / name)
        _counted(tmp_path / name / "run", MISMATCH, (-5, DIVERGED))
        run, _ = _ended(guard, by_people("ada", "lunch"), in_drill=drill)
        assert run.step == step


def test_a_journal_that_cannot_be_read_parks_and_says_so(tmp_path: Path) -> None:
    guard = _watched(tmp_path)
    (tmp_path / "run").mkdir(parents=True)
    (tmp_path / "run" / "journal.db").write_bytes(b"not a journal")
    run, notices = _ended(guard, by_people("ada", "lunch"))
    assert (run.step, run.reason) == ("parked", "people")
    told = [one.text for one in notices if one.kind == "last_look"]
    assert len(told) == 1
    assert "crossing_orders" in told[0]


def test_where_it_is_not_told_when_it_was_found_only_what_has_no_time_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unread(*_: object) -> None:
        raise JournalError("the server is away")

    monkeypatch.setattr(looking, "found_since", unread)
    for name, counts, step, open_looks in (("a", DRIFT, "parked", 1), ("b", {**DRIFT, **TAKER}, "rolled_back", 0)):
        guard = _watched(tmp_path / name)
        _counted(tmp_path / name / "run", counts, (-5, DRIFTED))
        run, notices = _ended(guard, by_people("ada", "lunch"))
        assert run.step == step
        assert [one.kind for one in notices].count("last_look") == open_looks


def test_a_bot_that_was_never_sent_a_grant_is_not_looked_for(tmp_path: Path) -> None:
    guard = _watched(tmp_path, "launching", obs_url=None)
    run, notices = _ended(guard, by_people("ada", "lunch"))
    assert run.step == "parked"
    assert [one.kind for one in notices if one.kind == "last_look"] == []


@pytest.mark.parametrize(
    ("counts", "drilled", "step", "others"),
    [
        (TAKER, "", "rolled_back", ["stop"]),
        (MISMATCH, "", "rolled_back", ["stop"]),
        (MISMATCH, "recon_divergences", "parked", []),
    ],
)
def test_a_guard_that_comes_back_in_the_middle_of_a_park_looks_too(
    tmp_path: Path, counts: Counts, drilled: str, step: str, others: list[str]
) -> None:
    stopped = {"end_wanted": "park", "reason": "people", "decided_criterion": "stop", "decided_why": "ada: lunch"}
    guard = _watched(tmp_path, "rolling_back", seen_at=utc_now(), **stopped)
    _counted(tmp_path / "run", counts, (-5, DIVERGED))
    if drilled:
        guard.store.record.add_drill(Drill(stage_run_id=1, name="orphan", part=0, criteria=[drilled]))

    async def back() -> StageRun:
        async with writing(guard):
            await resume(guard)
            assert guard.active is not None
            assert guard.active.closing is not None
            await asyncio.wait_for(guard.active.closing, 10)
            await guard.store.settled()
            return guard.store.record.stage_run(1)

    run = asyncio.run(back())
    assert (run.step, run.decided_others) == (step, others)


async def _until(seen: Callable[[], bool]) -> None:
    async def turns() -> None:
        while not seen():  # noqa: ASYNC110 - the record's thread writes it
            await asyncio.sleep(0.01)

    await asyncio.wait_for(turns(), 10)


@pytest.mark.parametrize("people", [False, True])
def test_a_stop_that_comes_during_the_last_look_of_a_promotion_hides_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, people: bool
) -> None:
    guard = _watched(tmp_path, "promoting")
    _counted(tmp_path / "run", TAKER)
    look = closing.last_look

    async def stopped_in_it(guard: GuardState, active: Active) -> Decision:
        if people:
            end_stage(guard, active, by_people("ada", "lunch"))
        return await look(guard, active)

    monkeypatch.setattr(closing, "last_look", stopped_in_it)

    async def end() -> StageRun:
        active = _loaded(guard)
        async with writing(guard):
            closing.promote(guard, active)
            assert active.closing is not None
            await asyncio.wait_for(active.closing, 10)
            await guard.store.settled()
            return guard.store.record.stage_run(1)

    run = asyncio.run(end())
    assert (run.step, run.end_wanted, run.decided_criterion) == ("rolled_back", "roll_back", "taker_fills")
    assert ("stop" in run.decided_others) is people, "what it was stopped for is kept"


@pytest.mark.parametrize("begins", ["stopped", "resumed", "stopped while promoting"])
def test_a_park_burns_what_the_candidate_broke_while_the_venue_is_still_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begins: str
) -> None:
    stopped = {"end_wanted": "park", "reason": "people", "decided_criterion": "stop", "decided_why": "ada: lunch"}
    columns = {"seen_at": utc_now(), **stopped} if begins == "resumed" else {}
    step = {"stopped": "watch", "resumed": "rolling_back", "stopped while promoting": "promoting"}[begins]
    guard = _watched(tmp_path, step, **columns)
    _counted(tmp_path / "run", TAKER)
    looks: list[int] = []
    look = closing.look_back

    async def counted(guard: GuardState, active: Active) -> Decision:
        looks.append(1)
        return await look(guard, active)

    monkeypatch.setattr(closing, "look_back", counted)
    monkeypatch.setattr(closing, "_prove", PROVE)

    async def end() -> StageRun:
        back = asyncio.Event()
        close_at(monkeypatch, VenueAway(back))
        async with writing(guard):
            if begins == "resumed":
                await resume(guard)
                active = guard.active
                assert active is not None
            else:
                active = _loaded(guard)
                if begins == "stopped":
                    end_stage(guard, active, by_people("ada", "lunch"))
                else:
                    closing.promote(guard, active)
                    await _until(lambda: active.bot_gone)
                    end_stage(guard, active, by_people("ada", "lunch"))
            await _until(lambda: guard.store.record.stage_run(1).end_wanted == "roll_back")
            assert guard.store.record.stage_run(1).step == "rolling_back"
            assert [one.state for one in guard.store.record.rollback_steps(1) if one.name == "flatten"] != ["verified"]
            back.set()
            assert active.closing is not None
            await asyncio.wait_for(active.closing, 20)
            await guard.store.settled()
            return guard.store.record.stage_run(1)

    run = asyncio.run(end())
    assert (run.step, run.decided_criterion, run.decided_others) == ("rolled_back", "taker_fills", ["stop"])
    assert looks == [1]


def test_no_look_holds_up_the_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = _watched(tmp_path)
    _counted(tmp_path / "run", {})
    monkeypatch.setattr(closing, "_prove", PROVE)

    async def end() -> StageRun:
        back, looked = asyncio.Event(), asyncio.Event()
        back.set()

        async def long(guard: GuardState, active: Active) -> Decision:
            await looked.wait()
            return CONTINUE

        monkeypatch.setattr(closing, "look_back", long)
        close_at(monkeypatch, VenueAway(back))
        active = _loaded(guard)
        async with writing(guard):
            end_stage(guard, active, by_people("ada", "lunch"))
            proven = ("revoke_grant", "stop_bot", "cancel_all", "flatten")
            await _until(
                lambda: (
                    proven == tuple(one.name for one in guard.store.record.rollback_steps(1) if one.state == "verified")
                )
            )
            assert guard.store.record.stage_run(1).step == "rolling_back", "the end waits for what was looked for"
            looked.set()
            assert active.closing is not None
            await asyncio.wait_for(active.closing, 20)
            await guard.store.settled()
            return guard.store.record.stage_run(1)

    assert asyncio.run(end()).step == "parked"
