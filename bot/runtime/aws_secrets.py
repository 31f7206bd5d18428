"""Secrets in AWS Secrets Manager: one secret for each venue and environment, `mm-bot/<dev|testnet|prod>/<exchange>`.

Its value is JSON with `api_key` and `api_secret`. A rotation writes both as one new version, which becomes AWSCURRENT
in the same step: whoever reads gets the old pair or the new one, never halves of both. Who we are comes from boto3's
own chain (OIDC web identity, instance role, environment); the region from `AWS_REGION`.
Only processes that end soon load this module: see `bot.runtime.secret_backends`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import boto3
import msgspec
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from bot.runtime.secrets import KEY_TYPES, KeyPair, KeyType, Secret, SecretMissing, SecretsUnreadable

PREFIX: Final = "mm-bot/"
CONNECT_TIMEOUT_S: Final = 3
READ_TIMEOUT_S: Final = 5
ATTEMPTS_MAX: Final = 2
ENDPOINTS: Final = ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL")
_NOT_FOUND: Final = "ResourceNotFoundException"

_Stored = dict[str, str]


class SecretEntry(NamedTuple):
    """One secret by its name. `changed_at_s`: since the epoch, UTC; None where the backend does not say."""

    name: str
    changed_at_s: int | None


def path_of(secret_env: str, exchange: str) -> str:
    """Where a pair is kept."""
    return f"{PREFIX}{secret_env}/{exchange}"


class AwsSecrets:
    """One environment's secrets. Every call asks AWS; nothing is kept."""

    backend = "aws"

    def __init__(self, secret_env: str, environment: Mapping[str, str]) -> None:
        """`environment` holds AWS_REGION (or AWS_DEFAULT_REGION). Raises SecretsUnreadable where it does not."""
        region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
        if not region:
            raise SecretsUnreadable("AWS_REGION is not set")
        self._secret_env = secret_env
        endpoint = next((environment[name] for name in ENDPOINTS if environment.get(name)), None)
        try:
            self._client: Any = boto3.session.Session(region_name=region).client(
                "secretsmanager",
                endpoint_url=endpoint,
                config=Config(
                    connect_timeout=CONNECT_TIMEOUT_S,
                    read_timeout=READ_TIMEOUT_S,
                    retries={"total_max_attempts": ATTEMPTS_MAX, "mode": "standard"},
                ),
            )
        except (BotoCoreError, ValueError) as error:
            raise SecretsUnreadable(f"aws: {_line(error)}") from None

    # ---- reading ----------------------------------------------------------------------------------------------------

    def get(self, exchange: str, key_type: KeyType) -> Secret:
        path = path_of(self._secret_env, exchange)
        stored, _ = self._read(path)
        return Secret(_part(stored, key_type, path))

    def pair(self, exchange: str) -> KeyPair:
        path = path_of(self._secret_env, exchange)
        stored, answer = self._read(path)
        key, secret = (Secret(_part(stored, key_type, path)) for key_type in KEY_TYPES)
        created = answer.get("CreatedDate")
        return KeyPair(key, secret, str(answer.get("VersionId", "")), int(created.timestamp()) if created else None)

    def entries(self) -> list[SecretEntry]:
        """Every secret of this bot, all environments, by name; no values."""
        found: list[SecretEntry] = []
        try:
            pages = self._client.get_paginator("list_secrets").paginate(
                Filters=[{"Key": "name", "Values": [PREFIX]}], IncludePlannedDeletion=False
            )
            for page in pages:
                for row in page["SecretList"]:
                    changed = row.get("LastChangedDate") or row.get("CreatedDate")
                    found.append(SecretEntry(row["Name"], int(changed.timestamp()) if changed else None))
        except (BotoCoreError, ClientError) as error:
            raise _unreadable(PREFIX, error) from None
        return sorted(entry for entry in found if entry.name.startswith(PREFIX))

    # ---- writing ----------------------------------------------------------------------------------------------------

    def save(self, exchange: str, key_type: KeyType, value: Secret) -> bool:
        """Keeps one half, and the other as it is. True: the pair is whole now. Raises SecretsUnreadable."""
        path = path_of(self._secret_env, exchange)
        try:
            stored, _ = self._read(path)
        except SecretMissing:
            stored = None
        whole = {**(stored or {}), key_type: value.reveal()}
        self._write(path, whole, exists=stored is not None)
        return all(whole.get(name) for name in KEY_TYPES)

    def rotate(self, exchange: str, api_key: Secret, api_secret: Secret) -> str:
        """Both halves at once, as a new version. Its id. Raises SecretMissing where there is nothing to rotate."""
        path = path_of(self._secret_env, exchange)
        self._read(path)
        return self._write(path, {"api_key": api_key.reveal(), "api_secret": api_secret.reveal()}, exists=True)

    # ---- asking AWS -------------------------------------------------------------------------------------------------

    def _read(self, path: str) -> tuple[_Stored, dict[str, Any]]:
        try:
            answer: dict[str, Any] = self._client.get_secret_value(SecretId=path)
        except (BotoCoreError, ClientError) as error:
            raise _unreadable(path, error) from None
        try:
            return msgspec.json.decode(answer.get("SecretString") or "", type=_Stored), answer
        except msgspec.MsgspecError:  # the error would quote what it could not read
            raise SecretsUnreadable(f"aws: {path} holds no JSON object of texts") from None

    def _write(self, path: str, stored: _Stored, *, exists: bool) -> str:
        text = msgspec.json.encode(stored).decode()
        try:
            if exists:
                answer = self._client.put_secret_value(SecretId=path, SecretString=text)
            else:
                answer = self._client.create_secret(Name=path, SecretString=text)
        except (BotoCoreError, ClientError) as error:
            raise _unreadable(path, error) from None
        return str(answer["VersionId"])


def _part(stored: _Stored, key_type: KeyType, path: str) -> str:
    value = stored.get(key_type, "").strip()
    if not value:
        raise SecretMissing(f"{path}: {key_type} is not saved")
    return value


def _unreadable(path: str, error: BotoCoreError | ClientError) -> SecretMissing | SecretsUnreadable:
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code == _NOT_FOUND:
            return SecretMissing(f"{path} is not saved")
        return SecretsUnreadable(f"aws: {path}: {code or _line(error)}")
    return SecretsUnreadable(f"aws: {path}: {_line(error)}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
