"""A resize is a limits event under a new epoch: less holds at once, what is above it may only be reduced."""

from __future__ import annotations

from decimal import Decimal

from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.order import Side
from tests.support.engine_driver import MS, SYMBOL, Driver

D = Decimal


def _granted(driver: Driver, inventory: int, *, symbols: tuple[str, ...] = ()) -> list[it.Intent]:
    driver.granting = False
    driver.epoch += 1
    grant = ev.GrantReceived(driver.now, "acct", driver.epoch, D(inventory), D(2000), 60.0, False, symbols)
    return driver.tell(grant)


def _long(driver: Driver, fills: int) -> None:
    for _ in range(fills):
        driver.fill(driver.quotes[Side.BUY].client_order_id, driver.quotes[Side.BUY].qty_lots)
        driver.wait(300 * MS)


def test_inventory_above_a_smaller_limit_is_only_reduced() -> None:
    driver = Driver(inventory_max_quote=D(1000)).start()
    _long(driver, 2)
    assert driver.position_lots == 8, "400 quote at 50,000"
    assert set(driver.quotes) == {Side.BUY, Side.SELL}
    _granted(driver, 200)
    driver.wait(300 * MS)
    assert set(driver.quotes) == {Side.SELL}, "400 quote held, 200 allowed"
    driver.fill(driver.quotes[Side.SELL].client_order_id, driver.quotes[Side.SELL].qty_lots)
    driver.wait(300 * MS)
    assert driver.position_lots == 4
    _granted(driver, 1000)
    driver.wait(300 * MS)
    assert set(driver.quotes) == {Side.BUY, Side.SELL}


def test_a_grant_never_lifts_what_the_bot_was_launched_with() -> None:
    driver = Driver().start()
    _granted(driver, 1_000_000)
    assert driver.engine.state.inventory_max_quote == 500
    _granted(driver, 300)
    assert driver.engine.state.inventory_max_quote == 300


def test_a_resize_is_told_with_its_epoch_and_a_renewal_is_not() -> None:
    driver = Driver().start()
    driver.sent.clear()
    _granted(driver, 300)
    (told,) = driver.notes("grant_changed")
    assert (told.fields["change"], told.fields["epoch"], told.fields["inventory_max_quote"]) == ("changed", 2, "300")
    driver.tell(ev.GrantReceived(driver.now, "acct", 2, D(300), D(2000), 60.0))
    assert len(driver.notes("grant_changed")) == 1


def test_a_symbol_that_the_grant_leaves_out_is_only_reduced_and_owes_no_quotes() -> None:
    driver = Driver().start()
    _long(driver, 1)
    _granted(driver, 500, symbols=("ETHUSDT",))
    driver.wait(300 * MS)
    assert set(driver.quotes) == {Side.SELL}
    owed = driver.engine.seconds[("mm_may_quote_seconds_total", (SYMBOL,))]
    driver.wait(1000 * MS)
    assert driver.engine.seconds[("mm_may_quote_seconds_total", (SYMBOL,))] == owed
    _granted(driver, 500, symbols=(SYMBOL,))
    driver.wait(300 * MS)
    assert set(driver.quotes) == {Side.BUY, Side.SELL}
