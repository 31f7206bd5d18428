"""The causes of stops that nobody reports: looked at on every turn of the clock.

Market causes begin to count once the bot has been ready for the first time; before that it is INIT anyway.
"""

from __future__ import annotations

from decimal import Decimal

from bot.engine.parameters import NS_PER_MS, ubps
from bot.engine.performance import Performance
from bot.engine.recovery import Recovery
from bot.engine.state import State
from bot.engine.stopping import Stopping


class Conditions:
    """Enters stops whose cause is there, starts the release of those whose cause has gone."""

    def __init__(self, state: State, stopping: Stopping, performance: Performance, recovery: Recovery) -> None:
        self._state = state
        self._stopping = stopping
        self._performance = performance
        self._recovery = recovery
        self._edge_ubps = ubps(state.parameters.edge_threshold_bps)
        self._stale_ns = state.parameters.stale_after_ms * NS_PER_MS

    def tick(self) -> None:
        """All of them."""
        if self._state.ready:
            self._market("stale_book", self.stale())
            self._edge()
            self._market("venue_unreachable", self.unreachable())
        self._rates()
        self.losses()

    def unreachable(self) -> str:
        """What keeps us from the venue, empty where nothing does."""
        state = self._state
        if not state.public_up_since_ns:
            return "public stream down"
        if not state.private_up_since_ns:
            return "private stream down"
        return "" if self._recovery.account_read else "account not read since the private stream came up"

    def stale(self) -> str:
        """Which book has had no update, or the same top, for too long; empty where none."""
        now = self._state.now_ns
        for symbol, book in self._state.books.items():
            if now - book.updated_at_ns > self._stale_ns:
                return f"{symbol} no update for {(now - book.updated_at_ns) // NS_PER_MS} ms"
            if now - book.top_changed_at_ns > self._stale_ns:
                return f"{symbol} same top for {(now - book.top_changed_at_ns) // NS_PER_MS} ms"
        return ""

    def _market(self, reason: str, cause: str) -> None:
        if cause:
            self._stopping.enter(reason, cause)
        else:
            self._state.stops.cause_gone(reason, self._state.now_ns)

    def _edge(self) -> None:
        """The quote cycle enters this stop; here its cause goes, or comes back while it holds."""
        state = self._state
        if not state.stops.holds("edge_below_threshold"):
            return
        edges = [self._performance.edge_ubps(symbol, state.now_ns) for symbol in state.parameters.symbols]
        low = any(edge is None or edge < self._edge_ubps for edge in edges)
        self._market("edge_below_threshold", "still below" if low else "")

    def _rates(self) -> None:
        state, now = self._state, self._state.now_ns
        for rate, limit in ((state.order_rate, "order_rate"), (state.cancel_rate, "cancel_rate")):
            if rate.room(now) <= 0 and not state.stops.holds("runaway_breaker"):
                state.counters.add("mm_limit_breaches_total", limit)
                self._stopping.enter(
                    "runaway_breaker", f"{limit}: {rate.spent(now)} in a minute, {rate.allowed} allowed"
                )
        if state.cancel_budget.broken(now) and not state.stops.holds("cancel_budget"):
            self._stopping.enter("cancel_budget", "breached 3 times in 10 min")

    def losses(self) -> None:
        """Rolling-24 h loss and drawdown of own equity against the hard limits."""
        state = self._state
        net = Decimal(0)
        for symbol in state.parameters.symbols:
            instrument, mark = state.instruments.get(symbol), state.mark(symbol)
            if mark is None and state.ledger.accounts[symbol].position_lots:
                return  # a position that cannot be marked yet says nothing about profit or loss
            net += state.ledger.pnl(symbol, mark, instrument).net
        curve, parameters = state.equity, state.parameters
        curve.note(net, state.now_ns)
        for reason, loss, pct in (
            ("daily_loss", curve.loss_24h_quote, parameters.daily_loss_pct_hard),
            ("drawdown", curve.drawdown_quote, parameters.drawdown_pct_hard),
        ):
            allowed = state.total_max_quote * pct / 100
            if loss and loss >= allowed and not state.stops.holds(reason):
                state.counters.add("mm_limit_breaches_total", reason)
                self._stopping.enter(reason, f"{loss:.2f} quote, allowed below {allowed:.2f}")
