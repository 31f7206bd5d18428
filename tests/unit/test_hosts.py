"""Which hosts a configuration means: the mode's own, or the venue's demo trading where no real money is meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from bot import modes
from bot.assembly import host_environment
from bot.commands import preflight as checking
from bot.config import BotConfig, ConfigError, VenueSettings
from bot.modes import Mode
from bot.resolution import resolve
from bot.runtime.kill_switch_command import ENVIRONMENTS
from bot.runtime.kill_switch_command import run_command as kill_switch
from bot.venues.bybit.account_client import AccountClient
from bot.venues.bybit.hosts import (
    ANY_GATEWAY,
    GATEWAY,
    BybitHosts,
    HostRefused,
    hosts_for,
    override_hosts,
    second_endpoints,
)

DEMO = BotConfig(venue=VenueSettings(hosts="demo"))


@pytest.mark.parametrize(("mode", "rest"), [("testnet", "api-testnet"), ("live", "api")])
def test_a_mode_has_hosts_of_its_own(mode: Mode, rest: str) -> None:
    hosts = hosts_for(host_environment(mode, BotConfig()), "spot")
    assert hosts.rest_url == f"https://{rest}.bybit.com"
    assert hosts.ws_public_url.endswith("/v5/public/spot")
    assert hosts.ws_trade_url.endswith("/v5/trade")


def test_demo_trading_has_live_market_data_and_no_trade_socket() -> None:
    hosts = hosts_for(host_environment("testnet", DEMO), "linear")
    assert hosts.rest_url == "https://api-demo.bybit.com"
    assert hosts.ws_public_url == "wss://stream.bybit.com/v5/public/linear"
    assert hosts.ws_trade_url == ""


def test_demo_hosts_are_refused_where_real_money_is_meant() -> None:
    with pytest.raises(ConfigError, match=r"venue\.hosts: demo is not allowed in mode live; allowed in mode testnet"):
        host_environment("live", DEMO)


class Opened(AccountClient):
    """Of whoever would be asked: only which hosts these are."""

    rest_urls: ClassVar[list[str]] = []

    def __init__(self, hosts: BybitHosts, *key: str, **options: Any) -> None:
        self.rest_urls.append(hosts.rest_url)
        super().__init__(BybitHosts("http://127.0.0.1:9", "", "", ""), *key, **options)


def checked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hosts: str, mode: Mode) -> list[str]:
    """Which REST addresses `preflight` asks under `venue: {hosts: ...}`."""
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"venue: {{hosts: {hosts}}}\n")
    keys = {"BYBIT_API_KEY": "k" * 18, "BYBIT_API_SECRET": "s" * 36, "MM_LIVE_ENABLE": "1"}
    monkeypatch.setattr(Opened, "rest_urls", [])
    monkeypatch.setattr(checking, "AccountClient", Opened)
    checking.preflight(resolve({"network": True, mode: True, "settings": str(settings)}, keys), as_json=True)
    return Opened.rest_urls


@pytest.mark.parametrize(
    ("hosts", "mode", "rest"),
    [("demo", "testnet", "api-demo"), ("by_mode", "testnet", "api-testnet"), ("by_mode", "live", "api")],
)
def test_preflight_asks_the_account_that_a_run_would_trade_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hosts: str, mode: Mode, rest: str
) -> None:
    assert checked_at(tmp_path, monkeypatch, hosts, mode) == [f"https://{rest}.bybit.com"]


def test_preflight_refuses_demo_hosts_where_real_money_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"venue\.hosts: demo is not allowed in mode live"):
        checked_at(tmp_path, monkeypatch, "demo", "live")
    assert Opened.rest_urls == []


def test_whoever_is_told_by_the_environment_alone_means_the_same_hosts_by_demo() -> None:
    assert hosts_for(ENVIRONMENTS["demo"], "linear") == hosts_for(host_environment("testnet", DEMO), "linear")


BEHIND = {GATEWAY: "https://gw.example:8443"}


def test_a_gateway_is_the_host_of_every_address_and_changes_no_path() -> None:
    hosts = override_hosts(hosts_for("live", "spot"), BEHIND, signed_gateway="gw.example:8443")
    assert hosts.rest_url == "https://gw.example:8443"
    assert hosts.ws_public_url == "wss://gw.example:8443/v5/public/spot"
    assert hosts.ws_private_url == "wss://gw.example:8443/v5/private"
    assert hosts.ws_trade_url == "wss://gw.example:8443/v5/trade"
    assert second_endpoints(hosts, BEHIND) == {}, "whoever chose a gateway is not led around it"


def test_behind_a_gateway_demo_still_has_no_trade_socket_and_a_process_without_sockets_none() -> None:
    demo = override_hosts(hosts_for("demo", "linear"), BEHIND, signed_gateway=ANY_GATEWAY)
    assert (demo.rest_url, demo.ws_trade_url) == ("https://gw.example:8443", "")
    alone = override_hosts(hosts_for("demo", "linear"), BEHIND, signed_gateway=ANY_GATEWAY, rest_only=True)
    assert (alone.rest_url, alone.ws_public_url, alone.ws_private_url) == ("https://gw.example:8443", "", "")


@pytest.mark.parametrize(
    "value",
    ["http://gw.example", "wss://gw.example", "gw.example", "https://", "https://gw.example/v5", "https://gw.example?a=b",
     "https://gw.example#a", "https://gw.example:nine"],
)  # fmt: skip
def test_a_gateway_that_is_more_or_less_than_an_encrypted_host_is_refused(value: str) -> None:
    with pytest.raises(HostRefused, match=r"MM_VENUE_GATEWAY.*allowed: https://HOST"):
        override_hosts(hosts_for("live", "linear"), {GATEWAY: value}, signed_gateway=ANY_GATEWAY)


def test_credentials_in_a_gateway_are_refused_and_not_shown() -> None:
    with pytest.raises(HostRefused, match="holds credentials") as refused:
        override_hosts(
            hosts_for("live", "linear"), {GATEWAY: "https://me:hidden@gw.example"}, signed_gateway=ANY_GATEWAY
        )
    assert "hidden" not in str(refused.value)


def test_a_gateway_and_a_simulated_venue_contradict_each_other() -> None:
    with pytest.raises(HostRefused, match="MM_VENUE_GATEWAY and MM_VENUE_REST_URL contradict"):
        override_hosts(hosts_for("live", "linear"), {**BEHIND, "MM_VENUE_REST_URL": "http://127.0.0.1:1"})


def test_behind_a_gateway_is_the_real_venue_which_is_no_simulated_one() -> None:
    """A bot that grants itself, as on the simulated venue, would be a bot that nobody permitted."""
    assert modes.check_hosts(BEHIND) is False


@pytest.mark.parametrize("signed", ["", "other.example", "gw.example"])
def test_in_live_a_gateway_has_to_stand_in_the_signed_configuration(signed: str) -> None:
    with pytest.raises(ConfigError, match=r"MM_VENUE_GATEWAY: host 'gw.example:8443' is not venue\.gateway"):
        modes.check_gateway("live", VenueSettings(gateway=signed), BEHIND)


def test_one_that_stands_there_is_taken_in_live_and_any_one_where_no_money_is() -> None:
    modes.check_gateway("live", VenueSettings(gateway="gw.example:8443"), BEHIND)
    modes.check_gateway("testnet", VenueSettings(), BEHIND)
    modes.check_gateway("shadow", VenueSettings(), BEHIND)
    with pytest.raises(ConfigError, match="MM_VENUE_GATEWAY: not for exchange 'okx'"):
        modes.check_gateway("shadow", VenueSettings(exchange="okx"), BEHIND)


def test_a_kill_switch_takes_no_gateway_that_nobody_signed(capsys: pytest.CaptureFixture[str]) -> None:
    environment = {**BEHIND, "EXCHANGE_ENV": "live", "BYBIT_API_KEY": "k" * 18, "BYBIT_API_SECRET": "s" * 36}
    assert kill_switch(["--symbols", "BTCUSDT", "--gateway", "other.example"], environment) == 2
    assert "host 'gw.example:8443' is not venue.gateway" in capsys.readouterr().err
