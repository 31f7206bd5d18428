"""A plan of faults on the loopback mount: the same file as in process, at the start or through the control API."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import yaml
from pybit.exceptions import FailedRequestError, InvalidRequestError

from bot.venues.bybit.signing import socket_auth
from tasks.state_folder import REPOSITORY
from tests.support.judged_venue import JudgedVenue, eventually
from tests.support.pybit_client import Stream, http, terms

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


async def first_book(session: aiohttp.ClientSession, venue: JudgedVenue) -> dict[str, Any]:
    """The first message of a book on a new connection, as it came."""
    async with session.ws_connect(venue.ready["ws_public_url"]) as socket:
        await socket.send_str('{"op":"subscribe","args":["orderbook.50.BTCUSDT"]}')
        async for message in socket:
            told = json.loads(message.data)
            if "topic" in told:
                return dict(told)
    raise AssertionError("the socket was closed")


def test_while_the_venue_restarts_nobody_is_answered_and_books_begin_at_one(judged_venue: JudgedVenue) -> None:
    venue, key = judged_venue, judged_venue.key()
    client = http(venue, key, max_retries=1)

    def answers() -> bool:
        try:
            return client.get_server_time()["retCode"] == 0
        except FailedRequestError:
            return False

    async def use() -> None:
        async with aiohttp.ClientSession() as session:
            assert (await first_book(session, venue))["data"]["u"] > 1
            async with session.ws_connect(venue.ready["ws_public_url"]) as standing:
                venue.arm("venue_restart", lasts_s="8")
                assert (await standing.receive(30)).type is not aiohttp.WSMsgType.TEXT, "it is cut"
            assert not answers()
            eventually(answers, bool)
            first = await first_book(session, venue)
            assert (first["type"], first["data"]["u"]) == ("snapshot", 1)

    asyncio.run(use())


def test_a_request_that_comes_twice_by_the_trade_socket_is_answered_twice_and_happens_once(
    judged_venue: JudgedVenue,
) -> None:
    venue, key = judged_venue, judged_venue.key()
    order = {"category": "linear", **terms(http(venue, key), "twice-1")}

    async def use() -> list[int]:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(venue.ready["ws_trade_url"]) as socket,
        ):
            now_ms = time.time_ns() // 1_000_000
            await socket.send_str(socket_auth(key.api_key, key.api_secret, now_ms + 60_000))
            assert json.loads((await socket.receive(30)).data)["retCode"] == 0
            venue.arm("way", way="request", doubled_pct=100)
            header = {"X-BAPI-TIMESTAMP": str(time.time_ns() // 1_000_000), "X-BAPI-RECV-WINDOW": "60000"}
            asked = {"op": "order.create", "reqId": "r1", "header": header, "args": [order]}
            await socket.send_str(json.dumps(asked))
            answers = [json.loads((await socket.receive(30)).data) for _ in range(2)]
            assert {answer["reqId"] for answer in answers} == {"r1"}
            return [answer["retCode"] for answer in answers]

    try:
        assert asyncio.run(use()) == [0, 20006]
        assert [one["client_order_id"] for one in venue.state(key)["orders"]] == ["twice-1"]
    finally:
        venue.arm("way", way="request")


def test_a_stalled_trade_socket_does_what_it_is_asked_and_says_nothing_until_it_is_over(
    judged_venue: JudgedVenue,
) -> None:
    venue, key = judged_venue, judged_venue.key()
    order = {"category": "linear", **terms(http(venue, key), "unheard-1")}

    async def use() -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(venue.ready["ws_trade_url"]) as socket,
        ):
            now_ms = time.time_ns() // 1_000_000
            await socket.send_str(socket_auth(key.api_key, key.api_secret, now_ms + 60_000))
            assert json.loads((await socket.receive(30)).data)["retCode"] == 0
            venue.arm("stall", stream="trade")
            header = {"X-BAPI-TIMESTAMP": str(time.time_ns() // 1_000_000), "X-BAPI-RECV-WINDOW": "60000"}
            asked = {"op": "order.create", "reqId": "r1", "header": header, "args": [order]}
            await socket.send_str(json.dumps(asked))
            await socket.send_str('{"op":"ping"}')
            eventually(lambda: [one["client_order_id"] for one in venue.state(key)["orders"]], ["unheard-1"].__eq__)
            with pytest.raises(TimeoutError):
                await socket.receive(0.5)
            venue.arm("unstall")
            await socket.send_str('{"op":"ping"}')
            assert json.loads((await socket.receive(30)).data)["op"] == "pong", "and not what was left unsaid before"

    try:
        asyncio.run(use())
    finally:
        venue.arm("unstall")


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
