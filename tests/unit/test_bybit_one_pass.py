"""What is read in one pass over a message is what two passes read; whatever one pass does not take is left to two."""

from __future__ import annotations

import contextlib
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.instrument import Instrument
from bot.venues.bybit import wire
from bot.venues.bybit.account_text import OrderText, acknowledged_text
from bot.venues.bybit.decode import Grid, venue_order
from bot.venues.port import VenueError

ROW = {
    "symbol": "BTCUSDT", "orderId": "7", "orderLinkId": "slwq-1-1", "side": "Buy", "price": "60000.1", "qty": "0.01",
    "cumExecQty": "0", "orderStatus": "New", "rejectReason": "EC_NoError", "category": "linear",
}  # fmt: skip
EXECUTION = {
    "symbol": "BTCUSDT", "orderId": "7", "orderLinkId": "slwq-1-1", "side": "Buy", "execId": "9", "execPrice": "60000",
    "execQty": "0.01", "execType": "Trade", "execTime": "1", "execFee": "0.1", "isMaker": True,
}  # fmt: skip
TRADE = {"T": 1, "s": "BTCUSDT", "S": "Buy", "v": "0.01", "p": "60000.1"}
ODD = st.sampled_from([None, 0, -1, 1.5, "", "x", [], {}, True, False])


def said(raw: bytes, rows: type) -> Any:
    """The rows as two passes read them; None where the message is an operation's refusal, or does not fit."""
    try:
        push = wire.decode(wire.Push, raw, "stream")
        return None if push.success is False else (push.topic, wire.decode_rows(rows, push.data, push.topic))
    except VenueError:
        return None


@st.composite
def messages(draw: st.DrawFn, topic: str, row: dict[str, object]) -> bytes:
    rows = [dict(row) for _ in range(draw(st.integers(0, 2)))]
    message: dict[str, object] = {"topic": topic, "id": "1", "creationTime": 5, "data": rows}
    if topic != "publicTrade.BTCUSDT" and draw(st.booleans()):
        message = {"id": "1", **message}
    for one in [message, *rows]:
        if draw(st.integers(0, 3)) == 0:
            name = draw(st.sampled_from([*one, "success", "op", "ts", "type", "ret_msg", "req_id", "zzz"]))
            one[name] = draw(ODD)
        if draw(st.integers(0, 5)) == 0:
            one.pop(draw(st.sampled_from(sorted(one))), None)
    raw = msgspec.json.encode(message)
    return raw[: draw(st.integers(0, len(raw)))] if draw(st.integers(0, 9)) == 0 else raw


@given(messages("order", ROW) | messages("execution", EXECUTION))
def test_pushes_of_the_account(raw: bytes) -> None:
    for form in (raw, raw.decode()):
        found = wire.account_push(form)
        if found is not None:
            kind = wire.OrderRow if isinstance(found, wire.OrderPush) else wire.ExecutionRow
            assert (found.topic, found.data) == said(raw, kind)


@given(messages("publicTrade.BTCUSDT", TRADE))
def test_public_trades(raw: bytes) -> None:
    for form in (raw, raw.decode()):
        found = wire.trade_push(form)
        if found is not None:
            assert (found.topic, found.data) == said(raw, wire.TradeRow)


def test_plain_messages_are_read_in_one_pass() -> None:
    order = msgspec.json.encode({"id": "1", "topic": "order", "creationTime": 5, "data": [ROW]})
    execution = msgspec.json.encode({"topic": "execution", "id": "1", "creationTime": 5, "data": [EXECUTION]})
    trade = msgspec.json.encode({"topic": "publicTrade.BTCUSDT", "ts": 5, "data": [TRADE]})
    assert isinstance(wire.account_push(order), wire.OrderPush)
    assert isinstance(wire.account_push(execution.decode()), wire.ExecutionPush)
    assert isinstance(wire.trade_push(trade), wire.TradePush)


@given(st.dictionaries(st.sampled_from(["retCode", "retMsg", "result", "time", "retExtInfo"]), ODD), st.booleans())
def test_an_order_s_answer(odd: dict[str, object], is_ok: bool) -> None:
    answer = {"retCode": 0, "retMsg": "OK", "result": {"orderId": "7", "orderLinkId": ""}, "time": 5, **odd}
    raw, status = msgspec.json.encode(answer), 200 if is_ok else 503
    found = wire.acknowledged(status, raw)
    if found is not None:
        envelope = wire.envelope(status, raw, "/x")
        assert not envelope.ret_code
        assert wire.decode(wire.OrderAck, envelope.result, "result").order_id == found
    elif is_ok and not odd:
        raise AssertionError("a plain answer is read in one pass")


