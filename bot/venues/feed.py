"""Public market data of one venue, without a key: what shadow on live data, and a recorder, need of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from bot.domain.instrument import Instrument
from bot.venues.port import Sink, TopOfBook


class VenueFigures(Protocol):
    """What an adapter can tell of its connections."""

    @property
    def http_responses(self) -> Mapping[tuple[str, str], int]: ...

    @property
    def rate_limit_headroom(self) -> Mapping[str, float]: ...

    @property
    def ws_reconnects(self) -> int: ...

    @property
    def connections_open(self) -> Mapping[str, int]: ...


class PublicFeed(VenueFigures, Protocol):
    """Books and trades of some symbols, and figures about its own connections. Sends no order and knows no key."""

    async def start(self, sink: Sink) -> None:
        """Reads the instruments (as InstrumentsRead), then streams in the background. Raises VenueError."""

    async def close(self) -> None: ...

    async def instruments(self, symbols: Sequence[str]) -> dict[str, Instrument]:
        """Filters of these symbols. Raises VenueError; VenueRefused names a symbol the venue does not list."""

    async def top_of_book(self, symbol: str) -> TopOfBook: ...

    async def server_time_ms(self) -> int: ...

    def resync(self, symbol: str) -> None:
        """Ask for a fresh snapshot."""
