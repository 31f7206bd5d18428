"""`run --shadow --network`: real market data over real sockets, a drawn account, and no order that leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.bot_rig import SimulatedVenue, simulated_venue

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedVenue]:
    with simulated_venue(tmp_path_factory.mktemp("venue")) as running:
        yield running


def environment(venue: SimulatedVenue) -> dict[str, str]:
    """Where the venue is; no key, no token."""
    names = {"REST_URL": "rest_url", "WS_PUBLIC_URL": "ws_public_url", "WS_PRIVATE_URL": "ws_private_url",
             "WS_TRADE_URL": "ws_trade_url"}  # fmt: skip
    urls = {f"MM_VENUE_{name}": venue.ready[key] for name, key in names.items()}
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **urls}


def shadow(venue: SimulatedVenue, folder: Path, *flags: str) -> subprocess.Popen[str]:
    settings = folder / "s.yaml"
    settings.write_text("strategy: {half_spread_bps: 0.5, inventory_skew_bps: 0, order_notional_quote: 600}\n")
    command = [sys.executable, "-m", "bot", "run", "--shadow", "--network", "--settings", str(settings),
               "--post-only-offset-bps", "0", "--edge-threshold", "0", "--report", str(folder / "report.json"),
               *flags]  # fmt: skip
    return subprocess.Popen(
        command, cwd=folder, env=environment(venue), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def report_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return found


def test_it_quotes_on_the_live_book_fills_by_draw_and_leaves_the_venue_alone(
    venue: SimulatedVenue, tmp_path: Path
) -> None:
    state = ("--durable-state", "--state-dir", str(tmp_path / "state"))
    done = shadow(venue, tmp_path, "--iterations", "120", "--fill-rate", "1", "--latency-ms", "20", *state)
    _, said = done.communicate(timeout=120)
    assert done.returncode == 0, said[-2000:]
    found = report_of(tmp_path)
    assert (found["execution"]["network"], found["execution"]["testnet"]) == (True, False)
    assert found["execution"]["iterations"] >= 120
    assert found["orders"]["placed"] >= 2
    assert found["orders"]["filled"] >= 1
    assert found["orders"]["rejected"] == 0
    assert found["recon"]["divergence_count"] == 0
    assert found["risk"]["freeze_triggered"] is False
    assert len((tmp_path / "state" / "fills.csv").read_text().splitlines()) == found["orders"]["filled"] + 1
    truth = venue.truth("sim-1")
    assert (truth["orders"], truth["executions_count"]) == ([], 0)
    replayed = subprocess.run(
        [sys.executable, "-m", "bot", "replay", str(tmp_path / "state")], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert replayed.stdout.startswith("the same, byte for byte"), replayed.stdout


def test_a_signal_ends_it_in_order_and_nothing_is_left_without_durable_state(
    venue: SimulatedVenue, tmp_path: Path
) -> None:
    running = shadow(venue, tmp_path, "--iterations", "0", "--latency-ms", "0")
    assert running.stderr is not None
    placed = next(line for line in running.stderr if '"event":"order_placed"' in line)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=60)
    assert running.returncode == 0, placed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "reports", "s.yaml"]
    assert report_of(tmp_path)["orders"]["canceled"] >= 1
