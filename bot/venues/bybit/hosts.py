"""Where Bybit's environments are, and the one way to point the bot somewhere else: at loopback, and only there.

Source: Bybit V5 integration guide. Demo trading has its own REST and private socket, takes market data from the live
public socket, and has no order entry by socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from bot.domain.instrument import Category

Environment = Literal["testnet", "demo", "live"]

OVERRIDES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "MM_VENUE_REST_URL": ("rest_url", ("http", "https")),
    "MM_VENUE_WS_PUBLIC_URL": ("ws_public_url", ("ws", "wss")),
    "MM_VENUE_WS_PRIVATE_URL": ("ws_private_url", ("ws", "wss")),
    "MM_VENUE_WS_TRADE_URL": ("ws_trade_url", ("ws", "wss")),
}
"""Environment variable → the address it replaces and the schemes it may have."""

SECONDS: Final[dict[str, str]] = {"https://api.bybit.com": "https://api.bytick.com"}
"""Origins to the second endpoint that the integration guide names beside them; the sockets have none."""

SECOND_OVERRIDE: Final = "MM_VENUE_SECOND"
"""`host:port` on loopback: the second endpoint of an overridden venue, for all of its addresses."""

REST_OVERRIDE: Final = "MM_VENUE_REST_URL"


class HostRefused(ValueError):
    """An address override that may not be used. One line: the variable, its value, what is allowed."""


class BybitHosts(msgspec.Struct, frozen=True):
    """The four addresses of one environment. `rest_url` has no trailing slash; an empty `ws_trade_url`: not offered."""

    rest_url: str
    ws_public_url: str
    ws_private_url: str
    ws_trade_url: str


def hosts_for(environment: Environment, category: Category) -> BybitHosts:
    """Bybit's own addresses of an environment."""
    rest = {"live": "api", "testnet": "api-testnet", "demo": "api-demo"}[environment]
    stream = {"live": "stream", "testnet": "stream-testnet", "demo": "stream-demo"}[environment]
    public = "stream" if environment == "demo" else stream
    return BybitHosts(
        rest_url=f"https://{rest}.bybit.com",
        ws_public_url=f"wss://{public}.bybit.com/v5/public/{category}",
        ws_private_url=f"wss://{stream}.bybit.com/v5/private",
        ws_trade_url="" if environment == "demo" else f"wss://{stream}.bybit.com/v5/trade",
    )


def override_hosts(hosts: BybitHosts, environ: Mapping[str, str], *, rest_only: bool = False) -> BybitHosts:
    """The hosts with the overrides of OVERRIDES applied. Raises HostRefused.

    All of them or none: half an override would quote against one venue by the book of another. With `rest_only` (for
    processes that open no socket) only MM_VENUE_REST_URL is looked at, and the sockets become empty with it.
    """
    given = {name: environ[name] for name in OVERRIDES if environ.get(name)}
    if rest_only:
        given = {name: value for name, value in given.items() if name == REST_OVERRIDE}
    if not given:
        return hosts
    for name, value in given.items():
        _require_loopback(name, value, OVERRIDES[name][1])
    missing = [name for name in OVERRIDES if name not in given]
    if rest_only:
        return BybitHosts(given[REST_OVERRIDE].rstrip("/"), "", "", "")
    if missing:
        raise HostRefused(f"{missing[0]} is not set although {next(iter(given))} is: set all of {', '.join(OVERRIDES)}")
    return BybitHosts(**{field: given[name].rstrip("/") for name, (field, _) in OVERRIDES.items()})


def second_endpoints(hosts: BybitHosts, environ: Mapping[str, str]) -> dict[str, str]:
    """Origin to the second endpoint's, of those hosts that have one. Raises HostRefused."""
    second = environ.get(SECOND_OVERRIDE, "")
    if not second:
        addresses = (hosts.rest_url, hosts.ws_public_url, hosts.ws_private_url, hosts.ws_trade_url)
        return {address: SECONDS[address] for address in addresses if address in SECONDS}
    if not any(environ.get(name) for name in OVERRIDES):
        raise HostRefused(f"{SECOND_OVERRIDE} is set although {REST_OVERRIDE} is not: a real venue has its own")
    _require_loopback(SECOND_OVERRIDE, f"http://{second}", ("http",))
    found: dict[str, str] = {}
    for address in (hosts.rest_url, hosts.ws_public_url, hosts.ws_private_url):
        scheme, host, _, _, _ = urlsplit(address)
        found[f"{scheme}://{host}"] = f"{scheme}://{second}"
    return found


def _require_loopback(name: str, value: str, schemes: tuple[str, ...]) -> None:
    try:
        parts = urlsplit(value)
        host, user, _ = parts.hostname or "", parts.username, parts.port
    except ValueError as error:
        raise HostRefused(f"{name}={value!r} is no address: {error}") from None
    if parts.scheme not in schemes:
        raise HostRefused(f"{name}={value!r} has scheme {parts.scheme!r}, allowed: {' '.join(schemes)}")
    if user is not None or not _is_loopback(host):
        raise HostRefused(f"{name}={value!r} is not on loopback, allowed hosts: 127.0.0.1 localhost [::1]")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
