"""What a durable run of shadow leaves, and the commands that read it."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.__main__ import main
from bot.journal import JournalReader
from tests.support.shadow_runs import ROOT, refused, rows, run

pytestmark = pytest.mark.usefixtures("place_of_its_own")


def durable(*flags: str, code: int = 0) -> dict[str, Any]:
    return run("--durable-state", "--state-dir", "state", *flags, code=code)


def test_a_run_without_a_state_folder_writes_its_report_alone() -> None:
    run("--iterations", "3")
    assert sorted(path.name for path in Path().iterdir()) == ["report.json", "reports"]


def test_exports_agree_with_the_report() -> None:
    found = durable("--iterations", "150", "--symbols", "BTCUSDT,ETHUSDT")
    fills, minutes, markouts = (rows(f"state/{name}.csv") for name in ("fills", "minute", "markouts"))
    assert len(fills) == found["orders"]["filled"] == len({fill["execution_id"] for fill in fills})
    realized = sum(float(fill["realized_pnl_quote"]) for fill in fills)
    assert realized == pytest.approx(float(found["pnl"]["realized"]))
    assert [(row["minute_utc"], row["symbol"]) for row in minutes] == [
        (f"2026-01-01T00:0{minute}:00.000Z", symbol) for minute in (0, 1) for symbol in ("BTCUSDT", "ETHUSDT")
    ]
    assert Path("state/orders.jsonl").read_text() == ""
    assert Path("state/last_snapshot_ts.txt").read_text().startswith("2026-01-01T00:02:3")
    day = json.loads(Path("state/daily_state.json").read_text())
    assert (day["date_utc"], day["fills_today"]) == ("2026-01-01", len(fills))
    assert len(markouts) == len(fills)
    assert all(row["markout_60s_bps"] for row in markouts[:10])
    assert markouts[-1]["markout_60s_bps"] == ""  # the run ended before anybody could see it


def test_a_day_that_ends_is_kept_and_every_minute_has_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MM_FREEZE_UTC_ISO", "2026-01-31T23:55:00Z")
    durable("--iterations", "600")
    minutes = [row["minute_utc"] for row in rows("state/minute.csv")]
    assert minutes[0] == "2026-01-31T23:55:00.000Z"
    assert minutes[-1] == "2026-02-01T00:04:00.000Z"
    assert len(minutes) == 10
    before, after = (json.loads(Path(f"state/{name}.json").read_text()) for name in (
        "daily_state-2026-01-31", "daily_state"))  # fmt: skip
    assert (before["date_utc"], after["date_utc"]) == ("2026-01-31", "2026-02-01")
    assert before["fills_today"] + after["fills_today"] == after["fills"]


def test_a_run_is_continued_with_its_position_and_the_minutes_between_are_down(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TWO_MAN_RULE", "false")
    first = durable("--iterations", "70")
    capsys.readouterr()
    assert "a journal is there already" in refused(capsys, "run", "--durable-state", "--state-dir", "state")
    second = durable("--iterations", "70", "--recover")
    assert second["recovery"]["recovered"] is True
    assert second["recon"]["divergence_count"] == 0
    assert second["risk"]["freeze_triggered"] is False
    assert first["positions"]["by_symbol"]["BTCUSDT"]["qty"] != "0"
    with JournalReader(Path("state/journal.db")) as reader:
        lots = sum((1 if side == "buy" else -1) * qty for side, qty in reader.rows("SELECT side, qty_lots FROM fills"))
        sent = [row[0] for row in reader.rows("SELECT client_order_id FROM orders")]
    assert len(sent) == len(set(sent))
    assert float(second["positions"]["by_symbol"]["BTCUSDT"]["qty"]) == pytest.approx(lots * 0.00001)
    minutes = [row["minute_utc"] for row in rows("state/minute.csv")]
    assert len(minutes) == len(set(minutes))


def test_what_fills_realized_adds_up_to_the_ledger_over_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWO_MAN_RULE", "false")
    durable("--iterations", "70")
    again = durable("--iterations", "70", "--recover")
    realized = [Decimal(row["realized_pnl_quote"]) for row in rows("state/fills.csv")]
    assert any(realized)
    assert sum(realized) == Decimal(again["pnl"]["realized"])


def test_recover_without_a_journal_starts_fresh_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    found = durable("--iterations", "3", "--recover")
    assert found["recovery"]["recovered"] is False
    assert "starting fresh" in capsys.readouterr().err


def test_a_journal_with_its_market_data_replays_to_the_same_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.yaml").write_text("journal: {market_data: true}\n", encoding="utf-8")
    durable("--iterations", "60", "--symbols", "BTCUSDT,ETHUSDT", "--settings", "s.yaml")
    capsys.readouterr()
    assert main(["replay", "state", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["same"] is True
    assert said["events"] > 600
    with JournalReader(Path("state/journal.db")) as reader:
        assert said["intents"] == next(reader.rows("SELECT count(*) FROM entry WHERE direction = 'out'"))[0]


def test_a_journal_without_its_market_data_is_not_called_different(capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.yaml").write_text("journal: {market_data: false}\n", encoding="utf-8")
    durable("--iterations", "10", "--settings", "s.yaml")
    capsys.readouterr()
    assert "its market data was not kept" in refused(capsys, "replay", "state")


def test_flags_mean_nothing_to_a_journal(capsys: pytest.CaptureFixture[str]) -> None:
    durable("--iterations", "10")
    capsys.readouterr()
    assert "--seed: has no effect on a journal" in refused(capsys, "replay", "state", "--seed", "5")


def capture(path: Path, seconds: int = 20) -> Path:
    """A small capture: a book that moves one tick up and down ten times a second, and a trade each second."""
    moments = [1_700_000_000_000 + 100 * number for number in range(10 * seconds)]
    book = {"bids": [["60000.00", "2.0"]], "asks": [["60000.10", "2.0"]]}
    lines = [(moments[0], {"lastUpdateId": 1, **book})]
    for number, at_ms in enumerate(moments):
        side = [["60000.01", "1.0" if number % 2 else "0"]]
        lines.append((at_ms, {"e": "depthUpdate", "E": at_ms, "s": "BTCUSDT", "U": number + 2, "u": number + 2,
                              "b": side, "a": []}))  # fmt: skip
        if number % 10 == 0:
            trade = {"e": "trade", "T": at_ms, "s": "BTCUSDT", "p": "60000.00", "q": "0.1", "m": True}
            lines.append((at_ms, trade))
    text = "".join(f"{at_ms * 1_000_000} {json.dumps(message)}\n" for at_ms, message in lines)
    path.write_bytes(gzip.compress(text.encode()))
    return path


def test_market_data_replays_to_the_same_intents_twice_and_in_another_process(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = capture(Path("btcusdt.gz"))
    assert main(["replay", str(path), "--json", "--post-only-offset-bps", "0"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["same"], first["kind"], first["span_s"]) == (True, "market data", 19)
    assert first["report"]["orders"]["placed"] >= 2
    command = [sys.executable, "-m", "bot", "replay", str(path), "--json", "--post-only-offset-bps", "0"]
    environment = {"PATH": os.environ["PATH"], "PYTHONHASHSEED": "77", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["intents_sha256"] == first["intents_sha256"]
    assert main(["replay", "."]) == 0  # the folder of captures
    assert capsys.readouterr().out.startswith("the same twice, byte for byte: 19 s, ")


def test_market_data_that_cannot_be_played_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    path = capture(Path("btcusdt.gz"))
    assert "--iterations: has no effect in a replay" in refused(capsys, "replay", str(path), "--iterations", "5")
    assert "'ETHUSDT' is not allowed in a replay" in refused(capsys, "replay", str(path), "--symbols", "ETHUSDT")
    path.write_bytes(path.read_bytes()[:-40])
    assert "btcusdt.gz: cannot be read after line" in refused(capsys, "replay", str(path))
    Path("x.txt").write_text("no journal", encoding="utf-8")
    assert "x.txt: neither a journal nor a capture" in refused(capsys, "replay", "x.txt")


def test_a_journal_that_was_tampered_with_does_not_replay(capsys: pytest.CaptureFixture[str]) -> None:
    import sqlite3

    Path("s.yaml").write_text("journal: {market_data: true}\n", encoding="utf-8")
    durable("--iterations", "20", "--settings", "s.yaml")
    db = sqlite3.connect("state/journal.db")
    db.execute(
        "UPDATE entry SET body = json_set(body, '$.qty_lots', 7) WHERE seq ="
        " (SELECT max(seq) FROM entry WHERE kind = 'PlaceOrder')"
    )
    db.commit()
    db.close()
    capsys.readouterr()
    assert main(["replay", "state"]) == 1
    assert "differs" in capsys.readouterr().out


def test_trace_tells_an_orders_whole_life(capsys: pytest.CaptureFixture[str]) -> None:
    durable("--iterations", "30")
    filled = rows("state/fills.csv")[3]
    capsys.readouterr()
    assert main(["trace", filled["client_order_id"], "--state-dir", "state", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["summary"]["state"] == "filled"
    assert found["summary"]["filled_price"] == filled["price"]
    assert found["summary"]["filled_qty"] == filled["qty"]
    assert found["summary"]["acknowledged_after_ms"] == 100
    kinds = [step["kind"] for step in found["steps"]]
    assert kinds[0] == "PlaceOrder"
    assert {"Note order_placed", "OrderAccepted", "OrderUpdated", "Filled"} <= set(kinds)
    assert [step["seq"] for step in found["steps"]] == sorted(step["seq"] for step in found["steps"])
    assert main(["trace", filled["client_order_id"], "--state-dir", "state"]) == 0
    assert filled["execution_id"] in capsys.readouterr().out
    assert "knows no such order" in refused(capsys, "trace", "slwq-0-999999", "--state-dir", "state")


def test_trace_shows_the_cancel_all_that_ended_an_order(capsys: pytest.CaptureFixture[str]) -> None:
    durable("--iterations", "20", "--edge-threshold", "10")
    with JournalReader(Path("state/journal.db")) as reader:
        notes = [json.loads(entry.body) for entry in reader.entries(kind="Note")]
    frozen_ns = next(note["at_ns"] for note in notes if note["event"] == "freeze_triggered")
    order = next(
        note["fields"]["client_order_id"]
        for note in notes
        if note["event"] == "order_canceled" and note["at_ns"] > frozen_ns
    )
    capsys.readouterr()
    assert main(["trace", order, "--state-dir", "state", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["summary"]["state"] == "cancelled"
    assert "edge_below_threshold" in [step["body"].get("reason") for step in found["steps"]]


def test_risk_shows_limits_usage_and_state(capsys: pytest.CaptureFixture[str]) -> None:
    found = durable("--iterations", "40", "--max-inv", "5000", "--max-total", "8000")
    capsys.readouterr()
    assert main(["risk", "--state-dir", "state", "--json"]) == 0
    view = json.loads(capsys.readouterr().out)
    used = {(line["limit"], line["of"]): line for line in view["usage"]}
    inventory = used["inventory_max_quote", "BTCUSDT"]
    assert inventory["allowed"] == "5000"
    held = abs(float(found["positions"]["by_symbol"]["BTCUSDT"]["notional_quote"]))
    assert float(inventory["used"]) == pytest.approx(held, rel=0.01)
    assert used["total_max_quote", "all"]["allowed"] == "8000"
    assert view["state"] == "SHUTDOWN"
    assert view["breaches"].get("inventory", 0) > 0
    assert used["cancel_budget_per_min", "last minute"]["allowed"] == "50"
    Path("state/daily_state.json").unlink()  # an export is never read back
    assert main(["risk", "--state-dir", "state"]) == 0
    lines = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "240" in lines["daily_loss_pct_hard"]
    assert "unknown" not in lines["daily_loss_pct_hard"]


def test_risk_shows_every_limit_that_is_set_and_a_position_that_was_taken_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {
        "MAX_POSITION_USDT__BTCUSDT": "4000", "MAX_OPEN_ORDERS__BTCUSDT": "3", "MAX_OPEN_POSITIONS": "2",
        "MAX_TOTAL_NOTIONAL_USDT": "7000", "DAILY_LOSS_CAP_USDT": "900",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    Path("settings.yaml").write_text("risk: {budget_loss_quote: 55, budget_turnover_quote: 1000000}\n", "utf-8")
    durable("--iterations", "40", "--settings", "settings.yaml")
    note = (
        '{"type":"Note","at_ns":1767225700000000000,"level":"INFO","event":"position_adopted",'
        '"fields":{"symbol":"BTCUSDT","position_lots":-2000,"entry_price":"50000"}}'
    )
    with sqlite3.connect("state/journal.db") as journal:
        journal.execute("INSERT INTO entry (at_ns, direction, kind, symbol, client_order_id, body) "
                        "SELECT max(at_ns), 'out', 'Note', '', '', ? FROM entry", [note])  # fmt: skip
    capsys.readouterr()
    assert main(["risk", "--state-dir", "state", "--json"]) == 0
    view = json.loads(capsys.readouterr().out)
    allowed = {(line["limit"], line["of"]): line["allowed"] for line in view["usage"]}
    assert allowed["inventory_max_quote", "BTCUSDT"] == "4000"
    assert allowed["total_max_quote", "all"] == "7000"
    assert allowed["max_open_orders", "BTCUSDT"] == "3"
    assert allowed["max_open_positions", "all"] == "2"
    assert allowed["daily_loss_cap_quote", "24 h"] == "900"
    assert allowed["budget_loss_quote", "spread_and_skew"] == "55"
    (held,) = [line for line in view["usage"] if line["limit"] == "inventory_max_quote"]
    assert float(held["used"]) == pytest.approx(1000, rel=0.01)  # 0.02 BTC
    (turnover,) = [line for line in view["usage"] if line["limit"] == "budget_turnover_quote"]
    assert float(turnover["used"]) > 1000


def test_edge_report_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    found = durable("--iterations", "90", "--symbols", "BTCUSDT,ETHUSDT")
    capsys.readouterr()
    assert main(["edge-report", "--state-dir", "state", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["fills_sampled"] == report["fills_in_journal"] == found["orders"]["filled"]
    everything = report["groups"]["all"]
    assert float(everything["fees_quote"]) == pytest.approx(-float(found["pnl"]["rebates"]))
    assert float(everything["fees_bps"]) == pytest.approx(-1.0, abs=0.001)
    assert float(everything["spread_captured_bps"]["mean"]) > 5
    assert 0 < everything["markout_60s_bps"]["samples"] < everything["markout_1s_bps"]["samples"]
    assert float(everything["slippage_bps"]["mean"]) == 0
    sides = [report["groups"][f"BTCUSDT {side}"]["fills"] for side in ("buy", "sell")]
    assert sum(sides) == report["groups"]["BTCUSDT"]["fills"]
    assert main(["edge-report", "--state-dir", "state"]) == 0
    assert "markout_60s_bps" in capsys.readouterr().out
