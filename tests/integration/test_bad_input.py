"""Whatever is typed wrongly: one line with thing, value and what is allowed, exit 2, and nothing begun or lost."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.__main__ import main as mm_bot
from bot.journal import Journal
from flows.__main__ import main as rollout
from gates.__main__ import main as gates
from gates.stages import ROOT
from tasks.record import open_record
from tasks.simulated_account import retire_finished
from tasks.state_folder import StateFolder

pytestmark = pytest.mark.integration

SMOKE = (ROOT / "configs" / "rollout.smoke.yaml").read_text()
BAD_INPUT = 2
Command = Callable[[list[str]], int]
Refuse = Callable[..., str]

CRITERION = """\
criteria:
  - id: crossings
    title: No quote crossed
    source: promql
    query: {query}
    unit: count
    go: "{go}"
    phase: guard
    unknown_deadline_s: 10
    why: One crossing is one too many.
"""
QUERY = 'sum(mm_crossing_orders_total{account="$account",rollout="$rollout",stage="$stage"})'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of its own; a Prometheus that cannot be run, so that nothing could ever start by mistake."""
    for name in ("SLIPWAY_RECORD_URL", "SLIPWAY_PLAN", "EXCHANGE_ENV", "MM_LIVE_ENABLE", "PROFILE", "MODE", "MM_ENV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PROMETHEUS_BIN", str(tmp_path / "no-prometheus"))
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def refuse(home: Path, capsys: pytest.CaptureFixture[str]) -> Refuse:
    """Runs a command that must be refused; returns its one line. No state folder may have come of it."""

    def run(command: Command, *words: str, exit_code: int = BAD_INPUT) -> str:
        existed = home.exists()
        try:
            code = command(list(words))
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        assert code == exit_code, said
        assert said.out == ""
        assert len(said.err.splitlines()) == 1, said.err
        assert home.exists() == existed
        return said.err

    return run


def written(tmp_path: Path, content: str) -> str:
    path = tmp_path / "given.yaml"
    path.write_text(content)
    return str(path)


