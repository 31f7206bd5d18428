"""Between which prices the net result stays between two bounds: whole numbers, so that each turn of the clock can ask.

The net result is what the ledger has realised plus, for each open position, lots x mid x (tick x lot) / 2 of twice the
mid. So a sum of products of whole numbers follows it exactly, and both bounds are brought to that scale once.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from bot.engine.ledger import EXACT
from bot.engine.state import State


class NetBand:
    """Holds while low < net < high, or net = high = as it is now; `net`, `low`, `high` in quote.

    It is good until a fill, a funding payment, other filters or another position: only prices may move. `marked`:
    whether anything is open at all; without that net cannot move.
    """

    __slots__ = ("_high", "_low", "_weights", "marked")

    def __init__(self, state: State, net: Decimal, low: Decimal, high: Decimal) -> None:
        halves: dict[str, Decimal] = {}
        for symbol, account in state.ledger.accounts.items():
            instrument = state.instruments.get(symbol)
            if account.position_lots and instrument is not None:
                unit = EXACT.multiply(instrument.tick_size, instrument.lot_size)
                halves[symbol] = EXACT.divide(EXACT.multiply(unit, account.position_lots), 2)
        digits = max((-int(half.as_tuple().exponent) for half in halves.values()), default=0)
        self._weights = {symbol: int(half.scaleb(digits, EXACT)) for symbol, half in halves.items()}
        self.marked = bool(halves)
        now = sum(state.last_mid2[symbol] * weight for symbol, weight in self._weights.items())
        above = EXACT.subtract(high, net).scaleb(digits, EXACT)
        below = EXACT.subtract(low, net).scaleb(digits, EXACT)
        self._high = now + max(1, int(above.to_integral_value(ROUND_CEILING)))
        self._low = now + int(below.to_integral_value(ROUND_FLOOR))

    def mids2(self, mids2: Mapping[str, int]) -> dict[str, int]:
        """Those of them that net depends on."""
        return {symbol: mids2[symbol] for symbol in self._weights}

    def holds(self, mids2: Mapping[str, int]) -> bool:
        """Whether net is inside at these mids (twice, in ticks); as given by `mids2`."""
        value = 0
        for symbol, weight in self._weights.items():
            value += mids2[symbol] * weight
        return self._low < value < self._high
