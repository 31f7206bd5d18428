"""The simulated venue as its own process, for clients that were written elsewhere to judge it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import httpx

from tasks.state_folder import REPOSITORY

SYMBOL = "BTCUSDT"
DEADLINE_S = 90.0
_TOKEN = "token-of-the-judges"
_Read = TypeVar("_Read")


class Key(NamedTuple):
    """An account of the venue by its name, and what signs for it."""

    account: str
    api_key: str
    api_secret: str


class JudgedVenue:
    """One `serve-venue` process on loopback; `ready` is what it printed. Close it."""

    def __init__(self, *options: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bot", "serve-venue", "--json", "--seed", "7", "--accounts", "0", *options],
            cwd=REPOSITORY,
            env={"PATH": os.environ["PATH"], "SLIPWAY_SIM_CONTROL_TOKEN": _TOKEN},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the venue did not start: exit code {self._process.wait()}"
        self.ready: dict[str, Any] = json.loads(line)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def key(self, equity_quote: str = "100000") -> Key:
        """A new account's."""
        made = self._control("POST", "/sim/accounts", {"equity_quote": equity_quote})
        return Key(made["account"], made["api_key"], made["api_secret"])

    def arm(self, kind: str, **parameters: object) -> None:
        self._control("POST", "/sim/faults", {"kind": kind, **parameters})

    def state(self, key: Key) -> dict[str, Any]:
        """The truth about the account."""
        return self._control("GET", f"/sim/state?account={key.account}")

    def _control(self, method: str, path: str, body: dict[str, object] | None = None) -> dict[str, Any]:
        answer = httpx.request(
            method, self.ready["rest_url"] + path, json=body, headers={"X-Sim-Token": _TOKEN}, timeout=DEADLINE_S
        )
        assert answer.status_code == 200, answer.text
        return answer.json()


def eventually(read: Callable[[], _Read], wanted: Callable[[_Read], bool]) -> _Read:
    """Read until what was read is wanted; fails with the last reading once the deadline has passed."""
    ends = time.monotonic() + DEADLINE_S
    while not wanted(found := read()):
        assert time.monotonic() < ends, f"not within {DEADLINE_S} s; last: {found!r}"
        time.sleep(0.01)
    return found
