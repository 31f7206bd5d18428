"""Whatever a client sends, the venue answers: no request and no message of any socket ends in an exception."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlencode

import pytest

from bot.simulator import bybit_batches
from bot.simulator.bybit import PRIVATE, PUBLIC, TRADE_OPERATIONS, V5, Request
from bot.simulator.bybit_sockets import PrivateSession, PublicSession, Session, TradeSession
from bot.simulator.listings import LISTINGS, exchange_of, generated

NOW_NS: Final = 1_700_000_000_000_000_000
NOW_MS: Final = NOW_NS // 1_000_000
LONG: Final = "9" * 5_000
ODD: Final[tuple[Any, ...]] = (
    *(None, True, 0, -1, 1.5, 2**63, 10**40, "", " ", "0", "-1", "NaN", "Infinity", "1E+999999", "1E-999999", LONG),
    *(
        "abc",
        "１２",
        "²",
        "\x00",
        [],
        {},
        [[]],
        {"a": 1},
        "linear",
        "spot",
        "inverse",
        "BTCUSDT",
        f"page_token%3D{LONG}",
    ),
)
USUAL: Final[dict[str, Any]] = {
    "category": "linear", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.010", "price": "55000",
    "timeInForce": "PostOnly", "orderLinkId": "a-1", "orderId": "x", "limit": "10", "cursor": "", "startTime": "1",
    "endTime": "9999999999999", "settleCoin": "USDT", "baseCoin": "BTC", "openOnly": "1", "orderFilter": "Order",
    "accountType": "UNIFIED", "coin": "USDT", "product": "DERIVATIVES", "timeWindow": 10, "execType": "Trade",
    "reduceOnly": False, "positionIdx": 0, "smpType": "None", "request": [{"symbol": "BTCUSDT", "orderLinkId": "b-1"}],
}  # fmt: skip
HEADERS: Final = ("x-bapi-api-key", "x-bapi-timestamp", "x-bapi-recv-window", "x-bapi-sign")
NO_TEXT: Final = "\udcff"
"""What a byte that is no UTF-8 becomes in a header."""


def signed(text: str) -> str:
    return hmac.new(b"secret", text.encode(errors="replace"), hashlib.sha256).hexdigest()


class Client:
    """Draws requests and messages that are nearly right, under one seed, each at a moment of its own."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        instruments = [listed.instrument for listed in LISTINGS.values()]
        exchange = exchange_of(instruments, generated, seed=3, now_ns=NOW_NS)
        exchange.open_account("key", "secret", Decimal(100_000), NOW_NS)
        self.face = V5(exchange)
        self.now_ns = NOW_NS
        self.paths = [*PUBLIC, *PRIVATE, *(("POST", path) for path in bybit_batches.OF_ONE)]
        self.paths += [("POST", "/v5/order/disconnected-cancel-all"), ("GET", "/v5/account/info")]
        self.sent: list[str] = []

    def sessions(self) -> list[Session]:
        """One of each kind; those that can be are authenticated."""
        known = [
            PrivateSession("c", self.sent.append, self.face),
            TradeSession("c", self.sent.append, self.face, lambda: None),
        ]
        expires = NOW_MS + 10**9
        for session in known:
            auth = {"op": "auth", "args": ["key", expires, signed(f"GET/realtime{expires}")]}
            session.receive(json.dumps(auth), self.now_ns)
        return [*known, PublicSession("c", self.sent.append, lambda topic: "." in topic, lambda *_: None)]

    def terms(self) -> dict[str, Any]:
        terms = dict(USUAL)
        for _ in range(self.draw.choice((1, 1, 2, 4))):
            name = self.draw.choice(list(terms))
            if self.draw.random() < 0.3:
                del terms[name]
            else:
                terms[name] = self.draw.choice(ODD)
        return terms

    def request(self) -> Request:
        self.now_ns += 2_000_000_000
        method, path = self.draw.choice(self.paths)
        terms, stamp = self.terms(), str(self.now_ns // 1_000_000)
        body = json.dumps(terms) if method == "POST" else ""
        query = urlencode(terms) if method == "GET" else ""
        headers = {
            "x-bapi-api-key": "key",
            "x-bapi-timestamp": stamp,
            "x-bapi-sign": signed(f"{stamp}key{query}{body}"),
        }
        if self.draw.random() < 0.1:
            headers[self.draw.choice(HEADERS)] = self.draw.choice((NO_TEXT, LONG, "", "²", "-1"))
        return Request(method, path, query, body.encode(), headers)

    def message(self) -> str:
        draw, stamp = self.draw, str(self.now_ns // 1_000_000)
        op = draw.choice(("auth", "subscribe", "unsubscribe", "ping", "x", *TRADE_OPERATIONS))
        args = draw.choice(
            (
                [self.terms()],
                ["key", LONG, "x"],
                [NO_TEXT, 1, 2],
                ["key", "²", "x"],
                ["orderbook.50.BTCUSDT"],
                [None],
                [],
            )
        )
        header = {
            "X-BAPI-TIMESTAMP": draw.choice((stamp, LONG, "²")),
            "X-BAPI-RECV-WINDOW": draw.choice(("5000", LONG)),
        }
        number = draw.choice((1, "a", "", None, 10**40))
        text = json.dumps({"op": op, "args": args, "reqId": number, "req_id": number, "header": header})
        return text if draw.random() < 0.9 else text[: draw.randrange(len(text))] + draw.choice(("", NO_TEXT))


@pytest.mark.parametrize("seed", range(4))
def test_every_request_is_answered(seed: int) -> None:
    client, codes = Client(seed), set()
    for _ in range(700):
        request = client.request()
        answer = client.face.answer(request, client.now_ns)
        assert answer.status == 200, request
        codes.add(json.loads(answer.body)["retCode"])
    assert {0, 10001, 10003, 10004} <= codes


@pytest.mark.parametrize("seed", range(4))
def test_every_message_is_taken(seed: int) -> None:
    client = Client(seed)
    sessions = client.sessions()
    for _ in range(700):
        client.now_ns += 100_000_000
        text = client.message()
        for session in sessions:
            session.receive(text, client.now_ns)
    assert len(client.sent) > 1_000
