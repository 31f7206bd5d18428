"""The simulated venue's sockets against golden messages: a push of every topic has their names and their JSON types.

What a client reads there it must be able to read here: a name that is missing, or a number where a string belongs, is
found out by no decoder of our own, which takes what it needs and leaves the rest.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bot.domain.instrument import Category
from bot.simulator.bybit import V5, Request
from bot.simulator.bybit_sockets import PrivateSession, PublicSession
from bot.simulator.bybit_streams import Streams
from bot.simulator.funding import FUNDING_NS
from bot.simulator.listings import GENERATED, exchange_of
from bot.simulator.market import GeneratedMarket

GOLDEN = Path(__file__).parent / "golden"
EXAMPLES = Path(__file__).resolve().parents[3] / "shared" / "fixtures" / "bybit_v5"
BESIDE = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the documented examples are not beside this checkout")
STEP_NS = 100_000_000
BEGIN_NS = FUNDING_NS * 60_000 - 300 * STEP_NS
"""Funding is paid half a minute later."""
TICKER, BOOK, TRADE = "tickers.BTCUSDT", "orderbook.50.BTCUSDT", "publicTrade.BTCUSDT"

TOPICS = {
    "order": ("order_new", "order_cancelled_with_fills", "order_filled_second_of_race", "order_post_only_refused"),
    "execution": ("execution_maker_rebate", "execution_taker_with_tax", "execution_funding", "execution_foreign"),
    "position": ("position",),
    "wallet": ("wallet",),
    BOOK: ("book_snapshot", "book_delta", "book_restarted"),
    TRADE: ("trade",),
    "auth": ("auth",),
    "subscribe": ("subscribed",),
    "pong": ("pong_private",),
    "ping": ("pong_public",),
}
DOCUMENTED = {
    "order": ("private__order__2",),
    "execution": ("private__execution__2",),
    "execution.fast": ("private__fast-execution__2",),
    "position": ("private__position__2",),
    "wallet": ("private__wallet__2",),
    BOOK: ("public__orderbook__1", "public__orderbook__2"),
    TRADE: ("public__trade__1",),
}
OTHERWISE = (".data[].extraFees",)
"""A list where a tax is due, as in the example; else an empty text."""
OF_SPOT = {TICKER: ("public__ticker__2",)}
"""The one example of a ticker that is no option's is of spot."""


