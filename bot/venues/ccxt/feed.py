"""Public market data of a venue behind ccxt: whole books and trades, read again and again. Needs no key."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from bot.domain.counts import Counts
from bot.domain.events import BookLost, BookSnapshot, StreamDown, StreamUp, TradePrinted
from bot.domain.instrument import Category, Instrument
from bot.domain.venue_events import instruments_read
from bot.venues.ccxt import decode
from bot.venues.ccxt.client import asked, open_exchange
from bot.venues.ccxt.decode import Listed
from bot.venues.port import Sink, TopOfBook, VenueError, VenueGarbled

POLL_S: Final = 0.5
DEPTH: Final = 50
TRADES: Final = 50

log = logging.getLogger(__name__)


class CcxtFeed:
    """PublicFeed. `rest_url`: instead of the venue's own hosts (tests); empty: the venue's."""

    ws_reconnects = 0
    rate_limit_headroom: Mapping[str, float] = {}

    def __init__(
        self,
        exchange: str,
        symbols: Sequence[str],
        now_ns: Callable[[], int],
        *,
        category: Category = "linear",
        rest_url: str = "",
        poll_s: float = POLL_S,
    ) -> None:
        self._exchange = exchange
        self._symbols = tuple(symbols)
        self._now_ns = now_ns
        self._category: Category = category
        self._poll_s = poll_s
        self._library = open_exchange(exchange, category, rest_url)
        self._listed: dict[str, Listed] = {}
        self._books = 0
        self._trade_ids: dict[str, frozenset[str]] = {}
        self._up = False
        self._task: asyncio.Task[None] | None = None
        self.http_responses: Counts[tuple[str, str]] = Counts(())

    async def start(self, sink: Sink) -> None:
        for instrument in (await self.instruments(self._symbols)).values():
            sink(instruments_read(instrument, self._now_ns()))
        self._task = asyncio.get_running_loop().create_task(self._poll(sink))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._library.close()

    async def instruments(self, symbols: Sequence[str]) -> dict[str, Instrument]:
        await self._list(symbols)
        return {symbol: self._listed[symbol].instrument for symbol in symbols}

    async def top_of_book(self, symbol: str) -> TopOfBook:
        await self._list((symbol,))
        market = self._listed[symbol]
        told = decode.book(await self._read_book(market), market, 0, self._now_ns())
        if not told.bids or not told.asks:
            raise VenueGarbled(f"{symbol}: a side of the book is empty")
        price = market.instrument.price
        return TopOfBook(symbol, price(told.bids[0][0]), price(told.asks[0][0]), told.venue_at_ns // decode.NS_PER_MS)

    async def server_time_ms(self) -> int:
        return int(await asked(self._exchange, self._library.fetch_time()))

    def resync(self, symbol: str) -> None:
        """Every book is read whole: the next one is the fresh one."""

    @property
    def connections_open(self) -> Mapping[str, int]:
        return {"public": int(self._up), "private": 0, "trade": 0}

    # ---- reading again and again ------------------------------------------------------------------------------------

    async def _poll(self, sink: Sink) -> None:
        while True:
            try:
                events = [event for symbol in self._symbols for event in await self._look(self._listed[symbol])]
            except VenueError as error:
                self._lost(sink, str(error))
            else:
                if not self._up:
                    self._up = True
                    sink(StreamUp(events[0].at_ns, "public"))
                for event in events:
                    sink(event)
            await asyncio.sleep(self._poll_s)

    async def _look(self, market: Listed) -> list[BookSnapshot | TradePrinted]:
        answer = await self._read_book(market)
        self._books += 1
        book = decode.book(answer, market, self._books, self._now_ns())
        return [book, *await self._new_trades(market)]

    async def _new_trades(self, market: Listed) -> list[TradePrinted]:
        """Those not seen at the last look, oldest first. The first look's are history and told to nobody."""
        symbol = market.instrument.symbol
        rows = await asked(self._exchange, self._library.fetch_trades(market.name, None, TRADES))
        seen, self._trade_ids[symbol] = self._trade_ids.get(symbol), frozenset(str(row["id"]) for row in rows)
        if seen is None:
            return []
        new = [row for row in rows if str(row["id"]) not in seen]
        told = [decode.trade(row, market, self._now_ns()) for row in new]
        return sorted((one for one in told if one.qty_lots), key=lambda one: one.venue_at_ns)

    async def _read_book(self, market: Listed) -> decode.Answer:
        answer: decode.Answer = await asked(self._exchange, self._library.fetch_order_book(market.name, DEPTH))
        return answer

    def _lost(self, sink: Sink, reason: str) -> None:
        log.warning("%s: %s", self._exchange, reason)
        if self._up:
            self._up = False
            sink(StreamDown(self._now_ns(), "public", reason))
            for symbol in self._symbols:
                sink(BookLost(self._now_ns(), symbol, reason))

    async def _list(self, symbols: Sequence[str]) -> None:
        if all(symbol in self._listed for symbol in symbols):
            return
        markets = await asked(self._exchange, self._library.load_markets())
        for symbol in symbols:
            self._listed[symbol] = decode.listed(markets, symbol, self._category)
