"""What the simulated venue writes straight as text is what its encoder makes of the same objects, to the byte."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.simulator import bybit_messages
from bot.simulator.bybit import Outcome, envelope
from bot.simulator.bybit_messages import Json, text
from bot.simulator.bybit_numbers import Grid
from bot.simulator.bybit_sockets import encode
from bot.simulator.bybit_written import PushedOrders, Written
from bot.simulator.depth import DepthMessage
from bot.simulator.funding import Funding
from bot.simulator.listings import GENERATED, LISTINGS
from bot.simulator.orders import EndReason, Execution, Order, PublicTrade, SelfMatch, Status, TimeInForce

ODD = Instrument(
    "A\"é\\USDT", "linear", "A", "US\"D", Decimal("0.05"), Decimal("2.5"), Decimal("2.5"), Decimal(100), Decimal(5)
)  # fmt: skip
COARSE = Instrument("XUSDT", "spot", "X", "USDT", Decimal(10), Decimal("1E+1"), Decimal(1), Decimal(100), Decimal(5))
FINE = Instrument(
    "YUSDT", "linear", "Y", "USDT", Decimal("1E-9"), Decimal("0.0001"), Decimal(1), Decimal(9), Decimal(5)
)  # fmt: skip
INSTRUMENTS = [GENERATED, *(one.instrument for one in LISTINGS.values()), ODD, COARSE, FINE]
AMOUNTS = st.decimals(-1000, 1000, places=9, allow_nan=False) | st.just(Decimal(0)) | st.just(Decimal("1E-9"))


def order_object(instrument: Instrument, found: Order) -> Json:
    unit, left_lots = instrument.tick_size * instrument.lot_size, found.left_lots
    return {
        "symbol": instrument.symbol,
        "orderId": found.order_id,
        "orderLinkId": found.link_id,
        "side": "Buy" if found.side is Side.BUY else "Sell",
        "orderType": "Market" if found.is_market else "Limit",
        "price": text(instrument.price(found.price_ticks)),
        "qty": text(instrument.qty(found.qty_lots)),
        "timeInForce": found.tif.value,
        "orderStatus": bybit_messages.status(instrument, found),
        "cancelType": bybit_messages.CANCEL_TYPES.get(found.end_reason, "UNKNOWN"),
        "rejectReason": bybit_messages.REJECT_REASONS[found.end_reason],
        "reduceOnly": found.reduce_only,
        "leavesQty": text(instrument.qty(left_lots)),
        "leavesValue": text(unit * (left_lots * found.price_ticks)),
        "cumExecQty": text(instrument.qty(found.filled_lots)),
        "cumExecValue": text(unit * found.filled_cost),
        "cumExecFee": text(found.fee_quote),
        "avgPrice": bybit_messages.average_text(instrument, found) if found.filled_lots else "",
        "createdTime": str(found.created_at_ns // 1_000_000),
        "updatedTime": str(found.updated_at_ns // 1_000_000),
        "positionIdx": 0,
        "isLeverage": "",
        "orderIv": "",
        "stopOrderType": "",
        "tpslMode": "",
        "triggerPrice": "",
        "takeProfit": "",
        "stopLoss": "",
        "tpTriggerBy": "",
        "slTriggerBy": "",
        "tpLimitPrice": "",
        "slLimitPrice": "",
        "triggerDirection": 0,
        "triggerBy": "",
        "closeOnTrigger": False,
        "lastPriceOnCreated": "",
        "placeType": "",
        "blockTradeId": "",
        "smpType": found.self_match.value,
        "smpGroup": 0,
        "smpOrderId": found.self_match_id,
        "createType": "CreateByUser",
        "feeCurrency": next(iter(found.fees), instrument.quote),
        "cumFeeDetail": bybit_messages.fee_detail(instrument, found),
    }


def pushed_order_object(instrument: Instrument, found: Order) -> Json:
    return {
        "category": instrument.category,
        **order_object(instrument, found),
        "closedPnl": text(found.realised_quote),
        "rpiTakerAccess": False,
        "rpiMatchedQty": "0",
    }


def execution_object(instrument: Instrument, found: Execution, mark: Decimal) -> Json:
    return {
        "symbol": instrument.symbol,
        "orderId": found.order_id,
        "orderLinkId": found.link_id,
        "side": "Buy" if found.side is Side.BUY else "Sell",
        "orderType": "Market" if found.is_market else "Limit",
        "orderPrice": text(instrument.price(found.order_price_ticks)),
        "orderQty": text(instrument.qty(found.order_qty_lots)),
        "leavesQty": text(instrument.qty(found.left_lots)),
        "execId": found.execution_id,
        "execType": "Trade",
        "execPrice": text(instrument.price(found.price_ticks)),
        "execQty": text(instrument.qty(found.lots)),
        "execValue": text(instrument.notional_quote(found.price_ticks, found.lots)),
        "execFee": text(found.fee_quote),
        "feeRate": text(found.fee_rate),
        "feeCurrency": found.fee_coin or instrument.quote,
        "execTime": str(found.at_ns // 1_000_000),
        "execPnl": text(found.realised_quote),
        "isMaker": found.is_maker,
        "closedSize": text(instrument.qty(found.closed_lots)),
        "markPrice": text(mark),
        "indexPrice": "",
        "underlyingPrice": "",
        "markIv": "",
        "tradeIv": "",
        "blockTradeId": "",
        "stopOrderType": "",
        "isLeverage": "0",
        "marketUnit": "",
        "createType": "CreateByUser",
        "extraFees": "",
        "seq": found.sequence,
    }


FAST = ("symbol", "execId", "execPrice", "execQty", "orderId", "isMaker", "side", "execTime", "seq")


def fast_object(instrument: Instrument, found: Execution) -> Json:
    row = execution_object(instrument, found, Decimal(0))
    return {
        "category": instrument.category,
        **{name: row[name] for name in FAST},
        "orderLinkId": "" if found.is_maker else found.link_id,
    }


def trade_object(instrument: Instrument, trade: PublicTrade) -> Json:
    return {
        "T": trade.at_ns // 1_000_000,
        "s": instrument.symbol,
        "S": "Buy" if trade.taker is Side.BUY else "Sell",
        "v": text(instrument.qty(trade.lots)),
        "p": text(instrument.price(trade.price_ticks)),
        "L": "ZeroPlusTick",
        "i": trade.trade_id,
        "BT": False,
        "RPI": False,
        "seq": trade.sequence,
    }


def book_object(instrument: Instrument, message: DepthMessage, topic: str, sequence: int, at_ns: int) -> Json:
    return {
        "topic": topic,
        "type": "snapshot" if message.is_snapshot else "delta",
        "ts": at_ns // 1_000_000,
        "data": {
            "s": instrument.symbol,
            "b": bybit_messages.levels(instrument, message.bids),
            "a": bybit_messages.levels(instrument, message.asks),
            "u": message.update_id,
            "seq": sequence,
        },
        "cts": at_ns // 1_000_000,
    }


COUNTS = st.integers(0, 10**9)
TIMES = st.integers(0, 2 * 10**18)
IDS = st.text("abcXYZ019_-", max_size=36)


@st.composite
def orders(draw: st.DrawFn) -> Order:
    lots = draw(st.integers(1, 10**6))
    filled = draw(st.integers(0, lots))
    order = Order(
        1, draw(IDS), draw(IDS), "sim-1", draw(st.sampled_from(Side)), draw(COUNTS), lots,
        draw(st.sampled_from(TimeInForce)), draw(st.booleans()), draw(st.booleans()), draw(TIMES), draw(TIMES),
        draw(st.sampled_from(SelfMatch)),
    )  # fmt: skip
    order.status, order.filled_lots = draw(st.sampled_from(Status)), filled
    order.filled_cost = filled * draw(COUNTS)
    order.fee_quote, order.realised_quote = draw(AMOUNTS), draw(AMOUNTS)
    order.end_reason = draw(st.sampled_from(EndReason))
    order.fees = draw(st.dictionaries(st.sampled_from(["BTC", "USDT"]), AMOUNTS))
    order.self_match_id = draw(IDS)
    return order


@given(st.sampled_from(INSTRUMENTS), orders())
def test_an_order_is_written_as_the_encoder_writes_it(instrument: Instrument, order: Order) -> None:
    written = Written(instrument)
    assert written.order(order, pushed=True) == encode(pushed_order_object(instrument, order))
    assert written.order(order, pushed=False) == encode(order_object(instrument, order))


EXECUTIONS = st.builds(
    Execution, IDS, COUNTS, orders(), COUNTS, COUNTS, AMOUNTS, AMOUNTS, st.booleans(), COUNTS, COUNTS, AMOUNTS, TIMES,
    st.sampled_from(["", "BTC", "US\"D"]),
)  # fmt: skip


@given(
    st.sampled_from(INSTRUMENTS),
    st.lists(orders(), min_size=1, max_size=3, unique_by=lambda one: one.order_id),
    st.lists(st.integers(0, 2)),
)
def test_an_order_pushed_again_is_written_as_for_the_first_time(
    instrument: Instrument, found: list[Order], told: list[int]
) -> None:
    pushed = PushedOrders(Written(instrument))
    for number, which in enumerate(told):
        order = found[which % len(found)].as_it_stands()
        order.price_ticks += number
        order.updated_at_ns += number * 1_000_000
        assert pushed.text(order) == Written(instrument).order(order, pushed=True)


@given(st.sampled_from(INSTRUMENTS), EXECUTIONS, AMOUNTS)
def test_an_execution_is_written_as_the_encoder_writes_it(
    instrument: Instrument, found: Execution, mark: Decimal
) -> None:
    row, written = execution_object(instrument, found, mark), Written(instrument)
    mark_text = text(mark)
    assert written.execution(found, mark_text, pushed=False) == encode(row)
    assert written.execution(found, mark_text, pushed=True) == encode({"category": instrument.category, **row})
    assert written.fast_execution(found) == encode(fast_object(instrument, found))


PAID = st.builds(Funding, IDS, COUNTS, IDS, st.sampled_from(Side), COUNTS, COUNTS, AMOUNTS, AMOUNTS, TIMES)


@given(st.sampled_from(INSTRUMENTS), PAID)
def test_funding_is_written_as_the_encoder_writes_it(instrument: Instrument, paid: Funding) -> None:
    row = bybit_messages.funding(instrument, paid)
    assert Written(instrument).execution(paid, "", pushed=True) == encode({"category": instrument.category, **row})


@given(st.sampled_from(INSTRUMENTS), st.builds(PublicTrade, COUNTS, st.sampled_from(Side), COUNTS, COUNTS, TIMES))
def test_a_trade_is_written_as_the_encoder_writes_it(instrument: Instrument, trade: PublicTrade) -> None:
    assert Written(instrument).trade(trade) == encode(trade_object(instrument, trade))


LEVELS = st.lists(st.tuples(COUNTS, COUNTS), max_size=5)


@given(st.sampled_from(INSTRUMENTS), st.builds(DepthMessage, st.booleans(), LEVELS, LEVELS, COUNTS), COUNTS, TIMES)
def test_a_book_is_written_as_the_encoder_writes_it(
    instrument: Instrument, message: DepthMessage, sequence: int, at_ns: int
) -> None:
    topic = f"orderbook.50.{instrument.symbol}"
    written = Written(instrument).book(msgspec.json.encode(topic).decode(), message, sequence, at_ns // 1_000_000)
    assert written == encode(book_object(instrument, message, topic, sequence, at_ns))


@given(st.sampled_from([0, 10001]), st.sampled_from(["OK", "success", "no"]), st.booleans(), TIMES)
def test_an_envelope_is_what_the_encoder_makes_of_it(code: int, message: str, has_extra: bool, at_ns: int) -> None:
    extra: Json = {"list": []} if has_extra else {}
    result: Json = {"orderId": "1", "orderLinkId": ""}
    whole = {"retCode": code, "retMsg": message, "result": result, "retExtInfo": extra, "time": at_ns // 1_000_000}
    assert envelope(Outcome(code, message, result, None, extra=extra), at_ns).decode() == encode(whole)


@pytest.mark.parametrize("step", ["0.1", "1", "0.5"])
def test_the_opening_of_a_level_is_its_price_between_what_stands_around_it(step: str) -> None:
    grid = Grid(Decimal(step))
    for count in (0, -1, 1, 4_095, 4_096, 8_191, 0, 4_096, -4_096, 1):
        assert grid.opening(count) == f'"],["{grid.value(count)}","'
