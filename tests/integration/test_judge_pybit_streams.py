"""pybit, the venue's own client for Python, judges the simulated venue's sockets, in and out."""

from __future__ import annotations

from decimal import Decimal

import pytest
from pybit.exceptions import FailedRequestError
from pybit.unified_trading import HTTP

from tests.support.judged_venue import SYMBOL, JudgedVenue, Key, eventually
from tests.support.pybit_client import HERE, Inbox, Stream, Trading, http, refused, terms

pytestmark = pytest.mark.integration


@pytest.fixture
def key(judged_venue: JudgedVenue) -> Key:
    return judged_venue.key()


@pytest.fixture
def client(judged_venue: JudgedVenue, key: Key) -> HTTP:
    return http(judged_venue, key)


def test_a_crossing_post_only_order_is_acknowledged_and_then_refused_on_the_stream(
    judged_venue: JudgedVenue, key: Key, client: HTTP
) -> None:
    stream, orders = Stream(judged_venue, key), Inbox()
    stream.order_stream(orders)
    stream.subscribed()
    made = client.place_order(category="linear", **terms(client, "cross-1", away=-300))
    assert (made["retCode"], made["result"]["orderLinkId"]) == (0, "cross-1")
    row = orders.row(lambda r: r["orderLinkId"] == "cross-1")
    assert (row["orderStatus"], row["rejectReason"]) == ("Cancelled", "EC_PostOnlyWillTakeLiquidity")
    stream.exit()


def test_a_fill_shows_on_every_private_stream_and_in_every_read(
    judged_venue: JudgedVenue, key: Key, client: HTTP
) -> None:
    stream = Stream(judged_venue, key)
    executions, fast, positions, wallets = Inbox(), Inbox(), Inbox(), Inbox()
    stream.execution_stream(executions)
    stream.fast_execution_stream(fast)
    stream.position_stream(positions)
    stream.wallet_stream(wallets)
    for _ in range(4):
        stream.subscribed()
    client.place_order(**HERE, side="Sell", orderType="Market", qty="0.010", orderLinkId="fill-1")
    told = executions.row(lambda r: r["orderLinkId"] == "fill-1")
    assert (told["isMaker"], told["execType"], told["feeRate"]) == (False, "Trade", "0.00055")
    assert fast.row()["execId"] == told["execId"]
    held = positions.row(lambda r: r["size"] == "0.010")
    assert (held["side"], Decimal(held["entryPrice"]) > 0) == ("Sell", True)
    assert Decimal(wallets.row()["totalWalletBalance"]) < 100_000
    read = client.get_executions(**HERE)["result"]["list"]
    assert told["execId"] in {row["execId"] for row in read}
    assert client.get_positions(category="linear", settleCoin="USDT")["result"]["list"][0]["avgPrice"] > "0"
    for other in ("inverse", "spot"):
        assert client.get_positions(category=other, symbol="BTCUSD")["result"]["list"] == []
    wallet = client.get_wallet_balance(accountType="UNIFIED", coin="USDT")["result"]["list"][0]
    assert wallet["coin"][0]["coin"] == "USDT"
    assert client.get_wallet_balance(accountType="UNIFIED", coin="BTC")["result"]["list"][0]["coin"] == []
    stream.exit()


def test_a_resting_order_is_filled_as_maker_at_the_makers_fee(
    judged_venue: JudgedVenue, key: Key, client: HTTP
) -> None:
    stream, executions, fast = Stream(judged_venue, key), Inbox(), Inbox()
    stream.execution_stream(executions)
    stream.fast_execution_stream(fast)
    for _ in range(2):
        stream.subscribed()
    one = terms(client, "", away=0)
    request = [{**one, "orderLinkId": f"rest-{away}", "price": str(Decimal(one["price"]) - away)} for away in range(6)]
    client.place_batch_order(category="linear", request=request)
    told = executions.row()
    assert (told["isMaker"], told["feeRate"], told["orderLinkId"][:5]) == (True, "0.0002", "rest-")
    assert Decimal(told["execFee"]) == Decimal(told["execValue"]) * Decimal("0.0002")
    assert Decimal(told["execPrice"]) <= Decimal(one["price"])
    quick = fast.row()
    assert (quick["execId"], quick["isMaker"], quick["orderLinkId"]) == (told["execId"], True, "")
    stream.exit()


