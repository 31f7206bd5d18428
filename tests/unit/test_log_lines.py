"""Log lines: one JSON object each, keys sorted, no secret in them; gathered or at once they are the same."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from bot.runtime.logs import LINES_TOGETHER, JsonLog

SECRET = "planted-secret-value"
STEP_NS = 333_333_333


class Clock:
    """A third of a second later at every look."""

    def __init__(self) -> None:
        self.at_ns = 1_767_225_599_000_000_000

    def __call__(self) -> int:
        self.at_ns += STEP_NS
        return self.at_ns


FIELDS: tuple[dict[str, Any] | None, ...] = (
    None,
    {"symbol": "BTCUSDT", "price": "50000.10", "qty": 3, "ok": True, "share": 0.25, "none": None},
    {"message": f"key {SECRET} in words"},
    {"message": 'lines\nand \u2028 others \x85 \x0b and "quotes"'},
    {"past_64_bits": 1 << 70},
    {"exact": Decimal("1.10")},
    {"component": "what a field of this name says is not what the line says"},
)


def written(*, flush: bool, rounds: int) -> tuple[str, int]:
    text = io.StringIO()
    log = JsonLog([text], Clock(), [SECRET], flush=flush)
    for number in range(rounds):
        for fields in FIELDS:
            log.write("INFO" if number % 2 else "WARNING", "bot.engine", "said", cast("dict[str, str]", fields))
    shown_before_close = len(text.getvalue())
    log.close()
    assert sum(log.counts.values()) == rounds * len(FIELDS)
    return text.getvalue(), shown_before_close


@pytest.mark.parametrize("rounds", [1, 2, LINES_TOGETHER // len(FIELDS) + 1, 200])
def test_gathered_lines_are_those_written_at_once(rounds: int) -> None:
    at_once, shown = written(flush=True, rounds=rounds)
    assert shown == len(at_once)
    gathered, shown_early = written(flush=False, rounds=rounds)
    assert gathered == at_once
    assert (shown_early > 0) == (rounds * len(FIELDS) >= LINES_TOGETHER)


def test_each_is_an_object_with_sorted_keys_and_no_secret() -> None:
    text, _ = written(flush=False, rounds=3)
    assert SECRET not in text
    assert "key *** in words" in text
    lines = text.split("\n")
    assert lines.pop() == ""
    assert len(lines) == 3 * len(FIELDS)
    for line in lines:
        record = json.loads(line)
        assert list(record) == sorted(record)
        assert record["component"] == "engine"
        assert {"ts_utc", "lvl", "name", "event"} <= record.keys()
    assert json.loads(lines[0])["ts_utc"] == "2025-12-31T23:59:59.333333Z"


def test_a_line_that_cannot_be_written_takes_no_other_with_it(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="utf-8") as file:
        log = JsonLog([file], Clock(), flush=False)
        for number in range(10):
            log.write("INFO", "bot", "said", {"message": "\ud800" if number == 5 else "fine"})
        log.close()
    assert (tmp_path / "log").read_text(encoding="utf-8").count('"message":"fine"') == 9
