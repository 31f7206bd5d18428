"""Every criterion of the real plan against the table of numbers that is required of it, copied here by hand.

A criterion that holds in a stage where the table has another number, or none, is found by name; so is one that nobody
has put into the table.
"""

from __future__ import annotations

from functools import cache

import pytest

from gates.criteria import Criterion
from gates.stages import ROOT, criteria_of, load_plan

Bands = dict[str, tuple[str, str]]
"""Criterion → (go, no-go); empty: the rest of the other."""

EVERY_STAGE: Bands = {
    "process_up": ("== 1", ""),
    "digest_as_signed": ("== 1", ""),
    "crossing_orders": ("== 0", ""),
    "taker_fills": ("== 0", ""),
    "filter_violations": ("== 0", ""),
    "recon_divergences": ("== 0", ""),
    "loss_limit_halts": ("== 0", ""),
    "fault_freezes": ("== 0", ""),
    "uncaught_exceptions": ("== 0", ""),
    "cancel_all_over_1_s": ("== 0", ""),
    "orders_left_standing": ("== 0", ""),
    "quotes_on_stale_book": ("<= 32000", ""),
    "machine_freezes": ("== 0", ""),
    "stale_book": ("<= 60000", ""),
    "halted": ("== 0", ""),
    "journal_data": ("== 0", ""),
}
SHADOW: Bands = {
    "notional_below_total": ("", ">= 50000"),
    "maker_only": ("== 1", ""),
    "blocked_by_reason": (">= 4", ""),
    "placed_share": ("0.8 .. 1", "< 0.5"),
    "filled_share": ("0.7 .. 0.9", "< 0.5"),
    "risk_blocks": ("< 0.2", "> 0.5"),
    "markouts_computed": (">= 3", ""),
    "report_byte_stable": ("== 1", ""),
    "two_sided_quoting": (">= 0.95", ""),
    "held_or_frozen": ("<= 0.02", ""),
}
NETWORKED: Bands = {
    "grant_expired_freezes": ("<= 2", ""),
    "grant_fresh": ("== 1", ""),
    "margin_in_use": ("< 0.8", ""),
    "watchdog_beats": ("== 1", ""),
    "two_sided_quoting_hour": ("<= 0.05", "> 0.5"),
    "orders_are_placed": ("> 0", ""),
    "journal_agrees_with_prometheus": ("== 0", ""),
    "watched_without_gap": ("<= 2", ""),
    "placed": ("> 0", ""),
    "two_sided_quoting": (">= 0.95", ""),
    "held_or_frozen": ("<= 0.02", ""),
}
TESTNET_SMOKE: Bands = {
    "within_15_min": ("< 900", ""),
    "blocked_crossing": ("== 0", ""),
    "blocked_too_small": ("== 0", ""),
    "kill_switch_unused": ("== 0", ""),
    "sockets_reopened": ("== 0", ""),
    "alerts_firing": ("== 0", ""),
    "backup_is_whole": ("== 1", ""),
    "drills": ("== 0", ""),
    "divergences": ("== 0", ""),
}
TESTNET_48_H: Bands = {
    "rejections": ("< 0.001", ""),
    "maker_taker": (">= 0.85", "< 0.80"),
    "drops_undetected": ("== 0", ""),
    "too_many_requests": ("== 0", ""),
    "rate_limit_headroom": ("> 0.5", ""),
    "filter_cache_hits": (">= 0.8", ""),
    "memory_growth": ("< 5000000", "> 50000000"),
    "net_bps": (">= 0", "< -10"),
}
LIVE: Bands = {
    "attempt_pnl": ("", "< -500"),
    "candidate_pnl_24h": ("", "< -500"),
    "order_latency_p99": ("< 500", "> 1000"),
    "order_latency_p99_target": ("< 100", ""),
}
CANARY: Bands = {
    "filled": ("> 10", ""),
    "pnl_guard": (">= -50", "< -100"),
    "stage_pnl": ("", "< -100"),
    "pnl": (">= -50", "< -100"),
    "uptime": ("> 0.995", ""),
}
SOAK: Bands = {
    "drills": ("== 0", ""),
    "log_errors": ("== 0", ""),
    "active_orders": ("<= 4", ""),
    "filled": ("> 100", ""),
    "pnl_guard": (">= -200", "< -500"),
    "stage_pnl": ("", "< -500"),
    "pnl": (">= -200", "< -500"),
    "edge": ("> 3.0", ""),
    "fill_rate": ("> 0.1", ""),
    "uptime": ("> 0.99", ""),
    "position_drift": ("< 1", ""),
    "memory_growth": ("< 5000000", "> 50000000"),
    "files_growth": ("< 0.5", "> 5"),
    "connections_growth": ("< 0.5", "> 5"),
}
SCALE_UP: Bands = {  # the table has no row for it; a step is judged by what the soak was
    "filled": ("> 100", ""),
    "pnl_guard": (">= -200", "< -500"),
    "stage_pnl": ("", "< -500"),
    "pnl": (">= -200", "< -500"),
    "fill_rate": ("> 0.1", ""),
    "uptime": ("> 0.99", ""),
    "kpi_uptime": (">= 0.995", ""),
    "kpi_order_latency_p99": ("< 500", ""),
    "kpi_freezes": ("== 0", ""),
    "kpi_blocked_share": ("< 0.1", ""),
}
ON_LIVE = EVERY_STAGE | NETWORKED | LIVE
STAGES: dict[tuple[str, str], Bands] = {
    ("shadow", ""): EVERY_STAGE | SHADOW,
    ("testnet", "smoke"): EVERY_STAGE | NETWORKED | TESTNET_SMOKE,
    ("testnet", "soak-hour"): EVERY_STAGE | NETWORKED | TESTNET_48_H,
    ("testnet", "unbroken"): EVERY_STAGE | NETWORKED | TESTNET_48_H,
    ("canary", ""): ON_LIVE | CANARY,
    ("soak", ""): ON_LIVE | SOAK,
    **{("scale-up", f"step-{number}"): ON_LIVE | SCALE_UP for number in range(1, 7)},
}
ADVISORY = {
    *("blocked_crossing", "blocked_too_small", "kill_switch_unused", "sockets_reopened"),
    *("alerts_firing", "backup_is_whole"),
    *("net_bps", "order_latency_p99_target", "attempt_pnl"),
}
IN_GUARD = {
    *("pnl_guard", "stage_pnl", "candidate_pnl_24h", "crossing_orders", "taker_fills", "recon_divergences"),
    "orders_are_placed",
}


