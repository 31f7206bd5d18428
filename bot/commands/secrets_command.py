"""`secrets whoami|list|save|fetch|get|rotate`. One line of JSON each; exit 0 done, 1 it is not there, 2 bad input.

Values come from stdin alone (typed unseen at a terminal), never from a flag, which every process list would show. A
key is shown as `1234...cdef`, wholly masked below 12 characters; an API secret is never shown, masked or not.
"""

from __future__ import annotations

import argparse
import getpass
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bot.command_line import USAGE_EXIT, Parser
from bot.resolution import read_environment
from bot.runtime.secret_backends import BackendRefused, backend_name, open_secrets, secret_env_of
from bot.runtime.secrets import KEY_TYPES, SCRUBBED, KeyType, Secret, SecretMissing, SecretsUnreadable
from bot.settings_file import ConfigError

if TYPE_CHECKING:
    from bot.runtime.aws_secrets import AwsSecrets

EXCHANGES: Final = ("bybit", "binance", "okx", "bitget")
VALUE_CHARS_MAX: Final = 4_096
NOT_THERE_EXIT: Final = 1

Shown = dict[str, object]


class Refused(Exception):
    """What a person did wrong, one line; never with a value."""


class Asked:
    """One call, resolved: which backend, which environment, whose key."""

    def __init__(self, options: argparse.Namespace, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.exchange_env = environment.get("EXCHANGE_ENV", "") or "shadow"
        given = getattr(options, "env", None)
        self.secret_env = secret_env_of(given or self.exchange_env, "--env" if given else "EXCHANGE_ENV")
        self.exchange: str = options.exchange
        self.key_type: KeyType = getattr(options, "key_type", "api_key")
        self.backend = backend_name(environment)

    def aws(self) -> AwsSecrets:
        """The backend that can keep something. Raises Refused for the other."""
        if self.backend == "memory":
            names = ", ".join(f"{self.exchange}_{key_type}".upper() for key_type in KEY_TYPES)
            raise Refused(f"SECRETS_BACKEND: 'memory' keeps nothing; set {names} in the environment, or use aws")
        from bot.runtime.aws_secrets import AwsSecrets

        return AwsSecrets(self.secret_env, self.environment)


def main(arguments: Sequence[str]) -> int:
    """The subcommand `secrets`."""
    options = _parser().parse_args(arguments)
    try:
        asked = Asked(options, read_environment(Path.cwd()))
        found = ACTIONS[options.action](asked)
    except (Refused, BackendRefused, ConfigError) as error:
        return _say(str(error), USAGE_EXIT)
    except (SecretMissing, SecretsUnreadable) as error:
        return _say(str(error), NOT_THERE_EXIT)
    print(json.dumps({"action": options.action, "backend": asked.backend, **found}, sort_keys=True))
    return 0 if found.get("status", "ok") in ("ok", "saved", "rotated") else NOT_THERE_EXIT


def _say(message: str, code: int) -> int:
    print(f"mm-bot secrets: {message}", file=sys.stderr)
    return code


# ---- the actions ----------------------------------------------------------------------------------------------------


def _whoami(asked: Asked) -> Shown:
    try:
        open_secrets(asked.environment, asked.secret_env).pair(asked.exchange)
        status = "ok"
    except SecretMissing as error:
        status = f"missing: {error}"
    except SecretsUnreadable as error:
        status = f"unreadable: {error}"
    return {"exchange_env": asked.exchange_env, "secret_env": asked.secret_env, "status": status}


def _list(asked: Asked) -> Shown:
    if asked.backend == "memory":
        names = [f"{exchange}_{key_type}".upper() for exchange in EXCHANGES for key_type in KEY_TYPES]
        return {"secrets": [{"name": name} for name in names if asked.environment.get(name, "").strip()]}
    return {"secrets": [{"name": one.name, **_age(one.changed_at_s)} for one in asked.aws().entries()]}


def _save(asked: Asked) -> Shown:
    aws = asked.aws()
    value = _values((asked.key_type,))[0]
    whole = aws.save(asked.exchange, asked.key_type, value)
    return {**_which(asked), "key_type": asked.key_type, "status": "saved", "whole": whole}


def _rotate(asked: Asked) -> Shown:
    aws = asked.aws()
    key, secret = _values(KEY_TYPES)
    version = aws.rotate(asked.exchange, key, secret)
    return {**_which(asked), "api_key": str(key), "status": "rotated", "version": version}


def _fetch(asked: Asked) -> Shown:
    pair = open_secrets(asked.environment, asked.secret_env).pair(asked.exchange)
    shown = {"api_key": str(pair.api_key), "api_secret": SCRUBBED, "version": pair.version}
    return {**_which(asked), **shown, **_age(pair.saved_at_s)}


def _get(asked: Asked) -> Shown:
    found = open_secrets(asked.environment, asked.secret_env).get(asked.exchange, asked.key_type)
    shown = str(found) if asked.key_type == "api_key" else SCRUBBED
    return {**_which(asked), "key_type": asked.key_type, "value": shown}


ACTIONS: Final[dict[str, Callable[[Asked], Shown]]] = {
    "whoami": _whoami,
    "list": _list,
    "save": _save,
    "fetch": _fetch,
    "get": _get,
    "rotate": _rotate,
}


def _which(asked: Asked) -> Shown:
    return {"exchange": asked.exchange, "secret_env": asked.secret_env}


def _age(at_s: int | None) -> Shown:
    if at_s is None:
        return {}
    saved = datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {"age_days": max(0, int(time.time()) - at_s) // 86_400, "saved_utc": saved}


# ---- input ----------------------------------------------------------------------------------------------------------


def _values(names: Sequence[KeyType]) -> list[Secret]:
    """One line of stdin for each. Raises Refused naming which, never what."""
    at_terminal = sys.stdin.isatty()
    lines = [getpass.getpass(f"{name}: ") for name in names] if at_terminal else sys.stdin.read().splitlines()
    if len(lines) != len(names):
        raise Refused(f"stdin: {len(lines)} lines; needs {len(names)}: {', then '.join(names)}")
    return [_value(name, line.strip()) for name, line in zip(names, lines, strict=True)]


def _value(name: str, text: str) -> Secret:
    if not text:
        raise Refused(f"stdin: {name} is empty")
    if len(text) > VALUE_CHARS_MAX:
        raise Refused(f"stdin: {name} has {len(text)} characters; allowed: at most {VALUE_CHARS_MAX}")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise Refused(f"stdin: {name} holds white space or characters that no key has")
    return Secret(text)


def _parser() -> Parser:
    parser = Parser(prog="mm-bot secrets", description="Keys of venues: who reads them, and keeping them.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=Parser)
    texts = {
        "whoami": "which backend and environment this process would read, and whether the pair is there",
        "list": "names and ages of what is kept; no values",
        "save": "keep one half, its value from stdin",
        "fetch": "read the pair; the key is shown masked, the secret not at all",
        "get": "read one half; a key is shown masked, a secret not at all",
        "rotate": "replace both halves in one step: two lines on stdin, api_key, then api_secret",
    }
    for name, text in texts.items():
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("--exchange", choices=EXCHANGES, default="bybit", help="whose key (default: bybit)")
        action.add_argument("--env", metavar="ENV", help="dev, testnet or prod (default: by EXCHANGE_ENV)")
        if name in ("save", "get"):
            action.add_argument("--key-type", choices=KEY_TYPES, required=True, help="which half of the pair")
    return parser
