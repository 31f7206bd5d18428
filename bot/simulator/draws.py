"""The venue of deterministic shadow: an order's fate is drawn, queue position plays no part.

Everything that is asked of it arrives after the latency, takes effect and is answered at that moment. On arrival each
order's fate is drawn, once, from an urn (see `Urn`). At the first market update in which a taker visits its side, an
order that was drawn to fill fills whole, at its own price, as maker; any other lapses: the market has left it behind
and the venue reports it cancelled.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

import msgspec

from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.fees import FeeProfile
from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.simulator.scripted import Update

POST_ONLY: Final = "post-only order would have taken"


class Urn:
    """Fates, drawn without replacement from five at a time, shuffled by the seed: short runs keep to the rate too."""

    SIZE: Final = 5

    def __init__(self, fill_rate: Decimal, seed: str) -> None:
        self._rate = fill_rate
        self._shuffler = random.Random(seed)  # noqa: S311 - a script, no secret
        self._refills = 0
        self._fates: list[bool] = []

    def draw(self) -> bool:
        """True: this order fills. Of every n x 5 draws, n x 5 x rate (rounded down) are true."""
        if not self._fates:
            self._refills += 1
            fills = int(self._refills * self.SIZE * self._rate) - int((self._refills - 1) * self.SIZE * self._rate)
            self._fates = [number < fills for number in range(self.SIZE)]
            self._shuffler.shuffle(self._fates)
        return self._fates.pop()


class Resting(msgspec.Struct):
    """An order at the venue."""

    symbol: str
    client_order_id: str
    venue_order_id: str
    side: Side
    price_ticks: int
    qty_lots: int
    fills: bool

    def told(self, at_ns: int, status: ev.OrderStatus, reason: str = "", filled_lots: int = 0) -> ev.OrderUpdated:
        """What the private stream says of it."""
        order = ev.VenueOrder(
            self.symbol, self.client_order_id, self.venue_order_id, self.side, self.price_ticks, self.qty_lots,
            filled_lots, status, reason, reason == POST_ONLY,
        )  # fmt: skip
        return ev.OrderUpdated(at_ns, order)


class Holding(msgspec.Struct):
    """A position: signed lots and what they cost, quote."""

    lots: int = 0
    cost_quote: Decimal = Decimal(0)


class DrawnVenue:
    """One account. `arrive` and `update` return what the bot is told, in order. `fees`: symbol to what it charges.

    `executions`: how many it has given numbers to before, where a run is continued.
    """

    def __init__(
        self,
        instruments: Iterable[Instrument],
        fill_rate: Decimal,
        fees: Mapping[str, FeeProfile],
        seed: int,
        executions: int = 0,
    ) -> None:
        self._instruments = {instrument.symbol: instrument for instrument in instruments}
        self._fees = fees
        self._urns = {
            (symbol, side): Urn(fill_rate, f"{seed}:{symbol}:{side}:fills")
            for symbol in self._instruments
            for side in Side
        }
        self._orders: dict[str, Resting] = {}
        self._tops: dict[str, tuple[int, int]] = {}
        self._executions = executions
        self._holdings = {symbol: Holding() for symbol in self._instruments}

    @property
    def open_count(self) -> int:
        """Orders at the venue now."""
        return len(self._orders)

    def will_fill(self, client_order_id: str) -> bool:
        """Whether an order that stands here was drawn to fill."""
        order = self._orders.get(client_order_id)
        return order is not None and order.fills

    def take_over(self, symbol: str, lots: int, entry_price: Decimal) -> None:
        """Begin with a position, as a continued run left it."""
        self._holdings[symbol] = Holding(lots, self._instruments[symbol].qty(lots) * entry_price)

    # ---- the market ----

    def update(self, update: Update) -> list[ev.Event]:
        """A market update, and whom its taker meets: the best of our orders on that side, the older one on a tie."""
        symbol, at_ns = update.book.symbol, update.book.at_ns
        self._tops[symbol] = (update.book.bids[0][0], update.book.asks[0][0])
        told: list[ev.Event] = [update.book]
        if update.trade is not None:
            told.append(update.trade)
        met = [order for order in self._orders.values() if order.symbol == symbol and order.side is update.visited]
        if met:
            best = max(met, key=lambda order: order.side.sign * order.price_ticks)
            told += self._fill(best, at_ns) if best.fills else self._remove(best, at_ns, "lapsed")
        return told

    def _fill(self, order: Resting, at_ns: int) -> list[ev.Event]:
        del self._orders[order.client_order_id]
        price = self._instruments[order.symbol].price(order.price_ticks)
        filled = self._execute(order, price, order.qty_lots, at_ns, is_maker=True)
        return [filled, order.told(at_ns, ev.OrderStatus.FILLED, filled_lots=order.qty_lots)]

    def _execute(self, order: Resting, price: Decimal, lots: int, at_ns: int, *, is_maker: bool) -> ev.Filled:
        instrument, holding = self._instruments[order.symbol], self._holdings[order.symbol]
        self._executions += 1
        notional = instrument.qty(lots) * price
        signed = order.side.sign * lots
        if holding.lots * signed >= 0:
            holding.cost_quote += order.side.sign * notional
        elif abs(signed) <= abs(holding.lots):
            holding.cost_quote += holding.cost_quote * signed / holding.lots
        else:
            holding.cost_quote = instrument.qty(holding.lots + signed) * price
        holding.lots += signed
        fee = self._fees[order.symbol].fee_quote(notional, is_maker=is_maker)
        return ev.Filled(
            at_ns, f"shadow-{self._executions}", order.client_order_id, order.venue_order_id, order.symbol, order.side,
            price, lots, fee, is_maker, at_ns,
        )  # fmt: skip

    def _remove(self, order: Resting, at_ns: int, reason: str) -> list[ev.Event]:
        del self._orders[order.client_order_id]
        return [order.told(at_ns, ev.OrderStatus.CANCELLED, reason)]

    # ---- what the bot asks ----

    def arrive(self, intent: it.Intent, at_ns: int) -> list[ev.Event]:
        """An intent reaches the venue. What concerns no venue (notes, exit) is answered by nothing."""
        match intent:
            case it.PlaceOrder():
                return self._place(intent, at_ns)
            case it.AmendOrder():
                return self._amend(intent, at_ns)
            case it.CancelOrder():
                return self._cancel(intent, at_ns)
            case it.CancelAll():
                told: list[ev.Event] = [ev.CancelAllAnswered(at_ns, intent.key, "accepted")]
                for order in [order for order in self._orders.values() if order.symbol in intent.symbols]:
                    told += self._remove(order, at_ns, "cancelled")
                return told
            case it.ProbeOrder():
                known = self._orders.get(intent.client_order_id)
                if known is None:
                    return [ev.OrderNotFound(at_ns, intent.client_order_id, intent.at_ns)]
                return [known.told(at_ns, ev.OrderStatus.WORKING)]
            case it.ReadAccount():
                return self._read(intent, at_ns)
            case it.FlattenReduceOnly():
                return self._flatten(intent, at_ns)
        return []

    def _place(self, intent: it.PlaceOrder, at_ns: int) -> list[ev.Event]:
        fills = self._urns[intent.symbol, intent.side].draw()
        order = Resting(
            intent.symbol, intent.client_order_id, f"v-{intent.client_order_id}", intent.side, intent.price_ticks,
            intent.qty_lots, fills,
        )  # fmt: skip
        accepted = ev.OrderAccepted(at_ns, order.client_order_id, order.venue_order_id)
        if self._crosses(order.symbol, order.side, order.price_ticks):
            return [accepted, order.told(at_ns, ev.OrderStatus.CANCELLED, POST_ONLY)]
        self._orders[order.client_order_id] = order
        return [accepted, order.told(at_ns, ev.OrderStatus.WORKING)]

    def _amend(self, intent: it.AmendOrder, at_ns: int) -> list[ev.Event]:
        terms = (intent.client_order_id, intent.price_ticks, intent.qty_lots)
        order = self._orders.get(intent.client_order_id)
        if order is None:
            return [ev.AmendAnswered(at_ns, *terms, "gone")]
        order.price_ticks, order.qty_lots = intent.price_ticks, intent.qty_lots
        answered = ev.AmendAnswered(at_ns, *terms, "accepted")
        if self._crosses(order.symbol, order.side, order.price_ticks):
            return [answered, *self._remove(order, at_ns, POST_ONLY)]
        return [answered, order.told(at_ns, ev.OrderStatus.WORKING)]

    def _cancel(self, intent: it.CancelOrder, at_ns: int) -> list[ev.Event]:
        order = self._orders.get(intent.client_order_id)
        if order is None:
            return [ev.CancelAnswered(at_ns, intent.client_order_id, "gone")]
        return [ev.CancelAnswered(at_ns, intent.client_order_id, "accepted"), *self._remove(order, at_ns, "cancelled")]

    def _read(self, intent: it.ReadAccount, at_ns: int) -> list[ev.Event]:
        symbol, holding = intent.symbol, self._holdings[intent.symbol]
        orders = tuple(
            order.told(at_ns, ev.OrderStatus.WORKING).order for order in self._orders.values() if order.symbol == symbol
        )
        entry = holding.cost_quote / self._instruments[symbol].qty(holding.lots) if holding.lots else Decimal(0)
        return [
            ev.OpenOrdersRead(at_ns, symbol, intent.at_ns, orders),
            ev.PositionRead(at_ns, symbol, intent.at_ns, holding.lots, entry),
        ]

    def _flatten(self, intent: it.FlattenReduceOnly, at_ns: int) -> list[ev.Event]:
        """Reduce-only, immediate or cancel: whole at the opposite touch where the limit allows, else not at all."""
        order = Resting(
            intent.symbol, intent.client_order_id, f"v-{intent.client_order_id}", intent.side,
            intent.price_limit_ticks, intent.qty_lots, True,
        )  # fmt: skip
        told: list[ev.Event] = [ev.OrderAccepted(at_ns, order.client_order_id, order.venue_order_id)]
        held = -self._holdings[order.symbol].lots * order.side.sign
        lots = min(order.qty_lots, max(0, held))
        if not lots or not self._crosses(order.symbol, order.side, order.price_ticks):
            return [*told, order.told(at_ns, ev.OrderStatus.CANCELLED, "nothing to take")]
        bid, ask = self._tops[order.symbol]
        price = self._instruments[order.symbol].price(ask if order.side is Side.BUY else bid)
        told.append(self._execute(order, price, lots, at_ns, is_maker=False))
        status = ev.OrderStatus.FILLED if lots == order.qty_lots else ev.OrderStatus.CANCELLED
        return [*told, order.told(at_ns, status, filled_lots=lots)]

    def _crosses(self, symbol: str, side: Side, price_ticks: int) -> bool:
        top = self._tops.get(symbol)
        if top is None:
            return False
        return price_ticks >= top[1] if side is Side.BUY else price_ticks <= top[0]
