"""What a shadow stage at a real venue takes of an account: addresses, never the key; and what it is not asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gates.judge import Cause
from gates.sources.checks import CHECKS, Answer, CheckFacts
from gates.stages import ROOT, load_plan
from tasks.account_file import AccountAccess
from tasks.guard.beginning import _refuse_other_account
from tasks.guard.facts import Repeated, read_repeat
from tasks.guard.state import GuardState, Refused
from tasks.preflight import AGAIN_AT_LAUNCH, OF_THE_ACCOUNT, Subject, again_at_launch, table_of
from tasks.preflight import CHECKS as PREFLIGHT
from tasks.public_market import public_environment, public_hosts
from tasks.state_folder import write_private

REAL = ROOT / "configs" / "rollout.yaml"
SMOKE = ROOT / "configs" / "rollout.smoke.yaml"
GATEWAY = "https://gateway.example.com"
TESTNET = AccountAccess("a", "bybit", *[""] * 4, "the-key", "the-secret", "grant", "approve", env="testnet")


def test_of_an_account_only_addresses_are_taken() -> None:
    known = public_environment(TESTNET)
    assert set(known) == {
        "MM_VENUE_REST_URL", "MM_VENUE_WS_PUBLIC_URL", "MM_VENUE_WS_PRIVATE_URL", "MM_VENUE_WS_TRADE_URL",
        "MM_VENUE_GATEWAY",
    }  # fmt: skip
    assert not any(known.values())


def test_the_market_is_the_live_one_whatever_the_key_is_for() -> None:
    assert public_hosts(TESTNET).ws_public_url == "wss://stream.bybit.com/v5/public/linear"
    behind = replace(TESTNET, env="live", gateway=GATEWAY)
    assert public_hosts(behind).rest_url == GATEWAY
    here = ("http://127.0.0.1:9", *["ws://127.0.0.1:9/x"] * 3)
    stand_in = AccountAccess("a", "bybit", *here, "k", "s", "g", "p", env="testnet")
    assert public_hosts(stand_in).ws_public_url == "ws://127.0.0.1:9/x"


def test_a_gateway_to_the_testnet_is_no_way_to_the_live_market(tmp_path: Path) -> None:
    plan = load_plan(REAL)
    refused = "account a is for testnet by a gateway, and shadow is on live data; allowed: one for live"
    with pytest.raises(Refused, match=refused):
        _asked(tmp_path, {"env": "testnet", "gateway": GATEWAY})
    _asked(tmp_path, {"env": "live", "gateway": GATEWAY})
    _asked(tmp_path, {"env": "testnet"})
    assert plan.keyless(plan.stage("shadow"))


def _asked(home: Path, of: Mapping[str, str]) -> None:
    """What the guard of such an account says to the shadow stage of the real plan."""
    keys = dict.fromkeys(("api_key", "api_secret", "grant_token", "approve_token"), "k" * 32)
    (home / "accounts").mkdir(exist_ok=True)
    write_private(home / "accounts" / "a.json", json.dumps({"account": "a", "venue": "bybit", **keys, **of}))
    guard = SimpleNamespace(account="a", folder=SimpleNamespace(root=home))
    plan = load_plan(REAL)
    _refuse_other_account(cast("GuardState", guard), plan, plan.stage("shadow"))


def _subject(path: Path) -> Subject:
    plan = load_plan(path)
    return Subject(TESTNET, plan, path, plan.stage("shadow"), "s", "v", "p", "", Path())


def test_preflight_asks_nothing_about_an_account_that_shadow_does_not_use() -> None:
    names = {row[0] for row in table_of(_subject(REAL))}
    assert names == {row[0] for row in PREFLIGHT} - OF_THE_ACCOUNT
    assert {"preflight_clock", "preflight_symbols", "preflight_prometheus", "preflight_candidate"} <= names
    assert again_at_launch(_subject(REAL)) == {"preflight_clock", "preflight_candidate"} <= names
    simulated = _subject(SMOKE)
    assert {row[0] for row in table_of(simulated)} == {row[0] for row in PREFLIGHT}
    assert again_at_launch(simulated) == AGAIN_AT_LAUNCH


# ---- the repeated run ------------------------------------------------------------------------------------------------


def _read(folder: Path, content: Any) -> Repeated:
    path = folder / "repeated_run.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_repeat(path)


def test_the_repeated_run_tells_its_shares_or_why_not(tmp_path: Path) -> None:
    assert read_repeat(tmp_path / "none").error == "the run was not repeated yet"
    made = {"status": "repeated", "same": False, "iterations": 50, "placed": 40, "filled": 30}
    assert _read(tmp_path, made) == Repeated(False, Decimal("0.8"), Decimal("0.75"))
    assert _read(tmp_path, {**made, "placed": 0, "filled": 0}) == Repeated(False, Decimal(0), None)
    assert _read(tmp_path, {"status": "not made", "detail": "no memory"}) == Repeated(error="no memory")
    for broken in ("{", {"status": "repeated", "same": True}, {**made, "iterations": "many"}, "[]"):
        assert "not a result" in _read(tmp_path, broken).error
    assert "not a result" in _read(tmp_path, {**made, "iterations": 0}).error


def _answer(name: str, **facts: Any) -> Answer:
    return CHECKS[name].ask(CheckFacts("d", "v", 5.0, **facts))


def test_a_share_that_is_not_known_is_no_zero() -> None:
    assert _answer("repeated_placed", repeated_placed=Decimal("0.9")) == Answer(Decimal("0.9"))
    assert _answer("repeated_filled", told_error="no memory") == Answer(None, Cause.NO_DATA, "no memory")
    assert _answer("repeated_placed") == Answer(None, Cause.NO_DATA, "the run was not repeated yet")
    nothing = _answer("repeated_filled", report_repeats=True, repeated_placed=Decimal(0))
    assert nothing == Answer(None, Cause.NO_DATA, "it placed nothing")
