"""`preflight`: the account and its key, checked before anything trades. Exit 0: every check passed; 1: one did not."""

from __future__ import annotations

import json
import time

from bot.assembly import host_environment, secrets_of
from bot.assumed import assumed_of
from bot.modes import signed_gateway
from bot.resolution import Resolved
from bot.runtime.secrets import Scrubber, SecretMissing, SecretsUnreadable
from bot.settings_file import ConfigError
from bot.venues.bybit.account_checks import AccountRow, check_account
from bot.venues.bybit.account_client import AccountClient
from bot.venues.bybit.hosts import hosts_for, override_hosts


def preflight(resolved: Resolved, *, as_json: bool) -> int:
    """Raises ConfigError, one line, for what keeps the account from being asked."""
    if resolved.mode == "shadow":
        raise ConfigError("preflight: mode shadow has no account; allowed: --network with --testnet or --live")
    config = resolved.config
    try:
        pair = secrets_of(resolved).pair(config.venue.exchange)
    except (SecretMissing, SecretsUnreadable) as error:
        raise ConfigError(str(error)) from error
    hosts = override_hosts(
        hosts_for(host_environment(resolved.mode, config), config.venue.category),
        resolved.environment,
        rest_only=True,
        signed_gateway=signed_gateway(resolved.mode, config.venue),
    )
    assumed = assumed_of(config, config.execution.symbols, int(time.time()), pair.saved_at_s)
    with AccountClient(
        hosts,
        pair.api_key.reveal(),
        pair.api_secret.reveal(),
        category=config.venue.category,
        recv_window_ms=config.venue.receive_window_ms,
    ) as client:
        rows = check_account(client, assumed)
    text = _as_json(rows) if as_json else _as_table(rows)
    print(Scrubber((pair.api_key, pair.api_secret)).scrub(text))
    return 0 if all(row.word == "PASS" for row in rows) else 1


def _as_json(rows: list[AccountRow]) -> str:
    document = {"checks": [row._asdict() for row in rows], "passed": all(row.word == "PASS" for row in rows)}
    return json.dumps(document, sort_keys=True)


def _as_table(rows: list[AccountRow]) -> str:
    lines = []
    for row in rows:
        lines.append(f"{row.word:<8}{row.title:<42} {row.value or row.detail}")
        if row.word != "PASS":
            lines.append(f"{'':<8}{'':<42} needs {row.limit}")
    return "\n".join(lines)
