"""One look at one symbol: strategy → maker policy → risk → plan → approved orders out.

It runs on every change of the top of the book, of our orders or of the position, and on every turn of the clock.
"""

from __future__ import annotations

from decimal import Decimal

from bot.domain.instrument import Instrument
from bot.domain.intent import AmendOrder, PlaceOrder, RiskNumber
from bot.domain.order import OrderHappening, OrderState, Side
from bot.engine.maker_policy import Blocked, MakerPolicy, crosses_ticks
from bot.engine.order_plan import Amend, Cancel, Place, Tolerance, is_near_enough, plan_side
from bot.engine.orders import OwnOrder
from bot.engine.parameters import NS_PER_MS, NS_PER_S, QUOTE_PREFIX, UBPS_ONE, ubps
from bot.engine.performance import Performance
from bot.engine.quoting import Market, Quote, SpreadAndSkew, Strategy, half_spread_ubps
from bot.engine.risk import Approved, Permission, Refusal, Risk, Standing, worst_quote
from bot.engine.state import State
from bot.engine.stopping import Stopping, send_cancel

_SIDES = (Side.BUY, Side.SELL)
_ZERO = Decimal(0)
_NEW_SHARE_PCT = 98
"""New size is fitted into this share of a limit, so that a small move of the mark makes nothing shrink again."""