@pytest.mark.parametrize(
    ("command", "words", "names"),
    [
        (rollout, ["upp"], ["'upp'", "'up', 'demo', 'down'"]),
        (rollout, ["up", "--bogus"], ["rollout up", "'--bogus'", "allowed: --help, --market, --plan"]),
        (rollout, ["demo", "--pl", "x"], ["'--pl'", "--plan"]),
        (rollout, ["demo", "--fault", "krash"], ["--fault", "'krash'", "crash, crossing"]),
        (rollout, ["demo", "--fault", "crash@moon"], ["stage 'moon'", "shadow, testnet, canary, soak, scale-up"]),
        (rollout, ["demo", "--fault", "loss@shadow"], ["loss at shadow", "allowed there: crash, blind"]),
        (rollout, ["demo", "--stage", "soak", "--fault", "crash@canary"], ["stage 'canary'", "allowed: soak"]),
        (rollout, ["demo", "--stage", "moon"], ["--stage", "'moon'", "'canary', 'soak'"]),
        (rollout, ["plan", "--plan", "no-such.yaml"], ["no-such.yaml", "No such file"]),
        (rollout, ["up", "--market", "foo"], ["--market", "'foo'", "allowed: generated, or recorded:PATH"]),
        (rollout, ["up", "--market", "recorded:/no/such"], ["--market", "/no/such", "allowed: a capture"]),
        (rollout, ["up", "--market", "recorded:/etc/hostname"], ["--market", "/etc/hostname", "allowed: captures"]),
        (rollout, ["up", "--plan", "no-such.yaml"], ["no-such.yaml", "No such file"]),
        (rollout, ["stop", "nothing"], ["'nothing'", "allowed: none has been started yet"]),
        (rollout, ["explain", "nothing"], ["'nothing'", "allowed: none has been started yet"]),
        (rollout, ["code", "nobody"], ["'nobody'", "allowed: ada, grace"]),
        (gates, ["lnt"], ["'lnt'", "'lint', 'evaluate', 'replay', 'list'"]),
        (gates, ["lint", "--bogus"], ["gates lint", "'--bogus'", "--prometheus"]),
        (mm_bot, ["runn"], ["'runn'", "'run', 'check-config'"]),
        (mm_bot, ["run", "--bogus"], ["mm-bot run", "'--bogus'", "--state-dir"]),
        (mm_bot, ["run", "--network", "--live"], ["MM_LIVE_ENABLE", "''", "needs 1"]),
        (mm_bot, ["run", "--network", "--live", "--testnet"], ["--testnet and --live contradict"]),
        (mm_bot, ["run", "--max-inv", "nan"], ["--max-inv", "'nan'", "> 0 and <= 1000000000"]),
        (mm_bot, ["kill-switch", "--symbols", "btc usd"], ["--symbols", "'btc usd'", "capital letters and digits"]),
        (mm_bot, ["kill-switch", "--symbols", "BTCUSDT", "--category", "option"], ["--category", "option", "linear"]),
    ],
)
def test_a_word_or_a_flag_that_nobody_knows_is_named_with_what_is_allowed(
    refuse: Refuse, command: Command, words: list[str], names: list[str]
) -> None:
    said = refuse(command, *words)
    assert [name for name in names if name not in said] == []


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("name: smoke", "name: smoke\nbogus: 1", [":5:", "'bogus'", "allowed: schema_version, name"]),
        ("measure_every_s: 1", "measure_every_s: often", [":9:", "measure_every_s = 'often'", "valid number"]),
        ("measure_every_s: 1", "measure_every_s: -5", ["measure_every_s = -5", "greater than or equal to 0.2"]),
        ("grant_ttl_s: 5", "grant_ttl_s: .nan", ["grant_ttl_s = nan"]),
        ("venue: simulated", "venue: binance", ["venue = 'binance'", "'simulated' or 'bybit'"]),
        ("venue: simulated", "venue: bybit", ["blind_share 0.3 at venue bybit", "allowed: at most 0.05"]),
        ("name: smoke", "name: 2020-13-45", ["not YAML", "month must be in 1..12"]),
        ("name: smoke", "? [a, b]\n: c", [":4:", "a key is not a word"]),
        ("name: smoke", "name: &again [*again]", ["nested too deeply"]),
        ("settings: configs/bot/demo.yaml", "settings: no-such.yaml", ["no-such.yaml", "No such file"]),
        ("approvers: configs/approvers.demo.yaml", "approvers: configs", ["configs", "Is a directory"]),
        ("criteria: configs/criteria/canary.yaml", "criteria: no-such.yaml", ["no-such.yaml", "No such file"]),
        ('filled: {go: "> 0"}', 'fillet: {go: "> 0"}', ["'fillet'", "allowed: *, process_up"]),
        ('filled: {go: "> 0"}', 'filled: {go: ">= 0"}', ["override filled", "can never FAIL", "allowed: a band"]),
        ('filled: {go: "> 0"}', 'filled: {go: "=> 0"}', ["override filled.go", "'=> 0'", "allowed: '< 1'"]),
    ],
)
def test_a_fault_in_the_plan_or_in_a_file_of_it_is_refused_before_anything_starts(
    refuse: Refuse, tmp_path: Path, old: str, new: str, names: list[str]
) -> None:
    assert SMOKE.count(old) >= 1
    said = refuse(rollout, "up", "--plan", written(tmp_path, SMOKE.replace(old, new, 1)))
    assert [name for name in names if name not in said] == []


@pytest.mark.parametrize(
    "content", ["", "- a\n- b\n", "hello\n", "a: [1,\n", "a:\n\t- b\n", "a: *nothing\n", "a: \x00"]
)
def test_a_plan_that_is_no_plan_is_refused_in_a_line_with_its_name(
    refuse: Refuse, tmp_path: Path, content: str
) -> None:
    assert "given.yaml" in refuse(rollout, "demo", "--plan", written(tmp_path, content))


@pytest.mark.parametrize(
    ("query", "go", "names"),
    [
        (QUERY, ">= 0", ["crossings", "go >= 0 can never FAIL", "allowed: a band it can reach"]),
        (f"{QUERY} > 0", "== 0", ["crossings.query", "compares (>)", "allowed: the number alone"]),
        (QUERY, "<= nan", ["crossings.go", "'<= nan'", "allowed: '< 1'"]),
    ],
)
def test_a_criterion_that_cannot_fail_or_compares_for_itself_stops_lint_and_rollout_alike(
    refuse: Refuse, tmp_path: Path, query: str, go: str, names: list[str]
) -> None:
    criteria = tmp_path / "criteria.yaml"
    criteria.write_text(CRITERION.format(query=f"'{query}'", go=go))
    before, named, after = SMOKE.partition("  - id: canary")
    canary, _, rest = after.partition("    overrides:")
    canary = canary.replace("configs/criteria/canary.yaml", str(criteria))
    plan = before + named + canary + rest[rest.index("  - id: soak") :]
    for said in (refuse(gates, "lint", str(criteria)), refuse(rollout, "up", "--plan", written(tmp_path, plan))):
        assert [name for name in names if name not in said] == []


