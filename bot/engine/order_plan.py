"""The order plan: from what stands to what is wanted, with as few messages as possible.

At most one quote a side, unless it is more than the venue takes at once: then it is split, and its pieces stand on
levels of their own, one tick further out each. What is near enough is kept; what is not is amended in place; what is
not wanted is cancelled. While anything on a side is in flight or unknown, that side waits: so no level ever carries two
of our orders, and no cancel and new order race each other.
"""

from __future__ import annotations

from typing import Final

from bot.domain.order import OrderState
from bot.engine.orders import OwnOrder
from bot.engine.quoting import Quote

_WORKING: Final = OrderState.WORKING


class Place:
    """Never changed, as all that a plan is made of."""

    __slots__ = ("adjusted", "quote")

    def __init__(self, quote: Quote, adjusted: bool = False) -> None:
        self.quote = quote
        self.adjusted = adjusted

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place) and self.quote == other.quote and self.adjusted == other.adjusted

    def __hash__(self) -> int:
        return hash((self.quote, self.adjusted))


class Amend:
    """`quote.qty_lots` is what shall be open; the venue is told that plus what is filled."""

    __slots__ = ("order", "quote")

    def __init__(self, order: OwnOrder, quote: Quote) -> None:
        self.order = order
        self.quote = quote

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Amend) and self.order is other.order and self.quote == other.quote

    def __hash__(self) -> int:
        return hash((id(self.order), self.quote))


class Cancel:
    __slots__ = ("order",)

    def __init__(self, order: OwnOrder) -> None:
        self.order = order

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cancel) and self.order is other.order

    def __hash__(self) -> int:
        return id(self.order)


Action = Place | Amend | Cancel


class Tolerance:
    """What is near enough. `qty_pct`: the open size must be at least this share of the wanted one."""

    __slots__ = ("interval_ns", "price_ticks", "qty_pct")

    def __init__(self, price_ticks: int, qty_pct: int, interval_ns: int) -> None:
        self.price_ticks = price_ticks
        self.qty_pct = qty_pct
        self.interval_ns = interval_ns


def plan_side(
    wanted: Quote | None,
    cap_lots: int,
    live: list[OwnOrder],
    tolerance: Tolerance,
    now_ns: int,
) -> list[Action]:
    """What to do on one side. `live`: our live quotes there; `cap_lots`: the most that may be open on this side."""
    for order in live:
        if order.state is not _WORKING:
            return []
    if wanted is None:
        return [Cancel(order) for order in live]
    if not live:
        return [Place(wanted)]
    kept = live[0]
    if len(live) > 1:
        kept = min(live, key=lambda order: (abs(order.price_ticks - wanted.price_ticks), order.created_at_ns))
    surplus: list[Action] = [Cancel(order) for order in live if order is not kept]
    if surplus or is_near_enough(kept, wanted, cap_lots, tolerance):
        return surplus
    if now_ns - max(kept.amended_at_ns, kept.created_at_ns) < tolerance.interval_ns and kept.remaining_lots <= cap_lots:
        return []
    return [Amend(kept, wanted)]


def is_near_enough(order: OwnOrder, wanted: Quote, cap_lots: int, tolerance: Tolerance) -> bool:
    """Price within tolerance; size not too small, not past the cap and not a tenth above the wanted."""
    open_lots = order.remaining_lots
    if abs(order.price_ticks - wanted.price_ticks) > tolerance.price_ticks or open_lots > cap_lots:
        return False
    return wanted.qty_lots * tolerance.qty_pct <= open_lots * 100 <= wanted.qty_lots * 110 + 100


def split(quote: Quote, max_lots: int, pieces_max: int) -> list[Quote]:
    """A quote above the venue's maximum as several, one tick further out each; what does not fit into them is left."""
    pieces: list[Quote] = []
    left = quote.qty_lots
    while left > 0 and len(pieces) < pieces_max:
        lots = min(left, max_lots)
        pieces.append(Quote(quote.side, quote.price_ticks - quote.side.sign * len(pieces), lots))
        left -= lots
    return pieces


def plan_pieces(
    wanted: list[Quote], cap_lots: int, live: list[OwnOrder], tolerance: Tolerance, now_ns: int
) -> list[Action]:
    """The plan where several quotes of one side are wanted: piece by piece, best first, no two on one level."""
    for one in live:
        if one.state is not _WORKING:
            return []
    standing = sorted(live, key=lambda order: (-order.side.sign * order.price_ticks, order.created_at_ns))
    surplus: list[Action] = [Cancel(order) for order in standing[len(wanted) :]]
    if surplus:
        return surplus
    taken = {order.price_ticks for order in standing}
    actions: list[Action] = []
    open_lots = sum(order.remaining_lots for order in standing)
    for number, piece in enumerate(wanted):
        order = standing[number] if number < len(standing) else None
        if order is not None:
            fits = cap_lots - (open_lots - order.remaining_lots)
            if is_near_enough(order, piece, fits, tolerance):
                continue
            if now_ns - max(order.amended_at_ns, order.created_at_ns) < tolerance.interval_ns and open_lots <= cap_lots:
                continue
        price = piece.price_ticks
        own = None if order is None else order.price_ticks
        while price in taken and price != own:
            price -= piece.side.sign
        taken.add(price)
        placed = Quote(piece.side, price, piece.qty_lots)
        actions.append(Place(placed) if order is None else Amend(order, placed))
    return actions
