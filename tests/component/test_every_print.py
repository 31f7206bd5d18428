"""A message of several prints: captures and shadow on public data are told of all, a bot's engine of the newest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from bot.capture import CaptureWriter, Header, read_events
from bot.domain.events import Event, TradePrinted
from bot.simulator.exchange import Exchange
from bot.simulator.link import HOSTS, Latency, Link, LinkSocket
from bot.simulator.listings import GENERATED, exchange_of, generated
from bot.simulator.timeline import Timeline
from bot.venues.bybit.adapter import BybitAdapter
from bot.venues.bybit.public_feed import BybitFeed

START_NS = 1_767_225_600_000_000_000
SIZES = ["0.010", "0.250", "0.010", "1.500", "0.003"]


class Opened(Link):
    """A link that knows its newest socket of market data."""

    market: LinkSocket

    async def connect(self, url: str, timeout_s: float) -> LinkSocket:
        socket = await super().connect(url, timeout_s)
        if socket.kind == "public":
            self.market = socket
        return socket


def sweep() -> str:
    """One message of five prints, one of them of the price and size of another."""
    rows = [
        {
            "T": START_NS // 1_000_000,
            "s": "BTCUSDT",
            "S": "Buy",
            "v": size,
            "p": f"6000{number // 2}.0",
            "i": str(number),
        }
        for number, size in enumerate(SIZES)
    ]
    return msgspec.json.encode({"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": 1, "data": rows}).decode()


def told_of(reader: Callable[[Link, Timeline], Any], sink: Callable[[Event], None]) -> None:
    """Lets it read a market that stands still until the message has come."""
    timeline = Timeline(START_NS)
    exchange: Exchange = exchange_of([GENERATED], generated, seed=5, now_ns=START_NS)
    exchange.open_account("key", "secret", Decimal(100_000), START_NS)

    async def whole() -> None:
        link = Opened(exchange, timeline, Latency())
        reading = reader(link, timeline)
        await reading.start(sink)
        await asyncio.sleep(0.1)  # simulated time, until it is subscribed
        link.market.arrive(sweep())
        await reading.close()

    with asyncio.Runner(loop_factory=lambda: timeline) as runner:
        runner.run(whole())


def test_a_capture_holds_every_print_of_a_message_in_order(tmp_path: Path) -> None:
    path = tmp_path / "swept.gz"
    with CaptureWriter(path, Header(1, "bybit", "linear", ("BTCUSDT",), "v")) as writer:
        told_of(lambda link, clock: BybitFeed(HOSTS, ["BTCUSDT"], clock.now_ns, transport=link), writer.take)
    printed = [event for event in read_events(path) if isinstance(event, TradePrinted)]
    assert [GENERATED.qty(one.qty_lots) for one in printed] == [Decimal(size) for size in SIZES]
    assert [GENERATED.price(one.price_ticks) for one in printed] == [60_000, 60_000, 60_001, 60_001, 60_002]


def test_the_engine_of_a_bot_goes_by_the_newest_print_alone() -> None:
    told: list[Event] = []
    told_of(
        lambda link, clock: BybitAdapter(HOSTS, "key", "secret", ["BTCUSDT"], clock.now_ns, transport=link),
        told.append,
    )
    (printed,) = [event for event in told if isinstance(event, TradePrinted)]
    assert GENERATED.qty(printed.qty_lots) == Decimal(SIZES[-1])