PUSHED = {
    "symbol": "BTCUSDT", "orderId": "00ab-7", "orderLinkId": "slwq-1-1", "side": "Buy", "orderType": "Limit",
    "price": "60000.1", "qty": "0.010", "orderStatus": "New", "rejectReason": "EC_NoError", "reduceOnly": False,
    "leavesQty": "0.010", "leavesValue": "600.00100", "cumExecQty": "0.000", "cumExecValue": "0", "avgPrice": "",
    "createdTime": "1", "updatedTime": "2", "category": "linear", "cumFeeDetail": {}, "positionIdx": 0,
}  # fmt: skip
VALUES = st.sampled_from(
    ("", "0", "0.000", "0.010", "0.0105", "60000.1", "60000.15", "-1", "1e3", "Sell", "Buy", "New", "Filled",
     "Rejected", "Cancelled", "ETHUSDT", "BTCUSDT", "EC_PostOnlyWillTakeLiquidity", "x", 'a"b',
     "a\\b", "a\nb", "é", "7" * 30)
)  # fmt: skip
GRID_TERMS = Instrument(
    "BTCUSDT", "linear", "BTC", "USDT", Decimal("0.1"), Decimal("0.001"), Decimal("0.001"), Decimal(10), Decimal(5)
)


@st.composite
def pushed(draw: st.DrawFn) -> str:
    row: dict[str, object] = dict(PUSHED)
    for name in draw(st.lists(st.sampled_from(sorted(PUSHED)), max_size=3)):
        row[name] = draw(VALUES | ODD)
    if draw(st.integers(0, 5)) == 0:
        row = dict(sorted(row.items()))
    rows = [row] * draw(st.sampled_from((1, 1, 1, 1, 0, 2)))
    text = msgspec.json.encode(
        {"id": "1", "topic": "order", "creationTime": draw(st.integers(0, 10**19)), "data": rows}
    )
    shown = text.decode()
    if draw(st.integers(0, 3)) == 0:  # harmed on its way
        at = draw(st.integers(0, len(shown) - 1))
        shown = shown[:at] + draw(st.sampled_from(("", '"', "\\", "0", "x", ",", "\x01", " "))) + shown[at + 1 :]
    return shown


@given(st.lists(pushed(), min_size=1, max_size=8))
def test_an_order_read_by_its_shape_is_the_one_that_is_decoded(texts: list[str]) -> None:
    reader, grids = OrderText("linear"), {"BTCUSDT": Grid(GRID_TERMS)}
    plain = msgspec.json.encode({"id": "1", "topic": "order", "creationTime": 5, "data": [PUSHED]}).decode()
    for text in (plain, *texts):
        if not text.isascii():
            continue
        found = reader.read(text, grids)
        push = wire.account_push(text)
        if found is not None:
            assert isinstance(push, wire.OrderPush)
            (row,) = push.data
            assert row.category == "linear"
            assert found == venue_order(row, GRID_TERMS)
        elif isinstance(push, wire.OrderPush):
            for row in push.data:
                with contextlib.suppress(VenueError):
                    venue_order(row, GRID_TERMS, grids["BTCUSDT"])
            reader.learn(text, push.data)


def test_the_next_of_a_kind_is_read_by_its_shape() -> None:
    reader, grids = OrderText("linear"), {"BTCUSDT": Grid(GRID_TERMS)}
    text = msgspec.json.encode({"id": "1", "topic": "order", "creationTime": 5, "data": [PUSHED]}).decode()
    push = wire.account_push(text)
    assert isinstance(push, wire.OrderPush)
    assert reader.read(text, grids) is None
    venue_order(push.data[0], GRID_TERMS, grids["BTCUSDT"])
    reader.learn(text, push.data)
    later = text.replace("60000.1", "59999.9").replace('"creationTime":5', '"creationTime":77').replace("00ab-7", "c")
    found = reader.read(later, grids)
    assert found is not None
    assert (found.price_ticks, found.venue_order_id, found.qty_lots) == (599_999, "c", 10)


@given(st.dictionaries(st.sampled_from(["retCode", "retMsg", "result", "time", "retExtInfo"]), ODD), st.data())
def test_an_answer_read_from_its_text_is_the_one_that_is_decoded(odd: dict[str, object], data: st.DataObject) -> None:
    ids = {"orderId": data.draw(VALUES), "orderLinkId": data.draw(VALUES)}
    answer = {"retCode": 0, "retMsg": "OK", "result": ids, "retExtInfo": {}, "time": data.draw(st.integers(0, 10**19))}
    raw = msgspec.json.encode({**answer, **odd})
    if data.draw(st.integers(0, 3)) == 0:
        at = data.draw(st.integers(0, len(raw) - 1))
        raw = raw[:at] + data.draw(st.sampled_from((b"", b'"', b"\\", b"0", b"x", b"\x01", b"\xff"))) + raw[at + 1 :]
    found = acknowledged_text(raw)
    if found:
        assert wire.acknowledged(200, raw) == found


def test_a_plain_answer_is_read_from_its_text() -> None:
    answer = {
        "retCode": 0,
        "retMsg": "OK",
        "result": {"orderId": "ab-7", "orderLinkId": ""},
        "retExtInfo": {},
        "time": 5,
    }
    assert acknowledged_text(msgspec.json.encode(answer)) == "ab-7"
