"""Deterministic shadow: the scenarios it is accepted by, and the same run being the same to the last byte."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.__main__ import main
from bot.domain.intent import CancelAll, Intent, PlaceOrder
from bot.domain.order import Side
from bot.journal import JournalReader
from bot.simulator.draws import DrawnVenue, Urn
from bot.simulator.scripted import half_spread_ubps, visited_side

ROOT = Path(__file__).resolve().parents[2]
BOTH = ("--symbols", "BTCUSDT,ETHUSDT")
SIZES = ("--max-inv", "10000", "--max-total", "50000", "--fill-rate", "0.8", "--latency-ms", "100")
SMALL = ("--max-inv", "5000", "--max-total", "8000", "--fill-rate", "0.95", "--latency-ms", "50")


@pytest.fixture(autouse=True)
def _place_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MM_LIVE_ENABLE", "EXCHANGE_ENV", "PROFILE", "MM_FREEZE_UTC_ISO"):
        monkeypatch.delenv(name, raising=False)


def run(*flags: str) -> dict[str, Any]:
    """One shadow run in this process; its report."""
    assert main(["run", "--shadow", *flags, "--report", "report.json"]) == 0
    found: dict[str, Any] = json.loads(Path("report.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("symbols", [BOTH, ()])
def test_with_a_low_edge_threshold_it_trades_fifty_iterations_without_a_freeze(symbols: tuple[str, ...]) -> None:
    found = run(*symbols, "--iterations", "50", "--edge-threshold", "1.5", *SIZES)
    assert found["risk"]["frozen"] is False
    assert found["risk"]["freeze_triggered"] is False
    assert found["risk"]["freezes_total"] == 0
    assert found["execution"]["iterations"] == 50
    assert found["orders"]["filled"] > 0
    assert found["orders"]["rejected"] == 0


@pytest.mark.parametrize(("edge", "iterations"), [("8.0", 30), ("10.0", 20), ("50.0", 100)])
@pytest.mark.parametrize("symbols", [BOTH, ()])
def test_an_edge_that_falls_below_the_threshold_freezes_and_cancels(
    symbols: tuple[str, ...], edge: str, iterations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled_by_freeze: list[int] = []
    arrive = DrawnVenue.arrive

    def watched(venue: DrawnVenue, intent: Intent, at_ns: int) -> list[Any]:
        before = venue.open_count
        told = arrive(venue, intent, at_ns)
        if isinstance(intent, CancelAll) and intent.reason == "edge_below_threshold":
            cancelled_by_freeze.append(before - venue.open_count)
        return told

    monkeypatch.setattr(DrawnVenue, "arrive", watched)
    found = run(*symbols, "--iterations", str(iterations), "--edge-threshold", edge, *SIZES)
    assert found["risk"]["frozen"] is True
    assert found["risk"]["last_freeze_reason"] == "edge_below_threshold"
    assert found["risk"]["last_freeze_symbol"] in found["execution"]["symbols"]
    assert found["orders"]["canceled"] > 0
    assert sum(cancelled_by_freeze) > 0  # by the freeze itself, not only by the end of the run


@pytest.mark.parametrize("symbols", [BOTH, ()])
def test_small_limits_block_more_than_ten_orders_and_freeze_nothing(symbols: tuple[str, ...]) -> None:
    found = run(*symbols, "--iterations", "40", "--edge-threshold", "1.0", *SMALL)
    assert found["orders"]["risk_blocks"] > 10
    assert found["orders"]["risk_blocks"] == found["orders"]["blocked_by_reason"]["risk_limit"]
    assert found["risk"]["blocks_total"] == found["orders"]["risk_blocks"]
    assert found["risk"]["freeze_triggered"] is False
    for position in found["positions"]["by_symbol"].values():
        assert abs(float(position["notional_quote"])) <= 5_000 * 1.01  # the mark has moved since it was opened
    assert float(found["positions"]["total_notional_usd"]) <= 8_000 * 1.01


@pytest.mark.parametrize("iterations", [20, 100, 500])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_the_shadow_stage_is_judged_by_holds_at_the_default_fill_rate(seed: int, iterations: int) -> None:
    found = run("--iterations", str(iterations), "--seed", str(seed))
    orders = found["orders"]
    assert 0.8 <= orders["placed"] / iterations <= 1.0
    if iterations >= 100:
        assert 0.7 <= orders["filled"] / orders["placed"] <= 0.9
    assert orders["risk_blocks"] / iterations < 0.2
    assert float(found["positions"]["total_notional_usd"]) < 50_000


def test_twenty_iterations_with_the_default_seed_fill_within_the_band_too() -> None:
    orders = run()["orders"]
    assert 0.7 <= orders["filled"] / orders["placed"] <= 0.9


def test_a_run_repeats_to_the_last_byte_in_this_process() -> None:
    texts = []
    for _ in range(2):
        run(*BOTH, "--iterations", "60", "--edge-threshold", "8.0")
        texts.append(Path("report.json").read_bytes())
    assert texts[0] == texts[1]
    other = run(*BOTH, "--iterations", "60", "--edge-threshold", "8.0", "--seed", "7")
    assert json.loads(texts[0])["orders"] != other["orders"] or json.loads(texts[0])["pnl"] != other["pnl"]


def test_a_run_repeats_to_the_last_byte_in_fresh_processes_whatever_the_hash_seed(tmp_path: Path) -> None:
    outputs = set()
    for hash_seed in ("0", "1", "4711"):
        done = subprocess.run(
            [sys.executable, "-m", "bot", "run", "--shadow", *BOTH, "--iterations", "40", "--max-inv", "5000"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        )
        outputs.add((done.stdout, done.stderr))
    assert len(outputs) == 1
    run(*BOTH, "--iterations", "40", "--max-inv", "5000")
    stdout, _log = outputs.pop()
    # this process took its code version when it began; an edit since then is no difference of the run
    version = re.compile(rb'"version": "[^"]*"')
    assert version.sub(b"", stdout) == version.sub(b"", Path("report.json").read_bytes())
    assert stdout.endswith(b"}\n")
    assert not stdout.endswith(b"\n\n")


def test_every_order_has_one_fate_and_it_is_drawn_by_the_fill_rate() -> None:
    never = run("--iterations", "30", "--fill-rate", "0")
    assert never["orders"]["filled"] == 0
    assert never["orders"]["placed"] > 20
    assert never["pnl"]["maker_taker_ratio"] is None
    assert never["pnl"]["net_bps"] is None
    always = run("--iterations", "30", "--fill-rate", "1")
    assert always["orders"]["canceled"] <= 2  # what stood at the end
    assert always["orders"]["filled"] >= always["orders"]["placed"] - 2


@pytest.mark.parametrize("latency_ms", [0, 100, 1500])
def test_an_order_cannot_fill_before_its_latency_has_passed(latency_ms: int) -> None:
    run("--iterations", "20", "--latency-ms", str(latency_ms), "--durable-state", "--state-dir", "state")
    with JournalReader(Path("state/journal.db")) as reader:
        placed_ns = {entry.client_order_id: entry.at_ns for entry in reader.entries(kind="PlaceOrder")}
        filled_ns = {entry.client_order_id: entry.at_ns for entry in reader.entries(kind="Filled")}
    waits = [at_ns - placed_ns[order] for order, at_ns in filled_ns.items()]
    assert waits
    assert min(waits) >= latency_ms * 1_000_000
    assert all(at_ns % 1_000_000_000 == 0 for at_ns in filled_ns.values())  # with an update of the market, no sooner


@pytest.mark.parametrize("rate", ["0.8", "0.95", "0.333", "0", "1"])
def test_the_urn_keeps_to_the_fill_rate_and_differs_by_seed(rate: str) -> None:
    urn = Urn(Decimal(rate), "a")
    fates = [urn.draw() for _ in range(2000)]
    assert sum(fates) == int(2000 * Decimal(rate))
    if rate == "0.8":
        other = Urn(Decimal(rate), "b")
        assert fates != [other.draw() for _ in range(2000)]
        assert all(sum(fates[start : start + 20]) == 16 for start in range(0, 2000, 20))


def test_the_script_is_what_it_says_it_is() -> None:
    halves = [half_spread_ubps(number) for number in range(100)]
    assert halves == sorted(halves, reverse=True)
    assert halves[0] == 60_000_000
    assert halves[-1] == 1_000_000
    assert [visited_side(number) for number in range(7)] == [Side.BUY] * 7
    turns = [visited_side(number) for number in range(7, 14)]
    assert turns == [Side.BUY, Side.SELL, Side.BUY, None, Side.BUY, Side.SELL, Side.BUY]
    assert [number for number in range(50) if visited_side(number) is None] == [10, 21, 32, 43]
    visits = [visited_side(number) for number in range(7, 7 + 880 * 7)]
    assert visits.count(Side.BUY) == visits.count(Side.SELL)


def test_nothing_is_placed_while_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    placed_ns: list[int] = []
    arrive = DrawnVenue.arrive

    def watched(venue: DrawnVenue, intent: Intent, at_ns: int) -> list[Any]:
        if isinstance(intent, PlaceOrder):
            placed_ns.append(intent.at_ns)
        return arrive(venue, intent, at_ns)

    monkeypatch.setattr(DrawnVenue, "arrive", watched)
    found = run("--iterations", "30", "--edge-threshold", "8.0")
    frozen_ms = found["risk"]["freeze_events"][0]["at_ms"]
    assert placed_ns
    assert max(placed_ns) <= frozen_ms * 1_000_000
