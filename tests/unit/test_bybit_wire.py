"""Decoding of what Bybit sends, where it is wrong or at an edge; requests; hosts."""

from __future__ import annotations

import json
from decimal import Decimal
from itertools import pairwise

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bot.domain.events import BookDelta, OrderStatus
from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.venues.bybit import calls, decode, wire
from bot.venues.bybit.decode import Grid
from bot.venues.bybit.hosts import OVERRIDES, HostRefused, hosts_for, override_hosts
from bot.venues.port import ImmediateOrder, VenueGarbled, VenueUnknown

LINEAR = Instrument(
    *("BTCUSDT", "linear", "BTC", "USDT", Decimal("0.1"), Decimal("0.001")),
    *(Decimal("0.001"), Decimal(100), Decimal(5)),
)
SPOT = Instrument(
    *("BTCUSDT", "spot", "BTC", "USDT", Decimal("0.01"), Decimal("0.00001")),
    *(Decimal("0.00001"), Decimal(70), Decimal(5)),
)


def order_row(**changed: object) -> wire.OrderRow:
    fields = {
        "symbol": "BTCUSDT",
        "orderId": "o-1",
        "orderLinkId": "slwq-1-1",
        "side": "Buy",
        "price": "100.1",
        "qty": "0.005",
        "cumExecQty": "0",
        "orderStatus": "New",
    } | changed
    return wire.decode(wire.OrderRow, json.dumps(fields), "order")


def execution_row(**changed: object) -> wire.ExecutionRow:
    fields = {
        "symbol": "BTCUSDT",
        "orderId": "o-1",
        "orderLinkId": "slwq-1-1",
        "side": "Buy",
        "execId": "e-1",
        "execPrice": "100",
        "execQty": "0.005",
        "execType": "Trade",
        "execTime": "1700000000001",
        "execFee": "0.01",
        "isMaker": True,
    } | changed
    return wire.decode(wire.ExecutionRow, json.dumps(fields), "execution")


# ---- garbled messages name the field --------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["symbol", "orderId", "orderLinkId", "side", "price", "qty", "orderStatus"])
def test_a_missing_field_is_garbled_and_named(field):
    fields = {"symbol": "BTCUSDT", "orderId": "o", "orderLinkId": "", "side": "Buy", "price": "1", "qty": "1"}
    fields |= {"cumExecQty": "0", "orderStatus": "New"}
    del fields[field]
    with pytest.raises(VenueGarbled, match=f"order: .*{field}"):
        wire.decode(wire.OrderRow, json.dumps(fields), "order")


@pytest.mark.parametrize("field", ["price", "qty", "cumExecQty"])
@pytest.mark.parametrize("value", ["abc", "NaN", "Infinity", "-0.001", "0.00051"])
def test_a_number_that_is_none_or_off_the_grid_is_garbled_and_named(field, value):
    with pytest.raises(VenueGarbled, match=f"^{field}: "):
        decode.venue_order(order_row(**{field: value}), LINEAR)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b'{"retCode":"0"}', b"<html>"])
def test_an_answer_that_is_no_envelope_is_garbled(body):
    with pytest.raises(VenueGarbled, match="/v5/x"):
        wire.envelope(200, body, "/v5/x")


@pytest.mark.parametrize("status", [403, 429, 500, 502, 503, 504])
def test_an_http_failure_says_nothing_about_the_request(status):
    with pytest.raises(VenueUnknown, match=f"HTTP {status}") as caught:
        wire.envelope(status, b'{"retCode":0}', "/v5/x")
    assert caught.value.code == status


def test_an_unknown_order_status_or_execution_type_is_garbled():
    with pytest.raises(VenueGarbled, match="orderStatus: 'Sleeping'"):
        decode.venue_order(order_row(orderStatus="Sleeping"), LINEAR)
    with pytest.raises(VenueGarbled, match="execType: 'Gift'"):
        decode.fill(execution_row(execType="Gift"), LINEAR, 0)


def test_an_unknown_side_is_garbled():
    with pytest.raises(VenueGarbled, match="side: 'Long'"):
        decode.venue_order(order_row(side="Long"), LINEAR)


# ---- orders and fills -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("New", OrderStatus.WORKING),
        ("PartiallyFilled", OrderStatus.WORKING),
        ("Untriggered", OrderStatus.WORKING),
        ("Filled", OrderStatus.FILLED),
        ("Cancelled", OrderStatus.CANCELLED),
        ("PartiallyFilledCanceled", OrderStatus.CANCELLED),
        ("Rejected", OrderStatus.REJECTED),
    ],
)
def test_statuses_are_reduced_to_four(status, expected):
    assert decode.venue_order(order_row(orderStatus=status), LINEAR).status is expected


