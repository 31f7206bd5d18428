"""The guard's last word on an attempt: stored and left beside the journal, or unknown in both places, and told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.booked import Execution, NotBooked, read_booked
from bot.domain.instrument import Instrument
from bot.journal import JournalError
from gates.sources.checks import CHECKS
from gates.stages import load_plan
from tasks.guard import booking
from tasks.guard.booking import book
from tasks.guard.results import BOOKED, RESULT
from tasks.guard.state import load_active
from tasks.record_tables import Outbox, utc_now
from tasks.rollback import DeskError
from tests.support.asked_guard import PLAN as SMOKE
from tests.support.guard_parts import guard_at, writing

NET = Decimal("-306.0950000001")
Row = tuple[int, Decimal | None, str] | None


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


def _booked(home: Path, desk: Desk, **columns: Any) -> tuple[Row, list[Outbox]]:
    (home / "run").mkdir(parents=True)
    told = {"state_dir": str(home / "run"), "run": "run", "obs_url": "http://127.0.0.1:9", "launched_at": utc_now()}

    async def work() -> tuple[Row, list[Outbox]]:
        guard = guard_at(home, "rolling_back", source=SMOKE, **{**told, "flat_at": utc_now(), **columns})
        record = guard.store.record
        rollout = record.rollout("r")
        assert rollout is not None
        active = load_active(guard.folder, record.stage_run(1), rollout)
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
    """Says that the account did nothing; `asked` tells since when (ms) it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def instrument(self, symbol: str) -> Instrument:
        return Instrument(symbol, "linear", "BTC", "USDT", *(Decimal(x) for x in ("0.1", "0.001", "0.001", "100", "5")))

    def accounted(self, symbol: str, since_ms: int) -> list[Execution]:
        self.asked.append(since_ms)
        return []


@pytest.mark.parametrize("created_s_before", [1, 3600])
def test_without_a_journal_nothing_of_before_the_stage_run_is_asked_for(tmp_path: Path, created_s_before: int) -> None:
    launched_at, client = utc_now().replace(microsecond=0), Client()
    created_at = launched_at - timedelta(seconds=created_s_before)

    class AtAClient(Desk):
        async def read(self, ask: Callable[[Any], Decimal]) -> Decimal:
            return ask(client)

    _booked(tmp_path, AtAClient(NET), launched_at=launched_at, created_at=created_at)
    deadline_s = load_plan(SMOKE).stage("canary").launch_deadline_s
    since_s = launched_at.timestamp() - min(created_s_before, deadline_s)
    assert set(client.asked) == {round(since_s * 1000)}
