"""Steps of a scale-up at the guard: up, down, and what keeps a stage from being begun or promoted at all."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy.exc import OperationalError

from bot.stores.sqlite import SCHEMA
from flows.approval import _evidence_page
from gates.course import Step
from gates.criteria import Criterion
from gates.decision import BLIND, Action, Decision, Streak
from gates.judge import Measurement, Outcome
from gates.stages import ROOT, Plan, load_plan
from gates.windows import PromotionWindows
from tasks import evidence_process
from tasks.evidence_process import signed_evidence_fault
from tasks.guard import beginning, judging, parts
from tasks.guard.beginning import _refuse_unfit
from tasks.guard.closing import by_people, end_stage
from tasks.guard.grants import renew_once
from tasks.guard.judging import _pass, judge_stage
from tasks.guard.measuring import decide
from tasks.guard.parts import first_part, may_step_down, next_part, step_down
from tasks.guard.promoting import promote_stage
from tasks.guard.standing import refuse_other_evidence
from tasks.guard.state import Active, GuardState, Refused, now_ms
from tasks.operate import GrantAnswer, Limits, Operator
from tasks.record_audit import record_fault
from tasks.record_tables import Rollout, StagePart, StageRun, utc_now
from tasks.state_folder import write_private
from tasks.supervise.prometheus import RULES
from tests.support.gate_parts import measured
from tests.support.guard_parts import TOLD, activate, guard_at, never_close, value_of, writing

PLAN = Path(__file__).parents[1] / "support" / "plan_stages.yaml"
PLAN_WORDS = ("plan_name", "plan_path", "plan_digest")
AGAINST = Decision(Action.ROLL_BACK, "candidate", "filled", None, "go > 0", (), 0, "too few")


class TakesEveryGrant:
    """A bot's HTTP that takes each grant and remembers its limits."""

    def __init__(self) -> None:
        self.granted: list[tuple[int, Limits]] = []

    async def grant(self, account: str, epoch: int, limits: Limits, ttl_s: float) -> GrantAnswer:
        self.granted.append((epoch, limits))
        return GrantAnswer(200, "RUNNING")


@pytest.fixture(autouse=True)
def _never_close(monkeypatch: pytest.MonkeyPatch) -> None:
    never_close(monkeypatch)


def _scaling(home: Path, step: str, part: int) -> tuple[GuardState, Active, TakesEveryGrant]:
    """A guard over a scale-up whose bot runs in that part under a grant."""
    state_dir = home / "runs" / "one"
    state_dir.mkdir(parents=True)
    with sqlite3.connect(state_dir / "journal.db") as db:
        db.executescript(SCHEMA)
        db.execute("INSERT INTO meta VALUES ('schema_version', '1')")
    guard = guard_at(home, step, source=PLAN, stage="scale-up", part=part, state_dir=str(state_dir), verdict="GO")
    active, bot = activate(guard), TakesEveryGrant()
    active.operator, guard.granting = cast(Operator, bot), True
    guard.store.record.enter_part(first_part(active, guard.epoch), "")
    return guard, active, bot


def _run(
    home: Path, step: str, part: int, work: Callable[[GuardState, Active, TakesEveryGrant], Awaitable[None]]
) -> None:
    async def run() -> None:
        guard, active, bot = _scaling(home, step, part)
        async with writing(guard):
            await work(guard, active, bot)
            for task in list(guard.tasks):
                task.cancel()

    asyncio.run(run())


def test_the_next_step_is_granted_at_once_under_the_next_epoch_with_its_own_size(tmp_path: Path) -> None:
    async def up(guard: GuardState, active: Active, bot: TakesEveryGrant) -> None:
        await next_part(guard, active)
        stored = guard.store.record.stage_run(1)
        assert (stored.step, stored.part, stored.epoch) == ("watch", 1, guard.epoch)
        assert (stored.judged_at, stored.evidence_digest, stored.verdict) == (None, None, None)
        ((epoch, limits),) = bot.granted
        assert (epoch, limits.inventory_max_quote, limits.total_max_quote) == (guard.epoch, 2880, 14400)
        assert [(one.name, one.outcome) for one in guard.store.record.parts(1)] == [
            ("step-1", "passed"),
            ("step-2", ""),
        ]

    _run(tmp_path / "home", "judged", 0, up)


