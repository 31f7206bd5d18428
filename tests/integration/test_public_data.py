"""Public market data without a key: shadow on it, recording it, replaying it, and playing it again as a venue."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bot.capture import read_events, read_header
from bot.domain.events import BookSnapshot, InstrumentsRead, TradePrinted
from tests.support.bot_rig import DEMO_SETTINGS, ROOT, SimulatedVenue, end, simulated_venue, wait_for

pytestmark = pytest.mark.integration

SIZES = ("--edge-threshold", "5", "--max-inv", "500", "--max-total", "2000", "--settings", str(DEMO_SETTINGS))
RECORD_S = 12


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedVenue]:
    with simulated_venue(tmp_path_factory.mktemp("venue")) as running:
        yield running


def hosts(venue: SimulatedVenue) -> dict[str, str]:
    """Where the venue is. No key."""
    ready = venue.ready
    return {
        "PATH": os.environ["PATH"],
        "MM_VENUE_REST_URL": ready["rest_url"],
        "MM_VENUE_WS_PUBLIC_URL": ready["ws_public_url"],
        "MM_VENUE_WS_PRIVATE_URL": ready["ws_private_url"],
        "MM_VENUE_WS_TRADE_URL": ready["ws_trade_url"],
    }


def bot(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bot", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def capture(venue: SimulatedVenue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("captures") / "btc.jsonl.gz"
    done = bot(hosts(venue), "record", str(path), "--duration-s", str(RECORD_S))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["books"]["BTCUSDT"] > 50
    return path


def test_shadow_on_live_public_data_needs_no_key_and_sends_no_order(venue: SimulatedVenue) -> None:
    account = venue.account()
    done = bot(hosts(venue), "run", "--shadow", "--network", "--iterations", "100", *SIZES)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert report["execution"]["network"] is True
    assert report["execution"]["iterations"] >= 100
    assert report["orders"]["placed"] >= 2
    assert report["orders"]["rejected"] == 0
    assert report["recon"]["divergence_count"] == 0
    for name in ("sim-1", account["account"]):
        truth = venue.truth(name)
        assert (truth["orders"], truth["executions_count"]) == ([], 0)


def test_a_capture_holds_the_market_and_says_what_it_is(capture: Path) -> None:
    header = read_header(capture)
    assert (header.exchange, header.category, header.symbols) == ("bybit", "linear", ("BTCUSDT",))
    kinds = [type(event) for event in read_events(capture)]
    assert kinds[0] is InstrumentsRead
    assert BookSnapshot in kinds
    assert TradePrinted in kinds


def test_a_capture_replays_to_the_same_report_and_the_same_intents(capture: Path, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"]}
    state = tmp_path / "state"
    kept = ("--durable-state", "--state-dir", str(state))
    settings = tmp_path / "with_market.yaml"
    settings.write_text(DEMO_SETTINGS.read_text(encoding="utf-8") + "journal:\n  market_data: true\n")
    sizes = (*SIZES[:-1], str(settings))
    first = bot(environment, "replay", str(capture), *sizes, *kept)
    second = bot(environment, "replay", str(capture), *sizes)
    assert first.returncode == second.returncode == 0, first.stderr[-2000:]
    assert first.stdout == second.stdout
    report = json.loads(first.stdout)
    assert report["orders"]["placed"] >= 2
    heard_ns = [event.at_ns for event in read_events(capture)]
    assert report["execution"]["duration_ms"] >= (heard_ns[-1] - heard_ns[0]) // 1_000_000 - 1_000
    again = bot(environment, "replay", str(state))
    assert again.returncode == 0
    assert again.stdout.startswith("the same, byte for byte")


def test_a_capture_is_a_market_that_the_simulated_venue_plays(capture: Path, tmp_path: Path) -> None:
    with simulated_venue(tmp_path, market=f"recorded:{capture}") as playing:
        told = httpx.get(
            f"{playing.ready['rest_url']}/v5/market/orderbook", params={"category": "linear", "symbol": "BTCUSDT"}
        ).json()["result"]
    assert float(told["b"][0][0]) < float(told["a"][0][0])


def test_recording_ends_in_a_whole_file_when_it_is_stopped(venue: SimulatedVenue, tmp_path: Path) -> None:
    path = tmp_path / "stopped.gz"
    recording = subprocess.Popen(
        [sys.executable, "-m", "bot", "record", str(path), "--duration-s", "0"],
        cwd=ROOT, env=hosts(venue), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    part = tmp_path / "stopped.gz.part"
    try:
        wait_for("the capture in the making", lambda: part.exists() and part.stat().st_size > 0, deadline_s=30)
        recording.send_signal(signal.SIGTERM)
        out, _ = recording.communicate(timeout=120)
    finally:
        end(recording)
    assert not part.exists()
    assert json.loads(out)["events"] == sum(1 for _ in read_events(path))


def test_what_cannot_be_recorded_or_replayed_is_named(venue: SimulatedVenue, capture: Path, tmp_path: Path) -> None:
    def said(environment: dict[str, str], *arguments: str) -> str:
        done = bot(environment, *arguments)
        assert done.returncode == 2, done
        return done.stderr.splitlines()[-1]

    assert "is there already; a capture is never overwritten" in said(hosts(venue), "record", str(capture))
    assert "NOSUCHUSDT" in said(hosts(venue), "record", str(tmp_path / "x.gz"), "--symbols", "NOSUCHUSDT")
    cut = tmp_path / "cut.gz"
    cut.write_bytes(capture.read_bytes()[:-2_000])
    assert f"{cut}: cannot be read after line" in said(hosts(venue), "replay", str(cut), "--log-file", os.devnull)
    other = tmp_path / "other.gz"
    lines = gzip.decompress(capture.read_bytes()).splitlines()
    other.write_bytes(gzip.compress(b"\n".join([lines[0], lines[1], b'{"type":"Started"}'])))
    assert f"{other}:3: no event of a market" in said(hosts(venue), "replay", str(other))
    assert "'ETHUSDT' is not in" in said(hosts(venue), "replay", str(capture), "--symbols", "ETHUSDT")
    plain = tmp_path / "plain.txt"
    plain.write_text("x")
    assert "neither a journal nor a capture" in said(hosts(venue), "replay", str(plain))
