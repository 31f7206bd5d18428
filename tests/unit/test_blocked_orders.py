"""What was held back is told with everything needed to see why: which order, how much, the number that decided."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from bot.domain import intent as it
from bot.domain.order import Side
from tests.support.engine_driver import ASK, BID, SYMBOL, Driver, S, of

D = Decimal


def notes(driver: Driver, event: str) -> list[it.Note]:
    return [note for note in of(it.Note, driver.sent) if note.event == event]


def fields_of(driver: Driver, event: str, side: Side) -> dict[str, Any]:
    return next(note.fields for note in notes(driver, event) if note.fields["side"] == side.value)


def test_an_order_that_is_too_small_is_told_with_what_would_have_been_enough() -> None:
    driver = Driver(order_notional_quote=D(20)).start()
    assert fields_of(driver, "order_blocked", Side.BUY) == {
        "client_order_id": "slwq-1-1",
        "symbol": SYMBOL,
        "side": "buy",
        "qty": "0.000",
        "price": "49970.0",
        "reason": "min_qty",
        "value": "0.000",
        "min_qty_required": "0.002",
    }


def test_an_order_past_a_limit_is_told_with_the_limit_and_counted_once() -> None:
    driver = Driver(order_notional_max_quote=D(100)).start()
    driver.wait(2 * S)
    assert not driver.quotes
    told = [note for note in notes(driver, "risk_check_blocked") if note.fields["side"] == "sell"]
    assert len(told) == 1
    assert told[0].level == "INFO"
    fields = told[0].fields
    assert (fields["reason"], fields["limit"], fields["qty"]) == ("order_notional", "100", "0.004")
    assert D(str(fields["value"])) > 100
    assert str(fields["client_order_id"]).startswith("slwq-1-")


def test_what_stands_is_named_where_its_change_is_held_back() -> None:
    driver = Driver().start()
    standing = driver.quotes[Side.SELL].client_order_id
    driver.book(499_000, 499_002)
    driver.wait(S)
    driver.engine.state.last_trade[SYMBOL].told(450_000, driver.now)  # an independent mark far away
    driver.sent.clear()
    driver.book(500_000, 500_002)
    driver.wait(S)
    assert fields_of(driver, "risk_check_blocked", Side.SELL)["client_order_id"] == standing
    assert fields_of(driver, "risk_check_blocked", Side.SELL)["reason"] == "price_collar"


def test_no_acknowledgement_in_time_is_an_error_of_placement() -> None:
    driver = Driver(ack_timeout_s=D(3))
    driver.silent.add(it.PlaceOrder)
    driver.start()
    driver.wait(5 * S)
    told = notes(driver, "order_placement_error")
    assert {note.level for note in told} == {"ERROR"}
    assert told[0].fields["reason"] == "ack_timeout"


def test_an_order_that_would_take_by_the_newest_book_at_the_moment_of_sending_does_not_leave() -> None:
    """Risk has approved it, and the market falls through it before it leaves."""
    driver = Driver()
    book, risk = driver.engine.state.books[SYMBOL], driver.engine._cycle._out._risk
    approve = risk.approve

    def approve_while_the_market_falls(*asked: Any) -> Any:
        answer = approve(*asked)
        book.replace(((BID - 30_000, 5_000),), ((ASK - 30_000, 5_000),), 99, driver.now)
        return answer

    risk.approve = approve_while_the_market_falls  # type: ignore[method-assign]
    driver.start()
    assert not [
        sent for sent in of(it.PlaceOrder, driver.sent) if sent.price_ticks >= ASK - 30_000 and sent.side == "buy"
    ]
    assert driver.count("mm_orders_blocked_total", SYMBOL, "maker_only") == 1
    told = fields_of(driver, "order_blocked", Side.BUY)
    assert (told["reason"], told["limit"]) == ("maker_only", "47000.2")