@cache
def _loaded() -> dict[tuple[str, str], dict[str, Criterion]]:
    stages = load_plan(ROOT / "configs" / "rollout.yaml").stages
    each = [(stage, number) for stage in stages for number in range(stage.part_count)]
    return {
        (stage.id, stage.part_name(number)): {one.id: one for one in criteria_of(stage.at(number))}
        for stage, number in each
    }


def test_the_table_has_every_part_of_the_real_plan() -> None:
    assert set(_loaded()) == set(STAGES)


@pytest.mark.parametrize("where", STAGES, ids=lambda where: "/".join(where).rstrip("/"))
def test_every_criterion_of_the_real_plan_has_the_bands_of_the_table(where: tuple[str, str]) -> None:
    found = {name: (str(one.go or ""), str(one.no_go or ""), one.severity) for name, one in _loaded()[where].items()}
    wanted = {name: (*bands, "advisory" if name in ADVISORY else "critical") for name, bands in STAGES[where].items()}
    assert found == wanted


def test_what_ends_a_stage_at_once_is_measured_all_the_time() -> None:
    phases = {(where, name): one.phase for where, found in _loaded().items() for name, one in found.items()}
    assert {name for (_, name), phase in phases.items() if name in IN_GUARD and phase != "guard"} == set()


def test_no_result_in_money_decides_where_no_money_is_at_stake() -> None:
    deciding = {
        (where[0], name)
        for where, found in _loaded().items()
        for name, one in found.items()
        if one.unit in ("quote", "bps") and one.severity == "critical" and where[0] in ("shadow", "testnet")
    }
    assert deciding == {("shadow", "notional_below_total")}, "which is an exposure"