@pytest.mark.parametrize("price", ["", "0", "0.00"])
def test_a_market_order_has_no_price(price):
    assert decode.venue_order(order_row(price=price), LINEAR).price_ticks == 0


@pytest.mark.parametrize(
    ("fee", "currency", "side", "instrument", "expected_quote"),
    [
        ("0.01", "USDT", "Buy", LINEAR, "0.01"),
        ("-0.01", "", "Sell", LINEAR, "-0.01"),
        ("0.001", "BTC", "Buy", SPOT, "0.1"),
        ("0.001", "", "Buy", SPOT, "0.1"),  # a fee is taken from what is received
        ("0.01", "", "Sell", SPOT, "0.01"),
        ("-0.01", "", "Buy", SPOT, "-0.01"),  # a rebate is paid in the other currency
        ("-0.001", "", "Sell", SPOT, "-0.1"),
        ("", "", "Buy", LINEAR, "0"),
    ],
)
def test_fees_are_quote_and_keep_their_sign(fee, currency, side, instrument, expected_quote):
    event = decode.fill(execution_row(execFee=fee, feeCurrency=currency, side=side), instrument, 0)
    assert event is not None
    assert event.fee_quote == Decimal(expected_quote)


def test_a_fee_in_a_third_currency_is_garbled_not_counted_as_quote():
    with pytest.raises(VenueGarbled, match="feeCurrency: 'MNT'"):
        decode.fill(execution_row(feeCurrency="MNT"), LINEAR, 0)


def test_a_fill_far_off_the_tick_keeps_the_price_the_venue_gave():
    event = decode.fill(execution_row(execPrice="99.98765"), LINEAR, 0)
    assert event is not None
    assert event.price == Decimal("99.98765")


def test_liquidation_and_deleveraging_are_fills_and_settlement_is_none():
    assert decode.fill(execution_row(execType="BustTrade"), LINEAR, 0) is not None
    assert decode.fill(execution_row(execType="AdlTrade"), LINEAR, 0) is not None
    assert decode.fill(execution_row(execType="Funding"), LINEAR, 0) is None
    assert decode.fill(execution_row(execType="Settle"), LINEAR, 0) is None


def test_no_position_row_is_not_flat_and_hedge_mode_is_refused():
    row = wire.PositionRow("BTCUSDT", "Buy", "1", avg_price="100")
    with pytest.raises(VenueGarbled, match="no row for BTCUSDT"):
        decode.position([], "BTCUSDT")
    with pytest.raises(VenueGarbled, match="hedge mode"):
        decode.position([row, row], "BTCUSDT")
    with pytest.raises(VenueGarbled, match="side"):
        decode.position([wire.PositionRow("BTCUSDT", "", "1", avg_price="100")], "BTCUSDT")


def test_a_side_of_the_book_that_is_empty_is_no_price():
    with pytest.raises(VenueGarbled, match=r"result\.a"):
        decode.top_of_book(wire.BookRows("BTCUSDT", [("1", "1")], [], 5))


def test_a_book_message_of_another_type_is_garbled():
    rows = wire.BookRows("BTCUSDT", [("100.1", "1")], [], 5)
    assert isinstance(decode.book_event(wire.Push(type="delta"), rows, Grid(LINEAR), 0), BookDelta)
    with pytest.raises(VenueGarbled, match="type: 'patch'"):
        decode.book_event(wire.Push(type="patch"), rows, Grid(LINEAR), 0)


BOOK = (
    b'{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":7,'
    b'"data":{"s":"BTCUSDT","b":[["1","2"]],"a":[],"u":3},"cts":6}'
)


@pytest.mark.parametrize("raw", [BOOK, BOOK.decode()])
def test_a_book_message_is_the_same_in_one_pass_and_in_two(raw):
    whole, push = wire.book_push(raw), wire.decode(wire.Push, raw, "public")
    assert whole is not None
    assert (whole.topic, whole.type, whole.ts, whole.cts) == (push.topic, push.type, push.ts, push.cts)
    assert whole.data == wire.decode(wire.BookRows, push.data, push.topic)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":7,"data":[]}',
        b'{"op":"pong"}',
        BOOK[:-1],
        BOOK.replace(b'"u":3', b'"u":"3"'),
        BOOK.replace(b"BTCUSDT", b"\xff"),
    ],
)
def test_what_is_no_whole_book_message_is_left_to_the_two_passes_which_name_what_is_wrong(raw):
    assert wire.book_push(raw) is None


def test_a_grid_forgets_rather_than_grows(monkeypatch):
    monkeypatch.setattr(decode, "_MEMO_MAX", 4)
    grid = Grid(LINEAR)
    assert [grid.ticks(f"{n}.0", "p") for n in range(1, 30)] == [n * 10 for n in range(1, 30)]
    assert len(grid.known_ticks) <= 4