class Desk:
    """An account that trades, a stranger's ears on every topic. `heard`: topic or operation to what was said of it."""

    def __init__(self, category: Category = "linear") -> None:
        instrument = msgspec.structs.replace(GENERATED, category=category)
        self.exchange = exchange_of((instrument,), lambda _, seed: GeneratedMarket(seed), seed=3, now_ns=BEGIN_NS)
        self.exchange.open_account("key", "secret", Decimal(100_000), BEGIN_NS)
        self.now_ns, self.category = BEGIN_NS, category
        self.face, self.streams = V5(self.exchange), Streams(self.exchange)
        self.heard: dict[str, list[Any]] = {}
        self.private = PrivateSession("private", self.hear, self.face)
        self.streams.private[self.private] = None
        self.public = PublicSession(
            "public",
            self.hear,
            lambda topic: self.streams.is_public_topic(category, topic),
            lambda session, topic: self.streams.subscribed(category, session, topic, self.now_ns),
        )
        self.streams.open_public(category, self.public)
        self.sign_in()

    def hear(self, text: str) -> None:
        said = json.loads(text)
        self.heard.setdefault(said.get("topic") or said["op"], []).append(said)

    def sign_in(self) -> None:
        expires_ms = self.now_ns // 1_000_000 + 1_000
        sign = hmac.new(b"secret", f"GET/realtime{expires_ms}".encode(), hashlib.sha256).hexdigest()
        for session, op, args in (
            (self.private, "auth", ["key", expires_ms, sign]),
            (self.private, "subscribe", ["order", "execution", "execution.fast", "position", "wallet"]),
            (self.private, "ping", []),
            (self.public, "subscribe", [BOOK, TRADE, TICKER]),
            (self.public, "ping", []),
        ):
            session.receive(json.dumps({"op": op, "args": args, "req_id": "1"}), self.now_ns)

    def go_on(self, steps: int) -> None:
        (venue,) = self.exchange.venues
        for _ in range(steps):
            self.now_ns += STEP_NS
            venue.advance(self.now_ns)
            self.streams.distribute(self.now_ns, venue)

    def post(self, what: str, **terms: str) -> None:
        body = json.dumps({"category": self.category, "symbol": "BTCUSDT", **terms}).encode()
        stamp = str(self.now_ns // 1_000_000)
        sign = hmac.new(b"secret", (stamp + "key").encode() + body, hashlib.sha256).hexdigest()
        headers = {"x-bapi-api-key": "key", "x-bapi-timestamp": stamp, "x-bapi-sign": sign}
        answer = json.loads(self.face.answer(Request("POST", f"/v5/order/{what}", "", body, headers), self.now_ns).body)
        assert answer["retCode"] == 0, answer
        self.go_on(2)  # more at once is more than the venue lets through

    def trade(self) -> Desk:
        """Orders that rest, are cancelled, would have taken, and fill as maker and taker; and a funding payment."""
        self.go_on(20)
        top = self.heard[BOOK][0]["data"]
        bid, ask = top["b"][0][0], top["a"][0][0]
        buy = {"side": "Buy", "orderType": "Limit", "qty": "0.010", "timeInForce": "PostOnly"}
        self.post("create", **buy, price=str(Decimal(bid) - 1000), orderLinkId="rests")
        self.post("cancel", orderLinkId="rests")
        self.post("create", **buy, price=str(Decimal(ask) + 1000), orderLinkId="would-take")
        for number in range(8):
            self.post("create", **buy, price=str(Decimal(bid) - number), orderLinkId=f"made-{number}")
        self.post("create", side="Sell", orderType="Market", qty="0.005", orderLinkId="taken")
        self.go_on(100)
        self.post("create", side="Sell", orderType="Market", qty="0.005", orderLinkId="closes")
        self.go_on(300)
        return self


Kinds = dict[str, set[str]]
"""Path of a field to the JSON types that stand there."""


def kinds(message: object, path: str = "") -> Iterable[tuple[str, str]]:
    """Every field by its path, elements of a list under one, and its type. A map by coin is read like a list."""
    if isinstance(message, dict):
        named = {"*": next(iter(message.values()), "")} if path.endswith("cumFeeDetail") else message
        yield path, "object"
        for name, value in named.items():
            yield from kinds(value, f"{path}.{name}")
    elif isinstance(message, list):
        yield path, "list"
        for one in message:
            yield from kinds(one, f"{path}[]")
    else:
        yield path, {str: "string", bool: "boolean", int: "number", float: "number"}.get(type(message), "null")


def differences(pushes: list[Any], golden: list[Any]) -> list[str]:
    """Names that every golden message has and some push has not, and types that none of them has under that name."""
    allowed: Kinds = {}
    for message in golden:
        for path, kind in kinds(message):
            allowed.setdefault(path, set()).add(kind)
    wanted = set.intersection(*({path for path, _ in kinds(message)} for message in golden))
    found = []
    for push in pushes:
        has = dict(kinds(push))
        found += [f"{path}: missing" for path in wanted - set(has) if _parent(path) not in wanted - set(has)]
        found += [
            f"{path}: {kind}, not {' or '.join(sorted(allowed[path]))}"
            for path, kind in kinds(push)
            if path in allowed and kind not in allowed[path]
        ]
    return sorted(set(found))


def _parent(path: str) -> str:
    return path.removesuffix("[]") if path.endswith("[]") else path.rpartition(".")[0]


def read(folder: Path, names: Iterable[str]) -> list[Any]:
    return [json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in names]


@pytest.fixture(scope="module")
def linear() -> Desk:
    return Desk().trade()


def test_the_pushes_that_are_compared_are_of_every_kind(linear: Desk) -> None:
    rows = [row for push in linear.heard["order"] for row in push["data"]]
    assert {row["orderStatus"] for row in rows} >= {"New", "Filled", "Cancelled"}
    executions = [row for push in linear.heard["execution"] for row in push["data"]]
    assert {(row["execType"], row["isMaker"]) for row in executions} == {
        ("Trade", True), ("Trade", False), ("Funding", False),
    }  # fmt: skip
    realised = sum(Decimal(row["execPnl"]) for row in executions if row["orderLinkId"] == "closes")
    assert realised
    assert [row["closedPnl"] for row in rows if row["orderLinkId"] == "closes"][-1] == str(realised)
    assert {push["type"] for push in linear.heard[BOOK]} == {"snapshot", "delta"}


@pytest.mark.parametrize("topic", TOPICS)
def test_a_push_has_the_names_and_types_of_the_golden_messages(linear: Desk, topic: str) -> None:
    golden = read(GOLDEN, [f"stream_{name}" for name in TOPICS[topic]])
    assert differences(linear.heard[topic], golden) == []


@BESIDE
@pytest.mark.parametrize("topic", DOCUMENTED)
def test_a_push_has_the_names_and_types_of_the_documented_examples(linear: Desk, topic: str) -> None:
    golden = read(EXAMPLES, [f"websocket__{name}" for name in DOCUMENTED[topic]])
    found = differences(linear.heard[topic], golden)
    assert [one for one in found if not one.startswith(OTHERWISE)] == []


@BESIDE
@pytest.mark.parametrize("topic", OF_SPOT)
def test_a_push_of_spot_has_them_too(topic: str) -> None:
    desk = Desk("spot")
    desk.go_on(20)
    golden = read(EXAMPLES, [f"websocket__{name}" for name in OF_SPOT[topic]])
    assert differences([one for one in desk.heard[topic] if one["type"] == "snapshot"], golden) == []


def test_a_name_that_is_missing_and_a_type_that_is_wrong_are_told(linear: Desk) -> None:
    push = json.loads(json.dumps(linear.heard["execution"][0]))
    del push["data"][0]["execFee"], push["creationTime"]
    push["data"][0]["seq"] = "7"
    golden = read(GOLDEN, ["stream_execution_maker_rebate"])
    assert differences([push], golden) == [
        ".creationTime: missing", ".data[].execFee: missing", ".data[].seq: string, not number",
    ]  # fmt: skip
