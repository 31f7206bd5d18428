"""What a live bot loads: no simulator, nothing heavy. Asked of a fresh interpreter, because imports stick."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

ASSEMBLED = """
import json, os, sys
from pathlib import Path
from bot import __main__ as command
from bot.assembly import assemble, open_journal, place_of
from bot.command_line import parse
from bot.resolution import resolve
from bot.runtime.clock import Clock
from bot.runtime.logs import JsonLog
import bot.running

folder = sys.argv[1]
options = parse(["run", "--network", "--live", "--obs", "--obs-port", "0", "--durable-state", "--state-dir", folder])
flags = {name: value for name, value in vars(options).items() if name != "command"}
environment = {
    "MM_LIVE_ENABLE": "1", "MM_ACCOUNT": "a", "MM_GRANT_TOKEN": "t" * 20,
    "BYBIT_API_KEY": "k" * 18, "BYBIT_API_SECRET": "s" * 36,
}
resolved = resolve(flags, environment)
place, clock = place_of(resolved, flags), Clock()
log = JsonLog((), clock.now_ns)
assemble(resolved, place, open_journal(place, resolved, log), log, clock).metrics()
print(json.dumps(sorted(sys.modules)))
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Every module in a process that has put a whole live bot together."""
    folder = tmp_path_factory.mktemp("state")
    done = subprocess.run(
        [sys.executable, "-c", ASSEMBLED, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_a_live_bot_loads_no_simulator(loaded: set[str]) -> None:
    assert "bot.venues.bybit.adapter" in loaded
    assert not {name for name in loaded if name.startswith("bot.simulat")}


@pytest.mark.parametrize(
    "heavy",
    ["pandas", "numpy", "boto3", "sqlmodel", "sqlalchemy", "fastapi", "prefect", "httpx", "ccxt", "matplotlib",
     "great_expectations", "prometheus_api_client", "starlette", "uvicorn", "slack_sdk"],
)  # fmt: skip
def test_a_live_bot_loads_nothing_heavy(loaded: set[str], heavy: str) -> None:
    assert heavy not in loaded


def test_the_bot_has_never_heard_of_gates_tasks_or_flows(loaded: set[str]) -> None:
    assert not {name for name in loaded if name.split(".")[0] in {"gates", "tasks", "flows"}}
