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
from bot.simulator.bybit_messages import Json
from bot.simulator.bybit_sockets import encode
from bot.simulator.bybit_written import Written, fixed
from bot.simulator.depth import DepthMessage
from bot.simulator.listings import GENERATED, LISTINGS
from bot.simulator.orders import EndReason, Order, PublicTrade, SelfMatch, Status, TimeInForce

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
    return {
        "category": instrument.category,
        **bybit_messages.order(instrument, found),
        "closedPnl": bybit_messages.text(found.realised_quote),
        "rpiTakerAccess": False,
        "rpiMatchedQty": "0",
    }


def trade_object(instrument: Instrument, trade: PublicTrade) -> Json:
    return {
        "T": trade.at_ns // 1_000_000,
        "s": instrument.symbol,
        "S": "Buy" if trade.taker is Side.BUY else "Sell",
        "v": bybit_messages.text(instrument.qty(trade.lots)),
        "p": bybit_messages.text(instrument.price(trade.price_ticks)),
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
    return Order(
        1, draw(IDS), draw(IDS), "sim-1", draw(st.sampled_from(Side)), draw(COUNTS), lots,
        draw(st.sampled_from(TimeInForce)), draw(st.booleans()), draw(st.booleans()), draw(TIMES), draw(TIMES),
        draw(st.sampled_from(Status)), filled, filled * draw(COUNTS), draw(AMOUNTS), draw(AMOUNTS),
        draw(st.sampled_from(EndReason)), draw(st.dictionaries(st.sampled_from(["BTC", "USDT"]), AMOUNTS)),
        draw(st.sampled_from(SelfMatch)), draw(IDS),
    )  # fmt: skip


@given(st.sampled_from(INSTRUMENTS), orders())
def test_an_order_is_written_as_the_encoder_writes_it(instrument: Instrument, order: Order) -> None:
    assert Written(instrument).order(order) == encode(order_object(instrument, order))


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


@pytest.mark.parametrize("places", [0, 1, 4, 9])
@given(st.integers(-(10**20), 10**20))
def test_a_fixed_number_of_decimals_is_what_a_decimal_prints(places: int, count: int) -> None:
    assert fixed(count, places) == format(Decimal(count).scaleb(-places), "f")
