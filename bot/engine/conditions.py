"""The causes of stops that nobody reports: looked at when they can have come, which is seldom on a turn of the clock.

Market causes begin to count once the bot has been ready for the first time; before that it is INIT anyway. `due_ns` and
`Losses.unmoved` say together whether a look would find anything: the one by the clock, the other by the market.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from bot.domain.book import Book
from bot.engine.budgets import Rate
from bot.engine.ledger import DAY_NS
from bot.engine.losses import Losses
from bot.engine.money import net_by_symbol
from bot.engine.parameters import NS_PER_MS, NS_PER_S
from bot.engine.performance import Performance
from bot.engine.recovery import Recovery
from bot.engine.state import NEVER_NS, Day, State, Wallet
from bot.engine.stopping import Stopping
from bot.engine.thresholds import Held

_ZERO: Final = Decimal(0)
_SLOW_FORGOTTEN_NS: Final = 10 * NS_PER_S
"""A slow answer this old, with none since, says nothing about the venue now."""

UNREACHED_MAX: Final = 3
"""So many requests in a row without an answer, apart in time, and the venue cannot be reached."""


class Conditions:
    """Enters stops whose cause is there, starts the release of those whose cause has gone."""

    def __init__(
        self, state: State, stopping: Stopping, performance: Performance, recovery: Recovery, losses: Losses
    ) -> None:
        self._state = state
        self._stopping = stopping
        self._performance = performance
        self._recovery = recovery
        self._losses = losses
        self._kill_orders_per_min = state.parameters.kill_orders_per_min_max
        self._margin_ratio_max: Final = state.parameters.margin_ratio_max
        self._aging: Final[list[tuple[Book, Held]]] = [
            (book, state.thresholds.held[symbol]) for symbol, book in state.books.items()
        ]
        """every book with what says when it is too old"""
        self._sound: Wallet | None = None
        """the last statement whose margin was found in order"""

    # ---- whether there is anything to look at ----

    @property
    def due_ns(self) -> int:
        """From when on time alone can bring a cause, books' age apart, where nothing is stopped and only prices change.

        A book that is told of all the time would be due again and again, and never old: see `are_fresh`.
        """
        state, due_ns = self._state, NEVER_NS
        if not state.is_shadow:
            stated_ns = state.statement_due_ns + 1
            if stated_ns < due_ns:
                due_ns = stated_ns
        changes_ns = state.equity_told.changes_at_ns
        return due_ns if due_ns < changes_ns else changes_ns

    def are_fresh(self) -> bool:
        """Whether no book is so old now that a look would say so."""
        state = self._state
        if state.held or state.frozen:
            return not self.stale()
        now_ns = state.now_ns
        for book, held in self._aging:
            stale_ns = held.stale_ns
            if now_ns - book.updated_at_ns > stale_ns or now_ns - book.top_changed_at_ns > stale_ns:
                return False
        return True

    def turn_day(self) -> None:
        """A UTC day begins here: after midnight, or with the ledger. After a restart the journal knows it already.

        What the account came to at midnight is what it comes to now; where that is not known yet (a restart, and no
        book), what was written down of it last. So it is where an earlier process wrote down no day at all.
        """
        state = self._state
        number = state.now_ns // DAY_NS
        if state.day is not None and state.day.day == number:
            return
        net, fills = Decimal(0), 0
        if state.day is not None or self._recovery.restored:
            nets = net_by_symbol(state)
            net = state.equity.newest_quote if nets is None else sum(nets.values(), Decimal(0))
            fills = state.ledger.fills
        state.day_before, state.day = state.day, Day(number, net, fills)
        state.note("DEBUG", "day_began", day=number, net_quote=str(net), fills=fills)

    # ---- the looks ----

    def tick(self) -> None:
        """All of them."""
        if self._state.ready:
            stale = self.stale()
            if stale and not self._state.stops.holds("stale_book") and self._is_silent():
                self._state.counters.add("mm_ws_drops_undetected_total")
            self._market("stale_book", stale)
            self._edge()
            self._unreachable()
            self._market("venue_slow", self.slow())
            self._market("statement_stale", self._unstated())
            self._market("result_unknown", self._unvalued())
        self._rates()
        self._account()
        self._losses.look()

    def _unreachable(self) -> None:
        """A loss that a drill announced is planned until both streams are back and the account is read."""
        state, cause = self._state, self.unreachable()
        planned = state.loss_is_planned
        if planned and not cause and state.stops.holds("drill_stream_loss"):
            state.planned_loss_until_ns = 0
        self._market("drill_stream_loss", cause if planned else "")
        self._market("venue_unreachable", "" if planned else cause)

    def unreachable(self) -> str:
        """What keeps us from the venue, empty where nothing does."""
        state = self._state
        if not state.public_up_since_ns:
            return "public stream down"
        if not state.private_up_since_ns:
            return "private stream down"
        if not self._recovery.account_read:
            return "account not read since the private stream came up"
        return "" if state.unreached < UNREACHED_MAX else f"{state.unreached} requests in a row without an answer"

    def slow(self) -> str:
        """How slow the newest answer to a create was, empty where it was fast enough or is long ago."""
        state = self._state
        took_ms, at_ns = state.last_latency
        if state.now_ns - at_ns > _SLOW_FORGOTTEN_NS:
            return ""
        allowed_ms = state.thresholds.slow_ms
        if took_ms <= allowed_ms:
            return ""
        return f"an answer took {took_ms} ms, {allowed_ms} ms allowed"

    def stale(self) -> str:
        """Which book has had no update, or the same top, for too long; empty where none."""
        now = self._state.now_ns
        for symbol, book in self._books().items():
            stale_ns = self._state.thresholds.held[symbol].stale_ns
            if now - book.updated_at_ns > stale_ns:
                return f"{symbol} no update for {(now - book.updated_at_ns) // NS_PER_MS} ms"
            if now - book.top_changed_at_ns > stale_ns:
                return f"{symbol} same top for {(now - book.top_changed_at_ns) // NS_PER_MS} ms"
        return ""

    def _unstated(self) -> str:
        """Since when the venue does not say what the account is worth, empty where it does."""
        state = self._state
        if not state.statement_is_stale(state.now_ns):
            return ""
        if not state.stops.holds("statement_stale"):
            state.limits_version += 1  # what was allowed by it is allowed no more
        if state.wallet is None:
            return "the account was never stated"
        return f"the account was last stated {(state.now_ns - state.wallet.at_ns) // NS_PER_S} s ago"

    def _unvalued(self) -> str:
        """Which position nothing tells the worth of, where no limit on losing can do without; else empty.

        Of all symbols together the venue's statement tells it too, if there is one: in shadow there is no venue. Of a
        strategy's own budget nobody else can.
        """
        state = self._state
        if not state.is_shadow and not self._losses.budgets.limited and state.statement is not None:
            return ""
        for symbol, account in state.ledger.accounts.items():
            if (account.position_lots or account.dust_base) and state.mark(symbol) is None:
                return f"{symbol} has a position that no book values yet"
        return ""

    def _books(self) -> dict[str, Book]:
        """Those whose age matters. A held or frozen symbol quotes nothing; where all others freeze, the bot stops."""
        books, held, frozen = self._state.books, self._state.held, self._state.frozen
        if held:
            books = {symbol: book for symbol, book in books.items() if symbol not in held}
        if not frozen or books.keys() <= frozen.keys():
            return books
        return {symbol: book for symbol, book in books.items() if symbol not in frozen}

    def _is_silent(self) -> bool:
        """Whether a book stopped on a stream that says it is up: nothing but the book's age has shown it."""
        state, now = self._state, self._state.now_ns
        return bool(state.public_up_since_ns) and any(
            now - book.updated_at_ns > state.thresholds.held[symbol].stale_ns for symbol, book in self._books().items()
        )

    def at_start(self) -> None:
        """What has to hold before the first quote, by what is known since the clock turned last."""
        self._account()
        self._losses.look()
        cap, held = self._state.leverage_quote, self._position_quote()
        if cap is not None and held > cap:
            self._losses.breach(
                "leverage", f"positions of {held:.2f} quote, {cap:.2f} is the most at the equity there is"
            )

    def _market(self, reason: str, cause: str) -> None:
        if cause:
            self._stopping.enter(reason, cause)
        elif self._state.stops.any:
            self._state.stops.cause_gone(reason, self._state.now_ns)

    def _edge(self) -> None:
        """The quote cycle enters this stop; here its cause goes, or comes back while it holds."""
        state = self._state
        if not state.stops.holds("edge_below_threshold"):
            return
        # what is not quoted (held, frozen, blocked, or its quotes held back ever since) has no edge to wait for
        aside = state.held | state.frozen.keys() | state.blocked
        edges = {one: self._performance.edge_ubps(one, state.now_ns) for one in state.parameters.symbols}
        known = {one: edge for one, edge in edges.items() if edge is not None and one not in aside}
        low = not known or any(edge < state.thresholds.held[one].edge_ubps for one, edge in known.items())
        self._market("edge_below_threshold", "still below" if low else "")

    def _rates(self) -> None:
        state, now = self._state, self._state.now_ns
        self._rate(state.order_rate, "order_rate")
        self._rate(state.cancel_rate, "cancel_rate")
        if state.cancel_budget.broken(now) and not state.stops.holds("cancel_budget"):
            self._stopping.enter(
                "cancel_budget",
                f"breached {state.parameters.cancel_budget_breaches_max} times"
                f" in {state.parameters.cancel_budget_breach_window_s} s",
            )
        cap = self._kill_orders_per_min
        if cap is not None and state.order_rate.spent(now) > cap:
            self._losses.breach("kill_caps", f"{state.order_rate.spent(now)} orders in a minute, {cap} is the cap")

    def _rate(self, rate: Rate, limit: str) -> None:
        state, now = self._state, self._state.now_ns
        if rate.room(now) <= 0 and not state.stops.holds("runaway_breaker"):
            state.counters.add("mm_limit_breaches_total", limit)
            self._stopping.enter("runaway_breaker", f"{limit}: {rate.spent(now)} in a minute, {rate.allowed} allowed")

    def is_sound(self, wallet: Wallet) -> bool:
        """Whether no more of the equity is in use as margin than may be."""
        if wallet is not self._sound:
            worn_out = wallet.equity_quote <= 0 < wallet.margin_used_quote
            if worn_out or wallet.margin_used_quote >= wallet.equity_quote * self._margin_ratio_max > 0:
                return False
            self._sound = wallet
        return True

    def _account(self) -> None:
        """What the venue's statement of the account, and all exposure together, may not pass."""
        state, wallet = self._state, self._state.statement
        if wallet is not None and not self.is_sound(wallet):
            self._losses.breach(
                "margin_ratio", f"{wallet.margin_used_quote} of {wallet.equity_quote} equity in use as margin"
            )
        if self._losses.is_exposed():
            cap, held = state.parameters.kill_total_max_quote, self._position_quote()
            # open orders above the cap are risk's to refuse; a position above it is past refusing
            if cap is not None and held > cap:
                self._losses.breach("kill_caps", f"positions of {held:.2f} quote, {cap} is the cap")

    def _position_quote(self) -> Decimal:
        state, held = self._state, Decimal(0)
        for symbol, account in state.ledger.accounts.items():
            mark, instrument = state.mark(symbol), state.instruments.get(symbol)
            if mark is not None and instrument is not None:
                held += abs(instrument.qty(account.position_lots) + account.dust_base) * mark
        return held