def test_a_cursor_that_comes_twice_is_garbled_instead_of_read_for_ever():
    seen: set[str] = set()
    assert wire.next_cursor("a", seen, "x") == "a"
    assert wire.next_cursor("", seen, "x") == ""
    with pytest.raises(VenueGarbled, match="nextPageCursor 'a'"):
        wire.next_cursor("a", seen, "x")


# ---- requests -------------------------------------------------------------------------------------------------------


def test_a_quote_is_a_post_only_limit_order_in_plain_digits():
    call = calls.create_post_only(
        "linear", "BTCUSDT", Side.SELL, Decimal("1E+1"), Decimal("0.10") * 912345, "slwq-1-2", False
    )
    assert json.loads(call.body) == {
        "category": "linear",
        "symbol": "BTCUSDT",
        "side": "Sell",
        "orderType": "Limit",
        "qty": "10",
        "price": "91234.50",
        "timeInForce": "PostOnly",
        "orderLinkId": "slwq-1-2",
        "positionIdx": 0,
        "reduceOnly": False,
    }


def test_a_flatten_order_is_immediate_and_reduce_only():
    order = ImmediateOrder("slwf-1-3", "BTCUSDT", Side.BUY, Decimal("0.1"), Decimal("50000"))
    body = json.loads(calls.create_immediate("linear", order).body)
    assert (body["timeInForce"], body["reduceOnly"], body["orderLinkId"]) == ("IOC", True, "slwf-1-3")


def test_spot_orders_name_neither_position_nor_reduce_only():
    call = calls.create_post_only("spot", "BTCUSDT", Side.BUY, Decimal(1), Decimal(1), "x", False)
    assert not {"positionIdx", "reduceOnly"} & json.loads(call.body).keys()


def test_cursors_go_back_as_they_came_and_what_is_signed_is_what_is_sent():
    call = calls.open_orders("linear", "BTCUSDT", "page_args%3Dfd43%26symbol%3D6%26")
    assert call.query.endswith("&cursor=page_args%3Dfd43%26symbol%3D6%26")
    assert call.target == f"/v5/order/realtime?{call.payload.decode()}"


def test_executions_are_asked_for_in_windows_of_seven_days_without_holes():
    day_ms = 24 * 3600 * 1000
    windows = calls.execution_windows(0, 15 * day_ms)
    assert windows[0][0] == 0
    assert windows[-1][1] == 15 * day_ms
    assert all(end - start <= 7 * day_ms for start, end in windows)
    assert all(following[0] == before[1] + 1 for before, following in pairwise(windows))


# ---- hosts ----------------------------------------------------------------------------------------------------------

LOOPBACK = {
    "MM_VENUE_REST_URL": "http://127.0.0.1:8001/",
    "MM_VENUE_WS_PUBLIC_URL": "ws://127.0.0.1:8002/v5/public/linear",
    "MM_VENUE_WS_PRIVATE_URL": "ws://[::1]:8002/v5/private",
    "MM_VENUE_WS_TRADE_URL": "ws://localhost:8002/v5/trade",
}


def test_each_environment_has_its_own_hosts():
    assert hosts_for("live", "linear").rest_url == "https://api.bybit.com"
    assert hosts_for("testnet", "spot").ws_public_url == "wss://stream-testnet.bybit.com/v5/public/spot"
    demo = hosts_for("demo", "linear")
    assert (demo.rest_url, demo.ws_trade_url) == ("https://api-demo.bybit.com", "")
    assert demo.ws_public_url == "wss://stream.bybit.com/v5/public/linear"


def test_without_overrides_the_hosts_stay():
    hosts = hosts_for("live", "linear")
    assert override_hosts(hosts, {"PATH": "/bin", "MM_VENUE_REST_URL": ""}) == hosts


def test_loopback_overrides_replace_all_hosts():
    hosts = override_hosts(hosts_for("live", "linear"), LOOPBACK)
    assert hosts.rest_url == "http://127.0.0.1:8001"
    assert hosts.ws_private_url == "ws://[::1]:8002/v5/private"


@pytest.mark.parametrize("name", list(OVERRIDES))
@pytest.mark.parametrize(
    "host", ["api.bybit.com", "10.0.0.1", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "localhost.evil.example"]
)
def test_an_override_that_is_not_loopback_is_refused_by_name(name, host):
    scheme = OVERRIDES[name][1][0]
    with pytest.raises(HostRefused, match=name):
        override_hosts(hosts_for("live", "linear"), LOOPBACK | {name: f"{scheme}://{host}/"})


@pytest.mark.parametrize("value", ["127.0.0.1:8001", "ftp://127.0.0.1", "http://127.0.0.1:nine"])
def test_an_override_that_is_no_address_is_refused(value):
    with pytest.raises(HostRefused, match="MM_VENUE_REST_URL"):
        override_hosts(hosts_for("live", "linear"), LOOPBACK | {"MM_VENUE_REST_URL": value})


