"""The report of a run: one JSON object with sorted keys, from the engine's counters and ledger at the end."""

from __future__ import annotations

from decimal import Decimal

from bot.engine.engine import Engine
from bot.engine.showing import positions
from bot.exports import utc
from bot.resolution import Resolved
from bot.runtime.status import plain, pnl_of
from bot.version import code_version

Section = dict[str, object]


def report(engine: Engine, resolved: Resolved, now_ns: int) -> dict[str, Section]:
    """Totals are of this process. Numbers of money are decimal strings."""
    execution, state = resolved.config.execution, engine.known
    reasons = ("cross_price", "min_qty", "risk_limit", "maker_only")
    blocked = {reason: _sum(engine, "mm_orders_blocked_total", reason) for reason in reasons}
    held = state.stops.principal
    return {
        "execution": {
            "iterations": execution.iterations,
            "symbols": list(execution.symbols),
            "maker_only": execution.maker_only,
            "post_only_offset_bps": plain(execution.post_only_offset_bps),
            "min_qty_pad": plain(execution.min_qty_pad),
            "network": True,
            "testnet": resolved.mode == "testnet",
            "warmup_filters": True,
            "end_time_ms": now_ns // 1_000_000,
        },
        "orders": {
            "placed": _sum(engine, "mm_orders_placed_total"),
            "filled": _sum(engine, "mm_orders_filled_total"),
            "rejected": _sum(engine, "mm_orders_rejected_total"),
            "canceled": _sum(engine, "mm_orders_cancelled_total"),
            "blocked": sum(blocked.values()),
            "blocked_by_reason": blocked,
            "risk_blocks": blocked["risk_limit"],
            "post_only_rejects": _sum(engine, "mm_post_only_rejects_total"),
        },
        "positions": {"by_symbol": positions(state)},
        "pnl": {
            **pnl_of(state),
            "maker_notional": plain(Decimal(state.ledger.maker_notional_quote)),
            "traded_notional": plain(Decimal(state.ledger.traded_notional_quote)),
        },
        "risk": {
            "state": state.view.value,
            "frozen": held is not None,
            "freezes_total": _sum(engine, "mm_freeze_events_total"),
            "last_freeze_reason": "" if held is None else held.stop.reason,
        },
        "recon": {
            "divergence_count": _sum(engine, "mm_recon_divergence_total"),
            "runs": _sum(engine, "mm_recon_runs_total"),
        },
        "runtime": {
            "utc": utc(now_ns),
            "version": code_version(),
            "config_digest": resolved.digest,
            "seed": execution.seed,
        },
    }


def _sum(engine: Engine, name: str, label: str = "") -> int:
    """Over all label sets of that counter, or those that carry the label value."""
    return sum(
        count for (key, labels), count in engine.counts.items() if key == name and (not label or label in labels)
    )
