"""The account preflight against the simulated venue, which shows each defect by its control port."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from bot.venues.bybit.account_checks import CHECKS, AccountRow, Assumed, check_account
from bot.venues.bybit.account_client import AccountClient
from bot.venues.bybit.hosts import BybitHosts
from gates.stages import load_plan
from tasks.account_file import AccountAccess
from tasks.launch import Sizes, bot_command
from tasks.preflight import Checked, Subject, passed, preflight
from tasks.preflight_listed import Facts
from tasks.record_chain import ChainReport
from tests.support.bot_rig import DEMO_SETTINGS, ROOT, SimulatedVenue, bot_environment, simulated_venue
from tests.support.cloud import cloud

pytestmark = pytest.mark.integration

FEES = {"BTCUSDT": (Decimal("2"), Decimal("5.5"))}
"""What the simulated venue charges."""


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedVenue]:
    with simulated_venue(tmp_path_factory.mktemp("venue"), options=("--symbols", "BTCUSDT,ETHUSDT")) as running:
        yield running


def assumed(**changes: Any) -> Assumed:
    standard = Assumed(("BTCUSDT",), "linear", 5_000, FEES, "REGULAR_MARGIN", 7, 90, int(time.time()))
    return standard._replace(**changes)


def rows_of(
    venue: SimulatedVenue, account: dict[str, str], wanted: Assumed, *, clock_off_ms: int = 0
) -> dict[str, AccountRow]:
    hosts = BybitHosts(venue.ready["rest_url"], "", "", "")
    with AccountClient(
        hosts,
        account["api_key"],
        account["api_secret"],
        wall_ms=lambda: time.time_ns() // 1_000_000 + clock_off_ms,
    ) as client:
        return {row.name: row for row in check_account(client, wanted)}


def test_an_account_as_it_should_be_passes_every_check(venue: SimulatedVenue) -> None:
    rows = rows_of(venue, venue.account(), assumed())
    assert {name: row.word for name, row in rows.items()} == dict.fromkeys((check.name for check in CHECKS), "PASS")
    assert rows["key"].value == "reads and trades"
    assert rows["expiry"].value == "does not expire"
    assert rows["fees"].value == "BTCUSDT 2/5.5 bps"


@pytest.mark.parametrize(
    ("name", "defect", "said"),
    [
        ("key", {"withdraws": True}, "reads and trades, CAN WITHDRAW"),
        ("key", {"read_only": True}, "read only"),
        ("ip", {"ips": ["*"], "expires_in_days": 80}, "any address"),
        ("expiry", {"expires_in_days": 3}, "[23] days left"),
        ("age", {"age_days": 91}, "the key is 91 days old"),
        ("margin", {"margin_mode": "PORTFOLIO_MARGIN"}, "PORTFOLIO_MARGIN"),
        ("one_way", {"hedges": True}, "BTCUSDT in hedge mode"),
        ("fees", {"maker_fee_rate": "0.00036"}, "BTCUSDT 3.6/5.5 bps"),
        ("fees", {"taker_fee_rate": "0.001"}, "BTCUSDT 2/10 bps"),
    ],
)
def test_each_defect_fails_its_own_check_alone(
    venue: SimulatedVenue, name: str, defect: dict[str, object], said: str
) -> None:
    account = venue.account()
    venue.stand(account["account"], **defect)
    rows = rows_of(venue, account, assumed())
    assert rows[name].word == "FAIL"
    assert re.fullmatch(said, rows[name].value)
    assert [row.name for row in rows.values() if row.word != "PASS"] == [name]


def test_a_foreign_order_fails(venue: SimulatedVenue) -> None:
    account = venue.account()
    venue.http.post("/sim/faults", json={"kind": "foreign_order", "account": account["account"]}).raise_for_status()
    rows = rows_of(venue, account, assumed())
    assert (rows["foreign"].word, rows["foreign"].value) == ("FAIL", "1 foreign")


@pytest.mark.parametrize("off_ms", [-1_500, 1_500])
def test_a_clock_that_is_off_fails(venue: SimulatedVenue, off_ms: int) -> None:
    row = rows_of(venue, venue.account(), assumed(), clock_off_ms=off_ms)["clock"]
    assert row.word == "FAIL"
    assert row.limit == "within 1000 ms"


def test_a_secret_that_was_saved_too_long_ago_fails_though_the_key_is_new(venue: SimulatedVenue) -> None:
    rows = rows_of(venue, venue.account(), assumed(saved_at_s=int(time.time()) - 100 * 86_400))
    assert (rows["age"].word, rows["age"].value) == ("FAIL", "the saved secret is 100 days old")


def test_a_key_that_has_expired_is_refused_and_nothing_passes_but_the_clock(venue: SimulatedVenue) -> None:
    account = venue.account()
    venue.stand(account["account"], expires_in_days=-1)
    rows = rows_of(venue, account, assumed())
    assert {row.name: row.word for row in rows.values() if row.word != "UNKNOWN"} == {"clock": "PASS"}
    assert all("33004" in row.detail for row in rows.values() if row.word == "UNKNOWN")


def test_a_venue_that_does_not_answer_is_unknown_throughout() -> None:
    with AccountClient(BybitHosts("http://127.0.0.1:9", "", "", ""), "key", "secret") as client:
        rows = check_account(client, assumed())
    assert [row.word for row in rows] == ["UNKNOWN"] * len(CHECKS)
    assert all(row.detail for row in rows)


@pytest.mark.parametrize(
    ("name", "field"),
    [("ip", "ips"), ("expiry", "expiredAt"), ("age", "createdAt")],
)
def test_a_field_the_venue_leaves_out_is_unknown_and_named(name: str, field: str) -> None:
    whole = {
        "readOnly": 0,
        "permissions": {"ContractTrade": ["Order"]},
        "ips": ["*"],
        "expiredAt": "2099-01-01T00:00:00Z",
        "createdAt": "2026-01-01T00:00:00Z",
    }
    told = {"retCode": 0, "retMsg": "", "result": {k: v for k, v in whole.items() if k != field}, "time": 0}
    clock = {"retCode": 0, "result": {"timeNano": str(time.time_ns())}, "time": 0}
    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, json=clock if request.url.path.endswith("/time") else told)
    )
    hosts = BybitHosts("http://127.0.0.1:9", "", "", "")
    with AccountClient(hosts, "key", "secret", http_transport=transport) as client:
        rows = {row.name: row for row in check_account(client, assumed())}
    assert rows[name].word == "UNKNOWN"
    assert field in rows[name].detail


OF_ACCOUNT = frozenset({"key", "ip", "expiry", "age", "margin", "one_way", "fees", "flat"})


def stage_rows(
    venue: SimulatedVenue, account: dict[str, str], disk: Path, asked: frozenset[str] = OF_ACCOUNT, **changes: Any
) -> dict[str, Checked]:
    """The stage's own preflight, of those checks that are `asked`; `changes` are set on its subject."""
    plan = ROOT / "configs" / "rollout.smoke.yaml"
    ready = venue.ready
    urls = (ready["rest_url"], ready["ws_public_url"], ready["ws_private_url"], ready["ws_trade_url"])
    keys = (account["api_key"], account["api_secret"])
    subject = Subject(
        AccountAccess(account["account"], "simulated", *urls, *keys, "grant", "approve"),
        load_plan(plan), plan, load_plan(plan).stage("canary"), "s", "v", "p", "http://127.0.0.1:9", disk,
    )  # fmt: skip
    names = {f"preflight_{name}" for name in asked}
    return {row.name: row for row in asyncio.run(preflight(dataclasses.replace(subject, **changes), names))}


