"""A capture of `mm-bot record`, played by the simulated venue like any other record of a market.

Only as deep as it was recorded: 50 levels a side. The first whole book is where it begins; a later snapshot changes
whatever differs from it. Prices and sizes are on the captured instrument's own grid.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from pathlib import Path

from bot.capture import CaptureUnreadable, PublicEvent, read_events, read_header
from bot.domain.events import BookDelta, BookSnapshot, InstrumentsRead, Level, TradePrinted
from bot.domain.instrument import Instrument
from bot.simulator.market import RecordedTrade
from bot.simulator.recorded import DepthUpdate, Record, RecordUnreadable


def load_captured(path: Path) -> tuple[Instrument, Record]:
    """The one symbol of the capture. Raises RecordUnreadable with one line for people."""
    try:
        symbols = read_header(path).symbols
        if len(symbols) != 1:
            raise RecordUnreadable(f"{path}: holds {', '.join(symbols)}; a market is played of one symbol")
        return _Building(path).all(read_events(path))
    except CaptureUnreadable as error:
        raise RecordUnreadable(str(error)) from error


class _Building:
    """The book as it goes, and what becomes of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._instrument: Instrument | None = None
        self._record: Record | None = None
        self._bids: dict[int, int] = {}
        self._asks: dict[int, int] = {}

    def all(self, events: Iterable[PublicEvent]) -> tuple[Instrument, Record]:
        for event in events:
            match event:
                case InstrumentsRead() if self._instrument is None:
                    self._instrument = _instrument(event)
                case BookSnapshot():
                    self._replace(event)
                case BookDelta() if self._record is not None:
                    self._change(event.venue_at_ns, event.bids, event.asks)
                case TradePrinted() if self._record is not None:
                    trade = RecordedTrade(event.taker_side, event.price_ticks, event.qty_lots)
                    self._record.events.append((self._at_ms(event.venue_at_ns), trade))
        if self._instrument is None or self._record is None or not self._record.events:
            raise RecordUnreadable(f"{self._path}: holds no instrument, no whole book, or nothing after it")
        end_ticks = max(self._bids) + min(self._asks)
        self._record.end_shift_ticks = (end_ticks - max(self._record.bids) - min(self._record.asks)) // 2
        return self._instrument, self._record

    def _replace(self, event: BookSnapshot) -> None:
        bids, asks = dict(event.bids), dict(event.asks)
        if self._record is None:
            if bids and asks:
                self._bids, self._asks = bids, asks
                self._record = Record(dict(bids), dict(asks))
            return
        gone = [[(price, 0) for price in held if price not in new] for held, new in self._pairs(bids, asks)]
        self._change(event.venue_at_ns, [*gone[0], *bids.items()], [*gone[1], *asks.items()])

    def _pairs(self, bids: dict[int, int], asks: dict[int, int]) -> tuple[tuple[dict[int, int], dict[int, int]], ...]:
        return (self._bids, bids), (self._asks, asks)

    def _change(self, venue_at_ns: int, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        assert self._record is not None  # noqa: S101 - told to the type checker; callers have looked
        flat: list[array[int]] = []
        for side, levels in ((self._bids, bids), (self._asks, asks)):
            told = array("q")
            for price, lots in levels:
                told.extend((price, lots))
                if lots:
                    side[price] = lots
                else:
                    side.pop(price, None)
            flat.append(told)
        if not self._bids or not self._asks or max(self._bids) >= min(self._asks):
            raise RecordUnreadable(f"{self._path}: the book is crossed or one-sided at {venue_at_ns} ns")
        number = len(self._record.events) + 1
        self._record.events.append(
            (self._at_ms(venue_at_ns), DepthUpdate(venue_at_ns // 1_000_000, number - 1, number, number, *flat))
        )

    def _at_ms(self, venue_at_ns: int) -> int:
        """The venue's time; a word that comes late is played when it came, after the one before."""
        assert self._record is not None  # noqa: S101 - told to the type checker; callers have looked
        last_ms = self._record.events[-1][0] if self._record.events else 0
        return max(last_ms, venue_at_ns // 1_000_000)


def _instrument(event: InstrumentsRead) -> Instrument:
    return Instrument(
        event.symbol, "linear", event.base, event.quote, event.tick_size, event.lot_size, event.qty_min, event.qty_max,
        event.notional_min_quote,
    )  # fmt: skip
