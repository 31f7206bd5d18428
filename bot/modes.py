"""Which mode a run is in, and what has to agree before an order could ever leave. Decided before a socket opens.

| mode    | asked for by                                        | what may happen                      |
|---------|-----------------------------------------------------|--------------------------------------|
| shadow  | nothing, `--shadow`, `EXCHANGE_ENV=shadow`          | no order leaves the process          |
| testnet | `--network --testnet`, `EXCHANGE_ENV=testnet`       | orders on the venue's testnet hosts  |
| live    | `--network --live`, `EXCHANGE_ENV=live`             | orders, money; needs MM_LIVE_ENABLE=1 |

`--shadow` beats all; two different networked modes contradict each other and are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, cast

from bot.config import VenueSettings
from bot.settings_file import ConfigError
from bot.venues.bybit.hosts import (
    ANY_GATEWAY,
    GATEWAY,
    HostRefused,
    hosts_for,
    is_simulated,
    override_hosts,
    second_endpoints,
)

Mode = Literal["shadow", "testnet", "live"]
MODES: Final[tuple[Mode, ...]] = ("shadow", "testnet", "live")
SECRET_ENV: Final[dict[Mode, str]] = {"shadow": "dev", "testnet": "testnet", "live": "prod"}
DEFAULT_PROFILE: Final[dict[Mode, str]] = {"shadow": "paper", "testnet": "testnet", "live": "live"}
PROFILE_VARIABLES: Final = ("PROFILE", "DEFAULT_PROFILE", "MODE", "MM_ENV")


def resolve_mode(flags: Mapping[str, object], environment: Mapping[str, str]) -> Mode:
    """The one mode of this run. `flags`: only those given. Raises ConfigError naming what contradicts what."""
    asked: dict[str, Mode] = {}
    if "mode" in flags:
        asked[f"--mode {flags['mode']}"] = cast("Mode", flags["mode"])
    for mode in MODES:
        if flags.get(mode):
            asked[f"--{mode}"] = mode
    exchange_env = environment.get("EXCHANGE_ENV", "")
    if exchange_env:
        if exchange_env not in MODES:
            raise ConfigError(f"EXCHANGE_ENV: {exchange_env!r} is not allowed; allowed: {', '.join(MODES)}")
        asked[f"EXCHANGE_ENV={exchange_env}"] = exchange_env
    if not asked or "shadow" in asked.values():
        return "shadow"
    if len(set(asked.values())) > 1:
        raise ConfigError(f"{' and '.join(asked)} contradict each other; give one of them (or --shadow)")
    mode = next(iter(asked.values()))
    network = flags.get("network")
    if network is False:
        raise ConfigError(f"--no-network and {next(iter(asked))} contradict each other; give one of them")
    if network is None and not exchange_env:
        raise ConfigError(f"{next(iter(asked))} needs --network as well")
    return mode


def check_consent(mode: Mode, environment: Mapping[str, str]) -> None:
    """Dual consent: live needs the flag AND the variable. Raises ConfigError where the variable is missing."""
    if mode == "live" and not live_enabled(environment):
        shown = environment.get("MM_LIVE_ENABLE", "")
        raise ConfigError(f"MM_LIVE_ENABLE: {shown!r} is not allowed with live; needs 1 (the flag alone arms nothing)")


def live_enabled(environment: Mapping[str, str]) -> bool:
    """Whether the variable arms this process."""
    return environment.get("MM_LIVE_ENABLE", "") == "1"


def check_hosts(environment: Mapping[str, str]) -> bool:
    """Whether the hosts are a simulated venue's. Raises ConfigError where one may not be, or some are missing."""
    try:
        hosts = override_hosts(hosts_for("live", "linear"), environment, signed_gateway=ANY_GATEWAY)
        second_endpoints(hosts, environment)
    except HostRefused as error:
        raise ConfigError(str(error)) from error
    return is_simulated(environment)


def signed_gateway(mode: Mode, venue: VenueSettings) -> str | None:
    """The gateway that may be used: in live the signed one alone."""
    return venue.gateway if mode == "live" else ANY_GATEWAY


def check_gateway(mode: Mode, venue: VenueSettings, environment: Mapping[str, str]) -> None:
    """Raises ConfigError for a gateway that this mode, or this venue, may not be reached by."""
    if environment.get(GATEWAY) and venue.exchange != "bybit":
        raise ConfigError(f"{GATEWAY}: not for exchange {venue.exchange!r}; allowed: bybit")
    try:
        override_hosts(hosts_for("live", "linear"), environment, signed_gateway=signed_gateway(mode, venue))
    except HostRefused as error:
        raise ConfigError(str(error)) from error


def profile_name(flags: Mapping[str, object], environment: Mapping[str, str], mode: Mode) -> tuple[str, str]:
    """(profile, who asked). Raises ConfigError for an unknown one, and for another than a networked mode's own."""
    asked, source = str(flags.get("profile", "")), "--profile"
    for variable in PROFILE_VARIABLES:
        if not asked and environment.get(variable):
            asked, source = environment[variable], variable
    if not asked:
        return DEFAULT_PROFILE[mode], "default"
    name = asked.lower()
    if name not in DEFAULT_PROFILE.values():
        raise ConfigError(f"{source}: profile {asked!r} is not allowed; allowed: paper, testnet, live")
    if mode != "shadow" and name != DEFAULT_PROFILE[mode]:
        raise ConfigError(f"{source} {name} and mode {mode} contradict each other; {mode} runs under its own profile")
    return name, source
