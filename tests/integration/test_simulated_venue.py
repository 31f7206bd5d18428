"""The simulated venue as a process, driven over HTTP and WebSockets by a client written here: it signs by hand."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "token-of-the-test"
SERVE = "import sys; from bot.simulator.server import main; sys.exit(main(sys.argv[1:]))"
Json = dict[str, Any]


def _start(*args: str, token: str | None = TOKEN) -> subprocess.Popen[str]:
    environment = {"PATH": os.environ["PATH"]}
    if token is not None:
        environment["SLIPWAY_SIM_CONTROL_TOKEN"] = token
    return subprocess.Popen(
        [sys.executable, "-c", SERVE, *args],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _ready(process: subprocess.Popen[str]) -> Json:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr.read() if process.stderr else ""
    return json.loads(line)


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=10)


@pytest.fixture(scope="module")
def venue() -> Iterator[Json]:
    process = _start("--market", "generated", "--port", "0", "--json", "--seed", "11", "--accounts", "1")
    try:
        yield {**_ready(process), "pid": process.pid}
    finally:
        _end(process)


class Client:
    """One account's raw client. `stream` messages are kept in order; waiting for one has a deadline."""

    def __init__(self, session: aiohttp.ClientSession, ready: Json, account: Json) -> None:
        self.session = session
        self.ready = ready
        self.name: str = account.get("account", "sim-1")
        self.key: str = account["api_key"]
        self.secret: str = account["api_secret"]
        self.headers: dict[str, str] = {}
        self.skew_ms = 0

    def sign(self, text: str) -> str:
        return hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).hexdigest()

    async def request(self, method: str, path: str, query: str = "", body: Json | None = None) -> Json:
        raw = json.dumps(body) if body is not None else ""
        stamp = str(int(time.time() * 1000) + self.skew_ms)
        headers = {
            "X-BAPI-API-KEY": self.key,
            "X-BAPI-TIMESTAMP": stamp,
            "X-BAPI-RECV-WINDOW": "5000",
            "X-BAPI-SIGN": self.sign(stamp + self.key + "5000" + (query or raw)),
            "Content-Type": "application/json",
        }
        url = self.ready["rest_url"] + path + (f"?{query}" if query else "")
        async with self.session.request(method, url, data=raw or None, headers=headers) as response:
            assert response.status == 200
            self.headers = dict(response.headers)
            return await response.json()

    async def get(self, path: str, query: str) -> Json:
        return await self.request("GET", path, query)

    async def post(self, path: str, **body: Any) -> Json:
        return await self.request("POST", path, body={"category": "linear", "symbol": "BTCUSDT", **body})

    async def place(self, side: str, price: str, qty: str = "0.010", **more: Any) -> Json:
        order = {"side": side, "orderType": "Limit", "qty": qty, "price": price, "timeInForce": "PostOnly", **more}
        return await self.post("/v5/order/create", **order)

    async def touch(self) -> tuple[Decimal, Decimal]:
        book = await self.get("/v5/market/orderbook", "category=linear&symbol=BTCUSDT&limit=1")
        return Decimal(book["result"]["b"][0][0]), Decimal(book["result"]["a"][0][0])

    async def control(self, method: str, path: str, body: Json | None = None, token: str = TOKEN) -> tuple[int, Json]:
        url = self.ready["rest_url"] + path
        async with self.session.request(method, url, json=body, headers={"X-Sim-Token": token}) as response:
            return response.status, await response.json()

    async def state(self) -> Json:
        status, state = await self.control("GET", f"/sim/state?account={self.name}")
        assert status == 200
        return state


