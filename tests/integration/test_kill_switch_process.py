"""The kill switch as a process on a real venue: against a bot that goes on quoting, one that hangs, and none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.domain.order import Side
from bot.venues.bybit.account_client import AccountClient
from bot.venues.bybit.hosts import BybitHosts
from tests.support.bot_rig import ROOT, Bot, SimulatedVenue, bot_environment, running_bot, simulated_venue, wait_for
from tests.support.recovery import FLAGS, settings_file

pytestmark = pytest.mark.integration

SIDES = 2
"""So many orders has a bot out at most: one on each."""


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedVenue]:
    with simulated_venue(tmp_path_factory.mktemp("venue"), seed=3) as running:
        yield running


class Switch:
    """One run of `mm-bot kill-switch`."""

    def __init__(self, venue: SimulatedVenue, account: dict[str, str], folder: Path, *options: str) -> None:
        self.report_file = folder / "reports" / "kill_switch" / "latest.json"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bot", "kill-switch", "--late-s", "2", "--report", str(self.report_file), *options],
            cwd=ROOT, env={"PATH": os.environ["PATH"], **bot_environment(venue, account)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ended(self) -> tuple[int, dict[str, Any], str]:
        """Exit code, report, and what it said meanwhile."""
        told, said = self.process.communicate(timeout=240)
        report = json.loads(self.report_file.read_text())
        assert json.loads(told) == report
        return self.process.returncode, report, said


def start_quoting(venue: SimulatedVenue, bot: Bot) -> None:
    bot.renew(1)
    wait_for("orders out", lambda: venue.own_open(bot.account))


def test_by_default_it_only_looks(venue: SimulatedVenue, tmp_path: Path) -> None:
    account = venue.account()
    with running_bot(venue, tmp_path, account=account) as bot:
        start_quoting(venue, bot)
        code, report, _ = Switch(venue, account, tmp_path, "--flatten").ended()
        assert (code, report["status"], report["cancelled"], report["flattened"]) == (0, "dry_run", 0, False)
        assert venue.own_open(bot.account)
        assert bot.stop() == 0


def test_against_a_bot_that_goes_on_quoting_it_fails_and_wins_once_somebody_stops_it(
    venue: SimulatedVenue, tmp_path: Path
) -> None:
    account = venue.account()
    options = ("--execute", "--flatten", "--late-s", "1", "--deadline-s")
    with running_bot(venue, tmp_path, settings=settings_file(tmp_path), extra=FLAGS, account=account) as bot:
        start_quoting(venue, bot)
        code, report, said = Switch(venue, account, tmp_path, *options, "10").ended()  # a proof takes 6 s
        assert (code, report["status"]) == (1, "failed"), (report, said)
        assert report["cancelled"] > SIDES  # it put them back, and they were cancelled again
        began_ms = report["reads"][0]["at_ms"]
        assert any(read["own_open"] for read in report["reads"] if read["at_ms"] - began_ms > 6_000)
        assert bot.state() == "RUNNING"
        start = Switch(venue, account, tmp_path, *options, "120")
        wait_for("it is at work", lambda: json.loads(start.report_file.read_text())["errors"] == ["not finished"])
        bot.order("hold", "the kill switch is at work").raise_for_status()
        code, report, _ = start.ended()
        assert (code, report["status"], report["flattened"]) == (0, "executed", True)
        assert [read["own_open"] for read in report["reads"][-2:]] == [0, 0]
        truth = venue.truth(bot.account)
        assert (truth["orders"], truth["positions"]) == ([], [])


def test_it_needs_neither_a_bot_that_answers_nor_one_that_ends(venue: SimulatedVenue, tmp_path: Path) -> None:
    account = venue.account()
    with running_bot(venue, tmp_path, settings=settings_file(tmp_path), extra=FLAGS, account=account) as bot:
        start_quoting(venue, bot)
        wait_for("a position", lambda: venue.truth(bot.account)["positions"], 60)
        bot.lapse()
        bot.process.send_signal(signal.SIGSTOP)
        try:
            code, report, _ = Switch(venue, account, tmp_path, "--execute", "--flatten").ended()
            assert (code, report["status"], report["flattened"]) == (0, "executed", True)
            truth = venue.truth(bot.account)
            assert (truth["orders"], truth["positions"]) == ([], [])
        finally:
            bot.process.send_signal(signal.SIGCONT)
        wait_for("it knows that its grant is gone", lambda: bot.state() not in ("INIT", "RUNNING"))
        assert venue.own_open(bot.account) == []


def test_a_venue_that_is_away_is_tried_on_and_never_called_done(tmp_path: Path) -> None:
    with simulated_venue(tmp_path) as venue:
        account = venue.account()
        with running_bot(venue, tmp_path, account=account) as bot:
            start_quoting(venue, bot)
            bot.lapse()
            bot.process.kill()
            bot.process.wait()
        venue.process.send_signal(signal.SIGSTOP)
        switch = Switch(venue, account, tmp_path, "--execute", "--deadline-s", "60", "--quiet-s", "1")
        assert switch.process.stderr is not None
        assert "reading open orders failed" in switch.process.stderr.readline()
        assert json.loads(switch.report_file.read_text())["status"] == "failed"
        assert switch.process.poll() is None
        venue.process.send_signal(signal.SIGCONT)
        code, report, _ = switch.ended()
        assert (code, report["status"]) == (0, "executed")
        assert venue.own_open(account["account"]) == []
        venue.process.kill()
        venue.process.wait()
        code, report, said = Switch(venue, account, tmp_path, "--execute", "--deadline-s", "2").ended()
        assert (code, report["status"], report["reads"]) == (1, "failed", [])
        assert "Connection refused" in said


def test_what_a_halted_bot_has_published_outlives_a_venue_that_is_away_for_longer_than_a_try(tmp_path: Path) -> None:
    with simulated_venue(tmp_path, seed=3) as venue:
        account = venue.account()
        with running_bot(venue, tmp_path, settings=settings_file(tmp_path), extra=FLAGS, account=account) as bot:
            start_quoting(venue, bot)
            fault = {"kind": "loss", "account": bot.account, "jump_pct": "60"}
            venue.http.post("/sim/faults", json=fault).raise_for_status()
            wait_for("HALTED", lambda: bot.state() == "HALTED", 60)
            venue.process.send_signal(signal.SIGSTOP)
            report, said = bot.state_dir / "kill_switch.json", bot.state_dir / "kill_switch.log"
            wait_for("its process", said.exists, 30)  # HALTED is shown a moment before it is started
            bot.process.kill()  # nobody is left who would start another one
            try:
                wait_for("a whole try that proves nothing", lambda: "the next lasts" in said.read_text(), 60)
                assert "reading open orders failed" in said.read_text()
                assert json.loads(report.read_text())["status"] == "failed"
            finally:
                venue.process.send_signal(signal.SIGCONT)
            wait_for("its proof", lambda: json.loads(report.read_text())["status"] == "executed", 60)
            assert venue.own_open(bot.account) == []


def test_until_proven_it_needs_no_disk_either(venue: SimulatedVenue, tmp_path: Path) -> None:
    account = venue.account()
    with running_bot(venue, tmp_path, account=account) as bot:
        start_quoting(venue, bot)
        bot.lapse()
        bot.process.kill()
        (tmp_path / "file").write_text("")
        report = tmp_path / "file" / "kill_switch.json"  # below a file: nobody can write it, root included
        with Path("/dev/full").open("w") as full:  # every write says that no space is left
            process = subprocess.Popen(
                [sys.executable, "-m", "bot", "kill-switch", "--execute", "--deadline-s", "0", "--late-s", "0",
                 "--quiet-s", "0.5", "--report", str(report)],
                cwd=ROOT, env={"PATH": os.environ["PATH"], **bot_environment(venue, account)},
                stdout=full, stderr=full,
            )  # fmt: skip
            assert process.wait(120) == 1  # it ends only with its proof, which nobody could be told of
        assert venue.own_open(bot.account) == []


def test_a_bot_that_halts_publishes_it_and_its_process_proves_it(venue: SimulatedVenue, tmp_path: Path) -> None:
    account = venue.account()
    with running_bot(venue, tmp_path, settings=settings_file(tmp_path), extra=FLAGS, account=account) as bot:
        start_quoting(venue, bot)
        fault = {"kind": "loss", "account": bot.account, "jump_pct": "60"}
        venue.http.post("/sim/faults", json=fault).raise_for_status()
        wait_for("HALTED", lambda: bot.state() == "HALTED", 60)
        path = bot.state_dir / "kill_switch.json"
        wait_for("its process", path.exists, 30)  # HALTED is shown a moment before it is started
        bot.process.send_signal(signal.SIGSTOP)  # the process is its own: the bot is not needed any more
        try:
            report = wait_for("its proof", lambda: _proven(path), 60)
        finally:
            bot.process.send_signal(signal.SIGCONT)
        assert report["reads"][-1]["own_open"] == 0
        published = [one["reason"] for one in bot.log_events() if one["event"] == "kill_switch_published"]
        assert published  # by each limit that the jump broke, once
        assert len(set(published)) == len(published)
        assert venue.own_open(bot.account) == []


def test_on_spot_it_cancels_spot_orders_which_a_look_at_contracts_would_not_show(tmp_path: Path) -> None:
    with simulated_venue(tmp_path, options=("--spot-symbols", "BTCUSDT")) as venue:
        account = venue.account()
        hosts = BybitHosts(venue.ready["rest_url"], "", "", "")
        with AccountClient(hosts, account["api_key"], account["api_secret"], category="spot") as client:
            instrument, top = client.instrument("BTCUSDT"), client.top_of_book("BTCUSDT")
            price = instrument.price(instrument.ticks_floor(top.bid * Decimal("0.98")))
            client.place_post_only("BTCUSDT", Side.BUY, Decimal("0.01"), price, "slwq-1-1")
            contracts = Switch(venue, account, tmp_path, "--execute", "--quiet-s", "0.5").ended()
            assert (contracts[0], contracts[1]["cancelled"]) == (0, 0)
            assert len(client.open_orders(["BTCUSDT"])) == 1
            spot = ("--category", "spot", "--quiet-s", "0.5")
            looked = Switch(venue, account, tmp_path, *spot).ended()
            assert (looked[0], looked[1]["reads"][0]["own_open"]) == (0, 1)
            code, report, _ = Switch(venue, account, tmp_path, "--execute", *spot).ended()
            assert (code, report["status"], report["cancelled"]) == (0, "executed", 1)
            assert client.open_orders(["BTCUSDT"]) == []


def _proven(path: Path) -> dict[str, Any] | None:
    """A try that proves nothing in its time is followed by a longer one."""
    report: dict[str, Any] = json.loads(path.read_text())
    return report if report["status"] == "executed" else None
