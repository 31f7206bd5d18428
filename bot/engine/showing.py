"""What the engine shows to exporter and operator. Floats appear here, for showing; nothing is decided by them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from bot.domain.order import OrderState
from bot.engine.ledger import Pnl
from bot.engine.parameters import NS_PER_MS, NS_PER_S, UBPS
from bot.engine.performance import Performance
from bot.engine.state import State
from bot.metrics import PNL_KINDS, TRADING_STATES

Gauge = tuple[str, tuple[str, ...], float]


def gauges(state: State, performance: Performance, drift_pct: Mapping[str, Decimal], now_ns: int) -> Iterator[Gauge]:
    """Every gauge of the engine that has a value at `now_ns`; an unknown one is not yielded."""
    yield "mm_maker_only_enabled", (), float(state.parameters.maker_only)
    for name in TRADING_STATES:
        yield "mm_trading_state", (name,), float(state.view.value == name)
    yield "mm_grant_epoch", (), float(0 if state.grant is None else state.grant.epoch)
    if state.grant is not None and now_ns < state.grant.expires_at_ns:
        yield "mm_grant_age_seconds", (), (now_ns - state.grant.renewed_at_ns) / NS_PER_S
    healthy = bool(state.public_up_since_ns and state.private_up_since_ns) and not any(
        order.state is OrderState.UNKNOWN for order in state.orders.all_live()
    )
    yield "mm_execution_healthy", ("ok",), float(healthy)
    yield "mm_execution_healthy", ("degraded",), float(not healthy)
    if state.wallet is not None:
        yield "mm_statement_age_seconds", (), (now_ns - state.wallet.at_ns) / NS_PER_S
        margin = margin_ratio(state, now_ns)
        if margin is not None:
            yield "mm_margin_ratio", (), float(margin)
    yield "mm_funding_quote_total", (), float(state.ledger.funding_quote)
    known = pnl_total(state).net is not None
    for symbol in state.parameters.symbols:
        yield from _of_symbol(state, performance, symbol, now_ns, is_net_known=known)
    for symbol, drift in drift_pct.items():
        yield "mm_position_drift_pct", (symbol,), float(drift)
    for symbol, horizon, bps in performance.markouts():
        yield "mm_markout_bps", (symbol, horizon), float(bps)
    yield from _of_fills(state)


def margin_ratio(state: State, now_ns: int) -> Decimal | None:
    """Margin in use / equity, None where that is not known (any more), or there is no equity."""
    wallet = state.wallet
    if wallet is None or wallet.equity_quote <= 0 or state.statement_is_stale(now_ns):
        return None
    return wallet.margin_used_quote / wallet.equity_quote


def _of_symbol(
    state: State, performance: Performance, symbol: str, now_ns: int, *, is_net_known: bool
) -> Iterator[Gauge]:
    """`is_net_known`: of all symbols. What is shown of `net` is added up, and a sum without one would hide it."""
    yield "mm_active_orders", (symbol,), float(active_orders(state, symbol))
    yield "mm_symbol_held", (symbol,), float(symbol in state.held or symbol in state.blocked)
    book = state.books[symbol]
    since_ns = book.updated_at_ns or state.started_ns
    if since_ns:
        yield "mm_book_age_ms", (symbol,), (now_ns - since_ns) / NS_PER_MS
    instrument, mark = state.instruments.get(symbol), state.mark(symbol)
    account = state.ledger.accounts[symbol]
    pnl = state.ledger.pnl(symbol, mark, instrument)
    for kind in PNL_KINDS:
        value = getattr(pnl, kind)
        if value is not None and (kind != "net" or is_net_known):
            yield "mm_pnl_quote", (symbol, kind), float(value)
    if instrument is not None and mark is not None:
        yield "mm_position_quote", (symbol,), float(instrument.qty(account.position_lots) * mark)
    if not account.fills:
        return
    edge = performance.edge_ubps(symbol, now_ns)
    if edge is not None:
        yield "mm_edge_bps", (symbol,), edge / UBPS
    filled, placed = (
        sum(state.counters.get(name, symbol, side) for side in ("buy", "sell"))
        for name in ("mm_orders_filled_total", "mm_orders_placed_total")
    )
    if placed:
        yield "mm_fill_rate", (symbol,), filled / placed


def _of_fills(state: State) -> Iterator[Gauge]:
    traded = state.ledger.traded_notional_quote
    if traded:
        yield "mm_maker_taker_ratio", (), float(state.ledger.maker_notional_quote / traded)
        net = pnl_total(state).net
        if net is not None:
            yield "mm_net_bps", (), float(net * 10_000 / traded)


def positions(state: State) -> dict[str, dict[str, str | None]]:
    """Symbol → signed quantity in base and signed notional at mid, decimals as text; None where no mid tells it."""
    shown: dict[str, dict[str, str | None]] = {}
    for symbol in state.parameters.symbols:
        lots = state.ledger.accounts[symbol].position_lots
        instrument, mark = state.instruments.get(symbol), state.mark(symbol)
        qty = Decimal(0) if instrument is None else instrument.qty(lots)
        notional = qty * mark if mark is not None else None if lots else Decimal(0)
        shown[symbol] = {"qty": format(qty, "f"), "notional_quote": None if notional is None else format(notional, "f")}
    return shown


def pnl_total(state: State) -> Pnl:
    """All symbols together; what is not known of one is not known of all."""
    parts = [
        state.ledger.pnl(symbol, state.mark(symbol), state.instruments.get(symbol))
        for symbol in state.parameters.symbols
    ]
    sums: list[Any] = []
    for kind in PNL_KINDS:
        values = [getattr(part, kind) for part in parts]
        sums.append(None if None in values else sum(values, Decimal(0)))
    return Pnl(*sums)


def active_orders(state: State, symbol: str) -> int:
    """Own orders working, in flight or unknown; while stopped without those that the venue, asked after, never knew."""
    if not state.stops.any:
        return state.orders.active(symbol)
    return sum(not order.is_unseen(order.sent_at_ns) for order in state.orders.live(symbol))
