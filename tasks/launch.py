"""Starts the bot, finds it again, and makes sure that it is gone.

A bot is identified by pid, start time and state folder, so a reused pid is never taken for it. It runs in a session of
its own with its streams in files, so it neither dies with the guard nor holds anybody's streams.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tasks.supervise.identity import Identity, identify

POLL_S = 0.02
REAPED_WITHIN_S = 0.5
REPO = Path(__file__).resolve().parent.parent


class LaunchError(Exception):
    """The bot did not become ready. One line: what was awaited, how long, and the last words of its error stream.

    By itself it blames nobody: the process may live, on a machine that is too slow.
    """


class BotEnded(LaunchError):
    """It ended by itself before it was ready: that is the candidate's own doing."""


@dataclass(frozen=True)
class BotProcess:
    """A running (or once running) bot and where its HTTP is."""

    run: str
    identity: Identity
    state_dir: Path
    obs_url: str


@dataclass(frozen=True)
class Sizes:
    """A stage's own values on the bot's command line."""

    symbols: Sequence[str]
    inventory_max_quote: str
    total_max_quote: str
    edge_threshold_bps: str
    post_only_offset_bps: str
    min_qty_pad: str


SHADOW = ("--shadow", "--profile", "paper")
MODES: Mapping[str, tuple[str, ...]] = {
    "shadow": SHADOW,
    "public": (*SHADOW, "--network", "--exchange", "bybit"),
    "testnet": ("--network", "--testnet", "--exchange", "bybit", "--profile", "testnet"),
    "live": ("--network", "--live", "--exchange", "bybit", "--profile", "live"),
}
"""What makes a run one of that env; `public` is env shadow on the public market data of a real venue."""


def bot_command(
    mode: str, sizes: Sizes, state_dir: Path, settings: Path, *, obs_port: int = 0, recover: bool = False
) -> list[str]:
    """The argument list of a run in that one of MODES, without any secret.

    `obs_port` 0: any that is free. `recover`: it goes on from the journal in its state folder.
    """
    # fmt: off
    return [
        sys.executable, "-m", "bot", "run", *MODES[mode], *_words_of(sizes), "--iterations", "0",
        "--durable-state", "--state-dir", str(state_dir), "--recon-interval-s", "2",
        "--obs", "--obs-host", "127.0.0.1", "--obs-port", str(obs_port),
        "--log-file", str(state_dir / "bot.log"), "--settings", str(settings),
        *(("--recover",) if recover else ()),
    ]
    # fmt: on


def repeatable_command(sizes: Sizes, settings: Path, iterations: int, report: Path) -> list[str]:
    """A deterministic shadow run of so many iterations that leaves its report there."""
    words = [*SHADOW, *_words_of(sizes), "--iterations", str(iterations)]
    return [sys.executable, "-m", "bot", "run", *words, "--settings", str(settings), "--report", str(report)]


def _words_of(sizes: Sizes) -> list[str]:
    # fmt: off
    return [
        "--symbols", ",".join(sizes.symbols),
        "--max-inv", sizes.inventory_max_quote, "--max-total", sizes.total_max_quote,
        "--edge-threshold", sizes.edge_threshold_bps, "--post-only-offset-bps", sizes.post_only_offset_bps,
        "--min-qty-pad", sizes.min_qty_pad,
    ]
    # fmt: on


_exit_codes: dict[int, int] = {}
_children: dict[int, subprocess.Popen[bytes]] = {}
"""Children of this process, so that they are reaped when they end. An adopted bot is not in it: init reaps that one."""


def start_process(
    command: Sequence[str], state_dir: Path, environment: Mapping[str, str], cwd: Path = REPO
) -> Identity:
    """Starts the bot in a new session with its streams in files of `state_dir`. Raises LaunchError."""
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (
        (state_dir / "stdout.log").open("ab") as out,
        (state_dir / "stderr.log").open("ab") as err,
    ):
        try:
            child = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=dict(environment),
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise LaunchError(f"bot in {state_dir}: the machine did not start it: {error.strerror}") from None
    _children[child.pid] = child
    identity = identify(child.pid)
    if identity is None:
        raise BotEnded(f"bot in {state_dir} ended at once: {last_words(state_dir)}")
    return identity


TOTALS_BEFORE = "totals_before_restart.json"


def leave_for_restart(state_dir: Path, totals: Mapping[str, int]) -> None:
    """Before a bot is started again on its journal: its first word must be told from that of the one before, and a new
    process counts from 0 while the journal counts on. `totals`: what the journal has, by metric name."""
    stdout = state_dir / "stdout.log"
    if stdout.exists():
        stdout.replace(state_dir / f"stdout-{time.time_ns()}.log")
    part = state_dir / f"{TOTALS_BEFORE}.part"
    part.write_text(json.dumps(dict(totals)))
    part.replace(state_dir / TOTALS_BEFORE)


