"""The embedded Prefect server with everybody writing at once: whoever comes second waits, and nobody is refused."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tasks.state_folder import StateFolder
from tasks.supervise import specs

pytestmark = pytest.mark.integration
WRITERS, REQUESTS_EACH = 6, 8
HOLD_S = 0.05
DISTURBED_WITHIN_S = 60.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The server as the supervisor starts it; its API's URL and its database."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder, api_url = StateFolder(tmp_path), f"http://127.0.0.1:{port}/api"
    spec = specs.prefect_server(folder, api_url)
    environment = {**specs.base_environment(), **spec.environment}
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(spec.command, env=environment, stdout=log, stderr=log, cwd=specs.working_directory())
    try:
        _await_health(process, api_url, tmp_path / "server.log")
        yield api_url, folder.prefect / "prefect.db"
    finally:
        process.terminate()
        process.wait(timeout=120)


def _await_health(process: subprocess.Popen[bytes], api_url: str, log: Path) -> None:
    end = time.monotonic() + 240
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(f"{api_url}/health", timeout=2, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise AssertionError(log.read_text()[-2000:])


def test_whoever_writes_second_waits_and_is_not_refused(server: tuple[str, Path]) -> None:
    api_url, database = server
    over, disturbed = threading.Event(), threading.Event()

    def another_writer() -> None:
        """Writes between the others' reads and writes, as workers, flow runs and events do."""
        written = 0
        with closing(sqlite3.connect(database, timeout=30, isolation_level=None)) as own:
            own.execute("CREATE TABLE IF NOT EXISTS somebody_else (n INTEGER)")
            while not over.is_set():
                own.execute("BEGIN IMMEDIATE")
                own.execute("INSERT INTO somebody_else VALUES (1)")
                time.sleep(HOLD_S)
                own.execute("COMMIT")
                written += 1
                if written > WRITERS:
                    disturbed.set()
                time.sleep(HOLD_S / 10)

    one_each = httpx.Limits(max_keepalive_connections=0)  # a kept connection may close just as it is used again
    with httpx.Client(base_url=api_url, timeout=240, trust_env=False, limits=one_each) as client:
        flow = client.post("/flows/", json={"name": "busy"}).raise_for_status().json()["id"]
        made = client.post("/deployments/", json={"name": "one", "flow_id": flow}).raise_for_status().json()["id"]

        def ask(_: int) -> list[int]:
            url, found, end = f"/deployments/{made}/create_flow_run", list[int](), time.monotonic() + DISTURBED_WITHIN_S
            while len(found) < REQUESTS_EACH or not (disturbed.is_set() or time.monotonic() > end):
                found.append(client.post(url, json={}).status_code)
            return found

        with ThreadPoolExecutor(WRITERS + 1) as pool:
            disturbing = pool.submit(another_writer)
            try:
                answers = [status for each in pool.map(ask, range(WRITERS)) for status in each]
            finally:
                over.set()
            disturbing.result()
        assert disturbed.is_set(), "nobody disturbed anybody: this shows nothing"
        assert set(answers) == {201}
        found = client.post("/flow_runs/count", json={"deployments": {"id": {"any_": [made]}}}).json()
    assert found == len(answers)
