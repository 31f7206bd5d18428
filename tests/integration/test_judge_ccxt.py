"""ccxt judges the simulated venue: what its own parsing makes of our answers and streams is what is checked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import ccxt
import pytest
from ccxt.pro import bybit as Bybit

from tests.support.ccxt_client import MARKET, WINDOW_MS, client, judge
from tests.support.judged_venue import DEADLINE_S, JudgedVenue, Key

pytestmark = pytest.mark.integration

FAR = 600.0
"""So far from the touch that nothing trades there, quote per base."""


async def _touch(exchange: Bybit) -> tuple[float, float]:
    book = await exchange.fetch_order_book(MARKET, 1)
    return book["bids"][0][0], book["asks"][0][0]


async def _resting(exchange: Bybit, link_id: str) -> tuple[str, float]:
    """A new post-only buy of 0.01 far from the touch: its id and price."""
    bid, _ = await _touch(exchange)
    made = await exchange.create_order(
        MARKET, "limit", "buy", 0.01, bid - FAR, {"postOnly": True, "clientOrderId": link_id}
    )
    return made["id"], round(bid - FAR, 1)


async def _until(read: Callable[[], Awaitable[Any]], wanted: Callable[[Any], bool]) -> Any:
    async with asyncio.timeout(DEADLINE_S):
        while not wanted(found := await read()):
            pass  # the read is the wait
        return found


def test_the_market_it_loads_has_our_steps_bounds_and_settlement(judged_venue: JudgedVenue) -> None:
    async def use(exchange: Bybit, key: Key) -> None:
        assert list(await exchange.load_markets()) == [MARKET]
        market = exchange.market(MARKET)
        assert (market["swap"], market["linear"], market["active"], market["settle"]) == (True, True, True, "USDT")
        assert market["precision"] == {"amount": 0.001, "price": 0.1}
        assert (market["limits"]["amount"], market["contractSize"]) == ({"min": 0.001, "max": 100.0}, 1.0)
        assert {"BTC", "USDT"} <= set(exchange.currencies)
        assert abs(await exchange.fetch_time() - exchange.milliseconds()) < DEADLINE_S * 1000

    judge(judged_venue, use)


def test_book_ticker_and_trades_agree_with_one_another(judged_venue: JudgedVenue) -> None:
    async def use(exchange: Bybit, key: Key) -> None:
        book = await exchange.fetch_order_book(MARKET, 50)
        bids, asks = ([level[0] for level in book[side]] for side in ("bids", "asks"))
        assert bids == sorted(bids, reverse=True)
        assert asks == sorted(asks)
        assert bids[0] < asks[0]
        assert len(bids) == len(asks) == 50
        trades = await _until(lambda: exchange.fetch_trades(MARKET, limit=1000), bool)
        ticker = await exchange.fetch_ticker(MARKET)
        assert ticker["bid"] < ticker["markPrice"] < ticker["ask"]
        assert ticker["low"] <= ticker["last"] <= ticker["high"]
        assert ticker["baseVolume"] >= trades[0]["amount"] > 0
        assert ticker["low"] * 0.999 < ticker["vwap"] < ticker["high"] * 1.001
        assert {trade["side"] for trade in trades} <= {"buy", "sell"}
        assert 0 < abs((await exchange.fetch_funding_rate(MARKET))["fundingRate"]) <= 0.0003

    judge(judged_venue, use)


def test_an_order_lives_is_amended_cancelled_and_found_in_history(judged_venue: JudgedVenue) -> None:
    async def use(exchange: Bybit, key: Key) -> None:
        order_id, price = await _resting(exchange, "life-1")
        (shown,) = await exchange.fetch_open_orders(MARKET)
        assert (shown["id"], shown["clientOrderId"], shown["status"]) == (order_id, "life-1", "open")
        assert (shown["price"], shown["amount"], shown["remaining"], shown["filled"]) == (price, 0.01, 0.01, 0.0)
        assert (shown["postOnly"], shown["reduceOnly"], shown["side"]) == (True, False, "buy")
        await exchange.edit_order(order_id, MARKET, "limit", "buy", 0.008, price - 1)
        shown = await exchange.fetch_open_order(order_id, MARKET)
        assert (shown["price"], shown["amount"]) == (price - 1, 0.008)
        assert (await exchange.cancel_order(order_id, MARKET))["id"] == order_id
        assert await exchange.fetch_open_orders(MARKET) == []
        (shown,) = await exchange.fetch_canceled_orders(MARKET)
        assert (shown["id"], shown["status"], shown["remaining"]) == (order_id, "canceled", 0.0)
        with pytest.raises(ccxt.OrderNotFound, match="110001"):
            await exchange.cancel_order(order_id, MARKET)
        with pytest.raises(ccxt.InvalidOrder, match="110072"):
            await _resting(exchange, "life-1")

    judge(judged_venue, use)


def test_a_crossing_post_only_order_is_taken_and_then_ends_for_its_reason(judged_venue: JudgedVenue) -> None:
    async def use(exchange: Bybit, key: Key) -> None:
        _, ask = await _touch(exchange)
        made = await exchange.create_order(MARKET, "limit", "buy", 0.01, ask + 300, {"postOnly": True})
        (ended,) = await exchange.fetch_canceled_orders(MARKET)
        assert (ended["id"], ended["status"], ended["filled"]) == (made["id"], "canceled", 0.0)
        assert ended["info"]["rejectReason"] == "EC_PostOnlyWillTakeLiquidity"

    judge(judged_venue, use)


def test_batches_succeed_in_part_and_say_of_each_order_how_it_went(judged_venue: JudgedVenue) -> None:
    async def use(exchange: Bybit, key: Key) -> None:
        bid, _ = await _touch(exchange)

        def order(number: int) -> dict[str, Any]:
            terms = {"symbol": MARKET, "type": "limit", "side": "buy", "amount": 0.01, "price": bid - FAR - number}
            return {**terms, "params": {"clientOrderId": f"batch-{number}", "postOnly": True}}

        made = await exchange.create_orders([order(0), order(1), order(1), order(2)])
        assert [one["status"] for one in made] == [None, None, "rejected", None]
        ids = [made[place]["id"] for place in (0, 1, 3)]
        changes = [{**order(number), "id": ids[number], "amount": 0.02, "params": {}} for number in range(2)]
        assert [one["id"] for one in await exchange.edit_orders(changes)] == ids[:2]
        amounts = {one["id"]: one["amount"] for one in await exchange.fetch_open_orders(MARKET)}
        assert amounts == {ids[0]: 0.02, ids[1]: 0.02, ids[2]: 0.01}
        cancelled = await exchange.cancel_orders([ids[0], ids[0]], MARKET)
        assert [one["id"] for one in cancelled] == [ids[0], None]
        assert {one["id"] for one in await exchange.cancel_all_orders(MARKET)} == set(ids[1:])
        assert await exchange.fetch_open_orders(MARKET) == []

    judge(judged_venue, use)


def test_a_fill_shows_in_trades_position_balance_and_fees(judged_venue: JudgedVenue) -> None:
    async def use(exchange: Bybit, key: Key) -> None:
        fee = await exchange.fetch_trading_fee(MARKET)
        assert (fee["maker"], fee["taker"]) == (0.0002, 0.00055)
        made = await exchange.create_order(MARKET, "market", "buy", 0.01)
        (closed,) = await exchange.fetch_closed_orders(MARKET)
        assert (closed["id"], closed["status"], closed["filled"], closed["type"]) == (
            made["id"], "closed", 0.01, "market",
        )  # fmt: skip
        trades = await exchange.fetch_my_trades(MARKET)
        assert {(t["order"], t["side"], t["takerOrMaker"], t["fee"]["rate"]) for t in trades} == {
            (made["id"], "buy", "taker", 0.00055)
        }
        cost = sum(trade["cost"] for trade in trades)
        assert sum(trade["amount"] for trade in trades) == pytest.approx(0.01)
        assert closed["average"] == pytest.approx(cost / 0.01)
        assert closed["fee"]["cost"] == pytest.approx(cost * 0.00055)
        (position,) = await exchange.fetch_positions()
        assert (position["symbol"], position["side"], position["contracts"]) == (MARKET, "long", 0.01)
        assert position["entryPrice"] == pytest.approx(cost / 0.01)
        assert position["notional"] == pytest.approx(position["markPrice"] * 0.01)
        balance = await exchange.fetch_balance()
        assert balance["USDT"]["total"] == pytest.approx(100_000 - cost * 0.00055)
        await exchange.create_order(MARKET, "market", "sell", 0.01, None, {"reduceOnly": True})
        assert await exchange.fetch_positions() == []
        with pytest.raises(ccxt.BaseError, match="110017"):
            await exchange.create_order(MARKET, "market", "sell", 0.01, None, {"reduceOnly": True})

    judge(judged_venue, use)


def test_what_is_refused_is_raised_as_what_it_is(judged_venue: JudgedVenue) -> None:
    async def use(exchange: Bybit, key: Key) -> None:
        bid, _ = await _touch(exchange)
        with pytest.raises(ccxt.InsufficientFunds, match="110007"):
            await exchange.create_order(MARKET, "limit", "buy", 99, bid)
        with pytest.raises(ccxt.InvalidOrder, match="110094"):
            await exchange.create_order(MARKET, "limit", "buy", 0.001, 1000)
        with pytest.raises(ccxt.InvalidOrder, match="110003"):
            await exchange.create_order(MARKET, "limit", "buy", 0.001, bid * 1.2)
        judged_venue.arm("refuse_create", account=key.account, code=10016)
        with pytest.raises(ccxt.ExchangeError, match="10016"):
            await exchange.create_order(MARKET, "limit", "buy", 0.01, bid - FAR)

    judge(judged_venue, use, equity_quote="1000")


def test_a_wrong_signature_and_a_stale_clock_are_told_apart(judged_venue: JudgedVenue) -> None:
    async def use(exchange: Bybit, key: Key) -> None:
        await exchange.load_markets()
        await exchange.is_unified_enabled()
        exchange.options["timeDifference"] = 2 * WINDOW_MS
        with pytest.raises(ccxt.InvalidNonce, match="10002"):
            await exchange.fetch_balance()
        exchange.options["timeDifference"] = 0
        exchange.secret = "not-the-secret"
        with pytest.raises(ccxt.AuthenticationError, match="10004"):
            await exchange.fetch_open_orders(MARKET)
        with pytest.raises(ccxt.AuthenticationError, match="Invalid sign"):
            await exchange.watch_orders(MARKET)
        exchange.apiKey = "not-a-key"
        with pytest.raises(ccxt.AuthenticationError, match="10003"):
            await exchange.fetch_open_orders(MARKET)

    judge(judged_venue, use)


def test_past_the_rate_it_raises_and_the_headers_say_when_to_come_back(judged_venue: JudgedVenue) -> None:
    async def use(exchange: Bybit, key: Key) -> None:
        await exchange.load_markets()
        exchange.enableRateLimit = False

        async def burst() -> list[Any]:
            calls = [exchange.fetch_trading_fee(MARKET) for _ in range(6)]
            return [one for one in await asyncio.gather(*calls, return_exceptions=True) if isinstance(one, Exception)]

        (refused, *_) = await _until(burst, bool)
        assert isinstance(refused, ccxt.RateLimitExceeded)
        assert "10006" in str(refused)
        await exchange.fetch_open_orders(MARKET)
        headers = exchange.last_response_headers
        assert headers["X-Bapi-Limit"] == "50"
        assert int(headers["X-Bapi-Limit-Status"]) < 50
        assert int(headers["X-Bapi-Limit-Reset-Timestamp"]) > int(headers["Timenow"])

    judge(judged_venue, use)


def test_public_streams_start_whole_follow_the_market_and_survive_a_cut(judged_venue: JudgedVenue) -> None:
    async def use(exchange: Bybit, key: Key) -> None:
        first = (await exchange.watch_order_book(MARKET, 50)).limit()["bids"][0]
        book = await _until(
            lambda: exchange.watch_order_book(MARKET, 50), lambda found: list(found["bids"][0]) != list(first)
        )
        assert book["bids"][0][0] < book["asks"][0][0]
        assert (await exchange.watch_ticker(MARKET))["bid"] > 0
        assert {trade["symbol"] for trade in await exchange.watch_trades(MARKET)} == {MARKET}
        socket = exchange.clients[judged_venue.ready["ws_public_url"]]
        before = socket.lastPong
        await socket.send(exchange.ping(socket))
        await _until(lambda: exchange.watch_order_book(MARKET, 50), lambda _: socket.lastPong != before)
        judged_venue.arm("disconnect", stream="public")
        with pytest.raises(ccxt.NetworkError):
            await _until(lambda: exchange.watch_order_book(MARKET, 50), lambda _: False)
        book = await exchange.watch_order_book(MARKET, 50)
        assert book["bids"][0][0] < book["asks"][0][0]

    judge(judged_venue, use)


def test_private_streams_tell_of_order_trade_position_and_balance(judged_venue: JudgedVenue) -> None:
    async def use(exchange: Bybit, key: Key) -> None:
        def positions_held() -> Awaitable[Any]:
            return _until(exchange.watch_positions, bool)  # the first are those before any order: none

        watches = (exchange.watch_orders, exchange.watch_my_trades, positions_held, exchange.watch_balance)
        told = [asyncio.ensure_future(watch()) for watch in watches]
        async with asyncio.timeout(DEADLINE_S):
            while (await asyncio.wait(told, timeout=0.3))[1]:
                await exchange.create_order(MARKET, "market", "buy", 0.001)
        orders, trades, positions, balance = (one.result() for one in told)
        assert (orders[-1]["status"], orders[-1]["filled"], orders[-1]["side"]) == ("closed", 0.001, "buy")
        assert (trades[-1]["takerOrMaker"], trades[-1]["fee"]["currency"]) == ("taker", "USDT")
        assert (positions[-1]["side"], positions[-1]["symbol"]) == ("long", MARKET)
        assert positions[-1]["entryPrice"] == pytest.approx(trades[-1]["price"], rel=0.01)
        assert 99_900 < balance["USDT"]["total"] < 100_000

        judged_venue.arm("disconnect", stream="private")
        with pytest.raises(ccxt.NetworkError):
            await _until(exchange.watch_orders, lambda _: False)
        bid, _ = await _touch(exchange)
        new = asyncio.ensure_future(exchange.watch_orders())
        async with asyncio.timeout(DEADLINE_S):
            while not (await asyncio.wait([new], timeout=0.3))[0]:  # it is told of none from before it listened
                made = await exchange.create_order(MARKET, "limit", "buy", 0.01, bid - FAR)
        assert {(order["status"], order["price"]) for order in new.result()} == {("open", bid - FAR)}
        assert made["id"] in {order["id"] for order in await exchange.fetch_open_orders(MARKET)}

    judge(judged_venue, use)


def test_what_a_key_may_do_is_shown(judged_venue: JudgedVenue) -> None:
    async def use(exchange: Bybit, key: Key) -> None:
        answer = await exchange.privateGetV5UserQueryApi()
        assert (answer["retCode"], answer["result"]["apiKey"]) == (0, key.api_key)
        assert answer["result"]["readOnly"] == 0
        permissions = answer["result"]["permissions"]
        assert set(permissions["ContractTrade"]) == {"Order", "Position"}
        assert permissions["Wallet"] == [], "it cannot withdraw"

    judge(judged_venue, use)


def test_orders_go_in_by_socket_too(judged_venue: JudgedVenue) -> None:
    async def use(exchange: Bybit, key: Key) -> None:
        bid, _ = await _touch(exchange)
        terms = {"postOnly": True, "clientOrderId": "socket-1"}
        made = await exchange.create_order_ws(MARKET, "limit", "buy", 0.01, bid - FAR, terms)
        assert made["clientOrderId"] == "socket-1"
        await exchange.edit_order_ws(made["id"], MARKET, "limit", "buy", 0.008, bid - FAR)
        assert [order["qty"] for order in judged_venue.state(key)["orders"]] == ["0.008"]
        await exchange.cancel_order_ws(made["id"], MARKET)
        assert judged_venue.state(key)["orders"] == []
        with pytest.raises(ccxt.OrderNotFound, match="110001"):
            await exchange.cancel_order_ws(made["id"], MARKET)

    judge(judged_venue, use)


def test_without_a_key_the_market_is_open_and_the_account_is_not(judged_venue: JudgedVenue) -> None:
    async def use() -> None:
        exchange = client(judged_venue)
        try:
            assert (await exchange.fetch_ticker(MARKET))["bid"] > 0
            with pytest.raises(ccxt.AuthenticationError):
                await exchange.fetch_balance()
        finally:
            await exchange.close()

    asyncio.run(use())