def counted_before_restart(state_dir: Path) -> dict[str, int]:
    """What the journal had counted when the present process began; none where it is the first one. Raises OSError."""
    try:
        found = json.loads((state_dir / TOTALS_BEFORE).read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise OSError(f"{state_dir / TOTALS_BEFORE}: not what was left there ({error})") from error
    return {str(name): int(count) for name, count in found.items()}


async def wait_ready(run: str, identity: Identity, state_dir: Path, deadline_s: float) -> BotProcess:
    """Waits for the bot's ready line. Raises BotEnded where it dies first, LaunchError where the deadline passes."""
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        ready = read_ready_line(state_dir, run)
        if ready is not None:
            return BotProcess(run, identity, state_dir, ready)
        if not is_alive(identity):
            raise BotEnded(f"bot of run {run} ended before it was ready: {last_words(state_dir)}")
        await asyncio.sleep(POLL_S)
    raise LaunchError(f"bot of run {run} was not ready within {deadline_s:g} s: {last_words(state_dir)}")


def read_ready_line(state_dir: Path, run: str) -> str | None:
    """The address in the bot's ready line, once it is complete; None before."""
    try:
        text = (state_dir / "stdout.log").read_text(errors="replace")
    except FileNotFoundError:
        return None
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            return None
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if isinstance(told, dict) and isinstance(told.get("obs_url"), str) and told.get("run") == run:
            return str(told["obs_url"])
    return None


def last_words(state_dir: Path) -> str:
    """The last line of the bot's error stream that is no log record, at most 300 characters."""
    try:
        lines = (state_dir / "stderr.log").read_text(errors="replace").strip().splitlines()
    except FileNotFoundError:
        lines = []
    said = [line for line in lines if line.strip() and not line.startswith("{")]
    return said[-1][:300] if said else "it said nothing on its error stream"


def how_it_ended(identity: Identity, state_dir: Path) -> str:
    """In words: the signal or exit code where it was our child, and its last words."""
    code = _exit_codes.get(identity.pid)
    if code is None:
        return f"pid {identity.pid} is gone: {last_words(state_dir)}"
    by = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"pid {identity.pid} died, {by}: {last_words(state_dir)}"


def is_alive(identity: Identity) -> bool:
    """True while exactly this process runs. A zombie is dead; a child of ours is reaped here."""
    alive = identity.is_alive()
    child = None if alive else _children.get(identity.pid)
    if child is not None:
        try:  # its first thread shows as dead a moment before the kernel hands out how the whole process ended
            _exit_codes[identity.pid] = child.wait(REAPED_WITHIN_S)
            del _children[identity.pid]
        except subprocess.TimeoutExpired:
            pass
    return alive


def belongs(identity: Identity, state_dir: Path) -> bool:
    """True where the living process of that identity was started with this state folder."""
    return is_alive(identity) and str(state_dir) in _words(identity.pid)


def find_bots(state_dir: Path) -> list[Identity]:
    """Every living bot that was started with this state folder, whoever started it."""
    found = []
    for pid in psutil.pids():
        words = _words(pid)
        if "bot" in words and "run" in words and str(state_dir) in words and (identity := identify(pid)) is not None:
            found.append(identity)
    return found


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []


@dataclass(frozen=True)
class Gone:
    """How the bot ended: `by` is what it took: was dead | asked | SIGTERM | SIGKILL. `took_ms` from the first try."""

    gone: bool
    by: str
    took_ms: int
    detail: str = ""


async def stop_bot(
    identity: Identity,
    ask: Callable[[], Awaitable[str]] | None,
    *,
    asked_s: float = 1.5,
    terminated_s: float = 1.0,
    killed_s: float = 2.0,
) -> Gone:
    """Ask, then SIGTERM, then SIGKILL, each with its time; verified by pid and start time. `ask` returns its outcome.

    An `ask` that hangs or is refused costs no more than a signal that is ignored: the next means follows.
    """
    begun = time.monotonic()

    def ended(by: str, detail: str = "") -> Gone:
        return Gone(True, by, round((time.monotonic() - begun) * 1000), detail)

    if not is_alive(identity):
        return ended("was dead")
    detail = ""
    if ask is not None:
        try:
            detail = await asyncio.wait_for(ask(), asked_s)
        except TimeoutError:
            detail = f"no answer within {asked_s:g} s"
        left_s = asked_s - (time.monotonic() - begun)
        if not detail and await _wait_gone(identity, left_s):
            return ended("asked")
    for number, wait_s in ((signal.SIGTERM, terminated_s), (signal.SIGKILL, killed_s)):
        identity.send(number)
        if await _wait_gone(identity, wait_s):
            return ended(number.name, detail)
    return Gone(False, "SIGKILL", round((time.monotonic() - begun) * 1000), "still there after SIGKILL")


async def _wait_gone(identity: Identity, wait_s: float) -> bool:
    until = time.monotonic() + wait_s
    while is_alive(identity):
        if time.monotonic() >= until:
            return False
        await asyncio.sleep(POLL_S)
    return True
