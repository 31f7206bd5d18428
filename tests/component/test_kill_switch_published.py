"""The kill switch that a bot starts acts where the bot trades: same environment, same category."""

from __future__ import annotations

import io
import json
import os
import signal
from pathlib import Path

import pytest

from bot.assembly import assemble, open_journal, place_of
from bot.command_line import parse
from bot.resolution import resolve
from bot.runtime.clock import Clock
from bot.runtime.kill_switch_start import kill_switch_publisher
from bot.runtime.logs import JsonLog
from tests.support.bot_rig import wait_for

NOBODY = {
    "MM_VENUE_REST_URL": "http://127.0.0.1:9",
    "MM_VENUE_WS_PUBLIC_URL": "ws://127.0.0.1:9",
    "MM_VENUE_WS_PRIVATE_URL": "ws://127.0.0.1:9",
    "MM_VENUE_WS_TRADE_URL": "ws://127.0.0.1:9",
}
KEYS = {"BYBIT_API_KEY": "k" * 18, "BYBIT_API_SECRET": "s" * 36, "MM_ACCOUNT": "a", "MM_GRANT_TOKEN": "t" * 20}


@pytest.mark.parametrize(
    ("flags", "settings", "where"),
    [
        (["--testnet"], "", ("testnet", "linear")),
        (["--testnet"], "venue:\n  hosts: demo\n  category: spot\n", ("demo", "spot")),
        (["--live"], "", ("live", "linear")),
    ],
)
def test_it_is_told_the_environment_and_the_category_that_flags_and_settings_chose(
    flags: list[str], settings: str, where: tuple[str, str], tmp_path: Path
) -> None:
    chosen = tmp_path / "settings.yaml"
    chosen.write_text(settings)
    words = ["run", "--network", *flags, "--obs", "--obs-port", "0", "--durable-state", "--state-dir", str(tmp_path)]
    words += ["--settings", str(chosen)] if settings else []
    given = {name: value for name, value in vars(parse(words)).items() if name != "command"}
    resolved = resolve(given, {**NOBODY, **KEYS, "MM_LIVE_ENABLE": "1"})
    place, clock = place_of(resolved, given), Clock()
    log = JsonLog((), clock.now_ns)
    journal = open_journal(place, resolved, log)
    before = children()
    assemble(resolved, place, journal, log, clock)._parts.publish_kill_switch("drawdown")
    (started,) = children() - before
    try:
        environment, command = words_of(started, "environ"), words_of(started, "cmdline")
    finally:
        os.kill(started, signal.SIGKILL)
        os.waitpid(started, 0)
        journal.close()
    assert f"EXCHANGE_ENV={where[0]}" in environment
    assert command[command.index("--category") + 1] == where[1]
    assert command[command.index("--deadline-s") + 1] == "0"  # it goes on until it is proven: nobody starts it again


def test_where_its_log_cannot_be_opened_it_is_started_all_the_same_and_that_is_said(tmp_path: Path) -> None:
    folder, output = tmp_path / "no_folder", io.StringIO()
    folder.write_text("")  # below it nothing can be opened, by nobody
    log = JsonLog((output,), Clock().now_ns)
    environment = {**NOBODY, **KEYS, "EXCHANGE_ENV": "testnet", "PATH": os.environ["PATH"]}
    before = children()
    kill_switch_publisher(("BTCUSDT",), "linear", folder, environment, "cancel", 5000, "", log)("drawdown")
    (started,) = children() - before
    try:
        assert [os.readlink(f"/proc/{started}/fd/{number}") for number in (1, 2)] == ["/dev/null"] * 2
    finally:
        os.kill(started, signal.SIGKILL)
        os.waitpid(started, 0)
    assert [json.loads(line)["event"] for line in output.getvalue().splitlines()] == ["kill_switch_unheard"]


def children() -> set[int]:
    """Processes that this one has started and not collected."""
    return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))


def words_of(pid: int, what: str) -> list[str]:
    """Shown once execve(2) is through, which is a moment after the start."""
    shown = Path(f"/proc/{pid}/{what}")
    text: str = wait_for(f"{what} of the child", shown.read_text, every_s=0.001)
    return text.split("\0")
