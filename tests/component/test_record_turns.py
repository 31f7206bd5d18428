"""Many who write into one SQLite record: each gets its turn, and none is told that the database is locked."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tasks import record_engine
from tasks.record import open_record


@pytest.fixture(autouse=True)
def _asks_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_engine, "_without_until_s", {})


WRITERS, WRITES, HELD_S = 12, 12, 0.05
WRITER = """
import sys, time
from sqlalchemy import text
from tasks import record_engine
from tasks.record import open_record
record = open_record(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
longest = 0.0
for number in range(int(sys.argv[2])):
    asked = time.monotonic()
    with record.writing() as session:
        session.execute(text("SELECT 1"))
        longest = max(longest, time.monotonic() - asked)
        time.sleep(float(sys.argv[3]))  # what a transaction takes where twenty share two cores
print(longest, flush=True)
sys.stdin.readline()
"""


def _writer(url: str, writes: int, held_s: float) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", WRITER, url, str(writes), str(held_s)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _go(writer: subprocess.Popen[str]) -> None:
    assert writer.stdin is not None
    writer.stdin.write("go\n")
    writer.stdin.flush()


def _line(writer: subprocess.Popen[str]) -> str:
    assert writer.stdout is not None
    return writer.stdout.readline().strip()


def test_of_many_writers_none_waits_much_longer_than_all_the_others_take(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/rollout.db"
    open_record(url)
    writers = [_writer(url, WRITES, HELD_S) for _ in range(WRITERS)]
    try:
        assert [_line(one) for one in writers] == ["ready"] * WRITERS
        begun_s = time.monotonic()
        for one in writers:
            _go(one)
        longest_s = [float(_line(one)) for one in writers]
        all_s = time.monotonic() - begun_s
    finally:
        for one in writers:
            one.kill()
            one.wait()
    assert all_s >= WRITERS * WRITES * HELD_S
    assert max(longest_s) < 0.8 * all_s, f"the longest waits: {sorted(longest_s)[-3:]} of {all_s} s that all took"


def test_a_writer_that_is_frozen_in_its_turn_keeps_others_once_and_no_longer_than_their_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_engine, "TURN_PATIENCE_S", 0.5)
    record = open_record(f"sqlite:///{tmp_path}/rollout.db")
    asked: list[str] = []
    monkeypatch.setattr(record_engine.fcntl, "flock", lambda *_: asked.append("turn") or _busy())
    begun_s = time.monotonic()
    assert record.submit("a", "stop", {}, "key") == 1
    assert time.monotonic() - begun_s >= 0.5
    assert asked
    asked.clear()
    assert record.submit("a", "stop", {}, "next") == 2
    assert not asked, "for a while it goes without"
    monkeypatch.setattr(record_engine, "_without_until_s", {})
    assert record.submit("a", "stop", {}, "later") == 3
    assert asked


def _busy() -> None:
    raise BlockingIOError


@pytest.mark.parametrize("trouble", ["no descriptor", "no lock"])
def test_who_cannot_even_ask_for_a_turn_writes_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    record = open_record(f"sqlite:///{tmp_path}/rollout.db")
    opened, opens = list[int](), os.open

    def refuse(*_: object) -> int:
        raise OSError(errno.EMFILE if trouble == "no descriptor" else errno.ENOLCK, "refused")

    def noted(*words: Any) -> int:
        opened.append(opens(*words))
        return opened[-1]

    monkeypatch.setattr(record_engine.os, "open", refuse if trouble == "no descriptor" else noted)
    if trouble == "no lock":
        monkeypatch.setattr(record_engine.fcntl, "flock", refuse)
    assert record.submit("a", "stop", {}, "key") == 1
    for one in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(one)
    assert len(opened) == (trouble == "no lock")


def test_a_write_that_fails_gives_its_turn_back(tmp_path: Path) -> None:
    record = open_record(f"sqlite:///{tmp_path}/rollout.db")
    with contextlib.suppress(RuntimeError), record.writing() as session:
        session.execute(text("SELECT 1"))
        raise RuntimeError
    with (tmp_path / "rollout.db-turn").open("ab") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
