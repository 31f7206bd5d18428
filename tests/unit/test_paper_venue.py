"""Orders that never leave the process meet their fate when a real market comes to their price."""

from __future__ import annotations

from decimal import Decimal

from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.fees import FeeProfile
from bot.domain.filters import BUILT_IN
from bot.domain.order import Side
from bot.simulator.paper import PaperVenue

BTC = BUILT_IN["BTCUSDT"]
FEES = FeeProfile(Decimal("1"), Decimal("5"), Decimal(0))
EQUITY = Decimal(10_000)


def venue(fill_rate: str = "1") -> PaperVenue:
    made = PaperVenue([BTC], Decimal(fill_rate), {"BTCUSDT": FEES}, 1, EQUITY)
    made.hear(ev.BookSnapshot(1, "BTCUSDT", ((1000, 5),), ((1002, 5),), 1, 1), 1)
    return made


def place(to: PaperVenue, price_ticks: int, side: Side = Side.BUY, name: str = "slwq-1-1") -> list[ev.Event]:
    return to.arrive(it.PlaceOrder(2, name, "BTCUSDT", side, price_ticks, 10, 1), 2)


def prints(to: PaperVenue, price_ticks: int, taker: Side) -> list[ev.Event]:
    return to.hear(ev.TradePrinted(3, "BTCUSDT", price_ticks, 1, taker, 3), 3)


def test_an_order_fills_whole_when_a_trade_prints_at_its_price() -> None:
    one = venue()
    place(one, 999)
    assert prints(one, 1000, Side.SELL) == []
    assert prints(one, 999, Side.BUY) == []
    filled, updated = prints(one, 999, Side.SELL)
    assert isinstance(filled, ev.Filled)
    assert (filled.price, filled.qty_lots, filled.is_maker) == (BTC.price(999), 10, True)
    assert isinstance(updated, ev.OrderUpdated)
    assert updated.order.status is ev.OrderStatus.FILLED
    assert one.ended("slwq-1-1") == updated.order
    assert prints(one, 998, Side.SELL) == []


def test_an_order_that_was_not_drawn_to_fill_lapses() -> None:
    one = venue("0")
    place(one, 999)
    (told,) = prints(one, 999, Side.SELL)
    assert isinstance(told, ev.OrderUpdated)
    assert told.order.status is ev.OrderStatus.CANCELLED
    assert list(one.fills) == []


def test_a_book_that_reaches_an_order_meets_it_too() -> None:
    one = venue()
    place(one, 1001)
    told = one.hear(ev.BookDelta(3, "BTCUSDT", (), ((1002, 0), (1001, 4)), 2, 3), 3)
    assert isinstance(told[0], ev.Filled)


def test_a_taker_meets_the_best_order_of_the_side_it_visits() -> None:
    one = venue()
    place(one, 998, name="slwq-1-1")
    place(one, 999, name="slwq-1-2")
    place(one, 1003, Side.SELL, name="slwq-1-3")
    filled = prints(one, 997, Side.SELL)[0]
    assert isinstance(filled, ev.Filled)
    assert filled.client_order_id == "slwq-1-2"
    assert one.open_count == 2


def test_a_post_only_order_that_would_take_is_refused_for_that_reason() -> None:
    told = place(venue(), 1002)
    assert isinstance(told[1], ev.OrderUpdated)
    assert told[1].order.post_only_refused


def test_equity_is_cash_and_positions_at_the_middle() -> None:
    one = venue()
    place(one, 999)
    prints(one, 999, Side.SELL)
    paid = BTC.qty(10) * BTC.price(999)
    fee = paid / 10_000
    assert one.equity_quote() == EQUITY - paid - fee + BTC.qty(10) * BTC.price(1001)
