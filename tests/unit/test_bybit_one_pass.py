"""What is read in one pass over a message is what two passes read; whatever one pass does not take is left to two."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from bot.venues.bybit import wire
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
