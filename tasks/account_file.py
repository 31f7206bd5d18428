"""The file of one venue account under `$SLIPWAY_HOME/accounts/`: addresses, key and tokens. Mode 0600, or refused."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks.names import NameRefused, check_name

FIELDS = ("account", "venue", "rest_url", "ws_public_url", "ws_private_url", "ws_trade_url")
SECRETS = ("api_key", "api_secret", "grant_token", "approve_token")


class AccountFileError(Exception):
    """The file is missing, readable by others, or lacks a field. One line; never a value of a secret."""


@dataclass(frozen=True)
class AccountAccess:
    """How to reach one account. `venue`: simulated | bybit. Secrets are left out of its printed form."""

    account: str
    venue: str
    rest_url: str
    ws_public_url: str
    ws_private_url: str
    ws_trade_url: str
    api_key: str = field(repr=False)
    api_secret: str = field(repr=False)
    grant_token: str = field(repr=False)
    approve_token: str = field(repr=False)
    operators: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Name to token of the people who may release a stop; optional, and none or at least two."""

    def venue_environment(self) -> dict[str, str]:
        """What bot and kill switch need in their environment to reach this account."""
        return {
            "BYBIT_API_KEY": self.api_key,
            "BYBIT_API_SECRET": self.api_secret,
            "MM_VENUE_REST_URL": self.rest_url,
            "MM_VENUE_WS_PUBLIC_URL": self.ws_public_url,
            "MM_VENUE_WS_PRIVATE_URL": self.ws_private_url,
            "MM_VENUE_WS_TRADE_URL": self.ws_trade_url,
            "MM_ACCOUNT": self.account,
        }


def load_account(home: Path, account: str) -> AccountAccess:
    """Reads `accounts/<account>.json`. Raises AccountFileError."""
    try:
        check_name("account", account)
    except NameRefused as error:
        raise AccountFileError(str(error)) from None
    path = home / "accounts" / f"{account}.json"
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text()
    except OSError as error:
        raise AccountFileError(f"{path}: cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise AccountFileError(f"{path}: mode {mode:04o}: it holds secrets, allowed is 0600")
    try:
        values = json.loads(text)
    except ValueError as error:
        raise AccountFileError(f"{path}: is not JSON: {error.args[0]}") from None
    missing = [name for name in (*FIELDS, *SECRETS) if not isinstance(values, dict) or not values.get(name)]
    if missing:
        raise AccountFileError(f"{path}: missing {', '.join(missing)}")
    if values["account"] != account:
        raise AccountFileError(f"{path}: account is {values['account']!r}, the file's name says {account!r}")
    people = values.get("operators", {})
    if not isinstance(people, dict) or not all(isinstance(token, str) for token in people.values()):
        raise AccountFileError(f"{path}: operators is no table of names and tokens")
    return AccountAccess(**{name: str(values[name]) for name in (*FIELDS, *SECRETS)}, operators=people)
