"""What we would like to quote. A strategy is a small class: market and position in, quotes out, no memory.

Prices are products of whole numbers that outgrow half a machine word. Where they are sure to fit a whole one they are
declared `i64`, which a compiled bot multiplies at once; all others go the long way, to the same result.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, Context, Decimal, localcontext
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.engine.parameters import UBPS, UBPS_ONE, EngineParameters, ubps

if TYPE_CHECKING:
    from mypy_extensions import i64

FITS_TICKS: Final = 1 << 28
"""A price or twice a price below this, times anything up to three `UBPS_ONE`, fits a machine word of 63 bits."""

_FITS_LOTS: Final = 1 << 31
_FITS: Final = 1 << 62
_BUY: Final = Side.BUY
_SELL: Final = Side.SELL
_EXACT: Final = Context(prec=40, rounding=ROUND_FLOOR)
_PPM: Final = 1_000_000
_UBPS_TWO: Final = 2 * UBPS_ONE


class Quote:
    """A wanted order: whole ticks and lots. Never changed."""

    __slots__ = ("price_ticks", "qty_lots", "side")

    def __init__(self, side: Side, price_ticks: int, qty_lots: int) -> None:
        self.side = side
        self.price_ticks = price_ticks
        self.qty_lots = qty_lots

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Quote)
            and self.side is other.side
            and self.price_ticks == other.price_ticks
            and self.qty_lots == other.qty_lots
        )

    def __hash__(self) -> int:
        return hash((self.side, self.price_ticks, self.qty_lots))

    def __repr__(self) -> str:
        return f"Quote({self.side.value}, {self.price_ticks}, {self.qty_lots})"


class Market(NamedTuple):
    """What a strategy may look at.

    `mid2_ticks` is twice the mid in ticks; `position_lots` is signed; `variance_ubps2` is the variance of the mid in
    micro basis points squared per second.
    """

    best_bid_ticks: int
    best_ask_ticks: int
    mid2_ticks: int
    position_lots: int
    variance_ubps2: int = 0


class TwoSided:
    """What every strategy is: prices of a bid and an ask before the maker policy, and one size of both before risk.

    A strategy's prices move at most one tick further than the mid does while position and variance stand: the quote
    cycle relies on it when it keeps quotes without asking again.
    """

    goes_by_variance: bool = False
    """Whether `variance_ubps2` decides anything: without it a new estimate is no reason to look again."""

    def prices(self, mid2_ticks: int, position_lots: int, variance_ubps2: int) -> tuple[int, int, int]:
        """(bid in ticks, ask in ticks, lots of each). The arguments as in `Market`."""
        raise NotImplementedError

    def quotes(self, market: Market) -> tuple[Quote, ...]:
        """The same as two quotes."""
        bid, ask, lots = self.prices(market.mid2_ticks, market.position_lots, market.variance_ubps2)
        return (Quote(_BUY, bid, lots), Quote(_SELL, ask, lots))


Strategy: TypeAlias = TwoSided


class SpreadAndSkew(TwoSided):
    """A fixed half-spread around mid, both quotes moved against the inventory.

    With s = skew x position / inventory limit (within ±skew): bid = mid x (1 - half - s), ask = mid x (1 + half - s);
    the bid rounded down, the ask up. Size is one notional at mid, rounded down to the lot.
    """

    goes_by_variance = False

    def __init__(self, parameters: EngineParameters, instrument: Instrument) -> None:
        unit = instrument.tick_size * instrument.lot_size
        self._half_ubps = ubps(parameters.half_spread_bps)
        self._skew_ubps = ubps(parameters.inventory_skew_bps)
        self._size_units2 = units(parameters.order_notional_quote * 2, unit)
        self._inventory_units2 = max(1, units(parameters.inventory_max_quote * 2, unit))
        self._skew_fits = self._skew_ubps * self._inventory_units2 < _FITS and self._inventory_units2 < _FITS

    def prices(self, mid2_ticks: int, position_lots: int, variance_ubps2: int) -> tuple[int, int, int]:
        skew, skew_max = 0, self._skew_ubps
        if position_lots and skew_max:
            if self._skew_fits and mid2_ticks < FITS_TICKS and -_FITS_LOTS < position_lots < _FITS_LOTS:
                mid2: i64 = mid2_ticks
                lots: i64 = position_lots
                lean: i64 = skew_max
                most: i64 = self._inventory_units2
                held: i64 = lots * mid2
                skew = skew_max if held >= most else -skew_max if held <= -most else lean * held // most
            else:
                skew = skew_max * position_lots * mid2_ticks // self._inventory_units2
                if skew > skew_max:
                    skew = skew_max
                elif skew < -skew_max:
                    skew = -skew_max
        return around(mid2_ticks, self._half_ubps, skew, self._size_units2 // mid2_ticks)


class AvellanedaStoikov(TwoSided):
    """Avellaneda & Stoikov, "High-frequency trading in a limit order book" (2008), with a horizon that rolls on.

    In basis points of mid, with q = position / inventory limit (within ±1), s2 the variance per second, T the horizon:
    reservation price = mid - q x gamma x s2 x T; half-spread = gamma x s2 x T / 2 + ln(1 + gamma / kappa) / gamma, and
    never below `half_spread_bps`. The logarithm is taken once, in exact decimals; the rest is whole micro basis points,
    the shift rounded towards mid, the half-spread up. The shift is bounded by ±50 % of mid: a price stays a price.
    """

    goes_by_variance = True

    def __init__(self, parameters: EngineParameters, instrument: Instrument) -> None:
        unit = instrument.tick_size * instrument.lot_size
        gamma, kappa = parameters.risk_aversion_per_bps, parameters.fill_decay_per_bps
        with localcontext(_EXACT):
            self._fill_ubps = int(((1 + gamma / kappa).ln() / gamma) * UBPS)
            # gamma [1/bps] x variance [ubps2/s] x T [s] in ubps: divided by 1e6 once, and gamma itself in millionths
            self._gamma_ppm = max(1, int(gamma * _PPM))
        self._horizon_s = parameters.horizon_s
        self._half_min_ubps = ubps(parameters.half_spread_bps)
        self._size_units2 = units(parameters.order_notional_quote * 2, unit)
        self._inventory_units2 = max(1, units(parameters.inventory_max_quote * 2, unit))

    def prices(self, mid2_ticks: int, position_lots: int, variance_ubps2: int) -> tuple[int, int, int]:
        risk_ubps = min(UBPS_ONE // 2, self._gamma_ppm * variance_ubps2 * self._horizon_s // (_PPM * UBPS))
        held_units2 = position_lots * mid2_ticks
        held_units2 = max(-self._inventory_units2, min(self._inventory_units2, held_units2))
        shift = risk_ubps * abs(held_units2) // self._inventory_units2
        half = min(UBPS_ONE // 2 - 1, max(self._half_min_ubps, -(-risk_ubps // 2) + self._fill_ubps))
        return around(mid2_ticks, half, shift if held_units2 > 0 else -shift, self._size_units2 // mid2_ticks)


def around(mid2: int, half_ubps: int, skew_ubps: int, lots: int) -> tuple[int, int, int]:
    """Both prices and the size: bid = mid x (1 - half - skew) rounded down, ask = mid x (1 + half - skew) rounded up.

    Neither passes mid, however hard the skew leans. The quote that reduces would cross there and be refused; with the
    other side at its limit nothing would stand then, and nothing could ever reduce the position.
    """
    if 0 < mid2 < FITS_TICKS and 0 <= half_ubps <= UBPS_ONE and -UBPS_ONE <= skew_ubps <= UBPS_ONE:
        mid: i64 = mid2
        half: i64 = half_ubps
        skew: i64 = skew_ubps
        fit_bid: i64 = mid * (UBPS_ONE - half - skew) // _UBPS_TWO
        fit_ask: i64 = -(-mid * (UBPS_ONE + half - skew) // _UBPS_TWO)
        fit_max: i64 = mid // 2
        fit_min: i64 = mid - fit_max
        return (fit_bid if fit_bid < fit_max else fit_max, fit_ask if fit_ask > fit_min else fit_min, lots)
    bid = mid2 * (UBPS_ONE - half_ubps - skew_ubps) // _UBPS_TWO
    ask = -(-mid2 * (UBPS_ONE + half_ubps - skew_ubps) // _UBPS_TWO)
    bid_max, ask_min = mid2 // 2, -(-mid2 // 2)
    return (bid if bid < bid_max else bid_max, ask if ask > ask_min else ask_min, lots)


def units(quote: Decimal, unit: Decimal) -> int:
    """Quote money as whole ticks x lots, rounded down."""
    return int(quote / unit)


def half_spread_ubps(bid_ticks: int, ask_ticks: int) -> int:
    """Half the distance of two quotes, in micro basis points of their middle."""
    if 0 < bid_ticks <= ask_ticks < FITS_TICKS:
        bid: i64 = bid_ticks
        ask: i64 = ask_ticks
        between: i64 = (ask - bid) * UBPS_ONE // (ask + bid)
        return between
    return (ask_ticks - bid_ticks) * UBPS_ONE // (ask_ticks + bid_ticks)
