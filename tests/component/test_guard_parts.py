"""Steps of a scale-up at the guard: up, down, and what keeps a stage from being begun or promoted at all."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from bot.stores.sqlite import SCHEMA
from gates.course import Step
from gates.decision import Action, Decision
from gates.stages import ROOT, Plan, load_plan
from gates.windows import PromotionWindows
from tasks.guard.beginning import _refuse_unfit
from tasks.guard.parts import first_part, may_step_down, next_part, step_down
from tasks.guard.promoting import promote_stage
from tasks.guard.state import Active, GuardState, Refused
from tasks.operate import GrantAnswer, Limits, Operator
from tasks.record_audit import record_fault
from tasks.record_tables import Rollout, StagePart, StageRun, utc_now
from tests.support.guard_parts import TOLD, activate, guard_at, never_close, writing

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
        assert await may_step_down(guard, active)
        await step_down(guard, active, AGAINST)
        assert (active.step, active.row.part, active.stage.inventory_max_quote) == (Step.WATCH, 0, 2400)
        assert [limits.inventory_max_quote for _, limits in bot.granted] == [2400], "what is smaller holds at once"
        assert [one.outcome for one in guard.store.record.parts(1)] == ["stepped_down", ""]
        active.row.step, active.row.part = "watched", 1
        assert not await may_step_down(guard, active), "a second time it is closed flat"

    _run(tmp_path / "home", "watched", 1, down)


def test_the_first_step_has_nothing_below_it(tmp_path: Path) -> None:
    async def first(guard: GuardState, active: Active, bot: TakesEveryGrant) -> None:
        assert not await may_step_down(guard, active)

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
