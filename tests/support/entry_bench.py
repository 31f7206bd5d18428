"""An adapter and a simulated exchange with a link between them, for the tests of order entry."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from bot.domain.events import Event
from bot.domain.intent import AmendOrder, CancelOrder, PlaceOrder
from bot.domain.order import Side
from bot.simulator.exchange import Exchange
from bot.simulator.link import HOSTS, Latency, Link
from bot.simulator.listings import GENERATED, exchange_of, generated
from bot.simulator.timeline import Timeline
from bot.venues.bybit.adapter import BybitAdapter
from bot.venues.port import Outcome

START_NS = 1_767_225_600_000_000_000


class Bench:
    """An adapter on a link, both in simulated time."""

    def __init__(self, link: Link, adapter: BybitAdapter, exchange: Exchange, told: list[Event]) -> None:
        self.link, self.adapter, self.exchange, self.told = link, adapter, exchange, told

    @property
    def orders(self) -> list[str]:
        """Client ids of all open orders."""
        holder = self.exchange.holders["sim-1"]
        return [order.link_id for account in holder.accounts for order in account.open_orders.values()]

    async def place(self, number: int, price_ticks: int = 550_000) -> Outcome:
        intent = PlaceOrder(0, f"slwq-1-{number}", "BTCUSDT", Side.BUY, price_ticks, 10, 1)
        return await self.adapter.place(intent, GENERATED)

    async def amend(self, number: int, price_ticks: int) -> Outcome:
        return await self.adapter.amend(AmendOrder(0, f"slwq-1-{number}", "BTCUSDT", price_ticks, 10, 1), GENERATED)

    async def cancel(self, number: int) -> Outcome:
        return await self.adapter.cancel(CancelOrder(0, f"slwq-1-{number}", "BTCUSDT"))

    def sent(self, path: str) -> int:
        """REST requests of that endpoint so far."""
        return sum(count for (endpoint, _), count in self.adapter.http_responses.items() if endpoint == path)


def play(work: Callable[[Bench], Awaitable[Any]], *, batches: bool = True, trade_socket: bool = True) -> Any:
    timeline = Timeline(START_NS)
    exchange = exchange_of([GENERATED], generated, seed=5, now_ns=START_NS)
    exchange.open_account("key", "secret", Decimal(100_000), START_NS)

    async def whole() -> Any:
        link = Link(exchange, timeline, Latency())
        adapter = BybitAdapter(
            HOSTS, "key", "secret", ["BTCUSDT"], timeline.now_ns,
            transport=link, trade_socket=trade_socket, batches=batches,
        )  # fmt: skip
        told: list[Event] = []
        link.start_market()
        await adapter.start(told.append)
        await asyncio.sleep(0.1)  # simulated time, until the sockets are up
        try:
            return await work(Bench(link, adapter, exchange, told))
        finally:
            await adapter.close()

    with asyncio.Runner(loop_factory=lambda: timeline) as runner:
        return runner.run(whole())
