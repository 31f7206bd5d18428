"""AWS Secrets Manager as moto serves it on loopback, and the `secrets` command against it."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from moto.core import DEFAULT_ACCOUNT_ID
from moto.secretsmanager.models import secretsmanager_backends
from moto.server import ThreadedMotoServer

from tests.support.bot_rig import ROOT

_REGIONS = itertools.cycle(("eu-west-1", "eu-west-2", "eu-west-3", "eu-central-1", "eu-north-1"))
"""All servers of one process hold the same secrets; what tells them apart is the region."""


class Cloud:
    """`environment`: what a process needs to reach it."""

    def __init__(self, url: str, region: str) -> None:
        self.url = url
        self.environment = {
            "SECRETS_BACKEND": "aws",
            "AWS_REGION": region,
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
        }

    def secrets(self, *arguments: str, stdin: str = "", environment: Mapping[str, str] | None = None) -> Told:
        """One call of `mm-bot secrets`, as a process."""
        done = subprocess.run(
            [sys.executable, "-m", "bot", "secrets", *arguments],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **self.environment, **(environment or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        return Told(done.returncode, done.stdout, done.stderr)

    def save_pair(self, key: str, secret: str, env: str = "prod") -> None:
        for key_type, value in (("api_key", key), ("api_secret", secret)):
            told = self.secrets("save", "--env", env, "--key-type", key_type, stdin=value + "\n")
            assert told.code == 0, told


class Told:
    """What a command ended with and said."""

    def __init__(self, code: int, out: str, error: str) -> None:
        self.code, self.out, self.error = code, out, error

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found

    def __repr__(self) -> str:
        return f"{self.code}: {self.out} {self.error}"


@contextlib.contextmanager
def cloud() -> Iterator[Cloud]:
    """A server of its own, empty."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it writes a line a request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    region = next(_REGIONS)
    secretsmanager_backends[DEFAULT_ACCOUNT_ID][region].reset()
    try:
        host, port = server.get_host_and_port()
        yield Cloud(f"http://{host}:{port}", region)
    finally:
        server.stop()
