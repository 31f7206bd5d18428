"""The looks at losses: own and the venue's, in 24 hours and from the peak, against every limit on losing.

A look is spared while nothing that it goes by has changed but marks, and these have stayed in the band in which it
would find the same; then the curve of equity is told when somebody asks for it, or before money moves.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from bot.domain.intent import RiskNumber
from bot.engine.exposure import PICO
from bot.engine.money import Budgets, net_by_symbol
from bot.engine.net_band import NetBand
from bot.engine.state import State
from bot.engine.stopping import Stopping

_ZERO: Final = Decimal(0)

_NOTE_EVERY: Final = 1_000
"""The result is written down each minute, and whenever it moved by this part of the total limit."""


def _higher(one: Decimal, other: Decimal) -> Decimal:
    return one if one >= other else other


class _Found:
    """What a look at losses went by. `marks`: see `Losses._marks`."""

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


class Losses:
    """Of all symbols together, and of each strategy's budget."""

    def __init__(self, state: State, stopping: Stopping) -> None:
        self._state = state
        self._stopping = stopping
        self.budgets = Budgets(state.parameters, state.own)
        self._cap_told = False
        self._noted_quote = Decimal(0)
        self._found: _Found | None = None
        """what the last look at losses that found everything in order went by"""
        self._band: NetBand | None = None
        """how far the marks may move before such a look finds anything; None: not at all"""
        self._spared_ns = 0
        """when a look was spared last, with the band's mids of then; 0 where the curve of equity has been told since"""
        state.bring_equity_up = self.bring_equity_up
        cap = state.parameters.kill_total_max_quote
        self._kill_total_pico = -1 if cap is None else int(cap * PICO)
        """-1 where there is no cap"""
        self._allowed_for_quote: Decimal | None = None
        """the total limit that the three below are of"""
        self._loss_allowed_quote = self._drawdown_allowed_quote = _ZERO
        """what may not be lost in 24 hours, or from the peak"""
        self._unnoted_quote = _ZERO
        """by how much the result may move before it is written down"""

    # ---- whether there is anything to look at ----

    def unmoved(self) -> bool:
        """Whether prices alone have moved so little since the last look that the next one would find the same."""
        band = self._band
        return band is not None and not self.is_exposed() and self._holds(band)

    def is_exposed(self) -> bool:
        """Whether all worst cases together are past the kill cap, if there is one."""
        return self._kill_total_pico >= 0 and self._state.exposure.total_pico() > self._kill_total_pico

    def _holds(self, band: NetBand) -> bool:
        """Whether the marks are inside it; if so, the curve of equity waits to be told."""
        if not band.symbols:
            return True
        if not band.holds(self._state.last_mid2):
            return False
        self._spared_ns = self._state.now_ns
        return True

    def bring_equity_up(self) -> None:
        """Tell the curve of equity what the last look would have told it, where that was spared."""
        at_ns, self._spared_ns = self._spared_ns, 0
        if not at_ns or self._band is None:
            return
        then = dict(zip(self._band.symbols, self._band.mids2, strict=True))
        nets = net_by_symbol(self._state, {**self._state.last_mid2, **then})
        if nets is not None:
            self._state.equity_told.note(sum(nets.values(), Decimal(0)), at_ns)

    # ---- the look ----

    def look(self) -> None:
        """Rolling-24 h loss and drawdown of equity, own and the venue's, against every limit on losing."""
        state, curve, band = self._state, self._state.equity_told, self._band
        if self._goes_by_the_same() and state.now_ns < curve.changes_at_ns:
            # nothing that it goes by but marks and the venue's word has changed since it found everything in order
            if band is not None and self._venue_is_sound() and self._holds(band):
                return
            if self._found is not None and self._found.marks == self._marks() and self._venue_says_the_same():
                self._spared_ns = 0  # what would be told to the curve now holds instead
                return
        self._spared_ns = 0
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
            self.breach("strategy_budget", detail)
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
            self.breach("daily_loss", f"{loss:.2f} quote, allowed below {self._loss_allowed_quote:.2f}")
        if drawdown and drawdown >= self._drawdown_allowed_quote:
            self.breach("drawdown", f"{drawdown:.2f} quote, allowed below {self._drawdown_allowed_quote:.2f}")
        cap = parameters.kill_loss_max_quote
        if cap is not None:
            worst = loss if net is None else _higher(loss, -net)
            if worst > cap:
                self.breach("kill_caps", f"lost {worst:.2f} quote, {cap} is the cap")
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
            self.breach("daily_loss_cap", detail)
            return
        if breached and not self._cap_told:
            state.counters.add("mm_limit_breaches_total", "daily_loss_cap")
            state.note("WARNING", "risk_check_blocked", reason="daily_loss_cap", value=f"{loss:.2f}", limit=str(cap))
        self._cap_told = breached
        bars = breached and parameters.enforce_daily_loss_cap
        state.barred = RiskNumber("daily_loss_cap", loss, cap) if bars else None

    def breach(self, reason: str, detail: str) -> None:
        """Enter a stop and count the limit behind it, once while it holds."""
        state = self._state
        self._found = self._band = None
        if not state.stops.holds(reason):
            state.counters.add("mm_limit_breaches_total", reason)
            self._stopping.enter(reason, detail)