class Stream:
    """One socket with everything it received."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.seen: list[Json] = []

    async def send(self, message: Json) -> None:
        await self.socket.send_str(json.dumps(message))

    async def until(self, wanted: Callable[[Json], bool], deadline_s: float = 15.0) -> Json:
        """The next message that is wanted; those before it are kept in `seen`."""
        async with asyncio.timeout(deadline_s):
            while True:
                message = json.loads(await self.socket.receive_str())
                self.seen.append(message)
                if wanted(message):
                    return message

    async def row(self, topic: str, wanted: Callable[[Json], bool]) -> Json:
        """The next row of a topic that is wanted."""
        message = await self.until(lambda m: m.get("topic") == topic and any(wanted(row) for row in m["data"]))
        return next(row for row in message["data"] if wanted(row))


async def _private(client: Client, url: str = "ws_private_url") -> Stream:
    stream = Stream(await client.session.ws_connect(client.ready[url]))
    expires = int(time.time() * 1000) + 10_000
    await stream.send({"op": "auth", "args": [client.key, expires, client.sign(f"GET/realtime{expires}")]})
    reply = await stream.until(lambda m: m["op"] == "auth")
    assert reply.get("success") is True or reply.get("retCode") == 0
    if url == "ws_private_url":
        await stream.send({"op": "subscribe", "args": ["order", "execution", "position", "wallet"]})
        assert (await stream.until(lambda m: m.get("op") == "subscribe"))["success"] is True
    return stream


def _with_account(ready: Json, use: Callable[[Client], Awaitable[None]]) -> None:
    """Run `use` with a client of a new account."""

    async def run() -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
            first = Client(session, ready, ready["accounts"][0])
            status, account = await first.control("POST", "/sim/accounts", {"equity_quote": "100000"})
            assert status == 200
            await use(Client(session, ready, account))

    asyncio.run(run())


def test_an_order_is_acknowledged_confirmed_on_the_stream_amended_and_cancelled(venue: Json) -> None:
    async def use(client: Client) -> None:
        stream = await _private(client)
        bid, _ = await client.touch()
        answer = await client.place("Buy", str(bid - 600), orderLinkId="slwq-1-1")
        assert (answer["retCode"], answer["retMsg"]) == (0, "OK")
        assert answer["result"]["orderLinkId"] == "slwq-1-1"
        assert client.headers["X-Bapi-Limit"] == "10"
        assert client.headers["X-Bapi-Limit-Status"] == "9"
        order_id = answer["result"]["orderId"]
        row = await stream.row("order", lambda r: r["orderId"] == order_id)
        assert (row["orderStatus"], row["timeInForce"], row["leavesQty"]) == ("New", "PostOnly", "0.010")
        amended = await client.post("/v5/order/amend", orderLinkId="slwq-1-1", price=str(bid - 601), qty="0.008")
        assert amended["retCode"] == 0
        row = await stream.row("order", lambda r: r["qty"] == "0.008")
        assert row["price"] == str(bid - 601)
        listed = await client.get("/v5/order/realtime", "category=linear&symbol=BTCUSDT")
        assert [r["orderId"] for r in listed["result"]["list"]] == [order_id]
        assert (await client.post("/v5/order/cancel", orderId=order_id))["retCode"] == 0
        row = await stream.row("order", lambda r: r["orderStatus"] == "Cancelled")
        assert (row["rejectReason"], row["cancelType"]) == ("EC_PerCancelRequest", "CancelByUser")
        assert (await client.post("/v5/order/cancel", orderId=order_id))["retCode"] == 110001
        listed = await client.get("/v5/order/realtime", "category=linear&symbol=BTCUSDT")
        assert listed["result"]["list"] == []
        found = await client.get("/v5/order/realtime", "category=linear&symbol=BTCUSDT&orderLinkId=slwq-1-1")
        assert [r["orderStatus"] for r in found["result"]["list"]] == ["Cancelled"]
        history = await client.get("/v5/order/history", "category=linear&orderLinkId=slwq-1-1")
        assert [r["orderId"] for r in history["result"]["list"]] == [order_id]
        again = await client.place("Buy", str(bid - 600), orderLinkId="slwq-1-1")
        assert again["retCode"] == 110072

    _with_account(venue, use)


def test_a_crossing_post_only_order_is_acknowledged_and_then_ends_with_its_reason(venue: Json) -> None:
    async def use(client: Client) -> None:
        stream = await _private(client)
        _, ask = await client.touch()
        answer = await client.place("Buy", str(ask + 300))
        assert answer["retCode"] == 0
        row = await stream.row("order", lambda r: r["orderId"] == answer["result"]["orderId"])
        assert (row["orderStatus"], row["rejectReason"]) == ("Cancelled", "EC_PostOnlyWillTakeLiquidity")

    _with_account(venue, use)


def test_a_taker_fill_shows_on_every_topic_and_in_every_read_and_reduce_only_closes_it(venue: Json) -> None:
    async def use(client: Client) -> None:
        stream = await _private(client)
        _, ask = await client.touch()
        await client.place("Buy", str(ask + 60), timeInForce="IOC", orderLinkId="slwf-1-1")
        execution = await stream.row("execution", lambda r: r["orderLinkId"] == "slwf-1-1")
        assert execution["isMaker"] is False
        value = Decimal(execution["execPrice"]) * Decimal(execution["execQty"])
        assert Decimal(execution["execFee"]) == value * Decimal("0.00055")
        position = await stream.row("position", lambda r: r["size"] != "0")
        assert (position["side"], position["size"]) == ("Buy", "0.010")
        wallet = await stream.row("wallet", lambda r: True)
        assert Decimal(wallet["totalWalletBalance"]) < 100_000
        read = await client.get("/v5/position/list", "category=linear&symbol=BTCUSDT")
        assert Decimal(read["result"]["list"][0]["avgPrice"]) == Decimal(position["entryPrice"])
        executions = await client.get("/v5/execution/list", "category=linear&symbol=BTCUSDT")
        assert execution["execId"] in [row["execId"] for row in executions["result"]["list"]]
        bid, _ = await client.touch()
        close = {"timeInForce": "IOC", "reduceOnly": True}
        assert (await client.place("Buy", str(ask + 60), **close))["retCode"] == 110017
        assert (await client.place("Sell", str(bid - 60), "0.050", **close))["retCode"] == 0
        await stream.row("position", lambda r: r["size"] == "0" and r["side"] == "")
        state = await client.state()
        assert (state["positions"], state["orders"]) == ([], [])
        assert state["executions_count"] == len(
            (await client.get("/v5/execution/list", "category=linear"))["result"]["list"]
        )
        flat = await client.get("/v5/position/list", "category=linear&settleCoin=USDT")
        assert flat["result"]["list"] == []

    _with_account(venue, use)


def test_requests_are_refused_with_the_venue_s_own_codes(venue: Json) -> None:
    async def use(client: Client) -> None:
        cases: list[tuple[Json, int]] = [
            ({"price": "50000.05"}, 10001),
            ({"qty": "0.0005"}, 10001),
            ({"qty": "0"}, 10001),
            ({"qty": "101"}, 10001),
            ({"price": "1000", "qty": "0.001"}, 110094),
            ({"price": "90000"}, 110003),
            ({"price": "50000", "qty": "99"}, 110007),
            ({"orderLinkId": "not allowed"}, 10001),
            ({"symbol": "DOGEUSDT"}, 10001),
        ]
        for changes, code in cases:
            answer = await client.place("Buy", **{"price": "50000", **changes})
            assert (answer["retCode"], changes) == (code, changes), answer
        assert (await client.state())["orders"] == []
        client.skew_ms = -6_000
        assert (await client.place("Buy", "50000"))["retCode"] == 10002
        client.skew_ms = 1_500
        assert (await client.get("/v5/account/info", ""))["retCode"] == 10002
        client.skew_ms = 0
        client.secret, secret = "wrong", client.secret
        assert (await client.get("/v5/account/info", ""))["retCode"] == 10004
        client.key, client.secret = "unknown", secret
        assert (await client.get("/v5/account/info", ""))["retCode"] == 10003

    _with_account(venue, use)


def test_a_spent_bucket_answers_10006_and_other_buckets_and_accounts_do_not_notice(venue: Json) -> None:
    async def use(client: Client) -> None:
        answers = await asyncio.gather(*(client.place("Buy", str(50_000 + n)) for n in range(14)))
        codes = sorted(answer["retCode"] for answer in answers)
        assert codes == [0] * 10 + [10006] * 4
        cancelled = await client.post("/v5/order/cancel-all")
        assert (cancelled["retCode"], len(cancelled["result"]["list"])) == (0, 10)
        assert (await client.state())["orders"] == []

    _with_account(venue, use)


def test_pages_follow_their_cursor_to_the_end(venue: Json) -> None:
    async def use(client: Client) -> None:
        for number in range(5):
            await client.place("Buy", str(50_000 + number), orderLinkId=f"page-{number}")
        seen: list[str] = []
        cursor = ""
        for _ in range(3):
            query = f"category=linear&settleCoin=USDT&limit=2&cursor={cursor}"
            page = (await client.get("/v5/order/realtime", query))["result"]
            seen += [row["orderLinkId"] for row in page["list"]]
            cursor = page["nextPageCursor"]
        assert seen == [f"page-{number}" for number in (4, 3, 2, 1, 0)]
        assert cursor == ""

    _with_account(venue, use)


def test_the_public_book_follows_from_a_snapshot_without_gaps_and_shows_an_account_s_order(venue: Json) -> None:
    async def use(client: Client) -> None:
        stream = Stream(await client.session.ws_connect(client.ready["ws_public_url"]))
        await stream.send({"op": "subscribe", "req_id": "r1", "args": ["orderbook.nope.BTCUSDT"]})
        refused = await stream.until(lambda m: m.get("op") == "subscribe")
        assert refused["success"] is False
        await stream.send({"op": "ping", "req_id": "p"})
        assert (await stream.until(lambda m: m.get("op") == "ping"))["ret_msg"] == "pong"
        await stream.send({"op": "subscribe", "args": ["orderbook.50.BTCUSDT", "publicTrade.BTCUSDT"]})
        assert (await stream.until(lambda m: m.get("op") == "subscribe"))["success"] is True
        book: dict[str, dict[Decimal, Decimal]] = {"b": {}, "a": {}}
        last = 0
        placed = ""
        ours = Decimal(0)
        deltas = 0
        while deltas < 30:
            message = await stream.until(lambda m: str(m.get("topic", "")).startswith("orderbook"))
            data = message["data"]
            if message["type"] == "snapshot":
                assert last == 0
                assert len(data["b"]) == len(data["a"]) == 50
            else:
                assert data["u"] == last + 1
                deltas += 1
            last = data["u"]
            for side in ("b", "a"):
                for price, size in data[side]:
                    if size == "0":
                        del book[side][Decimal(price)]
                    else:
                        book[side][Decimal(price)] = Decimal(size)
                assert len(book[side]) == 50
            assert max(book["b"]) < min(book["a"])
            assert message["cts"] <= message["ts"] <= int(time.time() * 1000) + 5
            if deltas == 10 and not placed:
                ours = max(book["b"]) - Decimal("20.3")
                placed = (await client.place("Buy", str(ours), "3.777"))["result"]["orderId"]
            elif placed and Decimal("3.777") <= book["b"].get(ours, Decimal(0)):
                break
        assert placed
        assert book["b"].get(ours, Decimal(0)) >= Decimal("3.777")
        trade = (await stream.until(lambda m: m.get("topic") == "publicTrade.BTCUSDT"))["data"][0]
        assert trade["S"] in ("Buy", "Sell")
        assert Decimal(trade["v"]) > 0

    _with_account(venue, use)


def test_the_private_socket_gives_nothing_before_a_right_signature(venue: Json) -> None:
    async def use(client: Client) -> None:
        stream = Stream(await client.session.ws_connect(client.ready["ws_private_url"]))
        await stream.send({"op": "subscribe", "args": ["order"]})
        assert (await stream.until(lambda m: m["op"] == "subscribe"))["success"] is False
        expires = int(time.time() * 1000) + 10_000
        await stream.send({"op": "auth", "args": [client.key, expires, "0" * 64]})
        assert (await stream.until(lambda m: m["op"] == "auth"))["success"] is False
        await stream.send({"op": "ping", "req_id": "test"})
        pong = await stream.until(lambda m: m["op"] == "pong")
        assert pong["req_id"] == "test"
        authenticated = await _private(client)
        await authenticated.send({"op": "subscribe", "args": ["nothing"]})
        assert (await authenticated.until(lambda m: m["op"] == "subscribe"))["success"] is False

    _with_account(venue, use)


def test_orders_enter_by_the_trade_socket_with_the_same_answers(venue: Json) -> None:
    async def use(client: Client) -> None:
        trade = Stream(await client.session.ws_connect(client.ready["ws_trade_url"]))
        order = {"symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.01", "price": "50000"}
        order |= {"category": "linear", "timeInForce": "PostOnly", "orderLinkId": "t-1"}

        def operation(op: str, request_id: str, args: Json, skew_ms: int = 0) -> Json:
            header = {"X-BAPI-TIMESTAMP": str(int(time.time() * 1000) + skew_ms), "X-BAPI-RECV-WINDOW": "5000"}
            return {"op": op, "reqId": request_id, "header": header, "args": [args]}

        await trade.send(operation("order.create", "r0", order))
        assert (await trade.until(lambda m: m["op"] == "order.create"))["retCode"] != 0
        trade = await _private(client, "ws_trade_url")
        await trade.send(operation("order.create", "r1", order))
        created = await trade.until(lambda m: m.get("reqId") == "r1")
        assert (created["retCode"], created["data"]["orderLinkId"]) == (0, "t-1")
        assert created["header"]["X-Bapi-Limit-Status"] == "9"
        await trade.send(operation("order.create", "r1", order))
        assert (await trade.until(lambda m: m.get("reqId") == "r1"))["retCode"] == 20006
        await trade.send(operation("order.create", "r2", order, skew_ms=-9_000))
        assert (await trade.until(lambda m: m.get("reqId") == "r2"))["retCode"] == 10002
        named = {"category": "linear", "symbol": "BTCUSDT", "orderLinkId": "t-1"}
        await trade.send(operation("order.amend", "r3", {**named, "price": "50001"}))
        assert (await trade.until(lambda m: m.get("reqId") == "r3"))["retCode"] == 0
        assert [o["price"] for o in (await client.state())["orders"]] == ["50001.0"]
        await trade.send(operation("order.cancel", "r4", named))
        assert (await trade.until(lambda m: m.get("reqId") == "r4"))["retCode"] == 0
        assert (await client.state())["orders"] == []

    _with_account(venue, use)


def test_a_stall_silences_public_sockets_while_rest_stays_truthful_and_ends_with_a_snapshot(venue: Json) -> None:
    async def use(client: Client) -> None:
        stream = Stream(await client.session.ws_connect(client.ready["ws_public_url"]))
        await stream.send({"op": "subscribe", "args": ["orderbook.50.BTCUSDT"]})
        await stream.until(lambda m: m.get("type") == "delta")
        assert (await client.control("POST", "/sim/faults", {"kind": "stall"}))[0] == 200
        await stream.send({"op": "ping"})
        await stream.until(lambda m: m.get("op") == "ping")
        with pytest.raises(TimeoutError):
            await stream.until(lambda m: True, 0.6)
        first, end = await client.touch(), time.monotonic() + 10
        while (moved := await client.touch()) == first and time.monotonic() < end:
            pass  # the read itself is the wait
        assert moved != first
        stream = Stream(await client.session.ws_connect(client.ready["ws_public_url"]))
        await stream.send({"op": "subscribe", "args": ["orderbook.50.BTCUSDT"]})
        await stream.until(lambda m: m.get("op") == "subscribe")
        assert (await client.control("POST", "/sim/faults", {"kind": "unstall"}))[0] == 200
        assert (await stream.until(lambda m: "topic" in m))["type"] == "snapshot"
        assert (await stream.until(lambda m: "topic" in m))["type"] == "delta"

    _with_account(venue, use)


def test_crossing_and_loss_fire_once_and_are_on_record(venue: Json) -> None:
    async def use(client: Client) -> None:
        stream = await _private(client)
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

    _with_account(venue, use)


def test_an_order_whose_answer_never_comes_exists_and_a_refused_one_does_not(venue: Json) -> None:
    async def use(client: Client) -> None:
        await client.control("POST", "/sim/faults", {"kind": "accept_then_timeout", "account": client.name})
        mark = Decimal((await client.state())["mark_price"])
        price = str(round(mark * Decimal("0.9")))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await client.place("Buy", price, orderLinkId="lost-1")
        assert [o["client_order_id"] for o in (await client.state())["orders"]] == ["lost-1"]
        await client.control("POST", "/sim/faults", {"kind": "refuse_create", "account": client.name, "code": 10016})
        assert (await client.place("Buy", price, orderLinkId="no-1"))["retCode"] == 10016
        assert len((await client.state())["orders"]) == 1

    _with_account(venue, use)


def test_sockets_are_cut_on_demand(venue: Json) -> None:
    async def use(client: Client) -> None:
        stream = await _private(client)
        await client.control("POST", "/sim/faults", {"kind": "disconnect", "stream": "private"})
        message = await asyncio.wait_for(stream.socket.receive(), 15)
        assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.ERROR)

    _with_account(venue, use)


def test_the_control_api_needs_its_token_and_names_what_it_does_not_know(venue: Json) -> None:
    async def use(client: Client) -> None:
        assert (await client.control("POST", "/sim/accounts", {}, token="guess"))[0] == 403
        status, error = await client.control("POST", "/sim/faults", {"kind": "quake", "account": client.name})
        assert status == 400
        assert "quake" in error["error"]
        assert "crossing, loss, loss_over, stall, unstall" in error["error"]
        assert (await client.control("GET", "/sim/state?account=nobody"))[0] == 404
        assert (await client.control("POST", "/sim/accounts", {"equity_quote": "-1"}))[0] == 400

    _with_account(venue, use)


def test_public_facts_and_account_facts_read_as_the_documentation_shows(venue: Json) -> None:
    async def use(client: Client) -> None:
        info = (await client.get("/v5/market/instruments-info", "category=linear&symbol=BTCUSDT"))["result"]["list"][0]
        assert info["priceFilter"]["tickSize"] == "0.1"
        assert info["lotSizeFilter"]["qtyStep"] == info["lotSizeFilter"]["minOrderQty"] == "0.001"
        assert info["lotSizeFilter"]["minNotionalValue"] == "5"
        server = (await client.get("/v5/market/time", ""))["result"]
        assert abs(int(server["timeNano"]) / 1e9 - time.time()) < 1
        fees = (await client.get("/v5/account/fee-rate", "category=linear&symbol=BTCUSDT"))["result"]["list"][0]
        assert (fees["makerFeeRate"], fees["takerFeeRate"]) == ("0.0002", "0.00055")
        wallet = (await client.get("/v5/account/wallet-balance", "accountType=UNIFIED"))["result"]["list"][0]
        assert Decimal(wallet["totalEquity"]) == 100_000
        key = (await client.get("/v5/user/query-api", ""))["result"]
        assert (key["readOnly"], key["permissions"]["Wallet"]) == (0, [])
        assert (await client.get("/v5/account/info", ""))["result"]["unifiedMarginStatus"] == 5
        ticker = (await client.get("/v5/market/tickers", "category=linear&symbol=BTCUSDT"))["result"]["list"][0]
        assert Decimal(ticker["bid1Price"]) < Decimal(ticker["markPrice"]) < Decimal(ticker["ask1Price"])
        limits = (await client.get("/v5/market/price-limit", "symbol=BTCUSDT"))["result"]
        assert Decimal(limits["sellLmt"]) < Decimal(ticker["markPrice"]) < Decimal(limits["buyLmt"])
        trades: list[Json] = []
        async with asyncio.timeout(30):  # the market trades when it does
            while len(trades) < 3:
                asked = await client.get("/v5/market/recent-trade", "category=linear&symbol=BTCUSDT&limit=3")
                trades = asked["result"]["list"]
        assert len(trades) == 3

    _with_account(venue, use)


def test_the_venue_is_light(venue: Json) -> None:
    async def use(client: Client) -> None:
        stream = Stream(await client.session.ws_connect(client.ready["ws_public_url"]))
        await stream.send({"op": "subscribe", "args": ["orderbook.50.BTCUSDT", "publicTrade.BTCUSDT"]})
        process = psutil.Process(venue["pid"])
        begun, cpu = time.monotonic(), sum(process.cpu_times()[:2])
        books = 0
        while time.monotonic() - begun < 3:
            books += "orderbook" in (await stream.until(lambda m: "topic" in m))["topic"]
        took = time.monotonic() - begun
        assert (sum(process.cpu_times()[:2]) - cpu) / took < 0.15
        assert books / took > 6

    _with_account(venue, use)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_venue_cleanly_even_with_a_socket_open(number: signal.Signals) -> None:
    process = _start("--market", "generated", "--json", "--accounts", "2")
    try:
        ready = _ready(process)
        assert len(ready["accounts"]) == 2

        async def stop_under_a_client() -> None:
            async with aiohttp.ClientSession() as session, session.ws_connect(ready["ws_public_url"]):
                process.send_signal(number)
                assert await asyncio.to_thread(process.wait, 5) == 0

        asyncio.run(stop_under_a_client())
        out, err = process.communicate()
        assert (out, err) == ("", "")
    finally:
        _end(process)


def test_without_a_token_in_its_environment_the_control_api_is_closed() -> None:
    process = _start("--market", "generated", "--json", token=None)
    try:
        ready = _ready(process)

        async def ask() -> None:
            async with aiohttp.ClientSession() as session:
                client = Client(session, ready, ready["accounts"][0])
                for token in ("", TOKEN):
                    assert (await client.control("POST", "/sim/accounts", {}, token=token))[0] == 403

        asyncio.run(ask())
    finally:
        _end(process)


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
    process = _start("--json", *args)
    out, err = process.communicate(timeout=20)
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
    process = _start("--market", f"recorded:{tmp_path}", "--json")
    try:
        ready = _ready(process)

        async def use(client: Client) -> None:
            info = (await client.get("/v5/market/instruments-info", "category=linear"))["result"]["list"][0]
            assert (info["priceFilter"]["tickSize"], info["lotSizeFilter"]["qtyStep"]) == ("0.01", "0.00001")
            stream = Stream(await client.session.ws_connect(client.ready["ws_public_url"]))
            await stream.send({"op": "subscribe", "args": ["orderbook.50.BTCUSDT"]})
            await stream.until(lambda m: m.get("type") == "delta")
            assert await client.touch() == (Decimal("60000.00"), Decimal("60000.01"))
            assert (await client.place("Buy", "59990.01", "0.00100"))["retCode"] == 0

        _with_account(ready, use)
    finally:
        _end(process)
