"""From what one side shall be to approved orders out: what risk is shown, what leaves, and what was held back.

An amend inside every limit is approved in whole numbers alone; everything else is put to risk in full, which names the
number that decided.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from bot.domain.book import NO_TICKS
from bot.domain.intent import AmendOrder, Note, PlaceOrder, RiskNumber
from bot.domain.order import QUOTE_PREFIX, Side
from bot.engine.budgets import BREACH
from bot.engine.desk import Desk, DeskSide
from bot.engine.maker_policy import Blocked
from bot.engine.order_plan import Amend, Place
from bot.engine.orders import OwnOrder
from bot.engine.parameters import NS_PER_S, UBPS_ONE
from bot.engine.quoting import Quote
from bot.engine.risk import HELD, NEW_SHARE_PCT, Approved, Limits, Permission, Refusal, Risk, Standing, limits_of
from bot.engine.state import State
from bot.engine.stopping import may_cancel_again, send_cancel

_BUY: Final = Side.BUY
_AMEND_ORDER: Final = AmendOrder
_NOTE: Final = Note


class OrdersOut:
    """Of all symbols. A `DeskSide` is always one of the desk beside it."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._risk = Risk(state.parameters)
        self._alone = len(state.parameters.symbols) == 1
        self._mark_max_age_ns = state.parameters.mark_max_age_s * NS_PER_S

    def fit(self, desk: Desk, half: DeskSide, live: list[OwnOrder]) -> tuple[Quote | None, int]:
        """The wanted quote brought into the room that risk leaves, and the most that may be open on this side."""
        if half.price_ticks == NO_TICKS:
            asked = Quote(half.side, half.asked_ticks, half.qty_lots)
            held_back = desk.policy.shape(asked, (desk.bid_ticks, desk.ask_ticks))
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
            if half.blocked != ("inventory" if room.limit == HELD else room.limit):  # else it was told already
                number = self._risk.number(standing, half.side, quote.price_ticks, room.limit, quote.qty_lots)
                self._refuse(desk, half, quote, number)
            return None, 0
        return Quote(half.side, quote.price_ticks, lots), room.lots

    # ---- orders out ----

    def amend(
        self, desk: Desk, half: DeskSide, order: OwnOrder, price_ticks: int, qty_lots: int, leaning_lots: int
    ) -> None:
        """Amend that side's one working order. `leaning_lots`: how far we lean to that side without it."""
        sight = desk.sight
        if not desk.sighted:
            desk.sighted = True
            state, mid2 = self._state, desk.bid_ticks + desk.ask_ticks
            sight.running = state.now_ns < state.may_quote_until_ns
            sight.barred = state.barred is not None
            sight.edge_ubps = desk.edge_ubps
            sight.edge_min_ubps = desk.held.edge_ubps
            sight.order_units = self.limits(desk).order_units
            sight.room_units2 = desk.room_units2
            sight.mid2_ticks = mid2
            sight.mark2_ticks = self._mark2(desk, mid2)
        approved = self._risk.approve_amend(order, price_ticks, qty_lots, sight, leaning_lots)
        if approved is None:
            self.ask(desk, half, Amend(order, Quote(half.side, price_ticks, qty_lots)))  # which says why not
        else:
            half.blocked = ""
            self._send(desk, half, approved)

    def ask(self, desk: Desk, half: DeskSide, action: Place | Amend) -> None:
        """Put it to risk, and send it or say why not."""
        changed = action.order if isinstance(action, Amend) else None
        standing = self._standing(desk, [] if changed is None else [changed], half)
        answer = self._risk.approve(action, standing, self._permission(desk))
        if isinstance(answer, Refusal):
            self._refuse(desk, half, action.quote, answer.number)
            if changed is not None:
                self.cancel(changed)
            return
        half.blocked = ""
        self._send(desk, half, answer)

    def _send(self, desk: Desk, half: DeskSide, approved: Approved) -> None:
        """The last look before an order leaves: against the newest book there is."""
        book, price_ticks, lots = desk.book, approved.price_ticks, approved.qty_lots
        bid, ask = book.bid_ticks, book.ask_ticks
        if bid == NO_TICKS or (price_ticks >= ask if half.is_buy else price_ticks <= bid):
            # The policy let it pass, and it would take all the same: only a maker's order leaves.
            price = desk.instrument.price(price_ticks)
            touch = price if bid == NO_TICKS else desk.instrument.price(ask if half.is_buy else bid)
            self._block(desk, half, Blocked(Quote(approved.side, price_ticks, lots), "maker_only", price, touch))
            return
        half.planned_ticks = price_ticks
        half.planned_lots = lots
        changed = approved.changed
        if changed is None:
            self._place(desk.symbol, Quote(approved.side, price_ticks, lots), adjusted=approved.adjusted)
        else:
            self._amend(changed, price_ticks, lots)

    def _place(self, symbol: str, quote: Quote, *, adjusted: bool) -> None:
        state = self._state
        state.sequence += 1
        client_order_id = f"{QUOTE_PREFIX}-{state.epoch}-{state.sequence}"
        now = state.now_ns
        order = OwnOrder(
            client_order_id, symbol, quote.side, quote.price_ticks, quote.qty_lots, state.epoch, now, now, now
        )
        state.orders.add(order)
        state.order_rate.spend(now)
        state.due_ns = 0  # rates are looked at, and an answer is waited for
        state.counters.add("mm_orders_placed_total", symbol, quote.side.value)
        if adjusted:
            state.counters.add("mm_post_only_adjustments_total", symbol, quote.side.value)
        state.emit(PlaceOrder(now, client_order_id, symbol, quote.side, quote.price_ticks, quote.qty_lots, state.epoch))
        state.out.append(_NOTE(now, "INFO", "order_placed", order.terms.copy()))

    def _amend(self, order: OwnOrder, price_ticks: int, qty_lots: int) -> None:
        state, now = self._state, self._state.now_ns
        filled_lots, reported_lots = order.executed_lots, order.reported_lots
        if reported_lots > filled_lots:
            filled_lots = reported_lots
        total_lots = qty_lots + filled_lots
        state.orders.amend(order, price_ticks, total_lots, now)
        # objects made once for all that takes them
        at_ns: Any = now
        state.amend_pace.spend(at_ns)
        state.answer_by(now + state.ack_ns)
        price: Any = price_ticks
        terms = order.terms.copy()
        terms["price_ticks"] = price
        terms["qty_lots"] = qty_lots
        name, symbol, out = order.client_order_id, order.symbol, state.out
        out.append(_AMEND_ORDER(at_ns, name, symbol, price, total_lots, state.epoch, order.next_amend_key()))
        out.append(_NOTE(at_ns, "INFO", "order_amended", terms))

    def cancel(self, order: OwnOrder) -> None:
        """A cancel of the plan: inside its budget, or not at all. Tried at once again, one would spend all of it."""
        state = self._state
        if not may_cancel_again(state, order):
            return
        if state.cancel_budget.may_plan(state.now_ns):
            send_cancel(state, order)
        elif state.cancel_budget.refuse(state.now_ns):
            state.due_ns = 0  # it may be the one that halts
            state.counters.add("mm_limit_breaches_total", "cancel_budget")
            allowed = state.parameters.cancel_budget_per_min - state.parameters.cancel_budget_reserve
            state.note("WARNING", BREACH, client_order_id=order.client_order_id, symbol=order.symbol, allowed=allowed)

    # ---- what risk is shown ----

    def limits(self, desk: Desk) -> Limits:
        """Whole numbers of the limits as grant, ceilings and leverage leave them; made anew only when one changed."""
        state, limits = self._state, desk.limits
        if limits is None or desk.limits_version != state.limits_version:
            total, name, leverage = state.total_max_quote, "total", state.leverage_quote
            if leverage is not None and leverage < total:
                total, name = leverage, "leverage"
            inventory = state.position_max_quote(desk.symbol)
            if limits is not None and limits.inventory_max_quote == inventory and limits.total_max_quote == total:
                limits.retold(inventory, total, name)
            else:
                limits = desk.limits = limits_of(desk.parameters, desk.instrument, inventory, total, name)
            desk.limits_version = state.limits_version
        return limits

    def left_units2(self, desk: Desk) -> tuple[int, int]:
        """What the tighter of inventory and total leaves this symbol, other symbols at their worst case."""
        limits = self.limits(desk)
        if self._alone:
            return limits.fresh_units2, limits.room_units2
        return limits.left_units2(self._state.others_pico(desk.symbol))

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
            self.limits(desk),
            desk.account.position_lots,
            buys,
            sells,
            len(orders.buys) + len(orders.sells),
            mid2,
            self._mark2(desk, mid2),
            0 if self._alone else state.others_pico(desk.symbol),
            state.others_open(desk.symbol) if desk.parameters.max_open_positions is not None else 0,
            desk.account.dust_lots,
        )

    def _mark2(self, desk: Desk, mid2: int) -> int:
        """The collar's mark: the last public trade while it is young enough, else mid. Twice, as mid is."""
        trade = desk.last_trade
        if trade.price2_ticks == NO_TICKS or self._state.now_ns - trade.at_ns > self._mark_max_age_ns:
            return mid2
        return trade.price2_ticks

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
            self._note_blocked("order_blocked", desk, blocked.quote, reason, value, required)

    def _refuse(self, desk: Desk, half: DeskSide, quote: Quote, number: RiskNumber) -> None:
        if self._is_news(half, number.limit):
            self._state.counters.add("mm_orders_blocked_total", desk.symbol, "risk_limit")
            self._state.counters.add("mm_limit_breaches_total", number.limit)
            self._note_blocked("risk_check_blocked", desk, quote, number.limit, number.value, number.allowed)

    @staticmethod
    def _is_news(half: DeskSide, reason: str) -> bool:
        news = half.blocked != reason
        half.blocked = reason
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
