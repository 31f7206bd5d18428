"""Orders that never left the process, before a market that is real: live, or recorded.

As in deterministic shadow each order's fate is drawn when it arrives. It meets its fate when the real market comes to
it: a trade prints at its price or beyond, or the opposite best price reaches it. Drawn to fill, it fills whole at its
own price as maker; otherwise it lapses. Queue position plays no part: the twin and rehearsal are for that.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.book import Book
from bot.domain.fees import FeeProfile
from bot.domain.instrument import Instrument
from bot.simulator.draws import DrawnVenue, Resting

ENDED_KEPT: Final = 10_000
FILLS_KEPT: Final = 10_000


class PaperVenue(DrawnVenue):
    """One account. `equity_quote`: what it begins with."""

    def __init__(
        self,
        instruments: Sequence[Instrument],
        fill_rate: Decimal,
        fees: Mapping[str, FeeProfile],
        seed: int,
        equity_quote: Decimal,
        executions: int = 0,
    ) -> None:
        super().__init__(instruments, fill_rate, fees, seed, executions)
        self._books = {instrument.symbol: Book() for instrument in instruments}
        self._ended: OrderedDict[str, ev.VenueOrder] = OrderedDict()
        self._cash_quote = equity_quote
        self.fills: deque[ev.Filled] = deque(maxlen=FILLS_KEPT)

    def equity_quote(self) -> Decimal:
        """Cash, and every position at its middle price, quote."""
        total = self._cash_quote
        for symbol, holding in self._holdings.items():
            if holding.lots:
                bid, ask = self._tops[symbol]
                instrument = self._instruments[symbol]
                total += instrument.qty(holding.lots) * instrument.price(bid + ask) / 2
        return total

    def ended(self, client_order_id: str) -> ev.VenueOrder | None:
        """An order that has ended, as it ended."""
        return self._ended.get(client_order_id)

    # ---- the market -------------------------------------------------------------------------------------------------

    def hear(self, event: ev.Event, at_ns: int) -> list[ev.Event]:
        """What the market's word does to resting orders; told after the word itself."""
        match event:
            case ev.BookSnapshot():
                self._books[event.symbol].replace(event.bids, event.asks, event.update_id, event.at_ns)
            case ev.BookDelta():
                self._books[event.symbol].change(event.bids, event.asks, event.update_id, event.at_ns)
            case ev.TradePrinted():
                return self._kept(self._printed(event, at_ns))
            case _:
                return []
        return self._kept(self._moved(event.symbol, at_ns))

    def _moved(self, symbol: str, at_ns: int) -> list[ev.Event]:
        top = self._books[symbol].top
        if top is None:
            return []
        self._tops[symbol] = top
        reached = [one for one in self._of(symbol) if self._crosses(symbol, one.side, one.price_ticks)]
        return [told for order in reached for told in self._met(order, at_ns)]

    def _printed(self, trade: ev.TradePrinted, at_ns: int) -> list[ev.Event]:
        """The best of our orders on the side that the taker visited, where the print went as far."""
        side = trade.taker_side.opposite
        met = [
            one
            for one in self._of(trade.symbol)
            if one.side is side and side.sign * (one.price_ticks - trade.price_ticks) >= 0
        ]
        return self._met(max(met, key=lambda one: side.sign * one.price_ticks), at_ns) if met else []

    def _met(self, order: Resting, at_ns: int) -> list[ev.Event]:
        return self._fill(order, at_ns) if order.fills else self._remove(order, at_ns, "lapsed")

    def _of(self, symbol: str) -> list[Resting]:
        return [order for order in self._orders.values() if order.symbol == symbol]

    # ---- what the bot asks ------------------------------------------------------------------------------------------

    def arrive(self, intent: it.Intent, at_ns: int) -> list[ev.Event]:
        return self._kept(super().arrive(intent, at_ns))

    def _kept(self, told: list[ev.Event]) -> list[ev.Event]:
        """Remembers fills and ends, for reads; what was told goes on as it is."""
        for event in told:
            if isinstance(event, ev.Filled):
                self.fills.append(event)
                notional = self._instruments[event.symbol].qty(event.qty_lots) * event.price
                self._cash_quote -= event.side.sign * notional + event.fee_quote
            elif isinstance(event, ev.OrderUpdated) and event.order.status is not ev.OrderStatus.WORKING:
                self._ended[event.order.client_order_id] = event.order
                while len(self._ended) > ENDED_KEPT:
                    self._ended.popitem(last=False)
        return told
