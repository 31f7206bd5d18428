"""Drills at the guard: what they must trip ends nothing inside their window, is required there, and counts nowhere."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from itertools import count as count_from
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast, get_args

import pytest
from sqlalchemy.exc import OperationalError

from bot.stores.sqlite import SCHEMA
from gates.course import Step
from gates.criteria import Criterion
from gates.judge import Cause, Measurement, Outcome
from gates.parts import DrillName
from gates.promql import Selector
from gates.sources.prometheus import Failed
from gates.stages import criteria_of
from tasks.guard import drill_operations, drilling, facts, launching
from tasks.guard import resume as resuming
from tasks.guard.drill_faults import DrillFailed, DrillNotRun, Fault, Orphan
from tasks.guard.drilled import drilled_so_far
from tasks.guard.drilling import drill_by_hand, run_drills
from tasks.guard.facts import part_s
from tasks.guard.looking import measure_now
from tasks.guard.measuring import decide
from tasks.guard.resume import resume
from tasks.guard.state import Active, GuardState, RefusedForNow, now_ms
from tasks.guard.watching import _must_live
from tasks.launch import BotProcess, LaunchError
from tasks.operate import Operator, Told
from tasks.record_tables import Drill, utc_now
from tasks.supervise.identity import Identity
from tests.support.gate_parts import measured
from tests.support.guard_parts import activate, guard_at, never_close, writing

PLAN = Path(__file__).parents[1] / "support" / "plan_stages.yaml"
WINDOW_S = 60.0
"""So long that no machine is too slow to see in it what is to be seen."""
DIVERGENCE = ("mm_recon_divergence_total", "type=orders_remote_only")


@pytest.fixture(autouse=True)
def _never_close(monkeypatch: pytest.MonkeyPatch) -> None:
    never_close(monkeypatch)


class Runs:
    """A bot that says that it quotes."""

    state = "RUNNING"

    async def status(self) -> Told:
        return Told(True, body={"state": self.state})


class Counts(Fault):
    """Makes the journal count divergences, as an orphan does. `times` of them."""

    times = 1

    async def make(self) -> None:
        count(self.active, self.times)

    async def undo(self) -> None:
        self.proof["undone"] = "yes"


class Nothing(Fault):
    """A fault that does not happen."""


class Refused(Fault):
    async def make(self) -> None:
        raise DrillNotRun("the bot does not take the call: HTTP 500")


class Unproven(Counts):
    async def prove(self) -> None:
        raise DrillFailed("it placed an order before OpenOrdersRead")


def count(active: Active, times: int) -> None:
    assert active.state_dir is not None
    with sqlite3.connect(active.state_dir / "journal.db") as db:
        db.execute("UPDATE total SET value = value + ? WHERE name = ? AND labels = ?", (times, *DIVERGENCE))


def _drilled(home: Path, **columns: object) -> tuple[GuardState, Active]:
    """A guard over a testnet whose drills are about to begin; all but the orphan's have passed."""
    state_dir = home / "runs" / "one"
    state_dir.mkdir(parents=True)
    with sqlite3.connect(state_dir / "journal.db") as db:
        db.executescript(SCHEMA)
        db.execute("INSERT INTO meta VALUES ('schema_version', '1')")
        db.executemany(
            "INSERT INTO total VALUES (?, ?, 0)",
            [DIVERGENCE, ("mm_recon_divergence_total", "type=position_mismatch")],
        )
    guard = guard_at(home, "drills", source=PLAN, stage="testnet", state_dir=str(state_dir), **columns)
    active = activate(guard)
    active.operator = cast(Operator, Runs())
    others = tuple(one.model_copy(update={"window_s": WINDOW_S}) for one in active.stage.drills if one.name == "orphan")
    active.stage = active.stage.model_copy(update={"drills": others})
    return guard, active


def _seen(active: Active, name: str, value: int) -> list[tuple[Criterion, Measurement]]:
    """One look at one criterion, now."""
    return [(one, measured(one, value, now_ms())) for one in active.criteria if one.id == name]


def _run(home: Path, work: Callable[[GuardState, Active], Awaitable[None]]) -> None:
    async def run() -> None:
        guard, active = _drilled(home)
        async with writing(guard):
            await work(guard, active)
            for task in list(guard.tasks):
                task.cancel()

    asyncio.run(run())


