"""What a journal promises wherever it is kept: the same laws over SQLite's file and a real Redis server."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from bot.carrying import carried_equity, journals_in_redis
from bot.domain.events import BookDelta, Event, Filled, GrantReceived, StopRequested, Ticked
from bot.domain.intent import FlattenReduceOnly, Note, PlaceOrder
from bot.domain.order import Side
from bot.journal import Journal, JournalDamaged, JournalError, JournalReader, JournalUnwritable, Segments, is_there
from bot.stores import redis_place, redis_store
from bot.stores.redis_place import RedisPlace, journals_of, place_for, write_marker
from bot.stores.redis_store import BATCH_ROWS, RETRY_AFTER_S, RedisStore
from tasks.guard.noted import Hole, NotReadError, noted
from tests.support.bot_rig import wait_for
from tests.support.redis_server import RedisServer, redis_server

META = {"account": "a1", "run": "r1", "config_digest": "d", "version": "v", "mode": "live"}
PLACE = PlaceOrder(10, "slwq-3-1", "BTCUSDT", Side.BUY, 500_000, 2, 3)
FILL = Filled(20, "e1", "slwq-3-1", "v1", "BTCUSDT", Side.BUY, Decimal("50000.0"), 2, Decimal("-0.01"), True, 19)
CROSSINGS = ("mm_crossing_orders_total", "symbol=BTCUSDT")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose machine stands still for a second is not one that is away."""
    monkeypatch.setattr(redis_place, "ANSWER_TIMEOUT_S", 30.0)


class Sqlite:
    """Journals as files."""

    def open(self, folder: Path, meta: dict[str, str] = META, segments: Segments | None = None) -> Journal:
        return Journal(folder / "journal.db", meta, segments=segments)