def packed(content: bytes) -> bytes:
    """Without the second it was packed in: the name of a test says its content, and must be the same twice."""
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("strategy:\n  half_spred_bps: 9\n", ["strategy.half_spred_bps", "did you mean half_spread_bps", "allowed:"]),
        ("strategy:\n  half_spread_bps: -9\n", ["strategy.half_spread_bps", "-9", "allowed: > 0 and < 10000"]),
        ("strategy:\n  half_spread_bps: .nan\n", ["strategy.half_spread_bps", "NaN", "allowed: > 0 and < 10000"]),
        ("strategy:\n  half_spread_bps: nine\n", ["strategy.half_spread_bps", "'nine'", "allowed: > 0 and < 10000"]),
        ("strategy:\n  ? [a, b]\n  : c\n", [":2:", "a key is not a word"]),
        ("strategy:\n  half_spread_bps: 2020-13-45\n", ["not YAML", "month must be in 1..12"]),
    ],
)
def test_settings_out_of_range_stop_the_bot_lint_and_rollout_alike(
    refuse: Refuse, tmp_path: Path, content: str, names: list[str]
) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(content)
    plan = written(tmp_path, SMOKE.replace("configs/bot/demo.yaml", str(settings), 1))
    for said in (
        refuse(mm_bot, "check-config", "--settings", str(settings)),
        refuse(gates, "lint", "--plan", plan),
        refuse(rollout, "up", "--plan", plan),
    ):
        assert [name for name in names if name not in said] == []


def test_approvers_without_a_role_that_the_plan_needs_are_refused(refuse: Refuse, tmp_path: Path) -> None:
    people = (ROOT / "configs" / "approvers.demo.yaml").read_text()
    (tmp_path / "people.yaml").write_text(people.replace("[Risk Manager]", "[SRE Lead]"))
    plan = written(tmp_path, SMOKE.replace("configs/approvers.demo.yaml", str(tmp_path / "people.yaml"), 1))
    said = refuse(rollout, "up", "--plan", plan)
    assert "exit_sign_offs can never be complete" in said
    assert "lacks Risk Manager" in said


@pytest.mark.parametrize("command", [["up"], ["demo"], ["status"], ["down"], ["code", "ada"], ["stop"], ["explain"]])
def test_a_state_folder_that_is_none_is_named(
    refuse: Refuse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    (tmp_path / "a-file").write_text("kept")
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "a-file"))
    said = refuse(rollout, *command)
    assert f"SLIPWAY_HOME: {tmp_path / 'a-file'}: it is no folder; allowed: a folder that you can write" in said
    assert (tmp_path / "a-file").read_text() == "kept"


@pytest.mark.parametrize(
    ("script", "names"),
    [
        (None, ["no-prometheus", "No such file", "PROMETHEUS_BIN"]),
        ("echo prometheus, version 2.30.1", ["2.30.1", "needs >= 2.39"]),
        ("echo hello", ["names no version", "needs >= 2.39"]),
    ],
)
def test_a_prometheus_that_is_absent_or_too_old_is_named_with_what_is_needed(
    refuse: Refuse, tmp_path: Path, script: str | None, names: list[str]
) -> None:
    if script is not None:
        (tmp_path / "no-prometheus").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "no-prometheus").chmod(0o755)
    said = refuse(rollout, "up")
    assert [name for name in names if name not in said] == []


@pytest.mark.parametrize("content", ["{", "[]", '{"schema_version": 1}', '{"schema_version": 7}', '{"processes": 5}'])
def test_a_damaged_table_of_processes_is_named_and_down_still_cleans_up(
    refuse: Refuse, home: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    home.mkdir()
    (home / "stack.json").write_text(content)
    assert "stack.json: not a table of processes" in refuse(rollout, "status")
    assert rollout(["down"]) == 0
    assert "stack.json: not a table of processes" in capsys.readouterr().out
    assert not (home / "stack.json").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [("garbage", "is not JSON"), ("[]", "is not an object"), ('{"ada": "!!"}', "ada: not a base32 seed; allowed:")],
)
def test_damaged_seeds_are_named_and_never_replaced(refuse: Refuse, home: Path, content: str, said: str) -> None:
    seeds = home / "approvers" / "seeds.json"
    seeds.parent.mkdir(parents=True)
    seeds.write_text(content)
    seeds.chmod(0o600)
    for command in (["code", "ada"], ["up"]):
        line = refuse(rollout, *command)
        assert str(seeds) in line
        assert said in line
    assert seeds.read_text() == content


