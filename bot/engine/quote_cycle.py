"""One look at one symbol: strategy → maker policy → risk → plan → approved orders out.

It runs on every change of the top of the book, of our orders or of the position, and on every turn of the clock; but
not where the top is inside the band in which nothing can have to be done (`bot.engine.desk`), save for the clock, nor
where nothing that a look goes by has changed since one that left nothing to do.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from bot.domain.instrument import Instrument
from bot.domain.intent import AmendOrder, Note, PlaceOrder, RiskNumber
from bot.domain.order import OrderState, Side
from bot.engine.desk import Desk, DeskSide
from bot.engine.maker_policy import Blocked, crosses_ticks
from bot.engine.order_plan import Amend, Cancel, Place, is_near_enough, plan_pieces, plan_side, split
from bot.engine.orders import OwnOrder
from bot.engine.parameters import NS_PER_S, QUOTE_PREFIX, UBPS, UBPS_ONE
from bot.engine.performance import Performance
from bot.engine.quoting import Quote, half_spread_ubps
from bot.engine.risk import NEW_SHARE_PCT, Approved, Limits, Permission, Refusal, Risk, Standing, limits_of
from bot.engine.state import State
from bot.engine.stopping import CANCELLABLE, Stopping, send_cancel

_BUY: Final = Side.BUY
_WORKING: Final = OrderState.WORKING


class QuoteCycle:
    """Keeps the quotes of all symbols as they should be."""

    def __init__(self, state: State, stopping: Stopping, performance: Performance) -> None:
        self._state = state
        self._stopping = stopping
        self._performance = performance
        self._risk = Risk(state.parameters)
        self._desks: dict[str, Desk] = {}
        self._in_order: list[Desk] = []
        """desks in the order of the configuration"""
        self._alone = len(state.parameters.symbols) == 1
        self._mark_max_age_ns = state.parameters.mark_max_age_s * NS_PER_S

    def learn(self, instrument: Instrument) -> None:
        """Filters of a symbol are known (again)."""
        symbol = instrument.symbol
        self._desks[symbol] = Desk(self._state, instrument, self._performance.of[symbol])
        self._in_order = [self._desks[one] for one in self._state.parameters.symbols if one in self._desks]
        self._state.orders.touch(symbol)

    # ---- when to look ----

    def tick(self) -> None:
        """A turn of the clock: volatility takes its samples, and every symbol is looked at."""
        now_ns = self._state.now_ns
        for desk in self._in_order:
            top = desk.book.top
            if top is not None and desk.strategy.goes_by_variance:
                desk.volatility.sample(top[0] + top[1], now_ns)
                desk.variance_ubps2 = desk.volatility.variance_ubps2
            if not self._settled(desk):
                self.look(desk, unchanged_too=True)

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
            if desk.orders.version != desk.version or desk.book.top != desk.top:
                self.look(desk, unchanged_too=False)

    def _settled(self, desk: Desk) -> bool:
        """Whether a look would find what the last one found: both sides near enough, and nothing else to go by.

        Of all that a look goes by only the edge changes with time alone.
        """
        state = self._state
        found = desk.settled and desk.orders.version == desk.settled_version and self._goes_by_the_same(desk)
        if not found and not self._as_planned(desk):
            return False
        edge_ubps = desk.earning.edge_ubps(state.now_ns)
        return (
            edge_ubps is not None
            and edge_ubps >= state.thresholds.held[desk.symbol].edge_ubps
            and state.now_ns < state.may_quote_until_ns
        )

    def _goes_by_the_same(self, desk: Desk) -> bool:
        """Whether top, variance and limits are as the last look found them; position and orders come with versions."""
        return (
            desk.book.top == desk.top
            and desk.seen_limits == self._state.limits_version
            and desk.variance == desk.variance_ubps2
            and (self._alone or desk.units2 == self._left_units2(desk))
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
        sides = 0
        for order in desk.orders.counting.values():
            half = desk.buy if order.side is _BUY else desk.sell
            if order.unwanted or order.reported_lots > order.executed_lots:
                return False
            if order.state is _WORKING and (
                order.price_ticks != half.planned_ticks or order.remaining_lots != half.planned_lots
            ):
                return False
            sides += 1
        if sides != 2:
            return False
        desk.version = desk.orders.version  # seen
        return True

    # ---- the look ----

    def look(self, desk: Desk, *, unchanged_too: bool) -> None:
        """Re-decide one symbol. With `unchanged_too` false, only where something can have to be done."""
        state, top = self._state, desk.book.top
        if top is None:
            return
        version = desk.orders.version
        if not unchanged_too and (
            (version == desk.version and top == desk.top) or desk.inside_band(top, version) or self._as_planned(desk)
        ):
            return
        desk.begin_look(top)
        self._shape(desk, top)
        now_ns = state.now_ns
        if now_ns >= state.may_quote_until_ns:
            return
        edge_ubps, edge_min_ubps = desk.earning.edge_ubps(now_ns), state.thresholds.held[desk.symbol].edge_ubps
        if edge_ubps is not None and edge_ubps < edge_min_ubps:
            self._stopping.enter("edge_below_threshold", f"{desk.symbol} {Decimal(edge_ubps) / UBPS:.3f} bps")
            state.counters.add("mm_limit_breaches_total", "edge")
            return
        desk.position_lots, desk.variance = desk.account.position_lots, desk.shaped_variance
        desk.units2, desk.seen_limits = self._left_units2(desk), state.limits_version
        sight, mid2 = desk.sight, top[0] + top[1]
        sight.running, sight.barred = True, state.barred is not None
        sight.edge_ubps, sight.edge_min_ubps = UBPS_ONE if edge_ubps is None else edge_ubps, edge_min_ubps
        sight.order_units, sight.room_units2 = self._limits(desk).order_units, desk.units2[1]
        sight.mid2_ticks, sight.mark2_ticks = mid2, self._mark2(desk.symbol, mid2)
        first, second = desk.buy, desk.sell
        if state.amend_pace.is_last(now_ns) and self._sell_waited_longer(desk):
            first, second = second, first
        self._side(desk, first, top)
        if not state.stops.any:
            self._side(desk, second, top)
            desk.end_look(top)

    def _sell_waited_longer(self, desk: Desk) -> bool:
        """Whether the sell side goes first: it does where one amend is left and its quote is the older one."""
        buys = min((order.amended_at_ns for order in desk.orders.buys), default=0)
        sells = min((order.amended_at_ns for order in desk.orders.sells), default=0)
        return 0 < sells < buys

    def _shape(self, desk: Desk, top: tuple[int, int]) -> None:
        """What the policy makes of the strategy's quotes, buy and sell; together they say what we would earn."""
        position_lots, variance = desk.account.position_lots, desk.variance_ubps2
        if top == desk.shaped_top and position_lots == desk.shaped_position and variance == desk.shaped_variance:
            return
        desk.shaped_top, desk.shaped_position, desk.shaped_variance = top, position_lots, variance
        buy, sell = desk.buy, desk.sell
        buy.asked_ticks, sell.asked_ticks, lots = desk.strategy.prices(top[0] + top[1], position_lots, variance)
        buy.qty_lots = sell.qty_lots = lots
        bid = buy.price_ticks = desk.policy.bid_ticks(buy.asked_ticks, lots, top)
        ask = sell.price_ticks = desk.policy.ask_ticks(sell.asked_ticks, lots, top)
        if bid is not None and ask is not None:
            desk.earning.half_spread_ubps = half_spread_ubps(bid, ask)

    def _side(self, desk: Desk, half: DeskSide, top: tuple[int, int]) -> None:
        """One side: nearly always one working quote that is kept or amended, with room for all that is wanted."""
        state, live = self._state, desk.orders.buys if half.is_buy else desk.orders.sells
        if state.now_ns < half.back_off.until_ns:
            desk.slack_ticks = 0
            return
        for order in live:
            if order.unwanted:
                desk.slack_ticks = 0
                self._cancel_unwanted(live)
                return
        for order in live:
            if order.state is not _WORKING:  # the plan would wait for it: nothing to work out
                desk.slack_ticks = 0
                return
        price, lots = half.price_ticks, half.qty_lots
        if len(live) != 1 or price is None or lots > desk.policy.max_lots:
            self._plan_side(desk, half, top, live)
            return
        order = live[0]
        open_lots = order.remaining_lots
        mid2, price2 = desk.sight.mid2_ticks, 2 * price
        if half.is_buy:
            leaning = desk.position_lots + desk.orders.buys_lots - order.counted_lots
        else:
            leaning = desk.orders.sells_lots - desk.position_lots - order.counted_lots
        room_lots = desk.units2[0] // (price2 if price2 > mid2 else mid2) - leaning
        if room_lots < lots or room_lots < open_lots:
            self._plan_side(desk, half, top, live)
            return
        off_ticks = order.price_ticks - price if order.price_ticks > price else price - order.price_ticks
        slack_ticks = desk.tolerance_ticks(price) - off_ticks
        if slack_ticks >= 0 and lots * desk.qty_pct <= open_lots * 100 <= lots * 110 + 100:
            desk.kept(half, order, slack_ticks)
            half.blocked = ""
            return
        desk.slack_ticks = 0
        if state.now_ns - max(order.amended_at_ns, order.created_at_ns) < desk.interval_ns:
            half.blocked = ""
        elif state.amend_pace.may(state.now_ns, takes_back=False):  # else the clock looks again
            amend = Amend(order, Quote(half.side, price, lots))
            approved = self._risk.approve_amend(amend, desk.sight, leaning)
            if approved is None:
                self._ask_risk(desk, half, amend)  # which says why not
            else:
                half.blocked = ""
                self._send(desk, half, approved)

    def _plan_side(self, desk: Desk, half: DeskSide, top: tuple[int, int], live: list[OwnOrder]) -> None:
        """The same whatever stands there, all of it working, and however little room there is."""
        state = self._state
        wanted, cap_lots = self._fit(desk, half, top, live)
        tolerance = desk.tolerance(wanted.price_ticks if wanted is not None else top[0])
        if wanted is not None and wanted.qty_lots > desk.policy.max_lots:
            pieces = split(wanted, desk.policy.max_lots, desk.pieces_max)
            actions = plan_pieces(pieces, cap_lots, live, tolerance, state.now_ns)
        else:
            actions = plan_side(wanted, cap_lots, live, tolerance, state.now_ns)
        if not actions:
            if wanted is not None and len(live) == 1 and is_near_enough(live[0], wanted, cap_lots, tolerance):
                desk.kept(half, live[0], tolerance.price_ticks - abs(live[0].price_ticks - wanted.price_ticks))
            else:
                desk.slack_ticks = 0
            if wanted is not None and live:
                half.blocked = ""
            return
        desk.slack_ticks = 0
        for action in actions:
            if isinstance(action, Cancel):
                self._cancel(action.order)
            elif isinstance(action, Amend):
                takes_back = action.order.remaining_lots > cap_lots
                if state.amend_pace.may(state.now_ns, takes_back=takes_back):  # else the clock looks again
                    self._ask_risk(desk, half, action)
            elif state.orders.active(desk.symbol) < desk.parameters.max_active_orders:
                adjusted = half.price_ticks is not None and half.price_ticks != half.asked_ticks
                self._ask_risk(desk, half, Place(action.quote, adjusted))

    def _cancel_unwanted(self, live: list[OwnOrder]) -> None:
        """Orders that came back after their end, or that the venue did not show: out of the way before quoting on."""
        for order in live:
            if order.unwanted and order.state in CANCELLABLE:
                send_cancel(self._state, order)

    def _fit(self, desk: Desk, half: DeskSide, top: tuple[int, int], live: list[OwnOrder]) -> tuple[Quote | None, int]:
        """The wanted quote brought into the room that risk leaves, and the most that may be open on this side."""
        if half.price_ticks is None:
            held_back = desk.policy.shape(Quote(half.side, half.asked_ticks, half.qty_lots), top)
            assert isinstance(held_back, Blocked)  # noqa: S101 - told to the type checker; a test holds that both agree
            self._block(desk, half, held_back)
            return None, 0
        quote = Quote(half.side, half.price_ticks, half.qty_lots)
        standing = self._standing(desk, live, half)
        fresh = self._risk.room(standing, half.side, quote.price_ticks, NEW_SHARE_PCT)
        open_lots = 0
        for order in live:
            open_lots += order.remaining_lots
        if fresh.lots >= quote.qty_lots and fresh.lots >= open_lots:
            return quote, fresh.lots
        room = self._risk.room(standing, half.side, quote.price_ticks)
        lots = min(quote.qty_lots, max(fresh.lots, min(open_lots, room.lots)))
        if lots < desk.policy.min_lots(quote.price_ticks):
            number = self._risk.number(standing, half.side, quote.price_ticks, room.limit, quote.qty_lots)
            self._refuse(desk, half, quote, number)
            return None, 0
        return Quote(half.side, quote.price_ticks, lots), room.lots

    # ---- orders out ----

    def _ask_risk(self, desk: Desk, half: DeskSide, action: Place | Amend) -> None:
        changed = action.order if isinstance(action, Amend) else None
        standing = self._standing(desk, [] if changed is None else [changed], half)
        answer = self._risk.approve(action, standing, self._permission(desk))
        if isinstance(answer, Refusal):
            self._refuse(desk, half, action.quote, answer.number)
            if changed is not None:
                self._cancel(changed)
            return
        half.blocked = ""
        self._send(desk, half, answer)

    def _send(self, desk: Desk, half: DeskSide, approved: Approved) -> None:
        """The last look before an order leaves: against the newest book there is."""
        action, top = approved.action, desk.book.top
        quote = action.quote
        if top is None or crosses_ticks(quote.side, quote.price_ticks, top):
            price = desk.instrument.price(quote.price_ticks)
            self._block(desk, half, Blocked(quote, "cross_price", price, price))
            return
        half.planned_ticks, half.planned_lots = quote.price_ticks, quote.qty_lots
        if isinstance(action, Place):
            self._place(desk.symbol, action)
        else:
            self._amend(action.order, quote)

    def _place(self, symbol: str, action: Place) -> None:
        state, quote = self._state, action.quote
        state.sequence += 1
        client_order_id = f"{QUOTE_PREFIX}-{state.epoch}-{state.sequence}"
        now = state.now_ns
        state.orders.add(
            OwnOrder(client_order_id, symbol, quote.side, quote.price_ticks, quote.qty_lots, state.epoch, now, now, now)
        )
        state.order_rate.spend(now)
        state.due_ns = 0  # rates are looked at, and an answer is waited for
        state.counters.add("mm_orders_placed_total", symbol, quote.side.value)
        if action.adjusted:
            state.counters.add("mm_post_only_adjustments_total", symbol, quote.side.value)
        state.emit(PlaceOrder(now, client_order_id, symbol, quote.side, quote.price_ticks, quote.qty_lots, state.epoch))
        state.note("INFO", "order_placed", **_terms(client_order_id, symbol, quote))

    def _amend(self, order: OwnOrder, quote: Quote) -> None:
        state, now = self._state, self._state.now_ns
        filled_lots = order.executed_lots if order.executed_lots > order.reported_lots else order.reported_lots
        price, total_lots = quote.price_ticks, quote.qty_lots + filled_lots
        state.orders.amend(order, price, total_lots, now)
        state.amend_pace.spend(now)
        state.due_by(now + state.ack_ns)
        name, symbol = order.client_order_id, order.symbol
        state.out += (
            AmendOrder(now, name, symbol, price, total_lots, state.epoch, order.next_key("a")),
            Note(now, "INFO", "order_amended", _terms(name, symbol, quote)),
        )

    def _cancel(self, order: OwnOrder) -> None:
        """A cancel of the plan: inside its budget, or not at all."""
        state = self._state
        if state.cancel_budget.may_plan(state.now_ns):
            send_cancel(state, order)
        elif state.cancel_budget.refuse(state.now_ns):
            state.counters.add("mm_limit_breaches_total", "cancel_budget")

    # ---- what risk is shown ----

    def _limits(self, desk: Desk) -> Limits:
        """Whole numbers of the limits as grant, ceilings and leverage leave them; made anew only when one changed."""
        state = self._state
        if desk.limits is None or desk.limits_version != state.limits_version:
            total, name, leverage = state.total_max_quote, "total", state.leverage_quote
            if leverage is not None and leverage < total:
                total, name = leverage, "leverage"
            inventory = state.position_max_quote(desk.symbol)
            desk.limits = limits_of(desk.parameters, desk.instrument, inventory, total, name)
            desk.limits_version = state.limits_version
        return desk.limits

    def _left_units2(self, desk: Desk) -> tuple[int, int]:
        """What the tighter of inventory and total leaves this symbol, other symbols at their worst case."""
        limits = self._limits(desk)
        if self._alone:
            return limits.fresh_units2, limits.room_units2
        return limits.left_units2(self._state.exposure.others_pico(desk.symbol))

    def _standing(self, desk: Desk, without: list[OwnOrder], half: DeskSide) -> Standing:
        """As it would be without these orders, all of that side."""
        state, orders = self._state, desk.orders
        buys, sells = orders.buys_lots, orders.sells_lots
        for order in without:
            if half.is_buy:
                buys -= order.counted_lots
            else:
                sells -= order.counted_lots
        mid2 = state.last_mid2[desk.symbol]
        return Standing(
            self._limits(desk),
            desk.account.position_lots,
            buys,
            sells,
            len(orders.buys) + len(orders.sells),
            mid2,
            self._mark2(desk.symbol, mid2),
            0 if self._alone else state.exposure.others_pico(desk.symbol),
            state.exposure.others_open(desk.symbol) if desk.parameters.max_open_positions is not None else 0,
        )

    def _mark2(self, symbol: str, mid2: int) -> int:
        """The collar's mark: the last public trade while it is young enough, else mid. Twice, as mid is."""
        trade = self._state.last_trade.get(symbol)
        if trade is None or self._state.now_ns - trade[1] > self._mark_max_age_ns:
            return mid2
        return 2 * trade[0]

    def _permission(self, desk: Desk) -> Permission:
        state = self._state
        edge_ubps = desk.earning.edge_ubps(state.now_ns)
        return Permission(
            state.ready and not state.stops.any,
            state.has_grant,
            UBPS_ONE if edge_ubps is None else edge_ubps,
            state.thresholds.held[desk.symbol].edge_ubps,
            state.order_rate.room(state.now_ns),
            state.barred,
        )

    # ---- what was held back: counted once per decision, not once per look ----

    def _block(self, desk: Desk, half: DeskSide, blocked: Blocked) -> None:
        if self._is_news(half, blocked.reason):
            self._state.counters.add("mm_orders_blocked_total", desk.symbol, blocked.reason)
            reason, value, required = blocked.reason, blocked.value, blocked.required
            self._note_blocked("order_blocked", desk.symbol, blocked.quote, reason, value, required)

    def _refuse(self, desk: Desk, half: DeskSide, quote: Quote, number: RiskNumber) -> None:
        if self._is_news(half, number.limit):
            self._state.counters.add("mm_orders_blocked_total", desk.symbol, "risk_limit")
            self._state.counters.add("mm_limit_breaches_total", number.limit)
            self._note_blocked("risk_check_blocked", desk.symbol, quote, number.limit, number.value, number.allowed)

    @staticmethod
    def _is_news(half: DeskSide, reason: str) -> bool:
        news = half.blocked != reason
        half.blocked = reason
        return news

    def _note_blocked(self, event: str, symbol: str, quote: Quote, reason: str, value: Decimal, limit: Decimal) -> None:
        """`order_blocked` and `risk_check_blocked` carry the number that decided and what was allowed."""
        self._state.note(
            "INFO", event, symbol=symbol, side=quote.side.value, qty_lots=quote.qty_lots,
            price_ticks=quote.price_ticks, reason=reason, value=str(value), limit=str(limit),
        )  # fmt: skip


def _terms(client_order_id: str, symbol: str, quote: Quote) -> dict[str, str | int | float | bool]:
    return {
        "client_order_id": client_order_id,
        "symbol": symbol,
        "side": "buy" if quote.side is _BUY else "sell",
        "price_ticks": quote.price_ticks,
        "qty_lots": quote.qty_lots,
    }
