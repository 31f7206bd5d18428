"""After a step down: what the plateau below does not have is closed, both of its limits hold, and the proof outlives
the guard that began it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bot.venues.port import TopOfBook
from gates.parts import Part
from gates.stages import Plan
from tasks.guard import plateau, resume
from tasks.guard.parts import first_part
from tasks.guard.plateau import HELD, STEPPED_DOWN, begin_proof, resume_proof
from tasks.guard.state import Active, GuardState
from tasks.record_tables import StagePart
from tasks.rollback import DeskError
from tests.support.guard_parts import activate, guard_at, never_close, writing

PLAN = Path(__file__).parents[1] / "support" / "plan_stages.yaml"
PRICE = Decimal(1000)
NOT_PROVEN_S = 0.3
"""The time of a proof that does not come; one that comes has as much as it needs."""


class Account:
    """A venue account read through a desk: positions at 1,000 quote each, reduced by at most `slice_qty` at once."""

    def __init__(self, positions: Mapping[str, str], *, away: bool = False, slice_qty: str = "1") -> None:
        self.qty = {symbol: Decimal(qty) for symbol, qty in positions.items()}
        self.away = away
        self.slice_qty = Decimal(slice_qty)
        self.reduced: list[str] = []
        self.reads = 0

    def close(self) -> None:
        pass

    def top_of_book(self, symbol: str) -> TopOfBook:
        return TopOfBook(symbol, PRICE - 1, PRICE + 1, 0)

    async def read(self, ask: Callable[[Any], Any]) -> Any:
        return ask(self)

    async def read_positions(self) -> dict[str, Decimal]:
        self.reads += 1
        if self.away:
            raise DeskError("VenueUnreachable: no answer")
        return dict(self.qty)

    async def reduce(self, symbol: str, qty: Decimal) -> str:
        assert qty == self.qty[symbol]
        self.reduced.append(symbol)
        self.qty[symbol] -= min(abs(qty), self.slice_qty).copy_sign(qty)
        return "sent"


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    never_close(monkeypatch)
    monkeypatch.setattr(plateau, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(Plan, "late_s", property(lambda plan: 0.05))


def _stepped_down(home: Path, within_s: float = 60.0) -> tuple[GuardState, Active]:
    """Stepped down from two symbols to BTCUSDT alone, 2,400 per symbol and 3,000 in all."""
    guard = guard_at(home, "watch", source=PLAN, stage="scale-up", part=0)
    active = activate(guard)
    low = Part(id="step-1", symbols=("BTCUSDT",), total_max_quote=Decimal(3000))
    both = {"symbols": ("BTCUSDT", "ETHUSDT"), "parts": (low, Part(id="step-2")), "proof_deadline_s": within_s}
    active.whole = active.whole.model_copy(update=both)
    active.stage = active.whole.at(0)
    record = guard.store.record
    above = {"inventory_max_quote": "2880", "total_max_quote": "14400"}
    record.enter_part(StagePart(stage_run_id=1, number=1, name="step-2", epoch=1, **above), "")
    record.enter_part(first_part(active, 2), STEPPED_DOWN)
    return guard, active


def _proven(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    account: Account,
    begin: Callable[[GuardState, Active], Awaitable[None]] | None = None,
    within_s: float = 60.0,
) -> tuple[dict[str, Any], Active]:
    """The proof of the open part once the prover has ended, and the stage run as it then is."""
    monkeypatch.setattr(plateau, "VenueDesk", lambda *_: account)

    async def run() -> tuple[dict[str, Any], Active]:
        guard, active = _stepped_down(home, within_s)
        async with writing(guard):
            if begin is None:
                begin_proof(guard, active)
            else:
                await begin(guard, active)
            proving = [one for one in guard.tasks if one.get_name() == "prove the plateau"]
            assert proving
            await asyncio.wait_for(asyncio.gather(*proving), 30)
            await guard.store.settled()
            return guard.store.record.parts(1)[-1].proof, active

    return asyncio.run(run())


@pytest.mark.parametrize("qty", ["0.35", "-0.35"])
def test_a_symbol_that_the_plateau_does_not_have_is_closed_reduce_only_and_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qty: str
) -> None:
    account = Account({"BTCUSDT": "1", "ETHUSDT": qty}, slice_qty="0.2")
    proof, active = _proven(tmp_path / "home", monkeypatch, account)
    assert account.reduced == ["ETHUSDT", "ETHUSDT"], "in slices, and nothing of what may be held"
    assert proof[HELD] == "BTCUSDT 1000.00, ETHUSDT 0.00"
    assert (proof["limits"], proof["total_limit"]) == ({"BTCUSDT": "2400", "ETHUSDT": "0"}, "3000")
    assert active.decision is None


@pytest.mark.parametrize(
    ("positions", "said"),
    [
        ({"BTCUSDT": "2.5", "ETHUSDT": "0"}, "held: BTCUSDT 2500.00, ETHUSDT 0.00"),
        ({"BTCUSDT": "1.5", "ETHUSDT": "-2"}, "held: BTCUSDT 1500.00, ETHUSDT 2000.00"),
    ],
)
def test_what_does_not_come_within_both_limits_is_rolled_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, positions: dict[str, str], said: str
) -> None:
    account = Account(positions)

    async def on_two(guard: GuardState, active: Active) -> None:
        if positions["ETHUSDT"] != "0":  # both symbols are on this plateau: each within its limit, together above it
            active.stage = active.stage.model_copy(update={"symbols": ("BTCUSDT", "ETHUSDT")})
        begin_proof(guard, active)

    proof, active = _proven(tmp_path / "home", monkeypatch, account, on_two, NOT_PROVEN_S)
    assert HELD not in proof
    assert active.decision is not None
    assert (active.decision.action.value, active.decision.reason) == ("roll_back", "candidate")
    assert active.decision.sentence == said
    assert account.reduced == []


def test_a_venue_that_cannot_be_read_is_no_fault_of_the_candidates_and_no_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof, active = _proven(tmp_path / "home", monkeypatch, Account({}, away=True), within_s=NOT_PROVEN_S)
    assert HELD not in proof
    assert active.decision is not None
    assert (active.decision.action.value, active.decision.reason) == ("park", "environment")
    assert "no answer" in active.decision.sentence


@pytest.mark.parametrize(("btc", "ends"), [("1", ("park", "environment")), ("2.5", ("roll_back", "candidate"))])
def test_what_the_venue_does_not_let_us_close_is_none_of_the_candidates_doing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, btc: str, ends: tuple[str, str]
) -> None:
    """But what it holds too much of on the plateau is."""
    account = Account({"BTCUSDT": btc, "ETHUSDT": "0.35"})

    async def refused(symbol: str, qty: Decimal) -> str:
        raise DeskError("VenueRefused: 10016 service error")

    monkeypatch.setattr(account, "reduce", refused)
    _, active = _proven(tmp_path / "home", monkeypatch, account, within_s=NOT_PROVEN_S)
    assert active.decision is not None
    assert (active.decision.action.value, active.decision.reason) == ends
    assert "ETHUSDT is not closed: VenueRefused: 10016 service error" in active.decision.sentence


def test_the_proof_is_begun_anew_by_the_guard_that_comes_back_and_waits_for_the_adoption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = Account({"BTCUSDT": "1", "ETHUSDT": "0.1"})

    async def adopt(guard: GuardState, active: Active) -> None:
        await asyncio.sleep(0.1)
        assert account.reads == 0, "the bot may not have taken the smaller grant yet"
        active.launching = False

    async def back(guard: GuardState, active: Active) -> None:
        monkeypatch.setattr(resume, "adopt", adopt)
        await resume._take_up(guard, active)

    proof, _ = _proven(tmp_path / "home", monkeypatch, account, back)
    assert proof[HELD] == "BTCUSDT 1000.00, ETHUSDT 0.00"


def test_what_is_proven_is_not_proven_again_and_a_step_up_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def again() -> None:
        guard, active = _stepped_down(tmp_path / "home")
        record = guard.store.record
        async with writing(guard):
            record.prove_part(1, {HELD: "BTCUSDT 0.00"})
            await resume_proof(guard, active)
            record.enter_part(first_part(active, 3), "passed")
            await resume_proof(guard, active)
            assert not guard.tasks

    asyncio.run(again())


def test_no_read_counts_while_an_order_of_the_larger_grant_may_still_fill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that goes on by a second with every read: what a machine takes for them is none of it."""
    account = Account({"BTCUSDT": "1", "ETHUSDT": "0"})
    monkeypatch.setattr(Plan, "late_s", property(lambda plan: 4))
    monkeypatch.setattr(plateau, "time", SimpleNamespace(monotonic=lambda: 100 + account.reads))
    _proven(tmp_path / "home", monkeypatch, account)
    assert account.reads == 5