def test_what_a_step_is_judged_from_is_written_with_it_or_it_is_not_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a guard that died in between would judge the step by the fills of the one before it."""

    async def up(guard: GuardState, active: Active, bot: TakesEveryGrant) -> None:
        record, journal = guard.store.record, (active.state_dir or tmp_path) / "journal.db"
        record.change_stage_run(1, "baseline", baseline=[["filled", "", 1]])
        away = journal.rename(journal.with_suffix(".away"))
        with pytest.raises(Refused, match="cannot be read"):
            await next_part(guard, active)
        assert (record.stage_run(1).step, record.stage_run(1).part, bot.granted) == ("judged", 0, [])
        away.rename(journal)
        monkeypatch.setattr(record, "change_stage_run", None)  # dies before it writes anything more
        with suppress(TypeError):
            await next_part(guard, active)
        assert (record.stage_run(1).part, record.stage_run(1).baseline) == (1, [])
        assert record_fault(record, "a") == "", "and the chain tells it"

    _run(tmp_path / "home", "judged", 0, up)


def test_a_verdict_against_a_step_leads_one_down_and_only_once(tmp_path: Path) -> None:
    async def down(guard: GuardState, active: Active, bot: TakesEveryGrant) -> None:
        assert await may_step_down(guard, active, AGAINST)
        await step_down(guard, active, AGAINST)
        assert (active.step, active.row.part, active.stage.inventory_max_quote) == (Step.WATCH, 0, 2400)
        assert [limits.inventory_max_quote for _, limits in bot.granted] == [2400], "what is smaller holds at once"
        assert [one.outcome for one in guard.store.record.parts(1)] == ["stepped_down", ""]
        active.row.step, active.row.part = "watched", 1
        assert not await may_step_down(guard, active, AGAINST), "a second time it is closed flat"

    _run(tmp_path / "home", "watched", 1, down)


LOST = OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly"))


def _lose_answers(
    monkeypatch: pytest.MonkeyPatch,
    guard: GuardState,
    *,
    written: bool,
    lost: int = 1,
    then: Callable[[], object] = int,
) -> None:
    """So many times the entry of a part gets no answer, `written` or not; `then` is called at each."""
    record, losses = guard.store.record, iter(range(lost))
    enter = record.enter_part

    def answer_lost(*args: Any, **changes: Any) -> None:
        away = next(losses, None) is not None
        if written or not away:
            enter(*args, **changes)
        if away:
            then()
            raise LOST

    monkeypatch.setattr(record, "enter_part", answer_lost)
    monkeypatch.setattr(parts, "RETRY_S", 0.01)


@pytest.mark.parametrize("written", [True, False])
def test_the_next_step_is_entered_once_though_the_answer_of_the_record_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    """Else the record stands at the next step and the guard at the one before, whose evidence it finds no more."""

    async def up(guard: GuardState, active: Active, bot: TakesEveryGrant) -> None:
        _lose_answers(monkeypatch, guard, written=written, lost=2)
        await next_part(guard, active)
        stored = guard.store.record.stage_run(1)
        assert (stored.step, stored.part, stored.epoch) == ("watch", 1, guard.epoch)
        assert (active.row.step, active.row.part, active.row.epoch) == ("watch", 1, guard.epoch)
        assert [epoch for epoch, _ in bot.granted] == [guard.epoch], "granted once, under the only new epoch"
        assert [one.number for one in guard.store.record.parts(1)] == [0, 1]
        assert [one.kind for one in guard.store.record.notices("a")].count("next_part") == 1

    _run(tmp_path / "home", "judged", 0, up)


def test_a_step_down_whose_answer_is_lost_is_no_rollback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def down(guard: GuardState, active: Active, bot: TakesEveryGrant) -> None:
        _lose_answers(monkeypatch, guard, written=True)
        await step_down(guard, active, AGAINST)
        assert (active.step, active.row.part) == (Step.WATCH, 0)
        assert [limits.inventory_max_quote for _, limits in bot.granted] == [2400]
        assert [one.outcome for one in guard.store.record.parts(1)] == ["stepped_down", ""]

    _run(tmp_path / "home", "watched", 1, down)


@pytest.mark.parametrize(("way", "limit"), [("down", 2400), ("up", 2400)])
def test_what_is_smaller_is_granted_while_the_record_is_away_and_what_is_larger_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, limit: int
) -> None:
    async def enter(guard: GuardState, active: Active, bot: TakesEveryGrant) -> None:
        loop = asyncio.get_running_loop()

        def renew() -> None:
            asyncio.run_coroutine_threadsafe(renew_once(guard, active), loop).result(5)

        _lose_answers(monkeypatch, guard, written=False, then=renew)
        await (step_down(guard, active, AGAINST) if way == "down" else next_part(guard, active))
        epoch, limits = bot.granted[0]
        assert (epoch, limits.inventory_max_quote) == (guard.epoch, limit)
        assert bot.granted[-1][1].inventory_max_quote == (2400 if way == "down" else 2880)

    _run(tmp_path / "home", *(("watched", 1) if way == "down" else ("judged", 0)), enter)


def test_a_step_down_waits_for_the_journal_at_the_smaller_size_and_is_judged_from_what_it_then_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Judged from the part before, the plateau would pass by fills, or end by losses, of the size that it left."""
    monkeypatch.setattr(parts, "RETRY_S", 0.01)
    counted, waits = parts._counted, asyncio.Event()

    async def looks(active: Active) -> list[Any] | None:
        found = await counted(active)
        if found is None:
            waits.set()
        return found

    monkeypatch.setattr(parts, "_counted", looks)

    async def down(guard: GuardState, active: Active, bot: TakesEveryGrant) -> None:
        record, journal = guard.store.record, (active.state_dir or tmp_path) / "journal.db"
        old = [["mm_orders_filled_total", "", 1]]
        record.change_stage_run(1, "baseline", baseline=old)
        with sqlite3.connect(journal) as db:
            db.execute("INSERT INTO total VALUES ('mm_orders_filled_total', '', 7)")
        away = journal.rename(journal.with_suffix(".away"))
        stepping = asyncio.ensure_future(step_down(guard, active, AGAINST))
        await asyncio.wait_for(waits.wait(), 30)
        assert (active.step, active.limits.inventory_max_quote) == (Step.WATCHED, 2400)
        away.rename(journal)
        await asyncio.wait_for(stepping, 30)
        assert (active.step, active.row.part) == (Step.WATCH, 0)
        assert record.stage_run(1).baseline == active.row.baseline == [["mm_orders_filled_total", "", 7]]

    _run(tmp_path / "home", "watched", 1, down)