def _over_once_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The window passes between what a fault does and whether all is as before, however long each of them takes."""

    def is_over(run: drilling._Run) -> bool:
        return run._fault is not None and "undone" in run._fault.proof

    monkeypatch.setattr(drilling._Run, "_is_over", property(is_over))


def _by_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The window passes by looking: two seconds each time that the clock is asked, however fast the machine is."""
    now_s = count_from(0, 2)
    clock = SimpleNamespace(monotonic=lambda: float(next(now_s)), time=time.time)
    monkeypatch.setattr(drilling, "time", clock)
    monkeypatch.setattr(drilling, "LOOK_EVERY_S", 0.01)


async def _divergences(guard: GuardState, active: Active) -> tuple[Outcome, Decimal | None]:
    chosen = [one for one in active.criteria if one.id == "recon_divergences"]
    ((_, one),) = await measure_now(guard, active, chosen)
    return one.outcome, one.value


def test_what_a_drill_made_the_journal_count_counts_no_more_and_one_more_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drilling, "FAULTS", {"orphan": Counts})

    async def work(guard: GuardState, active: Active) -> None:
        await run_drills(guard, active)
        (row,) = guard.store.record.drills(1)
        assert (row.outcome, active.step) == ("passed", Step.WATCH)
        assert row.proof == {"recon_divergences": "1", "divergences": "1", "undone": "yes"}
        assert await _divergences(guard, active) == (Outcome.PASS, 0)
        decide(guard, active)
        assert active.decision is None
        again = drilled_so_far(active.whole, guard.store.record.drills(1), active.drilled_part)
        assert again.uncounted == {"recon_divergences": 1}, "a guard that comes back knows it too"
        assert again.expected == frozenset()
        count(active, 1)
        assert await _divergences(guard, active) == (Outcome.FAIL, 1)

    _run(tmp_path / "home", work)


class OneOrder(Orphan):
    """Its order is announced, counted and gone. `also`: what the bot counts meanwhile that is none of its doing."""

    also: tuple[str, str] | None = None
    behind_s = 0
    """how far the bot's clock, which never steps, is behind the wall clock, which did"""

    async def make(self) -> None:
        note(self.active, "DrillRequested", self.behind_s, name="orphan", who="guard", subject=self.order)
        diverges(self.active, "orders_remote_only", self.order, self.behind_s)
        if self.also is not None:
            diverges(self.active, *self.also)

    async def undo(self) -> None:
        self.proof["undone"] = "yes"


def note(active: Active, kind: str, behind_s: int = 0, **body: object) -> None:
    assert active.state_dir is not None
    with sqlite3.connect(active.state_dir / "journal.db") as db:
        row = (None, time.time_ns() - behind_s * 1_000_000_000, "in", kind, "", "", json.dumps(body))
        db.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def diverges(active: Active, kind: str, detail: str, behind_s: int = 0) -> None:
    """As the bot counts one: in its totals, and in a note of its journal."""
    assert active.state_dir is not None
    with sqlite3.connect(active.state_dir / "journal.db") as db:
        labels = f"type={kind}"
        db.execute("UPDATE total SET value = value + 1 WHERE name = ? AND labels = ?", (DIVERGENCE[0], labels))
    fields = {"type": kind, "symbol": "BTCUSDT", "detail": detail}
    note(active, "Note", behind_s, level="WARNING", event="recon_divergence", fields=fields)


def test_an_orphan_drill_takes_off_its_own_order_also_where_it_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drilling, "FAULTS", {"orphan": OneOrder})

    async def work(guard: GuardState, active: Active) -> None:
        _away_once(monkeypatch, guard, "end_drill")
        with pytest.raises(OperationalError):
            await run_drills(guard, active)
        await asyncio.sleep(0.01)  # an order has the millisecond in its name
        await run_drills(guard, active)
        assert active.step is Step.WATCH
        assert active.drilled.uncounted == {"recon_divergences": 2}
        assert await _divergences(guard, active) == (Outcome.PASS, 0)

    _run(tmp_path / "home", work)


