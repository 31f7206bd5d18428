"""A candidate's loss budgets: of any 24 hours, and of a stage over all its attempts, from what was stored of each."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from bisect import bisect_right
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from bot.domain.events import Event, Filled
from bot.domain.intent import Intent, Note
from bot.engine.engine import Engine
from bot.journal import Journal
from bot.simulation import ACCOUNT, START_NS, run_wire
from bot.stores.sqlite import SCHEMA
from gates.judge import Outcome, Reading, Sample, judge
from gates.sources.checks import CheckFacts, measure_checks
from gates.stages import ROOT, criteria_of, load_plan
from tasks.guard import results
from tasks.guard.facts import ToldFacts, told_facts
from tasks.guard.noted import Hole
from tasks.guard.results import BOOKED, DAY_MS, KEPT_WITHIN_MS, RESULT, Results
from tasks.guard.state import Active, GuardState, now_ms
from tasks.record_tables import MeasurementRow, StageRun, utc_now
from tests.support.guard_parts import activate, guard_at, never_close, writing
from tests.support.lanes import at_one_a_second, demo

PLAN = Path(__file__).parents[1] / "support" / "plan_stages.yaml"
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
BEGAN_MS = START_NS // 1_000_000
PATIENT_S = 60.0
"""How long a record or a journal may take here: a machine that stands still for a while is not one of them away."""
ASKED = ("attempt_pnl", "candidate_pnl_24h", "stage_pnl")


@pytest.fixture(autouse=True)
def _never_close(monkeypatch: pytest.MonkeyPatch) -> None:
    never_close(monkeypatch)
    monkeypatch.setattr(results, "READ_WITHIN_S", PATIENT_S)


def _run(home: Path, launched_h_ago: float, work: Callable[[GuardState, Active], Awaitable[None]]) -> None:
    async def run() -> None:
        launched_at = utc_now() - timedelta(hours=launched_h_ago)
        guard = guard_at(home, "watch", source=PLAN, stage="scale-up", run="own", launched_at=launched_at)
        active = activate(guard)
        active.plan = active.plan.model_copy(update={"source_timeout_s": PATIENT_S})
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
    named["obs_url"] = "http://127.0.0.1:1"
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


def _noted(state_dir: Path, *notes: tuple[float, str], account: str = "a", before_ms: int | None = None) -> Path:
    """A journal in which the bot noted its result: (hours ago, net); ago from now, or from `before_ms`."""
    state_dir.mkdir()
    journal = Journal(state_dir / "journal.db", {"account": account, "run": state_dir.name}, synchronous="NORMAL")
    for ago_h, net in notes:
        at_ns = ((before_ms or now_ms()) - round(ago_h * HOUR_MS)) * 1_000_000
        journal.intent(Note(at_ns, "DEBUG", "equity_sample", {"net_quote": net, "peak_quote": "99999"}))
        journal.intent(Note(at_ns, "DEBUG", "day_began", {"day": 1, "net_quote": "77777", "fills": 0}))
    journal.commit({})
    journal.close()
    return state_dir


def test_what_the_guard_was_away_for_a_day_ago_is_told_by_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_ms = now_ms()
    monkeypatch.setattr("tasks.guard.facts.now_ms", lambda: at_ms)
    hours = ((24.02, "-12.0000001"), (24.001, "-55"), (23.98, "-50.25"), (23.96, "0"))
    noted = _noted(tmp_path / "run", *hours, before_ms=at_ms)

    async def looked(guard: GuardState, active: Active) -> None:
        active.row.state_dir = str(noted)
        _stored(guard, 1, (24.1, "700"), (23.9, "-50"))
        told = await _told(guard, active, "-100")
        assert told.error == ""
        assert told.candidate_net_quote == Decimal("-49.75"), "from the higher of the two that were noted around it"
        assert (told.attempt_net_quote, told.stage_net_quote) == (-100, -100)
        (noted / "journal.db").unlink()
        assert (await _told(guard, active, "-101")).candidate_net_quote == Decimal("-50.75"), "it is read once"

    _run(tmp_path / "home", 48, looked)


def test_a_stored_result_outranks_the_journal_and_needs_none(tmp_path: Path) -> None:
    noted = _noted(tmp_path / "run", (24.001, "5000"))

    async def looked(guard: GuardState, active: Active) -> None:
        active.row.state_dir = str(noted)
        _stored(guard, 1, (24.01, "-480"))
        assert (await _told(guard, active, "-510")).candidate_net_quote == -30

    _run(tmp_path / "home", 48, looked)


def test_the_journal_of_an_attempt_that_ended_fills_its_hole_too(tmp_path: Path) -> None:
    noted = _noted(tmp_path / "run", (24.001, "40"), (23.97, "38"))

    async def looked(guard: GuardState, active: Active) -> None:
        ended = _attempt(guard, 30, 20, state_dir=str(noted), account="a")
        _stored(guard, ended, (24.2, "0"), (20.001, "-60.5"))
        told = await _told(guard, active, "-20")
        assert (told.candidate_net_quote, told.error) == (Decimal("-100.5") - 20, "")

    _run(tmp_path / "home", 1, looked)


def test_what_an_attempt_lost_while_nobody_looked_at_its_end_is_lost(tmp_path: Path) -> None:
    """Else it would count as won a day later: what it had come to by then is told by its notes."""
    noted = _noted(tmp_path / "run", (25, "0"), (24.05, "-80"), (24.001, "-90"), (23.97, "-100"))

    async def looked(guard: GuardState, active: Active) -> None:
        ended = _attempt(guard, 30, 23.8, state_dir=str(noted), account="a")
        _stored(guard, ended, (24.5, "0"))
        told = await _told(guard, active, "-20")
        assert (told.candidate_net_quote, told.stage_net_quote) == (Decimal(-100) - -90 - 20, -100 - 20)
        assert told.error == ""

    _run(tmp_path / "home", 1, looked)


def test_what_was_stored_at_the_end_of_an_attempt_needs_no_journal(tmp_path: Path) -> None:
    noted = _noted(tmp_path / "run", (20.01, "-5000"))

    async def looked(guard: GuardState, active: Active) -> None:
        ended = _attempt(guard, 22, 20, state_dir=str(noted), account="a")
        _stored(guard, ended, (20.03, "-60.5"))
        told = await _told(guard, active, "-20")
        assert (told.candidate_net_quote, told.stage_net_quote) == (Decimal("-80.5"), Decimal("-80.5"))

    _run(tmp_path / "home", 1, looked)


def test_an_end_that_nobody_saw_and_no_journal_tells_is_unknown(tmp_path: Path) -> None:
    async def looked(guard: GuardState, active: Active) -> None:
        ended = _attempt(guard, 22, 20, state_dir=str(tmp_path / "gone"), account="a")
        _stored(guard, ended, (20.1, "-60.5"))
        told = await _told(guard, active, "-20")
        assert (told.candidate_net_quote, told.stage_net_quote) == (None, None)
        assert told.error.startswith("what r/scale-up attempt 1 came to at its end was not stored")
        assert "no such journal" in told.error

    _run(tmp_path / "home", 1, looked)


def test_a_bot_that_was_dead_for_long_before_it_was_proven_dead_came_to_nothing_more(tmp_path: Path) -> None:
    noted = _noted(tmp_path / "run", (24.6, "-1"), (24.4, "-70"))

    async def looked(guard: GuardState, active: Active) -> None:
        ended = _attempt(guard, 30, 23.8, state_dir=str(noted), account="a")
        _stored(guard, ended, (24.5, "0"))
        told = await _told(guard, active, "-20")
        assert (told.candidate_net_quote, told.stage_net_quote, told.error) == (-20, -90, "")

    _run(tmp_path / "home", 1, looked)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("gone", "no such journal"),
        ("torn", "not a SQLite file"),
        ("another's", "is of account 'another', not 'a'"),
        ("garbled", "a result noted in it cannot be read"),
        ("silent", "nor was it noted in its journal"),
    ],
)
def test_a_hole_that_the_journal_does_not_tell_stays_unknown_and_says_why(
    tmp_path: Path, spoil: str, said: str
) -> None:
    late_h = (KEPT_WITHIN_MS + 5000) / HOUR_MS
    hours, net = (24 + late_h if spoil == "silent" else 24.001), ("NaN" if spoil == "garbled" else "5")
    noted = _noted(tmp_path / "run", (hours, net), (23.97, "5"), account="another" if spoil == "another's" else "a")
    if spoil == "gone":
        (noted / "journal.db").unlink()
    if spoil == "torn":
        (noted / "journal.db").write_bytes(b"torn" * 64)

    async def looked(guard: GuardState, active: Active) -> None:
        active.row.state_dir = str(noted)
        _stored(guard, 1, (24.2, "0"), (23.8, "0"))
        told = await _told(guard, active, "10")
        assert told.candidate_net_quote is None
        assert told.error.startswith("what r/scale-up attempt 1 had come to 24 h ago was not stored")
        assert said in told.error
        assert "\n" not in told.error
        assert (told.attempt_net_quote, told.stage_net_quote) == (10, 10)

    _run(tmp_path / "home", 48, looked)


def test_a_journal_that_is_away_for_a_moment_is_asked_again(tmp_path: Path) -> None:
    noted = _noted(tmp_path / "run", (24.001, "5"))
    (noted / "journal.db").rename(tmp_path / "away")

    async def looked(guard: GuardState, active: Active) -> None:
        active.row.state_dir = str(noted)
        assert (await _told(guard, active, "10")).candidate_net_quote is None
        (tmp_path / "away").rename(noted / "journal.db")
        assert (await _told(guard, active, "10")).candidate_net_quote == 5

    _run(tmp_path / "home", 48, looked)


def test_a_journal_that_takes_long_to_read_holds_up_no_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted, may_go_on = _noted(tmp_path / "run", (24.001, "5")), threading.Event()
    read = results.noted

    def slowly(hole: Hole) -> list[tuple[int, Decimal]]:
        assert may_go_on.wait(20)
        return read(hole)

    monkeypatch.setattr(results, "noted", slowly)
    monkeypatch.setattr(results, "READ_WITHIN_S", 0.01)

    async def looked(guard: GuardState, active: Active) -> None:
        active.row.state_dir = str(noted)
        told = await _told(guard, active, "10")
        assert (told.candidate_net_quote, told.stage_net_quote) == (None, 10)
        assert "is still being read" in told.error
        may_go_on.set()
        monkeypatch.setattr(results, "READ_WITHIN_S", PATIENT_S)
        assert (await _told(guard, active, "10")).candidate_net_quote == 5

    _run(tmp_path / "home", 48, looked)


def test_a_guard_that_was_away_while_the_bot_got_out_knows_a_day_later_what_it_had_come_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole bot in simulated time: its grant runs out when the guard goes, it sells what it holds, notes go on."""
    away_ms, back_ms = BEGAN_MS + 5 * MINUTE_MS, BEGAN_MS + 15 * MINUTE_MS
    truth: list[tuple[int, Decimal]] = []
    filled_ms: list[int] = []

    def watch(event: Event, _: list[Intent], engine: Engine) -> None:
        if isinstance(event, Filled):
            filled_ms.append(event.at_ns // 1_000_000)
        truth.append((engine.state.now_ns // 1_000_000, engine.pnl().net))

    scenario = demo(7, 18 * 60, granted_s=5 * 60, market=at_one_a_second, tick_s=0.5)
    assert run_wire(scenario, tmp_path, watch).exit_code == 0
    assert away_ms < filled_ms[-1] < back_ms - KEPT_WITHIN_MS, "it traded while nobody looked, and then no more"
    noted_from_quote = scenario.parameters.total_max_quote / 1000

    def was(at_ms: int) -> Decimal:
        return truth[bisect_right(truth, at_ms, key=lambda one: one[0]) - 1][1]

    async def looked(guard: GuardState, active: Active) -> None:
        active.row.account = ACCOUNT
        for at_ms in range(BEGAN_MS, BEGAN_MS + 18 * MINUTE_MS, 10_000):
            if not away_ms < at_ms < back_ms:
                _stored(guard, 1, ((now_ms() - at_ms) / HOUR_MS, str(was(at_ms))))
        for at_ms in range(BEGAN_MS + 4 * MINUTE_MS + 5_000, BEGAN_MS + 17 * MINUTE_MS, 20_000):
            monkeypatch.setattr("tasks.guard.facts.now_ms", lambda day_later_ms=at_ms + DAY_MS: day_later_ms)
            active.row.state_dir = None
            in_hole = away_ms + KEPT_WITHIN_MS < at_ms < back_ms
            assert ((await _told(guard, active, "-300")).candidate_net_quote is None) == in_hole
            active.row.state_dir = str(tmp_path)
            told = await _told(guard, active, "-300")
            assert told.error == "", f"{(at_ms - BEGAN_MS) / MINUTE_MS:.2f} min after the launch"
            assert told.candidate_net_quote is not None
            off = told.candidate_net_quote - (-300 - was(at_ms))
            assert abs(off) <= (0 if at_ms > filled_ms[-1] + KEPT_WITHIN_MS else noted_from_quote)

    launched_h_ago = (now_ms() - BEGAN_MS) / HOUR_MS
    _run(tmp_path / "home", launched_h_ago, looked)


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


def test_an_attempt_that_runs_and_that_nobody_stored_lately_is_told_by_its_journal(tmp_path: Path) -> None:
    """Its guard hears nothing of its bot: that guard decides on it, not those of every other account."""
    minute = 1 / 60

    async def looked(guard: GuardState, active: Active) -> None:
        folder = _noted(tmp_path / "run", (3, "0"), (5 * minute, "-3"), (minute, "-7"), account="b")
        _stored(guard, _attempt(guard, 3, None, state_dir=str(folder)), (3, "0"), (4 * minute, "-2"))
        told = await _told(guard, active, "-1")
        assert (told.candidate_net_quote, told.stage_net_quote, told.error) == (-8, -8, "")

    _run(tmp_path / "home", 1, looked)


@pytest.mark.parametrize(
    ("notes", "account", "why"),
    [
        ([(3, "0"), (0.1, "-7")], "b", "not stored, nor was it noted in its journal"),
        ([(0.01, "-7")], "another", "not stored, and its journal does not tell it: "),
        (None, "b", "not stored, and its journal does not tell it: "),
    ],
    ids=["noted too long ago", "the journal of another account", "no journal"],
)
def test_an_attempt_that_runs_and_is_neither_stored_nor_noted_is_unknown(
    tmp_path: Path, notes: list[tuple[float, str]] | None, account: str, why: str
) -> None:
    async def looked(guard: GuardState, active: Active) -> None:
        folder = tmp_path / "run" if notes is None else _noted(tmp_path / "run", *notes, account=account)
        _stored(guard, _attempt(guard, 3, None, state_dir=str(folder)), (3, "0"))
        told = await _told(guard, active, "-1")
        assert (told.candidate_net_quote, told.stage_net_quote) == (None, None)
        assert told.attempt_net_quote == -1
        assert why in told.error

    _run(tmp_path / "home", 1, looked)


def _booked(guard: GuardState, number: int, ago_h: float, net: str | None, why: str = "") -> None:
    """The row of what the venue told of attempt `number` once its account was flat."""
    samples = [] if net is None else [{"at_ms": 0, "value": net}]
    one = {"stage_run_id": number, "criterion_id": RESULT, "phase": "guard", "raw": {"samples": samples}}
    told = {"outcome": "PASS" if net else "UNKNOWN", "value": net, "query": BOOKED, "reason": why}
    row = MeasurementRow(**one, **told, at_ms=now_ms() - round(ago_h * HOUR_MS))
    with guard.store.record.writing() as session:
        session.add(row)


@pytest.mark.parametrize("flat", [True, False], ids=["flat", "not flat yet"])
def test_an_attempt_whose_bot_is_gone_is_known_for_as_long_as_its_rollback_takes_only_once_it_is_booked_flat(
    tmp_path: Path, flat: bool
) -> None:
    """What stands open without a bot loses money that nobody notes."""
    minute = 1 / 60

    async def looked(guard: GuardState, active: Active) -> None:
        gone_at = utc_now() - timedelta(minutes=9)
        times = {"bot_gone_at": gone_at, "flat_at": utc_now() - timedelta(minutes=4) if flat else None}
        number = _attempt(guard, 3, None, step="rolling_back", state_dir=str(tmp_path / "gone"), **times)
        _stored(guard, number, (3, "0"), (10 * minute, "-7"))
        told = await _told(guard, active, "-1")
        assert (told.candidate_net_quote, told.stage_net_quote) == (None, None), "its bot's own word is not the last"
        assert "not stored" in told.error
        if flat:
            _booked(guard, number, 3 * minute, "-307.0000001")
            told = await _told(guard, active, "-1")
            assert told.candidate_net_quote == told.stage_net_quote == Decimal("-308.0000001")
            _booked(guard, number, 2 * minute, "-309")  # its closing broke off and began anew
            assert (await _told(guard, active, "-1")).candidate_net_quote == -310, "it is not over before it has ended"

    _run(tmp_path / "home", 1, looked)


def test_what_was_lost_between_the_bots_end_and_a_flat_account_is_the_attempts(tmp_path: Path) -> None:
    minute = 1 / 60

    async def looked(guard: GuardState, active: Active) -> None:
        gone_at, flat_at = utc_now() - timedelta(hours=2), utc_now() - timedelta(hours=2, minutes=-5)
        number = _attempt(guard, 3, 1.9, bot_gone_at=gone_at, flat_at=flat_at)
        _stored(guard, number, (3, "0"), (2, "-20"))
        assert (await _told(guard, active, "0")).stage_net_quote == -20
        active.results = Results()
        _booked(guard, number, 2 - 6 * minute, "-320")
        told = await _told(guard, active, "0")
        assert (told.candidate_net_quote, told.stage_net_quote) == (-320, -320)

    _run(tmp_path / "home", 1, looked)


def test_what_an_attempt_came_to_once_it_was_flat_and_is_not_known_is_unknown_and_says_so(tmp_path: Path) -> None:
    async def looked(guard: GuardState, active: Active) -> None:
        number = _attempt(guard, 3, 1.9, flat_at=utc_now() - timedelta(hours=2))
        _stored(guard, number, (3, "0"), (2, "-20"))
        _booked(guard, number, 1.95, None, "the venue was away")
        told = await _told(guard, active, "0")
        assert (told.candidate_net_quote, told.stage_net_quote) == (None, None)
        assert told.error.endswith("attempt 1 came to once it was flat is not known: the venue was away")

    _run(tmp_path / "home", 1, looked)


@pytest.mark.parametrize(
    ("gone_h", "flat_h", "lost"),
    [(24.2, 23, -300), (24.2, 24.1, 0), (24.01, 23.99, -300), (20, 19, -320)],
    ids=["flat today", "flat yesterday", "in between", "gone today"],
)
def test_of_a_loss_after_the_bots_end_the_last_24_hours_have_what_came_in_them(
    tmp_path: Path, gone_h: float, flat_h: float, lost: int
) -> None:
    async def looked(guard: GuardState, active: Active) -> None:
        times = {"bot_gone_at": utc_now() - timedelta(hours=gone_h), "flat_at": utc_now() - timedelta(hours=flat_h)}
        number = _attempt(guard, 30 if gone_h > 24 else 22, flat_h - 0.005, **times)
        _stored(guard, number, (22 if gone_h < 24 else 30, "0"), (gone_h, "-20"))
        _booked(guard, number, flat_h - 0.001, "-320")
        told = await _told(guard, active, "0")
        assert (told.candidate_net_quote, told.error) == (lost, "")

    _run(tmp_path / "home", 1, looked)


def test_an_account_that_is_not_flat_a_day_after_its_bot_was_gone_is_not_forgotten(tmp_path: Path) -> None:
    async def looked(guard: GuardState, active: Active) -> None:
        gone_at = utc_now() - timedelta(hours=25)
        number = _attempt(guard, 30, None, step="rolling_back", bot_gone_at=gone_at, state_dir=str(tmp_path / "gone"))
        _stored(guard, number, (30, "0"), (25, "-7"))
        told = await _told(guard, active, "-1")
        assert (told.candidate_net_quote, told.stage_net_quote) == (None, None)
        assert "not stored" in told.error

    _run(tmp_path / "home", 1, looked)


def test_a_record_that_hangs_holds_up_no_look_for_longer_than_a_source_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()

    async def looked(guard: GuardState, active: Active) -> None:
        plan = active.plan
        monkeypatch.setattr(active, "plan", plan.model_copy(update={"source_timeout_s": 0.2}))
        held = asyncio.create_task(guard.store.call(free.wait, 60))
        await asyncio.sleep(0)
        told = await _told(guard, active, "-1")
        assert not held.done(), "it was not waited for"
        assert (told.attempt_net_quote, told.candidate_net_quote) == (-1, None), "the bot's own word needs no record"
        assert told.error == "the record did not answer in 0.2 s"
        free.set()
        assert await held
        monkeypatch.setattr(active, "plan", plan)
        assert (await _told(guard, active, "-1")).candidate_net_quote == -1

    _run(tmp_path / "home", 1, looked)


def test_twenty_attempts_that_run_are_asked_for_by_as_many_questions_as_two(tmp_path: Path) -> None:
    async def looked(guard: GuardState, active: Active) -> None:
        asked: list[str] = []
        event.listen(guard.store.record.engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
        counts = []
        for more in (2, 18):
            for _ in range(more):
                _stored(guard, _attempt(guard, 0.5, None), (0.01, "-1"))
            asked.clear()
            await _told(guard, active, "0")
            counts.append(len(asked))
        told = await _told(guard, active, "0")
        assert (told.candidate_net_quote, told.stage_net_quote) == (-20, -20)
        assert counts[0] == counts[1]

    _run(tmp_path / "home", 0.5, looked)


@pytest.mark.parametrize("to_h", [None, 2.9], ids=["still being closed", "parked"])
def test_a_bot_that_was_never_sent_a_grant_blinds_no_other_attempt(tmp_path: Path, to_h: float | None) -> None:
    """A launch that failed: its bot never said where it listens, and left no journal either."""

    async def looked(guard: GuardState, active: Active) -> None:
        begun = {"launched_at": None, "created_at": utc_now() - timedelta(hours=3), "state_dir": str(tmp_path / "none")}
        _attempt(guard, 3, to_h, obs_url=None, **begun)
        told = await _told(guard, active, "1")
        assert (told.candidate_net_quote, told.stage_net_quote, told.error) == (1, 1, "")

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
