"""Risk: the only place where an order is approved.

Everything that may still fill counts as filled: working, in flight, unknown, and fills that the venue reported before
their executions came. A direction is judged by its own worst case: if every buy fills, how long are we; if every sell
fills, how short. So at the limit the reducing side still passes, and nothing else does.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, NamedTuple

from bot.domain.instrument import Instrument
from bot.domain.intent import RiskNumber
from bot.domain.order import Side
from bot.engine.order_plan import Amend, Place
from bot.engine.parameters import UBPS, UBPS_ONE, EngineParameters, ubps

_PERMIT: Final = object()


class Approved:
    """An order that risk let through. Nothing but `Risk.approve` can make one, and nothing else is sent."""

    __slots__ = ("action",)

    def __init__(self, action: Place | Amend, permit: object) -> None:
        if permit is not _PERMIT:
            raise PermissionError("only risk approves orders")
        self.action = action


class Refusal(NamedTuple):
    """What decided against it."""

    number: RiskNumber


class Standing(NamedTuple):
    """A symbol as risk sees it. `buys_lots`, `sells_lots`: worst case, without the order that is being changed.

    `others_quote`: the worst cases of all other symbols. `mark2_ticks`: twice the independent mark (collar).
    """

    instrument: Instrument
    position_lots: int
    buys_lots: int
    sells_lots: int
    active_orders: int
    mid2_ticks: int
    mark2_ticks: int
    others_quote: Decimal
    inventory_max_quote: Decimal
    total_max_quote: Decimal


class Permission(NamedTuple):
    """What holds for every symbol at this moment."""

    running: bool
    granted: bool
    edge_ubps: int
    orders_left: int


class Room(NamedTuple):
    """How many lots may be added on a side, and which limit says so with what numbers."""

    lots: int
    limit: str
    value: Decimal
    allowed: Decimal


class Risk:
    """The limits of one run."""

    def __init__(self, parameters: EngineParameters) -> None:
        self._parameters = parameters
        self._collar_ubps = ubps(parameters.price_collar_bps)
        self._edge_ubps = ubps(parameters.edge_threshold_bps)

    def room(self, standing: Standing, side: Side, price_ticks: int, share_pct: int = 100) -> Room:
        """Room on a side at that price, within `share_pct` of the limits; 0 where there is none.

        Valued at the higher of mid and the price: a sell above mid opens its short at its own price.
        """
        unit2 = standing.instrument.tick_size * standing.instrument.lot_size / 2
        mark2 = max(standing.mid2_ticks, 2 * price_ticks)
        leaning = _leaning_lots(standing, side)
        inventory = standing.inventory_max_quote * share_pct / 100
        total = standing.total_max_quote * share_pct / 100 - standing.others_quote
        room_inventory = int(inventory / unit2) // mark2 - leaning
        room_total = int(max(total, Decimal(0)) / unit2) // mark2 - leaning
        value = max(0, leaning) * mark2 * unit2
        if room_inventory <= room_total:
            return Room(max(room_inventory, 0, -leaning), "inventory", value, standing.inventory_max_quote)
        return Room(max(room_total, 0, -leaning), "total", value + standing.others_quote, standing.total_max_quote)

    def approve(self, action: Place | Amend, standing: Standing, permission: Permission) -> Approved | Refusal:
        """Approve a new order or an amend, or say which number decided against it."""
        number = self._refusal(action, standing, permission)
        return Approved(action, _PERMIT) if number is None else Refusal(number)

    def _refusal(self, action: Place | Amend, standing: Standing, permission: Permission) -> RiskNumber | None:
        quote, parameters = action.quote, self._parameters
        if not permission.running:
            return _number("state", 0, 1)
        if not permission.granted:
            return _number("grant", 0, 1)
        if permission.edge_ubps < self._edge_ubps:
            return RiskNumber("edge", Decimal(permission.edge_ubps) / UBPS, parameters.edge_threshold_bps)
        if isinstance(action, Place):
            if standing.active_orders >= parameters.max_open_orders:
                return _number("active_orders", standing.active_orders + 1, parameters.max_open_orders)
            if permission.orders_left <= 0:
                return _number("order_rate", parameters.orders_per_min_max + 1, parameters.orders_per_min_max)
        notional = standing.instrument.notional_quote(quote.price_ticks, quote.qty_lots)
        if notional > parameters.order_notional_max_quote:
            return RiskNumber("order_notional", notional, parameters.order_notional_max_quote)
        away_ubps = abs(2 * quote.price_ticks - standing.mark2_ticks) * UBPS_ONE // standing.mark2_ticks
        if away_ubps > self._collar_ubps:
            return RiskNumber("price_collar", Decimal(away_ubps) / UBPS, parameters.price_collar_bps)
        # an amend that fails leaves what stood before, and that was approved; in flight the table counts the larger
        room = self.room(standing, quote.side, quote.price_ticks)
        if quote.qty_lots > room.lots:
            unit2 = standing.instrument.tick_size * standing.instrument.lot_size / 2
            added = quote.qty_lots * max(standing.mid2_ticks, 2 * quote.price_ticks) * unit2
            return RiskNumber(room.limit, room.value + added, room.allowed)
        return None


def _leaning_lots(standing: Standing, side: Side) -> int:
    """How far we would already lean to that side if all its orders filled; negative: it would still reduce."""
    if side is Side.BUY:
        return standing.position_lots + standing.buys_lots
    return standing.sells_lots - standing.position_lots


def worst_quote(
    instrument: Instrument, position_lots: int, buys_lots: int, sells_lots: int, mid2_ticks: int
) -> Decimal:
    """The larger of both directions' worst case, quote: what one symbol takes of the total limit."""
    lots = max(abs(position_lots + buys_lots), abs(position_lots - sells_lots))
    return instrument.tick_size * instrument.lot_size * lots * mid2_ticks / 2


def _number(limit: str, value: int, allowed: int) -> RiskNumber:
    return RiskNumber(limit, Decimal(value), Decimal(allowed))
