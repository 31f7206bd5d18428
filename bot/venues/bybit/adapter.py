"""Bybit V5 behind the port: one account, one category, over any transport.

Orders go by the trade socket, or by REST where that is not offered or not up; confirmations come on the private stream.
Nothing here decides anything about trading.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from random import Random
from typing import Any, Final

from bot.domain.events import Filled, FundingPaid, OrderStatus, ReadFailed, VenueOrder
from bot.domain.instrument import Category, Instrument
from bot.domain.intent import AmendOrder, CancelOrder, PlaceOrder
from bot.domain.venue_events import instruments_read
from bot.venues.bybit import calls, decode, wire
from bot.venues.bybit.calls import Call
from bot.venues.bybit.decode import Grid
from bot.venues.bybit.hosts import BybitHosts
from bot.venues.bybit.order_entry import OrderEntry
from bot.venues.bybit.private_stream import PrivateStream
from bot.venues.bybit.public_stream import PublicStream
from bot.venues.bybit.rest import BybitRest
from bot.venues.bybit.sockets import Stream
from bot.venues.bybit.trade_stream import TradeStream
from bot.venues.port import (
    Accepted,
    Ended,
    FeeRates,
    ImmediateOrder,
    Outcome,
    Position,
    Refused,
    Sink,
    TopOfBook,
    VenueError,
    VenueGarbled,
    VenueRefused,
    Wallet,
)
from bot.venues.transport import AiohttpTransport, Transport

CALL_TIMEOUT_S: Final = 2.0
log = logging.getLogger("slipway.bybit")


TEXTS_MAX: Final = 4_000
_AMEND: Final = AmendOrder
_CANCEL: Final = CancelOrder


class _Terms:
    """One instrument as its orders are written and read: texts of ticks and lots, and the way back."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.grid = Grid(instrument)
        self._prices: dict[int, str] = {}
        self._qtys: dict[int, str] = {}

    def price(self, ticks: int) -> str:
        text = self._prices.get(ticks)
        if text is None:
            if len(self._prices) >= TEXTS_MAX:
                self._prices.clear()
            text = self._prices[ticks] = calls.number(self.instrument.price(ticks))
        return text

    def qty(self, lots: int) -> str:
        text = self._qtys.get(lots)
        if text is None:
            if len(self._qtys) >= TEXTS_MAX:
                self._qtys.clear()
            text = self._qtys[lots] = calls.number(self.instrument.qty(lots))
        return text


class _Placed:
    """A create that was begun."""

    def __init__(self, adapter: BybitAdapter, symbol: str, sent_ns: int, ended: Callable[[Ended], None]) -> None:
        self._adapter, self._symbol, self._sent_ns, self._ended = adapter, symbol, sent_ns, ended

    def ended(self, outcome: Ended) -> None:
        self._adapter.note_latency(self._symbol, self._sent_ns, outcome)
        self._ended(outcome)


Observation = tuple[str, tuple[str, ...], float]
"""(metric, label values in catalogue order, value), as the engine's observations."""