def test_a_step_down_whose_journal_stays_away_parks_flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "RETRY_S", 0.01)

    async def down(guard: GuardState, active: Active, bot: TakesEveryGrant) -> None:
        active.criteria = tuple(one.model_copy(update={"unknown_deadline_s": 0.05}) for one in active.criteria)
        ((active.state_dir or tmp_path) / "journal.db").unlink()
        await asyncio.wait_for(step_down(guard, active, AGAINST), 30)
        assert (active.step, active.row.part) == (Step.ROLLING_BACK, 1)
        assert active.decision is not None
        assert (active.decision.action, active.decision.reason) == (Action.PARK, "environment")
        assert "journal" in active.decision.sentence

    _run(tmp_path / "home", "watched", 1, down)


def test_an_entry_that_waits_for_the_record_is_left_alone_once_the_stage_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stopped(guard: GuardState, active: Active, bot: TakesEveryGrant) -> None:
        loop, asked = asyncio.get_running_loop(), asyncio.Event()

        def stop() -> None:
            end_stage(guard, active, by_people("ada", "lunch"))
            asked.set()

        then = partial(loop.call_soon_threadsafe, stop)
        _lose_answers(monkeypatch, guard, written=False, lost=10_000, then=then)
        await asyncio.wait_for(next_part(guard, active), 10)
        assert asked.is_set()
        await guard.store.settled()
        assert (active.row.step, active.row.part, bot.granted) == ("rolling_back", 0, [])
        assert (guard.store.record.stage_run(1).step, guard.store.record.stage_run(1).part) == ("rolling_back", 0)

    _run(tmp_path / "home", "judged", 0, stopped)


def test_an_entry_waits_for_the_record_no_longer_than_anything_may_be_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(guard: GuardState, active: Active, bot: TakesEveryGrant) -> None:
        active.criteria = tuple(one.model_copy(update={"unknown_deadline_s": 0.05}) for one in active.criteria)
        _lose_answers(monkeypatch, guard, written=False, lost=10_000)
        await asyncio.wait_for(next_part(guard, active), 10)
        decision = active.decision
        assert decision is not None
        assert (decision.action, decision.reason, decision.criterion_id) == (Action.PARK, "environment", BLIND)
        assert not bot.granted

    _run(tmp_path / "home", "judged", 0, away)


