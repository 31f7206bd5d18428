"""What an order costs the client, signed and decoded, against a bare aiohttp request, ccxt and pybit.

One stub answers everybody; every client is a process of its own and creates orders one after the other, in
interleaved rounds. `slipway` sends by its trade socket, as the bot does; `rest` is the way it takes while that is
away. Latency from the call to the decoded answer, CPU time of the client's process; medians of rounds, ratios of
medians of one run. `python -m tests.bench.edges` prints it.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from statistics import median
from typing import Any, NamedTuple

from tests.bench.engine import ROOT, Invalid, Worker, worker

SLIPWAY, REST, BARE, CCXT, PYBIT = "slipway", "rest", "aiohttp", "ccxt", "pybit"
CLIENTS = (BARE, SLIPWAY, REST, CCXT, PYBIT)
RATIOS_MAX = {BARE: 1.3, CCXT: 0.6, PYBIT: 0.3}


class Cost(NamedTuple):
    """Of one order, microseconds: medians over rounds."""

    client: str
    p50_us: float
    p99_us: float
    cpu_us: float


def share(values: list[float], part: float) -> float:
    """The smallest value that at least this part of all values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * int(part * 1000) // 1000) - 1)]


def contest(stub: Worker, ready: dict[str, Any], orders: int, rounds: int) -> list[Cost]:
    """All clients in turn, `rounds` times over. Raises Invalid where one did not create what it said."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in CLIENTS}
    with ExitStack() as stack:
        argv = [sys.executable, "-m", "tests.bench.order_clients"]
        clients = {name: stack.enter_context(worker(name, [*argv, name, json.dumps(ready)], ROOT)) for name in CLIENTS}
        stub.play({"counts": True})
        for _ in range(rounds):
            for name, client in clients.items():
                runs[name].append(client.play({"orders": orders}))
                counts = stub.play({"counts": True})
                wanted = {"created": orders, "signed": 0 if name == BARE else orders}
                if counts != wanted:
                    raise Invalid(f"{name}: the stub counted {counts}, expected {wanted}")
    return [_together(name, runs[name], orders) for name in CLIENTS]


def _together(name: str, runs: list[dict[str, Any]], orders: int) -> Cost:
    return Cost(
        name,
        median(share(run["latencies_us"], 0.5) for run in runs),
        median(share(run["latencies_us"], 0.99) for run in runs),
        median(run["cpu_s"] / orders * 1e6 for run in runs),
    )
