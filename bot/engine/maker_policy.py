"""The maker policy: prices that cannot take, quantities the venue will accept. Exact arithmetic throughout.

The four functions on decimals state the rules; `shape` applies them in whole ticks and lots on the order path. A test
holds that both give the same.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from fractions import Fraction
from typing import Final, NamedTuple

from bot.domain.book import NO_TICKS
from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.engine.parameters import UBPS_ONE
from bot.engine.quoting import Quote

_BUY: Final = Side.BUY


def calc_post_only_price(side: Side, reference_price: Decimal, offset_bps: Decimal, tick_size: Decimal) -> Decimal:
    """Reference ∓ reference x offset / 10000; a buy rounded DOWN to the tick, a sell UP.

    `reference_price`: best bid for a buy, best ask for a sell. Example: buy, 50000, 1.5 bps, tick 0.5 → 49992.5.
    """
    price = reference_price - side.sign * reference_price * offset_bps / 10_000
    rounding = ROUND_FLOOR if side is Side.BUY else ROUND_CEILING
    return (price / tick_size).to_integral_value(rounding) * tick_size


def round_qty(qty: Decimal, lot_size: Decimal) -> Decimal:
    """Rounded DOWN to the lot step."""
    return (qty / lot_size).to_integral_value(ROUND_FLOOR) * lot_size


def check_min_qty(
    qty: Decimal, price: Decimal, qty_min: Decimal, notional_min_quote: Decimal, min_qty_pad: Decimal
) -> bool:
    """True where the quantity is at least `qty_min` x `min_qty_pad` and its notional at least the venue's minimum."""
    return qty >= qty_min * min_qty_pad and qty * price >= notional_min_quote


def check_price_crosses_market(side: Side, price: Decimal, best_bid: Decimal, best_ask: Decimal) -> bool:
    """True where it would take: a buy at or above the best ask, a sell at or below the best bid."""
    return price >= best_ask if side is Side.BUY else price <= best_bid


def crosses_ticks(side: Side, price_ticks: int, top: tuple[int, int]) -> bool:
    """The same in ticks; `top` is (best bid, best ask)."""
    return price_ticks >= top[1] if side is _BUY else price_ticks <= top[0]


def post_only_ticks(side: Side, reference_ticks: int, offset_ubps: int) -> int:
    """`calc_post_only_price` in ticks; offset in micro basis points."""
    if side is _BUY:
        return reference_ticks * (UBPS_ONE - offset_ubps) // UBPS_ONE
    return -(-reference_ticks * (UBPS_ONE + offset_ubps) // UBPS_ONE)


class Shaped(NamedTuple):
    """A quote the policy lets through. `adjusted`: its price was made more passive than the strategy's."""

    quote: Quote
    adjusted: bool


class Blocked(NamedTuple):
    """A quote that is held back. `value` against `required` decided.

    `reason`: cross_price (the strategy's price would take), min_qty, or maker_only (a shaped one would, at the moment
    of sending).
    """

    quote: Quote
    reason: str
    value: Decimal
    required: Decimal


class MakerPolicy:
    """The policy for one instrument, its numbers brought to whole ticks and lots once."""

    def __init__(self, instrument: Instrument, offset_ubps: int, min_qty_pad: Decimal, *, enabled: bool) -> None:
        self._instrument = instrument
        self._offset_ubps = offset_ubps
        self._enabled = enabled
        # the post-only price as a fraction of the reference, in lowest terms so that products stay small
        bid, ask = Fraction(UBPS_ONE - offset_ubps, UBPS_ONE), Fraction(UBPS_ONE + offset_ubps, UBPS_ONE)
        self._bid_of, self._bid_per = bid.numerator, bid.denominator
        self._ask_of, self._ask_per = ask.numerator, ask.denominator
        padded = instrument.qty_min * min_qty_pad
        self._min_lots = max(1, -instrument.lots_floor(-padded))
        unit = instrument.tick_size * instrument.lot_size
        self._min_units = int((instrument.notional_min_quote / unit).to_integral_value(ROUND_CEILING))
        self.max_lots = max(1, instrument.lots_floor(instrument.qty_max))
        """The most that the venue takes in one order; a larger quote is split."""

    def shape(self, quote: Quote, top: tuple[int, int]) -> Shaped | Blocked:
        """Refuse what crosses or is too small; else the more passive of the strategy's and the post-only price."""
        side, price = quote.side, quote.price_ticks
        if price <= 0 or crosses_ticks(side, price, top):
            touch = top[1] if side is _BUY else top[0]
            return Blocked(quote, "cross_price", self._instrument.price(price), self._instrument.price(touch))
        shaped = price
        if self._enabled:
            reference = top[0] if side is _BUY else top[1]
            passive = post_only_ticks(side, reference, self._offset_ubps)
            shaped = min(price, passive) if side is _BUY else max(price, passive)
        lots = quote.qty_lots
        required = self.min_lots(shaped)
        if lots < required:
            return Blocked(quote, "min_qty", self._instrument.qty(lots), self._instrument.qty(required))
        return Shaped(Quote(side, shaped, lots), shaped != price)

    def buy_at(self, price_ticks: int, qty_lots: int, bid_ticks: int, ask_ticks: int) -> int:
        """The price that `shape` gives a buy at that top of the book, NO_TICKS where it holds it back.

        A test holds that they agree.
        """
        if price_ticks <= 0 or price_ticks >= ask_ticks:
            return NO_TICKS
        if self._enabled:
            passive = bid_ticks * self._bid_of // self._bid_per
            if passive < price_ticks:
                price_ticks = passive
        if qty_lots < self._min_lots or (price_ticks > 0 and qty_lots * price_ticks < self._min_units):
            return NO_TICKS
        return price_ticks

    def sell_at(self, price_ticks: int, qty_lots: int, bid_ticks: int, ask_ticks: int) -> int:
        """The same of a sell."""
        if price_ticks <= 0 or price_ticks <= bid_ticks:
            return NO_TICKS
        if self._enabled:
            passive = (ask_ticks * self._ask_of + self._ask_per - 1) // self._ask_per
            if passive > price_ticks:
                price_ticks = passive
        if qty_lots < self._min_lots or qty_lots * price_ticks < self._min_units:
            return NO_TICKS
        return price_ticks

    def min_lots(self, price_ticks: int) -> int:
        """The smallest quantity the venue (with our pad) takes at that price."""
        if price_ticks <= 0:
            return self._min_lots
        return max(self._min_lots, -(-self._min_units // price_ticks))
