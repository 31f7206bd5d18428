"""The public side of a real venue, on which a shadow stage runs: market data, without a key and without an order.

It is where real money trades, whatever the account's key is for; a stand-in's addresses lead to loopback, a gateway to
the same venue. Only the addresses of an account's file are used here, never its key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.account_file import AccountAccess
from tasks.venue_desk import VenueDesk

if TYPE_CHECKING:
    from bot.venues.bybit.account_client import AccountClient
    from bot.venues.bybit.hosts import BybitHosts


def public_environment(access: AccountAccess) -> dict[str, str]:
    """What a bot has to know of the account's file to find that market data; nothing secret."""
    from bot.venues.bybit.hosts import GATEWAY, OVERRIDES

    return {name: value for name, value in access.venue_environment().items() if name in (*OVERRIDES, GATEWAY)}


def public_hosts(access: AccountAccess) -> BybitHosts:
    """Where it is. Raises HostRefused."""
    from bot.venues.bybit.hosts import ANY_GATEWAY, hosts_for, override_hosts

    return override_hosts(hosts_for("live", "linear"), public_environment(access), signed_gateway=ANY_GATEWAY)


class PublicDesk(VenueDesk):
    """Reads that need no key: the venue's clock, its filters, its book. Close it."""

    def __init__(self, access: AccountAccess, symbols: Sequence[str]) -> None:
        super().__init__(lambda: access, symbols)

    def _opened(self) -> AccountClient:
        if self._client is None:
            from bot.venues.bybit.account_client import AccountClient

            self._client = AccountClient(public_hosts(self._access()), "", "")
        return self._client
