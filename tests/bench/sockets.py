"""The socket path, bytes → decode → book → decision, on the bot's transport and on picows's frames.

One stub sends both the same stream (`tests.bench.market_messages`: a calm market). CPU time of each client's process
from the snapshot to the last change, medians of interleaved rounds. `python -m tests.bench.edges` prints it.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from statistics import median
from typing import Any, NamedTuple

from tests.bench.engine import ROOT, Invalid, worker

SLIPWAY, PICOWS = "slipway", "picows"
CLIENTS = (PICOWS, SLIPWAY)
RATIO_MIN = 0.8
PER_S_MIN = 100_000


class Taken(NamedTuple):
    """One client: the median of its rounds."""

    client: str
    messages: int
    cpu_s: float

    @property
    def per_s(self) -> float:
        """Messages for a second of CPU time."""
        return self.messages / self.cpu_s


def contest(ready: dict[str, Any], messages: int, rounds: int) -> list[Taken]:
    """Both in turn, `rounds` times over. Raises Invalid where one did not take the whole stream, or did not quote."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in CLIENTS}
    with ExitStack() as stack:
        argv = [sys.executable, "-m", "tests.bench.socket_clients"]
        clients = {
            name: stack.enter_context(worker(name, [*argv, name, json.dumps(ready), str(messages)], ROOT))
            for name in CLIENTS
        }
        for _ in range(rounds):
            for name, client in clients.items():
                runs[name].append(client.play({}))
    tops = {tuple(run["top"] or ()) for each in runs.values() for run in each}
    if len(tops) != 1 or () in tops:
        raise Invalid(f"books differ at the end of the same stream: {sorted(tops)}")
    for name, each in runs.items():
        for run in each:
            if run["updates"] != messages or run["placed"] < 2 or run["working"] < 2:
                raise Invalid(f"{name}: {run}, expected {messages} updates and two quotes out")
    return [Taken(name, messages, median(run["cpu_s"] for run in each)) for name, each in runs.items()]