@pytest.mark.parametrize("behind_s", [3600, -3600], ids=["set forth", "set back"])
def test_what_is_the_orphan_drills_does_not_go_by_a_clock_that_was_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind_s: int
) -> None:
    """The bot's clock counts on from its start, whatever is done to the one by which the guard dates a drill."""
    monkeypatch.setattr(OneOrder, "behind_s", behind_s)
    monkeypatch.setattr(drilling, "FAULTS", {"orphan": OneOrder})
    _over_once_undone(monkeypatch)

    async def work(guard: GuardState, active: Active) -> None:
        await run_drills(guard, active)
        assert active.step is Step.WATCH
        await asyncio.sleep(0.01)  # an order has the millisecond in its name
        await drill_by_hand(guard, active, "orphan")
        await run_drills(guard, active)
        assert active.step is Step.WATCH
        assert active.drilled.uncounted == {"recon_divergences": 2}
        assert await _divergences(guard, active) == (Outcome.PASS, 0)

    _run(tmp_path / "home", work)


def test_a_journal_that_cannot_be_read_for_a_moment_does_not_end_an_orphan_drill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ReadLater(OneOrder):
        reads = count_from()

        async def rows(self, query: str, *arguments: int | str) -> list[tuple[Any, ...]]:
            if next(self.reads) == 0:
                raise DrillNotRun("journal.db: disk I/O error")
            return await super().rows(query, *arguments)

    monkeypatch.setattr(drilling, "FAULTS", {"orphan": ReadLater})

    async def work(guard: GuardState, active: Active) -> None:
        await run_drills(guard, active)
        assert active.step is Step.WATCH
        assert active.drilled.uncounted == {"recon_divergences": 1}

    _run(tmp_path / "home", work)


@pytest.mark.parametrize(
    "also",
    [("position_mismatch", "BTCUSDT own 1 venue 2 lots"), ("orders_remote_only", "slwq-1-4711")],
    ids=["a position that differs", "another orphan"],
)
def test_a_divergence_that_is_not_of_the_orphan_drill_is_hidden_by_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, also: tuple[str, str]
) -> None:
    monkeypatch.setattr(OneOrder, "also", also)
    monkeypatch.setattr(drilling, "FAULTS", {"orphan": OneOrder})
    _over_once_undone(monkeypatch)

    async def work(guard: GuardState, active: Active) -> None:
        await run_drills(guard, active)
        await guard.store.settled()
        (row,) = guard.store.record.drills(1)
        assert row.outcome == "failed"
        assert "recon_divergences does not pass again: 1 count" in row.proof["why"]
        assert active.decision is not None
        assert (active.decision.action, active.decision.reason) == ("roll_back", "candidate")

    _run(tmp_path / "home", work)


def test_a_second_drill_takes_off_only_what_it_has_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drilling, "FAULTS", {"orphan": Counts})

    async def work(guard: GuardState, active: Active) -> None:
        await run_drills(guard, active)
        await drill_by_hand(guard, active, "orphan")
        assert active.at(Step.DRILLS)
        await run_drills(guard, active)
        assert [row.outcome for row in guard.store.record.drills(1)] == ["passed", "passed"]
        assert active.drilled.uncounted == {"recon_divergences": 2}
        assert await _divergences(guard, active) == (Outcome.PASS, 0)

    _run(tmp_path / "home", work)


@pytest.mark.parametrize(
    ("fault", "outcome", "end", "why"),
    [
        (Nothing, "failed", "roll_back", "not seen to trip: recon_divergences, divergences"),
        (Unproven, "failed", "roll_back", "it placed an order before OpenOrdersRead"),
        (Refused, "not_run", "park", "the bot does not take the call: HTTP 500"),
    ],
)
def test_a_drill_that_trips_nothing_or_proves_nothing_ends_the_stage_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: type[Fault], outcome: str, end: str, why: str
) -> None:
    monkeypatch.setattr(drilling, "FAULTS", {"orphan": fault})
    if fault is Nothing:
        _by_looks(monkeypatch)

    async def work(guard: GuardState, active: Active) -> None:
        await run_drills(guard, active)
        await guard.store.settled()
        (row,) = guard.store.record.drills(1)
        assert (row.outcome, row.proof["why"]) == (outcome, why)
        assert active.decision is not None
        assert (active.decision.action, active.decision.criterion_id) == (end, "drill_orphan")
        assert active.drilled.expected == frozenset(), "nothing is excused any more"

    _run(tmp_path / "home", work)


