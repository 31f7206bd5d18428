"""What a request must satisfy before it may become an order: the venue's filters. Pure; raises `Refused`."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.simulator.accounts import Account
from bot.simulator.orders import Refusal, Refused

_BUY: Final = Side.BUY

LINK_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,36}")
OPEN_ORDERS_MAX: Final = 500
PRICE_BAND_PCT: Final = 10
"""How far through the mark a limit price may reach: buys at most this much above it, sells this much below."""
PRICE_MAX: Final = Decimal("1999999.80")


def price_limits_ticks(mark_half_ticks: int) -> tuple[int, int]:
    """(highest price of a buy, lowest price of a sell) at this mark."""
    highest_buy = mark_half_ticks * (100 + PRICE_BAND_PCT) // 200
    lowest_sell = (mark_half_ticks * (100 - PRICE_BAND_PCT) + 199) // 200  # rounded up
    return highest_buy, lowest_sell


def market_limit_ticks(side: Side, mark_half_ticks: int) -> int:
    """The price a market order may walk to."""
    highest_buy, lowest_sell = price_limits_ticks(mark_half_ticks)
    return highest_buy if side is _BUY else lowest_sell


class Bounds:
    """The filters of one instrument as whole numbers, and the band of the last mark that was asked about.

    What they admit needs no decimal; what they do not is looked at by the checks below, which say why.
    """

    __slots__ = (
        "_highest_buy",
        "_lots_max",
        "_lots_min",
        "_lowest_sell",
        "_mark_half_ticks",
        "_notional_min",
        "_price_max",
    )

    def __init__(self, instrument: Instrument) -> None:
        unit = instrument.tick_size * instrument.lot_size
        self._lots_min = _rounded(instrument.qty_min / instrument.lot_size, ROUND_CEILING)
        self._lots_max = _rounded(instrument.qty_max / instrument.lot_size, ROUND_FLOOR)
        self._notional_min = _rounded(instrument.notional_min_quote / unit, ROUND_CEILING)
        self._price_max = _rounded(PRICE_MAX / instrument.tick_size, ROUND_FLOOR)
        self._mark_half_ticks = -1
        self._highest_buy = self._lowest_sell = 0

    def admit(self, side: Side, price_ticks: int, lots: int, mark_half_ticks: int) -> bool:
        """Whether an order that is not reduce-only passes `check_lots`, `check_price` and `check_notional`."""
        if mark_half_ticks != self._mark_half_ticks:
            self._mark_half_ticks = mark_half_ticks
            self._highest_buy, self._lowest_sell = price_limits_ticks(mark_half_ticks)
        return (
            self._lots_min <= lots <= self._lots_max
            and 0 < price_ticks <= self._price_max
            and (price_ticks <= self._highest_buy if side is _BUY else price_ticks >= self._lowest_sell)
            and price_ticks * lots >= self._notional_min
        )


def _rounded(value: Decimal, way: str) -> int:
    return int(value.to_integral_value(way))


def check_link_id(account: Account, link_id: str) -> None:
    """Characters, length and uniqueness for ever; and room for one more open order."""
    if link_id and not LINK_ID.fullmatch(link_id):
        raise Refused(Refusal.LINK_ID_INVALID, f"orderLinkId {link_id[:60]!r} is not 1 to 36 of [A-Za-z0-9_-]")
    if link_id in account.link_ids:
        raise Refused(Refusal.LINK_ID_DUPLICATE, "OrderLinkedID is duplicate")
    if len(account.open_orders) >= OPEN_ORDERS_MAX:
        raise Refused(Refusal.ORDERS_TOO_MANY, f"already {OPEN_ORDERS_MAX} active orders")


def check_lots(instrument: Instrument, lots: int) -> None:
    """Minimum and maximum quantity."""
    qty = instrument.qty(lots)
    if qty < instrument.qty_min:
        raise Refused(Refusal.QTY_BELOW_MIN, f"qty {qty:f} is below the minimum {instrument.qty_min:f}")
    if qty > instrument.qty_max:
        raise Refused(Refusal.QTY_ABOVE_MAX, f"qty {qty:f} is above the maximum {instrument.qty_max:f}")


def check_notional(instrument: Instrument, price_ticks: int, lots: int) -> None:
    """Minimum order value; reduce-only orders are exempt, so do not ask for them."""
    notional = instrument.notional_quote(price_ticks, lots)
    if notional < instrument.notional_min_quote:
        minimum = instrument.notional_min_quote
        raise Refused(Refusal.NOTIONAL_BELOW_MIN, f"order value {notional:f} is below the minimum {minimum:f}")


def check_price(instrument: Instrument, side: Side, price_ticks: int, mark_half_ticks: int) -> None:
    """Absolute bounds, and the band through the mark. A price far on the passive side is allowed."""
    price = instrument.price(price_ticks)
    if price_ticks <= 0 or price > PRICE_MAX:
        raise Refused(Refusal.PRICE_INVALID, f"price {price:f} is outside {instrument.tick_size:f} to {PRICE_MAX}")
    highest_buy, lowest_sell = price_limits_ticks(mark_half_ticks)
    if side is _BUY and price_ticks > highest_buy:
        limit = instrument.price(highest_buy)
        raise Refused(Refusal.PRICE_OUT_OF_RANGE, f"buy price {price:f} is above the highest allowed {limit:f}")
    if side is not _BUY and price_ticks < lowest_sell:
        limit = instrument.price(lowest_sell)
        raise Refused(Refusal.PRICE_OUT_OF_RANGE, f"sell price {price:f} is below the lowest allowed {limit:f}")
