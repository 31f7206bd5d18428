"""The adapter over a transport of our own: every way a call can go wrong, without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bot.domain.intent import CancelOrder
from bot.venues.bybit import calls
from bot.venues.bybit.adapter import BybitAdapter
from bot.venues.port import (
    Accepted,
    Refused,
    Unknown,
    Unreachable,
    VenueGarbled,
    VenueRefused,
    VenueUnknown,
    VenueUnreachable,
)
from bot.venues.transport import HttpAnswer, NoAnswer, NotSent
from tests.support.scripted_venue import BTC, QUOTE, ScriptedTransport, adapter_on, ok, refused

pytestmark = pytest.mark.integration


def ask(transport: ScriptedTransport, call: Callable[[BybitAdapter], Awaitable[Any]]) -> tuple[Any, BybitAdapter]:
    adapter = adapter_on(transport)

    async def once() -> Any:
        return await call(adapter)

    return asyncio.run(once()), adapter


# ---- outcomes of mutations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (ok({"orderId": "v-1", "orderLinkId": "slwq-1-1"}), Accepted("v-1")),
        (refused(110007), Refused(110007, "110007 no")),
        (refused(170218), Refused(170218, "170218 no", post_only=True)),
        (refused(110072), Unknown(110072, "110072 no")),
        (refused(424242), Unknown(424242, "424242 no")),
        (HttpAnswer(503, {}, b"<html>"), Unknown(503, "/v5/order/create: HTTP 503")),
        (HttpAnswer(429, {}, b""), Unknown(429, "/v5/order/create: HTTP 429")),
        (NotSent("refused"), Unreachable("refused")),
        (NoAnswer("no answer in 2.0 s"), Unknown(0, "no answer in 2.0 s")),
    ],
)
def test_a_create_has_three_outcomes_and_never_raises(answer, expected):
    transport = ScriptedTransport()
    transport.then(calls.CREATE, answer)
    outcome, _ = ask(transport, lambda adapter: adapter.place(QUOTE, BTC))
    assert outcome == expected


@pytest.mark.parametrize("answer", [HttpAnswer(200, {}, b"{"), ok({"orderLinkId": "x"}), HttpAnswer(404, {}, b"?")])
def test_an_answer_to_a_create_that_does_not_decode_is_unknown(answer):
    transport = ScriptedTransport()
    transport.then(calls.CREATE, answer)
    outcome, _ = ask(transport, lambda adapter: adapter.place(QUOTE, BTC))
    assert isinstance(outcome, Unknown)


def test_a_cancel_of_an_order_that_is_gone_is_accepted_as_gone():
    transport = ScriptedTransport()
    transport.then(calls.CANCEL, refused(110001))
    outcome, _ = ask(transport, lambda adapter: adapter.cancel(CancelOrder(0, "slwq-1-1", "BTCUSDT")))
    assert outcome == Accepted(gone=True)


def test_a_refused_timestamp_resynchronises_the_clock_and_is_not_sent_again():
    transport = ScriptedTransport()
    transport.then(calls.CREATE, refused(10002))
    outcome, adapter = ask(transport, lambda adapter: adapter.place(QUOTE, BTC))
    assert isinstance(outcome, Unknown)
    assert adapter.clock_offset_ms == 250
    assert [url.rpartition("/")[2] for _, url, _, _ in transport.requests] == ["create", "time"]


def test_every_answer_is_counted_by_endpoint_and_status_and_headers_are_remembered():
    transport = ScriptedTransport()
    limits = {"x-bapi-limit": "10", "x-bapi-limit-status": "4"}
    transport.then(calls.CREATE, ok({"orderId": "v"}, limits), HttpAnswer(503, {}, b""), NotSent("x"), NoAnswer("y"))

    async def four(adapter: BybitAdapter) -> None:
        assert set(adapter.http_responses.values()) == {0}  # born at nought
        for _ in range(4):
            await adapter.place(QUOTE, BTC)

    _, adapter = ask(transport, four)
    counts = {status: count for (path, status), count in adapter.http_responses.items() if count}
    assert counts == {"200": 1, "503": 1, "not_sent": 1, "no_answer": 1}
    assert adapter.rate_limit_headroom == {calls.CREATE: 0.4}
    assert [name for name, _, _ in adapter.drain_observations()] == ["mm_order_latency_ms"], "one was acknowledged"
    assert adapter.drain_observations() == []


# ---- reads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refused(10003), VenueRefused),
        (refused(10006), VenueUnknown),
        (HttpAnswer(502, {}, b""), VenueUnknown),
        (NotSent("x"), VenueUnreachable),
        (NoAnswer("x"), VenueUnknown),
        (ok({"list": [{"symbol": "BTCUSDT"}]}), VenueGarbled),
        (ok({}), VenueGarbled),
    ],
)
def test_a_read_that_failed_raises_and_is_never_empty(answer, error):
    transport = ScriptedTransport()
    transport.then(calls.OPEN_ORDERS, answer)
    with pytest.raises(error):
        ask(transport, lambda adapter: adapter.open_orders("BTCUSDT", BTC))


def test_a_read_after_a_refused_timestamp_is_asked_once_more():
    transport = ScriptedTransport()
    transport.then(calls.OPEN_ORDERS, refused(10002), ok({"list": [], "nextPageCursor": ""}))
    orders, adapter = ask(transport, lambda adapter: adapter.open_orders("BTCUSDT", BTC))
    assert orders == []
    assert adapter.clock_offset_ms == 250
    stamps = [int(headers["X-BAPI-TIMESTAMP"]) for _, _, headers, _ in transport.requests if headers]
    assert stamps[1] - stamps[0] == 250


def test_open_orders_are_read_over_all_pages_and_closed_ones_left_out():
    def row(n: int, status: str = "New") -> dict[str, str]:
        fixed = {"symbol": "BTCUSDT", "side": "Buy", "price": "1", "qty": "1", "cumExecQty": "0"}
        return {"orderId": f"v{n}", "orderLinkId": f"slwq-1-{n}", "orderStatus": status, **fixed}

    transport = ScriptedTransport()
    transport.then(
        calls.OPEN_ORDERS,
        ok({"list": [row(1), row(2, "Filled")], "nextPageCursor": "a%3Db"}),
        ok({"list": [row(3)], "nextPageCursor": ""}),
    )
    orders, _ = ask(transport, lambda adapter: adapter.open_orders("BTCUSDT", BTC))
    assert [order.venue_order_id for order in orders] == ["v1", "v3"]
    assert transport.requests[1][1].endswith("&cursor=a%3Db")


def test_a_symbol_that_is_not_listed_is_refused_by_name():
    transport = ScriptedTransport()
    transport.always(calls.INSTRUMENTS, {"list": []})
    with pytest.raises(VenueRefused, match="BTCUSDT: the venue does not list it"):
        ask(transport, lambda adapter: adapter.instruments(["BTCUSDT"]))
