"""The metric catalogue: the one list of what the bot shows. Exporter, gates, alerts and dashboards all read it.

Nothing here imports prometheus_client: `bot.runtime.exporter` builds the real metrics from this list, `gates.lint`
refuses a query that names a metric which is not in it.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]


class Metric(NamedTuple):
    """`name` as it is exposed (counters with `_total`), `unit` in words, `labels` in order, `meaning` in a sentence."""

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    meaning: str
    edges: tuple[float, ...] = ()


ORDER_LATENCY_EDGES_MS: Final = (10.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0)
SECONDS_EDGES: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

TRADING_STATES: Final = ("INIT", "RUNNING", "FROZEN", "HELD", "HALTED", "SHUTDOWN")
BLOCK_REASONS: Final = ("cross_price", "min_qty", "risk_limit", "maker_only")
STOP_CLASSES: Final = ("planned", "market", "fault")
DIVERGENCE_TYPES: Final = ("orders_local_only", "orders_remote_only", "position_mismatch", "unrecorded_fills")
FILTER_SOURCES: Final = ("fetched", "cached", "default_fallback")
OPERATIONS: Final = ("tick_to_decision", "decision_to_send", "send_to_confirmed", "cancel_to_confirmed")
QUOTING_SIDES: Final = ("none", "one", "two")
PNL_KINDS: Final = ("realized", "unrealized", "fees", "rebates", "funding", "net")
MARKOUT_HORIZONS: Final = ("1s", "5s", "60s")
LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")

CATALOGUE: Final[tuple[Metric, ...]] = (
    Metric("mm_iterations", "gauge", "updates", (), "Market updates that every symbol has had in this process."),
    Metric("mm_orders_placed_total", "counter", "orders", ("symbol", "side"), "Creates sent to the venue."),
    Metric("mm_orders_filled_total", "counter", "orders", ("symbol", "side"), "Orders with at least one fill."),
    Metric("mm_orders_cancelled_total", "counter", "orders", ("symbol",), "Orders that ended cancelled."),
    Metric("mm_orders_rejected_total", "counter", "orders", ("symbol", "reason"), "Creates the venue refused."),
    Metric("mm_orders_blocked_total", "counter", "orders", ("symbol", "reason"), "Orders our own policy held back."),
    Metric(
        "mm_post_only_adjustments_total", "counter", "orders", ("symbol", "side"), "Prices made passive by the policy."
    ),
    Metric(
        "mm_post_only_rejects_total", "counter", "orders", ("symbol",), "Post-only refusals: re-quoted, not rejected."
    ),
    Metric("mm_maker_only_enabled", "gauge", "0 or 1", (), "1 while the maker policy is on."),
    Metric(
        "mm_crossing_orders_total",
        "counter",
        "orders",
        ("symbol",),
        "Quotes sent although they crossed the book then known, or filled as taker. Must stay 0.",
    ),
    Metric("mm_taker_fills_total", "counter", "fills", ("symbol",), "Fills of quotes as taker. Must stay 0."),
    Metric(
        "mm_filter_violations_total", "counter", "orders", ("symbol",), "Creates the venue refused for price or size."
    ),
    Metric("mm_freeze_events_total", "counter", "stops", ("reason", "class"), "Stops, and symbols frozen alone."),
    Metric("mm_trading_state", "gauge", "0 or 1", ("state",), "1 for the view of the stop table that holds now."),
    Metric(
        "mm_cancel_all_duration_seconds",
        "histogram",
        "seconds",
        (),
        "From entering a stop, or starting under one, until the venue shows no own order.",
        SECONDS_EDGES,
    ),
    Metric("mm_order_latency_ms", "histogram", "ms", ("symbol",), "Create: send to answer.", ORDER_LATENCY_EDGES_MS),
    Metric(
        "mm_execution_latency_seconds",
        "histogram",
        "seconds",
        ("operation",),
        "Parts of the way of an order.",
        SECONDS_EDGES,
    ),
    Metric("mm_execution_healthy", "gauge", "0 or 1", ("status",), "1 for the status that holds: ok or degraded."),
    Metric("mm_fill_rate", "gauge", "ratio", ("symbol",), "Orders filled / placed. Absent before the first fill."),
    Metric("mm_maker_taker_ratio", "gauge", "ratio", (), "Maker notional / all. Absent before the first fill."),
    Metric(
        "mm_edge_bps",
        "gauge",
        "bps",
        ("symbol",),
        "Quoted half-spread - maker fee + rebate - expected adverse selection.",
    ),
    Metric("mm_markout_bps", "gauge", "bps", ("symbol", "horizon"), "EWMA of the mid's move after our fills, for us."),
    Metric("mm_net_bps", "gauge", "bps", (), "Net since start / traded notional. Absent before the first fill."),
    Metric("mm_pnl_quote", "gauge", "quote", ("symbol", "kind"), "Profit and loss by kind. Absent where not known."),
    Metric("mm_position_quote", "gauge", "quote", ("symbol",), "Position marked at mid; signed."),
    Metric("mm_position_drift_pct", "gauge", "percent", ("symbol",), "|own - venue| / max(|venue|, one lot)."),
    Metric(
        "mm_margin_ratio", "gauge", "ratio", (), "Margin in use / equity. Absent where unknown, or stated too long ago."
    ),
    Metric("mm_statement_age_seconds", "gauge", "seconds", (), "Since the venue last stated equity and margin."),
    Metric("mm_funding_quote_total", "gauge", "quote", (), "Funding received - paid. Signed, so a gauge."),
    Metric(
        "mm_quoting_seconds_total", "counter", "seconds", ("symbol", "sides"), "Time with none, one, two quotes out."
    ),
    Metric("mm_may_quote_seconds_total", "counter", "seconds", ("symbol",), "Time in RUNNING with a grant: may quote."),
    Metric(
        "mm_active_orders",
        "gauge",
        "orders",
        ("symbol",),
        "Own orders working, in flight or unknown; while stopped without those that the venue never knew of.",
    ),
    Metric("mm_recon_divergence_total", "counter", "divergences", ("type",), "Differences counted by reconciliation."),
    Metric("mm_recon_runs_total", "counter", "runs", (), "Reconciliations finished."),
    Metric("mm_duplicate_operations_total", "counter", "operations", (), "Repeats of a key: nothing was done again."),
    Metric("mm_live_enable", "gauge", "0 or 1", (), "1 where MM_LIVE_ENABLE arms this process."),
    Metric("mm_grant_age_seconds", "gauge", "seconds", (), "Since the grant was last renewed. Absent without one."),
    Metric("mm_grant_epoch", "gauge", "epoch", (), "The epoch held; 0 without a grant."),
    Metric("mm_symbol_held", "gauge", "0 or 1", ("symbol",), "1 where too little is known of a symbol to quote there."),
    Metric("mm_symbol_filters_source_total", "counter", "reads", ("source",), "Where symbol filters came from."),
    Metric("mm_symbol_filters_fetch_errors_total", "counter", "errors", (), "Filter reads that failed."),
    Metric("mm_ws_reconnects_total", "counter", "reconnects", (), "Socket reconnects."),
    Metric("mm_ws_drops_undetected_total", "counter", "drops", (), "Socket drops found only by the stale book."),
    Metric("mm_book_age_ms", "gauge", "ms", ("symbol",), "Since the last book update, or since the start."),
    Metric("mm_http_responses_total", "counter", "responses", ("endpoint", "status"), "Venue REST answers."),
    Metric("mm_rate_limit_headroom_ratio", "gauge", "ratio", ("endpoint",), "Requests left / limit, by the headers."),
    Metric("mm_connections_open", "gauge", "connections", ("kind",), "Open sockets: public, private, trade."),
    Metric("mm_limit_breaches_total", "counter", "breaches", ("limit",), "Risk limits that refused or stopped."),
    Metric("mm_snapshot_age_seconds", "gauge", "seconds", (), "Since the exports were last written."),
    Metric("mm_log_records_total", "counter", "records", ("lvl",), "Log records by level."),
    Metric("mm_uncaught_exceptions_total", "counter", "exceptions", (), "Exceptions nobody expected. Must stay 0."),
    Metric("mm_build_info", "gauge", "1", ("version", "digest"), "What runs: code version and candidate digest."),
    Metric("readiness_status", "gauge", "0 or 1", ("status",), "1 for the readiness that holds: GREEN, YELLOW, RED."),
    Metric("readiness_reason_total", "counter", "times", ("reason",), "Readiness lost, by reason."),
)

PIPELINE: Final[tuple[Metric, ...]] = (
    Metric("rollout_stage_state", "gauge", "0 or 1", ("stage", "state"), "1 for the state the stage is in."),
    Metric("rollout_criterion_value", "gauge", "by criterion", ("criterion",), "Last measured value."),
    Metric("rollout_criterion_outcome", "gauge", "0 or 1", ("criterion", "outcome"), "1 for the outcome that holds."),
    Metric("rollout_blind_seconds_total", "counter", "seconds", (), "Time without a measurement that was due."),
    Metric("rollout_signoffs_pending", "gauge", "sign-offs", (), "Sign-offs still wanted."),
    Metric("rollout_rollback_state", "gauge", "0 or 1", ("step",), "1 once the step is proven."),
    Metric("rollout_outbox_pending", "gauge", "messages", (), "Notices not yet delivered."),
    Metric("rollout_guard_beat_timestamp_seconds", "gauge", "unix time", (), "The guard's last turn."),
)

WATCHDOG: Final[tuple[Metric, ...]] = (
    Metric("watchdog_beat_timestamp_seconds", "gauge", "unix time", (), "The watchdog's last look."),
    Metric("watchdog_state", "gauge", "0 or 1", ("state",), "1 for the state that holds: OK, DEGRADED, AUTO_HOLD."),
    Metric("watchdog_missed_beats", "gauge", "beats", ("of",), "Beats missed in a row, by who is expected to beat."),
    Metric("watchdog_kill_switch_runs_total", "counter", "runs", ("result",), "Kill switches run, by how they ended."),
)

STANDARD: Final = (
    "up",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_open_fds",
    "process_max_fds",
    "process_start_time_seconds",
)
"""Emitted by prometheus_client itself, or by Prometheus (`up`)."""

TARGET_LABELS: Final = ("account", "rollout", "stage", "run")
"""Set by Prometheus on every sample of a target; gates select by them."""


def exposed_names() -> frozenset[str]:
    """Every series name a query may use, histogram parts included."""
    names: set[str] = set(STANDARD)
    for metric in (*CATALOGUE, *PIPELINE, *WATCHDOG):
        if metric.kind == "histogram":
            names.update(f"{metric.name}_{part}" for part in ("bucket", "sum", "count"))
        else:
            names.add(metric.name)
    return frozenset(names)
