"""pybit and ccxt judge an exchange of several contracts and of spot: symbols together, coins, and spot's own codes."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import ccxt
import pytest
from ccxt.pro import bybit as Bybit
from pybit.unified_trading import HTTP

from tests.support.ccxt_client import judge
from tests.support.judged_venue import JudgedVenue, Key, eventually
from tests.support.pybit_client import Inbox, Stream, Trading, http, refused

pytestmark = pytest.mark.integration

SPOT = {"category": "spot", "symbol": "ETHUSDT"}
D = Decimal


@pytest.fixture(scope="module")
def venue() -> Iterator[JudgedVenue]:
    made = JudgedVenue("--symbols", "BTCUSDT,ETHUSDT,SOLUSDT", "--spot-symbols", "BTCUSDT,ETHUSDT")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def key(venue: JudgedVenue) -> Key:
    return venue.key()


@pytest.fixture
def client(venue: JudgedVenue, key: Key) -> HTTP:
    return http(venue, key)


def best(client: HTTP, **place: str) -> tuple[Decimal, Decimal]:
    book = client.get_orderbook(**place, limit=1)["result"]
    return D(book["b"][0][0]), D(book["a"][0][0])


def spot_order(client: HTTP, link_id: str, **changes: Any) -> dict[str, Any]:
    """Terms of a post-only buy of 0.1 ETH far from the touch."""
    price = best(client, **SPOT)[0] - 100
    terms = {"symbol": "ETHUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.1", "price": str(price)}
    return {**terms, "timeInForce": "PostOnly", "orderLinkId": link_id, **changes}


def test_instruments_come_in_pages_and_by_category(client: HTTP) -> None:
    seen: list[str] = []
    cursor: str | None = None
    while cursor != "":
        page = client.get_instruments_info(category="linear", limit=2, cursor=cursor)["result"]
        seen += [row["symbol"] for row in page["list"]]
        cursor = page["nextPageCursor"]
    assert seen == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    rows = client.get_instruments_info(category="spot")["result"]["list"]
    assert {row["symbol"]: row["lotSizeFilter"]["basePrecision"] for row in rows} == {
        "BTCUSDT": "0.0001", "ETHUSDT": "0.001",
    }  # fmt: skip
    tickers = client.get_tickers(category="linear")["result"]["list"]
    assert [row["symbol"] for row in tickers] == seen


def test_orders_and_positions_of_all_symbols_are_read_together_and_ended_together(client: HTTP) -> None:
    for symbol, qty, price in (("BTCUSDT", "0.01", "50000"), ("ETHUSDT", "0.1", "2500"), ("SOLUSDT", "1", "120")):
        order = {"symbol": symbol, "side": "Buy", "orderType": "Limit", "qty": qty, "price": price}
        client.place_order(category="linear", **order, orderLinkId=f"all-{symbol}")
    client.place_order(category="linear", symbol="ETHUSDT", side="Sell", orderType="Market", qty="0.2")
    client.place_order(category="linear", symbol="SOLUSDT", side="Buy", orderType="Market", qty="3")
    rows = client.get_open_orders(category="linear", settleCoin="USDT")["result"]["list"]
    assert {row["symbol"] for row in rows} == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}
    held = client.get_positions(category="linear", settleCoin="USDT")["result"]["list"]
    assert {row["symbol"]: (row["side"], row["size"]) for row in held} == {
        "ETHUSDT": ("Sell", "0.20"), "SOLUSDT": ("Buy", "3.0"),
    }  # fmt: skip
    assert len(client.cancel_all_orders(category="linear", settleCoin="USDT")["result"]["list"]) == 3
    assert client.get_open_orders(category="linear", settleCoin="USDT")["result"]["list"] == []
    executed = client.get_executions(category="linear")["result"]["list"]
    assert {row["symbol"] for row in executed} == {"ETHUSDT", "SOLUSDT"}


def test_a_spot_order_lives_is_amended_cancelled_and_refused_with_spot_s_codes(client: HTTP) -> None:
    made = client.place_order(category="spot", **spot_order(client, "spot-1"))["result"]
    locked = client.get_wallet_balance(accountType="UNIFIED", coin="USDT")["result"]["list"][0]["coin"][0]["locked"]
    assert D(locked) > 0
    client.amend_order(**SPOT, orderLinkId="spot-1", qty="0.08")
    (shown,) = client.get_open_orders(**SPOT)["result"]["list"]
    assert (shown["orderId"], shown["qty"]) == (made["orderId"], "0.080")
    client.cancel_order(**SPOT, orderId=made["orderId"])
    with refused(170142):
        client.cancel_order(**SPOT, orderId=made["orderId"])
    with refused(170213):
        client.cancel_order(**SPOT, orderId="no-such-order")
    with refused(170141):
        client.place_order(category="spot", **spot_order(client, "spot-1"))
    with refused(170218):
        client.place_order(category="spot", **spot_order(client, "", price=str(best(client, **SPOT)[1] + 5)))
    with refused(170131):
        client.place_order(category="spot", **spot_order(client, "", qty="1000"))
    with refused(170140):
        client.place_order(category="spot", **spot_order(client, "", qty="0.001", price="1000"))
    assert client.get_fee_rates(**SPOT)["result"]["list"][0]["makerFeeRate"] == "0.001"


def test_a_spot_batch_and_its_cancel_all(client: HTTP) -> None:
    orders = [spot_order(client, f"batch-{number}") for number in range(3)]
    answer = client.place_batch_order(category="spot", request=[*orders, orders[0]])
    assert [end["code"] for end in answer["retExtInfo"]["list"]] == [0, 0, 0, 170141]
    with refused(10001):
        client.place_batch_order(category="spot", request=[orders[0]] * 11)
    assert len(client.cancel_all_orders(**SPOT)["result"]["list"]) == 3


def test_a_spot_fill_changes_coins_and_is_told_with_the_coin_of_its_fee(
    venue: JudgedVenue, key: Key, client: HTTP
) -> None:
    stream, executions, wallets = Stream(venue, key), Inbox(), Inbox()
    stream.execution_stream(executions)
    stream.wallet_stream(wallets)
    for _ in range(2):
        stream.subscribed()
    before = {coin: D(held) for coin, held in venue.state(key)["coins"].items()}
    client.place_order(**SPOT, side="Buy", orderType="Market", qty="600", marketUnit="quoteCoin", orderLinkId="spend")
    told = executions.row(lambda row: row["orderLinkId"] == "spend")
    assert (told["category"], told["feeCurrency"], told["isMaker"]) == ("spot", "ETH", False)
    after = {coin: D(held) for coin, held in venue.state(key)["coins"].items()}
    assert before["USDT"] - 600 <= after["USDT"] < before["USDT"]
    assert after["ETH"] > before["ETH"]
    assert {row["coin"] for row in wallets.row()["coin"]} == {"USDT", "BTC", "ETH"}
    client.place_order(**SPOT, side="Sell", orderType="Market", qty="0.05", orderLinkId="sell")
    assert executions.row(lambda row: row["orderLinkId"] == "sell")["feeCurrency"] == "USDT"
    stream.exit()


def test_orders_of_both_categories_go_in_by_one_socket(venue: JudgedVenue, key: Key, client: HTTP) -> None:
    trading = Trading(venue, key)
    assert trading.send(trading.place_order, category="spot", **spot_order(client, "socket-spot"))["retCode"] == 0
    linear = {"symbol": "SOLUSDT", "side": "Buy", "orderType": "Limit", "qty": "1", "price": "120"}
    assert trading.send(trading.place_order, category="linear", **linear, orderLinkId="socket-sol")["retCode"] == 0
    shown = {(order["category"], order["client_order_id"]) for order in venue.state(key)["orders"]}
    assert shown == {("spot", "socket-spot"), ("linear", "socket-sol")}
    trading.exit()


def test_ccxt_parses_contracts_and_spot_alike(venue: JudgedVenue) -> None:
    async def use(exchange: Bybit, key: Key) -> None:
        markets = await exchange.load_markets()
        contracts = {"BTC/USDT:USDT", "ETH/USDT:USDT", "SOL/USDT:USDT"}
        assert set(markets) == contracts | {"BTC/USDT", "ETH/USDT"}
        assert markets["ETH/USDT"]["precision"] == {"amount": 0.001, "price": 0.01}
        assert (markets["ETH/USDT"]["spot"], markets["ETH/USDT"]["active"]) == (True, True)
        bid = (await exchange.fetch_order_book("ETH/USDT", 1))["bids"][0][0]
        made = await exchange.create_order(
            "ETH/USDT", "limit", "buy", 0.1, bid - 100, {"postOnly": True, "clientOrderId": "ccxt-spot"}
        )
        (shown,) = await exchange.fetch_open_orders("ETH/USDT")
        assert (shown["id"], shown["clientOrderId"], shown["symbol"]) == (made["id"], "ccxt-spot", "ETH/USDT")
        await exchange.edit_order(made["id"], "ETH/USDT", "limit", "buy", 0.08, bid - 101)
        await exchange.cancel_order(made["id"], "ETH/USDT")
        with pytest.raises(ccxt.InvalidOrder, match="170142"):
            await exchange.cancel_order(made["id"], "ETH/USDT")
        with pytest.raises(ccxt.InsufficientFunds, match="170131"):
            await exchange.create_order("ETH/USDT", "limit", "buy", 1_000, bid - 100)
        await exchange.create_order("ETH/USDT", "market", "sell", 0.05)
        (trade, *_) = await exchange.fetch_my_trades("ETH/USDT")
        assert (trade["side"], trade["fee"]["currency"], trade["takerOrMaker"]) == ("sell", "USDT", "taker")
        balance = await exchange.fetch_balance()
        assert balance["ETH"]["total"] > 0 < balance["BTC"]["free"]
        await exchange.create_order("SOL/USDT:USDT", "market", "buy", 1)
        await exchange.create_order("BTC/USDT:USDT", "market", "sell", 0.001)
        positions = await exchange.fetch_positions()
        assert {(one["symbol"], one["side"]) for one in positions} == {
            ("SOL/USDT:USDT", "long"), ("BTC/USDT:USDT", "short"),
        }  # fmt: skip
        book = await exchange.watch_order_book("ETH/USDT", 50)
        assert book["bids"][0][0] < book["asks"][0][0]
        assert (await exchange.watch_ticker("ETH/USDT"))["last"] > 0

    judge(venue, use)


def test_spot_streams_are_its_own(venue: JudgedVenue) -> None:
    stream, books = Stream(venue, category="spot"), Inbox()
    stream.orderbook_stream(50, "ETHUSDT", books)
    first = books.take()["data"]
    moved = books.take(lambda message: message["data"]["u"] > first["u"])["data"]
    client = http(venue)
    eventually(lambda: best(client, **SPOT), lambda found: abs(found[0] - D(moved["b"][0][0])) < 50)
    linear_bid = best(client, category="linear", symbol="ETHUSDT")[0]
    assert D(moved["b"][0][0]) != linear_bid
    stream.exit()
