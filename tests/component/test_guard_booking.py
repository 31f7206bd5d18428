"""The guard's last word on an attempt: stored and left beside the journal, or unknown in both places, and told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from bot.booked import Execution, NotBooked, read_booked
from bot.domain.events import Filled
from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.journal import JournalError
from bot.venues.bybit.account_orders import AccountOrder
from gates.sources.checks import CHECKS
from gates.stages import load_plan
from tasks.guard import booking
from tasks.guard.booking import book
from tasks.guard.results import BOOKED, RESULT
from tasks.guard.state import load_active
from tasks.record import iso
from tasks.record_engine import RecordDamaged
from tasks.record_tables import Outbox, RollbackStep, utc_now
from tasks.rollback import DeskError
from tests.support.asked_guard import PLAN as SMOKE
from tests.support.guard_parts import guard_at, writing

NET = Decimal("-306.0950000001")
Row = tuple[int, Decimal | None, str] | None

CLOSED = OperationalError("SELECT", {}, Exception("server closed the connection"))


class Desk:
    """Answers with each of these in turn, the last for ever."""

    def __init__(self, *answers: Decimal | Exception) -> None:
        self.answers, self.asked = list(answers), 0

    async def read(self, ask: Callable[[Any], Decimal]) -> Decimal:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def _booked(
    home: Path,
    desk: Desk,
    proof: dict[str, Any] | None = None,
    failing_reads: int = 0,
    failure: Exception = CLOSED,
    **columns: Any,
) -> tuple[Row, list[Outbox]]:
    """`proof`: of the flattening, by a guard before this one. `failing_reads`: how often it is not told."""
    (home / "run").mkdir(parents=True)
    told = {"state_dir": str(home / "run"), "run": "run", "obs_url": "http://127.0.0.1:9", "launched_at": utc_now()}

    async def work() -> tuple[Row, list[Outbox]]:
        guard = guard_at(home, "rolling_back", source=SMOKE, **{**told, "flat_at": utc_now(), **columns})
        record = guard.store.record
        rollout = record.rollout("r")
        assert rollout is not None
        active = load_active(guard.folder, record.stage_run(1), rollout)
        if proof is not None:
            step = RollbackStep(stage_run_id=1, number=3, name="flatten", state="failing", proof=proof)
            record.write_rollback_step(step)
            step.proof, step.state = {"positions": {}}, "verified"
            record.write_rollback_step(step)
        left, steps = failing_reads, record.rollback_steps

        def rollback_steps(number: int) -> Sequence[RollbackStep]:
            nonlocal left
            left -= 1
            if left >= 0:
                raise failure
            return steps(number)

        record.rollback_steps = rollback_steps  # type: ignore[method-assign, assignment]
        async with writing(guard):
            await asyncio.wait_for(book(guard, active, desk), 10)  # type: ignore[arg-type]
            await guard.store.settled()
            return record.booked(1, RESULT, BOOKED), list(record.notices("a"))

    return asyncio.run(work())


def test_what_the_venue_tells_is_stored_and_left_to_the_last_digit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(booking, "AGAIN_S", (0.01,))
    desk = Desk(NotBooked("some are missing"), DeskError("the venue is away"), NET)
    row, notices = _booked(tmp_path, desk)
    assert row is not None
    assert row[1] == NET
    left = read_booked(tmp_path / "run")
    assert left is not None
    assert (left.net_quote, desk.asked) == (NET, 3)
    assert notices == []


@pytest.mark.parametrize(
    "error",
    [
        NotBooked("some are missing"),
        DeskError("it is away"),
        JournalError("it takes no result"),
        RuntimeError("unforeseen"),
    ],
)
def test_what_is_not_told_is_unknown_in_both_places_and_told_to_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(booking, "AGAIN_S", (0.01,))
    monkeypatch.setattr(booking, "WITHIN_S", 0.05)
    monkeypatch.setattr(booking, "AWAY_WITHIN_S", 0.05)
    row, notices = _booked(tmp_path, Desk(error))
    assert row is not None
    assert row[1] is None
    assert str(error) in row[2]
    left = read_booked(tmp_path / "run")
    assert left is not None
    assert left.net_quote is None
    assert str(error) in left.why
    assert [one.kind for one in notices] == ["result_unknown"]


def test_why_it_does_not_end_is_told_while_its_result_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(booking, "AGAIN_S", (0.01,))
    monkeypatch.setattr(booking, "TOLD_AFTER_S", 0.0)
    away = DeskError("the venue is away")
    _, notices = _booked(tmp_path, Desk(away, away, away, NET))
    assert [one.kind for one in notices] == ["result_awaited"], "once"
    assert "closed but for its result" in notices[0].text
    assert "the venue is away" in notices[0].text


def test_a_machine_that_has_none_of_the_run_books_what_the_venue_tells(tmp_path: Path) -> None:
    run = tmp_path / "lost" / "runs" / "run"
    row, notices = _booked(tmp_path, Desk(NET), state_dir=str(run))
    assert row is not None
    assert row[1] == NET, "what is known is not thrown away for want of a folder"
    left = read_booked(run)
    assert left is not None
    assert (left.net_quote, notices) == (NET, [])


def test_a_bot_that_was_never_sent_a_grant_is_not_booked(tmp_path: Path) -> None:
    desk = Desk(NET)
    row, _ = _booked(tmp_path, desk, obs_url=None)
    assert (row, desk.asked) == (None, 0)
    assert read_booked(tmp_path / "run") is None


def test_the_result_of_a_stage_closed_without_its_criteria_is_one_that_is_measured() -> None:
    assert booking.UNLISTED.check in CHECKS
    assert booking.UNLISTED.no_go is not None


class Client:
    """Says that the account did nothing; `asked` tells since when (ms) it was asked.

    `recent` and `older`: what its orders have filled; `listed`: its executions, by each time they are asked for.
    """

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.recent: dict[str, str] = {}
        self.created_ms: dict[str, int] = {}
        self.older: dict[str, str] = {}
        self.listed: list[list[Execution]] = [[]]

    def instrument(self, symbol: str) -> Instrument:
        return Instrument(symbol, "linear", "BTC", "USDT", *(Decimal(x) for x in ("0.1", "0.001", "0.001", "100", "5")))

    def accounted(self, symbol: str, since_ms: int) -> list[Execution]:
        self.asked.append(since_ms)
        return self.listed.pop(0) if len(self.listed) > 1 else self.listed[0]

    def recent_orders(self, symbols: Sequence[str]) -> list[AccountOrder]:
        return [_order(symbols[0], name, filled, self.created_ms.get(name)) for name, filled in self.recent.items()]

    def order(self, symbol: str, client_order_id: str) -> AccountOrder | None:
        filled = self.older.get(client_order_id)
        return None if filled is None else _order(symbol, client_order_id, filled)


class AtAClient(Desk):
    """Asks this client."""

    def __init__(self, client: Client) -> None:
        super().__init__(Decimal(0))
        self.client = client

    async def read(self, ask: Callable[[Any], Decimal]) -> Decimal:
        self.asked += 1
        return ask(self.client)


def _order(symbol: str, name: str, filled: str, created_ms: int | None = None) -> AccountOrder:
    at = {"created_ms": created_ms}
    return AccountOrder(symbol, name, f"v-{name}", Side.SELL, Decimal(1), Decimal(1), Decimal(filled), True, **at)


@pytest.mark.parametrize("created_s_before", [1, 3600])
def test_without_a_journal_nothing_of_before_the_stage_run_is_asked_for(tmp_path: Path, created_s_before: int) -> None:
    launched_at, client = utc_now().replace(microsecond=0), Client()
    created_at = launched_at - timedelta(seconds=created_s_before)

    _booked(tmp_path, AtAClient(client), launched_at=launched_at, created_at=created_at)
    deadline_s = load_plan(SMOKE).stage("canary").launch_deadline_s
    since_s = launched_at.timestamp() - min(created_s_before, deadline_s)
    assert set(client.asked) == {round(since_s * 1000)}


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(booking, "AGAIN_S", (0.01,))
    monkeypatch.setattr(booking, "WITHIN_S", 0.1)


def _fill(name: str, at_ms: int, order: str, side: Side, lots: int, price: str) -> Filled:
    at_ns = at_ms * 1_000_000
    return Filled(at_ns, name, order, "v", "BTCUSDT", side, Decimal(price), lots, Decimal(0), side is Side.BUY, at_ns)


class Flattened:
    """Of an account that its bot filled once unheard, and a guard flattened that did not live to book it."""

    def __init__(self) -> None:
        read_at = utc_now()
        read_ms = round(read_at.timestamp() * 1000)
        self.name = f"slwf-0-{read_ms}0001"
        orders = [{"symbol": "BTCUSDT", "id": self.name, "taken": True}]
        told = {"began_at": iso(read_at), "read_at": iso(read_at), "held": {"BTCUSDT": "0.004"}, "orders": orders}
        self.proof: dict[str, Any] = {"flattenings": [told]}
        self.fills: list[Execution] = [
            _fill("e1", read_ms - 300, "slwq-1-1", Side.BUY, 4, "100000"),
            _fill("e2", read_ms + 300, self.name, Side.SELL, 4, "97000"),
        ]


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("where", ["recent", "older"])
def test_what_an_earlier_guard_flattened_is_waited_for_until_the_venue_lists_it(tmp_path: Path, where: str) -> None:
    client, flattened = Client(), Flattened()
    getattr(client, where)[flattened.name] = "0.004"
    client.listed = [[], [], flattened.fills]
    desk = AtAClient(client)
    row, notices = _booked(tmp_path, desk, flattened.proof)
    assert row is not None
    assert (row[1], desk.asked, notices) == (Decimal(-12), 3, [])


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("told", ["order", "held"])
def test_what_was_flattened_and_is_never_listed_is_unknown_and_not_nought(tmp_path: Path, told: str) -> None:
    client, flattened = Client(), Flattened()
    if told == "order":
        client.recent[flattened.name] = "0.004"
    else:
        del flattened.proof["flattenings"][0]["orders"]  # the guard died before it could tell of any
    row, notices = _booked(tmp_path, AtAClient(client), flattened.proof)
    assert row is not None
    assert row[1] is None
    assert {"order": "of which 0 is listed", "held": "0.004 was held"}[told] in row[2]
    assert [one.kind for one in notices] == ["result_unknown"]
    left = read_booked(tmp_path / "run")
    assert left is not None
    assert left.net_quote is None


@pytest.mark.usefixtures("_soon")
def test_a_flatten_by_a_kill_switch_of_its_own_is_waited_for_without_a_proof(tmp_path: Path) -> None:
    client, flattened = Client(), Flattened()
    client.recent[flattened.name] = "0.004"
    client.recent["slwf-0-17000000000000001"] = "0.5"  # of a run long before this one
    client.listed = [[], flattened.fills]
    desk = AtAClient(client)
    row, _ = _booked(tmp_path, desk, launched_at=utc_now(), created_at=utc_now() - timedelta(seconds=5))
    assert row is not None
    assert (row[1], desk.asked) == (Decimal(-12), 2)


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("flat_by", ["slwf-7-3", "slwq-7-2"])
def test_a_position_that_the_bot_has_closed_itself_unheard_is_waited_for(tmp_path: Path, flat_by: str) -> None:
    """Its account was flat when it was first read: no proof tells what had been held."""
    client, now_ms = Client(), round(utc_now().timestamp() * 1000)
    client.recent = {"slwq-7-1": "0.004", flat_by: "0.004", "slwq-6-9": "0.7", "by-hand": "0.3"}
    client.created_ms = dict.fromkeys(client.recent, now_ms) | {"slwq-6-9": now_ms - 3_600_000}
    fills: list[Execution] = [
        _fill("e1", now_ms, "slwq-7-1", Side.BUY, 4, "100000"),
        _fill("e2", now_ms + 1, flat_by, Side.SELL, 4, "97000"),
    ]
    client.listed = [[], fills]
    desk = AtAClient(client)
    row, _ = _booked(tmp_path, desk, launched_at=utc_now(), created_at=utc_now() - timedelta(seconds=5))
    assert row is not None
    assert (row[1], desk.asked) == (Decimal(-12), 2)


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("proof", [None, {}, {"positions": {"BTCUSDT": "0"}, "traded": True, "flatten": "said"}])
def test_a_proof_that_tells_no_flattening_asks_for_none(tmp_path: Path, proof: dict[str, Any] | None) -> None:
    row, notices = _booked(tmp_path, AtAClient(Client()), proof)
    assert row is not None
    assert row[1] == 0
    assert notices == []


def test_the_record_is_waited_for_as_long_as_the_end_of_the_stage_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(booking, "AGAIN_S", (0.01,))
    monkeypatch.setattr(booking, "WITHIN_S", 0.0)
    monkeypatch.setattr(booking, "AWAY_WITHIN_S", 0.0)
    desk = Desk(NET)
    row, notices = _booked(tmp_path, desk, failing_reads=5)
    assert row is not None
    assert (row[1], desk.asked, notices) == (NET, 1, [])


@pytest.mark.usefixtures("_soon")
def test_a_record_that_is_damaged_is_not_waited_for_without_end(tmp_path: Path) -> None:
    damaged = RecordDamaged("column proof of rollback_step holds what is no text", ValueError())
    row, notices = _booked(tmp_path, Desk(NET), failing_reads=10**9, failure=damaged)
    assert row is not None
    assert row[1] is None
    assert [one.kind for one in notices] == ["result_unknown"]


@pytest.mark.parametrize("away", ["record", "venue"])
def test_what_is_late_once_everybody_answers_again_is_waited_for_as_long_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    monkeypatch.setattr(booking, "AGAIN_S", (0.1,))
    monkeypatch.setattr(booking, "WITHIN_S", 0.25)
    outage: list[Exception] = [] if away == "record" else [DeskError("it is away")] * 4
    desk = Desk(*outage, NotBooked("some are missing"), NET)
    row, notices = _booked(tmp_path, desk, failing_reads=4 if away == "record" else 0)
    assert row is not None
    assert (row[1], notices) == (NET, [])
