"""Rules of the venue's dialect that a client meets seldom: kinds of orders, cancel-all past its limit, old cancels."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from bot.domain.order import Side
from bot.simulator import bybit_messages, bybit_orders, bybit_queries
from bot.simulator.bybit_access import V5Error
from bot.simulator.exchange import Exchange
from bot.simulator.listings import LISTINGS, exchange_of, generated
from bot.simulator.orders import NewOrder, Status, TimeInForce
from tests.unit.test_simulator_exchange import as_sent
from tests.unit.test_simulator_face import Desk

NOW_NS = 1_700_000_000 * 10**9
DAY_NS = 86_400 * 10**9
PLAIN = {
    "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.010", "price": "55000",
    "timeInForce": "PostOnly",
}  # fmt: skip


class Two:
    """BTCUSDT and ETHUSDT as contracts, BTCUSDT on spot, and one holder."""

    def __init__(self) -> None:
        listed = [
            LISTINGS[one].instrument for one in (("linear", "BTCUSDT"), ("linear", "ETHUSDT"), ("spot", "BTCUSDT"))
        ]
        self.exchange: Exchange = exchange_of(listed, generated, seed=3, now_ns=NOW_NS)
        self.holder = self.exchange.open_account("key", "secret", Decimal(50_000_000), NOW_NS)

    def create(self, category: str, **terms: object) -> None:
        bybit_orders.create(self.exchange, self.holder, {**PLAIN, "category": category, **terms}, NOW_NS)

    def cancel_all(self, **params: object) -> list[str]:
        answer: Any = bybit_orders.cancel_all(self.exchange, self.holder, params, NOW_NS)
        return [row["orderLinkId"] for row in answer["list"]]


@pytest.mark.parametrize("category", ["linear", "spot"])
@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"triggerPrice": "50000"}, "conditional orders are not offered here: triggerPrice"),
        ({"takeProfit": "70000", "stopLoss": "50000"}, "conditional orders are not offered here: takeProfit, stopLoss"),
        ({"orderFilter": "StopOrder"}, "conditional orders are not offered here: orderFilter StopOrder"),
        ({"orderFilter": "Every"}, "orderFilter 'Every' is not one of Order, "),
        ({"smpType": "CancelAll"}, "smpType 'CancelAll' is not one of None, CancelMaker, CancelTaker, CancelBoth"),
    ],
)
def test_what_the_venue_does_not_know_is_refused_and_not_left_out(
    category: str, terms: dict[str, object], said: str
) -> None:
    two = Two()
    with pytest.raises(V5Error, match=said) as refused:
        two.create(category, **terms)
    assert refused.value.code == 10001
    assert not any(account.open_orders for _, account in two.exchange.accounts(two.holder))


@pytest.mark.parametrize("category", ["linear", "spot"])
def test_cancel_all_takes_the_kind_of_orders_that_is_named(category: str) -> None:
    two = Two()
    two.create(category, orderLinkId="plain", orderFilter="Order")
    assert two.cancel_all(category=category, symbol="BTCUSDT", orderFilter="StopOrder") == []
    with pytest.raises(V5Error, match="orderFilter"):
        two.cancel_all(category=category, symbol="BTCUSDT", orderFilter="order")
    assert two.cancel_all(category=category, symbol="BTCUSDT", orderFilter="Order") == ["plain"]


def test_of_more_than_500_contracts_cancel_all_takes_500_that_are_drawn() -> None:
    two = Two()
    for number in range(300):
        two.create("linear", orderLinkId=f"b-{number}")
        two.create("linear", symbol="ETHUSDT", price="2800", qty="0.10", orderLinkId=f"e-{number}")
    first = two.cancel_all(category="linear", settleCoin="USDT")
    in_order = [f"b-{number}" for number in range(300)] + [f"e-{number}" for number in range(200)]
    assert len(set(first)) == 500
    assert sorted(first) != sorted(in_order)
    assert len(two.cancel_all(category="linear", settleCoin="USDT")) == 100


def test_a_cancel_without_a_fill_is_forgotten_after_a_day_and_one_with_fills_is_not() -> None:
    two = Two()
    venue, account = next(iter(two.exchange.accounts(two.holder, "linear")))
    ask = venue.book.depth(Side.SELL, 1)[0]
    part = NewOrder("part", Side.BUY, ask[0], ask[1] + 5, TimeInForce.IOC)
    none = NewOrder("none", Side.BUY, ask[0] - 1_000, 10, TimeInForce.IOC)
    ended = [venue.create(account, new, NOW_NS) for new in (part, none)]
    assert [(order.status, order.filled_lots > 0) for order in ended] == [
        (Status.CANCELLED, True),
        (Status.CANCELLED, False),
    ]

    def history(now_ns: int) -> list[str]:
        found = as_sent(bybit_queries.order_history(two.exchange, two.holder, {"category": "linear"}, now_ns))
        return [row["orderLinkId"] for row in found["list"]]

    assert history(NOW_NS + DAY_NS) == ["none", "part"]
    assert history(NOW_NS + DAY_NS + 1) == ["part"]


@pytest.mark.parametrize(("category", "word"), [("linear", "Cancelled"), ("spot", "PartiallyFilledCanceled")])
def test_a_cancel_with_fills_has_a_word_of_its_own_on_spot(category: str, word: str) -> None:
    two = Two()
    venue, account = next(iter(two.exchange.accounts(two.holder, category)))
    price, lots = venue.book.depth(Side.SELL, 1)[0]
    order = venue.create(account, NewOrder("part", Side.BUY, price, lots + 5, TimeInForce.IOC), NOW_NS)
    assert bybit_messages.status(venue.instrument, order) == word
    params = {"category": category, "symbol": "BTCUSDT", "orderStatus": word}
    found = as_sent(bybit_queries.order_history(two.exchange, two.holder, params, NOW_NS))
    assert [row["orderLinkId"] for row in found["list"]] == ["part"]


def test_the_wallet_says_how_much_of_the_equity_is_maintenance_margin() -> None:
    two = Two()
    assert bybit_messages.wallet(two.exchange, two.holder)["accountMMRate"] == "0.0000"
    _, account = next(iter(two.exchange.accounts(two.holder, "linear")))
    account.alter_position(500_000, account.market.mark_half_ticks, NOW_NS)
    shown: Any = bybit_messages.wallet(two.exchange, two.holder)
    share = Decimal(shown["totalMaintenanceMargin"]) / two.holder.equity_quote()
    assert Decimal(shown["accountMMRate"]) == share.quantize(Decimal("0.0001")) > 0


def test_who_gives_the_topic_back_is_no_longer_what_keeps_the_orders() -> None:
    desk = Desk()
    assert desk.code("/v5/order/disconnected-cancel-all", product="DERIVATIVES", timeWindow=10) == 0
    session, sent = desk.private()
    session.receive(json.dumps({"op": "unsubscribe", "args": ["dcp.future"]}), desk.at_ns)
    assert sent[-1]["success"] is True
    session.closed(desk.at_ns)
    assert desk.face.dcp.next_at_ns() is None