class Redis:
    """Journals on the module's server; the folder's name tells them apart, as a state folder's does."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server

    def store(self, folder: Path, meta: dict[str, str] = META) -> RedisStore:
        place = place_for(self.server.url, "a1", folder)
        store = RedisStore(place, meta)
        write_marker(folder, place)
        return store

    def open(self, folder: Path, meta: dict[str, str] = META, segments: Segments | None = None) -> Journal:
        return Journal(folder / "journal.db", meta, segments=segments, store=self.store(folder, meta))


@pytest.fixture(params=["sqlite", "redis"])
def kept(request: pytest.FixtureRequest) -> Sqlite | Redis:
    return Sqlite() if request.param == "sqlite" else Redis(request.getfixturevalue("server"))


def stop(number: int) -> StopRequested:
    return StopRequested(number, "reason", "fault", "people", "test")


def test_what_was_committed_is_read_back_in_order_while_the_writer_lives(kept: Sqlite | Redis, tmp_path: Path) -> None:
    journal = kept.open(tmp_path)
    assert not journal.continued
    journal.intent(PLACE)
    journal.event(FILL)
    journal.commit({CROSSINGS: 0})
    with JournalReader(journal.path) as reader:
        entries = list(reader.entries())
        assert [(entry.seq, entry.direction, entry.kind) for entry in entries] == [
            (1, "out", "PlaceOrder"),
            (2, "in", "Filled"),
        ]
        assert msgspec.json.decode(entries[1].body, type=Event) == FILL  # type: ignore[arg-type]
        assert reader.totals() == {CROSSINGS: 0}
        assert reader.meta() == {**META, "schema_version": "1"}
        journal.event(FILL)
        journal.commit({CROSSINGS: 1})
        assert reader.totals() == {CROSSINGS: 1}
        assert [entry.kind for entry in reader.entries(after_seq=2)] == ["Filled"]
        assert [entry.seq for entry in reader.entries(client_order_id="slwq-3-1")] == [1, 2, 3]
    journal.close()


def test_nothing_is_written_before_the_commit(kept: Sqlite | Redis, tmp_path: Path) -> None:
    journal = kept.open(tmp_path)
    journal.intent(PLACE)
    with JournalReader(journal.path) as reader:
        assert list(reader.entries()) == []
    assert journal.pending
    journal.close()


def test_the_views_show_fills_once_orders_and_stops(kept: Sqlite | Redis, tmp_path: Path) -> None:
    journal = kept.open(tmp_path)
    journal.intent(PLACE)
    journal.intent(FlattenReduceOnly(15, "slwf-7-2", "BTCUSDT", Side.SELL, 2, 499_000))
    journal.event(FILL)
    journal.event(msgspec.structs.replace(FILL, at_ns=25))
    fields: dict[str, str | int | float | bool] = {"reason": "drill", "stop_class": "planned", "resume": "auto"}
    journal.intent(Note(30, "WARNING", "freeze_triggered", fields))
    journal.commit({})
    with JournalReader(journal.path) as reader:
        assert list(reader.rows("SELECT * FROM fills")) == [
            ("e1", 20, "slwq-3-1", "BTCUSDT", "buy", "50000.0", 2, "-0.01", 1)
        ]
        assert list(reader.rows("SELECT * FROM orders ORDER BY at_ns")) == [
            ("slwq-3-1", 10, "BTCUSDT", "buy", 500_000, 2, 3),
            ("slwf-7-2", 15, "BTCUSDT", "sell", 499_000, 2, 7),
        ]
        assert list(reader.rows("SELECT at_ns, reason, class, resume FROM stops")) == [(30, "drill", "planned", "auto")]
    journal.close()


def test_market_data_in_segments_shares_the_numbering(kept: Sqlite | Redis, tmp_path: Path) -> None:
    delta = BookDelta(5, "BTCUSDT", ((1, 2),), (), 7, 4)
    journal = kept.open(tmp_path, segments=Segments(tmp_path, 60, 9))
    for event in (delta, FILL, delta, Ticked(9), delta):
        journal.event(event)
    journal.commit({})
    journal.close()
    again = kept.open(tmp_path, segments=Segments(tmp_path, 60, 9))
    again.event(FILL)
    again.commit({})
    again.close()
    with JournalReader(tmp_path / "journal.db") as reader:
        numbers = [entry.seq for entry in reader.entries()]
    assert numbers == [2, 6]
    lines = [msgspec.json.decode(line) for path in tmp_path.glob("market-*.jsonl") for line in path.open("rb")]
    assert not {seq for seq, _ in lines} & set(numbers)


def test_a_continued_journal_goes_on_from_where_it_was(kept: Sqlite | Redis, tmp_path: Path) -> None:
    journal = kept.open(tmp_path)
    assert (journal.last_epoch, journal.execution_count, journal.last_ns) == (0, 0, 0)
    journal.event(GrantReceived(1, "a1", 12, Decimal(1), Decimal(2), 5.0))
    journal.event(FILL)
    journal.event(FILL)
    journal.commit({CROSSINGS: 4})
    assert (journal.last_epoch, journal.execution_count) == (12, 1)
    journal.close()
    again = kept.open(tmp_path)
    assert again.continued
    assert (again.last_epoch, again.execution_count, again.last_ns) == (12, 1, 20)
    again.event(stop(30))
    again.commit({CROSSINGS: 1})
    assert again.last_ns == 20
    again.close()
    with JournalReader(again.path) as reader:
        assert reader.totals() == {CROSSINGS: 5}
        assert [entry.seq for entry in reader.entries()] == [1, 2, 3, 4]


def test_a_journal_of_another_account_is_refused_by_name(kept: Sqlite | Redis, tmp_path: Path) -> None:
    kept.open(tmp_path).close()
    with pytest.raises(JournalError, match="journal of account 'a1', this run is for account 'b2'"):
        kept.open(tmp_path, {**META, "account": "b2"})


def test_a_missing_journal_is_not_created_by_reading(kept: Sqlite | Redis, tmp_path: Path) -> None:
    if isinstance(kept, Redis):
        write_marker(tmp_path, place_for(kept.server.url, "a1", tmp_path))
    else:
        assert not is_there(tmp_path / "journal.db")
    with pytest.raises(JournalDamaged, match="no such journal"):
        JournalReader(tmp_path / "journal.db")
    assert not (tmp_path / "journal.db").exists()


SCRIPT = """
import sys; from pathlib import Path
from bot.journal import Journal; from bot.domain.events import StopRequested
from bot.stores import redis_place; redis_place.ANSWER_TIMEOUT_S = 30.0
from bot.stores.redis_place import place_for; from bot.stores.redis_store import RedisStore
folder, url = Path(sys.argv[1]), sys.argv[2]
store = RedisStore(place_for(url, 'a1', folder), {'account': 'a1'}) if url else None
journal = Journal(folder / 'journal.db', {'account': 'a1'}, store=store)
for n in range(50):
    journal.event(StopRequested(n, 'r', 'fault', 'people', 'test'))
    journal.commit({('mm_crossing_orders_total', 'symbol=BTCUSDT'): n + 1})
