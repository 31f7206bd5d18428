"""The orphan drill's end: only an order that surely stood, and that the bot let stand, is the candidate's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bot.venues.port import VenueUnknown
from tasks.guard import drill_faults
from tasks.guard.drill_faults import DrillFailed, DrillNotRun, Orphan
from tasks.operate import Told
from tasks.rollback import DeskError
from tasks.venue_desk import VenueDesk
from tests.support.guard_parts import activate, guard_at


class Account:
    """What stands at the venue. `placing`: what comes of a placement; `reads_left`: after how many reads the bot has
    cancelled, None for never; `failing`: reads of open orders that fail first."""

    def __init__(
        self, placing: str = "taken", reads_left: int | None = None, failing: int = 0, cancelling: str = "taken"
    ) -> None:
        self.placing, self.cancelling, self.failing, self.reads_left = placing, cancelling, failing, reads_left
        self.open: list[SimpleNamespace] = []
        self.cancelled_by_us = 0

    def top_of_book(self, symbol: str) -> SimpleNamespace:
        return SimpleNamespace(bid=Decimal(60_000), ask=Decimal(60_001))

    def instrument(self, symbol: str) -> SimpleNamespace:
        return SimpleNamespace(
            qty_min=Decimal("0.001"), notional_min_quote=Decimal(5), ticks_floor=int, price=Decimal,
            lots_floor=lambda qty: int(qty * 1000), qty=lambda lots: Decimal(lots) / 1000,
        )  # fmt: skip

    def place_post_only(self, symbol: str, side: object, qty: Decimal, price: Decimal, order: str) -> None:
        if self.placing != "refused":
            self.open.append(SimpleNamespace(client_order_id=order))
        if self.placing != "taken":
            raise VenueUnknown("the answer was lost")

    def open_orders(self, symbols: object) -> list[SimpleNamespace]:
        if self.failing:
            self.failing -= 1
            raise VenueUnknown("the answer was lost")
        if self.reads_left is not None:
            self.reads_left -= 1
            self.open = self.open if self.reads_left >= 0 else []
        return list(self.open)

    def cancel(self, order: SimpleNamespace) -> bool:
        if self.cancelling == "lost":
            raise VenueUnknown("the answer was lost")
        self.open.remove(order)
        self.cancelled_by_us += self.cancelling == "taken"
        return self.cancelling == "taken"


class Desk:
    def __init__(self, account: Account) -> None:
        self._account = account

    async def read(self, ask: Callable[[Any], Any]) -> Any:
        try:
            return ask(self._account)
        except VenueUnknown as error:
            raise DeskError(str(error)) from error

    def close(self) -> None: ...


class Placed(Orphan):
    account: Account

    def desk(self) -> VenueDesk:
        return cast(VenueDesk, Desk(self.account))


class Takes:
    async def drill(self, name: str, **more: str) -> Told:
        return Told(True)


def drilled(home: Path, account: Account) -> tuple[str, dict[str, str]]:
    """(how it ended, what it showed), by what is raised last."""

    async def run() -> tuple[str, dict[str, str]]:
        guard = guard_at(home, "drills")
        active = activate(guard)
        active.operator = cast(Any, Takes())
        fault = Placed(guard, active, 1, time.monotonic() + 0.3)
        fault.account = account
        said = "passed"
        try:
            try:
                await fault.make()
            finally:
                await fault.undo()
        except (DrillFailed, DrillNotRun) as error:
            said = f"{type(error).__name__}: {error}"
        guard.store.close()
        return said, fault.proof

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drill_faults, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(drill_faults, "CANCELLED_WITHIN_S", 0.3)


def test_an_order_whose_placement_was_not_answered_blames_nobody_and_is_taken_away(tmp_path: Path) -> None:
    account = Account(placing="lost")
    said, _ = drilled(tmp_path, account)
    assert said == "DrillNotRun: the order could not be placed: the answer was lost"
    assert (account.open, account.cancelled_by_us) == ([], 1)


def test_a_bot_that_lets_the_order_stand_has_failed_and_we_take_it_away(tmp_path: Path) -> None:
    account = Account()
    said, proof = drilled(tmp_path, account)
    assert said.startswith("DrillFailed: the bot did not cancel slwq-")
    assert (account.open, account.cancelled_by_us, proof) == ([], 1, {})


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch, _brief: None) -> None:
    """What is waited for comes after so many looks, however long a machine takes for them."""
    monkeypatch.setattr(drill_faults, "CANCELLED_WITHIN_S", 60.0)


@pytest.mark.usefixtures("_patient")
def test_a_cancel_of_the_bots_that_is_still_on_its_way_is_waited_for(tmp_path: Path) -> None:
    account = Account(reads_left=3)
    said, proof = drilled(tmp_path, account)
    assert (said, account.cancelled_by_us) == ("passed", 0)
    assert proof["cancelled"].startswith("slwq-")


def test_an_order_that_had_ended_before_our_cancel_came_was_cancelled_by_the_bot(tmp_path: Path) -> None:
    said, proof = drilled(tmp_path, Account(cancelling="too late"))
    assert said == "passed"
    assert proof["cancelled"].startswith("slwq-")


@pytest.mark.parametrize(
    "account", [Account(failing=10_000), Account(cancelling="lost")], ids=["reads are lost", "our cancel is lost"]
)
def test_what_the_venue_does_not_answer_is_nobodys_fault(tmp_path: Path, account: Account) -> None:
    said, proof = drilled(tmp_path, account)
    assert said == "DrillNotRun: the order may still stand: the answer was lost"
    assert proof == {}


@pytest.mark.usefixtures("_patient")
def test_a_read_that_is_lost_once_is_made_again(tmp_path: Path) -> None:
    said, proof = drilled(tmp_path, Account(failing=2, reads_left=2))
    assert said == "passed"
    assert proof["cancelled"].startswith("slwq-")


def test_an_order_that_never_was_there_proves_nothing(tmp_path: Path) -> None:
    said, proof = drilled(tmp_path, Account(placing="refused"))
    assert said.startswith("DrillNotRun: the order could not be placed")
    assert proof == {}
