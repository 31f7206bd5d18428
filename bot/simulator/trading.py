"""Orders meet the book, and what follows for accounts: fills, fees, positions, endings. Pure.

Everything that happens is appended to `happenings` in order. A fill of a resting order is settled before the next
step of matching, so that a reduce-only order can be withdrawn in the middle of a sweep and never turns a position.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal
from typing import Final

from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.simulator.accounts import Account, Fees
from bot.simulator.funding import Funding
from bot.simulator.matching import BACKGROUND, NO_PRICE, Book, Match
from bot.simulator.orders import (
    EndReason,
    Executed,
    Execution,
    Happening,
    Order,
    OrderChanged,
    Printed,
    PublicTrade,
    SelfMatch,
    Status,
    TimeInForce,
)
from bot.simulator.self_match import SelfMatches

RECENT_TRADES_KEPT: Final = 1000

_BUY: Final = Side.BUY
_SELL: Final = Side.SELL
_POST_ONLY: Final = TimeInForce.POST_ONLY
_IOC: Final = TimeInForce.IOC
_FOK: Final = TimeInForce.FOK
_LET_TRADE: Final = SelfMatch.NONE
_PARTLY_FILLED: Final = Status.PARTLY_FILLED
_FILLED: Final = Status.FILLED
_CANCELLED: Final = Status.CANCELLED
_NO_MOST: Final = 1 << 60

WrongPrice = Callable[[Account, Order, Match, int], Match]
"""The account, its order, what was matched and when, to what is said of it."""


class Trading:
    """One book and all accounts that trade on it. `fixed_background`: takers leave the background as it was."""

    def __init__(self, instrument: Instrument, fees: Fees, seed: int, *, fixed_background: bool) -> None:
        self.instrument = instrument
        self.fees = fees
        self.book = Book()
        self.accounts: dict[str, Account] = {}
        self.happenings: list[Happening] = []
        self.touched: list[Account] = []
        """Accounts something happened to, in order."""
        self.recent_trades: list[PublicTrade] = []
        self.sequence = 1_000_000
        self.wrong_price: WrongPrice | None = None
        """Set while a fault waits that says another price of a fill than it was made at."""
        self.background_taken = False
        """Whether somebody took of the background, since it was last told whole, and it does not stand again."""
        self._fixed_background = fixed_background
        self._orders: dict[int, Order] = {}
        self._self_matches = SelfMatches(self.book, self._orders, self.end)
        self._random = random.Random(seed)  # noqa: S311 - identifiers that repeat under the seed, not secrets

    def new_id(self) -> str:
        """An identifier that looks like the venue's (a UUID of version 4) and repeats under the seed."""
        digits = f"{self._random.getrandbits(128):032x}"
        variant = "89ab"[int(digits[16], 16) & 3]
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"

    # ---- own orders ---------------------------------------------------------------------------------------------

    def admit(self, account: Account, order: Order) -> None:
        """Enter an accepted order into the account's and the venue's tables; it does not rest or match yet."""
        self._orders[order.key] = account.open_orders[order.key] = account.by_id[order.order_id] = order
        if order.link_id:
            account.by_link[order.link_id] = order
            account.link_ids.add(order.link_id)

    def enter(self, account: Account, order: Order, now_ns: int, *, post_only_enforced: bool) -> None:
        """Let an open order that does not rest meet the book: it takes, rests, or ends, as its terms say."""
        tif = order.tif
        post_only = tif is _POST_ONLY and post_only_enforced
        if post_only and self.book.would_cross(order.side, order.price_ticks):
            self.end(account, order, EndReason.POST_ONLY_WOULD_TAKE, now_ns)
            return
        if tif is _FOK and self._available_lots(account, order) < order.left_lots:
            tagged = order.self_match is not _LET_TRADE
            if not tagged or not self._self_matches.ends_whole(account, order, now_ns):
                self.end(account, order, EndReason.NOT_ALL_AT_ONCE, now_ns)
            return
        if not post_only or order.reduce_only:  # nothing reaches a post-only order that does not cross
            self._take(account, order, now_ns)
            if not order.is_open:
                return
        if tif is _IOC or tif is _FOK:
            self.end(account, order, EndReason.NO_IMMEDIATE_QTY, now_ns)
        else:
            self.book.rest(order.key, order.side, order.price_ticks, order.left_lots)
            self.tell(account, order)

    def _available_lots(self, account: Account, order: Order) -> int:
        if order.self_match is not _LET_TRADE:
            return self._self_matches.available_lots(account, order)
        return self.book.available_lots(order.side, order.price_ticks)

    def end(self, account: Account, order: Order, reason: EndReason, now_ns: int) -> None:
        """End an open order without a fill, resting or not."""
        if self.book.rests(order.key):
            self.book.remove(order.key)
        order.status = _CANCELLED
        order.end_reason = reason
        order.updated_at_ns = now_ns
        self._close(account, order)
        self.tell(account, order)

    def tell(self, account: Account, order: Order) -> None:
        """Put the order as it now stands on record."""
        self.happenings.append(OrderChanged(account.name, order.as_it_stands()))
        if not account.is_touched:
            account.is_touched = True
            self.touched.append(account)

    def touch_wallet(self, account: Account) -> None:
        """Something happened to the account, and its wallet changed."""
        account.is_wallet_touched = True
        if not account.is_touched:
            account.is_touched = True
            self.touched.append(account)

    # ---- the market ---------------------------------------------------------------------------------------------

    def market_takes(self, taker: Side, limit_ticks: int, lots: int, now_ns: int) -> None:
        """Somebody outside takes from the best prices on, background and own orders alike; one print for a price."""
        left, printing, printed = lots, 0, 0
        while (match := self.book.next_match(taker, limit_ticks, left)) is not None:
            left -= match.lots
            self.background_taken = True
            self._settle_maker(match, now_ns)
            if printed and match.price_ticks != printing:
                self.print(taker, printing, printed, now_ns)
                printed = 0
            printing, printed = match.price_ticks, printed + match.lots
        if printed:
            self.print(taker, printing, printed, now_ns)

    def market_passes(self, taker: Side, limit_ticks: int, most_lots: int | None, now_ns: int) -> None:
        """As `market_takes`, but the background taken stands again at once behind what is left; None: all there is."""
        book, side, left = self.book, _SELL if taker is _BUY else _BUY, _NO_MOST if most_lots is None else most_lots
        for level in book.levels_to(side, limit_ticks):
            if left <= 0:
                return
            price = level.price_ticks
            if level.entries is not None:
                printed = self._pass_queue(side, price, left, now_ns)
            else:
                printed = level.lots if level.lots < left else left
            left -= printed
            if printed:
                self.print(taker, price, printed, now_ns)

    def _pass_queue(self, side: Side, price_ticks: int, most_lots: int, now_ns: int) -> int:
        """The level at which own orders stand; returns what traded there, lots."""
        book, left, background = self.book, most_lots, 0
        while (match := book.match_at(side, price_ticks, left)) is not None:
            left -= match.lots
            if match.maker == BACKGROUND:
                background += match.lots
            self._settle_maker(match, now_ns)
        if background:
            book.set_background(side, price_ticks, book.background_lots(side, price_ticks) + background)
        return most_lots - left

    def recorded_trade(self, taker: Side, price_ticks: int, lots: int, now_ns: int) -> None:
        """A trade from a record: own orders at better prices fill first, then the queue at its price.

        Afterwards the background at that price is what it would be without own orders: smaller by exactly `lots`.
        """
        side, left = _SELL if taker is _BUY else _BUY, lots
        self.background_taken = True
        background_after = max(0, self.book.background_lots(side, price_ticks) - lots)
        while left and (match := self.book.next_own_through(side, price_ticks, left, at_price=False)) is not None:
            left -= match.lots
            self._settle_maker(match, now_ns)
        while left and (match := self.book.match_at(side, price_ticks, left)) is not None:
            left -= match.lots
            self._settle_maker(match, now_ns)
        self.book.set_background(side, price_ticks, background_after)
        self.print(taker, price_ticks, lots, now_ns)

    def fill_what_the_market_stands_through(self, now_ns: int) -> None:
        """After the background moved: own orders at or beyond its best opposite price have all traded, as makers."""
        self._fill_through(_BUY, _SELL, now_ns)
        self._fill_through(_SELL, _BUY, now_ns)

    def _fill_through(self, side: Side, opposite: Side, now_ns: int) -> None:
        book = self.book
        if not book.half(side).owned:
            return
        reached = book.half(opposite).best_background()
        while reached != NO_PRICE:
            match = book.next_own_through(side, reached, None, at_price=True)
            if match is None:
                return
            self._settle_maker(match, now_ns)
            self.print(opposite, match.price_ticks, match.lots, now_ns)

    def print(self, taker: Side, price_ticks: int, lots: int, now_ns: int) -> None:
        """A public trade."""
        self.sequence += 1
        trade = PublicTrade(self.sequence, taker, price_ticks, lots, now_ns)
        self.recent_trades.append(trade)
        if len(self.recent_trades) > 2 * RECENT_TRADES_KEPT:
            del self.recent_trades[:RECENT_TRADES_KEPT]
        self.happenings.append(Printed(trade))

    # ---- settlement ---------------------------------------------------------------------------------------------

    def _take(self, account: Account, order: Order, now_ns: int) -> None:
        taken: list[Match] = []
        while order.left_lots:
            if order.reduce_only and _signed(order.side, account.position.lots) >= 0:
                self.end(account, order, EndReason.REDUCE_ONLY, now_ns)
                break
            if order.self_match is not _LET_TRADE and self._self_matches.ends(account, order, now_ns):
                break
            match = self.book.next_match(order.side, order.price_ticks, order.left_lots)
            if match is None:
                break
            taken.append(match)
            self.background_taken = True
            self._settle_maker(match, now_ns)
            self._fill(account, order, match, now_ns, is_maker=False)
            self.print(order.side, match.price_ticks, match.lots, now_ns)
        if self._fixed_background:
            opposite = _SELL if order.side is _BUY else _BUY
            for one in reversed(taken):
                if one.maker == BACKGROUND:
                    self.book.put_back(opposite, one.price_ticks, one.lots)

    def _settle_maker(self, match: Match, now_ns: int) -> None:
        if match.maker != BACKGROUND:
            order = self._orders[match.maker]
            self._fill(self.accounts[order.account], order, match, now_ns, is_maker=True)

    def _fill(self, account: Account, order: Order, match: Match, now_ns: int, *, is_maker: bool) -> None:
        if self.wrong_price is not None:
            match = self.wrong_price(account, order, match, now_ns)
        rate = self.fees.maker if is_maker else self.fees.taker
        fee_coin = ""
        if account.is_spot:
            closed_lots = 0
            fee, fee_coin = account.settle_spot(order.side, match.price_ticks, match.lots, rate)
            realised = Decimal(0)
            order.fees = {**order.fees, fee_coin: order.fees.get(fee_coin, Decimal(0)) + fee}
        else:
            closed_lots = min(match.lots, max(0, -_signed(order.side, account.position.lots)))
            realised = account.quote(account.position.apply(order.side, match.price_ticks, match.lots))
            fee = self.instrument.notional_quote(match.price_ticks, match.lots) * rate
            account.wallet_quote += realised - fee
            account.realised_quote += realised - fee
        account.position_updated_at_ns = now_ns
        order.filled_lots += match.lots
        order.filled_cost += match.price_ticks * match.lots
        order.fee_quote += fee
        order.realised_quote += realised
        order.updated_at_ns = now_ns
        left = order.qty_lots - order.filled_lots
        order.status = _PARTLY_FILLED if left else _FILLED
        self.sequence += 1
        execution = Execution(
            self.new_id(), self.sequence, order, match.price_ticks, match.lots, fee, rate, is_maker, left, closed_lots,
            realised, now_ns, fee_coin,
        )  # fmt: skip
        account.executions.append(execution)
        account.executions_count += 1
        self.happenings.append(Executed(account.name, execution))
        if not left:
            self._close(account, order)
        self.tell(account, order)
        self.touch_wallet(account)
        self._trim_reduce_only(account, now_ns)

    def settle_funding(self, rate: Decimal, mark_half_ticks: int, at_ns: int) -> None:
        """Who is long pays that rate of the position's value, who is short receives it (a rate below zero: turned)."""
        for account in self.accounts.values():
            lots = account.position.lots
            if not lots:
                continue
            value = self.instrument.tick_size * self.instrument.lot_size * lots * mark_half_ticks / 2
            paid = value * rate
            account.wallet_quote -= paid
            account.realised_quote -= paid
            self.sequence += 1
            side = _BUY if lots > 0 else _SELL
            found = Funding(
                self.new_id(), self.sequence, account.name, side, abs(lots), mark_half_ticks, rate, paid, at_ns
            )
            account.fundings.append(found)
            self.happenings.append(Executed(account.name, found))
            self.touch_wallet(account)

    def _trim_reduce_only(self, account: Account, now_ns: int) -> None:
        if not account.open_orders:
            return
        resting = [o for o in account.open_orders.values() if o.reduce_only and self.book.rests(o.key)]
        for order in reversed(resting):
            against = max(0, -_signed(order.side, account.position.lots))
            if account.open_lots(order.side, True) > against:
                self.end(account, order, EndReason.REDUCE_ONLY, now_ns)

    def _close(self, account: Account, order: Order) -> None:
        account.close_order(order)
        if order.key in self._orders:
            del self._orders[order.key]


def _signed(side: Side, lots: int) -> int:
    return lots if side is _BUY else -lots