def test_past_the_limit_of_an_address_it_is_shut_out_with_its_sockets() -> None:
    venue = JudgedVenue("--address-limit", "1")
    try:
        stream, client = Stream(venue), http(venue)
        stream.handle_error = False

        def is_shut_out() -> bool:
            try:
                client.get_server_time()
            except FailedRequestError as error:
                return error.status_code == 403
            return False

        eventually(is_shut_out, bool)
        assert is_shut_out()
        eventually(stream.is_connected, lambda connected: not connected)
    finally:
        venue.close()


def test_public_streams_start_whole_follow_the_market_and_come_back_after_a_cut(judged_venue: JudgedVenue) -> None:
    stream, books, deep, trades, tickers = Stream(judged_venue), Inbox(), Inbox(), Inbox(), Inbox()
    stream.orderbook_stream(50, SYMBOL, books)
    stream.orderbook_stream(1000, SYMBOL, deep)
    stream.trade_stream(SYMBOL, trades)
    stream.ticker_stream(SYMBOL, tickers)
    first = books.take()["data"]
    assert len(first["b"]) == len(first["a"]) == 50
    moved = books.take(lambda m: m["data"]["u"] > first["u"])["data"]
    assert max(Decimal(price) for price, _ in moved["b"]) < min(Decimal(price) for price, _ in moved["a"])
    assert len(deep.take()["data"]["b"]) >= 50
    assert trades.take()["data"][0]["S"] in ("Buy", "Sell")
    assert tickers.take()["data"]["symbol"] == SYMBOL
    stream.ping()
    assert stream.frames.take(lambda m: m.get("ret_msg") == "pong")["op"] == "ping"
    judged_venue.arm("disconnect", stream="public")
    eventually(lambda: stream.opened, lambda opened: opened == 2)
    assert stream.frames.take(lambda m: m.get("type") == "snapshot" and m["topic"].startswith("orderbook.50"))
    stream.exit()


def test_a_private_stream_comes_back_after_a_cut(judged_venue: JudgedVenue, key: Key, client: HTTP) -> None:
    stream, orders = Stream(judged_venue, key), Inbox()
    stream.order_stream(orders)
    stream.subscribed()
    stream.ping()
    assert stream.frames.take(lambda m: m.get("op") == "pong")["args"]
    judged_venue.arm("disconnect", stream="private")
    stream.subscribed()
    client.place_order(category="linear", **terms(client, "again-1"))
    assert orders.row()["orderLinkId"] == "again-1"
    stream.exit()


def test_orders_go_in_by_socket_too(judged_venue: JudgedVenue, key: Key, client: HTTP) -> None:
    trading, one = Trading(judged_venue, key), terms(client, "socket-1")
    made = trading.send(trading.place_order, category="linear", **one)
    assert (made["retCode"], made["header"]["X-Bapi-Limit-Status"]) == (0, "9")
    assert trading.send(trading.place_order, category="linear", **one)["retCode"] == 110072
    assert trading.send(trading.amend_order, **HERE, orderLinkId="socket-1", qty="0.008")["retCode"] == 0
    request = [{**one, "orderLinkId": "socket-2"}, {**one, "positionIdx": 1}]
    batch = trading.send(trading.place_batch_order, category="linear", request=request)
    assert [end["code"] for end in batch["retExtInfo"]["list"]] == [0, 10001]
    assert [bool(row["orderId"]) for row in batch["data"]["list"]] == [True, False]
    assert trading.send(trading.cancel_order, **HERE, orderLinkId="socket-1")["retCode"] == 0
    assert [order["client_order_id"] for order in judged_venue.state(key)["orders"]] == ["socket-2"]
    trading.exit()


def test_orders_go_when_the_connection_that_keeps_them_is_away_too_long(
    judged_venue: JudgedVenue, key: Key, client: HTTP
) -> None:
    assert client.set_dcp(product="DERIVATIVES", timeWindow=10)["retMsg"] == "success"
    (shown,) = client.query_dcp_info()["result"]["dcpInfos"]
    assert shown == {"product": "DERIVATIVES", "dcpStatus": "ON", "timeWindow": "10"}
    with refused(10001):
        client.set_dcp(product="DERIVATIVES", timeWindow=2)
    stream = Stream(judged_venue, key)
    stream.subscribe("dcp.future", Inbox(), symbol=SYMBOL)
    stream.subscribed()
    client.place_order(category="linear", **terms(client, "kept-1"))
    stream.exit()
    assert len(judged_venue.state(key)["orders"]) == 1
    eventually(lambda: judged_venue.state(key)["orders"], lambda orders: not orders)
