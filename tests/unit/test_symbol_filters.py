"""Symbol filters are trusted for their time and no longer; live, a symbol whose filters are in doubt is not quoted."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from decimal import Decimal

import msgspec
import pytest

from bot.assembly_shadow import NoVenue
from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.counts import Counts
from bot.domain.events import Event, InstrumentsRead
from bot.domain.instrument import Instrument
from bot.domain.order import OrderState
from bot.engine.engine import Engine
from bot.metrics import LOG_LEVELS
from bot.runtime.logs import JsonLog
from bot.runtime.process_metrics import ProcessMetrics
from bot.runtime.symbol_filters import SymbolFilters, read_of
from bot.venues.port import Accepted, Refused, VenueUnknown
from tests.support.engine_driver import MS, SYMBOL, Driver, S, filters, of

D = Decimal
BTC = Instrument(SYMBOL, "linear", "BTC", "USDT", D("0.1"), D("0.001"), D("0.001"), D(100), D(5))
MINUTE = 60 * S


class Port:
    """Answers with `listed`, or fails while that is None."""

    def __init__(self) -> None:
        self.listed: Instrument | None = BTC
        self.asked = 0

    async def instruments(self, symbols: Sequence[str]) -> dict[str, Instrument]:
        self.asked += 1
        if self.listed is None:
            raise VenueUnknown("no answer")
        return dict.fromkeys(symbols, self.listed)


class Rig:
    """The cache with a clock, a port and whoever is told."""

    def __init__(self) -> None:
        self.now = 1_000 * S
        self.port = Port()
        self.told: list[InstrumentsRead] = []
        log = JsonLog([io.StringIO()], lambda: self.now)
        self.metrics = ProcessMetrics(NoVenue(), Counts(LOG_LEVELS), dict, version="v", digest="d", live_enabled=False)
        self.instruments = {SYMBOL: BTC}
        self.cache = SymbolFilters(self.port, lambda: self.now, self.tell, self.instruments, self.metrics, log)  # type: ignore[arg-type]  # the part of a port that it asks
        self.tell(read_of(BTC, self.now, "fetched"))
        self.told.clear()

    def tell(self, event: Event) -> None:
        assert isinstance(event, InstrumentsRead)
        self.told.append(event)
        self.cache.told(event)

    def look_after(self, minutes: int) -> list[str]:
        self.now += minutes * MINUTE
        self.told.clear()
        asyncio.run(self.cache.look(SYMBOL))
        return [event.source for event in self.told]


def test_filters_are_not_asked_for_again_before_their_time_and_then_are() -> None:
    rig = Rig()
    for _ in range(7):
        assert rig.look_after(1) == []
    assert rig.port.asked == 0
    assert rig.look_after(1) == []  # the same again: nothing to tell
    assert rig.port.asked == 1
    assert dict(rig.metrics.filter_sources) == {"fetched": 2, "cached": 7, "default_fallback": 0}


def test_what_outlived_its_time_unread_is_a_fallback_until_the_venue_answers() -> None:
    rig = Rig()
    rig.port.listed = None
    assert rig.look_after(9) == []  # tried early, still inside its time
    assert rig.look_after(1) == ["default_fallback"]
    assert rig.look_after(1) == []  # told once
    assert rig.metrics.filter_fetch_errors == 3
    rig.port.listed = BTC
    assert rig.look_after(1) == ["fetched"]


def test_a_refusal_for_price_or_size_puts_them_in_doubt_at_once() -> None:
    rig = Rig()
    assert not rig.cache.doubt(SYMBOL, Accepted("v1"))
    assert not rig.cache.doubt(SYMBOL, Refused(110007, "not enough balance"))
    assert not rig.cache.doubt(SYMBOL, Refused(170218, "post only", post_only=True))
    assert rig.cache.doubt(SYMBOL, Refused(110003, "price is out of range"))
    rig.port.listed = None
    assert rig.look_after(0) == ["default_fallback"]
    rig.port.listed = msgspec.structs.replace(BTC, qty_min=D("0.005"))
    assert rig.look_after(0) == ["fetched"]
    assert rig.told[0].qty_min == D("0.005")


def test_another_tick_under_a_running_bot_is_refused_and_the_symbol_stays_blocked() -> None:
    rig = Rig()
    rig.port.listed = msgspec.structs.replace(BTC, tick_size=D("0.5"))
    assert rig.look_after(9) == ["default_fallback"]
    assert rig.told[0].tick_size == D("0.1")
    assert rig.look_after(1) == []


def test_live_a_symbol_with_fallback_filters_is_cancelled_and_not_quoted_until_they_are_read() -> None:
    driver = Driver().start()
    assert len(driver.venue) == 2
    driver.sent.clear()
    driver.tell(msgspec.structs.replace(filters(driver.now), source="default_fallback"))
    assert len(of(it.CancelOrder, driver.sent)) == 2
    driver.wait(2 * S)
    assert (driver.venue, of(it.PlaceOrder, driver.sent)) == ({}, [])
    assert driver.engine.view == "RUNNING"
    driver.tell(filters(driver.now))
    driver.wait(200 * MS)
    assert len(driver.venue) == 2


@pytest.mark.parametrize("outcome", ["refused", "unreachable"])
def test_live_a_cancel_of_a_blocked_symbol_that_failed_is_sent_again(outcome: str) -> None:
    driver = Driver().start()
    standing = set(driver.venue)
    driver.silent = {it.CancelOrder}
    driver.tell(msgspec.structs.replace(filters(driver.now), source="default_fallback"))
    for name in standing:
        driver.tell(ev.CancelAnswered(driver.now, name, outcome, "10006 too many visits"))
    driver.silent = set()
    driver.wait(2 * S)
    assert (driver.venue, driver.engine.view) == ({}, "RUNNING")


def test_live_a_bot_that_starts_with_fallback_filters_quotes_nothing_and_in_shadow_it_does() -> None:
    for mode, standing in (("live", 0), ("shadow", 2)):
        driver = Driver(mode=mode)
        driver.start()
        driver.tell(msgspec.structs.replace(filters(driver.now), source="default_fallback"))
        driver.wait(2 * S)
        assert len(driver.venue) == standing


def test_a_restart_after_a_fallback_has_the_orders_that_its_journal_cancelled_and_asks_after_them() -> None:
    driver = Driver()
    journal: list[ev.Event | it.Intent] = []
    receive = driver.engine.receive

    def kept(event: ev.Event) -> list[it.Intent]:
        intents = receive(event)
        journal.extend([event, *intents])
        return intents

    driver.engine.receive = kept  # type: ignore[method-assign]  # looks on
    driver.start()
    driver.silent = {it.CancelOrder}
    driver.tell(msgspec.structs.replace(filters(driver.now), source="default_fallback"))
    for cut in range(len(journal)):
        restored = Engine(driver.parameters)
        assert restored.restore(journal[:cut]) == cut
    assert {order.state for order in restored.live_orders()} <= {OrderState.PENDING_CANCEL, OrderState.WORKING}
