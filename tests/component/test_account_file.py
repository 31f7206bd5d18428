"""The file of an account at Bybit: it says whose environment its key is from, and leads nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bot.resolution import read_environment
from bot.runtime.secret_backends import bot_secrets
from bot.runtime.secrets import MemorySecrets
from bot.venues.bybit.hosts import BybitHosts, hosts_for
from tasks.account_file import ADDRESSES, SECRETS, AccountFileError, load_account, not_simulated, real_accounts
from tasks.state_folder import StateFolder, write_private
from tasks.supervise import specs

TOKENS = dict.fromkeys(SECRETS, "k" * 32)
LOOPBACK = dict(zip(ADDRESSES, ("http://127.0.0.1:1", *["ws://127.0.0.1:1"] * 3), strict=True))


def written(home: Path, name: str = "a", **content: object) -> Path:
    folder = StateFolder(home)
    folder.create()
    held = {"account": name, "venue": "bybit", "env": "testnet", **TOKENS, **content}
    write_private(folder.accounts / f"{name}.json", json.dumps(held))
    return home


@pytest.mark.parametrize("env", ["testnet", "live"])
def test_its_env_chooses_the_hosts_of_everything_that_is_started_for_it(tmp_path: Path, env: str) -> None:
    access = load_account(written(tmp_path, env=env), "a")
    assert access.hosts() == hosts_for("testnet" if env == "testnet" else "live", "linear")
    told = access.venue_environment()
    assert told["EXCHANGE_ENV"] == env
    ways = [name for name in told if name.startswith("MM_VENUE_")]
    assert {name: told[name] for name in ways} == dict.fromkeys(ways, ""), "what a .env file says of them is void"
    assert len(ways) == len(ADDRESSES) + 1
    assert not access.is_stand_in


def test_a_backend_that_an_env_file_names_is_not_asked_for_the_key_that_the_file_holds(tmp_path: Path) -> None:
    """The bot would trade on whatever account that key opens, and the guard prove this one flat."""
    (tmp_path / ".env").write_text("SECRETS_BACKEND=aws\nAWS_REGION=eu-west-1\nBYBIT_API_KEY=another\n")
    told = load_account(written(tmp_path), "a").venue_environment()
    secrets = bot_secrets(read_environment(tmp_path, told), "testnet")
    assert isinstance(secrets, MemorySecrets)
    assert secrets.pair("bybit").api_key.reveal() == "k" * 32


def test_a_gateway_reaches_desk_bot_watchdog_and_kill_switch(tmp_path: Path) -> None:
    access = load_account(written(tmp_path, env="live", gateway="https://gw.example.com"), "a")
    assert access.hosts(rest_only=True) == BybitHosts("https://gw.example.com", "", "", "")
    watchdog = specs.watchdog(StateFolder(tmp_path), "a", 7.5)
    assert watchdog.environment["MM_VENUE_GATEWAY"] == "https://gw.example.com"
    assert watchdog.command[watchdog.command.index("--gateway") + 1] == "gw.example.com"


def test_addresses_of_its_own_lead_to_a_stand_in_on_loopback(tmp_path: Path) -> None:
    access = load_account(written(tmp_path, **LOOPBACK), "a")
    assert access.hosts() == BybitHosts(*LOOPBACK.values())
    assert access.is_stand_in


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"env": ""}, "missing env"),
        ({"env": "demo"}, "env is 'demo'; allowed: testnet, live"),
        ({"venue": "okx"}, "venue is 'okx'; allowed: simulated, bybit"),
        ({"venue": "simulated"}, "missing rest_url, ws_public_url, ws_private_url, ws_trade_url"),
        ({"api_key": "", "api_secret": ""}, "missing api_key, api_secret"),
        ({"rest_url": "http://127.0.0.1:1"}, "MM_VENUE_WS_PUBLIC_URL is not set although MM_VENUE_REST_URL is"),
        (LOOPBACK | {"rest_url": "https://api.bybit.com"}, "is not on loopback, allowed hosts: 127.0.0.1"),
        (LOOPBACK | {"gateway": "https://gw.example.com"}, "contradict each other: give one of them"),
        ({"gateway": "http://gw.example.com"}, "allowed: https://HOST and nothing else"),
        ({"gateway": "https://key:secret@gw.example.com"}, "holds credentials"),
    ],
)
def test_what_it_may_not_say_is_one_line_with_its_name(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(AccountFileError) as refused:
        load_account(written(tmp_path, **changes), "a")
    (line,) = str(refused.value).splitlines()
    assert said in line
    assert "secret@" not in line
    assert "k" * 32 not in line


def test_real_accounts_are_told_from_simulated_ones_and_by_env(tmp_path: Path) -> None:
    written(tmp_path, "sim-1", venue="simulated")
    written(tmp_path, "b", env="live")
    written(tmp_path, "a")
    accounts = StateFolder(tmp_path).accounts
    (accounts / "damaged.json").write_text("{")
    assert real_accounts(accounts) == ["a", "b"]
    assert real_accounts(accounts, "bybit", "testnet") == ["a"]
    assert real_accounts(accounts, "simulated") == []
    assert not_simulated(accounts) == ["a", "b", "damaged"], "where nobody knows, it may be a real one"
