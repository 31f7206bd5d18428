"""`replay` of a capture: the whole bot in shadow over recorded market data, in simulated time.

The same capture, settings and seed give the same report and the same intents, byte for byte, as fast as it goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final

from bot.capture import CaptureUnreadable, PublicEvent, read_events, read_header
from bot.domain.events import InstrumentsRead, ShutdownRequested
from bot.domain.instrument import Instrument
from bot.resolution import Resolved
from bot.running_paper import run_over
from bot.runtime.logs import JsonLog
from bot.runtime.process import Process
from bot.settings_file import ConfigError
from bot.simulation import SimulatedClock
from bot.simulator.timeline import NS_PER_S, Timeline
from bot.venues.port import Sink, TopOfBook, VenueRefused, VenueUnknown

LEAD_NS: Final = NS_PER_S
"""Simulated time before the first event."""


class CaptureFeed:
    """PublicFeed out of a file. `over`: called once, after the last event; `broken`: why the file ended before it."""

    http_responses: Mapping[tuple[str, str], int] = {}
    rate_limit_headroom: Mapping[str, float] = {}
    ws_reconnects = 0

    def __init__(self, path: Path, symbols: Sequence[str], timeline: Timeline) -> None:
        self._path = path
        self._symbols = frozenset(symbols)
        self._timeline = timeline
        self._events: Iterator[PublicEvent] = iter(())
        self._open = 0
        self.over: Callable[[], None] = lambda: None
        self.broken = ""

    async def start(self, sink: Sink) -> None:
        self._events, self._open = read_events(self._path), 1
        self._next(sink)

    async def close(self) -> None:
        self._open = 0

    async def instruments(self, symbols: Sequence[str]) -> dict[str, Instrument]:
        found: dict[str, Instrument] = {}
        for event in read_events(self._path):
            if isinstance(event, InstrumentsRead) and event.symbol in symbols:
                found[event.symbol] = instrument_read(event)
            if len(found) == len(symbols):
                return found
        missing = next(symbol for symbol in symbols if symbol not in found)
        raise VenueRefused(f"{missing}: the capture does not list it")

    async def top_of_book(self, symbol: str) -> TopOfBook:
        raise VenueUnknown(f"{symbol}: a capture answers no requests")

    async def server_time_ms(self) -> int:
        return self._timeline.now_ns() // 1_000_000

    def resync(self, symbol: str) -> None:
        """What was recorded was recorded: the next snapshot comes when it came."""

    @property
    def connections_open(self) -> Mapping[str, int]:
        return {"public": self._open, "private": 0, "trade": 0}

    def _next(self, sink: Sink) -> None:
        """One event ahead, whatever the length of the file."""
        try:
            event = next(self._events, None)
        except CaptureUnreadable as error:
            self.broken, event = str(error), None
        if event is None:
            self._timeline.call_at_ns(self._timeline.now_ns(), self.over)
        else:
            self._timeline.call_at_ns(event.at_ns, self._tell, sink, event)

    def _tell(self, sink: Sink, event: PublicEvent) -> None:
        if self._open:
            if getattr(event, "symbol", None) in {None, *self._symbols}:
                sink(event)
            self._next(sink)


def instrument_read(event: InstrumentsRead) -> Instrument:
    """The instrument as the capture has it."""
    return Instrument(
        symbol=event.symbol,
        category="spot" if event.category == "spot" else "linear",
        base=event.base,
        quote=event.quote,
        tick_size=Decimal(event.tick_size),
        lot_size=Decimal(event.lot_size),
        qty_min=Decimal(event.qty_min),
        qty_max=Decimal(event.qty_max),
        notional_min_quote=Decimal(event.notional_min_quote),
    )


def replay_capture(path: Path, resolved: Resolved, flags: Mapping[str, object]) -> tuple[int, str, JsonLog]:
    """(Exit code, the report, the log). Raises ConfigError, one line, for a file that is no whole capture."""
    if resolved.config.obs.enabled:
        raise ConfigError("--obs: nobody can look at simulated time; allowed: replay without it")
    symbols = resolved.config.execution.symbols
    try:
        header, first = read_header(path), next(read_events(path), None)
    except CaptureUnreadable as error:
        raise ConfigError(str(error)) from error
    if first is None:
        raise ConfigError(f"{path}: holds no event")
    absent = [symbol for symbol in symbols if symbol not in header.symbols]
    if absent:
        raise ConfigError(f"--symbols: {absent[0]!r} is not in {path}; allowed: {', '.join(header.symbols)}")
    timeline = Timeline(first.at_ns - LEAD_NS)
    feed = CaptureFeed(path, symbols, timeline)

    def loop_factory() -> asyncio.AbstractEventLoop:
        return timeline

    def begun(process: Process) -> None:
        feed.over = lambda: process.tell(ShutdownRequested(timeline.now_ns(), "the capture is over"))

    clock = SimulatedClock(timeline)
    code, text, log = run_over(feed, clock, loop_factory, resolved, flags, "replay", "NORMAL", begun)
    if feed.broken:
        raise ConfigError(feed.broken)
    return code, text, log
