"""What we would like to quote. A strategy is a small protocol: market and position in, quotes out, no memory."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple, Protocol

from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.engine.parameters import UBPS_ONE, EngineParameters, ubps


class Quote(NamedTuple):
    """A wanted order: whole ticks and lots."""

    side: Side
    price_ticks: int
    qty_lots: int


class Market(NamedTuple):
    """What a strategy may look at. `mid2_ticks` is twice the mid in ticks; `position_lots` is signed."""

    best_bid_ticks: int
    best_ask_ticks: int
    mid2_ticks: int
    position_lots: int


class Strategy(Protocol):
    """Prices before the maker policy and sizes before risk; both sides or one or none."""

    def quotes(self, market: Market) -> tuple[Quote, ...]: ...


class SpreadAndSkew:
    """A fixed half-spread around mid, both quotes moved against the inventory.

    With s = skew x position / inventory limit (within ±skew): bid = mid x (1 - half - s), ask = mid x (1 + half - s);
    the bid rounded down, the ask up. Neither passes mid, however hard the skew leans: the reducing quote would cross
    there and be refused, and with the other side at its limit nothing could ever reduce the position. Size is one
    notional at mid, rounded down to the lot.
    """

    def __init__(self, parameters: EngineParameters, instrument: Instrument) -> None:
        unit = instrument.tick_size * instrument.lot_size
        self._half_ubps = ubps(parameters.half_spread_bps)
        self._skew_ubps = ubps(parameters.inventory_skew_bps)
        self._size_units2 = _units(parameters.order_notional_quote * 2, unit)
        self._inventory_units2 = max(1, _units(parameters.inventory_max_quote * 2, unit))

    def quotes(self, market: Market) -> tuple[Quote, ...]:
        mid2 = market.mid2_ticks
        skew = self._skew_ubps * market.position_lots * mid2 // self._inventory_units2
        skew = max(-self._skew_ubps, min(self._skew_ubps, skew))
        bid = min(mid2 * (UBPS_ONE - self._half_ubps - skew) // (2 * UBPS_ONE), mid2 // 2)
        ask = max(-(-mid2 * (UBPS_ONE + self._half_ubps - skew) // (2 * UBPS_ONE)), -(-mid2 // 2))
        lots = self._size_units2 // mid2
        return (Quote(Side.BUY, bid, lots), Quote(Side.SELL, ask, lots))


def _units(quote: Decimal, unit: Decimal) -> int:
    """Quote money as whole ticks x lots, rounded down."""
    return int(quote / unit)


def half_spread_ubps(bid_ticks: int, ask_ticks: int) -> int:
    """Half the distance of two quotes, in micro basis points of their middle."""
    return (ask_ticks - bid_ticks) * UBPS_ONE // (ask_ticks + bid_ticks)
