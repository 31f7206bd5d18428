"""What the watchdog shows of itself, for Prometheus: its own beat first of all, so that somebody may miss it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, start_http_server

from bot.metrics import WATCHDOG
from bot.runtime.beats import STATES, WATCHDOG_RUN

RESULTS = ("executed", "failed")


class WatchdogMetrics:
    """Served by a thread on loopback; found by Prometheus through a target file of its own."""

    def __init__(self, account: str, targets: Path) -> None:
        self._account = account
        self._file = targets / f"{account}-{WATCHDOG_RUN}.json"
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._beat, self._state, self._missed = (
            Gauge(metric.name, metric.meaning, metric.labels, registry=self._registry) for metric in WATCHDOG[:3]
        )
        runs = WATCHDOG[3]
        name = runs.name.removesuffix("_total")
        self._runs = Counter(name, runs.meaning, runs.labels, registry=self._registry)
        for state in STATES:
            self._state.labels(state).set(0)
        for result in RESULTS:
            self._runs.labels(result)
        self._shown: set[str] = set()

    def serve(self, port: int) -> int:
        """Opens the port (0: any) and leaves the target file. Raises OSError."""
        server, _ = start_http_server(port, addr="127.0.0.1", registry=self._registry)
        content = json.dumps([
            {
                "targets": [f"127.0.0.1:{server.server_port}"],
                "labels": {"account": self._account, "run": WATCHDOG_RUN},
            }
        ])  # fmt: skip
        handle, name = tempfile.mkstemp(dir=self._file.parent, prefix=f".{self._file.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
        Path(name).chmod(0o644)
        Path(name).replace(self._file)
        return int(server.server_port)

    def close(self) -> None:
        self._file.unlink(missing_ok=True)

    def show(self, at_s: float, state: str, missed: Mapping[str, int]) -> None:
        """After each look."""
        self._beat.set(at_s)
        for one in STATES:
            self._state.labels(one).set(1 if one == state else 0)
        for name in self._shown - missed.keys():
            self._missed.remove(name)
        for name, count in missed.items():
            self._missed.labels(name).set(count)
        self._shown = set(missed)

    def ran(self, result: str) -> None:
        """One run of the kill switch: executed | failed."""
        self._runs.labels(result).inc()
