"""Secrets: where they come from, how they are shown (masked), and how they are kept out of text.

    SecretProvider.get(exchange, key_type) -> Secret        one of them
    SecretProvider.pair(exchange) -> KeyPair                key and secret of one version: never halves of two

Both raise SecretMissing, which names what is missing, exactly, or SecretsUnreadable: the backend could not be asked,
which says nothing of what it holds. A `Secret` shows itself only masked; `reveal()` is the one way to its value.
`Scrubber` removes planted values from any text on its way to a log, an error or a report.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
import resource
from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple, Protocol, get_args
from urllib.parse import quote, quote_plus

KeyType = Literal["api_key", "api_secret"]
KEY_TYPES: Final[tuple[KeyType, ...]] = get_args(KeyType)
SecretEnv = Literal["dev", "testnet", "prod"]

MASK_SHOWN_CHARS: Final = 4
MASK_LENGTH_MIN: Final = 12
SCRUBBED: Final = "***"
TOKENS: Final = ("MM_GRANT_TOKEN", "APPROVE_TOKEN")
"""The variables of what opens the bot's own doors: a kill switch has no use for them."""
OWN_KEY: Final = {
    "BYBIT_KILL_SWITCH_API_KEY": "BYBIT_API_KEY",
    "BYBIT_KILL_SWITCH_API_SECRET": "BYBIT_API_SECRET",
}
"""The variables of a key that is the kill switch's alone → those of the bot's, for which it stands where it is set."""


class SecretMissing(Exception):
    """A secret that is not there. The message is its name, and nothing of any value."""


class SecretsUnreadable(Exception):
    """The backend could not be asked: not reachable, not allowed, or not understood. One line; no value in it."""


def without_tokens(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a kill switch that this process starts."""
    return {name: value for name, value in environment.items() if name not in TOKENS}


def mask(key: str) -> str:
    """`1234...cdef`; wholly masked below 12 characters, so that what is shown never is most of it."""
    if len(key) < MASK_LENGTH_MIN:
        return SCRUBBED
    return f"{key[:MASK_SHOWN_CHARS]}...{key[-MASK_SHOWN_CHARS:]}"


class Secret:
    """A value that prints masked wherever it lands: str, repr, f-string, %-formatting. It cannot be pickled."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself, for the one place that signs with it."""
        return self._value

    def __str__(self) -> str:
        return mask(self._value)

    def __repr__(self) -> str:
        return f"Secret({mask(self._value)!r})"

    def __format__(self, spec: str) -> str:
        return format(mask(self._value), spec)

    def __eq__(self, other: object) -> bool:
        """In constant time: how long it takes tells nothing of where two values differ."""
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # type: ignore[assignment]  # a secret is no key of a table

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled")


class KeyPair(NamedTuple):
    """A venue key with its secret. `version`: changes with every rotation. `saved_at_s`: since the epoch, UTC."""

    api_key: Secret
    api_secret: Secret
    version: str
    saved_at_s: int | None = None
    """None: the backend does not know how old it is."""


class SecretProvider(Protocol):
    """Where secrets live. `backend`: its name, for `secrets whoami`."""

    backend: str

    def get(self, exchange: str, key_type: KeyType) -> Secret:
        """The secret. Raises SecretMissing with its exact name; SecretsUnreadable."""

    def pair(self, exchange: str) -> KeyPair:
        """Key and secret as they were saved together. Raises as `get`."""


class MemorySecrets:
    """Secrets of the environment: `BYBIT_API_KEY`, `BYBIT_API_SECRET`. Read at each call, never kept."""

    backend: str = "memory"

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ

    def get(self, exchange: str, key_type: KeyType) -> Secret:
        name = f"{exchange}_{key_type}".upper()
        value = self._environ.get(name, "").strip()
        if not value:
            raise SecretMissing(f"{name} is not set")
        return Secret(value)

    def pair(self, exchange: str) -> KeyPair:
        return KeyPair(self.get(exchange, "api_key"), self.get(exchange, "api_secret"), self.backend)


def forbid_core_dumps() -> None:
    """A process that dies leaves no image of its memory, in which its keys would stand. For this process for ever."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Scrubber(logging.Filter):
    """Removes planted secrets from text, as they are and as JSON, a URL or a form would write them.

    Also a filter for `logging` handlers: the whole formatted message and the traceback pass through it.
    """

    def __init__(self, secrets: Iterable[Secret | str]) -> None:
        super().__init__()
        self._forms: list[str] = []
        self.learn(secrets)

    def learn(self, secrets: Iterable[Secret | str]) -> None:
        """More values to remove; those known before are removed for ever: an old log line may still be on its way."""
        values = {value.reveal() if isinstance(value, Secret) else value for value in secrets} - {""}
        forms = {form for value in values for form in _written_forms(value)}
        self._forms = sorted(forms | set(self._forms), key=len, reverse=True)

    @property
    def forms(self) -> list[str]:
        """All that is removed now: a text in which none of it stands has nothing to be scrubbed of."""
        return self._forms

    def scrub(self, text: str) -> str:
        """The text with every planted secret replaced."""
        for form in self._forms:
            text = text.replace(form, SCRUBBED)
        return text

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self.scrub(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = self.scrub(record.exc_text)
        return True


def _written_forms(value: str) -> set[str]:
    return {value, json.dumps(value)[1:-1], repr(value)[1:-1], quote(value, safe=""), quote_plus(value)}
