"""A disk that fills up under a live bot: it stops quoting while there is room to write that it did."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.journal import JournalReader
from tests.support.bot_rig import DEMO_SETTINGS, SimulatedVenue, running_bot, simulated_venue, wait_for
from tests.support.small_disk import mounted

pytestmark = pytest.mark.integration

DISK_MB = 12
RESERVE_MB = 4
PAGE = 4096


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The bot's state folder as a file system of its own, small. Skipped where nobody may mount one."""
    with mounted(tmp_path / "bot" / "run", f"{DISK_MB}m") as folder:
        yield folder


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[SimulatedVenue]:
    with simulated_venue(tmp_path) as one:
        yield one


def free_bytes(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def fill_until(disk: Path, left_bytes: int) -> None:
    """Takes room until about that much is left; 0: until not one page is free."""
    with (disk / f"filler-{left_bytes}").open("wb", buffering=0) as filler:
        while free_bytes(disk) > left_bytes:
            try:
                filler.write(b"x" * PAGE)
            except OSError:
                return


def test_a_disk_that_fills_up_stops_quoting_first_and_what_was_written_stays(
    venue: SimulatedVenue, small_disk: Path, tmp_path: Path
) -> None:
    settings = tmp_path / "settings.yaml"
    text = DEMO_SETTINGS.read_text(encoding="utf-8")
    settings.write_text(f"{text}journal: {{disk_reserve_mb: {RESERVE_MB}, export_interval_s: 1}}\n", encoding="utf-8")
    log = ("--log-file", str(tmp_path / "bot.log"))
    with running_bot(venue, small_disk.parent, settings=settings, extra=log) as bot:
        bot.renew(1)
        wait_for("two quotes", lambda: len(venue.own_open(bot.account)) == 2)
        fill_until(small_disk, RESERVE_MB * 1_000_000 - 100_000)
        wait_for("the stop", lambda: bot.state() == "HELD")
        wait_for("no order at the venue", lambda: not venue.own_open(bot.account))
        journal = bot.state_dir / "journal.db"
        with JournalReader(journal) as reader:
            before = [(entry.kind, entry.body) for entry in reader.entries()]
        assert free_bytes(small_disk) > 1_000_000, "it stopped writing first"
        assert any(kind == "StopRequested" and "disk_full" in body for kind, body in before)
        fill_until(small_disk, 0)
        wait_for("a write that fails", lambda: "journal_unwritable" in (tmp_path / "bot.log").read_text(), 30)
        assert bot.state() == "HELD"
        assert venue.own_open(bot.account) == []
        assert bot.stop() == 1
        told = [line for line in (small_disk.parent / "bot.stderr").read_text().splitlines() if line[:1] != "{"]
        assert told == ["mm-bot: disk_full, journal_unwritable: the run ended with code 1, see the log"]
        assert venue.own_open(bot.account) == []
    (small_disk / "filler-0").unlink()
    with JournalReader(journal) as reader:
        after = [(entry.kind, entry.body) for entry in reader.entries()]
    assert after[: len(before)] == before
    stopped = next(at for at, (kind, body) in enumerate(after) if kind == "StopRequested" and "disk_full" in body)
    assert [kind for kind, _ in after[stopped:] if kind in ("PlaceOrder", "AmendOrder")] == []
