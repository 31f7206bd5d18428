"""What the operator page is told about the engine. Reads the engine's state, changes nothing."""

from __future__ import annotations

from decimal import Decimal

from bot.domain.events import Started
from bot.engine.parameters import NS_PER_S
from bot.engine.showing import margin_ratio, pnl_total, positions
from bot.engine.state import State
from bot.engine.stop import View
from bot.metrics import PNL_KINDS
from bot.runtime.grant import GrantHolder


def status_of(state: State, grant: GrantHolder, started: Started, now_ns: int) -> dict[str, object]:
    """What `GET /api/ui/status` answers."""
    return {
        "state": state.view.value,
        "stop": stop_of(state),
        "releases": releases_of(state),
        "epoch": grant.epoch,
        "grant_age_s": grant.age_s(now_ns),
        "active_orders": {symbol: state.orders.active(symbol) for symbol in started.symbols},
        "positions": positions(state),
        "pnl": pnl_of(state),
        "statement": statement_of(state, now_ns),
        "losses": losses_of(state),
        "digest": started.config_digest,
        "version": started.version,
        "run": started.run,
        "mode": started.mode,
    }


def statement_of(state: State, now_ns: int) -> dict[str, object]:
    """The venue's word on the account: how old it is, whether that is too old, and the margin in use by it, as text."""
    margin = margin_ratio(state, now_ns)
    return {
        "age_s": None if state.wallet is None else (now_ns - state.wallet.at_ns) / NS_PER_S,
        "stale": state.statement_is_stale(now_ns),
        "margin_ratio": None if margin is None else plain(margin),
    }


def stop_of(state: State) -> dict[str, str] | None:
    """The stop that shows, or None while none holds."""
    held = state.stops.principal
    if held is None:
        return None
    stop = held.stop
    return {"reason": stop.reason, "class": stop.stop_class, "resume": stop.resume, "detail": held.detail}


def releases_of(state: State) -> list[dict[str, object]]:
    """Requests to release stops that wait for a second person, oldest first."""
    return [
        {
            "request_id": release_id,
            "kind": release.kind,
            "covers": list(release.covers),
            "asked_by": release.asked_by,
            "why": release.why,
        }
        for release_id, release in state.releases.items()
        if release.word == "pending"
    ]


def pnl_of(state: State) -> dict[str, str | None]:
    """Profit and loss of all symbols together by kind, quote, decimals as text; None where it is not known."""
    pnl = pnl_total(state)
    values = {kind: getattr(pnl, kind) for kind in PNL_KINDS}
    return {kind: None if value is None else plain(value) for kind, value in values.items()}


def losses_of(state: State) -> dict[str, str]:
    """What the limits on losing go by, quote: the results that the day's loss and the drawdown are measured from, and
    both. They outlive the process."""
    curve = state.equity_told
    peak_quote = curve.oldest_quote if curve.peak_quote is None else curve.peak_quote
    shown = {"since": curve.oldest_quote, "peak": peak_quote}
    shown |= {"loss_24h": curve.loss_24h_quote, "drawdown": curve.drawdown_quote}
    return {f"{name}_quote": plain(value) for name, value in shown.items()}


def checks_of(state: State) -> dict[str, bool]:
    """exchange: both streams up and some filters known (a symbol without is held by itself); risk: no stop holds;
    state: everything for quoting was there.
    """
    symbols = state.parameters.symbols
    return {
        "exchange": bool(state.public_up_since_ns and state.private_up_since_ns)
        and any(symbol in state.instruments for symbol in symbols),
        "risk": not state.stops.any,
        "state": state.ready and state.view is not View.INIT,
    }


def plain(value: Decimal) -> str:
    """Digits without exponent and without trailing zeros."""
    return format(value.normalize(), "f") if value else "0"
