"""What every symbol could cost at worst, all together: kept up as orders, positions and marks change.

Whole numbers of 1e-12 quote, each symbol rounded up, so that symbols of different ticks and lots can be added and a
limit is never passed by a rounding. Only what was touched since the last question is worked out again.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from typing import Final

from bot.domain.instrument import Instrument
from bot.engine.ledger import Ledger
from bot.engine.orders import OrderTable

PICO: Final = 10**12
"""Parts of one quote unit in the whole numbers here."""


def pico(quote: Decimal) -> int:
    """Quote money in these units, rounded up."""
    return int((quote * PICO).to_integral_value(ROUND_CEILING))


class Exposure:
    """Worst cases by symbol and their sum. `instruments` and `mids2` are the state's own."""

    def __init__(
        self, orders: OrderTable, ledger: Ledger, instruments: dict[str, Instrument], mids2: dict[str, int]
    ) -> None:
        self._orders = orders
        self._ledger = ledger
        self._instruments = instruments
        self._mids2 = mids2
        self._worst: dict[str, int] = {}
        self._total = 0
        self._open: set[str] = set()
        self._pico_of: dict[str, tuple[Instrument, int]] = {}
        """symbol → its filters, and what half a tick x a lot is in these units"""

    def _bring_up_to_date(self) -> None:
        touched = self._orders.touched
        for symbol in touched:
            instrument, mid2 = self._instruments.get(symbol), self._mids2.get(symbol)
            account = self._ledger.accounts[symbol]
            position = account.position_lots
            of = self._orders.of[symbol]
            buys, sells = of.buys_lots, of.sells_lots
            if position or buys or sells:
                self._open.add(symbol)
            else:
                self._open.discard(symbol)  # dust is none: no order is small enough to get rid of it
            worst = 0
            if instrument is not None and mid2 is not None:
                lots = max(abs(position + buys + account.dust_lots), abs(position - sells))
                worst = lots * mid2 * self._unit2_pico(symbol, instrument)
            self._total += worst - self._worst.get(symbol, 0)
            self._worst[symbol] = worst
        self._orders.untouch()

    def _unit2_pico(self, symbol: str, instrument: Instrument) -> int:
        known = self._pico_of.get(symbol)
        if known is None or known[0] is not instrument:
            known = self._pico_of[symbol] = (instrument, pico(instrument.tick_size * instrument.lot_size / 2))
        return known[1]

    def others_pico(self, symbol: str) -> int:
        """The worst cases of all other symbols."""
        if self._orders.touched:
            self._bring_up_to_date()
        return self._total - self._worst.get(symbol, 0)

    def total_pico(self) -> int:
        """The worst cases of all symbols."""
        if self._orders.touched:
            self._bring_up_to_date()
        return self._total

    def worst_pico(self, symbol: str) -> int:
        """The worst case of that symbol."""
        if self._orders.touched:
            self._bring_up_to_date()
        return self._worst.get(symbol, 0)

    def open_symbols(self) -> frozenset[str] | set[str]:
        """Symbols with a position or orders that may fill; not to be changed."""
        if self._orders.touched:
            self._bring_up_to_date()
        return self._open