@pytest.mark.parametrize("command", [["status"], ["stop"], ["explain"]])
def test_a_damaged_record_is_named_and_left_as_it_is(refuse: Refuse, home: Path, command: list[str]) -> None:
    home.mkdir()
    (home / "rollout.db").write_bytes(b"garbage" * 1000)
    said = refuse(rollout, *command)
    assert "rollout.db: cannot be opened" in said
    assert (home / "rollout.db").read_bytes() == b"garbage" * 1000


def test_down_with_a_damaged_record_claims_nothing_that_nobody_knows(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "accounts").mkdir(parents=True)
    (home / "accounts" / "acc.json").write_text("{")
    (home / "accounts" / "acc.json").chmod(0o600)
    (home / "control_token").write_text("t")
    (home / "rollout.db").write_bytes(b"garbage" * 1000)
    (home / "stack.json").write_text("{")
    assert rollout(["down"]) == 1
    said = capsys.readouterr().out
    assert "rollout.db: cannot be opened" in said
    assert f"{home / 'accounts' / 'acc.json'}: is not JSON" in said
    assert "nobody knows whether an order of that account is open" in said
    assert "everything is down" not in said
    assert (home / "rollout.db").read_bytes() == b"garbage" * 1000


def test_a_damaged_account_file_does_not_stop_the_rollouts_of_other_accounts(home: Path) -> None:
    folder = StateFolder(home)
    folder.create()
    (folder.accounts / "broken.json").write_text("{")
    record = open_record(folder.record_url)
    retire_finished(folder, record)
    record.close()
    assert (folder.accounts / "broken.json").exists()


def test_down_finds_and_ends_what_runs_without_a_table(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.mkdir()
    environment = {**os.environ, "SLIPWAY_HOME": str(home), "SLIPWAY_STACK": "a-mark-of-this-test"}
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=environment)
    try:
        (home / "stack.json").write_text("{")
        assert rollout(["down"]) == 0
        assert child.wait(60) != 0
    finally:
        child.kill()
        child.communicate()
    said = capsys.readouterr().out
    assert "was found without the table" in said
    assert "everything is down: no process, no lock, no open order" in said


def test_a_rollout_that_nobody_started_is_not_stopped_silently(refuse: Refuse, home: Path) -> None:
    home.mkdir()
    open_record(f"sqlite:///{home / 'rollout.db'}").close()
    assert "rollout 'nothing' is not known; allowed: none has been started yet" in refuse(rollout, "stop", "nothing")


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _cut_a_little(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1000)


def _garbage(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)