class WritesEvidence:
    """In place of the process that builds evidence: one page, another each time, and its manifest."""

    returncode = 0

    def __init__(self) -> None:
        self.folders: list[Path] = []

    async def __call__(self, *command: str, **options: object) -> WritesEvidence:
        self._write(Path(command[command.index("--out") + 1]))
        return self

    def _write(self, out: Path) -> None:
        self.folders.append(out)
        out.mkdir(parents=True, exist_ok=True)
        (out / "index.html").write_text(f"page {len(self.folders)}")
        page = hashlib.sha256((out / "index.html").read_bytes()).hexdigest()
        (out / "manifest.json").write_text(json.dumps({"files": {"index.html": page}}))

    async def communicate(self) -> tuple[bytes, bytes]:
        return b"", b""


def test_what_was_signed_for_a_step_stands_after_it_was_stepped_down_to_and_judged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = WritesEvidence()
    monkeypatch.setattr(evidence_process.asyncio, "create_subprocess_exec", writes)

    async def twice(guard: GuardState, active: Active, bot: TakesEveryGrant) -> None:
        digests = []
        for visit in range(3):
            await _pass(guard, active)
            await refuse_other_evidence(guard, active)
            digests.append(str(active.row.evidence_digest))
            record = guard.store.record
            assert _evidence_page(record, record.stage_run(1)) == str(writes.folders[visit] / "index.html"), "the form"
            if visit == 0:
                await next_part(guard, active)
            await _is_watched(guard, active)
            if visit == 1:
                await step_down(guard, active, AGAINST)
                await _is_watched(guard, active)
        assert [one.number for one in guard.store.record.parts(1)] == [0, 1, 0]
        assert [folder.name for folder in writes.folders] == ["judged", "judged-2", "judged-3"]
        for folder, digest in zip(writes.folders, digests, strict=True):
            assert signed_evidence_fault(folder, digest) == ""

    _run(tmp_path / "home", "watched", 0, twice)


async def _is_watched(guard: GuardState, active: Active) -> None:
    await guard.store.call(guard.store.record.change_stage_run, active.id, "watched", [], step="watched")
    active.row.step = "watched"


def test_a_guards_no_go_that_a_verdict_sees_first_closes_flat_and_steps_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look(guard: GuardState, active: Active, criteria: object) -> list[tuple[Criterion, Measurement]]:
        seen = [one for one in active.criteria if one.phase == "guard" and not one.windowed]
        wanted = {one.id: Outcome.FAIL if one.id == "taker_fills" else Outcome.PASS for one in seen}
        return [(one, measured(one, value_of(one, wanted[one.id]), now_ms())) for one in seen]

    monkeypatch.setattr(judging, "measure_now", look)

    async def judged(guard: GuardState, active: Active, bot: TakesEveryGrant) -> None:
        assert (await judge_stage(guard, active))["decided_by"] == "taker_fills"
        assert (active.step, active.row.part, bot.granted) == (Step.ROLLING_BACK, 1, [])
        assert active.decision is not None
        assert (active.decision.action, active.decision.criterion_id) == (Action.ROLL_BACK, "taker_fills")

    _run(tmp_path / "home", "watched", 1, judged)


@pytest.mark.parametrize(
    ("found", "step", "part"),
    [("hold", Step.ROLLING_BACK, 1), ("no_go of the environment", Step.ROLLING_BACK, 1), ("no_go", Step.WATCH, 0)],
)
def test_what_holds_a_second_time_is_parked_flat_and_only_a_no_go_against_the_candidate_steps_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str, step: Step, part: int
) -> None:
    """What holds says nothing against the size: a smaller one would not have shown more."""

    async def look(guard: GuardState, active: Active, criteria: object) -> list[tuple[Criterion, Measurement]]:
        seen = [one for one in active.criteria if one.phase == "guard" and not one.windowed]
        against = [one for one in active.criteria if one.id == "filled" and found != "hold"]
        looked = [(one, measured(one, value_of(one, Outcome.PASS), now_ms())) for one in seen]
        return looked + [(one, measured(one, 0, now_ms())) for one in against]

    monkeypatch.setattr(judging, "measure_now", look)

    async def judged(guard: GuardState, active: Active, bot: TakesEveryGrant) -> None:
        active.prolonged = True
        if found == "no_go of the environment":
            blamed = {"filled": {"on_no_go": "environment"}}
            active.criteria = tuple(one.model_copy(update=blamed.get(one.id, {})) for one in active.criteria)
        await judge_stage(guard, active)
        assert (active.step, active.row.part) == (step, part)
        if step is Step.ROLLING_BACK:
            assert active.decision is not None
            assert (active.decision.action, active.decision.reason) == (Action.PARK, "environment")
            assert not bot.granted

    _run(tmp_path / "home", "watched", 1, judged)


