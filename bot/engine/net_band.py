"""Between which prices the net result stays between two bounds: whole numbers, so that each turn of the clock can ask.

The net result is what the ledger has realised plus, for each open position, its quantity x mid x tick / 2 of twice
the mid. So a sum of products of whole numbers follows it exactly, and both bounds are brought to that scale once.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from bot.engine.ledger import EXACT
from bot.engine.state import State


class NetBand:
    """Holds while low < net < high, or net = high = as it is now; `net`, `low`, `high` in quote.

    It is good until a fill, a funding payment, other filters or another position: only prices may move. `symbols`:
    those with an open position, in whose order their mids are given; without any net cannot move.
    """

    __slots__ = ("_high", "_low", "_weights", "symbols")

    def __init__(self, state: State, net: Decimal, low: Decimal, high: Decimal) -> None:
        halves: dict[str, Decimal] = {}
        for symbol, account in state.ledger.accounts.items():
            instrument = state.instruments.get(symbol)
            if (account.position_lots or account.dust_base) and instrument is not None:
                qty = EXACT.add(EXACT.multiply(instrument.lot_size, account.position_lots), account.dust_base)
                halves[symbol] = EXACT.divide(EXACT.multiply(instrument.tick_size, qty), 2)
        digits = max((-int(half.as_tuple().exponent) for half in halves.values()), default=0)
        self.symbols = list(halves)
        self._weights = [int(half.scaleb(digits, EXACT)) for half in halves.values()]
        now = sum(state.last_mid2[symbol] * weight for symbol, weight in zip(halves, self._weights, strict=True))
        above = EXACT.subtract(high, net).scaleb(digits, EXACT)
        below = EXACT.subtract(low, net).scaleb(digits, EXACT)
        self._high = now + max(1, int(above.to_integral_value(ROUND_CEILING)))
        self._low = now + int(below.to_integral_value(ROUND_FLOOR))

    def holds(self, mids2: list[int]) -> bool:
        """Whether net is inside at these mids (twice, in ticks)."""
        value = 0
        for mid2, weight in zip(mids2, self._weights, strict=True):
            value += mid2 * weight
        return self._low < value < self._high
