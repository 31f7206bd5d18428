"""Positions at average cost, the accounts that hold them, and the wallet that one holder's accounts share. Pure, exact.

A holder has one wallet and, at every symbol he trades, one account: its position, orders and executions. On linear
contracts the wallet's quote coin is the margin of all positions together; on spot a purchase changes coins.

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
from typing import TYPE_CHECKING, Final, Protocol

from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.simulator.api_keys import KeyRing
from bot.simulator.funding import Funding
from bot.simulator.orders import Execution, Order, PositionChanged, Refusal, Refused

if TYPE_CHECKING:
    from mypy_extensions import i64

COST_SCALE: Final = 100_000_000
LEVERAGE: Final = 10
MAINTENANCE: Final = 200
"""A position's value over this is its maintenance margin."""
CLOSED_KEPT = 1_000
EXECUTIONS_KEPT = 2_000
"""Not final: a process that measures memory keeps fewer."""

_FITS: Final = 1 << 31
"""Numbers below this can be multiplied within a machine word."""
_BUY: Final = Side.BUY
_SELL: Final = Side.SELL


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
        signed = _signed(side, lots)
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


def _signed(side: Side, lots: int) -> int:
    return lots if side is _BUY else -lots


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


class Marked(Protocol):
    """Whoever knows the mark of one symbol."""

    @property
    def mark_half_ticks(self) -> int: ...


@dataclass(slots=True, eq=False)
class Holder:
    """Who trades: a name, a key, and the money of all his accounts. `coins`: balances by name, spent to exactly 0."""

    name: str
    uid: int
    api_key: str
    api_secret: str
    opened_at_ns: int
    quote: str
    coins: dict[str, Decimal]
    accounts: list[Account] = field(default_factory=list)
    keys: KeyRing = field(default_factory=KeyRing)
    link_ids: LinkIds = field(default_factory=LinkIds)
    """Client order ids are unique for ever, over all symbols."""

    def locked(self, coin: str) -> Decimal:
        """What open spot orders may still spend of that coin."""
        return sum((account.locks(coin) for account in self.accounts), Decimal(0))

    def equity_quote(self) -> Decimal:
        """The wallet's quote coin plus unrealised profit of all linear positions, quote."""
        linear = [account for account in self.accounts if not account.is_spot]
        return sum((account.own_unrealised_quote() for account in linear), self.coins[self.quote])

    def worth_quote(self) -> Decimal:
        """Equity plus the other coins at their spot marks, quote; a coin without a spot market counts nothing."""
        spot = [account for account in self.accounts if account.is_spot]
        held = (self.coins.get(one.instrument.base, Decimal(0)) * one.mark_price() for one in spot)
        return sum(held, self.equity_quote())

    def margin_used_quote(self) -> Decimal:
        """Initial margin of all linear positions and orders, quote."""
        linear = [account for account in self.accounts if not account.is_spot]
        return sum((account.margin_used_quote(account.market.mark_half_ticks) for account in linear), Decimal(0))

    def maintenance_quote(self) -> Decimal:
        """Maintenance margin of all linear positions, quote."""
        linear = [account for account in self.accounts if not account.is_spot]
        held = (abs(one.position.lots) * one.instrument.lot_size * one.mark_price() for one in linear)
        return sum(held, Decimal(0)) / MAINTENANCE


