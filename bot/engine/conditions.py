"""The causes of stops that nobody reports: looked at when they can have come, which is seldom on a turn of the clock.

Market causes begin to count once the bot has been ready for the first time; before that it is INIT anyway. `due_ns` and
`unmoved` say together whether a look would find anything: the one by the clock, the other by the market.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from bot.domain.book import Book
from bot.domain.intent import RiskNumber
from bot.engine.budgets import Rate
from bot.engine.exposure import PICO
from bot.engine.ledger import DAY_NS
from bot.engine.money import Budgets, net_by_symbol
from bot.engine.net_band import NetBand
from bot.engine.parameters import NS_PER_MS, NS_PER_S
from bot.engine.performance import Performance
from bot.engine.recovery import Recovery
from bot.engine.state import NEVER_NS, Day, State, Wallet
from bot.engine.stopping import Stopping

_ZERO: Final = Decimal(0)
_SLOW_FORGOTTEN_NS: Final = 10 * NS_PER_S
"""A slow answer this old, with none since, says nothing about the venue now."""

UNREACHED_MAX: Final = 3
"""So many requests in a row without an answer, apart in time, and the venue cannot be reached."""

_NOTE_EVERY: Final = 1_000
"""The result is written down each minute, and whenever it moved by this part of the total limit."""


def _higher(one: Decimal, other: Decimal) -> Decimal:
    return one if one >= other else other


class _Found:
    """What a look at losses went by. `marks`: see `Conditions._marks`."""

    __slots__ = (
        "instruments_version", "ledger_version", "marks", "total_max_quote", "venue_drawdown_quote", "venue_loss_quote",
    )  # fmt: skip

    def __init__(self, state: State, marks: list[int | None]) -> None:
        self.ledger_version: Final = state.ledger.version
        self.total_max_quote: Final = state.total_max_quote
        self.instruments_version: Final = state.instruments_version
        self.venue_loss_quote: Final = state.venue_equity.loss_24h_quote
        self.venue_drawdown_quote: Final = state.venue_equity.drawdown_quote
        self.marks: Final = marks


class Conditions:
    """Enters stops whose cause is there, starts the release of those whose cause has gone."""

    def __init__(self, state: State, stopping: Stopping, performance: Performance, recovery: Recovery) -> None:
        self._state = state
        self._stopping = stopping
        self._performance = performance
        self._recovery = recovery
        self.budgets = Budgets(state.parameters, state.own)
        self._cap_told = False
        self._noted_quote = Decimal(0)
        self._found: _Found | None = None
        """what the last look at losses that found everything in order went by"""
        self._band: NetBand | None = None
        """how far the marks may move before such a look finds anything; None: not at all"""
        self._spared: tuple[int, list[int]] | None = None
        """when a look was spared last, and the band's mids of then: the curve of equity is not told yet"""
        state.bring_equity_up = self.bring_equity_up
        parameters = state.parameters
        cap = parameters.kill_total_max_quote
        self._kill_total_pico = -1 if cap is None else int(cap * PICO)
        """-1 where there is no cap"""
        self._kill_orders_per_min = parameters.kill_orders_per_min_max
        self._margin_ratio_max: Final = parameters.margin_ratio_max
        self._allowed_for_quote: Decimal | None = None
        """the total limit that the three below are of"""
        self._loss_allowed_quote = self._drawdown_allowed_quote = _ZERO
        """what may not be lost in 24 hours, or from the peak"""
        self._unnoted_quote = _ZERO
        """by how much the result may move before it is written down"""
        self._sound: Wallet | None = None
        """the last statement whose margin was found in order"""

    # ---- whether there is anything to look at ----

    @property
    def due_ns(self) -> int:
        """From when on time alone can bring a cause, where nothing is stopped and nothing but prices changes."""
        state, due_ns = self._state, NEVER_NS
        for symbol, book in self._books().items():
            since_ns = book.updated_at_ns if book.updated_at_ns < book.top_changed_at_ns else book.top_changed_at_ns
            stale_ns = since_ns + state.thresholds.held[symbol].stale_ns + 1
            if stale_ns < due_ns:
                due_ns = stale_ns
        if not state.is_shadow:
            stated_ns = state.statement_due_ns + 1
            if stated_ns < due_ns:
                due_ns = stated_ns
        changes_ns = state.equity_told.changes_at_ns
        return due_ns if due_ns < changes_ns else changes_ns

    def unmoved(self) -> bool:
        """Whether prices alone have moved so little since the last look that the next one would find the same."""
        state, band = self._state, self._band
        if band is None:
            return False
        if self._kill_total_pico >= 0 and state.exposure.total_pico() > self._kill_total_pico:
            return False
        return self._holds(band)

    def _holds(self, band: NetBand) -> bool:
        """Whether the marks are inside it; if so, the curve of equity waits to be told."""
        state = self._state
        if not band.symbols:
            return True
        mids2 = [state.last_mid2[symbol] for symbol in band.symbols]
        if not band.holds(mids2):
            return False
        self._spared = (state.now_ns, mids2)
        return True

    def bring_equity_up(self) -> None:
        """Tell the curve of equity what the last look would have told it, where that was spared."""
        if self._spared is None or self._band is None:
            return
        (at_ns, mids2), self._spared = self._spared, None
        then = dict(zip(self._band.symbols, mids2, strict=True))
        nets = net_by_symbol(self._state, {**self._state.last_mid2, **then})
        if nets is not None:
            self._state.equity_told.note(sum(nets.values(), Decimal(0)), at_ns)

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
        self.losses()

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
        if not state.is_shadow and not self.budgets.limited and state.statement is not None:
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
        self.losses()
        cap, held = self._state.leverage_quote, self._position_quote()
        if cap is not None and held > cap:
            self._breach("leverage", f"positions of {held:.2f} quote, {cap:.2f} is the most at the equity there is")

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
            self._breach("kill_caps", f"{state.order_rate.spent(now)} orders in a minute, {cap} is the cap")

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
            self._breach("margin_ratio", f"{wallet.margin_used_quote} of {wallet.equity_quote} equity in use as margin")
        if self._kill_total_pico >= 0 and state.exposure.total_pico() > self._kill_total_pico:
            cap, held = state.parameters.kill_total_max_quote, self._position_quote()
            # open orders above the cap are risk's to refuse; a position above it is past refusing
            if cap is not None and held > cap:
                self._breach("kill_caps", f"positions of {held:.2f} quote, {cap} is the cap")

    def _position_quote(self) -> Decimal:
        state, held = self._state, Decimal(0)
        for symbol, account in state.ledger.accounts.items():
            mark, instrument = state.mark(symbol), state.instruments.get(symbol)
            if mark is not None and instrument is not None:
                held += abs(instrument.qty(account.position_lots) + account.dust_base) * mark
        return held

    def losses(self) -> None:
        """Rolling-24 h loss and drawdown of equity, own and the venue's, against every limit on losing."""
        state, curve, band = self._state, self._state.equity_told, self._band
        if self._goes_by_the_same() and state.now_ns < curve.changes_at_ns:
            # nothing that it goes by but marks and the venue's word has changed since it found everything in order
            if band is not None and self._venue_is_sound() and self._holds(band):
                return
            if self._found is not None and self._found.marks == self._marks() and self._venue_says_the_same():
                self._spared = None  # what would be told to the curve now holds instead
                return
        self._spared = None
        self._found, self._band = _Found(state, self._marks()), None
        nets = net_by_symbol(state)
        if nets is None:
            # a position that cannot be marked yet says nothing about profit or loss: the venue's statement does, and
            # where there is none nothing is quoted (`_unvalued`)
            self._found = None
            self._judge(None)
            return
        net = sum(nets.values(), _ZERO)
        total_max_quote = self._found.total_max_quote
        moved = abs(net - self._noted_quote) * _NOTE_EVERY >= total_max_quote
        if curve.note(net, state.now_ns) or moved:
            self._noted_quote = net
            state.note("DEBUG", "equity_sample", net_quote=str(net), peak_quote=str(curve.peak_quote))
        self._judge(net)
        if self.budgets.limited:
            self._found = None  # a budget's day ends by the clock
        detail = self.budgets.look(nets, state.ledger, state.now_ns)
        for strategy, start in self.budgets.drain_fresh():
            state.note(
                "DEBUG", "budget_day", strategy=strategy, day=start.day, net_quote=str(start.net_quote),
                turnover_quote=str(start.turnover_quote),
            )  # fmt: skip
        if detail:
            self._breach("strategy_budget", detail)
        if self._found is not None and not self._cap_told and state.barred is None:
            self._band = self._band_around(net, total_max_quote)

    def _judge(self, net: Decimal | None) -> None:
        """Both curves as they stand against the limits; `net` is what the own one was told, None where nothing was."""
        state, parameters = self._state, self._state.parameters
        curve, venue, total_max_quote = state.equity, state.venue_equity, state.total_max_quote
        self._allow(total_max_quote)
        loss = _higher(curve.loss_24h_quote, venue.loss_24h_quote)
        drawdown = _higher(curve.drawdown_quote, venue.drawdown_quote)
        if loss and loss >= self._loss_allowed_quote:
            self._breach("daily_loss", f"{loss:.2f} quote, allowed below {self._loss_allowed_quote:.2f}")
        if drawdown and drawdown >= self._drawdown_allowed_quote:
            self._breach("drawdown", f"{drawdown:.2f} quote, allowed below {self._drawdown_allowed_quote:.2f}")
        cap = parameters.kill_loss_max_quote
        if cap is not None:
            worst = loss if net is None else _higher(loss, -net)
            if worst > cap:
                self._breach("kill_caps", f"lost {worst:.2f} quote, {cap} is the cap")
        self._daily_cap(loss)

    def _allow(self, total_max_quote: Decimal) -> None:
        """Work out what may be lost at that total limit, unless it is the one of the last time."""
        if total_max_quote is not self._allowed_for_quote:
            parameters = self._state.parameters
            self._allowed_for_quote = total_max_quote
            self._loss_allowed_quote = total_max_quote * parameters.daily_loss_pct_hard / 100
            self._drawdown_allowed_quote = total_max_quote * parameters.drawdown_pct_hard / 100
            self._unnoted_quote = total_max_quote / _NOTE_EVERY

    def _band_around(self, net: Decimal, total_max_quote: Decimal) -> NetBand:
        """Between which net results the look that found everything in order would have found nothing else."""
        state, parameters, curve = self._state, self._state.parameters, self._state.equity_told
        since_quote, peak_quote, noted_quote = curve.oldest_quote, curve.peak_quote, self._noted_quote
        assert peak_quote is not None  # noqa: S101 - told to the type checker; the curve was told a moment ago
        self._allow(total_max_quote)
        kill, cap = parameters.kill_loss_max_quote, parameters.daily_loss_cap_quote
        low = _higher(noted_quote - self._unnoted_quote, since_quote - self._loss_allowed_quote)
        low = _higher(low, peak_quote - self._drawdown_allowed_quote)
        if kill is not None:
            low = _higher(_higher(low, -kill), since_quote - kill)
        if cap is not None:
            low = _higher(low, since_quote - cap)
        high = noted_quote + self._unnoted_quote
        return NetBand(state, net, low, high if high < peak_quote else peak_quote)

    def _goes_by_the_same(self) -> bool:
        """Whether all of our own that a look at losses goes by, but time and marks, is as the last one found it."""
        state, found = self._state, self._found
        return (
            found is not None
            and found.ledger_version == state.ledger.version
            and found.instruments_version == state.instruments_version
            and found.total_max_quote == state.total_max_quote
        )

    def _venue_says_the_same(self) -> bool:
        found, venue = self._found, self._state.venue_equity
        return (
            found is not None
            and found.venue_loss_quote == venue.loss_24h_quote
            and found.venue_drawdown_quote == venue.drawdown_quote
        )

    def _venue_is_sound(self) -> bool:
        """Whether the account's losses by the venue's word are below every limit, at the same total limit."""
        venue, parameters = self._state.venue_equity, self._state.parameters
        loss, drawdown = venue.loss_24h_quote, venue.drawdown_quote
        if self._venue_says_the_same() or not (loss or drawdown):
            return True
        assert self._found is not None  # noqa: S101 - told to the type checker; a band is around something found
        cap, kill = parameters.daily_loss_cap_quote, parameters.kill_loss_max_quote
        self._allow(self._found.total_max_quote)
        return (
            loss < self._loss_allowed_quote
            and drawdown < self._drawdown_allowed_quote
            and (cap is None or loss < cap)
            and (kill is None or loss <= kill)
        )

    def _marks(self) -> list[int | None]:
        """What open positions are marked by; a symbol that is flat has no mark."""
        state = self._state
        marks: list[int | None] = []
        for symbol, account in state.ledger.accounts.items():
            if account.position_lots or account.dust_base:
                marks.append(state.last_mid2.get(symbol))
        return marks

    def _daily_cap(self, loss: Decimal) -> None:
        """The cap on losing in 24 hours that holds, bars or only tells, as it is configured."""
        state, parameters = self._state, self._state.parameters
        cap = parameters.daily_loss_cap_quote
        if cap is None:
            return
        detail = f"{loss:.2f} quote lost in 24 h, {cap} is the cap"
        breached = loss >= cap
        if breached and parameters.enforce_daily_loss_cap and parameters.daily_loss_cap_auto_hold:
            self._breach("daily_loss_cap", detail)
            return
        if breached and not self._cap_told:
            state.counters.add("mm_limit_breaches_total", "daily_loss_cap")
            state.note("WARNING", "risk_check_blocked", reason="daily_loss_cap", value=f"{loss:.2f}", limit=str(cap))
        self._cap_told = breached
        bars = breached and parameters.enforce_daily_loss_cap
        state.barred = RiskNumber("daily_loss_cap", loss, cap) if bars else None

    def _breach(self, reason: str, detail: str) -> None:
        """Enter a stop and count the limit behind it, once while it holds."""
        state = self._state
        self._found = self._band = None
        if not state.stops.holds(reason):
            state.counters.add("mm_limit_breaches_total", reason)
            self._stopping.enter(reason, detail)
