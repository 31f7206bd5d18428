"""The alert drill against a real Prometheus: its own alert has to fire, by name, and nothing before it."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from email.message import Message
from pathlib import Path

import httpx
import pytest

from tasks.guard import drill_operations
from tasks.guard.drill_faults import DrillFailed, DrillNotRun
from tasks.guard.drill_operations import LOWERED, Alert
from tasks.guard.exposition import write_target
from tasks.guard.state import GuardState
from tasks.supervise.prometheus import find_prometheus, fresh_data_folder, prometheus_command
from tests.support.guard_parts import activate, guard_at
from tests.support.loopback import LoopbackServer

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not on PATH"),
]
OTHER = "groups: [{name: other, rules: [{alert: Other, expr: 'up{run=\"r1\"} == 1'}]}]"


class Bot(LoopbackServer):
    """An exporter of order latencies. `trades`: whether there are more at each scrape."""

    def __init__(self) -> None:
        self.trades, self.orders = True, 0
        super().__init__()

    def answer(self, path: str, headers: Message, body: bytes) -> tuple[int, bytes]:
        self.orders += self.trades
        lines = [f'mm_order_latency_ms_bucket{{le="{edge}"}} {self.orders}' for edge in ("10.0", "+Inf")]
        return 200, "\n".join([*lines, ""]).encode()


@pytest.fixture
def bot() -> Iterator[Bot]:
    made = Bot()
    yield made
    made.close()


@pytest.fixture
def guard(tmp_path: Path, bot: Bot) -> Iterator[GuardState]:
    """Busy with a canary whose bot a Prometheus of its own scrapes, with the shipped rules."""
    made = guard_at(tmp_path / "home", "watch")
    activate(made)
    labels = {"account": "a", "rollout": "r", "stage": "canary", "run": "r1"}
    write_target(made.folder.targets / "bot.json", bot.port, labels)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = prometheus_command(find_prometheus(), made.folder, port, "/drill")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--storage.tsdb.path={fresh_data_folder(made.folder)}"], stdout=log, stderr=log
        )
    made.prometheus_url = f"http://127.0.0.1:{port}/drill"
    try:
        _until("two scrapes", lambda: _value(made, "changes(mm_order_latency_ms_bucket[1m])") >= 2)
        yield made
    finally:
        process.kill()
        process.wait(10)
        made.store.close()


def _until(what: str, holds: Callable[[], bool], within_s: float = 120) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, f"not within {within_s:g} s: {what}"
        time.sleep(0.05)


def _value(guard: GuardState, query: str) -> float:
    """The highest value that it answers now; -1 without an answer."""
    try:
        answer = httpx.get(f"{guard.prometheus_url}/api/v1/query", params={"query": query}, timeout=2)
        return max((float(one["value"][1]) for one in answer.json()["data"]["result"]), default=-1.0)
    except (httpx.HTTPError, ValueError, KeyError):
        return -1.0


def _fires(guard: GuardState, name: str) -> bool:
    return _value(guard, f'ALERTS{{alertname="{name}",alertstate="firing"}}') == 1


def _drill(guard: GuardState, work: Callable[[Alert], Awaitable[None]], within_s: float = 60) -> Alert:
    assert guard.active is not None
    alert = Alert(guard, guard.active, 1, time.monotonic() + within_s)

    async def run() -> None:
        await work(alert)

    asyncio.run(run())
    return alert


def _write(guard: GuardState, text: str) -> None:
    (guard.folder.rules / "other.yml").write_text(text)
    httpx.post(f"{guard.prometheus_url}/-/reload", timeout=5).raise_for_status()


def test_its_own_alert_fires_is_named_and_is_resolved(guard: GuardState) -> None:
    async def work(alert: Alert) -> None:
        await alert.make()
        await alert.seen()
        assert alert.proof["fired"] == LOWERED
        await alert.undo()

    assert _drill(guard, work).proof["resolved"] == "yes"
    assert not list(guard.folder.rules.glob("drill-*"))


def test_it_is_not_made_while_another_alert_about_this_bot_fires(guard: GuardState) -> None:
    _write(guard, OTHER)
    _until("the other alert fires", lambda: _fires(guard, "Other"))

    async def work(alert: Alert) -> None:
        with pytest.raises(DrillNotRun, match="1 alert about this bot fires before it"):
            await alert.make()

    _drill(guard, work, within_s=1)
    assert not list(guard.folder.rules.glob("drill-*")), "nothing was lowered"


def test_another_alert_that_comes_meanwhile_is_not_taken_for_its_own(
    guard: GuardState, bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drill_operations, "SEEN_WITHIN_S", 3.0)
    bot.trades = False
    _until("nothing has traded", lambda: _value(guard, "changes(mm_order_latency_ms_bucket[3s])") == 0)
    shipped = (guard.folder.rules / "bot.yml").read_text()
    (guard.folder.rules / "bot.yml").write_text(shipped.replace("[5m]", "[3s]"))

    async def work(alert: Alert) -> None:
        await alert.make()
        await asyncio.to_thread(_write, guard, OTHER)
        await asyncio.to_thread(_until, "the other alert fires", lambda: _fires(guard, "Other"))
        with pytest.raises(DrillFailed, match=f"{LOWERED} did not fire"):
            await alert.seen()
        await alert.undo()

    assert _drill(guard, work, within_s=20).proof == {"resolved": "yes"}, (
        "the other one still fires, and is not what it lowered"
    )
