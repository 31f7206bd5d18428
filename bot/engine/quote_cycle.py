"""One look at one symbol: strategy → maker policy → risk → plan → approved orders out.

It runs on every change of the top of the book, of our orders or of the position, and on every turn of the clock; but
not where the top is inside the band in which nothing can have to be done (`bot.engine.desk`), save for the clock, nor
where nothing that a look goes by has changed since one that left nothing to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from bot.domain.book import NO_TICKS
from bot.domain.instrument import Instrument
from bot.domain.order import OrderState, Side
from bot.engine.desk import Desk, DeskSide
from bot.engine.order_plan import Amend, Cancel, Place, is_near_enough, plan_pieces, plan_side, split
from bot.engine.orders import OwnOrder
from bot.engine.orders_out import OrdersOut
from bot.engine.parameters import UBPS, UBPS_ONE
from bot.engine.performance import Performance
from bot.engine.quoting import half_spread_ubps
from bot.engine.state import State
from bot.engine.stopping import CANCELLABLE, Stopping, may_cancel_again, send_cancel

_BUY: Final = Side.BUY
_WORKING: Final = OrderState.WORKING


class QuoteCycle:
    """Keeps the quotes of all symbols as they should be."""

    def __init__(self, state: State, stopping: Stopping, performance: Performance) -> None:
        self._state = state
        self._stopping = stopping
        self._performance = performance
        self._out = OrdersOut(state)
        self._desks: dict[str, Desk] = {}
        self._in_order: list[Desk] = []
        """desks in the order of the configuration"""
        self._alone = len(state.parameters.symbols) == 1

    @property
    def desks(self) -> Mapping[str, Desk]:
        """Symbol → its desk, once its filters are known. To look at only."""
        return self._desks

    def learn(self, instrument: Instrument) -> None:
        """Filters of a symbol are known (again)."""
        symbol = instrument.symbol
        self._desks[symbol] = Desk(self._state, instrument, self._performance.of[symbol])
        self._in_order = [self._desks[one] for one in self._state.parameters.symbols if one in self._desks]
        self._state.blocked.discard(symbol)
        self._state.orders.touch(symbol)

    def knows(self, symbol: str) -> bool:
        """Whether its filters can be quoted by."""
        return symbol in self._desks

    def block(self, symbol: str) -> None:
        """Its filters are in doubt: nothing is quoted there until they are learned anew, and what stands goes."""
        state = self._state
        state.blocked.add(symbol)
        if self._desks.pop(symbol, None) is not None:
            self._in_order = [desk for desk in self._in_order if desk.symbol != symbol]
            state.note("WARNING", "symbol_blocked", symbol=symbol, reason="filters")
        for order in list(state.orders.live(symbol)):
            order.unwanted = True
            if order.state in CANCELLABLE:
                send_cancel(state, order)

    # ---- when to look ----

    def tick(self) -> None:
        """A turn of the clock: volatility takes its samples, and every symbol is looked at."""
        now_ns = self._state.now_ns
        for desk in self._in_order:
            if desk.goes_by_variance and desk.book.bid_ticks != NO_TICKS:
                desk.volatility.sample(desk.book.bid_ticks + desk.book.ask_ticks, now_ns)
                desk.variance_ubps2 = desk.volatility.variance_ubps2
            if not self._settled(desk):
                self.look(desk, unchanged_too=True)
        if self._state.blocked:
            self._clear_blocked()

    def _clear_blocked(self) -> None:
        """No desk looks there: what stands because its cancel did not leave, or was refused, is cancelled again."""
        for symbol in self._state.parameters.symbols:
            if symbol in self._state.blocked:
                self._cancel_unwanted(self._state.orders.live(symbol))

    def look_at(self, symbol: str) -> None:
        """The top of that symbol's book has changed."""
        desk = self._desks.get(symbol)
        if desk is not None:
            self.look(desk, unchanged_too=False)

    def look_at_all(self, *, unchanged_too: bool) -> None:
        for desk in self._in_order:
            self.look(desk, unchanged_too=unchanged_too)

    def look_where_changed(self) -> None:
        """Something other than the market was told."""
        for desk in self._in_order:
            book = desk.book
            if (
                desk.orders.version != desk.version
                or book.bid_ticks != desk.bid_ticks
                or book.ask_ticks != desk.ask_ticks
            ):
                self.look(desk, unchanged_too=False)

    def _settled(self, desk: Desk) -> bool:
        """Whether a look would find what the last one found: both sides near enough, and nothing else to go by.

        Of all that a look goes by only the edge changes with time alone.
        """
        found = desk.settled and desk.orders.version == desk.settled_version and self._goes_by_the_same(desk)
        if not found and not self._as_planned(desk):
            return False
        state, earning = self._state, desk.earning
        now_ns = state.now_ns
        return (
            earning.shaped
            and earning.edge_shaped_ubps(now_ns) >= desk.held.edge_ubps
            and now_ns < state.may_quote_until_ns
        )

    def _goes_by_the_same(self, desk: Desk) -> bool:
        """Whether top, variance and limits are as the last look found them; position and orders come with versions."""
        book = desk.book
        return (
            book.bid_ticks == desk.bid_ticks
            and book.ask_ticks == desk.ask_ticks
            and desk.seen_limits == self._state.limits_version
            and desk.variance == desk.variance_ubps2
            and (self._alone or (desk.fresh_units2, desk.room_units2) == self._out.left_units2(desk))
        )

    def _as_planned(self, desk: Desk) -> bool:
        """Whether the last look's plan stands and our orders are on their way to it or there: nothing is to do.

        So a confirmation of what was asked for needs no look of its own. With several symbols it has one: what the
        others leave of the total has nearly always changed since.
        """
        if (
            not self._alone
            or not desk.planned
            or desk.account.position_lots != desk.position_lots
            or not self._goes_by_the_same(desk)
        ):
            return False
        orders = desk.orders
        if len(orders.counting) != 2:
            return False
        if len(orders.buys) == 1 and len(orders.sells) == 1:
            if not (_is_planned(orders.buys[0], desk.buy) and _is_planned(orders.sells[0], desk.sell)):
                return False
        else:
            for order in orders.counting.values():
                if not _is_planned(order, desk.buy if order.side is _BUY else desk.sell):
                    return False
        desk.version = orders.version  # seen
        return True

    # ---- the look ----

    def look(self, desk: Desk, *, unchanged_too: bool) -> None:
        """Re-decide one symbol. With `unchanged_too` false, only where something can have to be done."""
        state, book = self._state, desk.book
        bid, ask = book.bid_ticks, book.ask_ticks
        if bid == NO_TICKS or (state.frozen and desk.symbol in state.frozen):
            return
        if not unchanged_too:
            version = desk.orders.version
            if desk.kept_version == version and desk.inside_band(bid, ask):
                return
            if bid == desk.bid_ticks and ask == desk.ask_ticks and (version == desk.version or self._as_planned(desk)):
                return
        desk.begin_look(bid, ask)
        self._shape(desk, bid, ask)
        now_ns = state.now_ns
        if now_ns >= state.may_quote_until_ns:
            return
        edge_ubps = UBPS_ONE
        if desk.earning.shaped:
            edge_ubps = desk.earning.edge_shaped_ubps(now_ns)
            if edge_ubps < desk.held.edge_ubps:
                self._stopping.enter("edge_below_threshold", f"{desk.symbol} {Decimal(edge_ubps) / UBPS:.3f} bps")
                state.counters.add("mm_limit_breaches_total", "edge")
                return
        desk.edge_ubps = edge_ubps
        desk.position_lots = desk.account.position_lots
        desk.variance = desk.shaped_variance
        if desk.seen_limits != state.limits_version or not self._alone:
            desk.fresh_units2, desk.room_units2 = self._out.left_units2(desk)
            desk.seen_limits = state.limits_version
        first, second = desk.buy, desk.sell
        if state.amend_pace.is_last(now_ns) and _sell_waited_longer(desk):
            first, second = second, first
        self._side(desk, first)
        if state.may_quote_until_ns:  # the first side has entered no stop
            self._side(desk, second)
            desk.end_look(bid, ask)

    def _shape(self, desk: Desk, bid: int, ask: int) -> None:
        """What the policy makes of the strategy's quotes, buy and sell; together they say what we would earn."""
        position_lots, variance = desk.account.position_lots, desk.variance_ubps2
        if (
            bid == desk.shaped_bid
            and ask == desk.shaped_ask
            and position_lots == desk.shaped_position
            and variance == desk.shaped_variance
        ):
            return
        desk.shaped_bid = bid
        desk.shaped_ask = ask
        desk.shaped_position = position_lots
        desk.shaped_variance = variance
        buy, sell, policy = desk.buy, desk.sell, desk.policy
        asked_bid, asked_ask, lots = desk.strategy.prices(bid + ask, position_lots, variance)
        buy.asked_ticks = asked_bid
        sell.asked_ticks = asked_ask
        buy.qty_lots = sell.qty_lots = lots
        buy_ticks = buy.price_ticks = policy.buy_at(asked_bid, lots, bid, ask)
        sell_ticks = sell.price_ticks = policy.sell_at(asked_ask, lots, bid, ask)
        if buy_ticks > NO_TICKS and sell_ticks > NO_TICKS:
            desk.earning.half_spread_ubps = half_spread_ubps(buy_ticks, sell_ticks)
            desk.earning.shaped = True

    def _side(self, desk: Desk, half: DeskSide) -> None:
        """One side: nearly always one working quote that is kept or amended, with room for all that is wanted."""
        state, orders = self._state, desk.orders
        now_ns, live = state.now_ns, orders.buys if half.is_buy else orders.sells
        if now_ns < half.back_off.until_ns:
            desk.slack_ticks = 0
            return
        price, lots = half.price_ticks, half.qty_lots
        if len(live) != 1 or price == NO_TICKS or lots > desk.policy.max_lots or desk.is_spot:
            self._any_side(desk, half, live)
            return
        order = live[0]
        if order.state is not _WORKING or order.unwanted:
            self._any_side(desk, half, live)
            return
        open_lots, mid2, price2 = order.remaining_lots, desk.bid_ticks + desk.ask_ticks, 2 * price
        if half.is_buy:
            leaning = desk.position_lots + orders.buys_lots - order.counted_lots
        else:
            leaning = orders.sells_lots - desk.position_lots - order.counted_lots
        room_lots = desk.fresh_units2 // (price2 if price2 > mid2 else mid2) - leaning
        if room_lots < -leaning:
            room_lots = -leaning
        if room_lots < lots or room_lots < open_lots:
            self._any_side(desk, half, live)
            return
        stands_at = order.price_ticks
        slack_ticks = desk.tolerance_ticks(price) - (stands_at - price if stands_at > price else price - stands_at)
        if slack_ticks >= 0 and lots * desk.qty_pct <= open_lots * 100 <= lots * 110 + 100:
            desk.kept(half, stands_at, open_lots, slack_ticks)
            half.blocked = ""
            return
        desk.slack_ticks = 0
        set_at_ns, created_at_ns = order.amended_at_ns, order.created_at_ns
        if created_at_ns > set_at_ns:
            set_at_ns = created_at_ns
        if now_ns - set_at_ns < desk.interval_ns:
            half.blocked = ""
        elif state.amend_pace.may(now_ns, takes_back=False):  # else the clock looks again
            self._out.amend(desk, half, order, price, lots, leaning)

    def _any_side(self, desk: Desk, half: DeskSide, live: list[OwnOrder]) -> None:
        """The same whatever stands there, and however little room there is."""
        waits = False
        for order in live:
            if order.unwanted:
                desk.slack_ticks = 0
                self._cancel_unwanted(live)
                return
            if order.state is not _WORKING:
                waits = True
        if waits:  # as the plan would: nothing to work out
            desk.slack_ticks = 0
            return
        state, out = self._state, self._out
        wanted, cap_lots = out.fit(desk, half, live)
        tolerance = desk.tolerance(wanted.price_ticks if wanted is not None else desk.bid_ticks)
        if wanted is not None and wanted.qty_lots > desk.policy.max_lots:
            pieces = split(wanted, desk.policy.max_lots, desk.pieces_max)
            actions = plan_pieces(pieces, cap_lots, live, tolerance, state.now_ns)
        else:
            actions = plan_side(wanted, cap_lots, live, tolerance, state.now_ns)
        if not actions:
            if wanted is not None and len(live) == 1 and is_near_enough(live[0], wanted, cap_lots, tolerance):
                slack_ticks = tolerance.price_ticks - abs(live[0].price_ticks - wanted.price_ticks)
                desk.kept(half, live[0].price_ticks, live[0].remaining_lots, slack_ticks)
            else:
                desk.slack_ticks = 0
            if wanted is not None and live:
                half.blocked = ""
            return
        desk.slack_ticks = 0
        for action in actions:
            if isinstance(action, Cancel):
                out.cancel(action.order)
            elif isinstance(action, Amend):
                takes_back = action.order.remaining_lots > cap_lots
                if state.amend_pace.may(state.now_ns, takes_back=takes_back):  # else the clock looks again
                    out.ask(desk, half, action)
            elif state.orders.active(desk.symbol) < desk.parameters.max_active_orders:
                adjusted = half.price_ticks > NO_TICKS and half.price_ticks != half.asked_ticks
                out.ask(desk, half, Place(action.quote, adjusted))

    def _cancel_unwanted(self, live: list[OwnOrder]) -> None:
        """Orders that came back after their end, or that the venue did not show: out of the way before quoting on."""
        for order in live:
            if order.unwanted and order.state in CANCELLABLE and may_cancel_again(self._state, order):
                send_cancel(self._state, order)


def _is_planned(order: OwnOrder, half: DeskSide) -> bool:
    """Whether an order is where that side's plan has it, or on its way."""
    executed_lots = order.executed_lots
    if order.unwanted or order.reported_lots > executed_lots:
        return False
    if order.state is not _WORKING:
        return True
    open_lots = order.qty_lots - executed_lots if order.qty_lots > executed_lots else 0
    return order.price_ticks == half.planned_ticks and open_lots == half.planned_lots


def _sell_waited_longer(desk: Desk) -> bool:
    """Whether the sell side goes first: it does where one amend is left and its quote is the older one."""
    sells_ns = _first_amended_ns(desk.orders.sells)
    return 0 < sells_ns < _first_amended_ns(desk.orders.buys)


def _first_amended_ns(live: list[OwnOrder]) -> int:
    """When the quote that has waited longest was amended, 0 where none was, or nothing stands."""
    first_ns = 0
    for number, order in enumerate(live):
        at_ns = order.amended_at_ns
        if number == 0 or at_ns < first_ns:
            first_ns = at_ns
    return first_ns
