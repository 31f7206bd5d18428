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
    """How many lots may be added on a side, and which limit says so.

    `taken_units2`: what leans to that side already, twice ticks x lots; its value is worked out where it is told.
    """

    lots: int
    limit: str
    taken_units2: int
    standing: Standing

    @property
    def value(self) -> Decimal:
        """What of the limit is taken, quote."""
        instrument = self.standing.instrument
        taken = self.taken_units2 * (instrument.tick_size * instrument.lot_size / 2)
        return taken if self.limit == "inventory" else taken + self.standing.others_quote

    @property
    def allowed(self) -> Decimal:
        """The limit, quote."""
        return self.standing.inventory_max_quote if self.limit == "inventory" else self.standing.total_max_quote


class _Caps(NamedTuple):
    """The limits of one share as whole units, and what they were worked out from."""

    instrument: Instrument
    inventory_max_quote: Decimal
    total_max_quote: Decimal
    others_quote: Decimal
    inventory_units2: int
    total_units2: int


class Risk:
    """The limits of one run."""

    def __init__(self, parameters: EngineParameters) -> None:
        self._parameters = parameters
        self._collar_ubps = ubps(parameters.price_collar_bps)
        self._edge_ubps = ubps(parameters.edge_threshold_bps)
        self._caps_of: dict[tuple[str, int], _Caps] = {}

    def room(self, standing: Standing, side: Side, price_ticks: int, share_pct: int = 100) -> Room:
        """Room on a side at that price, within `share_pct` of the limits; 0 where there is none.

        Valued at the higher of mid and the price: a sell above mid opens its short at its own price.
        """
        caps = self._caps(standing, share_pct)
        mark2 = max(standing.mid2_ticks, 2 * price_ticks)
        leaning = _leaning_lots(standing, side)
        room_inventory = caps.inventory_units2 // mark2 - leaning
        room_total = caps.total_units2 // mark2 - leaning
        taken = leaning * mark2 if leaning > 0 else 0
        if room_inventory <= room_total:
            return Room(max(room_inventory, 0, -leaning), "inventory", taken, standing)
        return Room(max(room_total, 0, -leaning), "total", taken, standing)

    def _caps(self, standing: Standing, share_pct: int) -> _Caps:
        """Exact, and worked out again only where one of the values it comes from is another object."""
        key = (standing.instrument.symbol, share_pct)
        known = self._caps_of.get(key)
        if (
            known is not None
            and known.instrument is standing.instrument
            and known.inventory_max_quote is standing.inventory_max_quote
            and known.total_max_quote is standing.total_max_quote
            and known.others_quote is standing.others_quote
        ):
            return known
        unit2 = standing.instrument.tick_size * standing.instrument.lot_size / 2
        inventory = standing.inventory_max_quote * share_pct / 100
        total = max(standing.total_max_quote * share_pct / 100 - standing.others_quote, Decimal(0))
        limits = (standing.instrument, standing.inventory_max_quote, standing.total_max_quote, standing.others_quote)
        self._caps_of[key] = caps = _Caps(*limits, int(inventory / unit2), int(total / unit2))
        return caps

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
