"""The account client of other processes, over an in-process HTTP transport."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal

import httpx
import pytest

from bot.domain.order import Side
from bot.venues.bybit import calls
from bot.venues.bybit.account_client import AccountClient
from bot.venues.bybit.account_orders import AccountOrder
from bot.venues.bybit.hosts import BybitHosts
from bot.venues.bybit.signing import sign
from bot.venues.port import (
    ImmediateOrder,
    VenueClockSkew,
    VenueGarbled,
    VenueRefused,
    VenueUnknown,
    VenueUnreachable,
)

KEY, SECRET = "key-0123456789ab", "the-secret"
WALL_MS = 1_700_000_000_000
VENUE_AHEAD_MS = 700
OPEN_ORDER = AccountOrder("BTCUSDT", "slwq-1-1", "v-1", Side.BUY, Decimal(1), Decimal(1), Decimal(0), False)

Answer = Callable[[httpx.Request], httpx.Response]


def result(value: object, code: int = 0) -> httpx.Response:
    return httpx.Response(200, json={"retCode": code, "retMsg": "m", "result": value})


def row(n: int, status: str = "New") -> dict[str, object]:
    fixed = {"symbol": "BTCUSDT", "side": "Buy", "price": "100.05", "qty": "1", "cumExecQty": "0.5"}
    return {"orderId": f"v{n}", "orderLinkId": f"slwq-1-{n}", "orderStatus": status, **fixed}


class Venue:
    """Answers by path from a list, the last one for ever; keeps what it was asked."""

    def __init__(self, **answers: list[Answer | httpx.Response | Exception]) -> None:
        self.answers = answers
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.url.path == calls.TIME:
            return result({"timeSecond": "1", "timeNano": str((WALL_MS + VENUE_AHEAD_MS) * 1_000_000)})
        script = self.answers[request.url.path.rpartition("/")[2].replace("-", "_")]
        answer = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, renew_key: Callable[[], tuple[str, str]] | None = None) -> AccountClient:
        hosts, transport = BybitHosts("http://venue", "", "", ""), httpx.MockTransport(self)
        return AccountClient(hosts, KEY, SECRET, wall_ms=lambda: WALL_MS, http_transport=transport, renew_key=renew_key)

    def paths(self) -> list[str]:
        return [request.url.path.rpartition("/")[2] for request in self.requests]


def test_what_is_signed_is_what_is_sent_at_the_venues_time():
    venue = Venue(
        realtime=[result({"list": [row(1)], "nextPageCursor": "a%3D1%26"}), result({"list": []})],
        cancel_all=[result({"list": [{"orderId": "a"}, {"orderId": "b"}]})],
    )
    with venue.client() as client:
        client.open_orders(["BTCUSDT"])
        assert client.cancel_all("BTCUSDT") == 2
        assert client.clock_offset_ms == VENUE_AHEAD_MS
    signed = venue.requests[1:]
    assert b"cursor=a%3D1%26" in signed[1].url.query
    for request in signed:
        assert request.headers["X-BAPI-TIMESTAMP"] == str(WALL_MS + VENUE_AHEAD_MS)
        payload = request.content or request.url.query
        prefix = f"{WALL_MS + VENUE_AHEAD_MS}{KEY}5000".encode()
        assert request.headers["X-BAPI-SIGN"] == sign(SECRET, prefix + payload)


def test_without_symbols_it_asks_for_the_whole_account_by_settle_coin():
    of_usdt, of_usdc = ({"list": [{**row(1), "symbol": symbol}]} for symbol in ("SOLUSDT", "BTCPERP"))
    held = {"symbol": "SOLUSDT", "side": "Sell", "size": "3", "avgPrice": "100", "positionIdx": 0}
    venue = Venue(
        realtime=[result(of_usdt), result(of_usdc), result(of_usdt), result(of_usdc)],
        list=[result({"list": [held], "nextPageCursor": "x"}), result({"list": []})],
        cancel_all=[result({"list": [{"orderId": "a"}]})],
    )
    with venue.client() as client:
        assert [found.symbol for found in client.open_orders(())] == ["SOLUSDT", "BTCPERP"]
        assert [found.symbol for found in client.recent_orders(())] == ["SOLUSDT", "BTCPERP"]
        assert [(found.symbol, found.qty) for found in client.positions(())] == [("SOLUSDT", Decimal(-3))]
        assert client.cancel_everything() == 2
    asked = [request.url.params["settleCoin"] for request in venue.requests if "realtime" in request.url.path]
    assert asked == ["USDT", "USDC", "USDT", "USDC"]
    bodies = [json.loads(request.content) for request in venue.requests if request.content]
    assert bodies == [{"category": "linear", "settleCoin": coin} for coin in ("USDT", "USDC")]


def test_a_coin_whose_cancel_fails_keeps_no_other_from_being_cancelled_and_is_no_success():
    venue = Venue(cancel_all=[result({}, 10016), result({"list": []})])
    with venue.client() as client, pytest.raises(VenueUnknown):
        client.cancel_everything()
    assert venue.paths().count("cancel-all") == 2


def test_an_order_of_ours_is_cancelled_by_its_own_id_unseen():
    venue = Venue(cancel=[result({}), result({}, 110001)])
    with venue.client() as client:
        assert client.cancel_own("BTCUSDT", "slwq-1-1")
        assert not client.cancel_own("BTCUSDT", "slwq-1-1"), "it had ended, or never was"
    assert b'"orderLinkId":"slwq-1-1"' in venue.requests[1].content


def test_an_order_is_asked_for_by_its_id_among_the_newest_then_in_history_and_may_be_unknown():
    others, none = result({"list": [row(1, "Filled")]}), result({"list": []})
    venue = Venue(realtime=[others, others, none], history=[result({"list": [row(2, "Filled")]}), none])
    with venue.client() as client:
        found = [client.order("BTCUSDT", f"slwq-1-{n}") for n in (1, 2, 3)]
    assert [order and (order.client_order_id, order.filled) for order in found] == [
        ("slwq-1-1", Decimal("0.5")),
        ("slwq-1-2", Decimal("0.5")),
        None,
    ]
    assert venue.paths()[1:] == ["realtime", "realtime", "history", "realtime", "history"]
    asked = [request.url.params["orderLinkId"] for request in venue.requests[1:]]
    assert asked == ["slwq-1-1", "slwq-1-2", "slwq-1-2", "slwq-1-3", "slwq-1-3"]


@pytest.mark.parametrize(
    ("told", "created_ms"), [("1700000000123", 1_700_000_000_123), ("", None), ("soon", None), (17, None), (None, None)]
)
def test_when_an_order_was_created_is_read_where_it_is_told_and_hides_no_row(told, created_ms):
    venue = Venue(realtime=[result({"list": [row(1, "Filled") | {"createdTime": told}]})])
    with venue.client() as client:
        (found,) = client.recent_orders(["BTCUSDT"])
    assert found.created_ms == created_ms


def test_an_order_that_could_not_be_asked_for_is_not_one_that_is_not_there():
    venue = Venue(realtime=[result({"list": []})], history=[result({}, 10016)])
    with venue.client() as client, pytest.raises(VenueUnknown):
        client.order("BTCUSDT", "slwq-1-1")


def test_open_orders_come_from_all_pages_in_the_venues_decimals():
    venue = Venue(
        realtime=[
            result({"list": [row(1), row(2, "Filled")], "nextPageCursor": "x"}),
            result({"list": [row(3, "Sleeping")], "nextPageCursor": ""}),
        ]
    )
    orders = venue.client().open_orders(["BTCUSDT"])
    assert [order.venue_order_id for order in orders] == ["v1", "v3"]  # a status nobody knows may be working
    assert (orders[0].price, orders[0].filled) == (Decimal("100.05"), Decimal("0.5"))


def test_positions_of_every_symbol_or_an_error():
    flat = {"symbol": "BTCUSDT", "side": "", "size": "0", "avgPrice": "0"}
    assert Venue(list=[result({"list": [flat]})]).client().positions(["BTCUSDT"])[0].qty == 0
    with pytest.raises(VenueGarbled, match="no row for BTCUSDT"):
        Venue(list=[result({"list": []})]).client().positions(["BTCUSDT"])


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.ConnectError("refused"), VenueUnreachable),
        (httpx.ConnectTimeout("slow"), VenueUnreachable),
        (httpx.ReadTimeout("slow"), VenueUnknown),
        (httpx.RemoteProtocolError("cut"), VenueUnknown),
        (httpx.Response(503), VenueUnknown),
        (httpx.Response(200, text="<html>"), VenueGarbled),
        (result({}, 10003), VenueRefused),
        (result({}, 10006), VenueUnknown),
        (result({}), VenueGarbled),
    ],
)
def test_failures_are_errors_and_never_an_empty_account(answer, error):
    with pytest.raises(error):
        Venue(realtime=[answer]).client().open_orders(["BTCUSDT"])
    with pytest.raises(error):
        Venue(cancel_all=[answer]).client().cancel_all("BTCUSDT")


def test_a_read_resynchronises_after_a_refused_timestamp_and_a_mutation_is_not_sent_twice():
    venue = Venue(realtime=[result({}, 10002), result({"list": []})], create=[result({}, 10002)])
    client = venue.client()
    assert client.open_orders(["BTCUSDT"]) == []
    assert venue.paths() == ["time", "realtime", "time", "realtime"]
    order = ImmediateOrder("slwf-0-1", "BTCUSDT", Side.SELL, Decimal(1), Decimal(1))
    with pytest.raises(VenueClockSkew):
        client.place_immediate(order)
    assert venue.paths()[4:] == ["create"]


def test_a_cancel_of_an_order_that_is_gone_is_no_error_and_says_so():
    assert Venue(cancel=[result({"orderId": "v-1"})]).client().cancel(OPEN_ORDER)
    assert not Venue(cancel=[result({}, 110001)]).client().cancel(OPEN_ORDER)
    with pytest.raises(VenueRefused):
        Venue(cancel=[result({}, 10005)]).client().cancel(OPEN_ORDER)


def test_orders_are_placed_post_only_or_reduce_only_immediate():
    venue = Venue(create=[result({"orderId": "v-9"})])
    client = venue.client()
    assert client.place_post_only("BTCUSDT", Side.BUY, Decimal("0.1"), Decimal(9), "slwq-0-1") == "v-9"
    client.place_immediate(ImmediateOrder("slwf-0-1", "BTCUSDT", Side.SELL, Decimal(1), Decimal(1)))
    bodies = [json.loads(request.content) for request in venue.requests if request.method == "POST"]
    assert [(body["timeInForce"], body["reduceOnly"]) for body in bodies] == [("PostOnly", False), ("IOC", True)]


def test_no_error_carries_the_secret():
    for answer in (httpx.ReadTimeout("x"), httpx.Response(503), result({}, 10004)):
        with pytest.raises((VenueUnknown, VenueRefused)) as caught:
            Venue(realtime=[answer]).client().open_orders(["BTCUSDT"])
        assert SECRET not in str(caught.value)


def refused_key() -> httpx.Response:
    return result({}, 10003)


def test_a_refused_key_is_asked_for_anew_and_the_request_sent_once_more() -> None:
    venue = Venue(realtime=[refused_key(), result({"list": [row(1)], "nextPageCursor": ""})])
    asked: list[str] = []

    def renew() -> tuple[str, str]:
        asked.append("now")
        return "key-of-today-0123", "its-secret"

    with venue.client(renew) as client:
        assert [order.client_order_id for order in client.open_orders(["BTCUSDT"])] == ["slwq-1-1"]
        client.open_orders(["BTCUSDT"])
    assert asked == ["now"]
    signed_with = [one.headers["x-bapi-api-key"] for one in venue.requests if "x-bapi-api-key" in one.headers]
    assert signed_with == [KEY, "key-of-today-0123", "key-of-today-0123"]


def test_a_refused_key_that_is_still_the_one_there_is_stays_refused() -> None:
    venue = Venue(realtime=[refused_key()])
    with venue.client(lambda: (KEY, SECRET)) as client, pytest.raises(VenueRefused, match="10003"):
        client.open_orders(["BTCUSDT"])
    assert len([one for one in venue.requests if "x-bapi-api-key" in one.headers]) == 1


def test_another_refusal_asks_for_no_key() -> None:
    venue = Venue(realtime=[result({}, 10005)])
    with venue.client(lambda: pytest.fail("it was asked for a key")) as client, pytest.raises(VenueRefused):
        client.open_orders(["BTCUSDT"])
