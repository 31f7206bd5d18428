"""A bot that waits long for its grant begins with a statement that counts, and with no stop for one that does not."""

from __future__ import annotations

from decimal import Decimal

import pytest

from bot.domain import events as ev
from bot.domain import intent as it
from tests.support.engine_driver import MS, Driver, S, of

D = Decimal
LONG_S = 300
"""Beyond `statement_max_age_s`."""


class Waiting(Driver):
    """Ready but for its grant. `stating`: whether a read of the account states equity and margin."""

    def __init__(self, position_lots: int = 0) -> None:
        super().__init__(leverage_max=D(3))
        self.position_lots = position_lots
        self.stating = True
        self.granting = False
        self.start()

    def _answers(self, intent: it.Intent) -> list[ev.Event]:
        answers = super()._answers(intent)
        if isinstance(intent, it.ReadAccount) and self.stating:
            answers.append(ev.WalletRead(self.now, D(1_000), D(10), D(0)))
        return answers


@pytest.mark.parametrize("position_lots", [0, 3])
def test_it_quotes_once_it_is_granted_and_enters_no_stop(position_lots: int) -> None:
    driver = Waiting(position_lots)
    driver.wait(LONG_S * S)
    assert driver.engine.view == "INIT"
    driver.granting = True
    driver.wait(5 * S)
    assert driver.engine.view == "RUNNING"
    assert of(it.PlaceOrder, driver.sent)
    assert driver.notes("freeze_triggered") == []


def test_it_asks_no_more_often_than_needed() -> None:
    driver = Waiting()
    before = len(of(it.ReadAccount, driver.sent))
    driver.wait(LONG_S * S)
    assert len(of(it.ReadAccount, driver.sent)) - before == 1


def test_without_a_new_statement_it_sends_nothing() -> None:
    driver = Waiting(3)
    driver.stating = False
    driver.wait(LONG_S * S)
    driver.granting = True
    driver.wait(10 * S)
    assert (driver.engine.view, of(it.PlaceOrder, driver.sent)) == ("INIT", [])
    driver.stating = True
    driver.wait(2 * S + 200 * MS)
    assert driver.engine.view == "RUNNING"


def test_a_first_statement_whose_read_failed_does_not_keep_it_waiting_for_ever() -> None:
    class Failing(Waiting):
        failures = 2

        def _answers(self, intent: it.Intent) -> list[ev.Event]:
            answers = super()._answers(intent)
            if self.failures and any(isinstance(one, ev.WalletRead) for one in answers):
                self.failures -= 1
                failed = ev.ReadFailed(self.now, "wallet", "BTCUSDT", "HTTP 503")
                return [failed if isinstance(one, ev.WalletRead) else one for one in answers]
            return answers

    driver = Failing()
    driver.wait(30 * S)
    driver.granting = True
    driver.wait(5 * S)
    assert driver.engine.view == "RUNNING"