print('ready', flush=True); sys.stdin.read()
"""


def test_a_killed_writer_leaves_everything_it_committed(kept: Sqlite | Redis, tmp_path: Path) -> None:
    url = kept.server.url if isinstance(kept, Redis) else ""
    writer = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path), url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    if isinstance(kept, Redis):  # and the server with it
        kept.server.kill()
        kept.server.start()
        write_marker(tmp_path, place_for(url, "a1", tmp_path))
    with JournalReader(tmp_path / "journal.db") as reader:
        assert len(list(reader.entries())) == 50
        assert reader.totals() == {CROSSINGS: 50}


# ---- Redis alone ----------------------------------------------------------------------------------------------------


def in_redis(server: RedisServer, folder: Path) -> Journal:
    return Redis(server).open(folder)


def test_its_keys_are_orders_and_idem_and_no_others(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as server:
        folder = tmp_path / "run-7"
        folder.mkdir()
        journal = in_redis(server, folder)
        journal.event(FILL)
        journal.commit({CROSSINGS: 1})
        keys = {f"orders:a1:run-7:{what}" for what in ("meta", "entries", "totals", "writer")}
        assert set(server.client.keys()) == keys | {"idem:a1:run-7:batch"}
        journal.close()


def test_a_server_that_is_away_keeps_the_batch_and_gets_it_once_when_it_is_back(
    server: RedisServer, tmp_path: Path
) -> None:
    journal = in_redis(server, tmp_path)
    journal.event(stop(1))
    journal.commit({CROSSINGS: 1})
    server.kill()
    for number in range(2, 5):
        journal.event(stop(number))
        with pytest.raises(JournalUnwritable, match="cannot write"):
            journal.commit({CROSSINGS: number})
    server.start()

    def written() -> bool:
        try:
            journal.commit({})
        except JournalUnwritable:
            return False
        return True

    wait_for("the batch is taken", written)
    with JournalReader(journal.path) as reader:
        assert [entry.at_ns for entry in reader.entries()] == [1, 2, 3, 4]
        assert reader.totals() == {CROSSINGS: 4}
    journal.close()


def test_a_batch_whose_answer_was_lost_is_not_written_twice(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [100.0]  # a clock of its own: how long it is left alone is none of what the test itself takes
    monkeypatch.setattr(redis_store, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    with monkeypatch.context() as patience:
        patience.setattr(redis_place, "ANSWER_TIMEOUT_S", 1.0)
        store = Redis(server).store(tmp_path)
    rows = [(number, number, "in", "Ticked", "", "", f'{{"n":{number}}}') for number in range(1, BATCH_ROWS + 3)]
    first = tmp_path / "first"
    first.mkdir()
    other = Redis(server).store(first)
    other.write(rows[:1], {CROSSINGS: 1})  # the server has its script from here on: else only that would be asked for
    other.close()
    server.freeze()
    with pytest.raises(JournalUnwritable, match="Timeout"):
        store.write(rows[:5], {CROSSINGS: 1})
    server.thaw()  # and does what was asked of it
    wait_for("the late write", lambda: server.client.xlen(f"orders:a1:{tmp_path.name}:entries") == 5)
    with pytest.raises(JournalUnwritable):  # it is left alone for a while
        store.write(rows, {CROSSINGS: 2})

    def written() -> bool:
        now_s[0] += RETRY_AFTER_S
        try:
            store.write(rows, {CROSSINGS: 2})
        except JournalUnwritable:
            return False
        return True

    wait_for("the batch is taken", written)
    with JournalReader(tmp_path / "journal.db") as reader:
        assert [entry.seq for entry in reader.entries()] == [row[0] for row in rows]
        assert reader.totals() == {CROSSINGS: 2}
    store.close()


def test_who_opens_it_last_writes_and_the_other_may_not(server: RedisServer, tmp_path: Path) -> None:
    first = in_redis(server, tmp_path)
    second = in_redis(server, tmp_path)
    first.event(stop(1))
    with pytest.raises(JournalUnwritable, match="another process has taken this journal over"):
        first.commit({})
    second.event(stop(2))
    second.commit({})
    with JournalReader(second.path) as reader:
        assert [entry.at_ns for entry in reader.entries()] == [2]
    first.close()
    second.close()


def test_one_that_was_not_asked_for_is_refused_and_its_writer_goes_on(server: RedisServer, tmp_path: Path) -> None:
    first = in_redis(server, tmp_path)
    with pytest.raises(JournalError, match="a journal is there already; --recover continues it"):
        RedisStore(place_for(server.url, "a1", tmp_path), META, recover=False)
    first.event(stop(1))
    first.commit({})
    first.close()


def test_a_server_that_forgot_what_it_took_ends_the_writing(server: RedisServer, tmp_path: Path) -> None:
    journal = in_redis(server, tmp_path)
    journal.event(stop(1))
    journal.commit({})
    server.client.set(f"idem:a1:{tmp_path.name}:batch", "0")
    journal.event(stop(2))
    with pytest.raises(JournalUnwritable, match="has lost rows that it had taken: its last is 0"):
        journal.commit({})
    journal.close()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("entries", "damaged journal, cut short: 0 rows, 2 were written"),
        ("batch", "damaged journal: its last row is 2, 0 was written"),
        ("meta", "is there without"),
    ],
)
def test_a_journal_with_a_part_gone_is_named_and_left_untouched(
    server: RedisServer, tmp_path: Path, what: str, said: str
) -> None:
    journal = in_redis(server, tmp_path)
    journal.event(stop(1))
    journal.event(stop(2))
    journal.commit({CROSSINGS: 1})
    journal.close()
    server.client.delete(place_for(server.url, "a1", tmp_path).key(what))
    before = {key: server.client.dump(key) for key in server.client.keys(f"*{tmp_path.name}*") if "writer" not in key}
    with pytest.raises(JournalDamaged, match=said):
        in_redis(server, tmp_path)
    assert before == {
        key: server.client.dump(key) for key in server.client.keys(f"*{tmp_path.name}*") if "writer" not in key
    }


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"appendonly": "no"}, "its appendonly is no, a journal needs yes"),
        ({"appendfsync": "everysec"}, "its appendfsync is everysec, a journal needs always"),
        ({"maxmemory-policy": "allkeys-lru"}, "its maxmemory-policy is allkeys-lru, a journal needs noeviction"),
    ],
)
def test_a_server_that_would_not_keep_it_is_refused_by_name(
    tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    with redis_server(tmp_path / "redis", **settings) as server, pytest.raises(JournalError, match=said):
        RedisStore(place_for(server.url, "a1", tmp_path), META)


def test_a_server_that_is_not_there_is_refused_in_one_line(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as server:
        place = place_for(server.url, "a1", tmp_path)
    with pytest.raises(JournalError, match="Connection refused") as caught:
        RedisStore(place, META)
    assert str(place) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_another_run_of_the_account_lost_is_found_on_the_same_server(server: RedisServer, tmp_path: Path) -> None:
    earlier, mine = tmp_path / "run-1", tmp_path / "run-2"
    for folder in (earlier, mine):
        folder.mkdir()
    journal = in_redis(server, earlier)
    journal.intent(Note(500, "DEBUG", "equity_sample", {"net_quote": "-12.5", "peak_quote": "3"}))
    journal.commit({})
    journal.close()
    earlier.joinpath("journal.redis").unlink()  # another machine's disk has none of it
    opening = [one for one in journals_in_redis(server.url, "a1", mine) if one.args[0].name == "a1:run-1"]
    assert len(opening) == 1
    carried = carried_equity(mine, "a1", "live", 1_000, opening)
    assert carried.unread == ()
    assert carried.event is not None
    assert (carried.event.samples, carried.event.peak_quote) == (((500, Decimal("-12.5")),), Decimal(3))
    assert carried_equity(mine, "a1", "live", 1_000).event is None


def test_a_run_that_is_named_on_the_disk_and_found_on_the_server_counts_once(
    server: RedisServer, tmp_path: Path
) -> None:
    earlier, mine = tmp_path / "run-3", tmp_path / "run-4"
    earlier.mkdir()
    journal = in_redis(server, earlier)
    for at_ns, net in ((500, "0"), (600, "-12.5")):
        journal.intent(Note(at_ns, "DEBUG", "equity_sample", {"net_quote": net, "peak_quote": "0"}))
    journal.commit({})
    journal.close()
    write_marker(earlier, place_for(server.url, "a1", earlier))
    opening = [one for one in journals_in_redis(server.url, "a1", mine) if one.args[0].name == "a1:run-3"]
    assert carried_equity(mine, "a1", "live", 1_000, opening).curve.loss_24h_quote == Decimal("12.5")


def test_the_guard_finds_what_the_bot_noted_of_its_result_there_too(tmp_path: Path) -> None:
    hole, minute_ns = Hole(1, "a1", str(tmp_path), 60_000, 119_999), 60_000_000_000
    with redis_server(tmp_path / "redis") as server:
        journal = in_redis(server, tmp_path)
        for minute, net in enumerate(("-12.5", "-13", "4")):
            journal.intent(Note(minute * minute_ns, "DEBUG", "equity_sample", {"net_quote": net, "peak_quote": "3"}))
        journal.commit({})
        journal.close()
        assert noted(hole) == [(60_000, Decimal(-13))]
    with pytest.raises(NotReadError, match="Connection refused"):
        noted(hole)


def test_a_server_that_cannot_be_asked_for_other_runs_is_an_error_and_not_a_day_without_loss(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as server:
        url = server.url
    with pytest.raises(JournalError, match="cannot be asked for journals"):
        journals_of(url, "a1")


class Overtaken:
    """A client of the server before whose next taking-over another writer gets a word in."""

    def __init__(self, client: Any, before: Callable[[], None]) -> None:
        self._client, self._before = client, before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def set(self, *words: str) -> Any:
        self._before()
        return self._client.set(*words)


class OvertakenPlace(RedisPlace):
    before: Callable[[], None]

    def connect(self) -> Any:
        return Overtaken(super().connect(), self.before)


def test_a_grant_that_the_writer_before_took_until_the_last_moment_is_known(
    server: RedisServer, tmp_path: Path
) -> None:
    first = Redis(server).open(tmp_path)
    first.event(GrantReceived(1, "a1", 3, Decimal(1), Decimal(2), 5.0))
    first.commit({})

    def one_more() -> None:
        first.event(GrantReceived(2, "a1", 4, Decimal(1), Decimal(2), 5.0))
        first.commit({})

    place = OvertakenPlace(*place_for(server.url, "a1", tmp_path))
    place.before = one_more
    second = RedisStore(place, META)
    assert second.last_epoch() == 4, "it must not take a grant of that epoch again"
    assert second.last_seq() == 2
    second.close()