@pytest.mark.parametrize(
    ("held_up", "unlooked"), [("at once", "60.0"), ("after a look", "59.0")], ids=["nobody looked", "only early"]
)
def test_a_window_in_which_nobody_looked_to_its_end_is_not_held_against_the_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held_up: str, unlooked: str
) -> None:
    now_s = [0.0]

    class SlowMachine(Nothing):
        async def make(self) -> None:
            now_s[0] += 1
            if held_up == "at once":
                now_s[0] += WINDOW_S

    async def looks(run: drilling._Run, *_: object) -> list[Measurement]:
        now_s[0] += WINDOW_S
        return [measured(one, 0, now_ms()) for one in run.criteria]

    monkeypatch.setattr(drilling, "time", SimpleNamespace(monotonic=lambda: now_s[0], time=time.time))
    monkeypatch.setattr(drilling, "FAULTS", {"orphan": SlowMachine})
    monkeypatch.setattr(drilling._Run, "_measured", looks)

    async def work(guard: GuardState, active: Active) -> None:
        await run_drills(guard, active)
        await guard.store.settled()
        (row,) = guard.store.record.drills(1)
        said = f"nobody looked in the last {unlooked} s of its window: recon_divergences, divergences"
        assert (row.outcome, row.proof["why"]) == ("not_run", said)
        assert (active.row.reason, active.row.end_wanted) == ("environment", "park")

    _run(tmp_path / "home", work)


@pytest.mark.parametrize(("looks", "why"), [(3, "made"), (None, "the bot could not be seen: not scraped")])
def test_a_drill_begins_once_prometheus_sees_the_bot_and_is_not_made_where_it_never_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: int | None, why: str
) -> None:
    """Of a bot that has just been launched it knows nothing yet: what was over by then nobody would have seen."""
    asked: list[str] = []

    class Sight:
        def __init__(self, *_: object) -> None: ...

        async def __aenter__(self) -> Sight:
            return self

        async def __aexit__(self, *_: object) -> None: ...

        async def freshness(self, selector: Selector, at_s: float) -> Failed | None:
            asked.append(selector.account)
            return None if len(asked) == looks else Failed(Cause.STALE, "not scraped")

    class Frozen(Fault):
        async def make(self) -> None:
            asked.append("made")
            raise DrillNotRun("made")

    monkeypatch.setattr(drilling, "PrometheusSource", Sight)
    monkeypatch.setattr(drilling, "FAULTS", {"freeze": Frozen})
    _by_looks(monkeypatch)

    async def work(guard: GuardState, active: Active) -> None:
        freeze = active.stage.drills[0].model_copy(update={"name": "freeze", "trips": ("held_or_frozen",)})
        active.stage = active.stage.model_copy(update={"drills": (freeze,)})
        await run_drills(guard, active)
        await guard.store.settled()
        (row,) = guard.store.record.drills(1)
        assert (row.outcome, row.proof["why"]) == ("not_run", why)
        assert active.row.end_wanted == "park"
        assert ("made" in asked) is (looks is not None)
        assert looks is None or asked == [active.row.account] * looks + ["made"]

    _run(tmp_path / "home", work)


def test_a_bot_that_does_not_quote_again_has_failed_its_drill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drilling, "FAULTS", {"orphan": Counts})
    _over_once_undone(monkeypatch)

    async def work(guard: GuardState, active: Active) -> None:
        cast(Runs, active.operator).state = "HELD"
        await run_drills(guard, active)
        await guard.store.settled()
        (row,) = guard.store.record.drills(1)
        assert (row.outcome, row.proof["why"]) == ("failed", "the bot does not quote again")

    _run(tmp_path / "home", work)


class Recovers(Runs):
    """A bot that quotes again at its third look."""

    def __init__(self) -> None:
        self.states = ["RECOVERING", "RECOVERING"]

    async def status(self) -> Told:
        return Told(True, body={"state": self.states.pop(0) if self.states else "RUNNING"})


class Silent:
    """A bot that answers nobody."""

    async def status(self) -> Told:
        return Told(False, "ReadTimeout")


