"""Which hosts a configuration means: the mode's own, or the venue's demo trading where no real money is meant."""

from __future__ import annotations

import pytest

from bot.assembly import host_environment
from bot.config import BotConfig, ConfigError, VenueSettings
from bot.modes import Mode
from bot.venues.bybit.hosts import hosts_for

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
