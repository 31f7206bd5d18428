"""The journal in a file: damage is named and never repaired in silence, and nothing gathered is lost.

What it promises wherever it is kept is in `test_journal_stores`.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from bot.domain.events import BookDelta, Event, Filled, StopRequested, Ticked
from bot.domain.intent import Intent, PlaceOrder
from bot.domain.order import Side
from bot.journal import (
    Journal,
    JournalDamaged,
    JournalReader,
    JournalUnwritable,
    Segments,
    StateFolderTaken,
    StateLock,
    label_text,
)
from bot.simulation import run_wire
from bot.simulator.fault_file import load_fault_file
from tests.support.fault_runs import FOLDER
from tests.support.lanes import demo

META = {"account": "a1", "run": "r1", "config_digest": "d", "version": "v"}
PLACE = PlaceOrder(10, "slwq-3-1", "BTCUSDT", Side.BUY, 500_000, 2, 3)
FILL = Filled(20, "e1", "slwq-3-1", "v1", "BTCUSDT", Side.BUY, Decimal("50000.0"), 2, Decimal("-0.01"), True, 19)
CROSSINGS = ("mm_crossing_orders_total", "symbol=BTCUSDT")


def journal_at(folder: Path) -> Journal:
    return Journal(folder / "journal.db", META)


def filled_journal(folder: Path) -> Path:
    journal = journal_at(folder)
    for number in range(200):
        journal.event(StopRequested(number, "reason " * 40, "fault", "people", "test"))
    journal.commit({CROSSINGS: 4})
    journal.close()
    return folder / "journal.db"


def test_market_data_is_kept_only_where_asked_and_merges_by_sequence(tmp_path: Path) -> None:
    delta = BookDelta(5, "BTCUSDT", ((1, 2),), (), 7, 4)
    plain = journal_at(tmp_path)
    plain.event(delta)
    assert not plain.pending
    plain.close()
    folder = tmp_path / "kept"
    folder.mkdir()
    journal = Journal(folder / "journal.db", META, segments=Segments(folder, 60, 2))
    for event in (delta, FILL, delta, Ticked(9), delta):
        journal.event(event)
    journal.commit({})
    journal.close()
    segments = sorted(folder.glob("market-*.jsonl"))
    lines = [msgspec.json.decode(line) for path in segments for line in path.read_bytes().splitlines()]
    assert len(segments) == 2  # rotated by size, the oldest forgotten
    with JournalReader(folder / "journal.db") as reader:
        assert [entry.seq for entry in reader.entries()] == [2]
    assert [seq for seq, _ in lines] == [3, 4, 5]


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _cut_to_a_stub(path: Path) -> None:
    os.truncate(path, 50)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _garbage(path: Path) -> None:
    path.write_bytes(b"\x00\x01 this was never a database " * 200)


def _scribbled(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)


def _other_schema(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("UPDATE meta SET value = '7' WHERE key = 'schema_version'")
    db.commit()
    db.close()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_cut, "cut short"),
        (_cut_to_a_stub, "not a SQLite file"),
        (_empty, "not a SQLite file"),
        (_garbage, "not a SQLite file"),
        (_scribbled, "damaged journal"),
        (_other_schema, "schema_version is 7, this version reads 1"),
    ],
)
def test_a_damaged_journal_is_named_with_what_is_wrong_and_left_untouched(
    tmp_path: Path, damage: object, said: str
) -> None:
    path = filled_journal(tmp_path)
    damage(path)  # type: ignore[operator]
    before = path.read_bytes()
    with pytest.raises(JournalDamaged) as caught:
        Journal(path, META)
    message = str(caught.value)
    assert str(path) in message
    assert said in message
    assert "\n" not in message
    assert path.read_bytes() == before


def test_a_damaged_write_ahead_log_is_not_silently_ignored(tmp_path: Path) -> None:
    path = filled_journal(tmp_path)
    path.with_name("journal.db-wal").write_bytes(b"garbage" * 100)
    with pytest.raises(JournalDamaged, match="not a write-ahead log"):
        JournalReader(path)


def test_a_commit_that_does_not_fit_is_kept_whole_and_written_later(tmp_path: Path) -> None:
    journal = journal_at(tmp_path)
    db = journal._store._db  # type: ignore[attr-defined]
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")
    for number in range(500):
        journal.event(StopRequested(number, "x" * 500, "fault", "people", "test"))
    with pytest.raises(JournalUnwritable, match="cannot write"):
        journal.commit({CROSSINGS: 1})
    with JournalReader(journal.path) as reader:
        assert list(reader.entries()) == []
        assert reader.totals() == {}
    db.execute("PRAGMA max_page_count = 100000")
    journal.commit({CROSSINGS: 1})
    with JournalReader(journal.path) as reader:
        assert len(list(reader.entries())) == 500
        assert reader.totals() == {CROSSINGS: 1}
    journal.close()


def indexes_of(path: Path) -> set[str]:
    db = sqlite3.connect(path)
    try:
        return {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND sql <> ''")}
    finally:
        db.close()


def test_in_simulated_time_indexes_are_made_when_it_is_continued(tmp_path: Path) -> None:
    both = {"entry_of_order", "entry_of_kind"}
    filled_journal(tmp_path)
    assert indexes_of(tmp_path / "journal.db") == both
    folder = tmp_path / "simulated"
    folder.mkdir()
    path = folder / "journal.db"
    journal = Journal(path, META, rows_min=2)
    journal.event(FILL)
    journal.intent(PLACE)
    journal.commit({})
    assert not indexes_of(path)
    journal.close()
    with JournalReader(path) as reader:
        assert [entry.seq for entry in reader.entries(client_order_id="slwq-3-1")] == [1, 2]
        assert [entry.seq for entry in reader.entries(kind="PlaceOrder")] == [2]
        assert [row[0] for row in reader.rows("SELECT execution_id FROM fills")] == ["e1"]
    assert not indexes_of(path)
    journal_at(folder).close()
    assert indexes_of(path) == both


@pytest.fixture(scope="module")
def a_run(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Event, list[Intent]]]:
    """What a run with faults of all kinds was told and decided."""
    found: list[tuple[Event, list[Intent]]] = []
    scenario = demo(2, 15, faults=load_fault_file(FOLDER / "rough.yaml"), trade_socket=True)
    run_wire(scenario, tmp_path_factory.mktemp("run"), lambda event, intents, _: found.append((event, intents)))
    return found


def write_run(journal: Journal, run: list[tuple[Event, list[Intent]]]) -> None:
    for number, (event, intents) in enumerate(run):
        journal.event(event)
        for intent in intents:
            journal.intent(intent)
        if not journal.puts_off():
            journal.commit({CROSSINGS: number})


QUESTIONS = (
    "SELECT seq, at_ns, direction, kind, symbol, client_order_id, body FROM entry ORDER BY seq",
    "SELECT * FROM fills ORDER BY execution_id",
    "SELECT * FROM orders ORDER BY client_order_id",
    "SELECT * FROM stops ORDER BY seq",
    "SELECT count(*), min(at_ns), max(typeof(at_ns)), max(typeof(seq)) FROM entry WHERE kind = 'Note' AND at_ns > 5",
)


def answers(path: Path) -> list[list[tuple[object, ...]]]:
    with JournalReader(path) as reader:
        return [list(reader.rows(question)) for question in QUESTIONS]


def test_a_packed_journal_answers_as_one_of_rows_does_and_becomes_one(
    tmp_path: Path, a_run: list[tuple[Event, list[Intent]]]
) -> None:
    plain, packed = tmp_path / "journal.db", tmp_path / "packed.db"
    for path, rows_min in ((plain, 1), (packed, 100)):
        journal = Journal(path, META, rows_min=rows_min)
        write_run(journal, a_run)
        journal.close()
    wanted = answers(plain)
    kinds = {str(row[3]) for row in wanted[0]}
    assert {"PlaceOrder", "AmendOrder", "CancelAll", "OrderUpdated", "Filled", "Note", "StreamDown"} <= kinds
    assert all(len(found) >= 1 for found in wanted)
    assert answers(packed) == wanted
    continued = Journal(packed, META, rows_min=100)
    continued.event(FILL)
    continued.commit({})
    assert continued.last_ns == wanted[0][-1][1]
    continued.close()
    again = Journal(plain, META)
    again.event(FILL)
    again.commit({})
    again.close()
    assert answers(packed) == answers(plain) != wanted
    assert schema_of(packed) == schema_of(plain)


def schema_of(path: Path) -> set[tuple[str, str]]:
    db = sqlite3.connect(path)
    try:
        return {(kind, name) for kind, name in db.execute("SELECT type, name FROM sqlite_master")}
    finally:
        db.close()


CONTINUE_WITHOUT_ROOM = """
import resource, sys
from pathlib import Path
from bot.journal import Journal, JournalUnwritable
resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))
try:
    Journal(Path(sys.argv[1]), {"account": "a1"})
