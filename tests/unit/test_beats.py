"""Whose beats are expected, and what missing ones make of the whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bot.runtime.beats import Beats, Source, expected, state_of


def target(folder: Path, name: str, run: str, account: str = "a1", port: int = 1) -> None:
    labels = {"account": account, "run": run}
    (folder / f"{name}.json").write_text(json.dumps([{"targets": [f"127.0.0.1:{port}"], "labels": labels}]))


def test_guard_and_bots_of_the_account_are_expected_and_nobody_else(tmp_path: Path) -> None:
    target(tmp_path, "a1-guard", "guard", port=5)
    target(tmp_path, "r-canary-1", "r-canary-1", port=6)
    target(tmp_path, "a1-watchdog", "watchdog")
    target(tmp_path, "b2-guard", "guard", account="b2")
    (tmp_path / ".a1-guard.json.tmp.json").write_text("half")
    (tmp_path / "notes.txt").write_text("none of ours")
    assert expected(tmp_path, "a1") == [
        Source("a1-guard", "http://127.0.0.1:5", is_guard=True),
        Source("r-canary-1", "http://127.0.0.1:6", is_guard=False),
    ]


def test_a_file_that_became_unreadable_is_still_expected_and_one_that_is_gone_is_not(tmp_path: Path) -> None:
    target(tmp_path, "r-canary-1", "r-canary-1")
    for garbled in ("garbage", '[{"targets": ["127.0.0.1:1"], "labels": ["a1"]}]'):
        (tmp_path / "r-canary-1.json").write_text(garbled)
        assert expected(tmp_path, "a1", {"r-canary-1"}) == [Source("r-canary-1", "", is_guard=False)]
    (tmp_path / "r-canary-1.json").unlink()
    assert expected(tmp_path, "a1", {"r-canary-1"}) == []


def test_a_folder_that_cannot_be_read_is_an_error_and_not_nobody(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no-such"):
        expected(tmp_path / "no-such", "a1")


def test_so_many_in_a_row_and_somebody_is_gone_told_once() -> None:
    beats = Beats(3)
    told = [beats.looked({"bot": False}) for _ in range(5)]
    assert told == [[], [], ["bot"], [], []]
    assert beats.gone == ["bot"]
    assert beats.looked({"bot": True}) == []
    assert beats.gone == []


def test_a_beat_in_between_begins_the_count_anew() -> None:
    beats = Beats(3)
    for beat in (False, False, True, False, False):
        assert beats.looked({"bot": beat}) == []
    assert beats.missed == {"bot": 2}


def test_whoever_is_no_longer_expected_is_no_longer_missed() -> None:
    beats = Beats(2)
    beats.looked({"bot": False})
    beats.looked({"bot": False})
    assert beats.gone == ["bot"]
    beats.looked({})
    assert beats.gone == []


@pytest.mark.parametrize(
    ("missed", "rest", "socket", "state"),
    [
        ((), 0, 0, "OK"),
        ((0, 0), 0, 0, "OK"),
        ((1, 0), 0, 0, "DEGRADED"),
        ((0,), 9, 0, "DEGRADED"),
        ((0,), 0, 9, "DEGRADED"),
        ((0,), 3, 2, "DEGRADED"),
        ((0,), 3, 3, "AUTO_HOLD"),
        ((0, 3), 0, 0, "AUTO_HOLD"),
    ],
)
def test_one_way_to_the_venue_degrades_both_or_a_missing_beat_hold(
    missed: tuple[int, ...], rest: int, socket: int, state: str
) -> None:
    assert state_of(missed, 3, rest, socket) == state