class BybitAdapter:
    """VenuePort for Bybit. `now_ns`: the loop's clock. `seed`: jitter of reconnects. `recv_window_ms` in ms.

    `trade_socket`: order entry by it where the hosts offer one. `batches`: what is decided in one turn leaves together.
    """

    def __init__(
        self,
        hosts: BybitHosts,
        api_key: str,
        api_secret: str,
        symbols: Sequence[str],
        now_ns: Callable[[], int],
        *,
        category: Category = "linear",
        recv_window_ms: int = 5000,
        seed: int = 0,
        transport: Transport | None = None,
        call_timeout_s: float = CALL_TIMEOUT_S,
        trade_socket: bool = False,
        batches: bool = False,
        disconnect_cancel_s: int = 0,
        permitted: Callable[[int], bool] = lambda _epoch: True,
    ) -> None:
        """`disconnect_cancel_s`: the venue cancels all orders that long after we are gone; 0: it is not asked to.

        `permitted`: whether creates and amends of that grant's epoch may leave now; asked as they are written.
        """
        self._disconnect_cancel_s = disconnect_cancel_s
        self._hosts = hosts
        self._api_key = api_key
        self._api_secret = api_secret
        self._symbols = tuple(symbols)
        self._now_ns = now_ns
        self._recv_window_ms = recv_window_ms
        self._call_timeout_s = call_timeout_s
        self._category: Category = category
        self._jitter = Random(seed)  # noqa: S311  # spreads reconnects; hides nothing
        self._transport: Transport = AiohttpTransport() if transport is None else transport
        self._rest = BybitRest(
            self._transport, hosts.rest_url, api_key, api_secret, now_ns, recv_window_ms, call_timeout_s
        )
        self._trade: TradeStream | None = None
        if trade_socket and hosts.ws_trade_url:
            self._trade = TradeStream(
                hosts.ws_trade_url,
                self._transport,
                now_ns,
                self._jitter,
                self._rest.sync_clock,
                api_key,
                api_secret,
                self._rest.venue_now_ms,
                recv_window_ms,
                permitted,
            )
        batch_max = calls.BATCH_MAX[category] if batches else 1
        self._entry = OrderEntry(self._rest, self._trade, call_timeout_s, batch_max, permitted)
        self._public: PublicStream | None = None
        self._private: PrivateStream | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._observations: list[Observation] = []
        self._bases: dict[str, str] = {}
        self._terms: dict[str, _Terms] = {}
        self._grids: dict[str, Grid] = {}
        """of the symbols on the streams, which look into it themselves"""

    # ---- life -------------------------------------------------------------------------------------------------------

    async def start(self, sink: Sink) -> None:
        """Clock, instruments (as InstrumentsRead), then both streams in the background. Raises VenueError.

        A symbol whose filters cannot be read is told by ReadFailed and left out, unless that is all of them; it joins
        the streams once `instruments` has read it. Streams report themselves by StreamUp and StreamDown; one that ends
        by an exception is told of to the loop's exception handler, and by `wait_broken`.
        """
        await self._rest.sync_clock()
        listed, failed = await self._listed()
        for instrument in listed.values():
            sink(instruments_read(instrument, self._now_ns()))
        for symbol, error in failed.items():
            sink(ReadFailed(self._now_ns(), "filters", symbol, str(error)))
        grids = self._grids = {symbol: Grid(instrument) for symbol, instrument in listed.items()}
        self._public = PublicStream(self._hosts.ws_public_url, self._transport, sink, self._now_ns, self._jitter, grids)
        self._private = PrivateStream(
            self._hosts.ws_private_url,
            self._transport,
            sink,
            self._now_ns,
            self._jitter,
            self._rest.sync_clock,
            grids,
            self._category,
            self._api_key,
            self._api_secret,
            self._rest.venue_now_ms,
        )
        if self._disconnect_cancel_s:
            self._private.guards_orders = await self._arm_disconnect_cancel()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(stream.run(), name=f"{stream.name} stream") for stream in self._streams]
        for task in self._tasks:
            task.add_done_callback(_stream_ended)

    async def _listed(self) -> tuple[dict[str, Instrument], dict[str, VenueError]]:
        """The filters that could be read, and why others could not. Raises VenueError where none could."""
        listed: dict[str, Instrument] = {}
        failed: dict[str, VenueError] = {}
        for symbol in self._symbols:
            try:
                listed |= await self.instruments((symbol,))
            except VenueError as error:
                failed[symbol] = error
        if not listed:
            raise next(iter(failed.values()))
        return listed, failed

    async def _arm_disconnect_cancel(self) -> bool:
        """Whether the venue will do it. One that does not is no reason not to start: it is never relied on alone."""
        call = calls.disconnect_cancel(self._category, self._disconnect_cancel_s)
        outcome = await self._entry.mutate(call)
        if not isinstance(outcome, Accepted):
            log.warning("disconnect-cancel is not armed: %s", outcome)
        return isinstance(outcome, Accepted)

    async def wait_broken(self) -> BaseException:
        """Waits until a stream ended by an exception of the sink, and returns it. Never returns while all is well."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            error = None if task.cancelled() else task.exception()
            if error is not None:
                return error
        return asyncio.CancelledError("the streams were closed")

    @property
    def _streams(self) -> list[Stream]:
        return [stream for stream in (self._public, self._private, self._trade) if stream is not None]

    async def close(self) -> None:
        await self._entry.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._transport.close()

    def cut_streams(self) -> int:
        """Closes the sockets of market data and account as if the other end had; each comes back by itself. How many
        were open."""
        return sum(stream.cut() for stream in (self._public, self._private) if stream is not None)

    def resync(self, symbol: str) -> None:
        if self._public is not None:
            self._public.resync(symbol)

    # ---- the key ----------------------------------------------------------------------------------------------------

    @property
    def key_refusals(self) -> int:
        """How often the venue has refused the key itself since the start."""
        return self._rest.key_refusals

    async def key_account(self, api_key: str, api_secret: str) -> str:
        """The account at the venue that this pair opens, by one signed read. Raises VenueError."""
        rest = BybitRest(
            self._transport, self._hosts.rest_url, api_key, api_secret, self._now_ns, self._recv_window_ms,
            self._call_timeout_s, self._rest.limits,
        )  # fmt: skip
        rest.clock_offset_ms = self._rest.clock_offset_ms
        found = await rest.read(calls.key_information(), wire.KeyInformation)
        if not found.user_id:
            raise VenueGarbled(f"{calls.KEY_INFORMATION}: userID is missing")
        return str(found.user_id)

    def use_key(self, api_key: str, api_secret: str) -> None:
        """From the next request and the next connection on; requests under way keep what they were signed with."""
        self._api_key, self._api_secret = api_key, api_secret
        self._rest.use_key(api_key, api_secret)
        for stream in (self._private, self._trade):
            if stream is not None:
                stream.use_key(api_key, api_secret)

    # ---- orders -----------------------------------------------------------------------------------------------------

    def begin(
        self,
        intent: PlaceOrder | AmendOrder | CancelOrder,
        instrument: Instrument | None,
        ended: Callable[[Ended], None],
    ) -> asyncio.Future[Any] | None:
        """See `bot.venues.port.BeginningPort`."""
        kind = type(intent)  # by `isinstance` each question would be put to the types' own metaclass
        if kind is _CANCEL:
            return self._entry.begin(self._cancelling(intent), ended)  # type: ignore[arg-type]  # it is one
        if instrument is None:
            return None
        if kind is _AMEND:
            return self._entry.begin(self._amending(intent, instrument), ended)  # type: ignore[arg-type]  # as above
        placed = _Placed(self, intent.symbol, self._now_ns(), ended)
        return self._entry.begin(self._placing(intent, instrument), placed.ended)  # type: ignore[arg-type]  # as above

    def _placing(self, intent: PlaceOrder, instrument: Instrument) -> Call:
        return calls.create_post_only(
            self._category,
            intent.symbol,
            intent.side,
            instrument.qty(intent.qty_lots),
            instrument.price(intent.price_ticks),
            intent.client_order_id,
            intent.reduce_only,
            intent.epoch,
        )

    def _amending(self, intent: AmendOrder, instrument: Instrument) -> Call:
        terms = self._terms_of(instrument)
        return calls.amend_as_written(
            self._category,
            intent.symbol,
            intent.client_order_id,
            terms.qty(intent.qty_lots),
            terms.price(intent.price_ticks),
            intent.epoch,
        )

    def _terms_of(self, instrument: Instrument) -> _Terms:
        symbol = instrument.symbol
        terms = self._terms.get(symbol)
        if terms is None or terms.instrument is not instrument:  # it was read again, or another asks
            terms = self._terms[symbol] = _Terms(instrument)
        return terms

    def _cancelling(self, intent: CancelOrder) -> Call:
        return calls.cancel(
            self._category, intent.symbol, client_order_id=intent.client_order_id, venue_order_id=intent.venue_order_id
        )

    async def place(self, intent: PlaceOrder, instrument: Instrument) -> Outcome:
        call = self._placing(intent, instrument)
        sent_ns = self._now_ns()
        outcome = await self._entry.mutate(call)
        self.note_latency(intent.symbol, sent_ns, outcome)
        return outcome

    async def place_immediate(self, order: ImmediateOrder) -> Outcome:
        sent_ns = self._now_ns()
        outcome = await self._entry.mutate(calls.create_immediate(self._category, order))
        self.note_latency(order.symbol, sent_ns, outcome)
        return outcome

    async def amend(self, intent: AmendOrder, instrument: Instrument) -> Outcome:
        return await self._entry.mutate(self._amending(intent, instrument))

    async def cancel(self, intent: CancelOrder) -> Outcome:
        return await self._entry.mutate(self._cancelling(intent))

    async def cancel_all(self, symbol: str) -> Outcome:
        return await self._entry.mutate(calls.cancel_all(self._category, symbol))

    def note_latency(self, symbol: str, sent_ns: int, outcome: Ended) -> None:
        """Of a create."""
        if isinstance(outcome, (Accepted, Refused)):  # without an acknowledgement there is no time until it
            self._observations.append(("mm_order_latency_ms", (symbol,), (self._now_ns() - sent_ns) / 1e6))

    # ---- reads ------------------------------------------------------------------------------------------------------

    async def instruments(self, symbols: Sequence[str]) -> dict[str, Instrument]:
        found: dict[str, Instrument] = {}
        for symbol in symbols:
            try:
                page = await self._rest.read(calls.instruments(self._category, symbol), wire.InstrumentPage)
            except VenueRefused as error:
                raise VenueRefused(f"{symbol}: {error}", error.code) from None
            found[symbol] = decode.listed_instrument(page, symbol, self._category)
            self._bases[symbol] = found[symbol].base
            if self._public is not None and symbol not in self._grids:  # it was left out at the start
                self._grids[symbol] = Grid(found[symbol])
                self._public.add(symbol)
        return found

    async def order(self, symbol: str, client_order_id: str, instrument: Instrument) -> VenueOrder | None:
        for call in (
            calls.order_now(self._category, symbol, client_order_id),
            calls.order_before(self._category, symbol, client_order_id),
        ):
            page = await self._rest.read(call, wire.OrderPage)
            for row in page.rows:
                if row.order_link_id == client_order_id and row.symbol == symbol:
                    return decode.venue_order(row, instrument)
        return None

    async def open_orders(self, symbol: str, instrument: Instrument) -> list[VenueOrder]:
        orders: list[VenueOrder] = []
        seen: set[str] = set()
        cursor = ""
        while True:
            page = await self._rest.read(calls.open_orders(self._category, symbol, cursor), wire.OrderPage)
            grid = self._terms_of(instrument).grid
            orders += [decode.venue_order(row, instrument, grid) for row in page.rows if row.symbol == symbol]
            cursor = wire.next_cursor(page.next_page_cursor, seen, calls.OPEN_ORDERS) if page.rows else ""
            if not cursor:
                return [order for order in orders if order.status is OrderStatus.WORKING]

    async def executions(self, symbol: str, since_ms: int, instrument: Instrument) -> list[Filled | FundingPaid]:
        """Fills and funding since then, oldest first, over all pages."""
        found: list[Filled | FundingPaid] = []
        until_ms = self._rest.venue_now_ms() + 1000
        for start_ms, end_ms in calls.execution_windows(since_ms, until_ms):
            seen: set[str] = set()
            cursor = ""
            while True:
                call = calls.executions(self._category, symbol, start_ms, end_ms, cursor)
                page = await self._rest.read(call, wire.ExecutionPage)
                grid, at_ns = self._terms_of(instrument).grid, self._now_ns()
                for row in page.rows:
                    event = decode.execution(row, instrument, at_ns, grid) if row.symbol == symbol else None
                    if event is not None:
                        found.append(event)
                cursor = wire.next_cursor(page.next_page_cursor, seen, calls.EXECUTIONS) if page.rows else ""
                if not cursor:
                    break
        return sorted(found, key=lambda event: event.venue_at_ns)

    async def position(self, symbol: str) -> Position:
        """Of spot: what the wallet holds of the base coin, as if taken over at the middle of the book of now."""
        if self._category == "spot":
            return await self._spot_position(symbol)
        page = await self._rest.read(calls.position(self._category, symbol), wire.PositionPage)
        return decode.position(page.rows, symbol)

    async def _spot_position(self, symbol: str) -> Position:
        base = self._bases.get(symbol)
        if base is None:  # a bot that recovers knows the filters from its journal, and asks before they are read
            base = (await self.instruments((symbol,)))[symbol].base
        rows = await self._rest.read(calls.wallet(base), wire.WalletList)
        qty = decode.coin_balance(rows, base)
        if not qty:
            return Position(symbol, qty, Decimal(0))
        top = await self.top_of_book(symbol)
        return Position(symbol, qty, (top.bid + top.ask) / 2)

    async def wallet(self, instrument: Instrument) -> Wallet:
        """The statement of the unified account; all coins, because its margin is that of all of them."""
        rows = await self._rest.read(calls.wallet(""), wire.WalletList)
        return decode.wallet(rows, instrument.quote, self._category)

    async def fee_rates(self, symbol: str) -> FeeRates:
        page = await self._rest.read(calls.fee_rate(self._category, symbol), wire.FeeRatePage)
        return decode.fee_rates(page, symbol)

    async def top_of_book(self, symbol: str) -> TopOfBook:
        return decode.top_of_book(await self._rest.read(calls.orderbook(self._category, symbol), wire.BookRows))

    async def server_time_ms(self) -> int:
        """The venue's clock; keeps the offset for signing."""
        return await self._rest.sync_clock()

    # ---- what it shows ----------------------------------------------------------------------------------------------

    @property
    def clock_offset_ms(self) -> int:
        """The venue's clock minus ours, as last measured."""
        return self._rest.clock_offset_ms

    @property
    def http_responses(self) -> Mapping[tuple[str, str], int]:
        """(endpoint, HTTP status or not_sent or no_answer) → how many, for mm_http_responses_total."""
        return self._rest.responses

    @property
    def rate_limit_headroom(self) -> Mapping[str, float]:
        """Endpoint → requests left / limit, as the last headers said, for mm_rate_limit_headroom_ratio."""
        return self._rest.limits.headroom

    @property
    def ws_reconnects(self) -> int:
        """Times a stream came up again, for mm_ws_reconnects_total."""
        return sum(stream.reconnects for stream in self._streams)

    @property
    def connections_open(self) -> dict[str, int]:
        """Kind → 1 while that socket is subscribed, for mm_connections_open."""
        return {"public": 0, "private": 0, "trade": 0} | {one.name: int(one.is_up) for one in self._streams}

    def drain_observations(self) -> list[Observation]:
        """Latencies of creates (send to answer, mm_order_latency_ms) since the last call."""
        drained, self._observations = self._observations, []
        return drained


def _stream_ended(task: asyncio.Task[None]) -> None:
    """A stream goes on until it is cancelled: one that does not is never silent about it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        told = {"message": f"the {task.get_name()} has ended", "exception": error, "task": task}
        task.get_loop().call_exception_handler(told)
