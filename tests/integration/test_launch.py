"""Starting, finding and ending a process as the launcher does it, with small processes in the bot's place."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.launch import (
    LaunchError,
    Sizes,
    belongs,
    bot_command,
    find_bots,
    how_it_ended,
    is_alive,
    start_process,
    stop_bot,
    wait_ready,
)
from tasks.supervise.identity import Identity

pytestmark = pytest.mark.integration

QUIET = "import time; time.sleep(60)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


class Room:
    """Starts `python -c CODE bot run STATE_DIR` and ends whatever is left."""

    def __init__(self, folder: Path) -> None:
        self.state_dir = folder / "run"
        self.started: list[Identity] = []

    def start(self, code: str) -> Identity:
        command = [sys.executable, "-c", code, "bot", "run", str(self.state_dir)]
        identity = start_process(command, self.state_dir, {"PATH": os.environ["PATH"]})
        self.started.append(identity)
        return identity


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path)
    yield made
    for identity in made.started:
        identity.send(signal.SIGKILL)
        is_alive(identity)


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def ready(room: Room, identity: Identity, deadline_s: float = 60.0) -> str:
    return asyncio.run(wait_ready("r", identity, room.state_dir, deadline_s)).obs_url


def test_the_ready_line_is_found_among_others(room: Room) -> None:
    line = '{"obs_url": "http://127.0.0.1:1", "pid": 1, "run": "r"}'
    identity = room.start(f"print('hello'); print('{line}', flush=True); {QUIET}")
    assert ready(room, identity) == "http://127.0.0.1:1"


def test_a_bot_that_ends_before_it_is_ready_is_told_with_its_last_words(room: Room) -> None:
    identity = room.start("import sys; print('{\"lvl\":\"INFO\"}', file=sys.stderr); sys.exit('no such settings')")
    with pytest.raises(LaunchError, match="before it was ready: no such settings"):
        ready(room, identity)


def test_a_bot_that_never_gets_ready_is_told_with_the_deadline(room: Room) -> None:
    with pytest.raises(LaunchError, match=r"not ready within 0\.1 s"):
        ready(room, room.start(QUIET), 0.1)


def test_a_bot_is_found_by_its_state_folder_and_nobody_elses(room: Room, tmp_path: Path) -> None:
    identity = room.start(QUIET)
    assert find_bots(room.state_dir) == [identity]
    assert find_bots(tmp_path / "other") == []
    assert belongs(identity, room.state_dir)
    assert not belongs(identity, tmp_path / "other")


def test_the_same_pid_with_another_start_is_another_process(room: Room) -> None:
    identity = room.start(QUIET)
    assert not is_alive(Identity(identity.pid, identity.started_ticks + 1))


def test_a_bot_that_takes_no_question_is_ended_by_sigterm(room: Room) -> None:
    async def ask() -> str:
        return "HTTP 503"

    identity = room.start(QUIET)
    gone = asyncio.run(stop_bot(identity, ask, asked_s=0.2))
    assert (gone.gone, gone.by, gone.detail) == (True, "SIGTERM", "HTTP 503")
    assert not is_alive(identity)


def test_a_bot_that_hangs_is_ended_by_sigkill(room: Room) -> None:
    async def ask() -> str:
        await asyncio.sleep(60)
        return ""

    identity = room.start(DEAF)
    log = room.state_dir / "stdout.log"

    until(lambda: "up" in log.read_text())
    gone = asyncio.run(stop_bot(identity, ask, asked_s=0.1, terminated_s=0.2))
    assert (gone.gone, gone.by) == (True, "SIGKILL")


def test_a_dead_bot_needs_nothing_and_how_it_died_is_known(room: Room) -> None:
    identity = room.start(QUIET)
    os.kill(identity.pid, signal.SIGKILL)

    until(lambda: not is_alive(identity))
    assert asyncio.run(stop_bot(identity, None)).by == "was dead"
    assert "killed by SIGKILL" in how_it_ended(identity, room.state_dir)


def test_the_command_line_holds_the_stages_sizes_and_no_secret(tmp_path: Path) -> None:
    sizes = Sizes(("BTCUSDT", "ETHUSDT"), "500", "2000", "5.0", "2.0", "1.2")
    words = bot_command("live", sizes, tmp_path, tmp_path / "s.yaml")
    told = dict(itertools.pairwise(words))
    assert (told["--symbols"], told["--max-inv"], told["--max-total"]) == ("BTCUSDT,ETHUSDT", "500", "2000")
    assert (told["--edge-threshold"], told["--post-only-offset-bps"], told["--min-qty-pad"]) == ("5.0", "2.0", "1.2")
    assert "--live" in words
