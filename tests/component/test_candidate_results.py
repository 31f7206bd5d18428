"""A candidate's loss budgets: of any 24 hours, and of a stage over all its attempts, from what was stored of each."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.stores.sqlite import SCHEMA
from gates.judge import Outcome, Reading, Sample, judge
from gates.sources.checks import CheckFacts, measure_checks
from gates.stages import ROOT, criteria_of, load_plan
from tasks.guard.facts import ToldFacts, told_facts
from tasks.guard.results import KEPT_WITHIN_MS, RESULT
from tasks.guard.state import Active, GuardState, now_ms
from tasks.record_tables import MeasurementRow, StageRun, utc_now
from tests.support.guard_parts import activate, guard_at, never_close, writing

PLAN = Path(__file__).parents[1] / "support" / "plan_stages.yaml"
HOUR_MS = 3_600_000
ASKED = ("attempt_pnl", "candidate_pnl_24h", "stage_pnl")


@pytest.fixture(autouse=True)
def _never_close(monkeypatch: pytest.MonkeyPatch) -> None:
    never_close(monkeypatch)


def _run(home: Path, launched_h_ago: float, work: Callable[[GuardState, Active], Awaitable[None]]) -> None:
    async def run() -> None:
        launched_at = utc_now() - timedelta(hours=launched_h_ago)
        guard = guard_at(home, "watch", source=PLAN, stage="scale-up", run="own", launched_at=launched_at)
        active = activate(guard)
        async with writing(guard):
            await work(guard, active)

    asyncio.run(run())


def _stored(guard: GuardState, number: int, *results: tuple[float, str | None]) -> None:
    """Rows of attempt `number`: (hours ago, its result since its launch; None where it was unknown).

    Put in directly: the record keeps nothing that comes after an attempt's end, and here it has ended already.
    """
    for ago_h, net in results:
        samples = [] if net is None else [{"at_ms": 0, "value": net}]
        one = {"stage_run_id": number, "criterion_id": RESULT, "phase": "guard", "raw": {"samples": samples}}
        value = None if net is None else f"{Decimal(net):.6f}"
        at_ms = now_ms() - round(ago_h * HOUR_MS)
        row = MeasurementRow(**one, at_ms=at_ms, outcome="PASS" if net else "UNKNOWN", value=value)
        with guard.store.record.writing() as session:
            session.add(row)


def _attempt(guard: GuardState, from_h: float, to_h: float | None, *, stage: str = "scale-up", **more: Any) -> int:
    """Another attempt of the candidate that was launched and ended so many hours ago; `to_h` None: it still runs."""
    ended_at = None if to_h is None else utc_now() - timedelta(hours=to_h)
    ended = {"step": "watch" if to_h is None else "parked", "ended_at": ended_at, "bot_gone_at": ended_at}
    named = {"rollout": "r", "account": "b", "attempt": 1, "candidate": "c", "plan_path": "/p", "run": "x"}
    columns = {**named, **ended, "stage": stage, "launched_at": utc_now() - timedelta(hours=from_h), **more}
    with guard.store.record.writing() as session:
        run = StageRun(**columns)
        session.add(run)
        session.flush()
        assert run.id is not None
        return run.id


async def _told(guard: GuardState, active: Active, net: str | None) -> ToldFacts:
    return await told_facts(guard, active, {} if net is None else {"pnl": {"net": net}}, ASKED)


def test_the_last_24_hours_are_what_it_is_now_less_what_it_was_a_day_ago(tmp_path: Path) -> None:
    async def looked(guard: GuardState, active: Active) -> None:
        _stored(guard, 1, (30, "100"), (24 + 1 / 60, "600.1234567"), (23.9, "650"), (1, "0"))
        told = await _told(guard, active, "-100.0000001")
        assert told.attempt_net_quote == Decimal("-100.0000001")
        assert told.candidate_net_quote == Decimal("-700.1234568"), "to the last digit, and the gain before is none"
        assert told.stage_net_quote == Decimal("-100.0000001"), "the stage's own budget counts from its begin"

    _run(tmp_path / "home", 48, looked)


def test_a_loss_over_many_days_is_none_of_the_last(tmp_path: Path) -> None:
    async def looked(guard: GuardState, active: Active) -> None:
        _stored(guard, 1, (24.01, "-480"))
        assert (await _told(guard, active, "-510")).candidate_net_quote == -30

    _run(tmp_path / "home", 12 * 24, looked)


def test_what_was_not_stored_a_day_ago_is_unknown_and_no_pass(tmp_path: Path) -> None:
    late_h = (KEPT_WITHIN_MS + 5000) / HOUR_MS

    async def looked(guard: GuardState, active: Active) -> None:
        _stored(guard, 1, (24 + late_h, "0"), (24.001, None), (23.99, "0"))
        told = await _told(guard, active, "10")
        assert told.candidate_net_quote is None
        assert told.error == "what r/scale-up attempt 1 had come to 24 h ago was not stored"
        assert (told.attempt_net_quote, told.stage_net_quote) == (10, 10), "which need no row of that time"

    _run(tmp_path / "home", 48, looked)


def test_an_attempt_that_was_launched_within_the_day_began_with_nothing(tmp_path: Path) -> None:
    async def looked(guard: GuardState, active: Active) -> None:
        assert (await _told(guard, active, "-20")).candidate_net_quote == -20

    _run(tmp_path / "home", 23.9, looked)
    _run(tmp_path / "just", 24.001, looked)


def test_other_attempts_count_with_what_they_came_to_within_the_day(tmp_path: Path) -> None:
    async def looked(guard: GuardState, active: Active) -> None:
        first, over, running = _attempt(guard, 30, 20), _attempt(guard, 90, 25), _attempt(guard, 50, None)
        _stored(guard, first, (24.001, "40"), (21, "-60.5"), (20.5, None))
        _stored(guard, over, (26, "-1000"))
        _stored(guard, running, (24.001, "0"), (0.01, "-7"))
        shadow = _attempt(guard, 3, 2, stage="shadow")
        _stored(guard, shadow, (2.5, "-5000"))
        told = await _told(guard, active, "-20")
        assert told.candidate_net_quote == Decimal("-100.5") - 7 - 20
        assert told.stage_net_quote == Decimal("-60.5") - 1000 - 7 - 20, "all attempts of this stage, however long ago"

    _run(tmp_path / "home", 1, looked)


def test_an_attempt_of_another_candidate_is_not_this_ones(tmp_path: Path) -> None:
    async def looked(guard: GuardState, active: Active) -> None:
        _stored(guard, _attempt(guard, 3, 2, candidate="another"), (2.5, "-5000"))
        told = await _told(guard, active, "1")
        assert (told.candidate_net_quote, told.stage_net_quote) == (1, 1)

    _run(tmp_path / "home", 1, looked)


def _journal(state_dir: Path, placed: int) -> str:
    state_dir.mkdir()
    with sqlite3.connect(state_dir / "journal.db") as db:
        db.executescript(SCHEMA)
        db.execute("INSERT INTO meta VALUES ('schema_version', '1')")
        db.execute("INSERT INTO total VALUES ('mm_orders_placed_total', '{}', ?)", (placed,))
    return str(state_dir)


@pytest.mark.parametrize(("placed", "known"), [(0, True), (1, False), (None, False)])
def test_an_attempt_of_which_nothing_is_known_makes_the_pool_unknown_unless_it_placed_no_order(
    tmp_path: Path, placed: int | None, known: bool
) -> None:
    async def looked(guard: GuardState, active: Active) -> None:
        state_dir = str(tmp_path / "gone") if placed is None else _journal(tmp_path / "run", placed)
        _attempt(guard, 25, 2.9, launched_at=None, created_at=utc_now() - timedelta(hours=25), state_dir=state_dir)
        told = await _told(guard, active, "1")
        assert (told.candidate_net_quote, told.stage_net_quote) == ((1, 1) if known else (None, None))
        assert told.error == ("" if known else "what r/scale-up attempt 1 came to is not known")

    _run(tmp_path / "home", 1, looked)


def test_a_bot_that_does_not_tell_leaves_all_three_unknown(tmp_path: Path) -> None:
    async def looked(guard: GuardState, active: Active) -> None:
        told = await _told(guard, active, None)
        assert (told.attempt_net_quote, told.candidate_net_quote, told.stage_net_quote) == (None, None, None)
        assert told.error == "the bot does not tell its result"

    _run(tmp_path / "home", 1, looked)


def test_a_second_attempt_at_the_canary_has_only_what_the_first_left_of_the_budget() -> None:
    canary = {one.id: one for one in criteria_of(load_plan(ROOT / "configs" / "rollout.yaml").stage("canary"))}
    outcomes = {}
    for net in ("-100", "-100.01"):
        facts = CheckFacts("", "", 5.0, attempt_net_quote=Decimal(-40), stage_net_quote=Decimal(net))
        (reading,) = measure_checks([canary["stage_pnl"]], facts, 1)
        outcomes[net] = judge(canary["stage_pnl"], reading, 1).outcome
    assert outcomes == {"-100": Outcome.PASS, "-100.01": Outcome.FAIL}
    (unknown,) = measure_checks([canary["stage_pnl"]], CheckFacts("", "", 5.0, told_error="not known"), 1)
    assert judge(canary["stage_pnl"], unknown, 1).outcome is Outcome.UNKNOWN
    sample = Reading("attempt_pnl", 1, 0, "", (Sample(1, Decimal(-40), {}),))
    assert measure_checks([canary["attempt_pnl"]], facts, 1)[0].samples == sample.samples
