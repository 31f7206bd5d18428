"""Guard, bot or both are frozen, with orders out: none stands after 10 s. Real processes, real venue."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.bot_rig import ROOT, Bot, SimulatedVenue, bot_environment, running_bot, simulated_venue, wait_for
from tests.support.guard_stack import GuardStack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

NONE_OPEN_WITHIN_S = 10.0
LOOKED_FOR_S = 13.0
"""That none is open at one moment says little of one that quotes: what counts is when one was last seen."""


def last_open_s(orders: Callable[[], list[Any]]) -> float:
    """When an order was last open at the venue, seconds from now on."""
    begun, last_s = time.monotonic(), 0.0
    while (now_s := time.monotonic() - begun) < LOOKED_FOR_S:
        if orders():
            last_s = now_s
        time.sleep(0.1)
    return last_s


class Shown:
    """What a watchdog says in its log, in its metrics, and in its kill switch's report."""

    def __init__(self, log: Path, target: Path, report: Path) -> None:
        self._log = log
        self._target = target
        self._report = report

    def events(self) -> list[dict[str, Any]]:
        lines = self._log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith('{"') and '"event"' in line]

    def has_said(self, event: str) -> bool:
        return event in {one["event"] for one in self.events()}

    def looks(self) -> bool:
        return self._target.exists()

    def metrics(self) -> dict[str, float]:
        (target,) = json.loads(self._target.read_text())
        lines = httpx.get(f"http://{target['targets'][0]}/metrics", timeout=5).text.splitlines()
        pairs = (one.rpartition(" ") for one in lines if not one.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def is_proven(self) -> bool:
        return self._report.exists() and json.loads(self._report.read_text())["status"] == "executed"

    def acted_in_order(self) -> bool:
        events = [one["event"] for one in self.events()]
        places = [events.index(one) for one in ("beat_missed", "kill_switch_started", "kill_switch_ended")]
        return places == sorted(places)


@pytest.mark.parametrize("frozen", [("guard",), ("guard", "bot")], ids=" and ".join)
def test_none_is_open_10_s_after_the_guard_froze_alone_or_with_its_bot(
    guard_stack: GuardStack, frozen: tuple[str, ...]
) -> None:
    stack, folder = guard_stack, guard_stack.folder
    stack.start_watchdog()
    target, report = folder.targets / f"{stack.account}-watchdog.json", folder.root / "kill_switch" / stack.account
    shown = Shown(folder.log("watchdog"), target, report / "latest.json")
    stack.until("the watchdog looks", shown.looks, 30)
    stack.launch("frozen")
    stack.until("orders out", lambda: stack.truth()["orders"], 20)
    for name in frozen:
        stack.freeze(name)
    assert last_open_s(lambda: stack.truth()["orders"]) < NONE_OPEN_WITHIN_S
    stack.until("the kill switch's proof", lambda: shown.is_proven() and shown.has_said("kill_switch_ended"), 30)
    assert shown.acted_in_order()
    gauges = shown.metrics()
    assert gauges['watchdog_state{state="AUTO_HOLD"}'] == 1
    assert gauges['watchdog_kill_switch_runs_total{result="executed"}'] >= 1
    assert gauges[f'watchdog_missed_beats{{of="{stack.account}-guard"}}'] >= 4
    assert not stack.truth()["orders"]


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedVenue]:
    options = ("--symbols", "BTCUSDT,ETHUSDT")
    with simulated_venue(tmp_path_factory.mktemp("venue"), seed=4, options=options) as running:
        yield running


