"""Where Bybit's environments are, and the two ways to point the bot somewhere else.

The overrides lead to a venue on loopback, and only there: to a simulated one. A gateway leads to the same venue by
another host, encrypted; where real money is meant its host has to stand in the configuration that was signed.

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

GATEWAY: Final = "MM_VENUE_GATEWAY"
"""`https://HOST` or `https://HOST:PORT`: by it all addresses of an environment are reached, their paths unchanged."""

ANY_GATEWAY: Final = None


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


def override_hosts(
    hosts: BybitHosts, environ: Mapping[str, str], *, rest_only: bool = False, signed_gateway: str | None = ""
) -> BybitHosts:
    """The hosts with the overrides of OVERRIDES applied, or behind the gateway. Raises HostRefused.

    Of the overrides all or none: half an override would quote against one venue by the book of another. With
    `rest_only` (for processes that open no socket) only MM_VENUE_REST_URL is looked at, and the sockets become empty
    with it. `signed_gateway`: the one host (and port) that a gateway may have; empty: none may be given; ANY_GATEWAY:
    whichever, where no real money is meant.
    """
    overrides = {name: environ[name] for name in OVERRIDES if environ.get(name)}
    gateway = environ.get(GATEWAY, "")
    if gateway and overrides:
        raise HostRefused(f"{GATEWAY} and {next(iter(overrides))} contradict each other: give one of them")
    if gateway:
        return _behind(_gateway_host(gateway, signed_gateway), hosts, rest_only=rest_only)
    given = {name: value for name, value in overrides.items() if not rest_only or name == REST_OVERRIDE}
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


def is_simulated(environ: Mapping[str, str]) -> bool:
    """Whether the addresses lead to loopback. Behind a gateway is the real venue."""
    return any(environ.get(name) for name in OVERRIDES)


def _gateway_host(value: str, signed: str | None) -> str:
    """Host and port. Raises HostRefused, which never shows what may be a credential."""
    try:
        parts = urlsplit(value)
        named, _ = parts.hostname or "", parts.port
    except ValueError:
        raise HostRefused(f"{GATEWAY} is no address, allowed: https://HOST") from None
    if "@" in value:
        raise HostRefused(f"{GATEWAY} holds credentials, allowed: https://HOST")
    host = parts.netloc.lower()
    if parts.scheme != "https" or not named or parts.path not in ("", "/") or "?" in value or "#" in value:
        raise HostRefused(f"{GATEWAY}={value!r}, allowed: https://HOST and nothing else")
    if signed is not ANY_GATEWAY and host != signed.lower():
        stands = f"there stands {signed!r}" if signed else "there stands none"
        raise HostRefused(f"{GATEWAY}: host {host!r} is not venue.gateway of the signed configuration: {stands}")
    return host


def _behind(host: str, hosts: BybitHosts, *, rest_only: bool) -> BybitHosts:
    sockets = (hosts.ws_public_url, hosts.ws_private_url, hosts.ws_trade_url)
    public, private, trade = (f"wss://{host}{urlsplit(url).path}" if url else "" for url in sockets)
    return BybitHosts(f"https://{host}", *(("", "", "") if rest_only else (public, private, trade)))


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