LISTED_HERE = frozenset({"order_size", "switches", "tokens", "enrolled", "record"})


def test_the_short_checklist_passes_and_each_defect_fails_its_own_item(venue: SimulatedVenue, tmp_path: Path) -> None:
    account, plan = venue.account(), load_plan(ROOT / "configs" / "rollout.smoke.yaml")
    stage = plan.stage("canary")
    sizes = Sizes(stage.symbols, "500", "2000", "5", "2", "1.2")
    command = bot_command("live", sizes, tmp_path, DEMO_SETTINGS)
    environment = {**bot_environment(venue, account), "MM_LIVE_ENABLE": "1", "APPROVE_TOKEN": "a" * 16}
    facts = Facts([], [], ChainReport("a", True, 3, "f" * 64), [])
    good: dict[str, Any] = {"launch": (command, environment), "facts": facts}

    def rows(**changes: Any) -> dict[str, Checked]:
        return stage_rows(venue, account, tmp_path, LISTED_HERE, **{**good, **changes})

    access = AccountAccess(account["account"], "simulated", venue.ready["rest_url"], "", "", "", **{
        "api_key": account["api_key"], "api_secret": account["api_secret"],
        "grant_token": "g" * 16, "approve_token": "a" * 16,
    })  # fmt: skip
    found = rows(access=access)
    assert {row.name: row.outcome.value for row in found.values()} == dict.fromkeys(found, "PASS")
    assert len(found) == len(LISTED_HERE)
    sizes_said = r"BTCUSDT 0\.00\d \(least 0\.0012\), ETHUSDT 0\.0\d \(least 0\.012\)"
    assert re.fullmatch(sizes_said, found["preflight_order_size"].value)
    assert found["preflight_switches"].value == "profile live, all on"

    def fails(name: str, outcome: str, said: str, **changes: Any) -> None:
        bad = {row.name: row for row in rows(access=access, **changes).values() if row.outcome.value != "PASS"}
        row = bad.pop(f"preflight_{name}")
        assert not bad
        assert row.outcome.value == outcome
        assert said in (row.value or row.detail)

    off = {**environment, "SAFE_MODE": "false", "TWO_MAN_RULE": "false"}
    fails("switches", "FAIL", "safe_mode off, two_man_rule off", launch=(command, off))
    without = {name: value for name, value in environment.items() if name != "APPROVE_TOKEN"}
    fails("switches", "FAIL", "APPROVE_TOKEN not given", launch=(command, without))
    fails("switches", "UNKNOWN", "MM_LIVE_ENABLE", launch=(command, {**environment, "MM_LIVE_ENABLE": ""}))
    fails("enrolled", "FAIL", "without a code: ada", facts=dataclasses.replace(facts, unenrolled=["ada"]))
    broken = ChainReport("a", False, 1, "f" * 64, 2, "link 2 is missing, found 3")
    fails("record", "FAIL", "link 2 is missing", facts=dataclasses.replace(facts, chain=broken))
    fails(
        "order_size", "FAIL", "BTCUSDT 0.002 (least 0.003)", stage=stage.model_copy(update={"min_qty_pad": Decimal(3)})
    )
    short = dataclasses.replace(access, grant_token="g" * 15, approve_token="g" * 15)
    both = rows(access=short)["preflight_tokens"]
    assert both.value == "grant has 15 characters, approve has 15 characters, two are the same"
    unknown = {
        name for name, row in rows(access=access, facts=None, launch=None).items() if row.outcome.value == "UNKNOWN"
    }
    assert unknown == {"preflight_switches", "preflight_enrolled", "preflight_record"}