@contextlib.contextmanager
def watched(venue: SimulatedVenue, folder: Path) -> Iterator[tuple[Bot, Shown]]:
    """A bot that quotes under a test's grant, and the watchdog that expects its beat alone: nobody else helps.

    Nobody tells the watchdog which symbols the bot trades.
    """
    account = venue.account()
    targets = folder / "targets"
    targets.mkdir()
    name, report = account["account"], folder / "latest.json"
    with running_bot(venue, folder, account=account) as bot:
        port = urlsplit(str(bot.http.base_url)).port
        content = [{"targets": [f"127.0.0.1:{port}"], "labels": {"account": name, "run": "r-1"}}]
        (targets / "r-1.json").write_text(json.dumps(content))
        with (folder / "watchdog.log").open("w") as log:
            dog = subprocess.Popen(
                [sys.executable, "-m", "bot", "watchdog", "--account", name, "--late-s", "7",
                 "--targets", str(targets), "--report", str(report)],
                cwd=ROOT, env={"PATH": os.environ["PATH"], **bot_environment(venue, account)},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        shown = Shown(folder / "watchdog.log", targets / f"{name}-watchdog.json", report)
        try:
            bot.renew(1)
            wait_for("orders out", lambda: venue.own_open(name))
            wait_for("the watchdog looks", shown.looks)
            yield bot, shown
            dog.terminate()
            assert dog.wait(60) == 0
            assert not shown.looks()
        finally:
            bot.process.send_signal(signal.SIGCONT)
            if dog.poll() is None:
                dog.kill()
                dog.wait()


def test_none_is_open_10_s_after_the_bot_froze_and_whoever_wakes_up_calls_it_off(
    venue: SimulatedVenue, tmp_path: Path
) -> None:
    with watched(venue, tmp_path) as (bot, shown):
        beat = "watchdog_beat_timestamp_seconds"
        first = shown.metrics()[beat]
        wait_for("three more looks", lambda: shown.metrics()[beat] > first + 3)
        assert not shown.has_said("beat_missed")
        assert shown.metrics()['watchdog_state{state="OK"}'] == 1
        bot.process.send_signal(signal.SIGSTOP)
        assert last_open_s(lambda: venue.own_open(bot.account)) < NONE_OPEN_WITHIN_S
        wait_for("the proof", lambda: shown.is_proven() and shown.has_said("kill_switch_ended"), 30)
        assert shown.acted_in_order()
        bot.process.send_signal(signal.SIGCONT)
        wait_for("it is called off", lambda: shown.has_said("kill_switch_called_off"))
        wait_for("OK again", lambda: shown.metrics()['watchdog_state{state="OK"}'] == 1)


def test_a_venue_that_hangs_is_seen_by_both_ways_and_the_bot_is_told_to_hold(tmp_path: Path) -> None:
    with simulated_venue(tmp_path) as venue, watched(venue, tmp_path) as (bot, shown):
        venue.process.send_signal(signal.SIGSTOP)
        try:
            wait_for("AUTO_HOLD", lambda: shown.metrics()['watchdog_state{state="AUTO_HOLD"}'] == 1, 30)
            wait_for("HELD", lambda: bot.state() == "HELD")
        finally:
            venue.process.send_signal(signal.SIGCONT)
        (told,) = [one for one in shown.events() if one["event"] == "auto_hold"]
        assert told["answer"] == "200"
        assert not shown.has_said("kill_switch_started")  # its beats came: nobody was gone
        wait_for("none open", lambda: not venue.own_open(bot.account))
        wait_for("the venue is seen again", lambda: shown.metrics()['watchdog_state{state="OK"}'] == 1)


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--targets", "no-such-folder"], {}, "--targets: no-such-folder is no folder"),
        (["--targets", ".", "--missed", "1"], {}, "--missed: '1', allowed: 2 to 60"),
        (["--targets", ".", "--beat-s", "0"], {}, "--beat-s: '0', allowed: 0.1 to 60.0"),
        (["--targets", "."], {"WATCHDOG_AUTO_HOLD": "maybe"}, "WATCHDOG_AUTO_HOLD='maybe', allowed: true, false"),
        (["--targets", "."], {"EXCHANGE_ENV": "shadow"}, "EXCHANGE_ENV='shadow' has no orders to watch over"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments: list[str], environment: dict[str, str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bot", "watchdog", "--account", "a", *arguments],
        cwd=ROOT, env={"PATH": os.environ["PATH"], **environment}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