@pytest.mark.parametrize(
    ("alive", "outcome", "why"),
    [
        (True, "not_run", "the bot does not say whether it quotes again: ReadTimeout"),
        (False, "failed", "the bot ended: it does not quote again"),
    ],
)
def test_a_bot_that_does_not_answer_after_a_drill_is_blamed_only_where_it_is_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alive: bool, outcome: str, why: str
) -> None:
    monkeypatch.setattr(drilling, "FAULTS", {"orphan": Counts})
    monkeypatch.setattr(drilling, "is_alive", lambda _: alive)
    _over_once_undone(monkeypatch)

    async def work(guard: GuardState, active: Active) -> None:
        active.bot = BotProcess("one", Identity(1, 1), tmp_path, "")
        active.operator = cast(Operator, Silent())
        await run_drills(guard, active)
        await guard.store.settled()
        (row,) = guard.store.record.drills(1)
        assert (row.outcome, row.proof["why"]) == (outcome, why)

    _run(tmp_path / "home", work)


def test_what_starting_the_bot_again_takes_prolongs_the_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [0.0]  # a clock of its own: what the test itself takes is no part of the window

    class SlowStart(Counts):
        async def undo(self) -> None:
            self.active.operator = cast(Operator, Recovers())
            now_s[0] += 2 * WINDOW_S  # longer than the whole window, by the machine's doing
            self.starting_s = 2 * WINDOW_S

    monkeypatch.setattr(drilling, "time", SimpleNamespace(monotonic=lambda: now_s[0], time=time.time))
    monkeypatch.setattr(drilling, "FAULTS", {"orphan": SlowStart})

    async def work(guard: GuardState, active: Active) -> None:
        await run_drills(guard, active)
        (row,) = guard.store.record.drills(1)
        assert (row.outcome, row.proof.get("why")) == ("passed", None)

    _run(tmp_path / "home", work)


def test_what_cannot_be_seen_after_a_drill_is_not_the_candidates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drilling, "FAULTS", {"orphan": Counts})
    _over_once_undone(monkeypatch)

    async def blind(
        guard: GuardState, active: Active, criteria: list[Criterion]
    ) -> list[tuple[Criterion, Measurement]]:
        return [(one, measured(one, Cause.SOURCE_UNREACHABLE, now_ms())) for one in criteria]

    monkeypatch.setattr(drilling, "measure_now", blind)

    async def work(guard: GuardState, active: Active) -> None:
        await run_drills(guard, active)
        await guard.store.settled()
        (row,) = guard.store.record.drills(1)
        assert row.outcome == "not_run"
        assert "recon_divergences does not pass again" in row.proof["why"]
        assert (active.row.reason, active.row.end_wanted) == ("environment", "park")

    _run(tmp_path / "home", work)


def test_an_alert_that_cannot_be_looked_at_is_not_one_that_still_fires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drill_operations, "RESOLVED_WITHIN_S", 0.0)

    async def work(guard: GuardState, active: Active) -> None:
        with pytest.raises(DrillNotRun, match="whether the alert fires could not be seen"):
            await drill_operations.Alert(guard, active, 1, 0.0).undo()

    _run(tmp_path / "home", work)


def test_only_what_the_drill_announced_is_excused_and_only_inside_its_window(tmp_path: Path) -> None:
    async def work(guard: GuardState, active: Active) -> None:
        assert active.history is not None
        criteria = criteria_of(active.stage)
        active.drilled.expect(criteria, ["process_up"], 0.0)
        active.bot = BotProcess("one", Identity(1, 1), tmp_path, "")
        assert _must_live(active), "it is not killed yet"
        active.drilled.killing = (1, 1)
        assert not _must_live(active), "the death that was announced"
        dead = _seen(active, "process_up", 0) + _seen(active, "halted", 0)
        active.history = active.history.after(one for _, one in dead)
        decide(guard, active)
        assert active.decision is None
        active.drilled.lift(2**62)
        assert _must_live(active)
        assert [active.drilled.is_old(one) for _, one in dead] == [True, False], "asked for while it was still excused"
        decide(guard, active)
        assert active.decision is not None
        assert active.decision.criterion_id == "process_up"

    _run(tmp_path / "home", work)


