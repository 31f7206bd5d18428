"""Two ends that a healthy bot never comes to, each made in its surroundings: it does not freeze, and it grows.

The bot is the product's own. One is started with settings that let a book be stale for ten minutes, where the plan
bears five seconds. The other is scraped through a small exporter of this test, which hands on all that the bot shows
but its memory: that grows by 20 MB a second.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from gates.stages import ROOT
from tasks.record_tables import StageRun
from tests.support.guard_stack import GuardStack
from tests.support.proofs import proofs

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
SUPPORT = ROOT / "tests" / "support"
LEAK_BYTES_PER_S = 20_000_000
MEMORY = re.compile(rb"^process_resident_memory_bytes [0-9.e+]+$", re.MULTILINE)


@contextmanager
def _stack(folder: Path, plan: dict[str, Any]) -> Iterator[GuardStack]:
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(plan))
    stack = GuardStack(folder / "home", path)
    try:
        stack.start_guard()
        yield stack
    finally:
        stack.close()


def _plan(name: str) -> dict[str, Any]:
    content = yaml.safe_load((SUPPORT / f"{name}.yaml").read_text())
    assert isinstance(content, dict)
    return content


def test_a_bot_that_does_not_freeze_on_a_stalled_market_is_the_candidates_fault(tmp_path: Path) -> None:
    settings = yaml.safe_load((SUPPORT / "bot.yaml").read_text())
    settings["stop"]["stale_after_ms"] = 600_000
    (tmp_path / "bot.yaml").write_text(yaml.safe_dump(settings))
    with _stack(tmp_path, {**_plan("plan"), "settings": str(tmp_path / "bot.yaml")}) as stack:
        number = stack.launch("unfrozen")
        stack.until("it quotes", lambda: stack.truth()["orders"], 20)
        stack.control("faults", {"kind": "stall"})
        run = stack.wait_step(number, ("rolled_back",), 90)
        assert (run.reason, run.decided_criterion) == ("candidate", "quotes_on_stale_book")
        assert float(run.decided_value or 0) > 5000
        assert run.decided_limit == "go <= 5000"
        proofs(stack, run)


def test_a_bot_that_grows_is_rolled_back_at_the_end_of_its_watch(tmp_path: Path) -> None:
    with _stack(tmp_path, _soak_alone()) as stack:
        number = stack.begin("grows", "soak")
        stack.sign_all(number, "entry")
        assert stack.ask("launch", {"stage_run_id": number}).done
        run = stack.wait_step(number, ("warm_up", "watch"), 60)
        with _grows(stack, run):
            stack.wait_step(number, ("watched",), 120)
            answer = stack.ask("judge", {"stage_run_id": number}, 120)
        assert answer.result["word"] == "NO_GO", answer
        ended = stack.wait_step(number, ("rolled_back",), 60)
        assert (ended.reason, ended.decided_criterion) == ("candidate", "memory_growth")
        # A scrape that comes two seconds late bends the line by a tenth.
        assert float(ended.decided_value or 0) == pytest.approx(LEAK_BYTES_PER_S * 3600, rel=0.5)
        proofs(stack, ended)


def _soak_alone() -> dict[str, Any]:
    """The soak of the short road as a plan of its own, without its drill and with time enough to see a trend."""
    plan = _plan("plan_stages")
    (soak,) = [one for one in plan["stages"] if one["id"] == "soak"]
    more = {"waive_predecessor": True, "entry_sign_offs": {"roles": ["Quant Lead"]}, "drills": [], "lasts_s": 24}
    return {**plan, "stages": [{**soak, **more}]}


@contextmanager
def _grows(stack: GuardStack, run: StageRun) -> Iterator[None]:
    """Prometheus reads the bot through an exporter that adds to its memory; the series stay those of the bot."""
    began_s, bot = time.monotonic(), urlsplit(str(run.obs_url))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # A bot that is gone, and a Prometheus that has stopped waiting, are failed scrapes and nothing more.
            with suppress(OSError):
                asked = HTTPConnection(bot.hostname or "", bot.port, timeout=5)
                asked.request("GET", "/metrics")
                shown = asked.getresponse()
                grown = 90_000_000 + round(LEAK_BYTES_PER_S * (time.monotonic() - began_s))
                body, replaced = MEMORY.subn(f"process_resident_memory_bytes {grown}".encode(), shown.read())
                self.send_response(200 if replaced == 1 else 500)
                self.send_header("Content-Type", shown.headers["content-type"])
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    path = stack.folder.targets / f"{run.run}.json"
    content = json.loads(stack.until("the bot's target is written", lambda: path.exists() and path.read_text(), 20))
    content[0]["labels"]["instance"] = content[0]["targets"][0]
    content[0]["targets"] = [f"127.0.0.1:{server.server_address[1]}"]
    path.with_suffix(".new").write_text(json.dumps(content))
    path.with_suffix(".new").replace(path)
    try:
        yield
    finally:
        server.shutdown()
