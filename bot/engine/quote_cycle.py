"""One look at one symbol: strategy → maker policy → risk → plan → approved orders out.

It runs on every change of the top of the book, of our orders or of the position, and on every turn of the clock; but
not where the top is inside the band in which nothing can have to be done (`bot.engine.desk`), save for the clock.
"""

from __future__ import annotations

from decimal import Decimal

from bot.domain.instrument import Instrument
from bot.domain.intent import AmendOrder, PlaceOrder, RiskNumber
from bot.domain.order import OrderHappening, OrderState, Side
from bot.engine.desk import Desk
from bot.engine.maker_policy import Blocked, crosses_ticks
from bot.engine.order_plan import Amend, Cancel, Place, plan_pieces, plan_side, split
from bot.engine.orders import OwnOrder
from bot.engine.parameters import NS_PER_S, QUOTE_PREFIX, UBPS, UBPS_ONE
from bot.engine.performance import Performance
from bot.engine.quoting import Market, Quote, half_spread_ubps
from bot.engine.risk import Approved, Limits, Permission, Refusal, Risk, Standing, limits_of
from bot.engine.state import State
from bot.engine.stopping import CANCELLABLE, Stopping, send_cancel

_NEW_SHARE_PCT = 98
"""New size is fitted into this share of a limit, so that a small move of the mark makes nothing shrink again."""


