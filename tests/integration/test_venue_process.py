"""The simulated venue as a process: the faults it is told to have, its control API, how it starts and how it ends."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.support.signing_client import (
    TOKEN,
    Client,
    Json,
    Stream,
    end,
    private_stream,
    ready_of,
    served_venue,
    start,
    with_account,
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def venue() -> Iterator[Json]:
    with served_venue() as one:
        yield one


def test_a_stall_silences_public_sockets_while_rest_stays_truthful_and_ends_with_a_snapshot(venue: Json) -> None:
    async def use(client: Client) -> None:
        stream = Stream(await client.session.ws_connect(client.ready["ws_public_url"]))
        await stream.send({"op": "subscribe", "args": ["orderbook.50.BTCUSDT"]})
        await stream.until(lambda m: m.get("type") == "delta")
        assert (await client.control("POST", "/sim/faults", {"kind": "stall"}))[0] == 200
        await stream.send({"op": "ping"})
        await stream.until(lambda m: m.get("op") == "ping")
        first, end = await client.touch(), time.monotonic() + 60
        while (moved := await client.touch()) == first and time.monotonic() < end:
            pass  # the read itself is the wait
        assert moved != first
        with pytest.raises(TimeoutError):  # although there was something to tell
            await stream.until(lambda m: True, 0.6)
        stream = Stream(await client.session.ws_connect(client.ready["ws_public_url"]))
        await stream.send({"op": "subscribe", "args": ["orderbook.50.BTCUSDT"]})
        await stream.until(lambda m: m.get("op") == "subscribe")
        assert (await client.control("POST", "/sim/faults", {"kind": "unstall"}))[0] == 200
        assert (await stream.until(lambda m: "topic" in m))["type"] == "snapshot"
        assert (await stream.until(lambda m: "topic" in m))["type"] == "delta"

    with_account(venue, use)


def test_crossing_and_loss_fire_once_and_are_on_record(venue: Json) -> None:
    async def use(client: Client) -> None:
        stream = await private_stream(client)
        status, armed = await client.control("POST", "/sim/faults", {"kind": "crossing", "account": client.name})
        assert (status, set(armed)) == (200, {"fault_id", "kind", "armed_at_ms"})
        bid, _ = await client.touch()
        answer = await client.place("Buy", str(bid - 40))
        execution = await stream.row("execution", lambda r: r["orderId"] == answer["result"]["orderId"])
        assert execution["isMaker"] is False
        before = Decimal((await client.state())["equity_quote"])
        loss = {"kind": "loss", "account": client.name, "jump_pct": 30}
        assert (await client.control("POST", "/sim/faults", loss))[0] == 200
        state = await client.state()
        ours = {row["kind"]: row for row in state["faults"] if row["kind"] in ("loss", "crossing")}
        assert set(ours) == {"loss", "crossing"}
        assert all(row["fired_at_ms"] >= row["armed_at_ms"] for row in ours.values())
        assert Decimal(state["equity_quote"]) < before - 170
        now_bid, _ = await client.touch()
        assert now_bid < bid * Decimal("0.71")
        close = {"timeInForce": "IOC", "reduceOnly": True}
        assert (await client.place("Sell", str(round(now_bid * Decimal("0.99"), 1)), **close))["retCode"] == 0
        assert (await client.state())["positions"] == []

    with_account(venue, use)


def test_an_order_whose_answer_never_comes_exists_and_a_refused_one_does_not(venue: Json) -> None:
    async def use(client: Client) -> None:
        await client.control("POST", "/sim/faults", {"kind": "accept_then_timeout", "account": client.name})
        mark = Decimal((await client.state())["mark_price"])
        price = str(round(mark * Decimal("0.9")))
        placing = asyncio.create_task(client.place("Buy", price, orderLinkId="lost-1"))
        async with asyncio.timeout(60):
            while [o["client_order_id"] for o in (await client.state())["orders"]] != ["lost-1"]:
                pass  # the read itself is the wait
        answered, _ = await asyncio.wait([placing], timeout=0.5)
        assert not answered
        placing.cancel()
        await client.control("POST", "/sim/faults", {"kind": "refuse_create", "account": client.name, "code": 10016})
        assert (await client.place("Buy", price, orderLinkId="no-1"))["retCode"] == 10016
        assert len((await client.state())["orders"]) == 1

    with_account(venue, use)


def test_sockets_are_cut_on_demand(venue: Json) -> None:
    async def use(client: Client) -> None:
        stream = await private_stream(client)
        await client.control("POST", "/sim/faults", {"kind": "disconnect", "stream": "private"})
        message = await asyncio.wait_for(stream.socket.receive(), 60)
        assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.ERROR)

    with_account(venue, use)


def test_the_control_api_needs_its_token_and_names_what_it_does_not_know(venue: Json) -> None:
    async def use(client: Client) -> None:
        assert (await client.control("POST", "/sim/accounts", {}, token="guess"))[0] == 403
        status, error = await client.control("POST", "/sim/faults", {"kind": "quake", "account": client.name})
        assert status == 400
        assert "quake" in error["error"]
        assert "crossing, loss, loss_over, stall, unstall" in error["error"]
        assert (await client.control("GET", "/sim/state?account=nobody"))[0] == 404
        assert (await client.control("POST", "/sim/accounts", {"equity_quote": "-1"}))[0] == 400

    with_account(venue, use)


BOOKS = 30
A_BOOK_MAX = 3
"""A step of the market, told of to one client, may cost as much as so many rounds of `_round_s`."""


def _round_s() -> float:
    """What this machine spends just now on a hundred thousand products: seconds would measure it, not the venue."""
    begun_s, rounds = time.process_time(), 20
    for _ in range(rounds):
        sum(number * number for number in range(100_000))
    return (time.process_time() - begun_s) / rounds


def test_the_venue_is_light(venue: Json) -> None:
    async def use(client: Client) -> None:
        stream = Stream(await client.session.ws_connect(client.ready["ws_public_url"]))
        await stream.send({"op": "subscribe", "args": ["orderbook.50.BTCUSDT", "publicTrade.BTCUSDT"]})
        process = psutil.Process(venue["pid"])
        begun_s, books = sum(process.cpu_times()[:2]), 0
        while books < BOOKS:
            books += "orderbook" in (await stream.until(lambda m: "topic" in m))["topic"]
        spent_s = sum(process.cpu_times()[:2]) - begun_s
        assert spent_s < BOOKS * A_BOOK_MAX * _round_s()

    with_account(venue, use)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_venue_cleanly_even_with_a_socket_open(number: signal.Signals) -> None:
    process = start("--market", "generated", "--json", "--accounts", "2")
    try:
        ready = ready_of(process)
        assert len(ready["accounts"]) == 2

        async def stop_under_a_client() -> None:
            async with aiohttp.ClientSession() as session, session.ws_connect(ready["ws_public_url"]):
                process.send_signal(number)
                assert await asyncio.to_thread(process.wait, 60) == 0

        asyncio.run(stop_under_a_client())
        out, err = process.communicate()
        assert (out, err) == ("", "")
    finally:
        end(process)


def test_without_a_token_in_its_environment_the_control_api_is_closed() -> None:
    process = start("--market", "generated", "--json", token=None)
    try:
        ready = ready_of(process)

        async def ask() -> None:
            async with aiohttp.ClientSession() as session:
                client = Client(session, ready, ready["accounts"][0])
                for token in ("", TOKEN):
                    assert (await client.control("POST", "/sim/accounts", {}, token=token))[0] == 403

        asyncio.run(ask())
    finally:
        end(process)


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (("--market", "moon"), "--market: 'moon'"),
        (("--market", "recorded:/nowhere/at/all"), "/nowhere/at/all: no such file or folder"),
        (("--port", "70000"), "--port: '70000' is outside 0 to 65535"),
        (("--accounts", "-1"), "--accounts"),
        (("--speed", "2"), "--speed"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_2(args: tuple[str, ...], named: str) -> None:
    process = start("--json", *args)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert out == ""
    assert named in err
    assert err.count("\n") == 1


def test_a_recorded_market_is_served_with_its_own_tick_and_lot(tmp_path: Path) -> None:
    start_ms = 1_700_000_000_000
    lines = [(start_ms, {"lastUpdateId": 1, "bids": [["60000.00", "1.00000"]], "asks": [["60000.01", "1.00000"]]})]
    for number in range(40):
        levels = [["59999.99", f"{number + 1}.00000"]]
        data = {"e": "depthUpdate", "E": start_ms + 100 * number, "s": "BTCUSDT", "U": number + 2, "u": number + 2}
        lines.append((start_ms + 100 * number, {"stream": "d", "data": {**data, "b": levels, "a": []}}))
    path = tmp_path / "capture.gz"
    path.write_bytes(gzip.compress("".join(f"{ms}000000 {json.dumps(m)}\n" for ms, m in lines).encode()))
    process = start("--market", f"recorded:{tmp_path}", "--json")
    try:
        ready = ready_of(process)

        async def use(client: Client) -> None:
            info = (await client.get("/v5/market/instruments-info", "category=linear"))["result"]["list"][0]
            assert (info["priceFilter"]["tickSize"], info["lotSizeFilter"]["qtyStep"]) == ("0.01", "0.00001")
            stream = Stream(await client.session.ws_connect(client.ready["ws_public_url"]))
            await stream.send({"op": "subscribe", "args": ["orderbook.50.BTCUSDT"]})
            await stream.until(lambda m: m.get("type") == "delta")
            assert await client.touch() == (Decimal("60000.00"), Decimal("60000.01"))
            assert (await client.place("Buy", "59990.01", "0.00100"))["retCode"] == 0

        with_account(ready, use)
    finally:
        end(process)
