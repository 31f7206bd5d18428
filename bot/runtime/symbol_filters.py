"""Symbol filters as a cache: read at the start, trusted for so long, read again before that is over or at an error.

A read is tried again from four fifths of the lifetime on, behind every read of the account. What outlived its time, or
was doubted by a refusal and could not be read again, is told to the engine as `default_fallback`: live, that symbol is
quoted no more until the venue has answered. A tick or a lot that changed under a running bot is refused: everything
that is open is counted in the old ones, and only a restart begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from bot.domain.events import Event, InstrumentsRead, ReadFailed
from bot.domain.instrument import Instrument
from bot.engine.counters import reject_reason
from bot.runtime.logs import JsonLog
from bot.runtime.process_metrics import ProcessMetrics
from bot.venues.port import Outcome, Refused, VenueError, VenuePort

NAME: Final = "bot.runtime.symbol_filters"
LIFETIME_NS: Final = 600_000_000_000
_RETRY_PCT: Final = 80


class SymbolFilters:
    """Of one run. `instruments`: as the sender uses them; `tell`: the engine's door."""

    def __init__(
        self,
        port: VenuePort,
        now_ns: Callable[[], int],
        tell: Callable[[Event], None],
        instruments: Mapping[str, Instrument],
        metrics: ProcessMetrics,
        log: JsonLog,
        lifetime_ns: int = LIFETIME_NS,
    ) -> None:
        self._port = port
        self._now_ns = now_ns
        self._tell = tell
        self._instruments = instruments
        self._metrics = metrics
        self._log = log
        self._lifetime_ns = lifetime_ns
        self._read_ns: dict[str, int] = {}
        self._doubted: set[str] = set()
        self._blocked: set[str] = set()

    def told(self, event: InstrumentsRead) -> None:
        """Filters on their way to the engine, from here or from the adapter's start."""
        self._metrics.filter_sources[event.source] += 1
        if event.source == "fetched":
            self._read_ns[event.symbol] = self._now_ns()

    def doubt(self, symbol: str, outcome: Outcome) -> bool:
        """Whether that answer to an order says that the filters are not as we know them: then they are read again."""
        if not isinstance(outcome, Refused) or outcome.post_only:
            return False
        if outcome.scope != "symbol" and reject_reason(outcome.code, outcome.reason) != "filters":
            return False
        self._doubted.add(symbol)
        return True

    async def look(self, symbol: str) -> None:
        """Reads them again where that is due."""
        known, read_ns = self._instruments.get(symbol), self._read_ns.get(symbol)
        if known is None or read_ns is None:
            await self._first(symbol)
            return
        age_ns = self._now_ns() - read_ns
        if symbol not in self._doubted and age_ns * 100 < self._lifetime_ns * _RETRY_PCT:
            self._metrics.filter_sources["cached"] += 1
            return
        try:
            found = (await self._port.instruments((symbol,)))[symbol]
        except VenueError as error:
            self._metrics.filter_fetch_errors += 1
            self._log.write("WARNING", NAME, "filters_not_read", {"symbol": symbol, "message": str(error)})
            if symbol in self._doubted or self._now_ns() - read_ns >= self._lifetime_ns:
                self._fall_back(symbol, known)
            return
        self._doubted.discard(symbol)
        if (found.tick_size, found.lot_size) != (known.tick_size, known.lot_size):
            terms = f"tick {known.tick_size}, lot {known.lot_size} became {found.tick_size}, {found.lot_size}"
            self._log.write("ERROR", NAME, "filters_changed", {"symbol": symbol, "message": f"{terms}: restart"})
            self._fall_back(symbol, known)
            return
        if symbol in self._blocked or found != known:
            self._blocked.discard(symbol)
            self._tell(read_of(found, self._now_ns(), "fetched"))
            return
        self._metrics.filter_sources["fetched"] += 1
        self._read_ns[symbol] = self._now_ns()

    async def _first(self, symbol: str) -> None:
        """Of a symbol that could not be read at the start: the others quote meanwhile."""
        try:
            found = (await self._port.instruments((symbol,)))[symbol]
        except VenueError as error:
            self._tell(ReadFailed(self._now_ns(), "filters", symbol, str(error)))
            return
        self._tell(read_of(found, self._now_ns(), "fetched"))

    def failed(self, event: ReadFailed) -> None:
        """A first read that failed, here or at the adapter's start."""
        self._metrics.filter_fetch_errors += 1
        self._log.write("WARNING", NAME, "filters_not_read", {"symbol": event.symbol, "message": event.detail})

    def _fall_back(self, symbol: str, known: Instrument) -> None:
        if symbol not in self._blocked:
            self._blocked.add(symbol)
            self._tell(read_of(known, self._now_ns(), "default_fallback"))


def read_of(instrument: Instrument, at_ns: int, source: str) -> InstrumentsRead:
    """The event that tells of these filters."""
    return InstrumentsRead(
        at_ns, instrument.symbol, instrument.tick_size, instrument.lot_size, instrument.qty_min, instrument.qty_max,
        instrument.notional_min_quote, instrument.category, instrument.base, instrument.quote, source,
    )  # fmt: skip
