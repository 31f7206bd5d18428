"""How much of every limit is used: from an engine restored from the journal, priced at the last fill of each symbol.

The journal keeps no market data unless it is told to, so a price is that of the last fill, else of the entry. What
cannot be known (no filters, no statement of the venue, a position without a price) is None, never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final, NamedTuple

from bot.domain.events import GrantReceived, WalletRead
from bot.engine.ledger import DAY_NS
from bot.engine.money import DayStart, net_by_symbol
from bot.engine.parameters import EngineParameters
from bot.engine.state import State
from bot.journal import JournalReader

MINUTE_NS: Final = 60_000_000_000
_ZERO: Final = Decimal(0)


class Usage(NamedTuple):
    """One limit. `used` None: not known."""

    limit: str
    of: str
    used: Decimal | None
    allowed: Decimal
    unit: str


class Known(NamedTuple):
    """What the journal says. `grant`, `wallet`: the last ones; `starts`: where each strategy's day began."""

    state: State
    grant: GrantReceived | None
    wallet: WalletRead | None
    starts: Mapping[str, DayStart]
    now_ns: int

    @property
    def is_stated(self) -> bool:
        """Whether the venue has said lately what the account is worth; in shadow nobody could."""
        parameters = self.state.parameters
        if parameters.mode == "shadow":
            return True
        return self.wallet is not None and self.now_ns - self.wallet.at_ns <= parameters.statement_max_age_ns


def usage(known: Known, reader: JournalReader) -> Iterator[Usage]:
    """Every limit that is set, sizes first."""
    yield from _sizes(known)
    yield from _counts(known)
    yield from _rates(known.state.parameters, reader, known.now_ns)
    yield from _money(known)


def _sizes(known: Known) -> Iterator[Usage]:
    """Positions with everything that may still fill at its worst."""
    state, parameters, grant = known.state, known.state.parameters, known.grant
    worst = {symbol: _worst_quote(state, symbol) for symbol in parameters.symbols}
    for symbol, quote in worst.items():
        own = state.own[symbol]
        allowed = [own.inventory_max_quote] + ([] if own.position_max_quote is None else [own.position_max_quote])
        if grant is not None:
            allowed.append(grant.inventory_max_quote)
        yield Usage("inventory_max_quote", symbol, quote, min(allowed), "quote")
    together = _sum(worst.values())
    limits = (parameters.total_max_quote, parameters.max_total_notional_quote, parameters.kill_total_max_quote)
    totals = [limit for limit in limits if limit is not None] + ([] if grant is None else [grant.total_max_quote])
    yield Usage("total_max_quote", "all", together, min(totals), "quote")
    wallet = known.wallet if known.is_stated else None
    if parameters.leverage_max is not None:
        leverage = None
        if together is not None and wallet is not None and wallet.equity_quote > 0:
            leverage = together / wallet.equity_quote
        yield Usage("leverage_max", "all", leverage, parameters.leverage_max, "notional / equity")
    margin = None
    if wallet is not None and wallet.equity_quote > 0:
        margin = wallet.margin_used_quote / wallet.equity_quote
    if known.wallet is not None or parameters.mode != "shadow":
        yield Usage("margin_ratio_max", "all", margin, parameters.margin_ratio_max, "margin / equity")


def _worst_quote(state: State, symbol: str) -> Decimal | None:
    account = state.ledger.accounts[symbol]
    lots = account.position_lots
    buys, sells = state.orders.exposed_lots(symbol)
    worst_lots = max(abs(lots + buys + account.dust_lots), abs(lots - sells))
    if not worst_lots:
        return _ZERO
    mark, instrument = state.mark(symbol), state.instruments.get(symbol)
    return None if mark is None or instrument is None else instrument.qty(worst_lots) * mark


def _counts(known: Known) -> Iterator[Usage]:
    state, parameters = known.state, known.state.parameters
    for symbol in parameters.symbols:
        active = Decimal(state.orders.active(symbol))
        yield Usage("max_open_orders", symbol, active, Decimal(state.own[symbol].max_open_orders), "orders")
    if parameters.max_open_positions is not None:
        held = [s for s in parameters.symbols if state.ledger.accounts[s].position_lots or state.orders.active(s)]
        yield Usage("max_open_positions", "all", Decimal(len(held)), Decimal(parameters.max_open_positions), "symbols")


