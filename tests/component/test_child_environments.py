"""Each process of the stack knows the secrets that it needs, and no other."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bot.runtime import secret_backends
from bot.runtime.kill_switch_start import kill_switch_publisher
from bot.runtime.logs import JsonLog
from bot.runtime.secrets import SecretsUnreadable
from bot.runtime.watchdog import Settings, Watchdog
from tasks.account_keys import backend_reader
from tasks.guard import judging
from tasks.guard.launching import bot_environment
from tasks.names import SLACK_VARIABLES
from tasks.record_engine import open_engine
from tasks.record_migrations import ensure_newest
from tasks.state_folder import StateFolder, write_private
from tasks.supervise import specs, takedown
from tests.support.bot_rig import wait_for
from tests.support.guard_parts import activate, guard_at

SLACK = "https://hooks.slack.example/services/of-slack"
RECORD = "postgresql://slipway:of-the-record@localhost/slipway"
REDIS = "of-redis"
AWS = "of-aws"
CONTROL = "of-the-venue"
OWN_KEY, OWN_SECRET = "of-the-switch", "of-the-switch-secret"
URL = "http://127.0.0.1:9"
KEY = {"api_key": "of-key", "api_secret": "of-secret", "grant_token": "of-grant", "approve_token": "of-approve"}


@pytest.fixture
def all_secrets_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SLACK_VARIABLES:
        monkeypatch.setenv(name, SLACK)
    monkeypatch.setenv("SLIPWAY_RECORD_URL", RECORD)
    monkeypatch.setenv("MM_REDIS_PASSWORD", REDIS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", AWS)
    monkeypatch.setenv("BYBIT_KILL_SWITCH_API_KEY", OWN_KEY)
    monkeypatch.setenv("BYBIT_KILL_SWITCH_API_SECRET", OWN_SECRET)


def _secrets_in(environment: Mapping[str, str]) -> set[str]:
    known = {SLACK, RECORD, REDIS, AWS, CONTROL, OWN_KEY, OWN_SECRET, *KEY.values()}
    return {value for value in environment.values() if value in known}


def _folder(home: Path) -> StateFolder:
    folder = StateFolder(home)
    folder.create()
    urls = dict.fromkeys(("rest_url", "ws_public_url", "ws_private_url", "ws_trade_url"), URL)
    write_private(folder.accounts / "a.json", json.dumps({"account": "a", "venue": "simulated", **urls, **KEY}))
    return folder


@pytest.mark.usefixtures("all_secrets_are_set")
def test_a_child_of_the_supervisor_knows_the_secrets_that_it_needs_and_no_other(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    every = specs.stack_environment(folder, "mark", "plan.yaml")
    children = (
        specs.prefect_server(folder, f"{URL}/api"),
        specs.prefect_worker(folder, f"{URL}/api"),
        specs.venue("generated", CONTROL),
        specs.guard(folder, "a", URL),
        specs.watchdog(folder, "a", 1.0),
    )
    assert _secrets_in(every) == set(), "Prometheus gets nothing more"
    assert {spec.name: _secrets_in({**every, **spec.environment}) for spec in children} == {
        "prefect-server": set(),
        "prefect-worker": {RECORD},
        "venue": {CONTROL},
        "guard-a": {SLACK, RECORD, REDIS},
        "watchdog-a": {REDIS, KEY["api_key"], KEY["api_secret"], KEY["approve_token"]},
    }


def _account(folder: StateFolder, name: str, where: str = "") -> None:
    """One at a real venue."""
    known = {"account": name, "venue": "bybit", "env": "testnet", **KEY}
    write_private(folder.accounts / where / f"{name}.json", json.dumps(known))


@pytest.mark.usefixtures("all_secrets_are_set")
def test_the_kill_switchs_own_key_goes_to_the_kill_switches_of_the_one_account_that_it_can_be_of(
    tmp_path: Path, python_that_shows_its_environment: Path
) -> None:
    folder = _folder(tmp_path / "home")
    _account(folder, "real")
    guards, worker = specs.guard(folder, "real", URL), specs.prefect_worker(folder, f"{URL}/api")
    assert not {OWN_KEY, OWN_SECRET} & (_secrets_in(guards.environment) | _secrets_in(worker.environment))
    told = _secrets_in(specs.watchdog(folder, "real", 1.0).environment)
    assert told == {REDIS, KEY["api_key"], KEY["api_secret"], KEY["approve_token"], OWN_KEY, OWN_SECRET}
    assert not {OWN_KEY, OWN_SECRET} & _secrets_in(specs.watchdog(folder, "a", 1.0).environment), "a simulated one"
    takedown._kill_switch(folder, "real", takedown.DEFAULT_PLAN, print)
    assert _shown(python_that_shows_its_environment) == {REDIS, KEY["api_key"], KEY["api_secret"], OWN_KEY, OWN_SECRET}


@pytest.mark.usefixtures("all_secrets_are_set")
@pytest.mark.parametrize("where", ["", "retired"])
def test_where_it_could_be_anothers_it_goes_to_nobody(tmp_path: Path, where: str) -> None:
    folder = _folder(tmp_path)
    for name, place in (("real", ""), ("other", where)):
        _account(folder, name, place)
    environment = specs.watchdog(folder, "real", 1.0).environment
    assert not {OWN_KEY, OWN_SECRET} & _secrets_in(environment)
    assert environment["BYBIT_KILL_SWITCH_API_KEY"] == "", "and no file beside the code gives it one"


@pytest.mark.usefixtures("all_secrets_are_set")
def test_half_of_it_goes_to_nobody_because_a_kill_switch_refuses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BYBIT_KILL_SWITCH_API_SECRET")
    folder = _folder(tmp_path)
    _account(folder, "real")
    assert OWN_KEY not in _secrets_in(specs.watchdog(folder, "real", 1.0).environment)


@pytest.mark.usefixtures("all_secrets_are_set")
def test_a_guard_that_asks_a_backend_for_keys_can(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECRETS_BACKEND", "aws")
    assert _secrets_in(specs.guard(_folder(tmp_path), "a", URL).environment) == {SLACK, RECORD, REDIS, AWS}


@pytest.mark.usefixtures("all_secrets_are_set")
def test_the_bot_knows_nothing_of_the_guards(tmp_path: Path) -> None:
    guard = guard_at(tmp_path, "watch")
    guard.store.close()
    assert _secrets_in(bot_environment(activate(guard), "run")) == {REDIS}, "its key and tokens are `k…`"


def test_whoever_goes_to_the_venue_believes_the_authorities_that_the_user_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {"SSL_CERT_FILE": "/etc/ours.pem", "SSL_CERT_DIR": "/etc/ours"}
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    guard = guard_at(tmp_path, "watch")
    guard.store.close()
    for known in (
        bot_environment(activate(guard), "run"),
        specs.stack_environment(StateFolder(tmp_path), "mark", "plan.yaml"),
    ):
        assert {name: known.get(name) for name in named} == named


@pytest.fixture
def python_that_shows_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a child that is started as this interpreter leaves what it was given, and does nothing else."""
    script, found = tmp_path / "python", tmp_path / "environ"
    script.write_text(f"#!/bin/sh\ncat /proc/self/environ > {found}.part\nmv {found}.part {found}\necho {{}}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    return found


def _shown(found: Path) -> set[str]:
    words = found.read_text().split("\0")
    return _secrets_in(dict(word.split("=", 1) for word in words if word))


@pytest.mark.usefixtures("all_secrets_are_set")
def test_the_check_of_the_data_knows_the_way_to_the_journal_and_no_more(
    tmp_path: Path, python_that_shows_its_environment: Path
) -> None:
    assert asyncio.run(judging._run_to_file(tmp_path / "journal.db", tmp_path / "out")) == 0
    assert _shown(python_that_shows_its_environment) == {REDIS}


@pytest.mark.usefixtures("all_secrets_are_set")
def test_a_migration_knows_nothing_of_slack(tmp_path: Path, python_that_shows_its_environment: Path) -> None:
    url = f"sqlite:///{tmp_path / 'record.db'}"
    ensure_newest(open_engine(url), url)
    assert not {SLACK, OWN_KEY, OWN_SECRET} & _shown(python_that_shows_its_environment)


@pytest.mark.usefixtures("all_secrets_are_set")
def test_whoever_asks_the_backend_for_a_key_knows_nothing_of_slack_and_the_record(
    monkeypatch: pytest.MonkeyPatch, python_that_shows_its_environment: Path
) -> None:
    monkeypatch.setattr(secret_backends, "READER", (sys.executable,))
    with pytest.raises(SecretsUnreadable, match="gave no pair"):
        backend_reader(os.environ, "live")(None)
    assert _shown(python_that_shows_its_environment) == {AWS}


def test_a_kill_switch_knows_no_token(tmp_path: Path, python_that_shows_its_environment: Path) -> None:
    known = {"BYBIT_API_KEY": KEY["api_key"], "MM_GRANT_TOKEN": KEY["grant_token"]}
    known |= {"APPROVE_TOKEN": KEY["approve_token"]}
    found = python_that_shows_its_environment
    log = JsonLog((), time.time_ns)
    kill_switch_publisher(("BTCUSDT",), "linear", tmp_path, known, "cancel", 5000, "", log)("drawdown")
    wait_for("it has begun", found.exists, 30)  # whole: it is moved there
    assert _shown(found) == {KEY["api_key"]}
    found.unlink()

    async def by_the_watchdog() -> int:
        settings = Settings("a", tmp_path, 1.0, 5.0, 3, True, [sys.executable], known, "")
        nobody: Any = None
        return await Watchdog(settings, nobody, nobody, nobody, nobody, time.time)._run_switch()

    assert asyncio.run(by_the_watchdog()) == 0
    assert _shown(found) == {KEY["api_key"]}
