"""Between which prices the net result stays between two bounds: whole numbers, so that each turn of the clock can ask.

The net result is what the ledger has realised plus, for each open position, its quantity x mid x tick / 2 of twice
the mid. So a sum of products of whole numbers follows it exactly, and both bounds are brought to that scale once.
"""

from __future__ import annotations

from decimal import Decimal
from math import ceil, floor
from typing import TYPE_CHECKING, Any, Final

from bot.domain.instrument import Instrument
from bot.engine.ledger import EXACT
from bot.engine.quoting import FITS_TICKS
from bot.engine.state import State

if TYPE_CHECKING:
    from mypy_extensions import i64

_FITS: Final = 1 << 34
"""A weight below this, times what is below `FITS_TICKS`, fits a machine word of 63 bits."""

_Halves = tuple[Instrument, int, int]

_HALVES: dict[str, _Halves] = {}
"""symbol → its filters, and half a tick x a lot as a whole number and after how many digits: worked out once"""

_SCALES: dict[int, Decimal] = {}
"""digits → what brings them before the point"""


def _half(symbol: str, instrument: Instrument) -> _Halves:
    known = _HALVES.get(symbol)
    if known is None or known[0] is not instrument:
        half = EXACT.divide(EXACT.multiply(instrument.tick_size, instrument.lot_size), 2)
        digits = max(0, -int(half.as_tuple().exponent))
        known = _HALVES[symbol] = (instrument, int(half.scaleb(digits, EXACT)), digits)
    return known


class NetBand:
    """Holds while low < net < high, or net = high = as it is now; `net`, `low`, `high` in quote.

    It is good until a fill, a funding payment, other filters or another position: only prices may move. `symbols`:
    those with an open position; without any net cannot move. `mids2`: theirs, when it was found to hold last.
    """

    __slots__ = ("_high", "_low", "_spare", "_weights", "mids2", "symbols")

    def __init__(self, state: State, net: Decimal, low: Decimal, high: Decimal) -> None:
        self.symbols: list[str] = []
        self._weights: list[int] = []
        each: list[int] = []
        digits = 0
        for symbol, account in state.ledger.accounts.items():
            instrument = state.instruments.get(symbol)
            if instrument is None or not (account.position_lots or account.dust_base):
                continue
            _, weight, after = _half(symbol, instrument)
            weight *= account.position_lots
            if account.dust_base:
                half = EXACT.divide(EXACT.multiply(instrument.tick_size, account.dust_base), 2)
                finer = max(after, -int(half.as_tuple().exponent))
                weight = weight * 10 ** (finer - after) + int(half.scaleb(finer, EXACT))
                after = finer
            self.symbols.append(symbol)
            self._weights.append(weight)
            each.append(after)
            if after > digits:
                digits = after
        now = 0
        for number, symbol in enumerate(self.symbols):
            if each[number] != digits:
                self._weights[number] *= 10 ** (digits - each[number])
            now += state.last_mid2[symbol] * self._weights[number]
        self.mids2: list[Any] = [0] * len(self.symbols)
        self._spare: list[Any] = [0] * len(self.symbols)
        scale = _SCALES.get(digits)
        if scale is None:
            scale = _SCALES[digits] = Decimal(10**digits)
        less = EXACT.multiply(net, -scale)
        self._high = now + max(1, ceil(EXACT.fma(high, scale, less)))
        self._low = now + floor(EXACT.fma(low, scale, less))

    def holds(self, mids2: dict[str, Any]) -> bool:
        """Whether net is inside at these mids (symbol → twice, in ticks)."""
        value, weights, found = 0, self._weights, self._spare
        for number, symbol in enumerate(self.symbols):
            known = found[number] = mids2[symbol]
            mid2: int = known
            weight = weights[number]
            if 0 <= mid2 < FITS_TICKS and -_FITS < weight < _FITS:
                mid: i64 = mid2
                times: i64 = weight
                product: i64 = mid * times
                value += product
            else:
                value += mid2 * weight
        if not self._low < value < self._high:
            return False
        self._spare, self.mids2 = self.mids2, found
        return True