def test_a_bot_that_a_drill_silenced_is_not_blamed_for_what_is_unknown_of_it_and_again_afterwards(
    tmp_path: Path,
) -> None:
    """Prometheus finds no series of a killed bot: past its deadline that would be the candidate's fault."""

    async def work(guard: GuardState, active: Active) -> None:
        assert active.history is not None
        began_ms = now_ms() - 60_000
        (asked,) = [one for one in active.criteria if one.id == "halted"]
        before = active.history.after([measured(asked, 0, began_ms - 1000)])
        unknown = before.after(measured(asked, Cause.NO_DATA, began_ms + at) for at in range(0, 60_000, 1000))
        active.history = unknown
        active.drilled.expect(criteria_of(active.stage), ["process_up"], began_ms / 1000, silenced=True)
        decide(guard, active)
        assert active.decision is None
        active.history = unknown.seen_since(began_ms, before, now_ms())
        active.drilled.lift(now_ms())
        decide(guard, active)
        assert active.decision is None, "its deadline begins with the end of the drill"
        seen = unknown.after([measured(asked, 0, now_ms())])
        assert seen.blind_ms("halted") > 50_000
        assert seen.seen_since(began_ms, before, now_ms()).blind_ms("halted") == 0
        active.history = unknown
        decide(guard, active)
        assert active.decision is not None
        assert active.decision.criterion_id == "halted"

    _run(tmp_path / "home", work)


def test_a_breach_that_no_drill_announced_ends_the_stage_also_during_a_drill(tmp_path: Path) -> None:
    async def work(guard: GuardState, active: Active) -> None:
        assert active.history is not None
        active.drilled.expect(criteria_of(active.stage), ["process_up"], 0.0)
        active.history = active.history.after(one for _, one in _seen(active, "taker_fills", 1))
        decide(guard, active)
        assert active.decision is not None
        assert active.decision.criterion_id == "taker_fills"

    _run(tmp_path / "home", work)


def test_a_guard_that_comes_back_in_a_drill_expects_what_it_announced(tmp_path: Path) -> None:
    async def work(guard: GuardState, active: Active) -> None:
        drill = next(one for one in active.whole.at(0).drills if one.name == "orphan")
        count(active, 3)
        await drilling._open(guard, active, drill)
        (row,) = guard.store.record.drills(1)
        assert row.proof["before"] == {"recon_divergences": "3"}, "what was there before the drill is not its doing"
        assert row.proof["since_entry"] == 0, "what the journal holds before the drill is not its doing"
        again = drilled_so_far(active.whole, guard.store.record.drills(1), active.drilled_part)
        assert again.expected == {"recon_divergences"}
        assert again.uncounted == {}

    _run(tmp_path / "home", work)


def test_a_killed_bot_is_granted_nothing_before_it_is_taken_over_under_the_next_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(guard: GuardState, active: Active) -> None:
        started: list[list[str]] = []

        def start(command: list[str], *_: object) -> Identity:
            assert not guard.granting, "a renewal at the same address would reach the new process too early"
            assert active.operator is None
            started.append(command)
            raise LaunchError("not here")

        monkeypatch.setattr(launching, "start_process", start)
        guard.granting, active.operator = (
            True,
            Operator("http://127.0.0.1:9", grant_token="g", approve_token="a", grant_ttl_s=5),
        )
        active.row.run, active.row.obs_url = "one", "http://127.0.0.1:4711"
        with pytest.raises(LaunchError, match="not here"):
            await launching.relaunch(guard, active)
        (command,) = started
        assert command[-1] == "--recover"
        assert command[command.index("--obs-port") + 1] == "4711"
        assert not active.launching
        active.row.replicas_frozen = True
        with pytest.raises(LaunchError, match="frozen at zero"):
            await launching.relaunch(guard, active)

    _run(tmp_path / "home", work)


def test_every_drill_that_a_plan_may_name_can_be_made() -> None:
    assert set(drilling.FAULTS) == set(get_args(DrillName))


def test_how_long_a_part_has_lasted_counts_from_the_warm_up_on_and_its_drills_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = utc_now()
    monkeypatch.setattr(facts, "utc_now", lambda: now)  # what the test itself takes is no part of it
    guard, active = _drilled(tmp_path, launched_at=now - timedelta(seconds=60))
    told = part_s(active)
    assert told is not None
    assert told == pytest.approx(60 - active.stage.warm_up_s, abs=0.01)
    active.row.part_from = now - timedelta(seconds=20)  # a later part, or one that was stepped down to
    assert part_s(active) == pytest.approx(20)
    active.row.launched_at = None
    assert part_s(active) is None
    guard.store.close()


