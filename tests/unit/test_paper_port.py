"""What the paper port tells comes in the order of time: an answer first, and what follows it not dated before it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import count
from types import MappingProxyType

from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.fees import FeeProfile
from bot.domain.filters import BUILT_IN
from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.paper_port import PaperPort
from bot.simulator.paper import PaperVenue
from bot.venues.port import Sink, TopOfBook

BTC = BUILT_IN["BTCUSDT"]


class OneBook:
    """A feed that has told one book when it is started, and nothing after it."""

    http_responses: Mapping[tuple[str, str], int] = MappingProxyType({})
    rate_limit_headroom: Mapping[str, float] = MappingProxyType({})
    connections_open: Mapping[str, int] = MappingProxyType({})
    ws_reconnects = 0

    async def instruments(self, symbols: Sequence[str]) -> dict[str, Instrument]:
        return {"BTCUSDT": BTC}

    async def start(self, sink: Sink) -> None:
        sink(ev.BookSnapshot(1, "BTCUSDT", ((1000, 5),), ((1002, 5),), 1, 1))

    async def close(self) -> None:
        return

    async def top_of_book(self, symbol: str) -> TopOfBook:
        raise NotImplementedError

    async def server_time_ms(self) -> int:
        return 0

    def resync(self, symbol: str) -> None:
        return


def test_what_follows_an_answer_is_not_dated_before_it() -> None:
    clock = count(10).__next__
    told: list[ev.Event] = []

    def account(listed: Sequence[Instrument]) -> PaperVenue:
        return PaperVenue(
            list(listed), Decimal(1), {"BTCUSDT": FeeProfile(Decimal(1), Decimal(5), Decimal(0))}, 1, Decimal(10_000)
        )

    async def placed() -> int:
        port = PaperPort(OneBook(), ("BTCUSDT",), account, (Decimal(1), Decimal(5)), 0, clock)
        await port.start(told.append)
        told.clear()
        await port.place(it.PlaceOrder(2, "slwq-1-1", "BTCUSDT", Side.BUY, 999, 10, 1), BTC)
        answered_at_ns = clock()
        assert told == [], "the answer comes first"
        await asyncio.sleep(0)
        return answered_at_ns

    answered_at_ns = asyncio.run(placed())
    (update,) = told
    assert isinstance(update, ev.OrderUpdated)
    assert update.at_ns > answered_at_ns
