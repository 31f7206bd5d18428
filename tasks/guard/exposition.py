"""The guard's own /metrics and its beat, served from threads of their own, found by Prometheus as a target."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, make_wsgi_app

from bot.metrics import PIPELINE
from gates.course import Step
from gates.judge import Measurement, Outcome
from tasks.guard.stop_url import App, Stopping, StopUrl, routed
from tasks.state_folder import write_private

CALL_TIMEOUT_S = 10.0


class _Server(ThreadingMixIn, WSGIServer):
    """A thread a call: a caller who dawdles holds up nobody."""

    daemon_threads = True


class _Handler(WSGIRequestHandler):
    timeout = CALL_TIMEOUT_S

    def log_message(self, *_: Any) -> None:
        """Says nothing of every scrape."""


class Exposition:
    """The pipeline's metrics of one account, by the catalogue's names and labels."""

    def __init__(self, account: str, targets: Path) -> None:
        self._account = account
        self._targets = targets
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._gauges: dict[str, Gauge] = {}
        self._counters: dict[str, Counter] = {}
        for metric in PIPELINE:
            if metric.kind == "counter":
                name = metric.name.removesuffix("_total")
                self._counters[metric.name] = Counter(name, metric.meaning, metric.labels, registry=self._registry)
            else:
                self._gauges[metric.name] = Gauge(metric.name, metric.meaning, metric.labels, registry=self._registry)
        self._server: WSGIServer | None = None
        self._thread: threading.Thread | None = None

    def serve(self, stopping: Stopping) -> int:
        """Opens a free port on loopback, `/stop` on it too, and writes the target file. Returns the port."""
        app: App = routed(StopUrl(stopping), make_wsgi_app(self._registry))
        self._server = make_server("127.0.0.1", 0, app, _Server, _Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)
        self._thread.start()
        port = int(self._server.server_port)
        write_target(self._file, port, {"account": self._account, "run": "guard"})
        return port

    def close(self) -> None:
        self._file.unlink(missing_ok=True)
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(timeout=2)

    @property
    def _file(self) -> Path:
        return self._targets / f"{self._account}-guard.json"

    def stage(self, stage: str, step: str) -> None:
        for one in Step:
            self._gauges["rollout_stage_state"].labels(stage, one.value).set(1 if one.value == step else 0)

    def measurement(self, one: Measurement) -> None:
        value = self._gauges["rollout_criterion_value"].labels(one.criterion_id)
        value.set(float(one.value) if one.value is not None else float("nan"))
        for outcome in Outcome:
            shown = self._gauges["rollout_criterion_outcome"].labels(one.criterion_id, outcome.value)
            shown.set(1 if outcome is one.outcome else 0)

    def beat(self, at_s: float) -> None:
        self._gauges["rollout_guard_beat_timestamp_seconds"].set(at_s)

    def blind(self, seconds: float) -> None:
        self._counters["rollout_blind_seconds_total"].inc(seconds)

    def pending(self, *, sign_offs: int | None = None, notices: int | None = None) -> None:
        if sign_offs is not None:
            self._gauges["rollout_signoffs_pending"].set(sign_offs)
        if notices is not None:
            self._gauges["rollout_outbox_pending"].set(notices)

    def rollback_step(self, name: str, proven: bool) -> None:
        self._gauges["rollout_rollback_state"].labels(name).set(1 if proven else 0)


def write_target(path: Path, port: int, labels: dict[str, str]) -> None:
    """A file_sd file with one target on loopback. Prometheus picks it up within its refresh interval."""
    content = json.dumps([{"targets": [f"127.0.0.1:{port}"], "labels": labels}])
    write_private(path, content)
    path.chmod(0o644)
