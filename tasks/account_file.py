"""The file of one venue account under `$SLIPWAY_HOME/accounts/`: addresses, key and tokens. Mode 0600, or refused.

Where `SECRETS_BACKEND` names a backend the file may hold no key: then that is asked for it, as the bot does.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from bot.runtime.secret_backends import BackendRefused
from tasks.account_keys import AccountKeys, backend_environment, backend_reader, is_backed
from tasks.names import NameRefused, check_name

FIELDS = ("account", "venue", "rest_url", "ws_public_url", "ws_private_url", "ws_trade_url")
KEY = ("api_key", "api_secret")
TOKENS = ("grant_token", "approve_token")
SECRETS = (*KEY, *TOKENS)


class AccountFileError(Exception):
    """The file is missing, readable by others, or lacks a field. One line; never a value of a secret."""


@dataclass(frozen=True)
class AccountAccess:
    """How to reach one account. `venue`: simulated | bybit. Secrets are left out of its printed form.

    `api_key`, `api_secret`: empty where a backend holds them; then `keys` asks it.
    """

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
    keys: AccountKeys | None = field(default=None, repr=False, compare=False)

    def venue_environment(self) -> dict[str, str]:
        """What bot and kill switch need in their environment to reach this account: its key, or the way to it."""
        own = {"BYBIT_API_KEY": self.api_key, "BYBIT_API_SECRET": self.api_secret}
        return {
            **(own if self.keys is None else backend_environment(os.environ)),
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
    try:
        backed = missing == list(KEY) and is_backed(os.environ)
    except BackendRefused as error:
        raise AccountFileError(str(error)) from None
    if missing and not backed:
        raise AccountFileError(f"{path}: missing {', '.join(missing)}")
    if values["account"] != account:
        raise AccountFileError(f"{path}: account is {values['account']!r}, the file's name says {account!r}")
    found = {name: str(values.get(name, "")) for name in (*FIELDS, *SECRETS)}
    keys = AccountKeys(backend_reader(os.environ)) if backed else None
    return AccountAccess(**found, keys=keys)
