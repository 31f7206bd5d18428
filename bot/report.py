"""The report of a run: one JSON object with sorted keys, from the engine's counters and ledger at the end.

Totals are of this process. Money and ratios are decimal strings; what has no value yet (a ratio before the first fill)
is null. The same run gives the same bytes: time is the run's own (simulated in shadow), and `MM_FREEZE_UTC_ISO` holds
the one moment that is not part of the run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final, NamedTuple

from bot.engine.engine import Engine
from bot.engine.showing import positions
from bot.exports import utc
from bot.metrics import BLOCK_REASONS, DIVERGENCE_TYPES
from bot.resolution import Resolved
from bot.runtime.status import plain, pnl_of
from bot.settings_file import ConfigError
from bot.tally import SHUTDOWN, Tally
from bot.version import code_version

FREEZE_VARIABLE: Final = "MM_FREEZE_UTC_ISO"

Section = dict[str, object]


class Span(NamedTuple):
    """The run in its own time, nanoseconds since the epoch. `iterations`: done; `recovered`: it continued a journal."""

    started_ns: int
    ended_ns: int
    iterations: int
    network: bool
    warmed: bool
    recovered: bool


def report(engine: Engine, tally: Tally, resolved: Resolved, span: Span) -> dict[str, Section]:
    """Raises ConfigError where MM_FREEZE_UTC_ISO is no time."""
    execution, risk = resolved.config.execution, _risk(engine, tally)
    frozen_ns = frozen_at_ns(resolved.environment)
    return {
        "execution": {
            "iterations": span.iterations,
            "symbols": list(execution.symbols),
            "start_time_ms": span.started_ns // 1_000_000,
            "end_time_ms": span.ended_ns // 1_000_000,
            "duration_ms": (span.ended_ns - span.started_ns) // 1_000_000,
            "maker_only": execution.maker_only,
            "post_only_offset_bps": plain(execution.post_only_offset_bps),
            "min_qty_pad": plain(execution.min_qty_pad),
            "network": span.network,
            "testnet": resolved.mode == "testnet",
            "warmup_filters": span.warmed,
        },
        "orders": _orders(engine, tally),
        "positions": _positions(engine),
        "pnl": _pnl(engine),
        "risk": risk,
        "recon": {
            "divergence_count": total(engine, "mm_recon_divergence_total"),
            "by_type": {kind: total(engine, "mm_recon_divergence_total", kind) for kind in DIVERGENCE_TYPES},
            "last_run_ms": tally.recon_last_run_ms,
        },
        "recovery": {
            "recovered": span.recovered,
            "open_orders_count": len(tally.found_open),
            "open_orders": sorted(tally.found_open),
        },
        "runtime": {
            "utc": utc(span.ended_ns if frozen_ns is None else frozen_ns),
            "version": code_version(),
            "config_digest": resolved.digest,
            "seed": execution.seed,
        },
    }


def as_text(document: Mapping[str, object]) -> str:
    """JSON with sorted keys and one final newline."""
    return json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def check_report_file(path: Path) -> None:
    """Raises ConfigError where a report could not be written there: said before a run, not after it."""
    new = not path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
        if new:
            path.unlink()
    except OSError as error:
        raise ConfigError(f"--report: {path} cannot be written ({error.strerror})") from error


def frozen_at_ns(environment: Mapping[str, str]) -> int | None:
    """The moment that MM_FREEZE_UTC_ISO names, None without one. Raises ConfigError for what is no time in UTC."""
    text = environment.get(FREEZE_VARIABLE, "")
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or (moment.tzinfo is not None and moment.utcoffset() != UTC.utcoffset(None)):
        raise ConfigError(f"{FREEZE_VARIABLE}: {text!r} is not allowed; needs UTC as 2026-01-31T12:00:00Z")
    whole = moment.replace(tzinfo=UTC)
    return (int(whole.replace(microsecond=0).timestamp()) * 1_000_000 + whole.microsecond) * 1_000


def total(engine: Engine, name: str, label: str = "") -> int:
    """A counter over all its label sets, or over those that carry the label value."""
    return sum(
        count for (key, labels), count in engine.counts.items() if key == name and (not label or label in labels)
    )


def _orders(engine: Engine, tally: Tally) -> Section:
    blocked = {reason: total(engine, "mm_orders_blocked_total", reason) for reason in BLOCK_REASONS}
    return {
        "placed": total(engine, "mm_orders_placed_total"),
        "filled": total(engine, "mm_orders_filled_total"),
        "rejected": total(engine, "mm_orders_rejected_total"),
        "canceled": total(engine, "mm_orders_cancelled_total"),
        "blocked": sum(blocked.values()),
        "blocked_by_reason": blocked,
        "risk_blocks": blocked["risk_limit"],
        "post_only_rejects": total(engine, "mm_post_only_rejects_total"),
        "duplicate_operations": tally.duplicate_operations,
    }


def _positions(engine: Engine) -> Section:
    shown = positions(engine.known)
    told = [position["notional_quote"] for position in shown.values()]
    notionals = [Decimal(notional) for notional in told if notional is not None]
    known = len(notionals) == len(told)  # a sum without one of them is none
    return {
        "by_symbol": {
            symbol: {name: None if value is None else plain(Decimal(value)) for name, value in position.items()}
            for symbol, position in shown.items()
        },
        "net_pos_usd": plain(sum(notionals, Decimal(0))) if known else None,
        "total_notional_usd": plain(sum((abs(notional) for notional in notionals), Decimal(0))) if known else None,
    }


def _pnl(engine: Engine) -> Section:
    ledger, pnl = engine.known.ledger, pnl_of(engine.known)
    traded, net = ledger.traded_notional_quote, pnl["net"]
    return {
        **pnl,
        "net_bps": None if net is None else _ratio(Decimal(net) * 10_000, traded),
        "maker_taker_ratio": _ratio(ledger.maker_notional_quote, traded),
    }


def _risk(engine: Engine, tally: Tally) -> Section:
    holding = [held.stop.reason for held in engine.known.stops.all if held.stop.reason != SHUTDOWN]
    freezes = total(engine, "mm_freeze_events_total") - total(engine, "mm_freeze_events_total", SHUTDOWN)
    return {
        "frozen": bool(holding),
        "freeze_triggered": freezes > 0,
        "freeze_events": tally.freezes,
        "freezes_total": freezes,
        "blocks_total": total(engine, "mm_orders_blocked_total", "risk_limit"),
        "last_freeze_reason": tally.last_freeze_reason,
        "last_freeze_symbol": tally.last_freeze_symbol,
    }


def _ratio(part: Decimal, whole: Decimal) -> str | None:
    """To six decimals; None where there is nothing to divide by."""
    return plain((part / whole).quantize(Decimal("0.000001"))) if whole else None
