"""Risk: the only place where an order is approved.

Everything that may still fill counts as filled: working, in flight, unknown, and fills that the venue reported before
their executions came. A direction is judged by its own worst case: if every buy fills, how long are we; if every sell
fills, how short. So at the limit the reducing side still passes, and nothing else does.

Limits are brought to whole numbers once (`Limits`); on the order path nothing is a decimal until a number is told.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from bot.domain.instrument import Instrument
from bot.domain.intent import RiskNumber
from bot.domain.order import Side
from bot.engine.exposure import pico
from bot.engine.order_plan import Amend, Place
from bot.engine.orders import OwnOrder
from bot.engine.parameters import UBPS, UBPS_ONE, EngineParameters, ubps
from bot.engine.quoting import FITS_TICKS

if TYPE_CHECKING:
    from mypy_extensions import i64

NEW_SHARE_PCT: Final = 98
"""New size is fitted into this share of a limit, so that a small move of the mark makes nothing shrink again."""

_PERMIT: Final = object()
_BUY: Final = Side.BUY
_SELL: Final = Side.SELL


class Approved:
    """An order that risk let through. Nothing but `Risk.approve` can make one, and nothing else is sent."""

    __slots__ = ("adjusted", "changed", "price_ticks", "qty_lots", "side")

    def __init__(
        self, side: Side, price_ticks: int, qty_lots: int, changed: OwnOrder | None, adjusted: bool, permit: object
    ) -> None:
        """`changed`: what is amended to that, None of a new order; `adjusted` as in `Place`."""
        if permit is not _PERMIT:
            raise PermissionError("only risk approves orders")
        self.side = side
        self.price_ticks = price_ticks
        self.qty_lots = qty_lots
        self.changed = changed
        self.adjusted = adjusted


class Refusal:
    """What decided against it."""

    __slots__ = ("number",)

    def __init__(self, number: RiskNumber) -> None:
        self.number = number


class Limits:
    """One symbol's limits. `*_units2`: quote in halves of tick x lot, rounded down; `unit2_pico`: one of these.

    `total_name`: which limit the total is: `total`, or `leverage` where that is tighter. `fresh_units2`, `room_units2`:
    the tighter of inventory and total where other symbols take nothing, in NEW_SHARE_PCT of the limits and in all.
    """

    __slots__ = (
        "fresh_units2", "instrument", "inventory_max_quote", "inventory_units2", "is_spot", "max_open_orders",
        "max_open_positions", "order_notional_max_quote", "order_units", "room_units2", "total_max_quote", "total_name",
        "total_units2", "unit2_pico",
    )  # fmt: skip

    def __init__(
        self, parameters: EngineParameters, instrument: Instrument, inventory_max_quote: Decimal,
        total_max_quote: Decimal, total_name: str,
    ) -> None:  # fmt: skip
        unit = instrument.tick_size * instrument.lot_size
        self.instrument = instrument
        self.is_spot = instrument.category == "spot"
        self.inventory_max_quote = inventory_max_quote
        self.total_max_quote = total_max_quote
        self.total_name = total_name
        self.inventory_units2 = int(inventory_max_quote * 2 / unit)
        self.total_units2 = int(total_max_quote * 2 / unit)
        self.order_units = int(parameters.order_notional_max_quote / unit)
        self.order_notional_max_quote = parameters.order_notional_max_quote
        self.unit2_pico = pico(unit / 2)
        self.max_open_orders = parameters.max_open_orders
        self.max_open_positions = parameters.max_open_positions
        self.room_units2 = min(self.inventory_units2, self.total_units2)
        self.fresh_units2 = self.room_units2 * NEW_SHARE_PCT // 100

    def retold(self, inventory_max_quote: Decimal, total_max_quote: Decimal, total_name: str) -> None:
        """The same numbers, as whoever set them last writes them."""
        self.inventory_max_quote = inventory_max_quote
        self.total_max_quote = total_max_quote
        self.total_name = total_name

    def left_units2(self, others_pico: int) -> tuple[int, int]:
        """`fresh_units2` and `room_units2` where other symbols take that much of the total at worst."""
        taken = -(-others_pico // self.unit2_pico)
        fresh = max(0, self.total_units2 * NEW_SHARE_PCT // 100 - taken)
        room = max(0, self.total_units2 - taken)
        return min(self.inventory_units2 * NEW_SHARE_PCT // 100, fresh), min(self.inventory_units2, room)


def limits_of(
    parameters: EngineParameters,
    instrument: Instrument,
    inventory_max_quote: Decimal,
    total_max_quote: Decimal,
    total_name: str = "total",
) -> Limits:
    """`parameters`: those of that symbol; the two limits as tightened by grant, ceilings and leverage."""
    return Limits(parameters, instrument, inventory_max_quote, total_max_quote, total_name)


class Standing:
    """A symbol as risk sees it. `buys_lots`, `sells_lots`: worst case, without the order that is being changed.

    `others_pico`: the worst cases of all other symbols (see `bot.engine.exposure`); `others_open`: how many of them
    have a position or orders. `mark2_ticks`: twice the independent mark (collar). `dust_lots`: what the wallet holds
    beyond `position_lots`, rounded up: it is held, and cannot be sold.
    """

    __slots__ = (
        "active_orders", "buys_lots", "dust_lots", "limits", "mark2_ticks", "mid2_ticks", "others_open", "others_pico",
        "position_lots", "sells_lots",
    )  # fmt: skip

    def __init__(
        self, limits: Limits, position_lots: int, buys_lots: int, sells_lots: int, active_orders: int, mid2_ticks: int,
        mark2_ticks: int, others_pico: int = 0, others_open: int = 0, dust_lots: int = 0,
    ) -> None:  # fmt: skip
        self.limits = limits
        self.position_lots = position_lots
        self.buys_lots = buys_lots
        self.sells_lots = sells_lots
        self.active_orders = active_orders
        self.mid2_ticks = mid2_ticks
        self.mark2_ticks = mark2_ticks
        self.others_pico = others_pico
        self.others_open = others_open
        self.dust_lots = dust_lots


class Sight:
    """What both sides of one look at a symbol have in common, in whole numbers; refreshed at the beginning of a look.

    `room_units2`: what the tighter of inventory and total leaves (`Limits.left_units2`); the rest as in `Standing` and
    `Permission`.
    """

    __slots__ = (
        "barred", "edge_min_ubps", "edge_ubps", "mark2_ticks", "mid2_ticks", "order_units", "room_units2", "running",
    )  # fmt: skip

    def __init__(self) -> None:
        self.running = False
        self.barred = False
        self.edge_ubps = 0
        self.edge_min_ubps = 0
        self.order_units = 0
        self.room_units2 = 0
        self.mid2_ticks = 0
        self.mark2_ticks = 0


class Permission(NamedTuple):
    """What holds at this moment. `barred`: the name of a limit that bars everything new, with its numbers, or None."""

    running: bool
    granted: bool
    edge_ubps: int
    edge_min_ubps: int
    orders_left: int
    barred: RiskNumber | None = None


class Room:
    """How many lots may be added on a side, and which limit says so."""

    __slots__ = ("limit", "lots")

    def __init__(self, lots: int, limit: str) -> None:
        self.lots = lots
        self.limit = limit


HELD: Final = "held"
"""What `Room` says of a sale on spot; it is told as a limit of the inventory."""


class Risk:
    """The limits that are the same for every symbol of a run."""

    def __init__(self, parameters: EngineParameters) -> None:
        self._parameters = parameters
        self._collar_ubps = ubps(parameters.price_collar_bps)

    def room(self, standing: Standing, side: Side, price_ticks: int, share_pct: int = 100) -> Room:
        """Room on a side at that price, within `share_pct` of the limits; 0 where there is none.

        Valued at the higher of mid and the price: a sell above mid opens its short at its own price. On spot nothing
        is sold that is not held.
        """
        limits = standing.limits
        if side is _SELL and limits.is_spot:
            return Room(max(0, standing.position_lots - standing.sells_lots), HELD)
        mark2 = max(standing.mid2_ticks, 2 * price_ticks)
        leaning = _leaning_lots(standing, side)
        at_least = -leaning if leaning < 0 else 0
        total_units2 = limits.total_units2 * share_pct // 100
        if standing.others_pico:
            total_units2 = max(0, total_units2 + -standing.others_pico // limits.unit2_pico)
        room_inventory = limits.inventory_units2 * share_pct // 100 // mark2 - leaning
        room_total = total_units2 // mark2 - leaning
        if room_inventory <= room_total:
            return Room(max(room_inventory, at_least), "inventory")
        return Room(max(room_total, at_least), limits.total_name)

    def number(self, standing: Standing, side: Side, price_ticks: int, limit: str, added_lots: int) -> RiskNumber:
        """What the limit that `room` named would come to with `added_lots` more."""
        limits = standing.limits
        unit2 = limits.instrument.tick_size * limits.instrument.lot_size / 2
        if limit == HELD:
            worth2 = max(standing.mid2_ticks, 2 * price_ticks) * unit2
            held_lots = max(0, standing.position_lots - standing.sells_lots)
            return RiskNumber("inventory", added_lots * worth2, held_lots * worth2)
        lots = max(0, _leaning_lots(standing, side)) + added_lots
        value = lots * max(standing.mid2_ticks, 2 * price_ticks) * unit2
        if limit == "inventory":
            return RiskNumber(limit, value, limits.inventory_max_quote)
        return RiskNumber(limit, value + Decimal(standing.others_pico).scaleb(-12), limits.total_max_quote)

    def approve_amend(
        self, order: OwnOrder, price_ticks: int, qty_lots: int, sight: Sight, leaning_lots: int
    ) -> Approved | None:
        """Approve an amend of that order inside every limit, as `approve` would; None where one of them is in the way.

        `leaning_lots`: how far we lean to that side without the order. A test holds that both agree. Not for spot,
        which sells only what it holds.
        """
        price, lots = price_ticks, qty_lots
        price2 = 2 * price
        worth2 = price2 if price2 > sight.mid2_ticks else sight.mid2_ticks
        room_lots = sight.room_units2 // worth2 - leaning_lots
        if (
            sight.running
            and not sight.barred
            and sight.edge_ubps >= sight.edge_min_ubps
            and price * lots <= sight.order_units
            and self._inside_collar(price2, sight.mark2_ticks)
            and (lots <= room_lots or lots <= -leaning_lots)
        ):
            return Approved(order.side, price, lots, order, False, _PERMIT)
        return None

    def _inside_collar(self, price2: int, mark2: int) -> bool:
        """Whether twice the price is no further from twice the mark than the collar allows."""
        if 0 <= price2 < FITS_TICKS and 0 <= mark2 < FITS_TICKS and 0 <= self._collar_ubps < UBPS_ONE:
            price: i64 = price2
            mark: i64 = mark2
            allowed: i64 = self._collar_ubps
            away: i64 = price - mark if price > mark else mark - price
            return away * UBPS_ONE < (allowed + 1) * mark
        return abs(price2 - mark2) * UBPS_ONE < (self._collar_ubps + 1) * mark2

    def approve(self, action: Place | Amend, standing: Standing, permission: Permission) -> Approved | Refusal:
        """Approve a new order or an amend, or say which number decided against it."""
        number = self._refusal(action, standing, permission)
        if number is not None:
            return Refusal(number)
        quote = action.quote
        if isinstance(action, Amend):
            return Approved(quote.side, quote.price_ticks, quote.qty_lots, action.order, False, _PERMIT)
        return Approved(quote.side, quote.price_ticks, quote.qty_lots, None, action.adjusted, _PERMIT)

    def _refusal(self, action: Place | Amend, standing: Standing, permission: Permission) -> RiskNumber | None:
        quote, limits = action.quote, standing.limits
        if not permission.running:
            return _number("state", 0, 1)
        if not permission.granted:
            return _number("grant", 0, 1)
        if permission.edge_ubps < permission.edge_min_ubps:
            return RiskNumber("edge", Decimal(permission.edge_ubps) / UBPS, Decimal(permission.edge_min_ubps) / UBPS)
        if permission.barred is not None:
            return permission.barred
        if isinstance(action, Place):
            refused = self._refusal_of_one_more(standing, permission)
            if refused is not None:
                return refused
        if quote.price_ticks * quote.qty_lots > limits.order_units:
            notional = limits.instrument.notional_quote(quote.price_ticks, quote.qty_lots)
            return RiskNumber("order_notional", notional, limits.order_notional_max_quote)
        away_ubps = abs(2 * quote.price_ticks - standing.mark2_ticks) * UBPS_ONE // standing.mark2_ticks
        if away_ubps > self._collar_ubps:
            return RiskNumber("price_collar", Decimal(away_ubps) / UBPS, self._parameters.price_collar_bps)
        # an amend that fails leaves what stood before, and that was approved; in flight the table counts the larger
        room = self.room(standing, quote.side, quote.price_ticks)
        if quote.qty_lots > room.lots:
            return self.number(standing, quote.side, quote.price_ticks, room.limit, quote.qty_lots)
        return None

    def _refusal_of_one_more(self, standing: Standing, permission: Permission) -> RiskNumber | None:
        """Counts that a new order adds to and an amend does not."""
        limits = standing.limits
        if standing.active_orders >= limits.max_open_orders:
            return _number("active_orders", standing.active_orders + 1, limits.max_open_orders)
        if permission.orders_left <= 0:
            allowed = self._parameters.orders_per_min_max
            return _number("order_rate", allowed + 1, allowed)
        most = limits.max_open_positions
        if most is not None and standing.others_open >= most and not standing.position_lots:
            return _number("open_positions", standing.others_open + 1, most)
        return None


def _leaning_lots(standing: Standing, side: Side) -> int:
    """How far we would already lean to that side if all its orders filled; negative: it would still reduce."""
    if side is _BUY:
        return standing.position_lots + standing.dust_lots + standing.buys_lots
    return standing.sells_lots - standing.position_lots


def worst_quote(
    instrument: Instrument, position_lots: int, buys_lots: int, sells_lots: int, mid2_ticks: int
) -> Decimal:
    """The larger of both directions' worst case, quote: what one symbol takes of the total limit."""
    lots = max(abs(position_lots + buys_lots), abs(position_lots - sells_lots))
    return instrument.tick_size * instrument.lot_size * lots * mid2_ticks / 2


def _number(limit: str, value: int, allowed: int) -> RiskNumber:
    return RiskNumber(limit, Decimal(value), Decimal(allowed))
