"""The file of one venue account under `$SLIPWAY_HOME/accounts/`: its venue, key and tokens. Mode 0600, or refused.

An account at the simulated venue names its addresses. One at Bybit says for which of Bybit's environments its key is
(`env`), and that chooses the hosts: addresses of its own lead to a stand-in on loopback, a gateway to the same venue.
Where `SECRETS_BACKEND` names a backend the file may hold no key: then that is asked for it, as the bot does.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from bot.runtime.secret_backends import SECRET_ENVS, BackendRefused
from bot.runtime.secrets import OWN_KEY
from bot.venues.bybit.hosts import GATEWAY, OVERRIDES, BybitHosts, HostRefused, hosts_for, override_hosts
from tasks.account_keys import AccountKeys, backend_environment, backend_reader, is_backed
from tasks.names import NameRefused, check_name
from tasks.state_folder import read_json

SIMULATED: Final = "simulated"
VENUES: Final = (SIMULATED, "bybit")
ENVS: Final = ("testnet", "live")
"""Of Bybit: where a key is from, and so which stages may be run with it."""
ADDRESSES: Final = tuple(name for name, _ in OVERRIDES.values())
KEY = ("api_key", "api_secret")
TOKENS = ("grant_token", "approve_token")
SECRETS = (*KEY, *TOKENS)


class AccountFileError(Exception):
    """The file is missing, readable by others, or lacks a field. One line; never a value of a secret."""


@dataclass(frozen=True)
class AccountAccess:
    """How to reach one account. `venue`: simulated | bybit. Secrets are left out of its printed form.

    `api_key`, `api_secret`: empty where a backend holds them; then `keys` asks it. `env`: testnet | live at Bybit,
    empty at the simulated venue. Addresses that are empty are the environment's own. `gateway`: `https://HOST`, by
    which the environment is reached; empty: none.
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
    env: str = ""
    gateway: str = ""
    keys: AccountKeys | None = field(default=None, repr=False, compare=False)

    @property
    def is_stand_in(self) -> bool:
        """Whether it only calls itself Bybit's: its addresses lead to loopback."""
        return self.venue != SIMULATED and bool(self.rest_url)

    @property
    def gateway_host(self) -> str:
        """Host, or host:port, of the gateway; empty: none."""
        return urlsplit(self.gateway).netloc.lower()

    def venue_environment(self) -> dict[str, str]:
        """What bot and kill switch need in their environment to reach this account: its key, or the way to it.

        What is not meant is empty and not left out: a `.env` file beside the code must not lead them elsewhere.
        """
        own = {"SECRETS_BACKEND": "", "BYBIT_API_KEY": self.api_key, "BYBIT_API_SECRET": self.api_secret}
        return {
            **(own if self.keys is None else backend_environment(os.environ)),
            **{name: str(getattr(self, address)) for name, (address, _) in OVERRIDES.items()},
            GATEWAY: self.gateway,
            "EXCHANGE_ENV": self.env,
            "MM_ACCOUNT": self.account,
        }

    def hosts(self, *, rest_only: bool = False) -> BybitHosts:
        """Where it is. Raises HostRefused."""
        own = hosts_for("testnet" if self.env == "testnet" else "live", "linear")
        found = self.venue_environment()
        return override_hosts(own, found, rest_only=rest_only, signed_gateway=self.gateway_host)


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
    return access_of(path, account, values if isinstance(values, dict) else {})


def real_accounts(accounts: Path, venue: str | None = None, env: str | None = None) -> list[str]:
    """Those in that folder at venues that are not our own, by name; only of `venue` and `env` where given. One whose
    file cannot be read is not among them: nobody knows where it is."""
    found = {path.stem: read_json(path) or {} for path in sorted(accounts.glob("*.json")) if path.name[0] != "."}
    real = {name: one for name, one in found.items() if one.get("venue") not in (None, SIMULATED)}
    wanted = {"venue": venue, "env": env}
    return [name for name, one in real.items() if all(value in (None, one.get(key)) for key, value in wanted.items())]


def not_simulated(accounts: Path) -> list[str]:
    """Those in that folder that may be at a real venue, by name: all whose file does not say that they are simulated,
    for one that cannot be read may be anywhere."""
    found = {path.stem: read_json(path) or {} for path in sorted(accounts.glob("*.json")) if path.name[0] != "."}
    return [name for name, one in found.items() if one.get("venue") != SIMULATED]


def kill_switch_key(home: Path, access: AccountAccess) -> dict[str, str]:
    """The kill switch's own key of this process' environment, for the kill switch of that account; else empty values.

    It goes to the one account of this folder, retired ones counted, that is or may be at a real venue: under another
    account's key nothing of ours is open, and all would look proven. Half a key goes to nobody.
    """
    none = dict.fromkeys(OWN_KEY, "")
    real = {name for folder in ("accounts", "accounts/retired") for name in not_simulated(home / folder)}
    if access.venue == SIMULATED or real != {access.account}:
        return none
    own = {name: os.environ.get(name, "") for name in OWN_KEY}
    return own if all(own.values()) else none


def access_of(path: Path, account: str, values: Mapping[str, Any]) -> AccountAccess:
    """What the file at `path` says, or would say, of that account. Raises AccountFileError."""
    at_bybit = values.get("venue") not in (None, "", SIMULATED)
    fields = ("account", "venue", *(("env",) if at_bybit else ADDRESSES))
    missing = [name for name in (*fields, *SECRETS) if not values.get(name)]
    try:
        backed = missing == list(KEY) and is_backed(os.environ)
    except BackendRefused as error:
        raise AccountFileError(str(error)) from None
    if missing and not backed:
        raise AccountFileError(f"{path}: missing {', '.join(missing)}")
    if values["account"] != account:
        raise AccountFileError(f"{path}: account is {values['account']!r}, the file's name says {account!r}")
    for name, allowed in (("venue", VENUES), *((("env", ENVS),) if at_bybit else ())):
        if values[name] not in allowed:
            raise AccountFileError(f"{path}: {name} is {values[name]!r}; allowed: {', '.join(allowed)}")
    named = {name: str(values.get(name, "")) for name in ("account", "venue", *ADDRESSES, *SECRETS)}
    own = {name: str(values.get(name, "")) if at_bybit else "" for name in ("env", "gateway")}
    keys = AccountKeys(backend_reader(os.environ, SECRET_ENVS[own["env"] or "live"])) if backed else None
    access = AccountAccess(**named, **own, keys=keys)
    try:
        access.hosts(rest_only=not at_bybit)
    except HostRefused as error:
        raise AccountFileError(f"{path}: {error}") from None
    return access
