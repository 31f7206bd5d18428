"""An account's key where its file holds none: from the same backend as the bot's own, and never kept in a file.

With `SECRETS_BACKEND=aws` that is AWS Secrets Manager, read by a short-lived process, so that the guard never loads its
client. What was read serves for `KEPT_S`; it is read anew after that, and at once where the venue refuses it. While the
backend does not answer the pair that was read last serves on: a rollback must not wait for a cloud.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from bot.runtime.secret_backends import ReaderSecrets, backend_name
from bot.runtime.secrets import KeyPair, SecretMissing, SecretsUnreadable
from bot.venues.port import VenueError
from tasks.names import without_secrets

EXCHANGE: Final = "bybit"
KEPT_S: Final = 60.0
KNOWN_TIMEOUT_S: Final = 3.0
"""So long a read may take while the venue still takes the pair that is known."""

log = logging.getLogger("slipway.keys")
ReadPair = Callable[[float | None], KeyPair]
"""Reads the pair of now within so many seconds; None: in the time the backend has. Raises as a SecretProvider."""


def is_backed(environment: Mapping[str, str]) -> bool:
    """Whether keys come from a backend here. Raises BackendRefused."""
    return backend_name(environment) != "memory"


def backend_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What a process needs to ask the backend itself; empty where none is set. A wrong one is for it to refuse."""
    name = environment.get("SECRETS_BACKEND", "")
    if name in ("", "memory"):
        return {}
    return {"SECRETS_BACKEND": name, **{key: value for key, value in environment.items() if key.startswith("AWS_")}}


def backend_reader(environment: Mapping[str, str], kept_under: str) -> ReadPair:
    """Asks the backend of this environment. `kept_under`: dev | testnet | prod, whose keys they are."""
    known = without_secrets(environment)

    def read(within_s: float | None) -> KeyPair:
        limit = {} if within_s is None else {"timeout_s": within_s}
        return ReaderSecrets(known, kept_under, **limit).pair(EXCHANGE)

    return read


Opens = Callable[[str, str], str]
"""Key and secret to the account that they open, by the venue's word. Raises VenueError."""


class AccountKeys:
    """The pair of one account, as it is now. Its calls may block; they are for threads.

    A pair that opens another account would show that nothing is open and all is flat: it is never used.
    """

    def __init__(self, read: ReadPair, now_s: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._now_s = now_s
        self._known: KeyPair | None = None
        self._account = ""
        self._read_at_s = 0.0
        self._lock = threading.Lock()

    def current(self, opens: Opens) -> tuple[str, str]:
        """Key and secret. Raises SecretMissing or SecretsUnreadable where none was ever read."""
        with self._lock:
            if self._known is None:
                self._known = self._read(None)
                self._read_at_s = self._now_s()
                self._learn(self._known, opens)
            elif self._now_s() - self._read_at_s >= KEPT_S:
                self._look(self._known, opens, KNOWN_TIMEOUT_S)
            return _revealed(self._known)

    def after_refusal(self, opens: Opens) -> tuple[str, str]:
        """The venue refused the pair that `current` gave: the one to use now, which may be the same."""
        with self._lock:
            if self._known is None:
                raise SecretMissing("no key was read yet that could have been refused")
            self._look(self._known, opens, None)
            return _revealed(self._known)

    def _look(self, known: KeyPair, opens: Opens, within_s: float | None) -> None:
        self._read_at_s = self._now_s()
        try:
            found = self._read(within_s)
        except (SecretMissing, SecretsUnreadable) as error:
            log.warning("the key read last serves on: %s", error)
            return
        if _revealed(found) == _revealed(known):
            return
        if not self._account:
            self._learn(known, opens)
        try:
            account = opens(*_revealed(found))
        except VenueError as error:
            log.warning("the new key %s is not used: %s", found.api_key, error)
            return
        if account != self._account:
            log.error("the new key %s is not used: it opens account %s, not %s", found.api_key, account, self._whose)
            return
        log.info("the account's key is now %s, version %s", found.api_key, found.version)
        self._known = found

    def _learn(self, known: KeyPair, opens: Opens) -> None:
        try:
            self._account = opens(*_revealed(known))
        except VenueError as error:
            log.warning("whose the key %s is was not learnt: %s", known.api_key, error)

    @property
    def _whose(self) -> str:
        return self._account or "the one in use, which nobody has learnt"


def _revealed(pair: KeyPair) -> tuple[str, str]:
    return pair.api_key.reveal(), pair.api_secret.reveal()
