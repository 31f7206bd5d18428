"""Money by symbol and by strategy: what the limits on losing and on trading too much are measured by."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from bot.engine.ledger import DAY_NS, Ledger
from bot.engine.parameters import EngineParameters
from bot.engine.state import State


def net_by_symbol(state: State, mids2: dict[str, int] | None = None) -> dict[str, Decimal] | None:
    """Net result of every symbol, marked at these mids (twice, in ticks) or the newest; None where one is missing."""
    nets: dict[str, Decimal] = {}
    mids2 = state.last_mid2 if mids2 is None else mids2
    for symbol, account in state.ledger.accounts.items():
        instrument, mark = state.instruments.get(symbol), None
        if account.position_lots or account.dust_base:  # else no mark is asked for
            mid2 = mids2.get(symbol)
            mark = None if mid2 is None or instrument is None else instrument.tick_size * mid2 / 2
        net = state.ledger.net_quote(symbol, mark, instrument)
        if net is None:
            return None
        nets[symbol] = net
    return nets


class DayStart(msgspec.Struct, frozen=True):
    """Where a strategy stood when the UTC day began (or when it was first looked at), quote."""

    day: int
    net_quote: Decimal
    turnover_quote: Decimal


class Budgets:
    """What each strategy may lose and trade in a UTC day. A new day is a new budget; the stop of the old one stays."""

    def __init__(self, parameters: EngineParameters, own: Mapping[str, EngineParameters]) -> None:
        self._loss_max = parameters.budget_loss_quote
        self._turnover_max = parameters.budget_turnover_quote
        self._symbols: dict[str, list[str]] = {}
        for symbol, parameter in own.items():
            self._symbols.setdefault(parameter.strategy, []).append(symbol)
        self.limited = self._loss_max is not None or self._turnover_max is not None
        self.starts: dict[str, DayStart] = {}
        self._fresh: list[tuple[str, DayStart]] = []

    def drain_fresh(self) -> list[tuple[str, DayStart]]:
        """Days that began since the last call; whoever restores them after a restart keeps them."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def look(self, nets: Mapping[str, Decimal], ledger: Ledger, at_ns: int) -> str:
        """Which strategy has spent its budget, empty where none has."""
        if not self.limited:
            return ""
        day, found = at_ns // DAY_NS, ""
        for strategy, symbols in self._symbols.items():
            net = sum((nets[symbol] for symbol in symbols), Decimal(0))
            turnover = Decimal(0)
            for symbol in symbols:
                account = ledger.accounts[symbol]
                turnover += account.maker_notional_quote + account.taker_notional_quote
            start = self.starts.get(strategy)
            if start is None or start.day != day:
                start = self.starts[strategy] = DayStart(day, net, turnover)
                self._fresh.append((strategy, start))
            lost, traded = start.net_quote - net, turnover - start.turnover_quote
            if self._loss_max is not None and lost >= self._loss_max:
                found = found or f"{strategy} lost {lost:.2f} quote today, {self._loss_max} is its budget"
            if self._turnover_max is not None and traded >= self._turnover_max:
                found = found or f"{strategy} traded {traded:.2f} quote today, {self._turnover_max} is its budget"
        return found
