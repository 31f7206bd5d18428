"""The guard's own look at the watchdog: over a real socket, at the page the watchdog really serves."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from bot.runtime.watchdog_metrics import WatchdogMetrics
from tasks.guard.watchdog_beat import FRESH_S, watchdog_beats

ACCOUNT = "sim-1"


def test_one_that_beats_is_alive_one_whose_beat_stands_still_is_not_and_neither_is_one_that_left(
    tmp_path: Path,
) -> None:
    metrics = WatchdogMetrics(ACCOUNT, tmp_path)
    metrics.serve(0)
    try:
        assert watchdog_beats(tmp_path, ACCOUNT)[0] is False, "it serves, and has not looked once"
        metrics.show(time.time(), "OK", {})
        assert watchdog_beats(tmp_path, ACCOUNT)[0] is True
        metrics.show(time.time() - FRESH_S - 1, "OK", {})
        found, said = watchdog_beats(tmp_path, ACCOUNT)
        assert (found, "s old" in said) == (False, True)
        assert watchdog_beats(tmp_path, "sim-2") == (False, "no watchdog serves this account")
    finally:
        metrics.close()
    assert watchdog_beats(tmp_path, ACCOUNT)[0] is False


@pytest.mark.parametrize("text", ["", "[]", "[{}]", '[{"targets": ["nowhere"]}]', '[{"targets": ["127.0.0.1:9"]}]'])
def test_a_file_that_leads_nowhere_is_a_watchdog_that_does_not_answer(tmp_path: Path, text: str) -> None:
    (tmp_path / f"{ACCOUNT}-watchdog.json").write_text(text)
    assert watchdog_beats(tmp_path, ACCOUNT)[0] is False


def test_where_nobody_can_look_nothing_is_known(tmp_path: Path) -> None:
    assert watchdog_beats(tmp_path / "gone", ACCOUNT)[0] is None
    (tmp_path / f"{ACCOUNT}-watchdog.json").mkdir()
    assert watchdog_beats(tmp_path, ACCOUNT)[0] is None


def test_a_page_without_a_beat_is_none(tmp_path: Path) -> None:
    (tmp_path / f"{ACCOUNT}-watchdog.json").write_text(json.dumps([{"targets": ["127.0.0.1:port"]}]))
    assert watchdog_beats(tmp_path, ACCOUNT)[0] is False
