"""What is read in one pass over a message is what two passes read; whatever one pass does not take is left to two."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.events import VenueOrder
from bot.domain.instrument import Instrument
from bot.venues.bybit import wire
from bot.venues.bybit.account_text import OrderText, acknowledged_text
from bot.venues.bybit.decode import Grid, venue_order
from bot.venues.bybit.rate_limits import header_number, lowered
from bot.venues.bybit.trade_text import AnswerText
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


OTHER = {**PUSHED, "orderId": "00ab-8", "orderLinkId": "slwq-1-2", "side": "Sell", "price": "60001"}
NAMES = [*PUSHED, "id", "topic", "creationTime", "data", "success", "op", "zzz"]


@st.composite
def pushed(draw: st.DrawFn) -> str:
    """Messages about two orders: moved, or changed as venue and way may change them."""
    rows: list[dict[str, object]] = []
    for kind in draw(st.lists(st.sampled_from((PUSHED, OTHER)), max_size=3)):
        row: dict[str, object] = dict(kind)
        if draw(st.booleans()):
            row["price"] = draw(st.sampled_from(("60000.1", "59999.9", "60000", "7", "100.05", "0.1", "0", "")))
            row["leavesValue"], row["updatedTime"] = draw(VALUES), draw(VALUES)
        for name in draw(st.lists(st.sampled_from(NAMES), max_size=2)) if draw(st.integers(0, 2)) == 0 else ():
            row[name] = draw(VALUES | ODD | st.just({"price": "5"}))
        rows.append(dict(sorted(row.items())) if draw(st.integers(0, 9)) == 0 else row)
    message: dict[str, object] = {"id": draw(VALUES), "topic": "order", "creationTime": draw(st.integers(0, 10**19))}
    if draw(st.integers(0, 9)) == 0:
        message[draw(st.sampled_from(NAMES))] = draw(VALUES | ODD | st.just(rows))
    shown = msgspec.json.encode({**message, "data": rows}).decode()
    if draw(st.integers(0, 9)) == 0:  # twice the same name
        name = draw(st.sampled_from(sorted(PUSHED)))
        shown = shown.replace(f'"{name}":', f'"{name}":"60000.3","{name}":', draw(st.integers(1, 2)))
    if draw(st.integers(0, 3)) == 0:  # harmed on its way
        at = draw(st.integers(0, len(shown) - 1))
        shown = shown[:at] + draw(st.sampled_from(("", '"', "\\", "0", "x", ",", "\x01", " "))) + shown[at + 1 :]
    return shown


def patiently(text: str, grids: dict[str, Grid], rows: list[wire.OrderRow]) -> list[VenueOrder] | None:
    """None: that is for two passes to judge."""
    push = wire.account_push(text)
    if not isinstance(push, wire.OrderPush):
        return None
    rows += push.data
    return [
        venue_order(row, GRID_TERMS, grids[row.symbol])
        for row in push.data
        if row.symbol in grids and row.category in ("", "linear")
    ]


@settings(max_examples=400)
@given(st.lists(pushed(), min_size=1, max_size=8))
def test_orders_read_by_their_shape_are_those_that_are_decoded(texts: list[str]) -> None:
    reader, grids = OrderText("linear"), {"BTCUSDT": Grid(GRID_TERMS)}
    for text in (*[order_message(PUSHED, OTHER)] * 2, *texts, order_message(OTHER), *texts):
        if not text.isascii():
            continue
        found = reader.read(text, grids)
        rows: list[wire.OrderRow] = []
        try:
            decoded = patiently(text, grids, rows)
        except VenueError:
            assert not found
            continue
        if found:
            assert found == decoded
        elif decoded is not None:
            reader.learn(text, rows, grids)


def order_message(*rows: dict[str, object], at_ms: int = 5) -> str:
    message = {"id": "1", "topic": "order", "creationTime": at_ms, "data": rows}
    return msgspec.json.encode(message).decode()


def learned(*texts: str) -> tuple[OrderText, dict[str, Grid]]:
    reader, grids = OrderText("linear"), {"BTCUSDT": Grid(GRID_TERMS)}
    for text in texts:
        rows: list[wire.OrderRow] = []
        assert patiently(text, grids, rows)
        reader.learn(text, rows, grids)
    return reader, grids


@given(st.permutations([PUSHED, OTHER, PUSHED]))
def test_what_is_said_of_an_order_for_the_third_time_is_read_by_its_shape(rows: list[dict[str, object]]) -> None:
    reader, grids = learned(*[order_message(PUSHED, OTHER)] * 2)
    later = order_message(*[{**row, "price": f"{number}.5", "updatedTime": "9"} for number, row in enumerate(rows, 7)])
    found = reader.read(later.replace('"creationTime":5', '"creationTime":77'), grids)
    assert [order.price_ticks for order in found] == [75, 85, 95]
    assert [order.venue_order_id for order in found] == [row["orderId"] for row in rows]
    assert {order.qty_lots for order in found} == {10}


def test_an_order_that_ended_is_not_worth_a_shape() -> None:
    ended = order_message({**PUSHED, "orderStatus": "Cancelled"})
    reader, grids = learned(*[ended] * 3)
    assert reader.read(ended, grids) == []


def test_filters_that_were_read_again_are_not_those_of_the_shape() -> None:
    text = order_message(PUSHED)
    reader, grids = learned(text, text)
    assert len(reader.read(text, grids)) == 1
    assert reader.read(text, {"BTCUSDT": Grid(GRID_TERMS)}) == []


def answer_text(numbers: list[int], code: int = 0, **odd: object) -> str:
    ids = [
        {
            "category": "linear", "symbol": "BTCUSDT" if number < 50 else "ETHUSDC", "orderId": f"v-{number}",
            "orderLinkId": f"slwq-{number}",
        }
        for number in numbers
    ]  # fmt: skip
    is_batch = len(ids) > 1
    ends = [{"code": code, "msg": "OK"} for _ in ids]
    header = {"X-Bapi-Limit": "10", "X-Bapi-Limit-Status": "8", "X-Bapi-Limit-Reset-Timestamp": "5", "Timenow": "4"}
    op = "order.amend-batch" if is_batch else "order.amend"
    answer = {
        "reqId": f"0-{numbers[0]}", "retCode": 0, "retMsg": "OK", "op": op,
        "data": {"list": ids} if is_batch else ids[0], "retExtInfo": {"list": ends} if is_batch else {},
        "header": {**header, "Traceid": "ab"}, "connId": "c-1",
    }  # fmt: skip
    return msgspec.json.encode({**answer, **odd}).decode()


ANSWER_NAMES = ["reqId", "retCode", "retMsg", "op", "data", "retExtInfo", "header", "connId", "zzz"]
ODD_ANSWERS = ODD | st.sampled_from(
    [{"list": []}, {"list": [{"orderId": "1"}]}, {"orderId": "1", "orderLinkId": "2"}, "auth", 10003, {"reqId": "5"},
     {"X-Bapi-Limit-Status": "x"}, {"list": [{"code": 0}, {"code": 1}]}]
)  # fmt: skip


@st.composite
def answers(draw: st.DrawFn) -> tuple[str, int]:
    """Answers to that many orders, as a venue and the way may write them."""
    numbers = draw(st.lists(st.integers(1, 99), min_size=1, max_size=3))
    odd: dict[str, object] = {}
    if draw(st.integers(0, 2)) == 0:
        odd = {draw(st.sampled_from(ANSWER_NAMES)): draw(ODD_ANSWERS)}
    shown = answer_text(numbers, draw(st.sampled_from((0, 0, 0, 110001))), **odd)
    if draw(st.integers(0, 2)) == 0:
        name, value = draw(st.sampled_from(("X-Bapi-Limit-Status", "reqId", "orderId", "code", "orderLinkId"))), "3"
        value = draw(st.sampled_from(('"3"', "0", "110001", '""', '"x"', '"9999"')))
        shown = shown.replace(f'"{name}":', f'"{name}":{value},"{name}":', draw(st.integers(1, 2)))
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(shown) - 1))
        shown = shown[:at] + draw(st.sampled_from(("", '"', "\\", "0", "1", "x", ",", "\x01", " "))) + shown[at + 1 :]
    return shown, len(numbers)


@settings(max_examples=400)
@given(st.lists(answers(), min_size=1, max_size=8))
def test_a_success_read_by_its_shape_is_the_one_that_is_decoded(texts: list[tuple[str, int]]) -> None:
    reader = AnswerText()
    plain = [(answer_text(list(range(1, 1 + count))), count) for count in (1, 2, 3)]
    for text, orders in (*plain, *texts, *plain, *texts):
        found = reader.read(text)
        try:
            answer = wire.decode(wire.TradeAnswer, text, "trade")
        except VenueError:
            assert found is None
            continue
        if found is None:
            if answer.op != "auth":
                reader.learn(text, answer, orders)
            continue
        header = lowered(answer.header)
        assert (answer.ret_code, answer.req_id, answer.op != "auth") == (0, found.number, True)
        assert header["x-bapi-limit"] == str(found.limit)
        assert header_number(header["x-bapi-limit-status"]) == found.left
        assert header_number(header["x-bapi-limit-reset-timestamp"]) == found.resets_ms
        ids = list(zip(found.order_ids, found.link_ids, strict=True))
        if found.is_batch:
            acks = wire.decode(wire.BatchAck, answer.data, "data").rows
            assert [end.code for end in wire.decode(wire.BatchEnds, answer.ret_ext_info, "info").rows] == [0] * len(ids)
        else:
            acks = [wire.decode(wire.OrderAck, answer.data, "data")]
        assert [(ack.order_id, ack.order_link_id) for ack in acks] == ids


@given(st.integers(1, 4), st.integers(0, 40))
def test_the_next_success_of_a_kind_is_read_by_its_shape(orders: int, first: int) -> None:
    reader = AnswerText()
    text = answer_text(list(range(orders)))
    assert reader.read(text) is None
    reader.learn(text, wire.decode(wire.TradeAnswer, text, "trade"), orders)
    numbers = [first + number for number in range(orders)]
    found = reader.read(answer_text(numbers))
    assert found is not None
    assert (found.number, found.limit, found.left, found.resets_ms) == (f"0-{first}", 10, 8, 5)
    assert found.link_ids == [f"slwq-{number}" for number in numbers]
    assert [found.answers(count) for count in (orders, orders + 1)] == [True, False]
    other = reader.read(answer_text([*numbers, 48]))
    assert (other is None) == (orders == 1)  # the answer to a batch is another
    in_part = answer_text(numbers).replace('{"code":0', '{"code":110001', 1)
    assert (reader.read(in_part) is None) == (orders > 1)


def test_orders_of_several_symbols_are_read_in_whatever_order_they_come() -> None:
    reader = AnswerText()
    for numbers in ([1, 60], [61, 2, 3]):
        text = answer_text(numbers)
        if reader.read(text) is None:
            reader.learn(text, wire.decode(wire.TradeAnswer, text, "trade"), len(numbers))
    for numbers in ([60, 61], [3, 2, 1], [70, 1, 71, 2, 72], list(range(40, 60))):
        found = reader.read(answer_text(numbers))
        assert found is not None
        assert found.order_ids == [f"v-{number}" for number in numbers]
    assert reader.read(answer_text(list(range(40, 61)))) is None, "no request is of so many"


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
