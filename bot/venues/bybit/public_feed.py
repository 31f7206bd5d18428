"""Bybit's public side alone: instruments by REST, books and every trade by the public socket. Signs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from random import Random

from bot.domain.instrument import Category, Instrument
from bot.domain.venue_events import instruments_read
from bot.venues.bybit import calls, decode, wire
from bot.venues.bybit.adapter import CALL_TIMEOUT_S
from bot.venues.bybit.decode import Grid
from bot.venues.bybit.hosts import BybitHosts
from bot.venues.bybit.public_stream import PublicStream
from bot.venues.bybit.rest import BybitRest
from bot.venues.port import Sink, TopOfBook, VenueRefused
from bot.venues.transport import AiohttpTransport, Transport


class BybitFeed:
    """PublicFeed for Bybit. `seed`: jitter of reconnects."""

    def __init__(
        self,
        hosts: BybitHosts,
        symbols: Sequence[str],
        now_ns: Callable[[], int],
        *,
        category: Category = "linear",
        seed: int = 0,
        transport: Transport | None = None,
    ) -> None:
        self._hosts = hosts
        self._symbols = tuple(symbols)
        self._now_ns = now_ns
        self._category: Category = category
        self._jitter = Random(seed)  # noqa: S311  # spreads reconnects; hides nothing
        self._transport: Transport = AiohttpTransport() if transport is None else transport
        self._rest = BybitRest(self._transport, hosts.rest_url, "", "", now_ns, 0, CALL_TIMEOUT_S)
        self._public: PublicStream | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, sink: Sink) -> None:
        listed = await self.instruments(self._symbols)
        for instrument in listed.values():
            sink(instruments_read(instrument, self._now_ns()))
        grids = {symbol: Grid(instrument) for symbol, instrument in listed.items()}
        self._public = PublicStream(
            self._hosts.ws_public_url, self._transport, sink, self._now_ns, self._jitter, grids, every_print=True
        )
        self._task = asyncio.get_running_loop().create_task(self._public.run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._transport.close()

    async def instruments(self, symbols: Sequence[str]) -> dict[str, Instrument]:
        found: dict[str, Instrument] = {}
        for symbol in symbols:
            try:
                page = await self._rest.read(calls.instruments(self._category, symbol), wire.InstrumentPage)
            except VenueRefused as error:
                raise VenueRefused(f"{symbol}: {error}", error.code) from None
            found[symbol] = decode.listed_instrument(page, symbol, self._category)
        return found

    async def top_of_book(self, symbol: str) -> TopOfBook:
        return decode.top_of_book(await self._rest.read(calls.orderbook(self._category, symbol), wire.BookRows))

    async def server_time_ms(self) -> int:
        return await self._rest.sync_clock()

    def resync(self, symbol: str) -> None:
        if self._public is not None:
            self._public.resync(symbol)

    # ---- what it shows ----------------------------------------------------------------------------------------------

    @property
    def http_responses(self) -> Mapping[tuple[str, str], int]:
        return self._rest.responses

    @property
    def rate_limit_headroom(self) -> Mapping[str, float]:
        return self._rest.limits.headroom

    @property
    def ws_reconnects(self) -> int:
        return 0 if self._public is None else self._public.reconnects

    @property
    def connections_open(self) -> Mapping[str, int]:
        return {"public": int(self._public is not None and self._public.is_up), "private": 0, "trade": 0}
