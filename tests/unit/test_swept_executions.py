"""What a read finds is told as of when it is told, and with when it was asked: the journal's time never runs back."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import cast

from bot.domain.events import Event, ExecutionsSwept, Filled, OrderStatus, OrderUpdated, VenueOrder
from bot.domain.instrument import Instrument
from bot.domain.intent import ProbeOrder
from bot.domain.order import Side
from bot.engine.recovery import instrument_of
from bot.runtime.grant import GrantHolder
from bot.runtime.sender import Sender
from bot.venues.port import VenuePort
from tests.support.engine_driver import SYMBOL, filters


class OneExecution:
    """A venue that tells of one execution, and of one order, read a while before the answer is handed on."""

    def __init__(self) -> None:
        self.at_ns = 1_000_000_000

    def now_ns(self) -> int:
        self.at_ns += 1_000
        return self.at_ns

    async def server_time_ms(self) -> int:
        return self.at_ns // 1_000_000

    async def executions(self, symbol: str, since_ms: int, instrument: Instrument) -> list[Filled]:
        read = self.now_ns()
        found = Filled(read, "e1", "slwq-1-1", "v1", symbol, Side.BUY, Decimal(50_000), 4, Decimal(0), True, read)
        self.at_ns += 5_000_000
        return [found]

    async def order(self, symbol: str, client_order_id: str, instrument: Instrument) -> VenueOrder:
        self.at_ns += 5_000_000
        return VenueOrder(symbol, client_order_id, "v1", Side.BUY, 500_000, 4, 0, OrderStatus.WORKING)


def _sender(venue: OneExecution, told: list[Event]) -> Sender:
    sender = Sender(cast(VenuePort, venue), GrantHolder("a"), venue.now_ns, told.append, lambda error, where: None)
    sender.instruments[SYMBOL] = instrument_of(filters(0))
    return sender


def test_a_probe_tells_when_it_was_asked() -> None:
    venue, told = OneExecution(), list[Event]()
    sender, asked_at_ns = _sender(venue, told), venue.at_ns
    asyncio.run(sender._probe(ProbeOrder(asked_at_ns, "slwq-1-1", SYMBOL)))
    (updated,) = told
    assert isinstance(updated, OrderUpdated)
    assert updated.asked_at_ns == asked_at_ns < updated.at_ns - 5_000_000


def test_a_fill_that_a_sweep_finds_is_not_older_than_the_sweep() -> None:
    venue, told = OneExecution(), list[Event]()
    sender = _sender(venue, told)

    async def twice() -> None:
        await sender._sweep_executions(SYMBOL)  # the first only finds out from when on
        await sender._sweep_executions(SYMBOL)

    asyncio.run(twice())
    swept, fill = told
    assert isinstance(swept, ExecutionsSwept)
    assert isinstance(fill, Filled)
    assert fill.execution_id == "e1"
    assert [one.at_ns for one in told] == sorted(one.at_ns for one in told)
    assert fill.venue_at_ns < swept.at_ns, "when it happened is the venue's word, and stays"
