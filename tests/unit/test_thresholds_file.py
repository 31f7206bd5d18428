"""The file of freeze thresholds: what it may hold, where it says what is wrong, and when it is read again."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest

from bot.domain.events import Thresholds, ThresholdsReloaded
from bot.runtime.thresholds import EVERY_NS, ThresholdsFile
from bot.settings_file import ConfigError
from bot.thresholds_file import load_thresholds


def file_of(folder: Path, text: str) -> Path:
    path = folder / "thresholds.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        '"*": {edge_threshold_bps: 2.5}\nBTCUSDT: {stale_after_ms: 900}\n',
        '{"*": {"edge_threshold_bps": 2.5}, "BTCUSDT": {"stale_after_ms": 900}}',
    ],
)
def test_yaml_and_json_are_read_per_symbol_and_exactly(tmp_path: Path, text: str) -> None:
    found = load_thresholds(file_of(tmp_path, text))
    assert found == {"*": Thresholds(Decimal("2.5")), "BTCUSDT": Thresholds(stale_after_ms=900)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("BTCUSDT:\n  stale_after_ms: 900\n  edge: 3\n", r"yaml:3: BTCUSDT.edge: unknown key; allowed: edge_thr"),
        ("# one\n\n'*':\n  stale_after_ms: 9\n", r"yaml:4: \*.stale_after_ms: 9 is not allowed"),
        ("BTCUSDT: {}\nbtc: {}\n", r"yaml:2: btc: 'btc' is not allowed"),
        ("BTCUSDT: {edge_threshold_bps: .nan}\n", r"yaml:1: BTCUSDT.edge_threshold_bps"),
        ("BTCUSDT: [1\n", r"yaml:1: "),
        ("BTCUSDT: 3\n", r"yaml:1: BTCUSDT: 3 is not allowed"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        load_thresholds(file_of(tmp_path, text))
    assert "\n" not in str(refused.value)


def test_it_is_read_at_the_start_when_it_changes_and_not_otherwise_and_a_bad_one_is_told_once(tmp_path: Path) -> None:
    path = file_of(tmp_path, "BTCUSDT: {stale_after_ms: 900}\n")
    watched = ThresholdsFile(path)
    first = watched.turn(1)
    assert isinstance(first, ThresholdsReloaded)
    assert first.thresholds == {"BTCUSDT": Thresholds(stale_after_ms=900)}
    assert watched.turn(2 * EVERY_NS) is None
    path.write_text("BTCUSDT: {stale_after_ms: no}\n", encoding="utf-8")
    os.utime(path, (1, 1))
    assert watched.turn(2 * EVERY_NS + 1) is None  # looked at once a second
    refused = watched.turn(4 * EVERY_NS)
    assert isinstance(refused, str)
    assert "thresholds.yaml:1: BTCUSDT.stale_after_ms" in refused
    assert watched.turn(6 * EVERY_NS) is None
    path.unlink()
    assert isinstance(watched.turn(8 * EVERY_NS), str)
    assert watched.turn(10 * EVERY_NS) is None
    file_of(tmp_path, "BTCUSDT: {stale_after_ms: 800}\n")
    assert isinstance(watched.turn(12 * EVERY_NS), ThresholdsReloaded)