except JournalUnwritable as error:
    print(error)
"""


def test_a_packed_journal_that_has_no_room_to_be_unpacked_is_left_as_it_is(
    tmp_path: Path, a_run: list[tuple[Event, list[Intent]]]
) -> None:
    path = tmp_path / "packed.db"
    journal = Journal(path, META, rows_min=100)
    write_run(journal, a_run)
    journal.close()
    before = answers(path)
    done = subprocess.run(
        [sys.executable, "-c", CONTINUE_WITHOUT_ROOM, str(path)], check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith(f"{path}: cannot be unpacked to be continued (")
    assert len(done.stdout.splitlines()) == 1
    assert answers(path) == before
    assert ("table", "batch") in schema_of(path)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_rows_are_written_in_order_however_many_they_are(tmp_path: Path, count: int) -> None:
    journal = journal_at(tmp_path)
    for number in range(count):
        journal.event(msgspec.structs.replace(FILL, at_ns=number, execution_id=f"e{number}"))
    journal.commit({})
    journal.close()
    with JournalReader(tmp_path / "journal.db") as reader:
        assert [(entry.seq, entry.at_ns) for entry in reader.entries()] == [(n + 1, n) for n in range(count)]


def test_two_processes_never_share_a_state_folder(tmp_path: Path) -> None:
    with (
        StateLock(tmp_path),
        pytest.raises(StateFolderTaken, match=f"in use by another bot \\(process {os.getpid()}\\)"),
    ):
        StateLock(tmp_path).__enter__()
    with StateLock(tmp_path):
        pass


def test_labels_are_written_in_catalogue_order() -> None:
    assert label_text("mm_orders_placed_total", ("BTCUSDT", "buy")) == "symbol=BTCUSDT,side=buy"
    assert label_text("mm_quoting_ms_total", ("BTCUSDT", "two")) == "symbol=BTCUSDT,sides=two"
    assert label_text("mm_uncaught_exceptions_total", ()) == ""
    with pytest.raises(KeyError):
        label_text("mm_no_such_total", ())


def _bodies(path: Path) -> list[str] | None:
    """What a journal holds, or None where reader and continuing writer refuse it, in one line that names it."""
    said = ""
    try:
        with JournalReader(path) as reader:
            return [entry.body for entry in reader.entries()]
    except JournalDamaged as error:
        said = str(error)
    assert str(path) in said
    assert "\n" not in said
    with pytest.raises(JournalDamaged):
        Journal(path, META)
    return None


def test_a_journal_cut_at_any_byte_is_refused_and_never_overwritten(tmp_path: Path) -> None:
    whole = filled_journal(tmp_path).read_bytes()
    path = tmp_path / "cut" / "journal.db"
    path.parent.mkdir()
    page = int.from_bytes(whole[16:18], "big")
    edges = {edge + more for edge in range(0, len(whole), page) for more in (-1, 0, 1)}
    for size in sorted((edges | set(range(0, len(whole), 997)) | {len(whole) - 1}) & set(range(len(whole)))):
        path.write_bytes(whole[:size])
        assert _bodies(path) is None, f"cut to {size} of {len(whole)} bytes"
        assert path.read_bytes() == whole[:size], f"cut to {size}: it was changed"
        assert [one.name for one in path.parent.iterdir()] == ["journal.db"], f"cut to {size}"


def test_what_a_killed_writer_left_cut_at_any_byte_is_a_prefix_or_refused(tmp_path: Path) -> None:
    """The write-ahead log beside the file is what a crash leaves: any cut of it loses whole transactions only."""
    source, path = tmp_path / "source" / "journal.db", tmp_path / "cut" / "journal.db"
    source.parent.mkdir()
    path.parent.mkdir()
    journal = Journal(source, META)
    for number in range(1, 21):
        journal.event(StopRequested(number, f"reason {number}", "fault", "people", "test"))
        journal.commit({})
    base, log = source.read_bytes(), source.with_name("journal.db-wal").read_bytes()
    with JournalReader(source) as reader:
        rows = [entry.body for entry in reader.entries()]
    journal.close()
    assert len(rows) == 20
    seen: set[int] = set()
    for size in [*range(0, len(log), 1_013), len(log)]:
        for left in path.parent.iterdir():
            left.unlink()
        path.write_bytes(base)
        path.with_name("journal.db-wal").write_bytes(log[:size])
        found = _bodies(path)
        if found is not None:
            assert found == rows[: len(found)], f"log cut to {size} bytes"
            seen.add(len(found))
    assert {0, 20} <= seen
    assert len(seen) > 10
