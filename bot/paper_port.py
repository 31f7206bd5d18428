"""A venue port over public market data: what is asked of the venue happens in this process, and nothing leaves it.

The same loop, sender and engine run over it as live: only this port is another. `PaperVenue` answers, after the
latency; the private stream is its word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from msgspec import structs

from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.instrument import Instrument
from bot.venues.feed import PublicFeed
from bot.venues.port import (
    Accepted,
    FeeRates,
    ImmediateOrder,
    Outcome,
    Position,
    Refused,
    Sink,
    TopOfBook,
    VenueUnreachable,
    Wallet,
)

if TYPE_CHECKING:
    from bot.simulator.paper import PaperVenue

MARGIN_NONE: Final = Decimal(0)

MakeVenue = Callable[[Sequence[Instrument]], "PaperVenue"]


class PaperPort:
    """VenuePort. `make_venue`: the account, once the instruments are known. `fees`: (maker net, taker), bps."""

    def __init__(
        self,
        feed: PublicFeed,
        symbols: Sequence[str],
        make_venue: MakeVenue,
        fees: tuple[Decimal, Decimal],
        latency_ns: int,
        now_ns: Callable[[], int],
    ) -> None:
        self._feed = feed
        self._symbols = tuple(symbols)
        self._make_venue = make_venue
        self._fees = fees
        self._latency_s = latency_ns / 1e9
        self._now_ns = now_ns
        self._venue: PaperVenue | None = None
        self._instruments: dict[str, Instrument] = {}
        self._sink: Sink = lambda _event: None

    # ---- life -------------------------------------------------------------------------------------------------------

    async def start(self, sink: Sink) -> None:
        self._sink = sink
        listed = await self._feed.instruments(self._symbols)
        if self._venue is None:
            self._instruments = listed
            self._venue = self._make_venue(list(listed.values()))
        await self._feed.start(self._hear)
        sink(ev.StreamUp(self._now_ns(), "private"))

    async def close(self) -> None:
        await self._feed.close()

    def resync(self, symbol: str) -> None:
        self._feed.resync(symbol)

    def _hear(self, event: ev.Event) -> None:
        self._sink(event)
        if self._venue is not None:
            self._tell(self._venue.hear(event, self._now_ns()))

    def _tell(self, told: Sequence[ev.Event]) -> None:
        for event in told:
            self._sink(event)

    def _follow(self, told: Sequence[ev.Event]) -> None:
        """Dated by when it comes: the answer was taken down in between, and the journal's time never runs back."""
        self._tell([structs.replace(event, at_ns=self._now_ns()) for event in told])

    # ---- orders -----------------------------------------------------------------------------------------------------

    async def _arrive(self, intent: it.Intent) -> list[ev.Event]:
        """What the venue tells, its answer first; the rest follows on the private stream, after the answer."""
        venue = self._open()
        await asyncio.sleep(self._latency_s)
        told = venue.arrive(intent, self._now_ns())
        asyncio.get_running_loop().call_soon(self._follow, told[1:])
        return told

    async def place(self, intent: it.PlaceOrder, instrument: Instrument) -> Outcome:
        return _accepted(await self._arrive(intent))

    async def place_immediate(self, order: ImmediateOrder) -> Outcome:
        instrument = self._instruments[order.symbol]
        return _accepted(
            await self._arrive(
                it.FlattenReduceOnly(
                    self._now_ns(), order.client_order_id, order.symbol, order.side, instrument.lots(order.qty),
                    instrument.ticks(order.price_limit),
                )
            )
        )  # fmt: skip

    async def amend(self, intent: it.AmendOrder, instrument: Instrument) -> Outcome:
        return _accepted(await self._arrive(intent))

    async def cancel(self, intent: it.CancelOrder) -> Outcome:
        return _accepted(await self._arrive(intent))

    async def cancel_all(self, symbol: str) -> Outcome:
        return _accepted(await self._arrive(it.CancelAll(self._now_ns(), f"paper-{symbol}", (symbol,), "cancel_all")))

    # ---- reads ------------------------------------------------------------------------------------------------------

    async def instruments(self, symbols: Sequence[str]) -> dict[str, Instrument]:
        return await self._feed.instruments(symbols)

    async def order(self, symbol: str, client_order_id: str, instrument: Instrument) -> ev.VenueOrder | None:
        venue = self._open()
        (told,) = venue.arrive(it.ProbeOrder(self._now_ns(), client_order_id, symbol), self._now_ns())
        return told.order if isinstance(told, ev.OrderUpdated) else venue.ended(client_order_id)

    async def open_orders(self, symbol: str, instrument: Instrument) -> list[ev.VenueOrder]:
        orders, _ = self._read(symbol)
        return list(orders.orders)

    async def executions(self, symbol: str, since_ms: int, instrument: Instrument) -> list[ev.Filled | ev.FundingPaid]:
        fills = self._open().fills
        return [fill for fill in fills if fill.symbol == symbol and fill.venue_at_ns >= since_ms * 1_000_000]

    async def position(self, symbol: str) -> Position:
        _, held = self._read(symbol)
        return Position(symbol, self._instruments[symbol].qty(held.qty_lots), held.entry_price)

    async def wallet(self, instrument: Instrument) -> Wallet:
        return Wallet(self._open().equity_quote(), MARGIN_NONE, Decimal(0))

    async def fee_rates(self, symbol: str) -> FeeRates:
        return FeeRates(*self._fees, f"assumed:paper:{symbol}")

    async def top_of_book(self, symbol: str) -> TopOfBook:
        return await self._feed.top_of_book(symbol)

    async def server_time_ms(self) -> int:
        return self._now_ns() // 1_000_000

    def _read(self, symbol: str) -> tuple[ev.OpenOrdersRead, ev.PositionRead]:
        orders, held = self._open().arrive(it.ReadAccount(self._now_ns(), symbol), self._now_ns())
        if not isinstance(orders, ev.OpenOrdersRead) or not isinstance(held, ev.PositionRead):
            raise TypeError("a read of the account is answered by orders and position, in that order")
        return orders, held

    def _open(self) -> PaperVenue:
        if self._venue is None:
            raise VenueUnreachable("the instruments were not read yet")
        return self._venue

    # ---- what it shows: the feed's own ------------------------------------------------------------------------------

    @property
    def http_responses(self) -> Mapping[tuple[str, str], int]:
        return self._feed.http_responses

    @property
    def rate_limit_headroom(self) -> Mapping[str, float]:
        return self._feed.rate_limit_headroom

    @property
    def ws_reconnects(self) -> int:
        return self._feed.ws_reconnects

    @property
    def connections_open(self) -> Mapping[str, int]:
        return self._feed.connections_open


def _accepted(told: Sequence[ev.Event]) -> Outcome:
    """The first thing the venue tells is its answer."""
    match told[0]:
        case ev.OrderAccepted(venue_order_id=number):
            return Accepted(venue_order_id=number)
        case ev.AmendAnswered(outcome=word) | ev.CancelAnswered(outcome=word):
            return Accepted(gone=word == "gone")
        case ev.CancelAllAnswered():
            return Accepted(count=sum(isinstance(event, ev.OrderUpdated) for event in told[1:]))
        case other:
            return Refused(0, f"no answer of a venue: {type(other).__name__}")
