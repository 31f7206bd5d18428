"""The embedded stack from the outside: up, up again, parts killed, the supervisor killed, down."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tasks.state_folder import StateFolder
from tasks.supervise.identity import identify, marked
from tasks.supervise.table import Table, read_table

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1500)]
ROLLOUT = [sys.executable, "-m", "flows"]


class Stack:
    """`rollout` on a folder of its own."""

    def __init__(self, home: Path) -> None:
        self.folder = StateFolder(home)
        self.environment = {**os.environ, "SLIPWAY_HOME": str(home)}
        self.environment.pop("SLIPWAY_RECORD_URL", None)

    def rollout(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*ROLLOUT, *words],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )

    def table(self) -> Table:
        table = read_table(self.folder.table)
        assert table is not None
        return table

    def pids(self) -> dict[str, int]:
        return {row.name: row.pid for row in self.table().processes}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    made = Stack(tmp_path / "home")
    try:
        yield made
    finally:
        made.rollout("down")


def wait_for(what: str, condition: Callable[[], bool], deadline_s: float = 120.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s:.0f} s: {what}"
        time.sleep(0.05)


@pytest.fixture
def usual_ports_taken() -> Iterator[None]:
    """Somebody listens on 4200 and 9090; whoever was there first may stay."""
    held = []
    for port in (4200, 9090):
        taken = socket.socket()
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a port that was just left is free
        try:
            taken.bind(("127.0.0.1", port))
            taken.listen()
        except OSError:
            taken.close()
            continue
        held.append(taken)
    yield
    for taken in held:
        taken.close()


def test_a_stack_comes_up_heals_is_adopted_and_goes_down_without_a_trace(stack: Stack, usual_ports_taken: None) -> None:
    stack.environment["SLIPWAY_SLACK_WEBHOOK"] = "https://hooks.slack.example/services/secret-path"
    first = stack.rollout("up")
    assert first.returncode == 0, first.stdout + first.stderr
    table = stack.table()
    known = {name: Path(f"/proc/{pid}/environ").read_text() for name, pid in stack.pids().items()}
    assert [name for name, environment in known.items() if "SLIPWAY_SLACK" in environment] == []
    assert [name for name, environment in known.items() if "SLIPWAY_RECORD_URL" in environment] == ["prefect-worker"]
    ports = {urlsplit(url).port for url in table.endpoints.values()}
    assert not ports & {4200, 9090, None}
    ours = urlsplit(table.endpoints["prometheus"])
    for path, status in ((ours.path, 200), ("", 404), ("/slipway-another", 404)):  # who comes after us on our port
        answer = httpx.get(f"http://{ours.netloc}{path}/api/v1/query", params={"query": "1"})
        assert answer.status_code == status, path
    assert table.endpoints["prefect_ui"] in first.stdout
    assert "prefect deployment run rollout/canary" in first.stdout

    second = stack.rollout("up")
    assert second.returncode == 0
    assert "is up already" in second.stdout
    assert stack.pids() == {row.name: row.pid for row in table.processes}

    # a process that dies is started again; one whose supervision is suspended is not
    before = stack.pids()["prometheus"]
    os.kill(before, signal.SIGKILL)
    wait_for("Prometheus is started again", lambda: stack.pids()["prometheus"] != before)
    (stack.folder.suspended / "prometheus").touch()
    again = stack.pids()["prometheus"]
    os.kill(again, signal.SIGKILL)
    wait_for("its death is noticed", lambda: bool(getattr(stack.table().row("prometheus"), "note", "")))
    time.sleep(1.0)  # longer than the supervisor takes to start anything again
    assert stack.pids()["prometheus"] == again

    # what a killed supervisor left is adopted by the next `up`, which also lifts the suspension
    kept = {name: pid for name, pid in stack.pids().items() if name != "prometheus"}
    os.kill(stack.table().supervisor.pid, signal.SIGKILL)
    wait_for("the supervisor is dead", lambda: not stack.table().supervisor.identity.is_alive())
    third = stack.rollout("up")
    assert third.returncode == 0, third.stdout + third.stderr
    assert {name: pid for name, pid in stack.pids().items() if name != "prometheus"} == kept
    assert identify(stack.pids()["prometheus"]) is not None

    # and what it left is found by `down`
    os.kill(stack.table().supervisor.pid, signal.SIGKILL)
    table = stack.table()
    down = stack.rollout("down")
    assert down.returncode == 0, down.stdout + down.stderr
    assert marked(table.mark) == []
    assert not stack.folder.table.exists()
    assert [row.name for row in table.processes if row.identity.is_alive()] == []
    status = json.loads(stack.rollout("status", "--json").stdout)
    assert status["stack"]["up"] is False
    assert status["rollouts"] == []
    assert status["endpoints"] == {}


def test_without_prometheus_up_refuses_in_one_line(stack: Stack, tmp_path: Path) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    done = stack.rollout("up", PATH=str(empty), PROMETHEUS_BIN="")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [done.stderr.strip()]
    assert "Prometheus: not found on PATH (needs >= 2.39)" in done.stderr
    assert not stack.folder.table.exists()


@pytest.mark.parametrize(
    ("says", "complaint"),
    [
        ("prometheus, version 2.38.0 (branch: HEAD)", "is 2.38.0, needs >= 2.39"),
        ("something else", "names no version"),
    ],
)
def test_a_prometheus_that_is_too_old_or_none_is_refused(
    stack: Stack, tmp_path: Path, says: str, complaint: str
) -> None:
    fake = tmp_path / "prometheus"
    fake.write_text(f"#!/bin/sh\necho '{says}'\n")
    fake.chmod(0o755)
    done = stack.rollout("up", PROMETHEUS_BIN=str(fake))
    assert done.returncode == 2
    assert complaint in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_market_that_cannot_be_read_is_refused_before_anything_starts(stack: Stack, tmp_path: Path) -> None:
    done = stack.rollout("up", "--market", f"recorded:{tmp_path / 'nothing'}")
    assert done.returncode == 2
    assert "nothing" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not stack.folder.table.exists()


def test_down_on_nothing_says_so(stack: Stack) -> None:
    done = stack.rollout("down")
    assert done.returncode == 0
    assert "nothing is up" in done.stdout


def test_a_start_that_fails_leaves_no_process_and_names_the_log(stack: Stack, tmp_path: Path) -> None:
    damaged = tmp_path / "record.gz"
    damaged.write_bytes(gzip.compress(b"this is no capture\n"))
    done = stack.rollout("up", "--market", f"recorded:{damaged}")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "venue" in done.stderr
    assert "bundle: " in done.stderr
    assert not stack.folder.table.exists()
    log = stack.folder.log("supervisor").read_text()
    assert "stopped" in log