@dataclass(slots=True, eq=False)
class Account:
    """One holder at one symbol: position, orders, executions. Names and keys are the holder's."""

    holder: Holder
    instrument: Instrument
    market: Marked
    name: str = field(init=False)
    is_spot: bool = field(init=False)
    position_changed: PositionChanged = field(init=False)
    """Said after every operation, and always the same"""
    position: Position = field(default_factory=Position)
    realised_quote: Decimal = field(default_factory=Decimal)
    position_updated_at_ns: int = 0
    open_orders: dict[int, Order] = field(default_factory=dict)
    by_id: dict[str, Order] = field(default_factory=dict)
    by_link: dict[str, Order] = field(default_factory=dict)
    closed_orders: deque[Order] = field(default_factory=deque)
    executions: deque[Execution] = field(default_factory=lambda: deque(maxlen=EXECUTIONS_KEPT))
    executions_count: int = 0
    is_touched: bool = False
    """Something happened to it that its streams are still to be told of"""
    is_wallet_touched: bool = False
    fundings: deque[Funding] = field(default_factory=lambda: deque(maxlen=EXECUTIONS_KEPT))
    _wallet_seen: Decimal | None = None
    _wallet_units: int = 0
    """In whole ticks x lots, rounded down, kept while the wallet is the object that was seen"""

    def __post_init__(self) -> None:
        self.name = self.holder.name
        self.position_changed = PositionChanged(self.name)
        self.is_spot = self.instrument.category == "spot"
        self.holder.accounts.append(self)

    @property
    def uid(self) -> int:
        return self.holder.uid

    @property
    def opened_at_ns(self) -> int:
        return self.holder.opened_at_ns

    @property
    def link_ids(self) -> LinkIds:
        return self.holder.link_ids

    @property
    def wallet_quote(self) -> Decimal:
        """The holder's balance of the quote coin."""
        return self.holder.coins[self.holder.quote]

    @wallet_quote.setter
    def wallet_quote(self, amount: Decimal) -> None:
        self.holder.coins[self.holder.quote] = amount

    def mark_price(self) -> Decimal:
        """Quote per base."""
        return self.instrument.tick_size * self.market.mark_half_ticks / 2

    def own_unrealised_quote(self) -> Decimal:
        """At the symbol's mark of now."""
        return self.unrealised_quote(self.market.mark_half_ticks)

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
        """Wallet plus unrealised profit: here at that mark, at the holder's other symbols at their own, quote."""
        equity = self.wallet_quote + self.unrealised_quote(mark_half_ticks)
        for other in self._others():
            equity += other.own_unrealised_quote()
        return equity

    def _others(self) -> list[Account]:
        """The holder's linear accounts at other symbols."""
        if len(self.holder.accounts) == 1:
            return []
        return [other for other in self.holder.accounts if other is not self and not other.is_spot]

    def open_lots(self, side: Side, reduce_only: bool | None = None) -> int:
        """What open orders of one side may still trade; `reduce_only` None counts all, lots."""
        lots, either, reducing = 0, reduce_only is None, bool(reduce_only)
        for order in self.open_orders.values():
            if order.side is side and (either or order.reduce_only == reducing):
                lots += order.left_lots
        return lots

    def margin_used_quote(self, mark_half_ticks: int) -> Decimal:
        """Initial margin of the position and of open orders at their worst case, quote."""
        buys = self.position.lots + self.open_lots(_BUY, False)
        sells = -self.position.lots + self.open_lots(_SELL, False)
        worst = max(buys, sells, abs(self.position.lots))
        return self._notional_quote(worst, mark_half_ticks) / LEVERAGE

    def check_margin(self, side: Side, more_lots: int, mark_half_ticks: int) -> None:
        """Raise Refused where the worst case after `more_lots` more of `side` needs more than the equity."""
        worst = _signed(side, self.position.lots) + self.open_lots(side, False) + more_lots
        alone = len(self.holder.accounts) == 1
        if worst <= 0 or (alone and self._clearly_affords(worst, mark_half_ticks)):
            return
        needed = self._notional_quote(worst, mark_half_ticks) / LEVERAGE
        for other in self._others():
            needed += other.margin_used_quote(other.market.mark_half_ticks)
        equity = self.equity_quote(mark_half_ticks) - self.holder.locked(self.holder.quote)
        if needed > equity:
            raise Refused(
                Refusal.BALANCE_INSUFFICIENT,
                f"needs {needed.normalize():f} quote of margin at leverage {LEVERAGE}, equity is {equity:f}",
            )

    def _clearly_affords(self, lots: int, mark_half_ticks: int) -> bool:
        """Whether the margin fits into the equity, all of it rounded down: then no decimal has to decide."""
        wallet = self.wallet_quote
        if self._wallet_seen is not wallet:
            unit = self.instrument.tick_size * self.instrument.lot_size
            self._wallet_seen, self._wallet_units = wallet, int((wallet / unit).to_integral_value(ROUND_FLOOR))
        position = self.position
        if not -_FITS < position.lots < _FITS or lots >= _FITS or mark_half_ticks >= _FITS:
            return False
        mark: i64 = mark_half_ticks
        held: i64 = position.lots
        more: i64 = lots
        value: i64 = held * mark // 2
        needed: i64 = more * mark // (2 * LEVERAGE)
        return needed < self._wallet_units + value + -position.cost // COST_SCALE

    def reducible_lots(self, side: Side) -> int:
        """How much a further reduce-only order of that side may close, lots; 0 where there is nothing to reduce."""
        against = max(0, -_signed(side, self.position.lots))
        return max(0, against - self.open_lots(side, True))

    def alter_position(self, lots: int, mark_half_ticks: int, now_ns: int) -> None:
        """Change the position at the mark without an execution, as by another hand; spot: the coin comes or goes."""
        if self.is_spot:
            coins, base = self.holder.coins, self.instrument.base
            coins[base] = max(Decimal(0), coins.get(base, Decimal(0)) + self.instrument.qty(lots))
            return
        side = _BUY if lots > 0 else _SELL
        realised = self.quote(self.position.apply(side, mark_half_ticks // 2, abs(lots)))
        self.wallet_quote += realised
        self.realised_quote += realised
        self.position_updated_at_ns = now_ns

    # ---- spot -------------------------------------------------------------------------------------------------------

    def locks(self, coin: str) -> Decimal:
        """What open orders of this spot account may still spend of that coin; a linear account locks nothing."""
        if not self.is_spot:
            return Decimal(0)
        instrument = self.instrument
        if coin == instrument.base:
            return instrument.qty(self.open_lots(_SELL))
        if coin == instrument.quote:
            buys = (order for order in self.open_orders.values() if order.side is _BUY)
            return sum((instrument.notional_quote(o.price_ticks, o.left_lots) for o in buys), Decimal(0))
        return Decimal(0)

    def check_coins(self, side: Side, price_ticks: int, more_lots: int) -> None:
        """Raise Refused where the coin that `more_lots` more of `side` spend is not there, or is locked."""
        holder, instrument = self.holder, self.instrument
        coin = instrument.quote if side is _BUY else instrument.base
        spent = instrument.notional_quote(price_ticks, more_lots) if side is _BUY else instrument.qty(more_lots)
        free = holder.coins.get(coin, Decimal(0)) - holder.locked(coin)
        if coin == holder.quote:
            free -= holder.margin_used_quote()
        if spent > free:
            raise Refused(Refusal.BALANCE_INSUFFICIENT, f"needs {spent.normalize():f} {coin}, free are {free:f}")

    def settle_spot(self, side: Side, price_ticks: int, lots: int, rate: Decimal) -> tuple[Decimal, str]:
        """Change coins; returns the fee (positive = paid) and its coin.

        A fee comes out of what is received (buy: base, sell: quote); a rebate is paid in the other.
        """
        instrument, coins = self.instrument, self.holder.coins
        qty, value = instrument.qty(lots), instrument.notional_quote(price_ticks, lots)
        in_base = (side is _BUY) == (rate >= 0)
        fee_coin = instrument.base if in_base else instrument.quote
        fee = (qty if in_base else value) * rate
        coins[instrument.base] = coins.get(instrument.base, Decimal(0)) + side.sign * qty
        coins[instrument.quote] = coins.get(instrument.quote, Decimal(0)) - side.sign * value
        coins[fee_coin] -= fee
        return fee, fee_coin

    # ---- endings ----------------------------------------------------------------------------------------------------

    def close_order(self, order: Order) -> None:
        """Move an ended order to the closed ones. The oldest of those are forgotten, their link ids never."""
        if order.key in self.open_orders:
            del self.open_orders[order.key]
        self.closed_orders.append(order)
        while len(self.closed_orders) > CLOSED_KEPT:
            old = self.closed_orders.popleft()
            self.by_id.pop(old.order_id, None)
            self.by_link.pop(old.link_id, None)

    def _notional_quote(self, lots: int, mark_half_ticks: int) -> Decimal:
        return self.instrument.tick_size * self.instrument.lot_size * lots * mark_half_ticks / 2
