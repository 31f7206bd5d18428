"""The account's key from AWS, as moto serves it, in what is not the bot: the guard's desk, kill switch, watchdog.

No key stands in the account's file, none in a process's environment, and the guard's process never loads boto3.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.domain.order import Side
from bot.runtime.aws_secrets import AwsSecrets
from bot.runtime.secrets import KEY_TYPES, Secret
from bot.venues.bybit.account_client import AccountClient
from bot.venues.bybit.hosts import BybitHosts
from tasks.account_file import AccountAccess, AccountFileError, load_account
from tasks.rollback import DeskError
from tasks.state_folder import StateFolder, write_private
from tasks.supervise import specs
from tasks.venue_desk import VenueDesk
from tests.support.bot_rig import ROOT, SimulatedVenue, simulated_venue
from tests.support.cloud import Cloud, cloud
from tests.support.planted import files_that_hold

pytestmark = pytest.mark.integration

SYMBOLS = ("BTCUSDT",)
RSS_MB_MAX = 100.0
GUARD = """
import asyncio, json, sys
from pathlib import Path
import psutil
import tasks.guard.__main__
from tasks.account_file import load_account
from tasks.venue_desk import VenueDesk
desk = VenueDesk(lambda: load_account(Path(sys.argv[1]), sys.argv[2]), ("BTCUSDT",))
own = asyncio.run(desk.read_open()).own
desk.close()
rss_mb = psutil.Process().memory_info().rss / 1e6
print(json.dumps({"own": own, "boto3": "boto3" in sys.modules, "rss_mb": rss_mb}))
"""


@pytest.fixture(scope="module")
def aws() -> Iterator[Cloud]:
    with cloud() as running:
        yield running


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedVenue]:
    with simulated_venue(tmp_path_factory.mktemp("venue")) as running:
        yield running


class Backed:
    """An account whose file holds its tokens and no key; the key is in AWS."""

    def __init__(self, venue: SimulatedVenue, aws: Cloud, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.venue, self.aws = venue, aws
        self.folder = StateFolder(home)
        self.folder.create()
        self.key = venue.account()
        self.account = self.key["account"]
        for name, value in aws.environment.items():
            monkeypatch.setenv(name, value)
        self.secrets = AwsSecrets("prod", aws.environment)
        for key_type in KEY_TYPES:
            self.secrets.save("bybit", key_type, Secret(self.key[key_type]))
        urls = {name: venue.ready[name] for name in ("rest_url", "ws_public_url", "ws_private_url", "ws_trade_url")}
        tokens = {"grant_token": "g" * 32, "approve_token": "a" * 32}
        self.write({"account": self.account, "venue": "simulated", **urls, **tokens})

    def write(self, content: dict[str, str]) -> None:
        write_private(self.folder.accounts / f"{self.account}.json", json.dumps(content))
        self.content = content

    def access(self) -> AccountAccess:
        return load_account(self.folder.root, self.account)

    def place(self, name: str) -> None:
        """An own order far below the market."""
        hosts = BybitHosts(self.venue.ready["rest_url"], "", "", "")
        with AccountClient(hosts, self.key["api_key"], self.key["api_secret"]) as client:
            instrument, top = client.instrument("BTCUSDT"), client.top_of_book("BTCUSDT")
            price = instrument.price(instrument.ticks_floor(top.bid * Decimal("0.98")))
            client.place_post_only("BTCUSDT", Side.BUY, Decimal("0.01"), price, name)

    def rotate(self, key: dict[str, str]) -> None:
        """AWSCURRENT is that pair from now on."""
        self.secrets.rotate("bybit", Secret(key["api_key"]), Secret(key["api_secret"]))


@pytest.fixture
def backed(venue: SimulatedVenue, aws: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backed:
    return Backed(venue, aws, tmp_path / "home", monkeypatch)


def test_the_guards_desk_reads_cancels_and_follows_a_rotation(backed: Backed, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    desk = VenueDesk(backed.access, SYMBOLS)

    def call(ask: Callable[[], Awaitable[Any]]) -> Any:
        async def once() -> Any:
            return await ask()

        return asyncio.run(once())

    try:
        backed.place("slwq-1-1")
        assert call(desk.read_open).own == 1

        # another account's pair: the venue would show nothing of ours there
        other = backed.venue.account()
        backed.rotate(other)
        revoked = backed.venue.rotate_key(backed.account, "0")  # the old key is refused from now on
        with pytest.raises(DeskError, match="10003"):
            call(desk.read_open)
        assert "is not used: it opens account" in caplog.text

        # the right one: the next call of the same desk has it, and so has a cancel
        backed.key = {**backed.key, **revoked}
        backed.rotate(backed.key)
        assert call(desk.read_open).own == 1
        assert call(desk.cancel_all).startswith("kill switch executed: 1 cancelled")
        assert backed.venue.own_open(backed.account) == []
    finally:
        desk.close()
    pairs = [one[name] for one in (backed.key, other) for name in ("api_key", "api_secret")]
    assert not [value for value in pairs if value in caplog.text]
    assert files_that_hold(backed.folder.root, pairs) == []


def test_a_guards_process_that_reads_its_key_from_aws_stays_light(backed: Backed) -> None:
    backed.place("slwq-1-1")
    done = subprocess.run(
        [sys.executable, "-c", GUARD, str(backed.folder.root), backed.account],
        cwd=ROOT, env={"PATH": os.environ["PATH"], **backed.aws.environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["own"], told["boto3"]) == (1, False)
    assert told["rss_mb"] < RSS_MB_MAX


def test_bot_watchdog_and_kill_switch_are_told_where_the_key_is_and_not_the_key(backed: Backed) -> None:
    cloud_environment = backed.aws.environment
    environment = backed.access().venue_environment()
    assert cloud_environment.items() <= environment.items()
    assert not [name for name in environment if name.startswith("BYBIT_")]
    watchdog = specs.watchdog(backed.folder, backed.account, 7.5).environment
    assert environment.items() <= watchdog.items()
    guard = specs.guard(backed.folder, backed.account, "http://127.0.0.1:9").environment
    assert cloud_environment.items() <= guard.items()

    backed.place("slwq-1-1")
    report = backed.folder.root / "kill_switch.json"
    done = subprocess.run(
        [sys.executable, "-m", "bot", "kill-switch", "--execute", "--symbols", "BTCUSDT", "--quiet-s", "0.5",
         "--report", str(report)],
        cwd=ROOT, env={**specs.base_environment(), **watchdog}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, json.loads(report.read_text())["cancelled"]) == (0, 1), done.stderr
    assert backed.venue.own_open(backed.account) == []


def test_without_a_backend_a_file_without_a_key_is_refused_by_name(
    backed: Backed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRETS_BACKEND", "memory")
    with pytest.raises(AccountFileError, match=r"missing api_key, api_secret$"):
        backed.access()
    monkeypatch.setenv("SECRETS_BACKEND", "vault")
    with pytest.raises(AccountFileError, match="SECRETS_BACKEND: 'vault' is not allowed; allowed: memory, aws"):
        backed.access()
    monkeypatch.setenv("SECRETS_BACKEND", "aws")
    backed.write({**backed.content, "api_key": "half-of-a-pair-01"})
    with pytest.raises(AccountFileError, match=r"missing api_secret$"):
        backed.access()


def test_a_backend_that_holds_no_key_is_named_and_the_desk_proves_nothing(backed: Backed) -> None:
    with cloud() as empty, pytest.MonkeyPatch.context() as patch:
        for name, value in empty.environment.items():
            patch.setenv(name, value)
        desk = VenueDesk(backed.access, SYMBOLS)
        with pytest.raises(DeskError, match="mm-bot/prod/bybit is not saved"):
            asyncio.run(desk.read_open())
        desk.close()