def test_a_part_lasts_until_its_watch_is_over_however_late_it_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flow that was away must not make a smoke test slow."""
    now = utc_now()
    monkeypatch.setattr(facts, "utc_now", lambda: now)
    begun = now - timedelta(seconds=2000)
    guard, active = _drilled(tmp_path, launched_at=begun, watched_at=begun + timedelta(seconds=600))
    assert part_s(active) == pytest.approx(2000 - active.stage.warm_up_s, abs=0.01), "it is watched on, or again"
    for step in ("watched", "judged"):
        active.row.step = step
        assert part_s(active) == pytest.approx(600 - active.stage.warm_up_s)
    guard.store.close()


# ---- what a guard or a record that goes away leaves of a drill ------------------------------------------------------


AWAY = OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly"))


def _away_once(monkeypatch: pytest.MonkeyPatch, guard: GuardState, method: str, *, written: bool = False) -> None:
    """The record gives that call no answer, the first time."""
    record, losses = guard.store.record, iter([True])
    real = getattr(record, method)

    def lost(*args: Any, **changes: Any) -> Any:
        away = next(losses, False)
        given = real(*args, **changes) if written or not away else None
        if away:
            raise AWAY
        return given

    monkeypatch.setattr(record, method, lost)


def test_a_drill_asked_for_by_hand_that_did_not_begin_excuses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next guard, and every one after it, would take the criterion for one that a drill breaks right now."""
    monkeypatch.setattr(drilling, "FAULTS", {"orphan": Counts})

    async def work(guard: GuardState, active: Active) -> None:
        record = guard.store.record
        record.change_stage_run(1, "step", step="watch")
        active.row.step = "watch"
        _away_once(monkeypatch, guard, "change_stage_run")
        with pytest.raises(OperationalError):
            await drill_by_hand(guard, active, "orphan")
        assert drilled_so_far(active.whole, record.drills(1), 0).expected == frozenset()
        await drill_by_hand(guard, active, "orphan")
        await run_drills(guard, active)
        assert (record.stage_run(1).step, active.step) == ("watch", Step.WATCH)
        assert [row.outcome for row in record.drills(1)] == ["passed"]
        assert drilled_so_far(active.whole, record.drills(1), 0).expected == frozenset(), "nothing is left of it"

    _run(tmp_path / "home", work)


@pytest.mark.parametrize("step", ["watch", "watched", "judged"])
def test_a_drill_that_stands_open_where_none_is_made_excuses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """An older version wrote the row of a drill asked for by hand before the step, and could die in between."""

    async def nothing(guard: GuardState, active: Active) -> None: ...

    monkeypatch.setattr(resuming, "adopt", nothing)

    async def back() -> None:
        guard = guard_at(tmp_path / "home", step, source=PLAN, stage="testnet", launched_at=utc_now())
        trips = ["recon_divergences", "process_up"]
        guard.store.record.add_drill(Drill(stage_run_id=1, name="restart", criteria=trips))
        await resume(guard)
        assert guard.active is not None
        drilled = guard.active.drilled
        assert (drilled.expected, drilled.unproven, drilled.silenced) == (frozenset(), frozenset(), False)
        assert drilled.decides("recon_divergences", Outcome.FAIL)
        for task in list(guard.tasks):
            task.cancel()
        guard.store.close()

    asyncio.run(back())


def test_a_drill_asked_for_while_others_run_is_not_taken_for_one_that_had_passed_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drilling, "FAULTS", {"orphan": Counts})

    async def work(guard: GuardState, active: Active) -> None:
        freeze = next(one for one in active.whole.at(0).drills if one.name == "freeze")
        row = await drilling._open(guard, active, freeze)
        guard.store.record.end_drill(row.id or 0, "passed", {})
        with pytest.raises(RefusedForNow, match="'freeze' is not among the drills that are made now: orphan"):
            await drill_by_hand(guard, active, "freeze")
        await drill_by_hand(guard, active, "orphan")  # which is to come by itself

    _run(tmp_path / "home", work)


