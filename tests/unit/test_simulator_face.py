"""The venue's Bybit V5 face without a socket: every code can come, buckets, batches, addresses, lost connections."""

from __future__ import annotations

import hashlib
import hmac
import json
from decimal import Decimal
from typing import Any

import pytest

from bot.simulator.bybit import V5, Answer, Request
from bot.simulator.bybit_access import AddressLimits
from bot.simulator.bybit_sockets import PrivateSession, TradeSession
from bot.simulator.exchange import Exchange
from bot.simulator.listings import GENERATED, LISTINGS, exchange_of, generated
from bot.simulator.market import GeneratedMarket
from bot.simulator.venue import Venue

S = 1_000_000_000
NOW_NS = 1_700_000_000 * S
CODES = """
10001 10003 10004 10005 10010 10029 110003 110004 110007 110012 110017 110020 110094 170131 170132 170133 170134 170135
170136 170137 170140 170218 110001 110008 110010 170139 170142 170143 170190 170213 110072 170141 10000 10006 10016
10019 10403 10429 110079 170001 170005 170007 170032 170146 170147 20003 20006 500000 10002 110066 110074 30228 10024
10027 33004
"""


class Desk:
    """A face with one account; `at_ns` is its clock."""

    def __init__(self) -> None:
        self.venue = Venue(GENERATED, GeneratedMarket(3), seed=3, now_ns=NOW_NS)
        self.account = self.venue.open_account("key", "secret", Decimal(100_000), NOW_NS)
        self.face = V5(Exchange((self.venue,)))
        self.at_ns = NOW_NS
        self.orders = 0

    def terms(self) -> dict[str, Any]:
        self.orders += 1
        return {
            "category": "linear", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.010",
            "price": "55000", "timeInForce": "PostOnly", "orderLinkId": f"order-{self.orders}",
        }  # fmt: skip

    def post(self, path: str, **body: Any) -> Answer:
        raw, stamp = json.dumps(body).encode(), str(self.at_ns // 1_000_000)
        sign = hmac.new(b"secret", (stamp + "key").encode() + raw, hashlib.sha256).hexdigest()
        headers = {"x-bapi-api-key": "key", "x-bapi-timestamp": stamp, "x-bapi-sign": sign}
        return self.face.answer(Request("POST", path, "", raw, headers), self.at_ns)

    def code(self, path: str, **body: Any) -> int:
        return json.loads(self.post(path, **body).body)["retCode"]

    def private(self, keeps: str = "dcp.future") -> tuple[PrivateSession, list[dict[str, Any]]]:
        """An authenticated private connection that keeps the account's orders, and what it was sent."""
        sent: list[dict[str, Any]] = []
        session = PrivateSession("c", lambda text: sent.append(json.loads(text)), self.face)
        expires = self.at_ns // 1_000_000 + 1_000
        sign = hmac.new(b"secret", f"GET/realtime{expires}".encode(), hashlib.sha256).hexdigest()
        for number, frame in enumerate(
            ({"op": "auth", "args": ["key", expires, sign]}, {"op": "subscribe", "args": ["order", keeps]})
        ):
            session.receive(json.dumps({**frame, "req_id": number}), self.at_ns)
        assert [(one["success"], one["req_id"]) for one in sent] == [(True, "0"), (True, "1")]
        return session, sent


@pytest.mark.parametrize("code", [int(word) for word in CODES.split()])
def test_every_code_can_answer_every_kind_of_order_request_and_nothing_happens(code: int) -> None:
    desk = Desk()
    kept = desk.terms()
    assert desk.code("/v5/order/create", **kept) == 0
    for request in ("create", "amend", "cancel", "cancel-all"):
        desk.venue.arm("refuse", desk.account.name, {"request": request, "code": code}, desk.at_ns)
    named = {"category": "linear", "symbol": "BTCUSDT", "orderLinkId": kept["orderLinkId"]}
    assert desk.code("/v5/order/create", **desk.terms()) == code
    assert desk.code("/v5/order/amend", **named, qty="0.020") == code
    assert desk.code("/v5/order/cancel", **named) == code
    assert desk.code("/v5/order/cancel-all", category="linear", symbol="BTCUSDT") == code
    (order,) = desk.account.open_orders.values()
    assert (order.link_id, order.qty_lots) == (kept["orderLinkId"], 10)
    assert desk.code("/v5/order/cancel", **named) == 0


@pytest.mark.parametrize("status", [403, 429, 500, 502, 503, 504])
def test_an_http_error_has_no_json_and_does_nothing(status: int) -> None:
    desk = Desk()
    desk.venue.arm("http_error", desk.account.name, {"status": status}, desk.at_ns)
    answer = desk.post("/v5/order/create", **desk.terms())
    assert (answer.status, answer.body, len(desk.account.open_orders)) == (status, b"", 0)
    assert desk.code("/v5/order/create", **desk.terms()) == 0


def test_an_empty_bucket_says_when_it_is_full_again_and_is_then() -> None:
    desk = Desk()
    left = [desk.post("/v5/order/create", **desk.terms()).headers["X-Bapi-Limit-Status"] for _ in range(10)]
    assert left == [str(number) for number in range(9, -1, -1)]
    refused = desk.post("/v5/order/create", **desk.terms())
    assert json.loads(refused.body)["retCode"] == 10006
    assert desk.code("/v5/order/cancel-all", category="linear", symbol="BTCUSDT") == 0
    desk.at_ns = int(refused.headers["X-Bapi-Limit-Reset-Timestamp"]) * 1_000_000
    assert desk.code("/v5/order/create", **desk.terms()) == 0


def test_a_batch_takes_from_its_own_bucket_and_goes_as_far_as_that_reaches() -> None:
    desk = Desk()
    assert [desk.code("/v5/order/create", **desk.terms()) for _ in range(10)] == [0] * 10
    first = desk.post("/v5/order/create-batch", category="linear", request=[desk.terms() for _ in range(8)])
    assert (first.headers["X-Bapi-Limit-Status"], len(desk.account.open_orders)) == ("2", 18)
    second = json.loads(
        desk.post("/v5/order/create-batch", category="linear", request=[desk.terms() for _ in range(3)]).body
    )
    assert second["retCode"] == 0
    assert [end["code"] for end in second["retExtInfo"]["list"]] == [0, 0, 10006]
    assert [bool(row["createAt"]) for row in second["result"]["list"]] == [True, True, False]
    assert desk.code("/v5/order/create-batch", category="linear", request=[desk.terms()]) == 10006
    desk.at_ns += S
    assert desk.code("/v5/order/create-batch", category="linear", request=["no order"]) == 10001


def test_an_address_past_its_limit_is_out_for_ten_minutes() -> None:
    limits = AddressLimits(600)
    assert all(limits.admit_request("a", NOW_NS) for _ in range(600))
    assert limits.admit_request("b", NOW_NS)
    assert not limits.admit_request("a", NOW_NS + 4 * S)
    assert not limits.admit_socket("a", NOW_NS + 6 * S)
    assert not limits.admit_request("a", NOW_NS + 603 * S)
    assert limits.admit_request("a", NOW_NS + 604 * S)
    assert all(limits.admit_socket("b", NOW_NS) for _ in range(500))
    assert not limits.admit_socket("b", NOW_NS + 299 * S)
    assert all(AddressLimits(0).admit_request("a", NOW_NS) for _ in range(1000))


def test_orders_go_a_window_after_the_last_connection_that_kept_them() -> None:
    desk = Desk()
    path = "/v5/order/disconnected-cancel-all"
    assert desk.code(path, product="DERIVATIVES", timeWindow=10) == 0
    assert [desk.code(path, product="DERIVATIVES", timeWindow=window) for window in (2, 301, "10")] == [10001] * 3
    first, second = desk.private()[0], desk.private()[0]
    assert desk.code("/v5/order/create", **desk.terms()) == 0
    first.closed(desk.at_ns)
    assert desk.face.dcp.next_at_ns() is None
    second.closed(desk.at_ns)
    second.closed(desk.at_ns)
    assert desk.face.dcp.next_at_ns() == desk.at_ns + 10 * S
    third = desk.private()[0]
    desk.face.dcp.cancel_due(desk.at_ns + 20 * S)
    assert len(desk.account.open_orders) == 1
    third.closed(desk.at_ns + 20 * S)
    desk.face.dcp.cancel_due(desk.at_ns + 29 * S)
    assert len(desk.account.open_orders) == 1
    desk.face.dcp.cancel_due(desk.at_ns + 30 * S)
    assert len(desk.account.open_orders) == 0


def test_the_topic_of_spot_keeps_spot_orders_and_no_others() -> None:
    desk = Desk()
    eth = LISTINGS["spot", "ETHUSDT"].instrument
    exchange = exchange_of([GENERATED, eth], generated, seed=5, now_ns=NOW_NS)
    holder = exchange.open_account("key", "secret", Decimal(100_000), NOW_NS)
    desk.face = V5(exchange)
    path = "/v5/order/disconnected-cancel-all"
    assert desk.code(path, product="SPOT", timeWindow=5) == 0
    session, _ = desk.private("dcp.spot")
    spot = {**desk.terms(), "category": "spot", "symbol": "ETHUSDT", "qty": "0.1", "price": "2000"}
    assert (desk.code("/v5/order/create", **spot), desk.code("/v5/order/create", **desk.terms())) == (0, 0)
    session.closed(desk.at_ns)
    assert desk.face.dcp.next_at_ns() == desk.at_ns + 5 * S
    desk.face.dcp.cancel_due(desk.at_ns + 5 * S)
    standing = [order.link_id for account in holder.accounts for order in account.open_orders.values()]
    assert standing == ["order-2"]


def test_without_a_window_a_lost_connection_cancels_nothing() -> None:
    desk = Desk()
    session, _ = desk.private()
    assert desk.code("/v5/order/create", **desk.terms()) == 0
    session.closed(desk.at_ns)
    assert desk.face.dcp.next_at_ns() is None


def test_the_trade_socket_refuses_who_is_not_known_and_what_it_does_not_know() -> None:
    desk = Desk()
    sent: list[dict[str, Any]] = []
    session = TradeSession("c", lambda text: sent.append(json.loads(text)), desk.face, lambda: None)
    header = {"X-BAPI-TIMESTAMP": desk.at_ns // 1_000_000}
    for frame in ({"op": "order.create", "args": [desk.terms()]}, {"op": "order.burn"}):
        session.receive(json.dumps({**frame, "reqId": 7, "header": header}), desk.at_ns)
    session.receive("no json", desk.at_ns)
    assert [(one["retCode"], one["reqId"]) for one in sent] == [(10005, "7"), (10404, "7"), (10001, "")]
    assert desk.account.open_orders == {}
