"""Sets up the file of an account at a real venue: its key is looked at there first, its tokens are made here."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from bot.config import Settings
from bot.venues.bybit.hosts import GATEWAY, OVERRIDES
from tasks.account_file import TOKENS, AccountAccess, AccountFileError, access_of
from tasks.names import NameRefused, check_name
from tasks.rollback import DeskError
from tasks.state_folder import StateFolder, read_json, write_private
from tasks.supervise.client import running
from tasks.supervise.specs import NO_MARKET
from tasks.venue_desk import VenueDesk

if TYPE_CHECKING:
    from bot.venues.bybit.account_client import AccountClient

KEY_VARIABLES: Final = ("BYBIT_API_KEY", "BYBIT_API_SECRET")
TOKEN_BYTES: Final = 32


class NotSetUp(Exception):
    """Nothing was written. One line: what, its value, what is allowed; never a value of a secret."""


def set_up(
    folder: StateFolder, name: str, venue: str, env: str, key: str, secret: str, environment: Mapping[str, str]
) -> tuple[str, ...]:
    """Writes `accounts/NAME.json`, mode 0600, and says in words what it is. Raises NotSetUp.

    `key`, `secret`: empty where a backend holds them. Of `environment` the gateway is taken, and the addresses of a
    stand-in on loopback. A key that may withdraw, cannot trade or opens an account that is set up already is refused;
    what else a stage asks of key and account its preflight says.
    """
    path = folder.accounts / f"{name}.json"
    try:
        check_name("NAME", name)
        if path.exists():
            raise NotSetUp(f"{path} exists; allowed: another name, or its removal first")
        table = running(folder)
        if table is not None and table.market != NO_MARKET:
            raise NotSetUp(f"the stack that is up is for {table.plan}, another venue's; allowed: after `rollout down`")
        values = {"account": name, "venue": venue, "env": env, "api_key": key, "api_secret": secret}
        values |= {address: environment.get(variable, "") for variable, (address, _) in OVERRIDES.items()}
        values |= {"gateway": environment.get(GATEWAY, "")}
        values |= {token: secrets.token_hex(TOKEN_BYTES) for token in TOKENS}
        values = {field: value for field, value in values.items() if value}
        access = access_of(path, name, values)
        owner, rights = _looked_at(access)
    except (NameRefused, AccountFileError, DeskError) as error:
        raise NotSetUp(str(error)) from error
    values["venue_account"] = owner
    for other in sorted(folder.accounts.glob("*.json")):
        held = read_json(other) or {}
        if (held.get("venue"), held.get("env"), held.get("venue_account")) == (venue, env, owner):
            raise NotSetUp(f"its key opens account {owner}, which is {other.stem}; allowed: one file for an account")
    folder.create()
    write_private(path, json.dumps(values, indent=2) + "\n")
    where = access.hosts(rest_only=True).rest_url
    return (
        f"{path}, readable by you alone",
        f"{venue} {env} by {where}, the venue's account {owner}: key {rights}",
        f"its guard runs while the stack is up; its stages: --param account={name}",
    )


def _looked_at(access: AccountAccess) -> tuple[str, str]:
    """Whose key it is, and what it may do, by the venue's word. Raises DeskError, NotSetUp."""
    from bot.assumed import assumed_of
    from bot.venues.bybit.account_checks import RIGHTS

    assumed = assumed_of(Settings(), (), time.time_ns() // 1_000_000_000)

    def ask(client: AccountClient) -> tuple[str, bool, str]:
        good, found = RIGHTS.ask(client, assumed)
        return str(client.key_information().user_id or ""), good, found

    desk = VenueDesk(lambda: access, ())
    try:
        owner, good, found = asyncio.run(desk.read(ask))
    finally:
        desk.close()
    if not good:
        raise NotSetUp(f"its key {found}; allowed: {RIGHTS.limit(assumed)}")
    if not owner:
        raise NotSetUp("the venue does not say whose the key is")
    return owner, found