def test_a_stage_does_not_begin_on_an_account_with_a_defect(venue: SimulatedVenue, tmp_path: Path) -> None:
    account = venue.account()
    rows = stage_rows(venue, account, tmp_path)
    assert len(rows) == 8
    assert passed(list(rows.values()))
    venue.stand(account["account"], hedges=True, margin_mode="ISOLATED_MARGIN", maker_fee_rate="0.0005")
    rows = stage_rows(venue, account, tmp_path)
    assert not passed(list(rows.values()))
    words = {name.removeprefix("preflight_"): row.outcome.value for name, row in rows.items()}
    assert {name for name, word in words.items() if word == "FAIL"} == {"one_way", "margin", "fees"}
    assert words["flat"] == "UNKNOWN"  # two positions a symbol are none that could be read
    charged, needed = ("; ".join(f"{symbol} {bps}/5.5 bps" for symbol in ("BTCUSDT", "ETHUSDT")) for bps in (5, 2))
    assert rows["preflight_fees"].value == f"{charged}, needs {needed}"


def command(environment: dict[str, str], *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bot", "preflight", "--settings", str(DEMO_SETTINGS), *flags],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_says_what_is_wrong_and_what_is_needed(venue: SimulatedVenue, tmp_path: Path) -> None:
    account = venue.account()
    environment = bot_environment(venue, account)
    good = command(environment, "--network", "--live", "--json")
    assert (good.returncode, json.loads(good.stdout)["passed"]) == (0, True)
    venue.stand(account["account"], withdraws=True)
    bad = command(environment, "--network", "--live")
    assert bad.returncode == 1
    lines = bad.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("FAIL"))
    assert "CAN WITHDRAW" in lines[at]
    assert "needs trades, no withdrawal" in lines[at + 1]
    assert sum(line.startswith("PASS") for line in lines) == len(CHECKS) - 1
    for value in (account["api_key"], account["api_secret"]):
        assert value not in good.stdout + good.stderr + bad.stdout + bad.stderr


def test_the_command_reads_its_key_from_aws_and_knows_how_old_it_is(venue: SimulatedVenue) -> None:
    account = venue.account()
    with cloud() as aws:
        aws.save_pair(account["api_key"], account["api_secret"])
        environment = bot_environment(venue, account) | aws.environment
        del environment["BYBIT_API_KEY"], environment["BYBIT_API_SECRET"]
        done = command(environment, "--network", "--live", "--json")
    assert done.returncode == 0, done.stdout + done.stderr


def test_shadow_has_no_account_to_check(venue: SimulatedVenue) -> None:
    done = command(bot_environment(venue, venue.account()), "--shadow")
    assert (done.returncode, done.stderr.strip()) == (
        2,
        "mm-bot: preflight: mode shadow has no account; allowed: --network with --testnet or --live",
    )