def test_half_an_override_is_refused_and_names_what_is_missing():
    half = {name: value for name, value in LOOPBACK.items() if name != "MM_VENUE_WS_PUBLIC_URL"}
    with pytest.raises(HostRefused, match="MM_VENUE_WS_PUBLIC_URL is not set"):
        override_hosts(hosts_for("live", "linear"), half)


def test_a_process_without_sockets_takes_the_rest_override_alone_and_gets_no_live_socket():
    hosts = override_hosts(hosts_for("live", "linear"), {"MM_VENUE_REST_URL": "http://127.0.0.1:1"}, rest_only=True)
    assert hosts.rest_url == "http://127.0.0.1:1"
    assert hosts.ws_private_url == ""


def read_both_ways(text: str, instrument: Instrument) -> tuple[str, str]:
    """(as the grid reads a price, as exact decimals read it), failures in their own words."""

    def said(read: object, *arguments: object) -> str:
        try:
            return str(read(*arguments))  # type: ignore[operator]
        except VenueGarbled as error:
            return str(error)

    return said(Grid(instrument).ticks, text, "price"), said(decode.price_ticks, text, "price", instrument)


@given(st.text("0123456789.-+_ ", max_size=12) | st.decimals(0, 10**6, places=2).map(str))
@example("60000.10")
@example("60000.15")
@example(".5")
@example("5.")
@example("1e3")
@example("1_0")
@example("٦٠")
def test_a_grid_reads_plain_text_by_whole_numbers_exactly_as_by_decimals(text: str) -> None:
    steps = (Decimal("0.1"), Decimal("0.50"), Decimal("0.00001"), Decimal(25), Decimal("1E+1"))
    for step in steps:
        by_grid, by_decimals = read_both_ways(text, msgspec.structs.replace(LINEAR, tick_size=step))
        assert by_grid == by_decimals, step


# ---- what no venue means --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1_000", "１２", " 1", "1\n", "१२"])
def test_only_plain_digits_are_a_number(text: str) -> None:
    with pytest.raises(VenueGarbled, match="execPrice"):
        decode.decimal(text, "execPrice")
    with pytest.raises(VenueGarbled, match="execTime"):
        decode.whole(text, "execTime")


@pytest.mark.parametrize(("field", "value"), [("execPrice", "0"), ("execPrice", "-100"), ("execQty", "0")])
def test_a_fill_of_nothing_or_for_no_price_is_garbled_and_named(field: str, value: str) -> None:
    with pytest.raises(VenueGarbled, match=field):
        decode.fill(execution_row(**{field: value}), LINEAR, 1)


@pytest.mark.parametrize(("field", "value"), [("size", "-0.005"), ("avgPrice", "0"), ("avgPrice", "-1")])
def test_a_position_below_nothing_or_for_no_price_is_garbled_and_named(field: str, value: str) -> None:
    row = {"symbol": "BTCUSDT", "side": "Sell", "size": "0.005", "avgPrice": "100", field: value}
    with pytest.raises(VenueGarbled, match=field):
        decode.position([wire.decode(wire.PositionRow, json.dumps(row), "position")], "BTCUSDT")


@pytest.mark.parametrize(("bid", "ask", "field"), [("0", "100", "result.b"), ("99", "-100", "result.a")])
def test_a_top_of_the_book_that_is_not_above_nothing_is_no_price(bid: str, ask: str, field: str) -> None:
    with pytest.raises(VenueGarbled, match=field):
        decode.top_of_book(wire.BookRows("BTCUSDT", [(bid, "1")], [(ask, "1")], 1))


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_success_under_an_http_failure_is_none(status: int) -> None:
    with pytest.raises(VenueUnknown, match=f"HTTP {status}"):
        wire.envelope(status, b'{"retCode":0}', "/v5/x")


def test_an_answer_of_the_trade_socket_without_a_code_is_no_success() -> None:
    with pytest.raises(VenueGarbled, match="retCode"):
        wire.decode(wire.TradeAnswer, b'{"reqId":"0-1","op":"order.create","data":{"orderId":"v-1"}}', "trade")


@pytest.mark.parametrize("text", ["9" * 61, "9" * 5_000, "1" + "0" * 60 + ".0"])
def test_a_number_of_the_market_that_nobody_can_mean_is_garbled_however_long(text: str) -> None:
    with pytest.raises(VenueGarbled, match=r"data\.b"):
        Grid(LINEAR).ticks(text, "data.b")
    with pytest.raises(VenueGarbled, match=r"data\.b"):
        Grid(LINEAR).lots(text, "data.b")
