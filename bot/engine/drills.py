"""Drills of the engine's own rules: what must be held back is offered to them, what is about to happen is announced.

The quotes offered are of a drill, not of the strategy, so they are counted and told each time, news or not; nothing of
them is sent. What is announced is found and met as if it had not been: only the stop that follows is class planned.
"""

from __future__ import annotations

from typing import Final

from bot.domain.events import DrillRequested
from bot.domain.order import Side
from bot.engine.desk import Desk
from bot.engine.maker_policy import Blocked
from bot.engine.parameters import NS_PER_S
from bot.engine.quote_cycle import QuoteCycle
from bot.engine.quoting import Quote
from bot.engine.state import State

MAKER_POLICY: Final = "maker-policy"
ORPHAN: Final = "orphan"
STREAM_LOSS: Final = "stream-loss"
PLANNED_LOSS_NS: Final = 30 * NS_PER_S
"""How long an announced loss of the streams stays planned; what lasts longer is the venue's, and class market."""


class Drills:
    """Of one engine."""

    def __init__(self, state: State, cycle: QuoteCycle) -> None:
        self._state = state
        self._cycle = cycle

    def run(self, event: DrillRequested) -> None:
        """Announces what is about to happen, or offers what must be held back."""
        state = self._state
        state.note("INFO", "drill", drill=event.name, who=event.who, subject=event.subject)
        if event.name == ORPHAN:
            state.planned_orphans.add(event.subject)
        elif event.name == STREAM_LOSS:
            state.planned_loss_until_ns = state.now_ns + PLANNED_LOSS_NS
        else:
            self._offer_all(event)

    def _offer_all(self, event: DrillRequested) -> None:
        """Offers every symbol a quote that crosses and one that is too small. A symbol without a book is told of."""
        state = self._state
        for symbol, desk in self._cycle.desks.items():
            top = state.books[symbol].top
            if top is None:
                state.note("WARNING", "drill_not_run", drill=event.name, symbol=symbol, why="no book")
                continue
            least = desk.policy.min_lots(top[0])
            self._offer(desk, Quote(Side.BUY, top[1], least), top)
            self._offer(desk, Quote(Side.SELL, top[0], least), top)
            self._offer(desk, Quote(Side.BUY, top[0], least - 1), top)

    def _offer(self, desk: Desk, quote: Quote, top: tuple[int, int]) -> None:
        """Counted and told where the policy holds it back; where it lets it through, that is an error of its own."""
        result = desk.policy.shape(quote, top)
        state = self._state
        told: dict[str, str | int | float | bool] = {"symbol": desk.symbol, "side": quote.side.value}
        told["price_ticks"] = quote.price_ticks
        if isinstance(result, Blocked):
            state.counters.add("mm_orders_blocked_total", desk.symbol, result.reason)
            value, limit = str(result.value), str(result.required)
            lots, reason = quote.qty_lots, result.reason
            state.note(
                "INFO", "order_blocked", **told, qty_lots=lots, reason=reason, value=value, limit=limit, drill=True
            )
        else:
            state.note("ERROR", "drill_let_through", **told, qty_lots=quote.qty_lots)
