"""A plan of faults on the loopback mount: the same file as in process, at the start or through the control API."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from pybit.exceptions import FailedRequestError, InvalidRequestError

from tasks.state_folder import REPOSITORY
from tests.support.judged_venue import JudgedVenue, eventually
from tests.support.pybit_client import Inbox, Stream, http, terms

pytestmark = pytest.mark.integration

PLAN = {
    "name": "probe", "seed": 5,
    "faults": [
        {"kind": "clock_skew", "ms": 20_000},
        {"kind": "rate_limit_storm", "lasts_s": 1, "answer": "10006", "at_s": 0.2, "every_s": 3},
        {"kind": "disconnect", "stream": "private", "at_s": 0.5, "every_s": 3},
        {"kind": "foreign_order", "at_s": 0.1},
    ],
}  # fmt: skip


def test_a_plan_given_at_the_start_comes_in_its_time_to_every_account(tmp_path: Path) -> None:
    path = tmp_path / "probe.yaml"
    path.write_text(yaml.safe_dump(PLAN))
    venue = JudgedVenue("--faults", str(path))
    try:
        key = venue.key()
        client = http(venue, key)
        own_ms = venue.state(key)["now_ms"]
        assert client.get_server_time()["time"] - own_ms > 15_000, "its clock is ahead"
        stream = Stream(venue, key)
        eventually(lambda: stream.opened, lambda opened: opened >= 2)
        stream.exit()

        def stormy() -> bool:
            try:
                client.get_fee_rates(category="linear", symbol="BTCUSDT")
            except InvalidRequestError as error:
                return error.status_code == 10006
            return False

        eventually(stormy, bool)
        fired = {fault["kind"] for fault in venue.state(key)["faults"]}
        assert {"clock_skew", "rate_limit_storm", "disconnect"} <= fired
    finally:
        venue.close()


def test_a_plan_through_the_control_api_begins_and_ends(judged_venue: JudgedVenue) -> None:
    venue, key = judged_venue, judged_venue.key()

    def begin(plan: dict[str, Any]) -> httpx.Response:
        headers = {"X-Sim-Token": "token-of-the-judges"}
        return httpx.post(f"{venue.ready['rest_url']}/sim/plan", json=plan, headers=headers, timeout=30)

    assert begin(PLAN).json() == {"plan": "probe"}
    eventually(lambda: venue.state(key)["orders"], lambda orders: [one["client_order_id"] for one in orders] == [""])
    assert begin({}).json() == {"plan": ""}
    client = http(venue, key)
    assert abs(client.get_server_time()["time"] - venue.state(key)["now_ms"]) < 15_000
    client.place_order(category="linear", **terms(client, "calm-1"))
    refused = begin({**PLAN, "faults": [{"kind": "rain"}]})
    assert refused.status_code == 400
    assert refused.json()["error"].startswith("faults[0].kind: 'rain' is not one of")


def test_while_the_venue_restarts_nobody_is_answered_and_books_begin_at_one(judged_venue: JudgedVenue) -> None:
    venue, key = judged_venue, judged_venue.key()
    client = http(venue, key, max_retries=1)
    stream, books = Stream(venue), Inbox()
    stream.orderbook_stream(50, "BTCUSDT", books)
    books.take()
    venue.arm("venue_restart", lasts_s="1")

    def answers() -> bool:
        try:
            return client.get_server_time()["retCode"] == 0
        except FailedRequestError:
            return False

    assert not answers()
    eventually(answers, bool)
    first = books.take(lambda message: message["type"] == "snapshot")
    assert first["data"]["u"] >= 1
    stream.exit()


def test_a_plan_of_faults_is_refused_by_name_on_anything_but_the_simulated_venue() -> None:
    plan = "configs/rollout.yaml"
    faults = "configs/faults/mild.yaml"
    command = [Path(sys.executable).with_name("rollout"), "demo", "--plan", plan, "--faults", faults]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert all(word in line for word in (f"--faults {faults}", "venue bybit", "allowed here: simulated"))


def test_a_plan_that_cannot_be_used_does_not_start_the_venue(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("name: x\nfaults: [{kind: rain}]\n")
    command = [sys.executable, "-m", "bot", "serve-venue", "--faults", str(path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"serve-venue: --faults: {path}: faults[0].kind: 'rain' is not one of")
