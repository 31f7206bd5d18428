"""Closing a stage with parts that fail on purpose: nothing unproven counts, nothing gives up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from bot.runtime.kill_switch_report import FlattenSent, Report
from tasks.flattenings import FLATTENINGS, with_earlier
from tasks.record_tables import RollbackStep
from tasks.rollback import Closing, DeskError, OpenOrders, Proven, Waits
from tasks.venue_desk import VenueDesk


@dataclass
class FakeDesk:
    """An account in memory. Each `*_fails` counts down; a failed read raises, it never says empty or flat."""

    own: int = 2
    position: Decimal = Decimal("0.004")
    cancel_fails: int = 0
    read_fails: int = 0
    flatten_fails: int = 0
    late_orders: int = 0
    failure: Exception = field(default_factory=lambda: DeskError("the venue did not answer"))
    calls: list[str] = field(default_factory=list)
    sent: int = 0

    async def cancel_all(self) -> str:
        self.calls.append("cancel")
        if self.cancel_fails:
            self.cancel_fails -= 1
            raise self.failure
        self.own = 0
        return "cancelled"

    async def read_open(self) -> OpenOrders:
        self.calls.append("read")
        if self.read_fails:
            self.read_fails -= 1
            raise self.failure
        if self.late_orders:
            self.late_orders -= 1
            return OpenOrders(1, 0)
        return OpenOrders(self.own, 0)

    async def flatten(self, sent: Callable[[Sequence[FlattenSent]], None]) -> str:
        self.calls.append("flatten")
        self.sent += 1
        sent([FlattenSent("BTCUSDT", f"slwf-0-{self.sent}", taken=not self.flatten_fails)])
        if self.flatten_fails:
            self.flatten_fails -= 1
            raise self.failure
        self.position = Decimal(0)
        return "flattened"

    async def read_positions(self) -> Mapping[str, Decimal]:
        return {"BTCUSDT": self.position}


@dataclass
class FakePermission:
    """A bot that may refuse the revoke, or not end, so many times."""

    revoke_fails: int = 0
    stop_fails: int = 0
    order: list[str] = field(default_factory=list)

    async def revoke(self) -> tuple[bool, dict[str, Any]]:
        self.order.append("revoke")
        if self.revoke_fails:
            self.revoke_fails -= 1
            return False, {"detail": "no answer"}
        return True, {"how": "answered"}

    async def stop(self) -> tuple[bool, dict[str, Any]]:
        self.order.append("stop")
        if self.stop_fails:
            self.stop_fails -= 1
            return False, {"detail": "still there"}
        return True, {"by": "asked"}


@dataclass
class Log:
    rows: list[tuple[str, str]] = field(default_factory=list)
    times: dict[str, datetime] = field(default_factory=dict)
    proofs: list[dict[str, Any]] = field(default_factory=list)
    """Of the flattening, as it was written each time."""

    async def write(self, row: RollbackStep, **times: datetime) -> None:
        self.rows.append((row.name, row.state))
        if row.name == "flatten":
            self.proofs.append(dict(row.proof))
        self.times.update(times)


@dataclass
class Ended:
    proven: Proven
    log: Log
    failures: list[str]


def close(desk: FakeDesk, permission: FakePermission, *, flatten: bool = True, deadline_s: float = 30.0) -> Ended:
    log, failures = Log(), list[str]()

    async def failed(words: str) -> None:
        failures.append(words)

    closing = Closing(1, permission, desk, log, Waits(0.03, deadline_s, 0.5, 0.05, 0.01, (0.01, 0.02)), flatten, failed)
    proven = asyncio.run(asyncio.wait_for(closing.run(), 20))
    return Ended(proven, log, failures)


def test_every_step_is_proven_and_timed() -> None:
    desk = FakeDesk()
    ended = close(desk, FakePermission())
    assert ended.proven.all
    assert set(ended.log.times) == {"grant_revoked_at", "bot_gone_at", "none_open_at", "flat_at"}
    verified = [name for name, state in ended.log.rows if state == "verified"]
    assert set(verified) == {"revoke_grant", "stop_bot", "cancel_all", "flatten"}
    assert (desk.own, desk.position) == (0, Decimal(0))
    assert not ended.failures


def test_a_run_without_an_account_is_stopped_and_nothing_else_is_called_proven() -> None:
    log, failures = Log(), list[str]()

    async def failed(words: str) -> None:
        failures.append(words)

    permission = FakePermission(stop_fails=4)
    closing = Closing(1, permission, None, log, Waits(0.0, 0.01, 0.5, 0.05, 0.01, (0.02,)), False, failed)
    proven = asyncio.run(asyncio.wait_for(closing.run(), 20))
    states = dict(log.rows)
    assert states == {
        "revoke_grant": "verified", "stop_bot": "verified", "cancel_all": "skipped", "flatten": "skipped",
    }  # fmt: skip
    assert (proven.none_open_at, proven.flat_at) == (None, None)
    assert permission.order[-1] == "stop"
    assert len(failures) == 1
    assert "after the waits: stop_bot; still trying" in failures[0], "what was skipped is not missing"


def test_none_open_needs_two_reads_in_a_row() -> None:
    desk = FakeDesk(late_orders=1)
    close(desk, FakePermission())
    reads = [call for call in desk.calls if call == "read"]
    assert len(reads) == 3, "one with an order in it, then two without"


def test_a_failed_read_proves_nothing() -> None:
    desk = FakeDesk(read_fails=2)
    ended = close(desk, FakePermission())
    assert desk.calls.count("read") == 4
    assert ("cancel_all", "failing") in ended.log.rows
    assert ended.proven.all


def test_cancelling_and_flattening_do_not_wait_for_a_revoke_that_fails() -> None:
    desk = FakeDesk()
    permission = FakePermission(revoke_fails=12)
    ended = close(desk, permission)
    assert permission.order.index("stop") < len(permission.order) - 1, "the bot was stopped while revoking still failed"
    assert ended.log.times["bot_gone_at"] < ended.log.times["grant_revoked_at"]
    assert ended.proven.all


def test_a_bot_that_is_gone_holds_no_grant_and_no_back_off_is_waited_for() -> None:
    class Hangs(FakePermission):
        """It takes no revoke as long as it lives."""

        gone = False

        async def revoke(self) -> tuple[bool, dict[str, Any]]:
            self.order.append("revoke")
            return self.gone, {"detail": "no answer"}

        async def stop(self) -> tuple[bool, dict[str, Any]]:
            self.gone = True
            return True, {"by": "SIGKILL"}

    log, permission = Log(), Hangs()

    async def failed(words: str) -> None:
        raise AssertionError(words)

    waits = Waits(0.03, 30.0, 0.5, 0.05, 0.01, (60.0,))
    closing = Closing(1, permission, FakeDesk(), log, waits, True, failed)
    assert asyncio.run(asyncio.wait_for(closing.run(), 20)).all
    assert permission.order == ["revoke", "revoke"]


def test_orders_are_cancelled_while_the_bot_still_refuses_to_die() -> None:
    desk = FakeDesk()
    ended = close(desk, FakePermission(stop_fails=3))
    assert ended.log.rows.index(("cancel_all", "started")) < ended.log.rows.index(("stop_bot", "verified"))
    assert desk.calls.count("cancel") >= 2, "once beside the stop, once more after it"


def test_flattening_goes_on_until_a_read_shows_flat() -> None:
    desk = FakeDesk(flatten_fails=3)
    ended = close(desk, FakePermission())
    assert desk.calls.count("flatten") == 4
    assert ended.proven.all


@pytest.mark.parametrize("failure", [OSError(24, "Too many open files"), ValueError("no JSON"), RuntimeError()])
def test_whatever_a_call_raises_is_a_failed_try_and_ends_nothing(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    desk = FakeDesk(cancel_fails=2, read_fails=2, flatten_fails=2, failure=failure)
    ended = close(desk, FakePermission())
    assert ended.proven.all
    assert (desk.own, desk.position) == (0, Decimal(0))
    assert {("cancel_all", "failing"), ("flatten", "failing")} <= set(ended.log.rows)
    assert type(failure).__name__ in caplog.text


def test_the_deadline_is_told_whatever_fails_also_where_telling_fails_at_first() -> None:
    desk, told = FakeDesk(flatten_fails=12, failure=OSError(5, "Input/output error")), list[str]()

    async def failed(words: str) -> None:
        told.append(words)
        if len(told) == 1:
            raise OSError(28, "No space left on device")

    waits = Waits(0.03, 0.02, 0.5, 0.05, 0.01, (0.01, 0.02))
    closing = Closing(1, FakePermission(), desk, Log(), waits, True, failed)
    assert asyncio.run(asyncio.wait_for(closing.run(), 20)).all
    assert len(told) == 2


def test_a_record_that_takes_no_step_stops_no_step() -> None:
    class Broken(Log):
        async def write(self, row: RollbackStep, **times: datetime) -> None:
            raise OSError(28, "No space left on device")

    async def failed(words: str) -> None:
        raise AssertionError(words)

    waits = Waits(0.03, 30.0, 0.5, 0.05, 0.01, (0.01, 0.02))
    closing = Closing(1, FakePermission(), FakeDesk(), Broken(), waits, True, failed)
    assert asyncio.run(asyncio.wait_for(closing.run(), 20)).all


def test_a_stage_that_does_not_flatten_keeps_its_position() -> None:
    desk = FakeDesk()
    ended = close(desk, FakePermission(), flatten=False)
    assert desk.position == Decimal("0.004")
    assert "flatten" not in desk.calls
    assert ended.proven.all


def test_what_is_not_proven_in_time_is_told_once_and_still_tried() -> None:
    desk = FakeDesk(flatten_fails=6)
    ended = close(desk, FakePermission(), deadline_s=0.02)
    assert len(ended.failures) == 1
    assert "flatten" in ended.failures[0]
    assert ended.proven.all, "it went on and got there"


def test_a_position_that_comes_after_the_first_flat_read_is_flattened_again() -> None:
    class LateFill(FakeDesk):
        """Flat at the first look; then an order that still stood fills."""

        looked = asyncio.Event()

        async def read_open(self) -> OpenOrders:
            await self.looked.wait()  # whichever of the two steps the machine lets go first
            return await super().read_open()

        async def read_positions(self) -> Mapping[str, Decimal]:
            seen = await super().read_positions()
            if not self.looked.is_set():
                self.looked.set()
                self.position = Decimal("0.002")
            return seen

    desk = LateFill(position=Decimal(0))
    ended = close(desk, FakePermission())
    assert desk.position == 0
    assert desk.calls.count("flatten") == 1
    assert ended.proven.flat_at is not None
    assert ended.proven.none_open_at is not None
    assert ended.proven.flat_at > ended.proven.none_open_at
    (told,) = ended.log.proofs[-1][FLATTENINGS]
    assert told["held"] == {"BTCUSDT": "0.002"}


def test_the_proof_of_a_flattening_says_what_was_held_and_which_orders_were_sent() -> None:
    ended = close(FakeDesk(position=Decimal("-0.0040")), FakePermission())
    (one,) = ended.log.proofs[-1][FLATTENINGS]
    assert one["held"] == {"BTCUSDT": "-0.0040"}, "to the last digit"
    assert one["orders"] == [{"symbol": "BTCUSDT", "id": "slwf-0-1", "taken": True}]
    began_at, read_at = (datetime.fromisoformat(one[name]) for name in ("began_at", "read_at"))
    assert began_at <= read_at <= ended.log.times["flat_at"]


def test_what_is_held_is_written_before_anything_is_sent_to_flatten_it() -> None:
    log = Log()

    class Looks(FakeDesk):
        async def flatten(self, sent: Callable[[Sequence[FlattenSent]], None]) -> str:
            (one,) = log.proofs[-1][FLATTENINGS]
            assert (one["held"], "orders" in one) == ({"BTCUSDT": "0.004"}, False)
            return await super().flatten(sent)

    async def failed(words: str) -> None:
        raise AssertionError(words)

    desk = Looks()
    closing = Closing(1, FakePermission(), desk, log, Waits(0.03, 30.0, 0.5, 0.05, 0.01, (0.01, 0.02)), True, failed)
    asyncio.run(asyncio.wait_for(closing.run(), 20))
    assert desk.calls.count("flatten") == 1


def test_each_try_to_flatten_is_kept_also_those_that_failed() -> None:
    ended = close(FakeDesk(flatten_fails=2), FakePermission())
    known: dict[str, Any] = {}
    for proof in ended.log.proofs:  # as the record takes them
        known = with_earlier(proof, known)
    told = known[FLATTENINGS]
    assert [one["held"] for one in told] == [{"BTCUSDT": "0.004"}] * 3
    assert [order["id"] for one in told for order in one["orders"]] == ["slwf-0-1", "slwf-0-2", "slwf-0-3"]
    assert [order["taken"] for one in told for order in one["orders"]] == [False, False, True]


def test_of_tries_without_end_no_word_grows() -> None:
    ended = close(FakeDesk(flatten_fails=9), FakePermission(), deadline_s=30.0)
    told = [proof[FLATTENINGS] for proof in ended.log.proofs if FLATTENINGS in proof]
    assert len({one["began_at"] for ones in told for one in ones}) == 10
    assert max(map(len, told)) == 1, "the record may be away for hours, and each word waits for it in memory"


def test_a_position_that_cannot_be_told_is_flattened_all_the_same() -> None:
    class Odd(Decimal):
        def __format__(self, *_: Any) -> str:
            raise ValueError("no such format")

    class Reads(FakeDesk):
        async def read_positions(self) -> dict[str, Decimal]:
            found = await super().read_positions()
            return {symbol: Odd(qty) if qty else qty for symbol, qty in found.items()}

    desk = Reads()
    assert close(desk, FakePermission()).proven.flat_at is not None
    assert desk.calls.count("flatten") == 1


@pytest.mark.parametrize(("position", "flatten"), [("0", True), ("0.004", False)])
def test_where_nothing_was_flattened_no_flattening_is_told(position: str, flatten: bool) -> None:
    ended = close(FakeDesk(position=Decimal(position)), FakePermission(), flatten=flatten)
    assert all(FLATTENINGS not in proof for proof in ended.log.proofs)


def test_a_flattening_that_fails_names_the_orders_that_it_sent() -> None:
    slices = [FlattenSent("BTCUSDT", "slwf-0-1", taken=False)]

    class Fails(VenueDesk):
        async def kill_switch(self, **_: Any) -> Report:
            return Report("failed", "a", "b", 0, [], [], False, ["not proven within 8 s"], slices)

    def no_access() -> Any:
        raise AssertionError("no venue is asked")

    told: list[Sequence[FlattenSent]] = []
    with pytest.raises(DeskError, match="not proven within 8 s"):
        asyncio.run(Fails(no_access, ["BTCUSDT"]).flatten(told.append))
    assert told == [slices]