def test_what_only_an_earlier_part_looked_at_has_time_to_be_looked_at_again(tmp_path: Path) -> None:
    """Else a step down to a part with a criterion of its own would end in the turn in which it is made."""

    async def down(guard: GuardState, active: Active, bot: TakesEveryGrant) -> None:
        assert active.history is not None
        name = "taker_fills"
        old = [one for one in active.criteria if one.id == name]
        streak = Streak(measured(old[0], 0, now_ms() - 86_400_000), ever_known=True)
        active.history = replace(active.history, streaks={**active.history.streaks, name: streak})
        active.criteria = tuple(one for one in active.criteria if one.id != name)
        await step_down(guard, active, AGAINST)
        decide(guard, active)
        assert (active.decision, active.step, active.row.part) == (None, Step.WATCH, 0)

    _run(tmp_path / "home", "watched", 1, down)


def test_what_was_unseen_of_a_part_is_not_held_against_the_next_one(tmp_path: Path) -> None:
    """Each part bears its share: the slices of many together were compared with the share of the present one alone."""

    async def up(guard: GuardState, active: Active, bot: TakesEveryGrant) -> None:
        assert active.history is not None
        name = "taker_fills"
        streak = replace(active.history.streaks[name], blind_ms=86_400_000)
        streaks = {**active.history.streaks, name: streak}
        active.history = replace(active.history, streaks=streaks, blind_before_ms={name: 86_400_000})
        await next_part(guard, active)
        decide(guard, active)
        assert (active.decision, active.step, active.row.part) == (None, Step.WATCH, 1)
        assert active.history.blind_ms(name) == 0

    _run(tmp_path / "home", "judged", 0, up)


def test_the_first_step_has_nothing_below_it(tmp_path: Path) -> None:
    async def first(guard: GuardState, active: Active, bot: TakesEveryGrant) -> None:
        assert not await may_step_down(guard, active, AGAINST)

    _run(tmp_path / "home", "watched", 0, first)


def test_outside_its_window_nothing_is_promoted_and_the_opening_is_told(tmp_path: Path) -> None:
    async def asked(guard: GuardState, active: Active, bot: TakesEveryGrant) -> None:
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%a").lower()
        windows = PromotionWindows.model_validate({"days": [tomorrow]})
        active.plan = active.plan.model_copy(update={"promotion": windows})
        with pytest.raises(Refused, match=r"no promotion now: \w+ is no day of promotion; it opens \w+day 20"):
            await promote_stage(guard, active)
        assert active.step is Step.JUDGED
        assert not bot.granted

    _run(tmp_path / "home", "judged", 0, asked)


def test_a_step_is_not_left_before_somebody_has_signed_for_it(tmp_path: Path) -> None:
    async def asked(guard: GuardState, active: Active, bot: TakesEveryGrant) -> None:
        with pytest.raises(Refused, match="exit sign-offs are missing: SRE Lead"):
            await promote_stage(guard, active)
        assert active.step is Step.JUDGED

    _run(tmp_path / "home", "judged", 0, asked)


# ---- what may begin --------------------------------------------------------------------------------------------------


def _passed(stage: str, ago_s: float = 0, step: str = "promoted") -> dict[str, Any]:
    return {"stage": stage, "step": step, "ended_at": utc_now() - timedelta(seconds=ago_s), "run": "x"}


def _begun(home: Path, plan: Plan, stage_id: str, *earlier: dict[str, Any], account: str = "a") -> bool:
    """What the guard says to a candidate with these stage runs behind it."""
    guard = guard_at(home, "promoted")
    shutil.copytree(RULES, guard.folder.rules)  # as `rollout up` lays them
    if plan.venue != "simulated":
        key = dict.fromkeys(("api_key", "api_secret", "grant_token", "approve_token"), "k" * 32)
        access = {"account": "a", "venue": plan.venue, "env": "live", **key}
        write_private(guard.folder.accounts / "a.json", json.dumps(access))
    record = guard.store.record
    for number, columns in enumerate(earlier):
        named = {"rollout": "r", "account": "a", "attempt": number + 1, "candidate": "c2", "plan_path": "/p"}
        begun = record.add_stage_run(StageRun(**named, stage=columns["stage"], step="requested"))
        record.change_stage_run(begun.id or 0, "step", **columns)
    rollout = Rollout.model_validate(
        {"name": "r2", "candidate": "c2", **dict.fromkeys(("account", *TOLD, *PLAN_WORDS), "x")}
    )
    stage = next(one for one in plan.stages if one.id == stage_id)
    guard.account = account
    try:
        return asyncio.run(_refuse_unfit(guard, rollout, plan, stage))
    finally:
        guard.store.close()


