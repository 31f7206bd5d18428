"""A real bot process on a flooding venue: cancel-all overtaking a backlog, tick → order on the wire, and its memory.

Cancel-all: the venue puts a whole backlog of market messages on the public stream; at once the operator's freeze is
sent; measured is from sending the freeze until the bot's cancel-all is at the venue. A trial counts only if the bot had
not read the backlog to its end by then. Tick: from writing a message that moves every level until the first amend or
create it leads to is at the venue. Wall time, all on this machine's monotonic clock: a busy machine makes it longer.
`python -m tests.bench.edges` prints it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil

from bot.simulator.server import TOKEN_ENV
from bot.venues.bybit.calls import AMEND, CANCEL_ALL, CREATE
from tests.bench.engine import ROOT, Invalid
from tests.support.bot_rig import CONTROL_TOKEN, DEMO_SETTINGS, Bot, SimulatedVenue, running_bot, wait_for

CANCEL_ALL_P99_MS_MAX = 50.0
RSS_MB_MAX = 95.0
PACE_S = 0.3
"""Between two ticks: two quotes follow, and the venue takes ten amends a second."""
SETTINGS_CHANGES = {
    "hysteresis_s: 3": "hysteresis_s: 0",
    "orders_per_min_max: 300": "orders_per_min_max: 600",
    "requote_tolerance_bps: 1": "requote_tolerance_bps: 0",
    "requote_interval_ms: 250": "requote_interval_ms: 0",
}


class Overtaking(NamedTuple):
    """Milliseconds of every trial; `drained_ms`: until the bot had read the whole backlog, and what it cost.

    `read_before`: how many messages of the backlog it had read when its cancel-all came, to the 500; how busy the
    machine is does not change it.
    """

    backlog: int
    cancel_all_ms: list[float]
    read_before: list[int]
    drained_ms: list[float]
    drained_cpu_ms: list[float]
    tick_ms: list[float]
    rss_start_mb: float


class Frozen(NamedTuple):
    """One trial, from sending the freeze on."""

    cancel_all_ms: float
    read_before: int
    drained_ms: float
    drained_cpu_ms: float


class Venue:
    """The flooding venue's process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.rig = SimulatedVenue(process, json.loads(self._line()))

    def do(self, what: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what}) + "\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._line())
        return found

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Invalid(f"the flooding venue ended with exit code {self._process.wait()}; see above")
        return line


@contextlib.contextmanager
def flooding_venue(backlog: int) -> Iterator[Venue]:
    argv = [sys.executable, "-m", "tests.bench.flood_venue", str(backlog)]
    environment = {**os.environ, TOKEN_ENV: CONTROL_TOKEN}
    with subprocess.Popen(
        argv, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            venue = Venue(process)
            with venue.rig.http:
                yield venue
        finally:
            process.kill()


def measure(backlog: int, trials: int, ticks: int) -> Overtaking:
    """Raises Invalid where a trial shows nothing."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        settings = folder / "bench.yaml"
        settings.write_text(_settings(), encoding="utf-8")
        extra = ("--edge-threshold", "0", "--recon-interval-s", "60")
        with (
            flooding_venue(backlog) as venue,
            running_bot(venue.rig, folder, settings=settings, extra=extra) as bot,
        ):
            rss_mb = bot.rss_mb()
            bot.renew(1)
            tick_ms = [_tick_ms(venue, bot) for _ in range(ticks)]
            frozen = [_freeze(venue, bot) for _ in range(trials)]
            found = venue.do("seen")
            if found["subscribed"] != 1:
                raise Invalid(f"the bot asked for the book {found['subscribed']} times: it lost it on the way")
            if code := bot.stop():
                raise Invalid(f"the bot ended with code {code}")
    return Overtaking(
        backlog,
        [one.cancel_all_ms for one in frozen],
        [one.read_before for one in frozen],
        [one.drained_ms for one in frozen],
        [one.drained_cpu_ms for one in frozen],
        tick_ms,
        rss_mb,
    )


def _settings() -> str:
    text = DEMO_SETTINGS.read_text(encoding="utf-8")
    for before, after in SETTINGS_CHANGES.items():
        if before not in text:
            raise ValueError(f"{DEMO_SETTINGS}: no {before!r} to change")
        text = text.replace(before, after)
    return text


def _both_out(venue: Venue, bot: Bot) -> None:
    wait_for("both quotes at the venue", lambda: len(venue.rig.own_open(bot.account)) == 2, deadline_s=30, every_s=0.02)


def _tick_ms(venue: Venue, bot: Bot) -> float:
    due_s = time.monotonic() + PACE_S
    _both_out(venue, bot)
    time.sleep(max(0.0, due_s - time.monotonic()))
    began_ns = venue.do("tick")["at_ns"]

    def first_order() -> int | None:
        seen: dict[str, int] = venue.do("seen")["seen"]
        return min((seen[path] for path in (CREATE, AMEND) if path in seen), default=None)

    return float((wait_for("an order after a tick", first_order, deadline_s=10, every_s=0.01) - began_ns) / 1e6)


def _freeze(venue: Venue, bot: Bot) -> Frozen:
    _both_out(venue, bot)
    cpu_before_s = sum(psutil.Process(bot.process.pid).cpu_times()[:2])
    venue.do("flood")
    began_ns = time.monotonic_ns()
    answered = bot.order("freeze", "drill")
    if answered.status_code != httpx.codes.OK:
        raise Invalid(f"freeze: answered {answered.status_code} {answered.text}")

    def drained() -> dict[str, Any] | None:
        found = venue.do("seen")
        return found if found["all_read_ns"] and CANCEL_ALL in found["seen"] else None

    found = wait_for("a cancel-all, and the backlog read", drained, deadline_s=60, every_s=0.02)
    cpu_s = sum(psutil.Process(bot.process.pid).cpu_times()[:2]) - cpu_before_s
    arrived_ns, read_ns = found["seen"][CANCEL_ALL], found["all_read_ns"]
    if arrived_ns >= read_ns:
        raise Invalid("a cancel-all that came after the backlog was read: there was nothing left to overtake")
    return Frozen((arrived_ns - began_ns) / 1e6, found["read_before"], (read_ns - began_ns) / 1e6, cpu_s * 1e3)
