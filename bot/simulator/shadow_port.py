"""Shadow on live market data: the venue's public side is real, the account behind it is drawn. No order leaves.

Books and trades come from the venue's public stream; nothing here signs anything or knows a key. Orders rest in a
`DrawnVenue`: what is asked takes effect after the latency; an order that was drawn to fill does so whole when a real
trade reaches its price; one that was not lapses then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from random import Random
from typing import Final

from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.book import Book
from bot.domain.fees import FeeProfile
from bot.domain.instrument import Category, Instrument
from bot.simulator.draws import DrawnVenue
from bot.venues.bybit import calls, decode, wire
from bot.venues.bybit.adapter import CALL_TIMEOUT_S, instruments_read
from bot.venues.bybit.decode import Grid
from bot.venues.bybit.hosts import BybitHosts
from bot.venues.bybit.public_stream import PublicStream
from bot.venues.bybit.rest import BybitRest
from bot.venues.port import Accepted, FeeRates, ImmediateOrder, Outcome, Position, Sink, TopOfBook, VenueError, Wallet
from bot.venues.transport import AiohttpTransport, Transport

EXECUTIONS_KEPT: Final = 10_000

Left = Mapping[str, tuple[int, Decimal]]
"""Symbol to (signed lots, entry price) that an earlier run left behind."""


class ShadowPort:
    """VenuePort whose private side is simulated. `latency_ns`: from asking to taking effect."""

    def __init__(
        self,
        hosts: BybitHosts,
        symbols: Sequence[str],
        now_ns: Callable[[], int],
        *,
        fees: Mapping[str, FeeProfile],
        fill_rate: Decimal,
        latency_ns: int,
        equity_quote: Decimal,
        seed: int = 0,
        executions: int = 0,
        left: Left | None = None,
        category: Category = "linear",
        transport: Transport | None = None,
    ) -> None:
        self._hosts = hosts
        self._symbols = tuple(symbols)
        self._now_ns = now_ns
        self._fees = fees
        self._fill_rate = fill_rate
        self._latency_s = latency_ns / 1e9
        self._equity_quote = equity_quote
        self._seed = seed
        self._executions = executions
        self._left = left or {}
        self._category: Category = category
        self._transport: Transport = AiohttpTransport() if transport is None else transport
        self._rest = BybitRest(self._transport, hosts.rest_url, "", "", now_ns, 5_000, CALL_TIMEOUT_S)
        self._venue: DrawnVenue | None = None
        self._stream: PublicStream | None = None
        self._task: asyncio.Task[None] | None = None
        self._instruments: dict[str, Instrument] = {}
        self._books = {symbol: Book() for symbol in self._symbols}
        self._fills: list[ev.Filled] = []
        self._sink: Sink = lambda _event: None

    # ---- life -------------------------------------------------------------------------------------------------------

    async def start(self, sink: Sink) -> None:
        """Filters, the drawn account, the public stream in the background. Raises VenueError."""
        await self._rest.sync_clock()
        self._instruments = await self.instruments(self._symbols)
        self._venue = DrawnVenue(self._instruments.values(), self._fill_rate, self._fees, self._seed, self._executions)
        for symbol, held in self._left.items():
            self._venue.take_over(symbol, *held)
        self._sink = sink
        for instrument in self._instruments.values():
            sink(instruments_read(instrument, self._now_ns()))
        self._stream = PublicStream(
            self._hosts.ws_public_url,
            self._transport,
            self._market,
            self._now_ns,
            Random(self._seed),  # noqa: S311  # spreads reconnects; hides nothing
            {symbol: Grid(instrument) for symbol, instrument in self._instruments.items()},
        )
        self._task = asyncio.get_running_loop().create_task(self._stream.run())
        sink(ev.StreamUp(self._now_ns(), "private"))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._transport.close()

    def resync(self, symbol: str) -> None:
        if self._stream is not None:
            self._stream.resync(symbol)

    # ---- the market -------------------------------------------------------------------------------------------------

    def _market(self, event: ev.Event) -> None:
        """What the public stream tells, and whom a real trade reaches."""
        if isinstance(event, ev.BookSnapshot | ev.BookDelta | ev.BookLost):
            self._follow(event)
        self._sink(event)
        if isinstance(event, ev.TradePrinted) and self._venue is not None:
            reached = self._venue.traded(event.symbol, event.taker_side.opposite, event.price_ticks, self._now_ns())
            self._tell(reached)

    def _follow(self, event: ev.BookSnapshot | ev.BookDelta | ev.BookLost) -> None:
        book = self._books[event.symbol]
        if isinstance(event, ev.BookSnapshot):
            book.replace(event.bids, event.asks, event.update_id, event.at_ns)
        elif isinstance(event, ev.BookDelta):
            book.change(event.bids, event.asks, event.update_id, event.at_ns)
        else:
            book.lose()
        if self._venue is not None and book.top is not None:
            self._venue.moved(event.symbol, book.top)

    def _tell(self, events: Sequence[ev.Event]) -> None:
        for event in events:
            if isinstance(event, ev.Filled):
                self._fills.append(event)
                del self._fills[:-EXECUTIONS_KEPT]
            self._sink(event)

    # ---- orders -----------------------------------------------------------------------------------------------------

    async def _arrive(self, intent: it.Intent) -> ev.Event:
        """The drawn venue's answer after the latency; what the private stream would say follows it."""
        await asyncio.sleep(self._latency_s)
        answer, *rest = self._drawn().arrive(intent, self._now_ns())
        asyncio.get_running_loop().call_soon(self._tell, rest)
        return answer

    def _drawn(self) -> DrawnVenue:
        if self._venue is None:
            raise VenueError("the market data of shadow has not started yet")
        return self._venue

    async def place(self, intent: it.PlaceOrder, instrument: Instrument) -> Outcome:
        return _accepted(await self._arrive(intent))

    async def place_immediate(self, order: ImmediateOrder) -> Outcome:
        instrument = self._instruments[order.symbol]
        flatten = it.FlattenReduceOnly(
            self._now_ns(), order.client_order_id, order.symbol, order.side, instrument.lots(order.qty),
            instrument.ticks(order.price_limit),
        )  # fmt: skip
        return _accepted(await self._arrive(flatten))

    async def amend(self, intent: it.AmendOrder, instrument: Instrument) -> Outcome:
        answer = await self._arrive(intent)
        return Accepted(gone=isinstance(answer, ev.AmendAnswered) and answer.outcome == "gone")

    async def cancel(self, intent: it.CancelOrder) -> Outcome:
        answer = await self._arrive(intent)
        return Accepted(gone=isinstance(answer, ev.CancelAnswered) and answer.outcome == "gone")

    async def cancel_all(self, symbol: str) -> Outcome:
        await self._arrive(it.CancelAll(self._now_ns(), f"shadow-{symbol}", (symbol,), "cancel-all"))
        return Accepted()

    # ---- reads ------------------------------------------------------------------------------------------------------

    async def instruments(self, symbols: Sequence[str]) -> dict[str, Instrument]:
        found: dict[str, Instrument] = {}
        for symbol in symbols:
            page = await self._rest.read(calls.instruments(self._category, symbol), wire.InstrumentPage)
            found[symbol] = decode.listed_instrument(page, symbol, self._category)
        return found

    async def order(self, symbol: str, client_order_id: str, instrument: Instrument) -> ev.VenueOrder | None:
        answer = await self._arrive(it.ProbeOrder(self._now_ns(), client_order_id, symbol))
        return answer.order if isinstance(answer, ev.OrderUpdated) else None

    async def open_orders(self, symbol: str, instrument: Instrument) -> list[ev.VenueOrder]:
        return list(self._read(symbol)[0].orders)

    async def position(self, symbol: str) -> Position:
        read = self._read(symbol)[1]
        return Position(symbol, self._instruments[symbol].qty(read.qty_lots), read.entry_price)

    def _read(self, symbol: str) -> tuple[ev.OpenOrdersRead, ev.PositionRead]:
        orders, position = self._drawn().arrive(it.ReadAccount(self._now_ns(), symbol), self._now_ns())
        assert isinstance(orders, ev.OpenOrdersRead)  # noqa: S101 - told to the type checker
        assert isinstance(position, ev.PositionRead)  # noqa: S101
        return orders, position

    async def executions(self, symbol: str, since_ms: int, instrument: Instrument) -> list[ev.Filled | ev.FundingPaid]:
        return [fill for fill in self._fills if fill.symbol == symbol and fill.venue_at_ns >= since_ms * 1_000_000]

    async def wallet(self, instrument: Instrument) -> Wallet:
        return Wallet(self._equity_quote, Decimal(0), Decimal(0))

    async def fee_rates(self, symbol: str) -> FeeRates:
        fees = self._fees[symbol]
        return FeeRates(fees.maker_bps - fees.rebate_bps, fees.taker_bps, f"drawn:{symbol}")

    async def top_of_book(self, symbol: str) -> TopOfBook:
        return decode.top_of_book(await self._rest.read(calls.orderbook(self._category, symbol), wire.BookRows))

    async def server_time_ms(self) -> int:
        """Ours: the account is in this process."""
        return self._now_ns() // 1_000_000

    # ---- what it shows ----------------------------------------------------------------------------------------------

    @property
    def http_responses(self) -> Mapping[tuple[str, str], int]:
        return self._rest.responses

    @property
    def rate_limit_headroom(self) -> Mapping[str, float]:
        return self._rest.headroom

    @property
    def ws_reconnects(self) -> int:
        return 0 if self._stream is None else self._stream.reconnects

    @property
    def connections_open(self) -> Mapping[str, int]:
        return {"public": int(self._stream is not None and self._stream.is_up), "private": 0, "trade": 0}

    @property
    def margin_ratio(self) -> float | None:
        return None


def _accepted(answer: ev.Event) -> Outcome:
    return Accepted(answer.venue_order_id if isinstance(answer, ev.OrderAccepted) else "")