SMOKE = ROOT / "configs" / "rollout.smoke.yaml"


def test_a_stage_begins_only_after_those_before_it_and_not_after_long_ones(tmp_path: Path) -> None:
    plan = load_plan(SMOKE)
    with pytest.raises(Refused, match=r"testnet needs the stages before it .*: shadow has not passed"):
        _begun(tmp_path / "none", plan, "testnet")
    assert _begun(tmp_path / "well", plan, "testnet", _passed("shadow", 60))
    with pytest.raises(Refused, match=r"shadow passed 864\d\d s ago, allowed: at most 86400 s"):
        _begun(tmp_path / "old", plan, "testnet", _passed("shadow", 86_401))
    with pytest.raises(Refused, match="shadow has not passed"):
        _begun(tmp_path / "parked", plan, "testnet", _passed("shadow", 60, "parked"))


def test_a_waived_predecessor_leaves_the_signing_to_the_entry(tmp_path: Path) -> None:
    plan = load_plan(SMOKE)
    assert not _begun(tmp_path / "waived", plan, "canary")
    assert _begun(tmp_path / "passed", plan, "canary", _passed("shadow"), _passed("testnet"))


def test_attempts_are_the_digests_whatever_the_rollout(tmp_path: Path) -> None:
    three = [_passed("canary", step="parked")] * 3
    with pytest.raises(Refused, match="has used its 3 attempts at canary"):
        _begun(tmp_path / "home", load_plan(SMOKE), "canary", *three)


def test_what_cannot_be_measured_keeps_the_real_plan_from_live(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="canary of production does not start on live: not yet measurable: no_critical"):
        _begun(tmp_path / "home", load_plan(ROOT / "configs" / "rollout.yaml"), "canary")


def test_a_shipped_plan_that_was_edited_in_place_gets_no_nearer_to_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With files of its own for a stage it names none of what cannot be measured yet."""
    own = {"criteria": tmp_path / "criteria.yaml", "checklist": tmp_path / "checklist.yaml"}
    head = "{id: preflight_flat, title: Flat as it was, why: Nothing is left of before}"
    own["checklist"].write_text(f"items:\n  - {head}\n")
    own["criteria"].write_text(
        "criteria:\n  - {id: process_up, title: It lives, source: check, check: process_up, unit: flag, go: '== 1',"
        " phase: guard, unknown_deadline_s: 60, why: A dead bot shows nothing}\n"
    )
    plan = load_plan(ROOT / "configs" / "rollout.yaml")
    stages = [one.model_copy(update=own) if one.id == "canary" else one for one in plan.stages]
    edited = plan.model_copy(update={"stages": tuple(stages)})
    monkeypatch.setattr(beginning, "load_plan", lambda path: edited)
    with pytest.raises(Refused, match=r"not yet measurable: no_critical_alert, .*rebate_earned.*alerts_tested"):
        _begun(tmp_path / "home", edited, "canary")


def test_a_rollout_never_runs_on_the_incumbents_account(tmp_path: Path) -> None:
    plan = load_plan(SMOKE).model_copy(update={"incumbent_account": "prod-1"})
    with pytest.raises(Refused, match="account prod-1 is the incumbent's; allowed: a sub-account"):
        _begun(tmp_path / "home", plan, "canary", account="prod-1")


def test_the_same_part_under_the_same_epoch_is_entered_once(tmp_path: Path) -> None:
    async def twice(guard: GuardState, active: Active, bot: TakesEveryGrant) -> None:
        row = StagePart(stage_run_id=1, number=1, name="step-2", inventory_max_quote="1", total_max_quote="1", epoch=7)
        for _ in range(2):
            guard.store.record.enter_part(row, "passed", part=1)
        assert [one.number for one in guard.store.record.parts(1)] == [0, 1]

    _run(tmp_path / "home", "judged", 0, twice)
