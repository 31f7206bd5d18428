"""What is left for a bot that is started again on its journal: its address, its first word, and what was counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.launch import (
    TOTALS_BEFORE,
    Sizes,
    bot_command,
    counted_before_restart,
    leave_for_restart,
    read_ready_line,
    repeatable_command,
)

SIZES = Sizes(("BTCUSDT",), "500", "2000", "5", "2", "1.2")


def test_a_bot_that_is_started_again_recovers_at_the_same_address() -> None:
    first = bot_command("testnet", SIZES, Path("/s"), Path("b.yaml"))
    again = bot_command("testnet", SIZES, Path("/s"), Path("b.yaml"), obs_port=4711, recover=True)
    assert "--recover" not in first
    assert first[first.index("--obs-port") + 1] == "0"
    assert again[again.index("--obs-port") + 1] == "4711"
    assert [one for one in again if one not in first] == ["4711", "--recover"], "all else is as it was signed"


def test_shadow_on_public_data_is_shadow_and_asks_for_the_venue_by_name() -> None:
    scripted = bot_command("shadow", SIZES, Path("/s"), Path("b.yaml"))
    public = bot_command("public", SIZES, Path("/s"), Path("b.yaml"))
    assert [one for one in public if one not in scripted] == ["--network", "--exchange", "bybit"]
    assert "--shadow" in public
    repeated = repeatable_command(SIZES, Path("b.yaml"), 50, Path("/r"))
    assert "--network" not in repeated
    assert repeated[repeated.index("--max-inv") + 1] == "500", "of the sizes that the stage has"


def test_the_ready_line_of_the_process_before_is_not_taken_for_its_own(tmp_path: Path) -> None:
    line = json.dumps({"obs_url": "http://127.0.0.1:1", "pid": 7, "run": "one"}) + "\n"
    (tmp_path / "stdout.log").write_text(line)
    assert read_ready_line(tmp_path, "one") == "http://127.0.0.1:1"
    assert counted_before_restart(tmp_path) == {}, "the first process counts from 0 as its journal does"
    leave_for_restart(tmp_path, {"mm_taker_fills_total": 3})
    assert read_ready_line(tmp_path, "one") is None
    assert [path.read_text() for path in tmp_path.glob("stdout-*.log")] == [line], "kept, for the evidence"
    assert counted_before_restart(tmp_path) == {"mm_taker_fills_total": 3}


def test_counts_that_cannot_be_read_are_not_taken_for_none(tmp_path: Path) -> None:
    (tmp_path / TOTALS_BEFORE).write_text("{")
    with pytest.raises(OSError, match="not what was left there"):
        counted_before_restart(tmp_path)
