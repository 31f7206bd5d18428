"""What an instrument is, and the exact arithmetic between venue decimals and integer ticks and lots.

Inside the engine a price is a whole number of ticks and a quantity a whole number of lots. `Decimal` appears only at
the venue and ledger edges. A float never decides a price, a quantity or money.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final, Literal

import msgspec

Category = Literal["linear", "spot"]
NO_COIN: Final = Decimal(0)
"""What a contract has of a coin. One object, because a field that is its default is not written to the journal."""


class NotOnGrid(ValueError):
    """A price that is no multiple of the tick, or a quantity that is no multiple of the lot. Names value and grid."""


class Instrument(msgspec.Struct, frozen=True):
    """One tradable symbol with the venue's filters. All decimals are in the units of the instrument itself.

    `tick_size`: smallest price step, quote per base. `lot_size`: smallest quantity step, base. `qty_min`, `qty_max`:
    base. `notional_min_quote`: smallest price x quantity the venue takes, quote.
    """

    symbol: str
    category: Category
    base: str
    quote: str
    tick_size: Decimal
    lot_size: Decimal
    qty_min: Decimal
    qty_max: Decimal
    notional_min_quote: Decimal

    def price(self, ticks: int) -> Decimal:
        """Ticks to quote per base, exact."""
        return self.tick_size * ticks

    def qty(self, lots: int) -> Decimal:
        """Lots to base, exact."""
        return self.lot_size * lots

    def notional_quote(self, price_ticks: int, qty_lots: int) -> Decimal:
        """Price x quantity in quote, exact."""
        return self.tick_size * price_ticks * self.lot_size * qty_lots

    def ticks(self, price: Decimal) -> int:
        """Quote per base to ticks. Raises NotOnGrid where the price is between two ticks or not finite."""
        return _whole(price, self.tick_size, "price", self.symbol, "tick size")

    def lots(self, qty: Decimal) -> int:
        """Base to lots. Raises NotOnGrid where the quantity is between two lots or not finite."""
        return _whole(qty, self.lot_size, "quantity", self.symbol, "lot size")

    def held_lots(self, qty: Decimal) -> tuple[int, Decimal]:
        """A position in whole lots and what is left over, base: only a wallet's coin (spot) has such dust, because
        fees are taken out of it. Raises NotOnGrid as `lots`."""
        if self.category != "spot" or not qty.is_finite():
            return self.lots(qty), NO_COIN
        lots = self.lots_floor(qty)
        return lots, qty - self.qty(lots)

    def ticks_floor(self, price: Decimal) -> int:
        """The greatest tick not above the price: the side a buy is rounded to."""
        return int((price / self.tick_size).to_integral_value(ROUND_FLOOR))

    def ticks_ceil(self, price: Decimal) -> int:
        """The smallest tick not below the price: the side a sell is rounded to."""
        return int((price / self.tick_size).to_integral_value(ROUND_CEILING))

    def lots_floor(self, qty: Decimal) -> int:
        """The greatest number of lots not above the quantity: quantities are only ever rounded down."""
        return int((qty / self.lot_size).to_integral_value(ROUND_FLOOR))


_FINEST_TICK: Final = Decimal("1e-12")
_FINEST_LOT: Final = Decimal("1e-8")
"""As fine as any that is listed, and coarse enough that every price and quantity is a whole number of 64 bits."""


def unlisted(symbol: str) -> Instrument:
    """A stand-in for a symbol whose filters nobody knows yet: fine enough to read which orders stand, and whose.

    Nothing is priced, sized or booked by it.
    """
    return Instrument(symbol, "linear", "", "", _FINEST_TICK, _FINEST_LOT, Decimal(0), Decimal(0), Decimal(0))


def _whole(value: Decimal, step: Decimal, what: str, symbol: str, step_name: str) -> int:
    if not value.is_finite():
        raise NotOnGrid(f"{symbol}: {what} {value} is not a finite number")
    count = value / step
    whole = count.to_integral_value()
    if whole != count:
        raise NotOnGrid(f"{symbol}: {what} {value} is not a multiple of the {step_name} {step}")
    return int(whole)
