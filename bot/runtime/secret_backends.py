"""Which backend holds the secrets of this process: `SECRETS_BACKEND=memory|aws`.

    memory   the environment itself, `BYBIT_API_KEY` and `BYBIT_API_SECRET`: development, tests, a guard's own children
    aws      AWS Secrets Manager, one secret a venue and environment at `mm-bot/<dev|testnet|prod>/<exchange>`

A long-lived bot never loads the AWS client (it would be a fifth of its memory): `ReaderSecrets` asks a short-lived
process for the pair, over a pipe. Its time-out kills that process, so a hanging cloud holds nobody up.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from typing import Final

import msgspec

from bot.runtime.secrets import (
    KeyPair,
    KeyType,
    MemorySecrets,
    Secret,
    SecretMissing,
    SecretProvider,
    SecretsUnreadable,
)

BACKENDS: Final = ("memory", "aws")
SECRET_ENVS: Final[dict[str, str]] = {
    "dev": "dev",
    "shadow": "dev",
    "testnet": "testnet",
    "demo": "testnet",
    "prod": "prod",
    "live": "prod",
}
"""What may be asked for, to the environment it is kept under."""

READ_TIMEOUT_S: Final = 20.0
READER: Final = (sys.executable, "-m", "bot.runtime.secret_reader")


class BackendRefused(ValueError):
    """A backend or environment that there is not. One line: the variable, its value, what is allowed."""


class PairRead(msgspec.Struct, frozen=True):
    """What a reader says, on its pipe and nowhere else. `missing`, `unreadable`: why there is no pair."""

    api_key: str = ""
    api_secret: str = ""
    version: str = ""
    saved_at_s: int | None = None
    missing: str = ""
    unreadable: str = ""


def backend_name(environment: Mapping[str, str]) -> str:
    """Raises BackendRefused."""
    name = environment.get("SECRETS_BACKEND", "") or "memory"
    if name not in BACKENDS:
        raise BackendRefused(f"SECRETS_BACKEND: {name!r} is not allowed; allowed: {', '.join(BACKENDS)}")
    return name


def secret_env_of(text: str, name: str) -> str:
    """`live` is kept as `prod`, `shadow` as `dev`. Raises BackendRefused with the name of what was given."""
    found = SECRET_ENVS.get(text)
    if found is None:
        raise BackendRefused(f"{name}: {text!r} is not allowed; allowed: {', '.join(SECRET_ENVS)}")
    return found


def open_secrets(environment: Mapping[str, str], secret_env: str) -> SecretProvider:
    """The backend itself, for processes that end soon. Raises BackendRefused."""
    if backend_name(environment) == "memory":
        return MemorySecrets(environment)
    from bot.runtime.aws_secrets import AwsSecrets

    return AwsSecrets(secret_env, environment)


def bot_secrets(environment: Mapping[str, str], secret_env: str) -> MemorySecrets | ReaderSecrets:
    """The backend for a process that stays. Raises BackendRefused."""
    if backend_name(environment) == "memory":
        return MemorySecrets(environment)
    return ReaderSecrets(environment, secret_env)


class ReaderSecrets:
    """Secrets read by a process of their own, each time anew. Nothing is kept here."""

    backend = "aws"

    def __init__(self, environment: Mapping[str, str], secret_env: str, timeout_s: float = READ_TIMEOUT_S) -> None:
        self._environment = dict(environment)
        self._secret_env = secret_env
        self._timeout_s = timeout_s

    def get(self, exchange: str, key_type: KeyType) -> Secret:
        pair = self.pair(exchange)
        return pair.api_key if key_type == "api_key" else pair.api_secret

    def pair(self, exchange: str) -> KeyPair:
        """Blocks for as long as the reader takes, about a second: before the loop runs."""
        try:
            done = subprocess.run(
                [*READER, self._secret_env, exchange],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self._timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise SecretsUnreadable(f"{self.backend}: no answer in {self._timeout_s:g} s") from None
        except OSError as error:
            raise SecretsUnreadable(f"{self.backend}: the reader does not start: {error.strerror}") from None
        return self._understood(done.stdout, done.returncode)

    async def pair_soon(self, exchange: str) -> KeyPair:
        """The same inside a loop. Whoever waits may be cancelled: then the reader is ended."""
        try:
            reader = await asyncio.create_subprocess_exec(
                *READER,
                self._secret_env,
                exchange,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            raise SecretsUnreadable(f"{self.backend}: the reader does not start: {error.strerror}") from None
        try:
            async with asyncio.timeout(self._timeout_s):
                said, _ = await reader.communicate()
        except TimeoutError:
            raise SecretsUnreadable(f"{self.backend}: no answer in {self._timeout_s:g} s") from None
        finally:
            if reader.returncode is None:
                reader.kill()
                await reader.wait()
        return self._understood(said, reader.returncode)

    def _understood(self, said: bytes, code: int | None) -> KeyPair:
        try:
            read = msgspec.json.decode(said, type=PairRead)
        except msgspec.MsgspecError:
            raise SecretsUnreadable(f"{self.backend}: the reader ended with {code} and no answer") from None
        if read.missing:
            raise SecretMissing(read.missing)
        if read.unreadable or not read.api_key or not read.api_secret:
            raise SecretsUnreadable(read.unreadable or f"{self.backend}: the reader gave no pair")
        return KeyPair(Secret(read.api_key), Secret(read.api_secret), read.version, read.saved_at_s)