@pytest.mark.parametrize(("fault", "end"), [(Nothing, "roll_back"), (Refused, "park")])
def test_what_a_drill_has_shown_ends_the_stage_though_the_record_does_not_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: type[Fault], end: str
) -> None:
    """Made again, it might pass: the candidate would be promoted with a drill that it has failed."""
    monkeypatch.setattr(drilling, "FAULTS", {"orphan": fault})
    if fault is Nothing:
        _by_looks(monkeypatch)

    async def work(guard: GuardState, active: Active) -> None:
        _away_once(monkeypatch, guard, "end_drill")
        await run_drills(guard, active)
        assert active.decision is not None
        assert (active.decision.action, active.decision.criterion_id) == (end, "drill_orphan")
        await guard.store.settled()
        assert [bool(row.outcome) for row in guard.store.record.drills(1)] == [True]

    _run(tmp_path / "home", work)


@pytest.mark.parametrize(("outcome", "end"), [("failed", "roll_back"), ("not_run", "park")])
def test_a_guard_that_died_between_a_failed_drill_and_the_end_of_its_stage_is_followed_by_one_that_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: str, end: str
) -> None:
    monkeypatch.setattr(drilling, "FAULTS", {"orphan": Counts})

    async def work(guard: GuardState, active: Active) -> None:
        (drill,) = active.stage.drills
        row = await drilling._open(guard, active, drill)
        guard.store.record.end_drill(row.id or 0, outcome, {"why": "it placed an order before OpenOrdersRead"})
        await run_drills(guard, active)
        assert active.decision is not None, "it is not made again until it passes"
        assert (active.decision.action, active.decision.criterion_id) == (end, "drill_orphan")
        assert active.decision.sentence == "it placed an order before OpenOrdersRead"
        assert len(guard.store.record.drills(1)) == 1

    _run(tmp_path / "home", work)


@pytest.mark.parametrize("written", [False, True])
def test_a_drill_made_again_takes_off_what_it_made_the_journal_count_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    """Twice taken off, it would hide as many real ones."""
    monkeypatch.setattr(drilling, "FAULTS", {"orphan": Counts})

    async def work(guard: GuardState, active: Active) -> None:
        _away_once(monkeypatch, guard, "end_drill", written=written)
        with pytest.raises(OperationalError):
            await run_drills(guard, active)
        await run_drills(guard, active)
        assert active.step is Step.WATCH
        assert await _divergences(guard, active) == (Outcome.PASS, 0)
        assert active.drilled.unproven == frozenset(), "and the last look at what it left out asks of it again"
        count(active, 1)
        assert await _divergences(guard, active) == (Outcome.FAIL, 1)

    _run(tmp_path / "home", work)


def test_a_drill_that_breaks_off_by_what_nobody_expected_is_not_made_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoRoom(Counts):
        async def make(self) -> None:
            await super().make()
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(drilling, "FAULTS", {"orphan": NoRoom})

    async def work(guard: GuardState, active: Active) -> None:
        await run_drills(guard, active)
        await guard.store.settled()
        (row,) = guard.store.record.drills(1)
        assert (row.outcome, row.proof["why"]) == ("not_run", "OSError: [Errno 28] No space left on device")
        assert active.decision is not None
        assert (active.decision.action, active.decision.criterion_id) == ("park", "drill_orphan")

    _run(tmp_path / "home", work)


def test_what_a_drill_has_shown_stands_though_it_cannot_be_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck(Nothing):
        async def undo(self) -> None:
            raise DrillNotRun("the order may still stand: ReadTimeout")

    monkeypatch.setattr(drilling, "FAULTS", {"orphan": Stuck})
    _by_looks(monkeypatch)

    async def work(guard: GuardState, active: Active) -> None:
        await run_drills(guard, active)
        assert active.decision is not None
        assert (active.decision.action, active.decision.reason) == ("roll_back", "candidate")
        assert active.decision.sentence == "not seen to trip: recon_divergences, divergences"

    _run(tmp_path / "home", work)


def test_a_watch_that_begins_anew_after_a_drill_is_judged_by_a_data_check_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drilling, "FAULTS", {"orphan": Counts})

    async def work(guard: GuardState, active: Active) -> None:
        active.row.step = "watch"
        active.data_check = guard.spawn(asyncio.sleep(0), "data check")
        await drill_by_hand(guard, active, "orphan")
        await run_drills(guard, active)
        assert active.step is Step.WATCH
        assert active.data_check is None

    _run(tmp_path / "home", work)
