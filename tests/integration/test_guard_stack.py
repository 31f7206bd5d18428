"""The stack of the tests themselves: one that does not come up leaves no process behind."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.guard_stack import GuardStack, NotInTime

pytestmark = pytest.mark.integration


def test_a_stack_that_does_not_come_up_ends_what_it_has_started(tmp_path: Path) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class WithoutPrometheus(GuardStack):
        def _start_prometheus(self) -> str:
            started.extend(self.processes.values())
            raise NotInTime("Prometheus is ready: not within 15 s")

    with pytest.raises(NotInTime):
        WithoutPrometheus(tmp_path)
    assert len(started) == 1
    try:
        assert started[0].poll() is not None
    finally:
        started[0].kill()
        started[0].wait(15)