def _newer(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    db.close()


@pytest.mark.parametrize(
    ("damage", "names"),
    [
        (_cut, ["cut short", "its header says"]),
        (_cut_a_little, ["cut short", "its header says"]),
        (_garbage, ["not a SQLite file", "7000 bytes"]),
        (_newer, ["schema_version is 99", "this version reads 1"]),
    ],
)
def test_a_damaged_journal_stops_a_recovering_bot_and_passes_no_gate(
    refuse: Refuse,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    names: list[str],
) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(path, {"account": "a1", "run": "r1", "config_digest": "d"})
    journal.commit({("mm_crossing_orders_total", "symbol=BTCUSDT"): 0})
    journal.close()
    damage(path)
    before = path.read_bytes()
    live = {
        "MM_LIVE_ENABLE": "1",
        "MM_ACCOUNT": "a1",
        "MM_RUN": "r1",
        "MM_GRANT_TOKEN": "g" * 20,
        "APPROVE_TOKEN": "o" * 20,
        "BYBIT_API_KEY": "k" * 20,
        "BYBIT_API_SECRET": "s" * 20,
        "MM_VENUE_REST_URL": "http://127.0.0.1:9",
        "MM_VENUE_WS_PUBLIC_URL": "ws://127.0.0.1:9/v5/public/linear",
        "MM_VENUE_WS_PRIVATE_URL": "ws://127.0.0.1:9/v5/private",
        "MM_VENUE_WS_TRADE_URL": "ws://127.0.0.1:9/v5/trade",
    }
    for name, value in live.items():
        monkeypatch.setenv(name, value)
    words = ["--network", "--live", "--durable-state", "--state-dir", str(tmp_path), "--obs", "--obs-port", "0"]
    said = refuse(mm_bot, "run", *words, "--max-inv", "500", "--max-total", "2000", "--recover")
    assert [name for name in [str(path), *names] if name not in said] == []
    criteria = tmp_path / "criteria.yaml"
    criteria.write_text(CRITERION.format(query="mm_crossing_orders_total", go="== 0").replace("promql", "table"))
    where = ["--account", "a1", "--rollout", "r", "--stage", "canary", "--journal", str(path)]
    assert gates(["evaluate", str(criteria), *where, "--json"]) == 1
    measured = json.loads(capsys.readouterr().out)["measurements"][0]
    assert (measured["outcome"], measured["value"]) == ("UNKNOWN", None)
    assert names[0] in measured["reason"]
    assert path.read_bytes() == before


def test_a_host_that_is_not_on_loopback_is_refused_by_bot_and_kill_switch(
    refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MM_LIVE_ENABLE", "BYBIT_API_KEY", "BYBIT_API_SECRET"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("MM_VENUE_REST_URL", "http://10.1.2.3:5")
    for words in (["run", "--network", "--live"], ["kill-switch", "--execute", "--symbols", "BTCUSDT"]):
        said = refuse(mm_bot, *words)
        assert "MM_VENUE_REST_URL='http://10.1.2.3:5'" in said
        assert "allowed hosts: 127.0.0.1" in said


def test_a_kill_switch_without_a_key_or_with_the_venue_away_never_claims_success(
    refuse: Refuse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("BYBIT_API_KEY", raising=False)
    kept = tmp_path / "latest.json"
    words = ["kill-switch", "--execute", "--symbols", "BTCUSDT", "--deadline-s", "1", "--report", str(kept)]
    assert "BYBIT_API_KEY is not set" in refuse(mm_bot, *words)
    for name in ("REST", "WS_PUBLIC", "WS_PRIVATE", "WS_TRADE"):
        monkeypatch.setenv(f"MM_VENUE_{name}_URL", f"{'http' if name == 'REST' else 'ws'}://127.0.0.1:9")
    monkeypatch.setenv("BYBIT_API_KEY", "k" * 20)
    monkeypatch.setenv("BYBIT_API_SECRET", "s" * 20)
    assert mm_bot(words) == 1
    report = json.loads(kept.read_text())
    assert report["status"] == "failed"
    assert "not proven within 1.0 s" in report["errors"]


def test_a_garbled_capture_is_refused_by_the_venue_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "trades.csv.gz").write_bytes(gzip.compress(b"x" * 1000)[:40])
    command = [sys.executable, "-m", "bot", "serve-venue", "--market", f"recorded:{tmp_path}", "--port", "0", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == BAD_INPUT
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert str(tmp_path) in done.stderr


def _capture(*updates: dict[str, object]) -> bytes:
    """A small capture: a snapshot that ends at update 10, and what follows it."""
    bids, asks = [["100.00", "1.0"]], [["100.10", "1.0"]]
    lines: list[dict[str, object]] = [{"lastUpdateId": 10, "bids": bids, "asks": asks}, *updates]
    return "".join(f"{1_700_000_000_000_000_000 + n} {json.dumps(line)}\n" for n, line in enumerate(lines)).encode()


def _update(number: int, **changes: object) -> dict[str, object]:
    body = {"e": "depthUpdate", "E": 1_700_000_000_000 + number, "s": "BTCUSDT", "U": number, "u": number}
    return {"stream": "btcusdt@depth", "data": {**body, "b": [["99.00", "1.0"]], "a": [], **changes}}


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (packed(_capture(_update(11), _update(12)))[:-9], ["cannot be read after line"]),
        (packed(_capture(_update(11), _update(14))), ["depth updates 12 to 13 are missing"]),
        (packed(_capture(_update(11, b=[["100.20", "1.0"]]))), ["crossed", "bid 10020 against ask 10010"]),
        (packed(_capture(_update(11, s="ETHUSDT"))), [":2:", "symbol 'ETHUSDT'; only BTCUSDT"]),
        (packed(_capture(_update(11))[:-40] + b"\n"), [":2:", "not a line of a capture"]),
        (packed(b""), ["no snapshot line"]),
    ],
)
def test_a_malformed_market_file_stops_the_venue_in_one_line_and_stays_as_it_is(
    refuse: Refuse, tmp_path: Path, content: bytes, names: list[str]
) -> None:
    file = tmp_path / "capture.gz"
    file.write_bytes(content)
    said = refuse(mm_bot, "serve-venue", "--market", f"recorded:{file}", "--port", "0", "--json")
    assert [name for name in [str(file), *names] if name not in said] == []
    assert file.read_bytes() == content
    assert sorted(one.name for one in tmp_path.iterdir()) == ["capture.gz"]
