"""Which mode a run is in: the most careful of everything asked, contradictions refused by name."""

from __future__ import annotations

import pytest

from bot.modes import check_consent, check_hosts, profile_name, resolve_mode
from bot.settings_file import ConfigError

LOOPBACK = {
    "MM_VENUE_REST_URL": "http://127.0.0.1:9000",
    "MM_VENUE_WS_PUBLIC_URL": "ws://127.0.0.1:9000/v5/public/linear",
    "MM_VENUE_WS_PRIVATE_URL": "ws://localhost:9000/v5/private",
    "MM_VENUE_WS_TRADE_URL": "ws://[::1]:9000/v5/trade",
}


@pytest.mark.parametrize(
    ("flags", "environment", "mode"),
    [
        ({}, {}, "shadow"),
        ({"shadow": True}, {}, "shadow"),
        ({"network": True}, {}, "shadow"),
        ({"network": True, "testnet": True}, {}, "testnet"),
        ({"network": True, "live": True}, {}, "live"),
        ({"network": True, "mode": "live"}, {}, "live"),
        ({}, {"EXCHANGE_ENV": "testnet"}, "testnet"),
        ({}, {"EXCHANGE_ENV": "live"}, "live"),
        ({"shadow": True, "network": True, "live": True}, {}, "shadow"),
        ({"shadow": True}, {"EXCHANGE_ENV": "live"}, "shadow"),
        ({"network": True, "live": True}, {"EXCHANGE_ENV": "shadow"}, "shadow"),
        ({"network": True, "live": True}, {"EXCHANGE_ENV": "live"}, "live"),
    ],
)
def test_the_most_careful_of_everything_asked_is_the_mode(
    flags: dict[str, object], environment: dict[str, str], mode: str
) -> None:
    assert resolve_mode(flags, environment) == mode


@pytest.mark.parametrize(
    ("flags", "environment", "said"),
    [
        ({"network": True, "testnet": True}, {"EXCHANGE_ENV": "live"}, "--testnet and EXCHANGE_ENV=live contradict"),
        ({"network": True, "testnet": True, "live": True}, {}, "--testnet and --live contradict"),
        ({"network": True, "mode": "testnet", "live": True}, {}, "--mode testnet and --live contradict"),
        ({"live": True}, {}, "--live needs --network"),
        ({"network": False, "live": True}, {}, "--no-network and --live contradict"),
        ({"network": False}, {"EXCHANGE_ENV": "live"}, "--no-network and EXCHANGE_ENV=live contradict"),
        ({}, {"EXCHANGE_ENV": "prod"}, "EXCHANGE_ENV: 'prod' is not allowed; allowed: shadow, testnet, live"),
        ({"shadow": True}, {"EXCHANGE_ENV": "LIVE"}, "EXCHANGE_ENV: 'LIVE' is not allowed"),
    ],
)
def test_contradictions_are_refused_by_name(flags: dict[str, object], environment: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_mode(flags, environment)
    assert said in str(caught.value)


@pytest.mark.parametrize("value", [None, "", "0", "true", "yes", " 1"])
def test_live_without_its_second_consent_is_refused(value: str | None) -> None:
    environment = {} if value is None else {"MM_LIVE_ENABLE": value}
    with pytest.raises(ConfigError, match="MM_LIVE_ENABLE"):
        check_consent("live", environment)


def test_the_second_consent_alone_arms_nothing() -> None:
    assert resolve_mode({}, {"MM_LIVE_ENABLE": "1"}) == "shadow"
    check_consent("live", {"MM_LIVE_ENABLE": "1"})
    check_consent("testnet", {})


def test_loopback_hosts_may_replace_the_venues() -> None:
    assert check_hosts(LOOPBACK) is True
    assert check_hosts({}) is False


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("MM_VENUE_REST_URL", "http://10.0.0.5:9000"),
        ("MM_VENUE_REST_URL", "https://api.bybit.com"),
        ("MM_VENUE_REST_URL", "http://127.0.0.1.example.org"),
        ("MM_VENUE_WS_PUBLIC_URL", "ws://0.0.0.0:9000"),
        ("MM_VENUE_WS_PRIVATE_URL", "http://127.0.0.1:9000"),
    ],
)
def test_an_override_that_is_not_loopback_is_refused_by_name(name: str, url: str) -> None:
    with pytest.raises(ConfigError, match=name):
        check_hosts({**LOOPBACK, name: url})


def test_half_an_override_is_refused() -> None:
    with pytest.raises(ConfigError, match="MM_VENUE_WS_PUBLIC_URL"):
        check_hosts({"MM_VENUE_REST_URL": LOOPBACK["MM_VENUE_REST_URL"]})


def test_a_profile_is_found_by_flag_then_variable_then_mode() -> None:
    assert profile_name({"profile": "LIVE"}, {"PROFILE": "paper"}, "live") == ("live", "--profile")
    assert profile_name({}, {"MM_ENV": "Testnet"}, "shadow") == ("testnet", "MM_ENV")
    assert profile_name({}, {}, "live") == ("live", "default")


def test_a_networked_mode_runs_under_its_own_profile_only() -> None:
    with pytest.raises(ConfigError, match="--profile paper and mode live contradict"):
        profile_name({"profile": "paper"}, {}, "live")
    with pytest.raises(ConfigError, match="profile 'prod' is not allowed"):
        profile_name({"profile": "prod"}, {}, "shadow")
