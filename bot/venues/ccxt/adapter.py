"""One account at a venue behind ccxt, as the port wants it: for certification and tests. No run sends orders by it.

Everything is asked by REST; what a venue lacks is in its capabilities and refused by name. An outcome is never guessed:
see `bot.venues.ccxt.outcomes`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Any, Final

from ccxt.base.errors import BaseError

from bot.domain.events import Filled, FundingPaid, OrderStatus, VenueOrder
from bot.domain.instrument import Category, Instrument
from bot.domain.intent import AmendOrder, CancelOrder, PlaceOrder
from bot.venues.ccxt import decode
from bot.venues.ccxt.capabilities import CAPABILITIES
from bot.venues.ccxt.client import asked, open_exchange
from bot.venues.ccxt.decode import Listed
from bot.venues.ccxt.outcomes import Action, is_gone, outcome_of
from bot.venues.port import (
    Accepted,
    FeeRates,
    ImmediateOrder,
    Outcome,
    Position,
    Refused,
    Sink,
    TopOfBook,
    Unknown,
    VenueGarbled,
    VenueRefused,
    Wallet,
)

BPS_PER_ONE: Final = 10_000
PAGE_ROWS: Final = 100


class CcxtAdapter:
    """VenuePort, but for `start`: without a private stream nothing is quoted."""

    def __init__(
        self,
        exchange: str,
        now_ns: Callable[[], int],
        *,
        category: Category = "linear",
        rest_url: str = "",
        **keys: str,
    ) -> None:
        """`keys`: apiKey, secret, password, as the library calls them."""
        self.capabilities = CAPABILITIES[exchange]
        self._exchange = exchange
        self._category: Category = category
        self._now_ns = now_ns
        self._library: Any = open_exchange(exchange, category, rest_url, **keys)
        self._listed: dict[str, Listed] = {}

    # ---- life -------------------------------------------------------------------------------------------------------

    async def start(self, sink: Sink) -> None:
        """Raises VenueRefused with everything that the venue lacks."""
        raise VenueRefused("; ".join(self.capabilities.lacks()))

    async def close(self) -> None:
        await self._library.close()

    def resync(self, symbol: str) -> None:
        """Nothing is streamed."""

    # ---- orders -----------------------------------------------------------------------------------------------------

    async def place(self, intent: PlaceOrder, instrument: Instrument) -> Outcome:
        qty, price = instrument.qty(intent.qty_lots), instrument.price(intent.price_ticks)
        return await self._create(
            intent.symbol, intent.side.value, qty, price, intent.client_order_id, intent.reduce_only, postOnly=True
        )

    async def place_immediate(self, order: ImmediateOrder) -> Outcome:
        return await self._create(
            order.symbol, order.side.value, order.qty, order.price_limit, order.client_order_id, True, timeInForce="IOC"
        )

    async def _create(
        self, symbol: str, side: str, qty: Decimal, price: Decimal, client_order_id: str, reduce_only: bool, **how: Any
    ) -> Outcome:
        try:
            params = {"clientOrderId": self.capabilities.id_there(client_order_id), **how}
        except ValueError as error:
            return Refused(0, str(error))
        if reduce_only:
            params["reduceOnly"] = True
        market = await self._market(symbol)
        call = self._library.create_order(market.name, "limit", side, market.amount(qty), format(price, "f"), params)
        return await self._mutated(call, "create")

    async def amend(self, intent: AmendOrder, instrument: Instrument) -> Outcome:
        if not self.capabilities.amends:
            return Refused(0, f"{self._exchange}: no amend in place: cancel and place anew")
        market = await self._market(intent.symbol)
        found = await self._find(intent.symbol, intent.client_order_id)
        if found is None:
            return Accepted(gone=True)
        qty, price = instrument.qty(intent.qty_lots), instrument.price(intent.price_ticks)
        call = self._library.edit_order(
            found.venue_order_id, market.name, "limit", found.side.value, market.amount(qty), format(price, "f")
        )
        return await self._mutated(call, "change")

    async def cancel(self, intent: CancelOrder) -> Outcome:
        market = await self._market(intent.symbol)
        if intent.venue_order_id:
            return await self._mutated(self._library.cancel_order(intent.venue_order_id, market.name), "cancel")
        number = self.capabilities.id_there(intent.client_order_id)
        params = {"clientOrderId": number}
        return await self._mutated(self._library.cancel_order(None, market.name, params), "cancel")

    async def cancel_all(self, symbol: str) -> Outcome:
        """Where the venue has no such call: every order that is open now, by its id; the worst outcome counts."""
        market = await self._market(symbol)
        if self.capabilities.cancels_all:
            return await self._mutated(self._library.cancel_all_orders(market.name), "cancel", has_id=False)
        count = 0
        for order in await self.open_orders(symbol, market.instrument):
            outcome = await self._mutated(self._library.cancel_order(order.venue_order_id, market.name), "cancel")
            if not isinstance(outcome, Accepted):
                return outcome
            count += 1
        return Accepted(count=count)

    async def _mutated(self, call: Awaitable[Any], action: Action, *, has_id: bool = True) -> Outcome:
        """The library takes any body for an answer: without the order's id (or, of many, without JSON) it is none."""
        try:
            answer = await call
        except BaseError as error:
            return outcome_of(self._exchange, error, action)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            return Unknown(0, f"{self._exchange}: an answer that does not decode: {type(error).__name__}")
        rows = answer if isinstance(answer, list) else [answer]
        told = [row for row in rows if isinstance(row, dict) and isinstance(row.get("info", row), dict | list)]
        number = str(told[0].get("id") or "") if told else ""
        if len(told) != len(rows) or (has_id and not number):
            return Unknown(0, f"{self._exchange}: an answer without the order's id")
        return Accepted(venue_order_id=number if has_id else "")

    # ---- reads ------------------------------------------------------------------------------------------------------

    async def instruments(self, symbols: Sequence[str]) -> dict[str, Instrument]:
        return {symbol: (await self._market(symbol)).instrument for symbol in symbols}

    async def order(self, symbol: str, client_order_id: str, instrument: Instrument) -> VenueOrder | None:
        return await self._find(symbol, client_order_id)

    async def open_orders(self, symbol: str, instrument: Instrument) -> list[VenueOrder]:
        market = await self._market(symbol)
        rows = await asked(self._exchange, self._library.fetch_open_orders(market.name, None, PAGE_ROWS))
        if len(rows) >= PAGE_ROWS:
            raise VenueGarbled(f"{self._exchange}: {len(rows)} open orders; more than a page may be missing")
        orders = [decode.order(row, market, self.capabilities) for row in rows]
        return [order for order in orders if order.status is OrderStatus.WORKING]

    async def executions(self, symbol: str, since_ms: int, instrument: Instrument) -> list[Filled | FundingPaid]:
        market = await self._market(symbol)
        rows = await asked(self._exchange, self._library.fetch_my_trades(market.name, since_ms, PAGE_ROWS))
        if len(rows) >= PAGE_ROWS:
            raise VenueGarbled(f"{self._exchange}: {len(rows)} executions; more than a page may be missing")
        fills = [decode.fill(row, market, self.capabilities, self._now_ns()) for row in rows]
        return sorted(
            (fill for fill in fills if fill.venue_at_ns >= since_ms * decode.NS_PER_MS),
            key=lambda fill: fill.venue_at_ns,
        )

    async def position(self, symbol: str) -> Position:
        """These venues list what is held alone: no row of a read that succeeded is flat. Two rows are hedge mode."""
        market = await self._market(symbol)
        rows = await asked(self._exchange, self._library.fetch_positions([market.name]))
        held = [row for row in rows if row["symbol"] == market.name and decode.decimal(row["contracts"], "contracts")]
        if len(held) > 1 or any(row.get("hedged") for row in held):
            raise VenueGarbled(f"{symbol} is in hedge mode, one-way is needed")
        if not held:
            return Position(symbol, Decimal(0), Decimal(0))
        row = held[0]
        if row["side"] not in ("long", "short"):
            raise VenueGarbled(f"side: {row['side']!r}, allowed: long short")
        qty = abs(decode.decimal(row["contracts"], "contracts")) * market.contract_size
        return Position(symbol, qty if row["side"] == "long" else -qty, decode.decimal(row["entryPrice"], "entryPrice"))

    async def wallet(self, instrument: Instrument) -> Wallet:
        raise VenueRefused(f"{self._exchange}: no statement of equity net of transfers")

    async def fee_rates(self, symbol: str) -> FeeRates:
        market = await self._market(symbol)
        row = await asked(self._exchange, self._library.fetch_trading_fee(market.name))
        maker, taker = decode.decimal(row["maker"], "maker"), decode.decimal(row["taker"], "taker")
        return FeeRates(maker * BPS_PER_ONE, taker * BPS_PER_ONE, f"api:{self._exchange}:{symbol}")

    async def top_of_book(self, symbol: str) -> TopOfBook:
        market = await self._market(symbol)
        answer = await asked(self._exchange, self._library.fetch_order_book(market.name, 5))
        told = decode.book(answer, market, 0, self._now_ns())
        if not told.bids or not told.asks:
            raise VenueGarbled(f"{symbol}: a side of the book is empty")
        price = market.instrument.price
        return TopOfBook(symbol, price(told.bids[0][0]), price(told.asks[0][0]), told.venue_at_ns // decode.NS_PER_MS)

    async def server_time_ms(self) -> int:
        return int(await asked(self._exchange, self._library.fetch_time()))

    async def _find(self, symbol: str, client_order_id: str) -> VenueOrder | None:
        """By our id, whether open or ended. None: the venue says there is none."""
        market = await self._market(symbol)
        params = {"clientOrderId": self.capabilities.id_there(client_order_id)}
        try:
            row = await asked(self._exchange, self._library.fetch_order(None, market.name, params))
        except VenueRefused as error:
            if is_gone(self._exchange, error.code):
                return None
            raise
        return decode.order(row, market, self.capabilities)

    async def _market(self, symbol: str) -> Listed:
        if symbol not in self._listed:
            markets = await asked(self._exchange, self._library.load_markets())
            self._listed[symbol] = decode.listed(markets, symbol, self._category)
        return self._listed[symbol]
