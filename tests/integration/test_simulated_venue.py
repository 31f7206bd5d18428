"""The simulated venue over HTTP and WebSockets, as a client that was written here and signs by hand sees it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from decimal import Decimal

import pytest

from tests.support.signing_client import Client, Json, Stream, private_stream, served_venue, with_account

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def venue() -> Iterator[Json]:
    with served_venue() as one:
        yield one


def test_an_order_is_acknowledged_confirmed_on_the_stream_amended_and_cancelled(venue: Json) -> None:
    async def use(client: Client) -> None:
        stream = await private_stream(client)
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

    with_account(venue, use)


def test_a_crossing_post_only_order_is_acknowledged_and_then_ends_with_its_reason(venue: Json) -> None:
    async def use(client: Client) -> None:
        stream = await private_stream(client)
        _, ask = await client.touch()
        answer = await client.place("Buy", str(ask + 300))
        assert answer["retCode"] == 0
        row = await stream.row("order", lambda r: r["orderId"] == answer["result"]["orderId"])
        assert (row["orderStatus"], row["rejectReason"]) == ("Cancelled", "EC_PostOnlyWillTakeLiquidity")

    with_account(venue, use)


def test_a_taker_fill_shows_on_every_topic_and_in_every_read_and_reduce_only_closes_it(venue: Json) -> None:
    async def use(client: Client) -> None:
        stream = await private_stream(client)
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

    with_account(venue, use)


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
        client.skew_ms = 60_000  # still ahead when a request takes its time
        assert (await client.get("/v5/account/info", ""))["retCode"] == 10002
        client.skew_ms = 0
        client.secret, secret = "wrong", client.secret
        assert (await client.get("/v5/account/info", ""))["retCode"] == 10004
        client.key, client.secret = "unknown", secret
        assert (await client.get("/v5/account/info", ""))["retCode"] == 10003

    with_account(venue, use)


def test_a_spent_bucket_answers_10006_and_other_buckets_and_accounts_do_not_notice(venue: Json) -> None:
    async def use(client: Client) -> None:
        codes: list[int] = []
        count = 14
        while 10006 not in codes:  # a slow machine brings the last of them when the bucket is full again
            answers = await asyncio.gather(*(client.place("Buy", str(50_000 + n)) for n in range(count)))
            codes += [answer["retCode"] for answer in answers]
            count *= 2
        assert set(codes) == {0, 10006}
        assert codes.count(0) >= 10
        cancelled = await client.post("/v5/order/cancel-all")
        assert (cancelled["retCode"], len(cancelled["result"]["list"])) == (0, codes.count(0))
        assert (await client.state())["orders"] == []

    with_account(venue, use)


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

    with_account(venue, use)


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
                ours = max(book["b"]) - Decimal("300.3")  # half a per cent: where no trade reaches it before it is seen
                placed = (await client.place("Buy", str(ours), "3.777"))["result"]["orderId"]
            elif placed and Decimal("3.777") <= book["b"].get(ours, Decimal(0)):
                break
        assert placed
        assert book["b"].get(ours, Decimal(0)) >= Decimal("3.777")
        trade = (await stream.until(lambda m: m.get("topic") == "publicTrade.BTCUSDT"))["data"][0]
        assert trade["S"] in ("Buy", "Sell")
        assert Decimal(trade["v"]) > 0

    with_account(venue, use)


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
        authenticated = await private_stream(client)
        await authenticated.send({"op": "subscribe", "args": ["nothing"]})
        assert (await authenticated.until(lambda m: m["op"] == "subscribe"))["success"] is False

    with_account(venue, use)


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
        trade = await private_stream(client, "ws_trade_url")
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

    with_account(venue, use)


def test_public_facts_and_account_facts_read_as_the_documentation_shows(venue: Json) -> None:
    async def use(client: Client) -> None:
        info = (await client.get("/v5/market/instruments-info", "category=linear&symbol=BTCUSDT"))["result"]["list"][0]
        assert info["priceFilter"]["tickSize"] == "0.1"
        assert info["lotSizeFilter"]["qtyStep"] == info["lotSizeFilter"]["minOrderQty"] == "0.001"
        assert info["lotSizeFilter"]["minNotionalValue"] == "5"
        asked_s = time.time()
        server = (await client.get("/v5/market/time", ""))["result"]
        assert asked_s - 1 < int(server["timeNano"]) / 1e9 < time.time() + 1
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
        async with asyncio.timeout(60):  # the market trades when it does
            while len(trades) < 3:
                asked = await client.get("/v5/market/recent-trade", "category=linear&symbol=BTCUSDT&limit=3")
                trades = asked["result"]["list"]
        assert len(trades) == 3

    with_account(venue, use)