class QuoteCycle:
    """Keeps the quotes of all symbols as they should be."""

    def __init__(self, state: State, stopping: Stopping, performance: Performance) -> None:
        self._state = state
        self._stopping = stopping
        self._performance = performance
        self._risk = Risk(state.parameters)
        self._strategies: dict[str, Strategy] = {}
        self._policies: dict[str, MakerPolicy] = {}
        self._looked: dict[str, tuple[int, int, int]] = {}
        self._quiet: dict[str, tuple[object, ...]] = {}
        """symbol → all that the last look decided by, where it left both quotes as they stood and nothing waits"""
        self._blocked: dict[tuple[str, Side], str] = {}
        self._tolerance_ubps = ubps(state.parameters.requote_tolerance_bps)
        self._edge_threshold_ubps = ubps(state.parameters.edge_threshold_bps)
        self._requote_qty_pct = int(state.parameters.requote_qty_tolerance_pct)

    def learn(self, instrument: Instrument) -> None:
        """Filters of a symbol are known (again)."""
        parameters = self._state.parameters
        self._quiet.pop(instrument.symbol, None)
        self._strategies[instrument.symbol] = SpreadAndSkew(parameters, instrument)
        self._policies[instrument.symbol] = MakerPolicy(
            instrument,
            ubps(parameters.post_only_offset_bps),
            parameters.min_qty_pad,
            enabled=parameters.maker_only,
        )

    def look(self, symbol: str, *, unchanged_too: bool) -> None:
        """Re-decide one symbol. With `unchanged_too` false, only where top or orders changed since the last look."""
        state = self._state
        top, strategy = state.books[symbol].top, self._strategies.get(symbol)
        if top is None or strategy is None:
            return
        seen = (*top, state.orders.version[symbol])
        if not unchanged_too and self._looked.get(symbol) == seen:
            return
        self._looked[symbol] = seen
        if self._quiet and self._quiet.get(symbol) == self._decided_by(symbol, seen) and not self._low(symbol):
            return  # the same again would keep the same quotes: no back-off and no interval ends with time
        quotes = self._shape(symbol, strategy, top)
        self._quiet.pop(symbol, None)
        if not state.may_quote():
            return
        edge_ubps = self._performance.edge_ubps(symbol, state.now_ns)
        if edge_ubps is not None and edge_ubps < self._edge_threshold_ubps:
            self._stopping.enter("edge_below_threshold", f"{symbol} {edge_ubps / 1_000_000:.3f} bps")
            state.counters.add("mm_limit_breaches_total", "edge")
            return
        quiet = len(state.parameters.symbols) == 1  # with others, room depends on their prices too
        for side in _SIDES:
            if not state.may_quote():
                return
            quiet = self._side(symbol, side, quotes.get(side), top) and quiet
        self._looked[symbol] = seen = (*top, state.orders.version[symbol])
        if quiet:
            self._quiet[symbol] = self._decided_by(symbol, seen)

    def _decided_by(self, symbol: str, seen: tuple[int, int, int]) -> tuple[object, ...]:
        """Everything besides the time that a look at a symbol with two standing quotes depends on."""
        state = self._state
        position = state.ledger.accounts[symbol].position_lots
        return (*seen, position, state.inventory_max_quote, state.total_max_quote, state.may_quote())

    def _low(self, symbol: str) -> bool:
        edge_ubps = self._performance.edge_ubps(symbol, self._state.now_ns)
        return edge_ubps is not None and edge_ubps < self._edge_threshold_ubps

    def _shape(self, symbol: str, strategy: Strategy, top: tuple[int, int]) -> dict[Side, Place | Blocked]:
        """What the policy makes of the strategy's quotes; both together say what we would earn."""
        position = self._state.ledger.accounts[symbol].position_lots
        market = Market(top[0], top[1], top[0] + top[1], position)
        shaped: dict[Side, Place | Blocked] = {}
        for quote in strategy.quotes(market):
            result = self._policies[symbol].shape(quote, top)
            shaped[quote.side] = result if isinstance(result, Blocked) else Place(result.quote, result.adjusted)
        bid, ask = shaped.get(Side.BUY), shaped.get(Side.SELL)
        if isinstance(bid, Place) and isinstance(ask, Place):
            half = half_spread_ubps(bid.quote.price_ticks, ask.quote.price_ticks)
            self._performance.half_spread_ubps[symbol] = half
        return shaped

    def _side(self, symbol: str, side: Side, shaped: Place | Blocked | None, top: tuple[int, int]) -> bool:
        """Bring one side to what is wanted. True where its quote stands near enough: then only a change changes it."""
        state = self._state
        live = state.orders.live_on(symbol, side)
        if state.now_ns < state.back_off[(symbol, side)].until_ns:
            return False
        wanted, cap_lots = self._fit(symbol, side, shaped, live)
        price = wanted.price_ticks if wanted is not None else top[0]
        tolerance = Tolerance(
            max(state.parameters.requote_tolerance_ticks, price * self._tolerance_ubps // UBPS_ONE),
            self._requote_qty_pct,
            state.parameters.requote_interval_ms * NS_PER_MS,
        )
        actions = plan_side(wanted, cap_lots, live, tolerance, state.now_ns)
        if wanted is not None and live and not actions:
            self._blocked.pop((symbol, side), None)
            return live[0].state is OrderState.WORKING and is_near_enough(live[0], wanted, cap_lots, tolerance)
        for action in actions:
            if isinstance(action, Cancel):
                self._cancel(action.order)
            elif isinstance(action, Amend) or state.orders.active(symbol) < state.parameters.max_active_orders:
                adjusted = isinstance(shaped, Place) and shaped.adjusted
                self._ask_risk(symbol, action._replace(adjusted=adjusted) if isinstance(action, Place) else action)
        return False

    def _fit(
        self, symbol: str, side: Side, shaped: Place | Blocked | None, live: list[OwnOrder]
    ) -> tuple[Quote | None, int]:
        """The wanted quote brought into the room that risk leaves, and the most that may be open on this side."""
        if shaped is None:
            return None, 0
        if isinstance(shaped, Blocked):
            self._block(symbol, shaped)
            return None, 0
        quote = shaped.quote
        standing = self._standing(symbol, live[0] if len(live) == 1 else None)
        room = self._risk.room(standing, side, quote.price_ticks)
        fresh = self._risk.room(standing, side, quote.price_ticks, _NEW_SHARE_PCT)
        standing_lots = live[0].remaining_lots if len(live) == 1 else 0
        lots = min(quote.qty_lots, max(fresh.lots, min(standing_lots, room.lots)))
        if lots < self._policies[symbol].min_lots(quote.price_ticks):
            needed = standing.instrument.notional_quote(quote.price_ticks, quote.qty_lots)
            self._refuse(symbol, quote, RiskNumber(room.limit, room.value + needed, room.allowed))
            return None, 0
        return quote._replace(qty_lots=lots), room.lots

    def _ask_risk(self, symbol: str, action: Place | Amend) -> None:
        changed = action.order if isinstance(action, Amend) else None
        answer = self._risk.approve(action, self._standing(symbol, changed), self._permission(symbol))
        if isinstance(answer, Refusal):
            self._refuse(symbol, action.quote, answer.number)
            if changed is not None:
                self._cancel(changed)
            return
        self._blocked.pop((symbol, action.quote.side), None)
        self._send(symbol, answer)

    def _send(self, symbol: str, approved: Approved) -> None:
        """The last look before an order leaves: against the newest book there is."""
        state, action = self._state, approved.action
        quote, top = action.quote, state.books[symbol].top
        if top is None or crosses_ticks(quote.side, quote.price_ticks, top):
            price = state.instruments[symbol].price(quote.price_ticks)
            self._block(symbol, Blocked(quote, "cross_price", price, price))
        elif isinstance(action, Place):
            self._place(symbol, action)
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
        state.emit(
            AmendOrder(state.now_ns, order.client_order_id, order.symbol, quote.price_ticks, total_lots, state.epoch)
        )
        state.note("INFO", "order_amended", **_terms(order.client_order_id, order.symbol, quote))

    def _cancel(self, order: OwnOrder) -> None:
        """A cancel of the plan: inside its budget, or not at all."""
        state = self._state
        if state.cancel_budget.may_plan(state.now_ns):
            send_cancel(state, order)
        elif state.cancel_budget.refuse(state.now_ns):
            state.counters.add("mm_limit_breaches_total", "cancel_budget")

    # ---- what risk is shown ----

    def _standing(self, symbol: str, changed: OwnOrder | None) -> Standing:
        state = self._state
        buys, sells = state.orders.exposed_lots(symbol)
        if changed is not None and changed.side is Side.BUY:
            buys -= changed.exposed_lots
        elif changed is not None:
            sells -= changed.exposed_lots
        mid2 = state.last_mid2[symbol]
        others = _ZERO
        for other in state.parameters.symbols:
            if other != symbol and other in state.instruments and other in state.last_mid2:
                lots = state.ledger.accounts[other].position_lots
                exposed = state.orders.exposed_lots(other)
                others += worst_quote(state.instruments[other], lots, *exposed, state.last_mid2[other])
        return Standing(
            state.instruments[symbol],
            state.ledger.accounts[symbol].position_lots,
            buys,
            sells,
            state.orders.active(symbol),
            mid2,
            self._mark2(symbol, mid2),
            others,
            state.inventory_max_quote,
            state.total_max_quote,
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
            state.order_rate.room(state.now_ns),
        )

    # ---- what was held back: counted once per decision, not once per look ----

    def _block(self, symbol: str, blocked: Blocked) -> None:
        if self._is_news(symbol, blocked.quote.side, blocked.reason):
            self._state.counters.add("mm_orders_blocked_total", symbol, blocked.reason)
            self._note_blocked("order_blocked", symbol, blocked.quote, blocked.reason, blocked.value, blocked.required)

    def _refuse(self, symbol: str, quote: Quote, number: RiskNumber) -> None:
        if self._is_news(symbol, quote.side, number.limit):
            self._state.counters.add("mm_orders_blocked_total", symbol, "risk_limit")
            self._state.counters.add("mm_limit_breaches_total", number.limit)
            self._note_blocked("risk_check_blocked", symbol, quote, number.limit, number.value, number.allowed)

    def _is_news(self, symbol: str, side: Side, reason: str) -> bool:
        news = self._blocked.get((symbol, side)) != reason
        self._blocked[(symbol, side)] = reason
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
        "side": quote.side.value,
        "price_ticks": quote.price_ticks,
        "qty_lots": quote.qty_lots,
    }