def _rates(parameters: EngineParameters, reader: JournalReader, now_ns: int) -> Iterator[Usage]:
    for limit, kind, allowed in (
        ("orders_per_min_max", "PlaceOrder", parameters.orders_per_min_max),
        ("cancels_per_min_max", "CancelOrder", parameters.cancels_per_min_max),
        ("cancel_budget_per_min", "CancelOrder", parameters.cancel_budget_per_min),
        ("kill_orders_per_min_max", "PlaceOrder", parameters.kill_orders_per_min_max),
    ):
        if allowed is None:
            continue
        query = "SELECT count(*) FROM entry WHERE kind = ?1 AND at_ns > ?2"
        (count,) = next(reader.rows(query, [kind, now_ns - MINUTE_NS]))
        yield Usage(limit, "last minute", Decimal(count), Decimal(allowed), "messages")


def _money(known: Known) -> Iterator[Usage]:
    """Losses: the worse of the own ledger and the venue's statement."""
    state, parameters = known.state, known.state.parameters
    nets = net_by_symbol(state)
    priced = nets is not None and known.is_stated
    if nets is not None:
        state.equity.note(sum(nets.values(), _ZERO), known.now_ns)
    total = parameters.total_max_quote if known.grant is None else min(
        parameters.total_max_quote, known.grant.total_max_quote
    )  # fmt: skip
    loss = max(state.equity.loss_24h_quote, state.venue_equity.loss_24h_quote)
    drawdown = max(state.equity.drawdown_quote, state.venue_equity.drawdown_quote)
    yield Usage(
        "daily_loss_pct_hard", "24 h", loss if priced else None, total * parameters.daily_loss_pct_hard / 100, "quote"
    )
    yield Usage(
        "drawdown_pct_hard", "peak", drawdown if priced else None, total * parameters.drawdown_pct_hard / 100, "quote"
    )
    if parameters.daily_loss_cap_quote is not None:
        yield Usage("daily_loss_cap_quote", "24 h", loss if priced else None, parameters.daily_loss_cap_quote, "quote")
    if parameters.kill_loss_max_quote is not None:
        lost = None if nets is None or not priced else max(loss, -sum(nets.values(), _ZERO))
        yield Usage("kill_loss_max_quote", "24 h", lost, parameters.kill_loss_max_quote, "quote")
    yield from _budgets(known, nets)


def _budgets(known: Known, nets: Mapping[str, Decimal] | None) -> Iterator[Usage]:
    """What each strategy lost and traded in its UTC day; of a day that has not begun yet nothing."""
    state, parameters = known.state, known.state.parameters
    strategies: dict[str, list[str]] = {}
    for symbol, own in state.own.items():
        strategies.setdefault(own.strategy, []).append(symbol)
    for strategy, symbols in strategies.items():
        start = known.starts.get(strategy)
        today = start is not None and start.day == known.now_ns // DAY_NS
        lost = traded = None if start is None else _ZERO
        if today and start is not None:
            lost = None if nets is None else max(_ZERO, start.net_quote - sum((nets[s] for s in symbols), _ZERO))
            accounts = [state.ledger.accounts[symbol] for symbol in symbols]
            turnover = sum((one.maker_notional_quote + one.taker_notional_quote for one in accounts), _ZERO)
            traded = turnover - start.turnover_quote
        if parameters.budget_loss_quote is not None:
            yield Usage("budget_loss_quote", strategy, lost, parameters.budget_loss_quote, "quote")
        if parameters.budget_turnover_quote is not None:
            yield Usage("budget_turnover_quote", strategy, traded, parameters.budget_turnover_quote, "quote")


def _sum(values: Iterable[Decimal | None]) -> Decimal | None:
    """None where one of them is not known."""
    total = _ZERO
    for value in values:
        if value is None:
            return None
        total += value
    return total
