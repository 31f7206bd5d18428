"""The alert drill's own alert has as long to fire as its window says: a Prometheus of a busy machine is late."""

from __future__ import annotations

import asyncio
import json
import time
from email.message import Message
from pathlib import Path

import pytest

from tasks.guard import drill_operations
from tasks.guard.drill_faults import DrillFailed
from tasks.guard.drill_operations import LOWERED, Alert
from tests.support.guard_parts import activate, guard_at
from tests.support.loopback import LoopbackServer


class Late(LoopbackServer):
    """A Prometheus whose alert fires so many looks late."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        super().__init__()

    def answer(self, path: str, headers: Message, body: bytes) -> tuple[int, bytes]:
        if path.startswith("/api/v1/rules"):
            return 200, json.dumps({"status": "success", "data": {"groups": [{"rules": [{}]}]}}).encode()
        self.looks -= 1
        names = {"alertname": LOWERED, "drill": "true", "account": "a", "rollout": "r", "stage": "canary"}
        alerts = [{"state": "firing", "labels": names}] if self.looks < 0 else []
        return 200, json.dumps({"status": "success", "data": {"alerts": alerts}}).encode()


def _seen(home: Path, prometheus: Late, within_s: float) -> Alert:
    guard = guard_at(home, "drills")
    active = activate(guard)
    guard.prometheus_url = f"http://127.0.0.1:{prometheus.port}"
    alert = Alert(guard, active, 1, time.monotonic() + within_s)
    try:
        asyncio.run(alert.seen())
    finally:
        guard.store.close()
        prometheus.close()
    return alert


def test_an_alert_that_fires_late_but_within_the_window_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drill_operations, "SEEN_WITHIN_S", 0.0)
    assert _seen(tmp_path / "home", Late(2), 120.0).proof == {"fired": LOWERED}


def test_one_that_does_not_fire_in_its_window_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drill_operations, "SEEN_WITHIN_S", 0.0)
    with pytest.raises(DrillFailed, match="did not fire"):
        _seen(tmp_path / "home", Late(1000), 0.5)
