"""The kill switch that a bot starts acts where the bot trades: same environment, same category."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from bot.assembly import assemble, open_journal, place_of
from bot.command_line import parse
from bot.resolution import resolve
from bot.runtime.clock import Clock
from bot.runtime.logs import JsonLog

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


def children() -> set[int]:
    """Processes that this one has started and not collected."""
    return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))


def words_of(pid: int, what: str) -> list[str]:
    return Path(f"/proc/{pid}/{what}").read_text().split("\0")
