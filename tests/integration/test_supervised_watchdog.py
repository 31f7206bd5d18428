"""Every account of a running stack has a guard and a watchdog, started again when they die, gone with the account."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tasks.state_folder import REPOSITORY, StateFolder, write_private
from tasks.supervise import specs
from tasks.supervise.supervisor import Supervisor
from tasks.supervise.takedown import retire_account
from tests.support.bot_rig import SimulatedVenue, simulated_venue, wait_for

pytestmark = pytest.mark.integration

PLAN = str(REPOSITORY / "configs" / "rollout.smoke.yaml")
NOBODY = "http://127.0.0.1:9"


def account_file(folder: StateFolder, venue: SimulatedVenue) -> tuple[str, str]:
    """A new account with its file: its name and its secret."""
    made = venue.account()
    urls = {name: venue.ready[name] for name in ("rest_url", "ws_public_url", "ws_private_url", "ws_trade_url")}
    tokens = {"grant_token": "g" * 32, "approve_token": "a" * 32}
    content = {"venue": "simulated", **urls, **made, **tokens}
    write_private(folder.accounts / f"{made['account']}.json", json.dumps(content))
    return made["account"], made["api_secret"]


def test_a_guard_and_a_watchdog_live_and_die_with_their_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_SLACK_WEBHOOK", "https://hooks.slack.example/services/secret-path")
    folder = StateFolder(tmp_path / "home")
    folder.create()
    with simulated_venue(tmp_path) as venue:
        account, secret = account_file(folder, venue)
        supervisor = Supervisor(folder, PLAN, "generated", None)
        supervisor.environment = specs.stack_environment(folder, supervisor.table.mark, PLAN)
        supervisor.table = supervisor.table.with_endpoints(prometheus=NOBODY)

        def pid(kind: str) -> int:
            supervisor.turn()
            row = supervisor.table.row(f"{kind}-{account}")
            return row.pid if row is not None and row.identity.is_alive() else 0

        def addresses() -> list[str]:
            supervisor.turn()
            return sorted(path.name for path in folder.targets.glob("*.json"))

        try:
            both = [f"{account}-guard.json", f"{account}-watchdog.json"]
            wait_for("both are there and Prometheus is told where", lambda: addresses() == both, 60)
            first = pid("watchdog")
            assert "secret-path" in Path(f"/proc/{pid('guard')}/environ").read_text(), "it sends the notices"
            assert "secret-path" not in Path(f"/proc/{first}/environ").read_text()
            assert secret not in Path(f"/proc/{first}/cmdline").read_text()
            os.kill(first, signal.SIGKILL)
            wait_for("it is started again", lambda: pid("watchdog") not in (0, first), 30)
        finally:
            retire_account(folder, account)
            supervisor.turn()
        assert supervisor.table.processes == ()
        assert not any(child.poll() is None for child in supervisor.children.values())


def test_without_a_readable_account_file_the_supervisor_says_once_that_there_is_no_watchdog(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = StateFolder(tmp_path / "home")
    folder.create()
    (folder.accounts / "a1.json").write_text("{}")
    supervisor = Supervisor(folder, PLAN, "generated", None)
    for _ in range(3):
        supervisor._watch_over("a1")
    said = [one.message for one in caplog.records if one.name == "slipway.supervisor"]
    assert len(said) == 1
    assert said[0].startswith("watchdog-a1: not started: ")
    assert supervisor.table.processes == ()