class QuoteCycle:
    """Keeps the quotes of all symbols as they should be."""

    def __init__(self, state: State, stopping: Stopping, performance: Performance) -> None:
        self._state = state
        self._stopping = stopping
        self._performance = performance
        self._risk = Risk(state.parameters)
        self._desks: dict[str, Desk] = {}

    def learn(self, instrument: Instrument) -> None:
        """Filters of a symbol are known (again)."""
        self._desks[instrument.symbol] = Desk(self._state.own[instrument.symbol], instrument)
        self._state.orders.touch(instrument.symbol)

    def knows(self, symbol: str) -> bool:
        """Whether its filters can be quoted by."""
        return symbol in self._desks

    def block(self, symbol: str) -> None:
        """Its filters are in doubt: nothing is quoted there until they are learned anew, and what stands goes."""
        state = self._state
        if self._desks.pop(symbol, None) is not None:
            state.note("WARNING", "symbol_blocked", symbol=symbol, reason="filters")
        for order in list(state.orders.live(symbol)):
            order.unwanted = True
            if order.state in CANCELLABLE:
                send_cancel(state, order)

    def tick(self) -> None:
        """A turn of the clock: volatility takes its samples, and every symbol is looked at."""
        state = self._state
        for symbol, desk in self._desks.items():
            top = state.books[symbol].top
            if top is not None:
                desk.volatility.sample(top[0] + top[1], state.now_ns)
        for symbol in state.parameters.symbols:
            if not self._settled(symbol):
                self.look(symbol, unchanged_too=True)

    def _settled(self, symbol: str) -> bool:
        """Whether a look would find what the last one found: both sides near enough, and nothing else to go by.

        Of all that a look goes by only the edge changes with time alone.
        """
        state, desk = self._state, self._desks.get(symbol)
        if desk is None:
            return False
        if (desk.settled_for is None or desk.settled_for != self._given(desk)) and not self._as_planned(desk):
            return False
        edge_ubps = self._performance.edge_ubps(symbol, state.now_ns)
        return edge_ubps is not None and edge_ubps >= state.thresholds.held[symbol].edge_ubps and state.may_quote()

    def _given(self, desk: Desk) -> object:
        """All that decides whether a quote is near enough, but time; None where other symbols have a say as well."""
        state, symbol = self._state, desk.symbol
        if len(state.parameters.symbols) > 1:
            return None
        version = state.orders.version[symbol]
        return (state.books[symbol].top, version, desk.variance_ubps2, state.limits_version)

    def _planning(self, desk: Desk) -> object:
        """All that decides what is wanted of both sides, but our own orders; None as in `_given`."""
        state, symbol = self._state, desk.symbol
        if len(state.parameters.symbols) > 1:
            return None
        position = state.ledger.accounts[symbol].position_lots
        return (state.books[symbol].top, position, desk.variance_ubps2, state.limits_version)

    def _as_planned(self, desk: Desk) -> bool:
        """Whether the last look's plan stands and our orders are on their way to it or there: nothing is to do.

        So a confirmation of what was asked for needs no look of its own.
        """
        if desk.planned_for is None or desk.planned_for != self._planning(desk):
            return False
        state, sides = self._state, 0
        for order in state.orders.live(desk.symbol):
            planned = desk.planned.get(order.side)
            if planned is None or order.unwanted:
                return False
            if order.state is OrderState.WORKING and planned != (order.price_ticks, order.remaining_lots):
                return False
            sides += 1
        if sides != len(desk.planned) or state.orders.owing(desk.symbol):
            return False
        desk.version = state.orders.version[desk.symbol]  # seen
        return True

    def look(self, symbol: str, *, unchanged_too: bool) -> None:
        """Re-decide one symbol. With `unchanged_too` false, only where something can have to be done."""
        state = self._state
        top, desk = state.books[symbol].top, self._desks.get(symbol)
        if top is None or desk is None:
            return
        version = state.orders.version[symbol]
        if not unchanged_too and (
            (top == desk.top and version == desk.version) or desk.inside_band(top, version) or self._as_planned(desk)
        ):
            return
        desk.begin_look()
        bid, ask = self._shape(desk, top)
        desk.top, desk.version = top, version
        if not state.may_quote():
            return
        edge_ubps = self._performance.edge_ubps(symbol, state.now_ns)
        if edge_ubps is not None and edge_ubps < state.thresholds.held[symbol].edge_ubps:
            self._stopping.enter("edge_below_threshold", f"{symbol} {Decimal(edge_ubps) / UBPS:.3f} bps")
            state.counters.add("mm_limit_breaches_total", "edge")
            return
        sides = ((Side.BUY, bid), (Side.SELL, ask))
        first, second = sides[::-1] if self._sell_waited_longer(symbol) else sides
        self._side(desk, *first, top)
        if not state.stops.any:
            self._side(desk, *second, top)
            desk.end_look(top, state.orders.version[symbol])
            desk.settled_for = self._given(desk) if desk.slack_ticks > 0 else None
            desk.planned_for = self._planning(desk) if len(desk.planned) == len(sides) else None

    def _sell_waited_longer(self, symbol: str) -> bool:
        """Whether the sell side goes first: it does where one amend is left and its quote is the older one."""
        state = self._state
        if not state.amend_pace.is_last(state.now_ns):
            return False
        buys, sells = (
            min((order.amended_at_ns for order in state.orders.live_on(symbol, side)), default=0) for side in Side
        )
        return 0 < sells < buys

    def _shape(self, desk: Desk, top: tuple[int, int]) -> tuple[Place | Blocked | None, Place | Blocked | None]:
        """What the policy makes of the strategy's quotes, buy and sell; together they say what we would earn."""
        position = self._state.ledger.accounts[desk.symbol].position_lots
        variance = desk.variance_ubps2
        question = (top, position, variance)
        if question == desk.shaped_for:
            return desk.shaped
        market = Market(top[0], top[1], top[0] + top[1], position, variance)
        bid: Place | Blocked | None = None
        ask: Place | Blocked | None = None
        for quote in desk.strategy.quotes(market):
            result = desk.policy.shape(quote, top)
            shaped = result if isinstance(result, Blocked) else Place(result.quote, result.adjusted)
            if quote.side is Side.BUY:
                bid = shaped
            else:
                ask = shaped
        if isinstance(bid, Place) and isinstance(ask, Place):
            half = half_spread_ubps(bid.quote.price_ticks, ask.quote.price_ticks)
            self._performance.half_spread_ubps[desk.symbol] = half
        desk.shaped_for, desk.shaped = question, (bid, ask)
        return desk.shaped

    def _side(self, desk: Desk, side: Side, shaped: Place | Blocked | None, top: tuple[int, int]) -> None:
        state, symbol = self._state, desk.symbol
        live = state.orders.live_on(symbol, side)
        if state.now_ns < state.back_off[(symbol, side)].until_ns:
            desk.slack_ticks = 0
            return
        for order in live:
            if order.unwanted:
                desk.slack_ticks = 0
                self._cancel_unwanted(live)
                return
        for order in live:
            if order.state is not OrderState.WORKING:  # the plan would wait for it: nothing to work out
                desk.slack_ticks = 0
                return
        wanted, cap_lots, standing = self._fitted(desk, side, shaped, live)
        tolerance = desk.tolerance(wanted.price_ticks if wanted is not None else top[0])
        if wanted is not None and wanted.qty_lots > desk.policy.max_lots:
            pieces = split(wanted, desk.policy.max_lots, desk.pieces_max)
            actions = plan_pieces(pieces, cap_lots, live, tolerance, state.now_ns)
        else:
            actions = plan_side(wanted, cap_lots, live, tolerance, state.now_ns)
        if not actions:
            desk.kept(live, wanted, cap_lots, tolerance)
            if wanted is not None and live:
                desk.blocked.pop(side, None)
            return
        desk.slack_ticks = 0
        for action in actions:
            if isinstance(action, Cancel):
                self._cancel(action.order)
            elif isinstance(action, Amend):
                takes_back = action.order.remaining_lots > cap_lots
                if state.amend_pace.may(state.now_ns, takes_back=takes_back):  # else the clock looks again
                    self._ask_risk(desk, action, standing if len(live) == 1 else None)
            elif state.orders.active(symbol) < desk.parameters.max_active_orders:
                adjusted = isinstance(shaped, Place) and shaped.adjusted
                known = standing if not live and len(actions) == 1 else None
                self._ask_risk(desk, action._replace(adjusted=adjusted), known)

    def _cancel_unwanted(self, live: list[OwnOrder]) -> None:
        """Orders that came back after their end, or that the venue did not show: out of the way before quoting on."""
        for order in live:
            if order.unwanted and order.state in CANCELLABLE:
                send_cancel(self._state, order)

    def _fitted(
        self, desk: Desk, side: Side, shaped: Place | Blocked | None, live: list[OwnOrder]
    ) -> tuple[Quote | None, int, Standing | None]:
        """As `_fit`, but not worked out again while nothing that it goes by has changed.

        Looks come with every confirmation and turn of the clock; most find the market and the room as they were.
        """
        state, symbol = self._state, desk.symbol
        if not isinstance(shaped, Place):
            return self._fit(desk, side, shaped, live)
        exposed = state.orders.exposed_lots(symbol)[0 if side is Side.BUY else 1]
        open_lots = 0
        for order in live:
            open_lots += order.remaining_lots
            exposed -= order.exposed_lots
        others = state.exposure.others_pico(symbol) if len(state.parameters.symbols) > 1 else 0
        question = (
            shaped.quote, state.ledger.accounts[symbol].position_lots, exposed, open_lots, state.last_mid2[symbol],
            state.limits_version, others,
        )  # fmt: skip
        known = desk.fitted.get(side)
        if known is not None and known[0] == question:
            return *known[1], None
        wanted, cap_lots, standing = self._fit(desk, side, shaped, live)
        if wanted is not None:  # what is refused is refused anew each time: it is told when it becomes news
            desk.fitted[side] = (question, (wanted, cap_lots))
        return wanted, cap_lots, standing

    def _fit(
        self, desk: Desk, side: Side, shaped: Place | Blocked | None, live: list[OwnOrder]
    ) -> tuple[Quote | None, int, Standing | None]:
        """The wanted quote brought into the room that risk leaves, and the most that may be open on this side.

        Also what risk was shown: everything without the live orders of that side.
        """
        if shaped is None:
            return None, 0, None
        if isinstance(shaped, Blocked):
            self._block(desk, shaped)
            return None, 0, None
        quote = shaped.quote
        standing = self._standing(desk, live, side)
        fresh = self._risk.room(standing, side, quote.price_ticks, _NEW_SHARE_PCT)
        open_lots = 0
        for order in live:
            open_lots += order.remaining_lots
        if fresh.lots >= quote.qty_lots and fresh.lots >= open_lots:
            return quote, fresh.lots, standing
        room = self._risk.room(standing, side, quote.price_ticks)
        lots = min(quote.qty_lots, max(fresh.lots, min(open_lots, room.lots)))
        if lots < desk.policy.min_lots(quote.price_ticks):
            number = self._risk.number(standing, side, quote.price_ticks, room.limit, quote.qty_lots)
            self._refuse(desk, quote, number)
            return None, 0, None
        return quote if lots == quote.qty_lots else quote._replace(qty_lots=lots), room.lots, standing

    def _ask_risk(self, desk: Desk, action: Place | Amend, standing: Standing | None) -> None:
        """`standing`: as risk was shown it a moment ago, where nothing has changed since."""
        changed = action.order if isinstance(action, Amend) else None
        if standing is None:
            standing = self._standing(desk, [] if changed is None else [changed], action.quote.side)
        answer = self._risk.approve(action, standing, self._permission(desk.symbol))
        if isinstance(answer, Refusal):
            self._refuse(desk, action.quote, answer.number)
            if changed is not None:
                self._cancel(changed)
            return
        desk.blocked.pop(action.quote.side, None)
        self._send(desk, answer)

    def _send(self, desk: Desk, approved: Approved) -> None:
        """The last look before an order leaves: against the newest book there is."""
        state, action, symbol = self._state, approved.action, desk.symbol
        quote, top = action.quote, state.books[symbol].top
        if top is None or crosses_ticks(quote.side, quote.price_ticks, top):
            price = state.instruments[symbol].price(quote.price_ticks)
            self._block(desk, Blocked(quote, "cross_price", price, price))
        elif isinstance(action, Place):
            desk.planned[quote.side] = (quote.price_ticks, quote.qty_lots)
            self._place(symbol, action)
        else:
            desk.planned[quote.side] = (quote.price_ticks, quote.qty_lots)
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
        state.counters.add("mm_orders_placed_total", symbol, quote.side.value)
        if action.adjusted:
            state.counters.add("mm_post_only_adjustments_total", symbol, quote.side.value)
        state.emit(PlaceOrder(now, client_order_id, symbol, quote.side, quote.price_ticks, quote.qty_lots, state.epoch))
        state.note("INFO", "order_placed", **_terms(client_order_id, symbol, quote))

    def _amend(self, order: OwnOrder, quote: Quote) -> None:
        state = self._state
        total_lots = quote.qty_lots + max(order.executed_lots, order.reported_lots)
        state.orders.happen(order, OrderHappening.AMEND_SENT, state.now_ns)
        order.pending_price_ticks, order.pending_qty_lots = quote.price_ticks, total_lots
        order.sent_at_ns = order.amended_at_ns = state.now_ns
        order.answered_at_ns = None
        state.orders.recount(order)
        state.amend_pace.spend(state.now_ns)
        name, key = order.client_order_id, order.next_key("a")
        state.emit(AmendOrder(state.now_ns, name, order.symbol, quote.price_ticks, total_lots, state.epoch, key))
        state.note("INFO", "order_amended", **_terms(order.client_order_id, order.symbol, quote))

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

    def _standing(self, desk: Desk, without: list[OwnOrder], side: Side) -> Standing:
        """As it would be without these orders, all of that side."""
        state, symbol = self._state, desk.symbol
        buys, sells = state.orders.exposed_lots(symbol)
        for order in without:
            if side is Side.BUY:
                buys -= order.exposed_lots
            else:
                sells -= order.exposed_lots
        mid2 = state.last_mid2[symbol]
        others = state.exposure.others_pico(symbol) if len(state.parameters.symbols) > 1 else 0
        return Standing(
            self._limits(desk),
            state.ledger.accounts[symbol].position_lots,
            buys,
            sells,
            state.orders.active(symbol),
            mid2,
            self._mark2(symbol, mid2),
            others,
            state.exposure.others_open(symbol) if desk.parameters.max_open_positions is not None else 0,
        )

    def _mark2(self, symbol: str, mid2: int) -> int:
        """The collar's mark: the last public trade while it is young enough, else mid. Twice, as mid is."""
        trade = self._state.last_trade.get(symbol)
        if trade is None or self._state.now_ns - trade[1] > self._state.parameters.mark_max_age_s * NS_PER_S:
            return mid2
        return 2 * trade[0]

    def _permission(self, symbol: str) -> Permission:
        state = self._state
        edge_ubps = self._performance.edge_ubps(symbol, state.now_ns)
        return Permission(
            state.ready and not state.stops.any,
            state.has_grant,
            UBPS_ONE if edge_ubps is None else edge_ubps,
            state.thresholds.held[symbol].edge_ubps,
            state.order_rate.room(state.now_ns),
            state.barred,
        )

    # ---- what was held back: counted once per decision, not once per look ----

    def _block(self, desk: Desk, blocked: Blocked) -> None:
        if self._is_news(desk, blocked.quote.side, blocked.reason):
            self._state.counters.add("mm_orders_blocked_total", desk.symbol, blocked.reason)
            reason, value, required = blocked.reason, blocked.value, blocked.required
            self._note_blocked("order_blocked", desk, blocked.quote, reason, value, required)

    def _refuse(self, desk: Desk, quote: Quote, number: RiskNumber) -> None:
        if self._is_news(desk, quote.side, number.limit):
            self._state.counters.add("mm_orders_blocked_total", desk.symbol, "risk_limit")
            self._state.counters.add("mm_limit_breaches_total", number.limit)
            self._note_blocked("risk_check_blocked", desk, quote, number.limit, number.value, number.allowed)

    @staticmethod
    def _is_news(desk: Desk, side: Side, reason: str) -> bool:
        news = desk.blocked.get(side) != reason
        desk.blocked[side] = reason
        return news

    def _note_blocked(self, event: str, desk: Desk, quote: Quote, reason: str, value: Decimal, limit: Decimal) -> None:
        """Which order, the number that decided and what was allowed: the one that stands there, or would have come."""
        state, symbol, side = self._state, desk.symbol, quote.side
        live = state.orders.live_on(symbol, side)
        name = live[0].client_order_id if live else f"{QUOTE_PREFIX}-{state.epoch}-{state.sequence + 1}"
        fields: dict[str, str | int | float | bool] = {
            "client_order_id": name, "symbol": symbol, "side": side.value,
            "qty": str(desk.instrument.qty(quote.qty_lots)), "price": str(desk.instrument.price(quote.price_ticks)),
            "reason": reason, "value": str(value),
        }  # fmt: skip
        state.note("INFO", event, **fields, **{"min_qty_required" if reason == "min_qty" else "limit": str(limit)})


def _terms(client_order_id: str, symbol: str, quote: Quote) -> dict[str, str | int | float | bool]:
    return {
        "client_order_id": client_order_id,
        "symbol": symbol,
        "side": quote.side.value,
        "price_ticks": quote.price_ticks,
        "qty_lots": quote.qty_lots,
    }
