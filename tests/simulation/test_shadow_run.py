"""Shadow from the outside: every flag has its effect, what it writes and what it refuses; and shadow that is served."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.shadow_runs import ROOT, refused, run

pytestmark = pytest.mark.usefixtures("place_of_its_own")


# ---- flags ----


def test_the_report_has_exactly_its_sections_and_fields() -> None:
    found = run("--iterations", "5")
    fields = {section: sorted(values) for section, values in found.items()}
    assert fields == {
        "execution": sorted(
            [
                "iterations",
                "symbols",
                "start_time_ms",
                "end_time_ms",
                "duration_ms",
                "maker_only",
                "post_only_offset_bps",
                "min_qty_pad",
                "network",
                "testnet",
                "warmup_filters",
            ]
        ),
        "orders": sorted(
            [
                "placed",
                "filled",
                "rejected",
                "canceled",
                "blocked",
                "blocked_by_reason",
                "risk_blocks",
                "post_only_rejects",
                "duplicate_operations",
            ]
        ),
        "positions": ["by_symbol", "net_pos_usd", "total_notional_usd"],
        "pnl": sorted(["realized", "unrealized", "fees", "rebates", "funding", "net", "net_bps", "maker_taker_ratio"]),
        "risk": sorted(
            [
                "frozen",
                "freeze_triggered",
                "freeze_events",
                "freezes_total",
                "blocks_total",
                "last_freeze_reason",
                "last_freeze_symbol",
            ]
        ),
        "recon": ["by_type", "divergence_count", "last_run_ms"],
        "recovery": ["open_orders", "open_orders_count", "recovered"],
        "runtime": ["config_digest", "seed", "utc", "version"],
    }
    assert found["execution"]["network"] is False


def test_what_was_decided_by_flags_shows_in_the_report() -> None:
    found = run(
        "--iterations", "7", "--symbols", "BTCUSDT", "--symbol-filter", "ETHUSDT,SOLUSDT", "--post-only-offset-bps",
        "2.5", "--min-qty-pad", "1.3", "--no-maker-only", "--warmup-filters", "--seed", "9",
    )  # fmt: skip
    execution = found["execution"]
    assert execution["symbols"] == ["ETHUSDT", "SOLUSDT"]
    assert execution["iterations"] == 7
    assert (execution["post_only_offset_bps"], execution["min_qty_pad"]) == ("2.5", "1.3")
    assert execution["maker_only"] is False
    assert execution["warmup_filters"] is True
    assert found["runtime"]["seed"] == 9
    assert found["orders"]["placed"] > 0


def test_filters_that_are_not_warmed_are_read_at_the_first_update() -> None:
    late, warm = run("--iterations", "10"), run("--iterations", "10", "--warmup-filters")
    assert late["orders"]["placed"] > 0
    assert warm["orders"]["placed"] >= late["orders"]["placed"]


@pytest.mark.parametrize(
    ("flags", "fees", "rebates"),
    [
        (("--fee-maker-bps", "3.0", "--rebate-maker-bps", "0"), True, False),
        (("--fee-maker-bps", "1.0", "--rebate-maker-bps", "2.0"), False, True),
        (("--fee-profile", "VIP0"), True, False),
        (("--fee-profile", "MM_TIER_A"), False, True),
    ],
)
def test_fees_and_rebates_are_those_of_the_flags(flags: tuple[str, ...], fees: bool, rebates: bool) -> None:
    pnl = run("--iterations", "20", *flags)["pnl"]
    assert (float(pnl["fees"]) > 0) is fees
    assert (float(pnl["rebates"]) > 0) is rebates
    parts = float(pnl["realized"]) + float(pnl["unrealized"]) - float(pnl["fees"]) + float(pnl["rebates"])
    assert float(pnl["net"]) == pytest.approx(parts + float(pnl["funding"]))


def test_a_symbol_with_a_fee_profile_of_its_own_is_charged_by_it() -> None:
    Path("settings.yaml").write_text("fees:\n  per_symbol:\n    ETHUSDT: VIP0\n", encoding="utf-8")
    pnl = run("--iterations", "30", "--symbols", "ETHUSDT", "--settings", "settings.yaml")["pnl"]
    assert float(pnl["fees"]) > 0
    assert float(pnl["rebates"]) == 0


def test_a_candidate_that_requires_the_venues_fees_trades_in_shadow_too() -> None:
    text = "fees:\n  require_fee_resolution: true\n  fee_mode: auto\n"
    Path("settings.yaml").write_text(text, encoding="utf-8")
    assert run("--iterations", "10", "--settings", "settings.yaml") | {"runtime": 0} == run("--iterations", "10") | {
        "runtime": 0
    }


def test_a_candidate_with_a_leverage_cap_trades_in_shadow_too() -> None:
    Path("settings.yaml").write_text("risk: {leverage_max: 2}\n", encoding="utf-8")
    assert run("--iterations", "10", "--settings", "settings.yaml")["orders"]["placed"] > 0


def test_freeze_thresholds_of_a_file_hold_in_shadow_and_a_bad_one_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MM_THRESHOLDS_FILE", "thresholds.yaml")
    Path("thresholds.yaml").write_text('"*": {edge_threshold_bps: 50}\n', encoding="utf-8")
    assert run("--iterations", "10")["risk"]["last_freeze_reason"] == "edge_below_threshold"
    Path("thresholds.yaml").write_text('"*": {edge_threshold_bps: -1}\n', encoding="utf-8")
    capsys.readouterr()
    assert run("--iterations", "10")["risk"]["freeze_triggered"] is False
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (refusal,) = [line for line in said if line["event"] == "thresholds_refused"]
    assert "thresholds.yaml:1: *.edge_threshold_bps: -1 is not allowed" in refusal["message"]


def test_reconciliation_runs_as_often_as_it_is_told_to() -> None:
    often = run("--iterations", "60", "--recon-interval-s", "5")["recon"]
    assert often["divergence_count"] == 0
    assert set(often["by_type"].values()) == {0}
    assert often["last_run_ms"] is not None


def test_a_frozen_time_is_the_time_of_the_report_and_the_start_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MM_FREEZE_UTC_ISO", "2026-03-01T08:00:00Z")
    found = run("--iterations", "3")
    assert found["runtime"]["utc"] == "2026-03-01T08:00:00.000Z"
    assert found["execution"]["start_time_ms"] == 1_772_352_000_000
    assert found["execution"]["duration_ms"] == found["execution"]["end_time_ms"] - 1_772_352_000_000
    assert [path.name for path in Path("reports").iterdir()] == ["shadow_run_20260301T080000Z.json"]
    assert Path("reports/shadow_run_20260301T080000Z.json").read_bytes() == Path("report.json").read_bytes()


def test_the_live_variable_alone_arms_nothing_and_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MM_LIVE_ENABLE", "1")
    found = run("--iterations", "3")
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    warned = [line for line in said if line["event"] == "live_enable_armed"]
    assert [line["lvl"] for line in warned] == ["WARNING"]
    assert found["execution"]["network"] is False


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "--shadow", "--symbols", "XRPUSDT"), "'XRPUSDT' is not allowed without network"),
        (("run", "--live", "--network", "--exchange", "okx"), "MM_LIVE_ENABLE: '' is not allowed with live"),
        (("run", "--testnet", "--network", "--exchange", "okx"), "exchange 'okx' is not certified for mode testnet"),
        (("run", "--fill-rate", "1.1"), "--fill-rate: execution.fill_rate: '1.1' is not allowed"),
        (("run", "--latency-ms", "-1"), "execution.latency_ms: '-1' is not allowed"),
        (("run", "--iterations", "many"), "execution.iterations: 'many' is not allowed"),
        (("run", "--max-inv", "10", "--max-total", "5"), "inventory_max_quote 10 must be at most total_max_quote 5"),
        (("run", "--fee-profile", "VIP9"), "fees.profile: 'VIP9' is not allowed"),
        (("run", "--exchange", "kraken"), "venue.exchange: 'kraken' is not allowed"),
        (("run", "--no-such-flag"), "'--no-such-flag' is not understood"),
        (("run", "--log-file", "/proc/none/log"), "--log-file: /proc/none/log cannot be written"),
        (("record", "x.gz", "--duration-s", "-1"), "--duration-s: '-1' is outside 0 (until stopped) to 2678400"),
        (("record", "x.json"), "x.json: a capture is gzipped, its name ends in .gz"),
        (("record", "x.gz", "--exchange", "kraken"), "venue.exchange: 'kraken' is not allowed"),
        (("run", "--report", "/proc/none/report.json"), "--report: /proc/none/report.json cannot be written"),
        (("run", "--report", "."), "--report: . cannot be written (Is a directory)"),
        (("rehearse", "--report", "/proc/none/r"), "--report: /proc/none/r cannot be written"),
        (("rehearse", "--anything"), "'--anything' is not understood"),
        (("trace", "x", "--state-dir", "none"), "none/journal.db: no such journal"),
        (("risk", "--state-dir", "none"), "none/journal.db: no such journal"),
        (("edge-report", "--state-dir", "none"), "none/markouts.csv: cannot be read"),
        (("replay", "none"), "none: cannot be read"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert said in refused(capsys, *arguments)


def test_a_frozen_time_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MM_FREEZE_UTC_ISO", "yesterday")
    assert "MM_FREEZE_UTC_ISO: 'yesterday' is not allowed" in refused(capsys, "run", "--shadow")


# ---- served ----


@pytest.mark.integration
def test_with_obs_it_runs_in_real_time_shows_the_gauge_and_ends_in_order_on_a_signal(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "bot", "run", "--shadow", "--iterations", "0", "--obs", "--obs-port", "0"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "MM_LIVE_ENABLE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        with httpx.Client(base_url=ready["obs_url"], timeout=30, trust_env=False) as http:
            assert "\nmm_live_enable 1.0\n" in http.get("/metrics").text
            assert http.get("/health").json() == {"status": "ok"}
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 0, err
    assert json.loads(out)["risk"]["frozen"] is False
    assert "live_enable_armed" in err
