"""What an attempt came to is kept where its journal is: on Redis another machine finds it there."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from bot.booked import Booked, read_booked, write_booked
from bot.carrying import DAY_NS, Carried, carried_equity, journals_in_redis
from bot.domain.intent import Note
from bot.journal import Journal, JournalError, JournalReader
from bot.stores import redis_place
from bot.stores.redis_place import place_for, write_marker
from bot.stores.redis_store import RedisStore
from tasks.guard import booking
from tasks.guard.booking import book
from tasks.guard.state import load_active
from tasks.record_tables import utc_now
from tests.component.test_guard_booking import Desk
from tests.support.asked_guard import PLAN as SMOKE
from tests.support.guard_parts import guard_at, writing
from tests.support.redis_server import RedisServer, redis_server

META = {"account": "a1", "run": "r1", "config_digest": "d", "version": "v", "mode": "live"}
NOW_NS = 3 * DAY_NS
HOUR_NS = DAY_NS // 24


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose machine stands still for a second is not one that is away."""
    monkeypatch.setattr(redis_place, "ANSWER_TIMEOUT_S", 30.0)


def _ran(server: RedisServer, folder: Path) -> Path:
    """A run that ended two hours ago 20 below where it began, its journal on the server."""
    folder.mkdir()
    place = place_for(server.url, "a1", folder)
    journal = Journal(folder / "journal.db", META, store=RedisStore(place, META))
    write_marker(folder, place)
    for ago_h, net in ((5, "0"), (2, "-20")):
        fields: dict[str, str | int | float | bool] = {"net_quote": net, "peak_quote": "0"}
        journal.intent(Note(NOW_NS - ago_h * HOUR_NS, "DEBUG", "equity_sample", fields))
    journal.commit({})
    journal.close()
    return folder


def _carried(server: RedisServer, folder: Path) -> Carried:
    """What a run on another machine carries of it: its disk has nothing of that folder."""
    name = f"a1:{folder.name}"
    opening = [one for one in journals_in_redis(server.url, "a1", folder.parent / "next") if one.args[0].name == name]
    assert len(opening) == 1
    elsewhere = folder.parent / "elsewhere" / "next"
    return carried_equity(elsewhere, "a1", "live", NOW_NS, opening)


def test_what_was_lost_after_a_bot_had_ended_counts_on_another_machine(server: RedisServer, tmp_path: Path) -> None:
    folder = _ran(server, tmp_path / "lost-1")
    assert _carried(server, folder).curve.loss_24h_quote == 20, "until then its last note is its result"
    write_booked(folder, Booked(NOW_NS - HOUR_NS, Decimal("-325.5")))
    shutil.rmtree(folder)
    taken_over = folder.parent / "elsewhere" / folder.name
    write_booked(taken_over, Booked(NOW_NS - HOUR_NS, Decimal("-325.5"), "", "a1", "live"))
    carried = _carried(server, folder)
    assert (carried.curve.loss_24h_quote, carried.unread) == (Decimal("325.5"), ())


def test_what_a_machine_books_that_took_the_account_over_counts_on_every_machine(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _ran(server, tmp_path / "taken-1")
    shutil.rmtree(folder)  # it was on the disk of the machine that is off
    monkeypatch.setenv("MM_JOURNAL_STORE", server.url)
    columns = {"run": "taken-1", "state_dir": str(folder), "obs_url": "http://127.0.0.1:9", "launched_at": utc_now()}

    async def closed() -> None:
        guard = guard_at(tmp_path / "home", "rolling_back", source=SMOKE, flat_at=utc_now(), **columns)
        rollout = guard.store.record.rollout("r")
        assert rollout is not None
        active = load_active(guard.folder, guard.store.record.stage_run(1), rollout)
        active.row.account = "a1"
        async with writing(guard):
            await book(guard, active, Desk(Decimal("-325.5")))  # type: ignore[arg-type]

    monkeypatch.setattr(booking, "now_ms", lambda: (NOW_NS - HOUR_NS) // 1_000_000)
    asyncio.run(closed())
    shutil.rmtree(folder)
    carried = _carried(server, folder)
    assert (carried.curve.loss_24h_quote, carried.unread) == (Decimal("325.5"), ())


def test_what_is_not_known_is_not_known_there_either(server: RedisServer, tmp_path: Path) -> None:
    folder = _ran(server, tmp_path / "unknown-1")
    write_booked(folder, Booked(NOW_NS - HOUR_NS, None, "the venue was away"))
    (said,) = _carried(server, folder).unread
    assert "a1:unknown-1" in said
    assert "the venue was away" in said
    shutil.rmtree(folder)
    client = place_for(server.url, "a1", folder).connect()
    client.hset("orders:a1:unknown-1:meta", "booked", '{"at_ns": 5, "net_qu')
    (said,) = _carried(server, folder).unread
    assert "not a result" in said


def test_a_run_that_is_found_on_the_disk_and_on_the_server_counts_once(server: RedisServer, tmp_path: Path) -> None:
    folder = _ran(server, tmp_path / "both-1")
    write_booked(folder, Booked(NOW_NS - HOUR_NS, Decimal(-50)))
    opening = [one for one in journals_in_redis(server.url, "a1", tmp_path / "next") if "both-1" in one.args[0].name]
    for _ in range(2):
        carried = carried_equity(tmp_path / "next", "a1", "live", NOW_NS, opening)
        assert (carried.curve.loss_24h_quote, carried.unread) == (Decimal(50), ())
        (folder / "booked.json").unlink(missing_ok=True)  # the server's word holds for the folder too


def test_a_journal_with_a_result_is_read_and_continued_as_before(server: RedisServer, tmp_path: Path) -> None:
    folder = _ran(server, tmp_path / "again-1")
    write_booked(folder, Booked(NOW_NS - HOUR_NS, Decimal(-50)))
    journal = Journal(folder / "journal.db", META, store=RedisStore(place_for(server.url, "a1", folder), META))
    assert journal.continued
    journal.close()
    with JournalReader(folder / "journal.db") as reader:
        assert len(list(reader.entries())) == 2


def test_a_server_that_does_not_take_it_is_told(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as server:
        folder = _ran(server, tmp_path / "away-1")
        client = place_for(server.url, "a1", folder).connect()
        client.delete("orders:a1:away-1:meta")
        with pytest.raises(JournalError, match="no such journal"):
            write_booked(folder, Booked(5, Decimal(1)))
        assert not client.exists("orders:a1:away-1:meta"), "a result alone is no journal"
    with pytest.raises(JournalError, match="takes no result"):
        write_booked(folder, Booked(5, Decimal(1)))
    assert read_booked(folder) == Booked(5, Decimal(1)), "what is here is here"
