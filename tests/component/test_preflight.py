"""Preflight with parts that answer nonsense: what could not be checked is UNKNOWN, and nothing is raised."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from gates.judge import Outcome
from gates.stages import ROOT, load_plan
from tasks import preflight as checking
from tasks.account_file import AccountAccess
from tasks.preflight import Checked, Subject, passed, preflight

BODIES = [(503, b"<html>Service Unavailable</html>"), (200, b"ok"), (200, b"[]"), (200, b'{"data": null}')]


@pytest.fixture(params=BODIES, ids=lambda one: f"{one[0]} {one[1].decode()}")
def prometheus(request: pytest.FixtureRequest) -> Iterator[str]:
    """An endpoint on loopback that always gives the same answer, which is none of Prometheus's."""
    status, body = request.param

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def _rows(prometheus_url: str, rest_url: str, disk: Path) -> dict[str, Checked]:
    path = ROOT / "configs" / "rollout.smoke.yaml"
    plan = load_plan(path)
    urls = (rest_url, "ws://127.0.0.1:9", "ws://127.0.0.1:9", "ws://127.0.0.1:9")
    access = AccountAccess("sim-1", "simulated", *urls, "key", "secret", "grant", "approve")
    signed = {"settings_digest": "s", "code_version": "v", "plan_digest": "p"}
    subject = Subject(access, plan, path, plan.stage("canary"), **signed, prometheus_url=prometheus_url, disk=disk)
    rows = asyncio.run(preflight(subject))
    assert not passed(rows)
    return {row.name: row for row in rows}


def test_a_prometheus_that_answers_something_else_is_unknown(
    prometheus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "SCRAPING_PATIENCE_S", 0.05)
    rows = _rows(prometheus, "http://127.0.0.1:9", tmp_path)
    for name in ("preflight_prometheus", "preflight_scraping"):
        assert rows[name].outcome is Outcome.UNKNOWN, rows[name]
        assert rows[name].detail


def test_a_host_that_is_refused_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "SCRAPING_PATIENCE_S", 0.05)
    rows = _rows("http://127.0.0.1:9", "http://venue.example.com", tmp_path)
    for name in ("preflight_clock", "preflight_no_orders", "preflight_flat"):
        assert rows[name].outcome is Outcome.UNKNOWN
        assert "HostRefused" in rows[name].detail
