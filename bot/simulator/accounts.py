"""Positions at average cost and the accounts that hold them. Pure and exact.

The cost of a position is an integer (ticks x lots x COST_SCALE), so that the law
    realised + unrealised = Σ cash of all fills + position x mark
holds exactly, whatever is closed in whichever parts; only how much of it counts as realised is rounded, by less than
one unit of the scaled cost for each partial close.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Decimal

from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.simulator.api_keys import KeyRing
from bot.simulator.funding import Funding
from bot.simulator.orders import Execution, Order, Refusal, Refused

COST_SCALE = 10**8
LEVERAGE = 10
CLOSED_KEPT = 1_000
EXECUTIONS_KEPT = 2_000


@dataclass(frozen=True, slots=True)
class Fees:
    """Rates of traded notional; a negative maker rate is a rebate. Defaults: the entry tier for linear contracts."""

    maker: Decimal = Decimal("0.0002")
    taker: Decimal = Decimal("0.00055")


@dataclass(slots=True)
class Position:
    """Signed: + long, - short. `cost` has the sign of `lots`."""

    lots: int = 0
    cost: int = 0

    def apply(self, side: Side, price_ticks: int, lots: int) -> int:
        """Add one fill; returns the realised profit, ticks x lots x COST_SCALE (negative: a loss)."""
        signed = side.sign * lots
        if self.lots * signed >= 0:
            self.lots += signed
            self.cost += signed * price_ticks * COST_SCALE
            return 0
        sign = 1 if self.lots > 0 else -1
        closing = min(lots, abs(self.lots))
        released = sign * (abs(self.cost) * closing // abs(self.lots))
        realised = sign * closing * price_ticks * COST_SCALE - released
        self.lots -= sign * closing
        self.cost -= released
        opening = signed + sign * closing
        if opening:
            self.lots = opening
            self.cost = opening * price_ticks * COST_SCALE
        return realised

    def unrealised(self, mark_half_ticks: int) -> int:
        """Against a mark in half ticks (a mid may lie between two ticks), ticks x lots x COST_SCALE."""
        return self.lots * mark_half_ticks * (COST_SCALE // 2) - self.cost


class LinkIds:
    """Client order ids that were used, for ever. Numbered ids are kept as runs of numbers: 1 to 90,000 is one pair."""

    __slots__ = ("_others", "_runs")

    def __init__(self) -> None:
        self._others: set[str] = set()
        self._runs: dict[str, list[tuple[int, int]]] = {}

    def add(self, link_id: str) -> None:
        stem, number = _numbered(link_id)
        if number is None:
            self._others.add(link_id)
        elif link_id not in self:
            runs = self._runs.setdefault(stem, [])
            at = bisect_left(runs, (number, number))
            low = high = number
            if at < len(runs) and runs[at][0] == number + 1:
                high = runs.pop(at)[1]
            if at and runs[at - 1][1] == number - 1:
                at -= 1
                low = runs.pop(at)[0]
            runs.insert(at, (low, high))

    def __contains__(self, link_id: str) -> bool:
        stem, number = _numbered(link_id)
        if number is None:
            return link_id in self._others
        runs = self._runs.get(stem, [])
        at = bisect_left(runs, (number + 1,)) - 1
        return at >= 0 and runs[at][1] >= number


def _numbered(link_id: str) -> tuple[str, int | None]:
    """An id that ends in a number written in the one usual way, as what is before it and the number."""
    stem, dash, digits = link_id.rpartition("-")
    if dash and digits.isdecimal() and digits.isascii() and len(digits) < 16 and (digits == "0" or digits[0] != "0"):
        return stem, int(digits)
    return link_id, None


@dataclass(slots=True)
class Account:
    """One account of the venue: a wallet in quote, one position, its orders and executions."""

    name: str
    uid: int
    api_key: str
    api_secret: str
    instrument: Instrument
    wallet_quote: Decimal
    opened_at_ns: int
    position: Position = field(default_factory=Position)
    realised_quote: Decimal = field(default_factory=Decimal)
    position_updated_at_ns: int = 0
    open_orders: dict[int, Order] = field(default_factory=dict)
    by_id: dict[str, Order] = field(default_factory=dict)
    by_link: dict[str, Order] = field(default_factory=dict)
    link_ids: LinkIds = field(default_factory=LinkIds)
    closed_orders: deque[Order] = field(default_factory=deque)
    executions: deque[Execution] = field(default_factory=lambda: deque(maxlen=EXECUTIONS_KEPT))
    executions_count: int = 0
    fundings: deque[Funding] = field(default_factory=lambda: deque(maxlen=EXECUTIONS_KEPT))
    keys: KeyRing = field(default_factory=KeyRing)
    _wallet_units: tuple[Decimal, int] | None = None
    """(wallet, the same in whole ticks x lots, rounded down), kept while the wallet is that object"""

    def quote(self, scaled: int) -> Decimal:
        """Ticks x lots x COST_SCALE to quote, exact."""
        return self.instrument.tick_size * self.instrument.lot_size * scaled / COST_SCALE

    def entry_price(self) -> Decimal:
        """Average price of the position, quote per base, rounded to 8 places for display; 0 when flat."""
        if not self.position.lots:
            return Decimal(0)
        price = self.instrument.tick_size * self.position.cost / (self.position.lots * COST_SCALE)
        return price.quantize(Decimal("0.00000001"))

    def unrealised_quote(self, mark_half_ticks: int) -> Decimal:
        return self.quote(self.position.unrealised(mark_half_ticks))

    def equity_quote(self, mark_half_ticks: int) -> Decimal:
        """Wallet plus unrealised profit, quote."""
        return self.wallet_quote + self.unrealised_quote(mark_half_ticks)

    def open_lots(self, side: Side, reduce_only: bool | None = None) -> int:
        """What open orders of one side may still trade; `reduce_only` None counts all, lots."""
        lots = 0
        for order in self.open_orders.values():
            if order.side is side and (reduce_only is None or order.reduce_only is reduce_only):
                lots += order.left_lots
        return lots

    def margin_used_quote(self, mark_half_ticks: int) -> Decimal:
        """Initial margin of the position and of open orders at their worst case, quote."""
        buys = self.position.lots + self.open_lots(Side.BUY, False)
        sells = -self.position.lots + self.open_lots(Side.SELL, False)
        worst = max(buys, sells, abs(self.position.lots))
        return self._notional_quote(worst, mark_half_ticks) / LEVERAGE

    def check_margin(self, side: Side, more_lots: int, mark_half_ticks: int) -> None:
        """Raise Refused where the worst case after `more_lots` more of `side` needs more than the equity."""
        worst = side.sign * self.position.lots + self.open_lots(side, False) + more_lots
        if worst <= 0 or self._clearly_affords(worst, mark_half_ticks):
            return
        needed = self._notional_quote(worst, mark_half_ticks) / LEVERAGE
        equity = self.equity_quote(mark_half_ticks)
        if needed > equity:
            raise Refused(
                Refusal.BALANCE_INSUFFICIENT,
                f"needs {needed.normalize():f} quote of margin at leverage {LEVERAGE}, equity is {equity:f}",
            )

    def _clearly_affords(self, lots: int, mark_half_ticks: int) -> bool:
        """Whether the margin fits into the equity with the wallet rounded down: then no decimal has to decide."""
        wallet = self.wallet_quote
        if self._wallet_units is None or self._wallet_units[0] is not wallet:
            unit = self.instrument.tick_size * self.instrument.lot_size
            self._wallet_units = (wallet, int((wallet / unit).to_integral_value(ROUND_FLOOR)))
        equity = self._wallet_units[1] * COST_SCALE + self.position.unrealised(mark_half_ticks)
        return lots * mark_half_ticks * COST_SCALE <= 2 * LEVERAGE * equity

    def reducible_lots(self, side: Side) -> int:
        """How much a further reduce-only order of that side may close, lots; 0 where there is nothing to reduce."""
        against = max(0, -side.sign * self.position.lots)
        return max(0, against - self.open_lots(side, True))

    def close_order(self, order: Order) -> None:
        """Move an ended order to the closed ones. The oldest of those are forgotten, their link ids never."""
        self.open_orders.pop(order.key, None)
        self.closed_orders.append(order)
        while len(self.closed_orders) > CLOSED_KEPT:
            old = self.closed_orders.popleft()
            self.by_id.pop(old.order_id, None)
            self.by_link.pop(old.link_id, None)

    def _notional_quote(self, lots: int, mark_half_ticks: int) -> Decimal:
        return self.instrument.tick_size * self.instrument.lot_size * lots * mark_half_ticks / 2
