"""Binance, OKX and Bitget behind ccxt: its own requests and its own parsing, against answers in their shapes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.capture import read_events
from bot.domain.events import BookSnapshot, Filled, OrderStatus
from bot.domain.instrument import Instrument
from bot.domain.intent import AmendOrder, CancelOrder, PlaceOrder
from bot.domain.order import Side
from bot.venues.ccxt.adapter import CcxtAdapter
from bot.venues.ccxt.capabilities import CAPABILITIES
from bot.venues.port import Accepted, Outcome, Refused, Unknown, Unreachable, VenueError, VenueGarbled, VenueRefused
from tests.support.bot_rig import DEMO_SETTINGS, ROOT
from tests.support.other_venues import StandIn, stand_in

pytestmark = pytest.mark.integration

EXCHANGES = ("binance", "okx", "bitget")
CREATE = {
    "binance": "/fapi/v1/order",
    "okx": "/api/v5/trade/batch-orders",
    "bitget": "/api/v2/mix/order/place-order",
}
CANCEL = {
    "binance": ("DELETE", "/fapi/v1/order"),
    "okx": ("POST", "/api/v5/trade/cancel-order"),
    "bitget": ("POST", "/api/v2/mix/order/cancel-order"),
}
Use = Callable[[CcxtAdapter, Instrument], Awaitable[Any]]


@pytest.fixture(params=EXCHANGES)
def venue(request: pytest.FixtureRequest) -> Iterator[StandIn]:
    with stand_in(request.param) as running:
        yield running


def using(venue: StandIn, use: Use) -> Any:
    """What `use` gives, with an adapter of the venue and the instrument it listed."""

    async def run() -> Any:
        adapter = CcxtAdapter(
            venue.exchange, time.time_ns, rest_url=venue.url, apiKey="key", secret="c2VjcmV0", password="pass"
        )
        try:
            listed = await adapter.instruments(["BTCUSDT"])
            return await use(adapter, listed["BTCUSDT"])
        finally:
            await adapter.close()

    return asyncio.run(run())


def place(adapter: CcxtAdapter, instrument: Instrument) -> Awaitable[Outcome]:
    lots = instrument.lots(Decimal("0.01"))
    return adapter.place(PlaceOrder(1, "slwq-1-7", "BTCUSDT", Side.BUY, 99_900, lots, 1), instrument)


def cancel(adapter: CcxtAdapter, instrument: Instrument) -> Awaitable[Outcome]:
    return adapter.cancel(CancelOrder(1, "slwq-1-7", "BTCUSDT"))


def test_filters_books_and_the_clock_are_read_exactly(venue: StandIn) -> None:
    async def use(adapter: CcxtAdapter, instrument: Instrument) -> Any:
        return instrument, await adapter.top_of_book("BTCUSDT"), await adapter.server_time_ms()

    instrument, top, now_ms = using(venue, use)
    lot = {"binance": "0.001", "okx": "0.0001", "bitget": "0.0001"}[venue.exchange]
    assert (instrument.tick_size, instrument.lot_size) == (Decimal("0.1"), Decimal(lot))
    # as text 9999.9 sorts above 10000.1, as a number below
    assert (top.bid, top.ask) == (Decimal("9999.9"), Decimal("10000.1"))
    assert now_ms == 1_780_000_000_000


def test_an_order_is_post_only_carries_our_id_and_counts_as_the_venue_counts(venue: StandIn) -> None:
    outcome = using(venue, place)
    assert isinstance(outcome, Accepted)
    assert outcome.venue_order_id
    (sent,) = [one for one in venue.requests if one.path == CREATE[venue.exchange]]
    fields = sent.fields if venue.exchange != "okx" else json.loads(next(iter(sent.fields)))[0]
    expected = {
        "binance": {"newClientOrderId": "slwq-1-7", "timeInForce": "GTX", "quantity": "0.01", "price": "9990"},
        # a contract of OKX is 0.01 BTC
        "okx": {"clOrdId": "slwqZ1Z7", "ordType": "post_only", "sz": "1", "px": "9990"},
        "bitget": {"clientOid": "slwq-1-7", "force": "post_only", "size": "0.01", "price": "9990"},
    }[venue.exchange]
    assert {name: fields[name] for name in expected} == expected


REFUSALS: dict[str, dict[str, tuple[int, Any]]] = {
    "binance": {
        "post_only": (400, {"code": -5022, "msg": "Due to the order could not be executed as maker, the Post Only order"
                                                  " will be rejected. The order will not be recorded."}),
        "refused": (400, {"code": -2019, "msg": "Margin is insufficient."}),
        "duplicate": (400, {"code": -4116, "msg": "ClientOrderId is duplicated."}),
        "unknown": (503, {"code": -1007, "msg": "Timeout waiting for response from backend server. Send status"
                                                " unknown; execution status unknown."}),
        "clock": (400, {"code": -1021, "msg": "Timestamp for this request is outside of the recvWindow."}),
        "gone": (400, {"code": -2011, "msg": "Unknown order sent."}),
        "new_code": (400, {"code": -9999, "msg": "Something nobody has seen."}),
    },
    "okx": {
        "refused": (200, {"code": "1", "msg": "", "data": [{"clOrdId": "", "ordId": "", "tag": "", "sCode": "51008",
                    "sMsg": "Order failed. Insufficient USDT balance in account"}]}),
        "duplicate": (200, {"code": "1", "msg": "", "data": [{"ordId": "", "sCode": "51016",
                      "sMsg": "Client order ID already exists."}]}),
        "unknown": (200, {"code": "50004", "msg": "API endpoint request timeout ", "data": []}),
        "clock": (401, {"code": "50102", "msg": "Timestamp request expired", "data": []}),
        "gone": (200, {"code": "1", "msg": "", "data": [{"ordId": "", "sCode": "51400",
                 "sMsg": "Cancellation failed as the order has been filled, canceled or does not exist"}]}),
        "new_code": (200, {"code": "99999", "msg": "Something nobody has seen.", "data": []}),
    },
    "bitget": {
        "refused": (400, {"code": "40762", "msg": "The order amount exceeds the balance", "requestTime": 1}),
        "duplicate": (400, {"code": "40786", "msg": "Duplicate clientOid", "requestTime": 1}),
        "unknown": (400, {"code": "40725", "msg": "service return an error", "requestTime": 1}),
        "clock": (400, {"code": "40008", "msg": "Request timestamp expired", "requestTime": 1}),
        "gone": (400, {"code": "40768", "msg": "Order does not exist", "requestTime": 1}),
        "new_code": (400, {"code": "99999", "msg": "Something nobody has seen.", "requestTime": 1}),
    },
}  # fmt: skip


def test_a_create_is_refused_only_where_the_venue_said_so(venue: StandIn) -> None:
    cases = REFUSALS[venue.exchange]

    async def use(adapter: CcxtAdapter, instrument: Instrument) -> dict[str, Outcome]:
        found: dict[str, Outcome] = {}
        for case, (status, answer) in cases.items():
            venue.say("POST", CREATE[venue.exchange], answer, status)
            found[case] = await place(adapter, instrument)
        return found

    outcomes = using(venue, use)
    refused = {case: one.post_only for case, one in outcomes.items() if isinstance(one, Refused)}
    assert refused == {case: case == "post_only" for case in cases if case in ("post_only", "refused")}
    unknown = {case for case, one in outcomes.items() if isinstance(one, Unknown)}
    assert unknown == {"duplicate", "unknown", "clock", "gone", "new_code"}
    assert all(one.code for one in outcomes.values())


def test_a_cancel_of_an_order_already_gone_is_a_success(venue: StandIn) -> None:
    status, answer = REFUSALS[venue.exchange]["gone"]
    venue.say(*CANCEL[venue.exchange], answer, status)
    assert using(venue, cancel) == Accepted(gone=True)


def test_an_answer_that_says_nothing_of_the_order_is_unknown(venue: StandIn) -> None:
    bodies = [(502, b"<html>Bad Gateway</html>"), (200, b"not json"), (200, b"{}"), (429, b"{}")]

    async def use(adapter: CcxtAdapter, instrument: Instrument) -> list[Outcome]:
        found = []
        for status, body in bodies:
            venue.say("POST", CREATE[venue.exchange], body, status)
            venue.say(*CANCEL[venue.exchange], body, status)
            found += [await place(adapter, instrument), await cancel(adapter, instrument)]
        venue.say("DELETE", "/fapi/v1/allOpenOrders", b"not json")
        venue.say("POST", "/api/v2/mix/order/batch-cancel-orders", b"not json")
        if adapter.capabilities.cancels_all:
            found.append(await adapter.cancel_all("BTCUSDT"))
        return found

    assert [type(one) for one in using(venue, use) if not isinstance(one, Unknown)] == []


def test_a_venue_that_is_not_there_was_not_reached() -> None:
    for exchange in EXCHANGES:
        with stand_in(exchange) as venue:

            async def use(adapter: CcxtAdapter, instrument: Instrument) -> Outcome:
                adapter._library.urls["api"] = _nowhere(adapter._library.urls["api"])
                return await place(adapter, instrument)

            assert isinstance(using(venue, use), Unreachable)


def _nowhere(urls: Any) -> Any:
    return {name: _nowhere(one) for name, one in urls.items()} if isinstance(urls, dict) else "http://127.0.0.1:9/x"


def test_reads_are_empty_or_flat_only_where_the_venue_answered(venue: StandIn) -> None:
    async def use(adapter: CcxtAdapter, instrument: Instrument) -> Any:
        return await adapter.position("BTCUSDT"), await adapter.open_orders("BTCUSDT", instrument)

    position, orders = using(venue, use)
    assert (position.qty, orders) == (Decimal(0), [])
    for method, path in (("GET", one.path) for one in list(venue.requests) if "osition" in one.path):
        venue.say(method, path, b"<html></html>", 503)
    with pytest.raises(VenueError):
        using(venue, use)


def test_executions_and_fees_come_exactly(venue: StandIn) -> None:
    async def use(adapter: CcxtAdapter, instrument: Instrument) -> Any:
        return await adapter.executions("BTCUSDT", 0, instrument), await adapter.fee_rates("BTCUSDT"), instrument

    (fill,), fees, instrument = using(venue, use)
    assert isinstance(fill, Filled)
    assert (fill.price, instrument.qty(fill.qty_lots), fill.is_maker) == (Decimal("10000.1"), Decimal("0.002"), True)
    assert fill.fee_quote == Decimal("0.00400004")
    assert (fill.side, fill.venue_order_id) == (Side.SELL, "22542179")
    taker = {"binance": "4", "okx": "5", "bitget": "6"}[venue.exchange]
    assert (fees.maker_bps, fees.taker_bps) == (Decimal(2), Decimal(taker))


def test_post_only_refusals_that_are_told_afterwards_are_known_as_such() -> None:
    ended = {
        "binance": ("/fapi/v1/order", {
            "orderId": 1, "symbol": "BTCUSDT", "status": "EXPIRED", "clientOrderId": "slwq-1-7", "price": "9990.0",
            "avgPrice": "0", "origQty": "0.010", "executedQty": "0", "cumQuote": "0", "timeInForce": "GTX",
            "type": "LIMIT", "side": "BUY", "time": 1_780_000_000_000,
        }),
        "okx": ("/api/v5/trade/order", {"code": "0", "msg": "", "data": [{
            "instType": "SWAP", "instId": "BTC-USDT-SWAP", "ordId": "1", "clOrdId": "slwqZ1Z7", "px": "9990", "sz": "1",
            "accFillSz": "0", "fillSz": "0", "side": "buy", "ordType": "post_only", "state": "canceled",
            "cancelSource": "31", "cTime": "1780000000000", "uTime": "1780000000000", "feeCcy": "USDT", "fee": "0",
        }]}),
    }  # fmt: skip
    for exchange, (path, answer) in ended.items():
        with stand_in(exchange) as venue:
            venue.say("GET", path, answer)
            order = using(venue, lambda adapter, instrument: adapter.order("BTCUSDT", "slwq-1-7", instrument))
        assert order.client_order_id == "slwq-1-7"
        assert (order.status, order.post_only_refused) == (OrderStatus.REJECTED, True)


def test_what_a_venue_lacks_is_said_by_its_capabilities(venue: StandIn) -> None:
    capabilities = CAPABILITIES[venue.exchange]

    async def use(adapter: CcxtAdapter, instrument: Instrument) -> Any:
        with pytest.raises(VenueRefused) as refused:
            await adapter.start(lambda _event: None)
        amended = (
            await adapter.amend(AmendOrder(1, "slwq-1-7", "BTCUSDT", 99_910, 1, 1), instrument)
            if (not capabilities.amends)
            else None
        )
        return str(refused.value), amended

    said, amended = using(venue, use)
    assert f"{venue.exchange}: not certified: no order is sent" in said
    assert f"{venue.exchange}: no private stream" in said
    assert capabilities.amends or isinstance(amended, Refused)


def test_an_id_that_a_venue_cannot_take_is_refused_before_it_is_sent() -> None:
    okx = CAPABILITIES["okx"]
    assert okx.id_here(okx.id_there("slwq-12-345")) == "slwq-12-345"
    assert okx.id_here("someZone") == "someZone"
    for wrong in ("slwq_1_7", "slwZ-1-7", "slwq-1-" + "7" * 30):
        with pytest.raises(ValueError, match="okx: client order id"):
            okx.id_there(wrong)


def test_a_book_off_the_grid_or_of_words_names_the_field() -> None:
    with stand_in("binance") as venue:
        for bids, field in (([["9999.95", "1"]], "bids.price"), ([["9999.9", "-1"]], "bids.amount")):
            venue.say("GET", "/fapi/v1/depth", {"lastUpdateId": 7, "T": 1, "bids": bids, "asks": [["10000.1", "1"]]})
            with pytest.raises(VenueGarbled, match=field):
                using(venue, lambda adapter, _: adapter.top_of_book("BTCUSDT"))


def bot(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bot", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def hosts(venue: StandIn) -> dict[str, str]:
    nowhere = "ws://127.0.0.1:9"
    return {
        "PATH": os.environ["PATH"],
        "MM_VENUE_REST_URL": venue.url,
        "MM_VENUE_WS_PUBLIC_URL": nowhere,
        "MM_VENUE_WS_PRIVATE_URL": nowhere,
        "MM_VENUE_WS_TRADE_URL": nowhere,
    }


def test_shadow_runs_on_its_public_data_and_sends_nothing(venue: StandIn) -> None:
    sizes = ("--edge-threshold", "0.1", "--max-inv", "500", "--max-total", "2000", "--settings", str(DEMO_SETTINGS))
    done = bot(hosts(venue), "run", "--shadow", "--network", "--exchange", venue.exchange, "--iterations", "4", *sizes)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert report["execution"]["iterations"] >= 4
    assert report["orders"]["placed"] >= 2
    assert {one.method for one in venue.requests} == {"GET"}
    assert not [one for one in venue.requests if "order" in one.path and "book" not in one.path]


def test_its_public_data_is_recorded_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "okx.gz"
    with stand_in("okx") as venue:
        done = bot(hosts(venue), "record", str(path), "--exchange", "okx", "--duration-s", "12")
    assert done.returncode == 0, done.stderr
    books = [event for event in read_events(path) if isinstance(event, BookSnapshot)]
    assert len(books) >= 2
    assert books[0].bids[0] == (99_999, 15_000)


@pytest.mark.parametrize("mode", ["testnet", "live"])
def test_orders_there_are_refused_in_one_line_before_a_key_is_read(mode: str) -> None:
    environment = {"PATH": os.environ["PATH"], "MM_LIVE_ENABLE": "1"}
    done = bot(environment, "run", "--network", f"--{mode}", "--exchange", "okx", "--durable-state")
    assert done.returncode == 2
    assert done.stderr == (
        f"mm-bot: flag --exchange: exchange 'okx' is not certified for mode {mode}; allowed there: bybit,"
        " the others with --shadow --network\n"
    )


def test_a_bot_on_bybit_never_loads_the_library() -> None:
    code = (
        "import sys, bot.assembly_paper, bot.paper_port, bot.venues.bybit.public_feed, bot.running_paper;"
        "print([name for name in ('ccxt', 'bot.venues.ccxt') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
