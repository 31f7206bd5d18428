"""What earlier runs of an account lost counts in the next one: all of them, and none of another mode."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from bot.booked import Booked, write_booked
from bot.carrying import DAY_NS, carried_equity
from bot.domain.intent import Note
from bot.journal import Journal
from gates.judge import Outcome
from gates.stages import load_plan, under_root
from tasks.account_file import AccountAccess
from tasks.launch import Sizes, bot_command
from tasks.preflight import Checked, Subject, preflight
from tasks.state_folder import REPOSITORY

HOUR_NS = 3_600 * 1_000_000_000


def run(folder: Path, samples: Sequence[tuple[int, str, str]], account: str = "a1", mode: str = "live") -> None:
    """The journal of a run that noted these results: when, net and peak as it counted them from its own beginning."""
    folder.mkdir(parents=True)
    meta = {"account": account, "run": folder.name, "config_digest": "d", "version": "v", "mode": mode}
    journal = Journal(folder / "journal.db", meta, synchronous="NORMAL")
    for at_ns, net, peak in samples:
        journal.intent(Note(at_ns, "DEBUG", "equity_sample", {"net_quote": net, "peak_quote": peak}))
    journal.commit({})
    journal.close()


def test_the_losses_of_all_runs_of_the_day_are_added_up(tmp_path: Path) -> None:
    now = 2 * DAY_NS
    run(tmp_path / "one", [(now - 9 * HOUR_NS, "0", "0"), (now - 8 * HOUR_NS, "-50", "0")])
    run(tmp_path / "two", [(now - 5 * HOUR_NS, "0", "50"), (now - 4 * HOUR_NS, "10", "50")])
    run(tmp_path / "three", [(now - 2 * HOUR_NS, "0", "40"), (now - HOUR_NS, "-25", "40")])
    curve = carried_equity(tmp_path / "next", "a1", "live", now).curve
    assert (curve.loss_24h_quote, curve.drawdown_quote) == (Decimal(65), Decimal(65))
    later = carried_equity(tmp_path / "next", "a1", "live", now + 16 * HOUR_NS + 1).curve
    assert later.loss_24h_quote == 15  # what the first run lost was more than a day ago
    assert later.drawdown_quote == 65  # and its peak is still the account's


def test_what_was_won_on_paper_hides_no_loss_and_what_was_lost_there_is_none(tmp_path: Path) -> None:
    now = 2 * DAY_NS
    run(tmp_path / "shadow", [(now - 9 * HOUR_NS, "0", "0"), (now - 8 * HOUR_NS, "80", "80")], mode="shadow")
    run(tmp_path / "live", [(now - 5 * HOUR_NS, "0", "0"), (now - 4 * HOUR_NS, "-60", "0")])
    run(tmp_path / "testnet", [(now - 2 * HOUR_NS, "0", "0"), (now - HOUR_NS, "-700", "0")], mode="testnet")
    curve = carried_equity(tmp_path / "next", "a1", "live", now).curve
    assert (curve.loss_24h_quote, curve.drawdown_quote) == (Decimal(60), Decimal(60))


def asked(home: Path, kept: Mapping[str, str] | None = None) -> Checked:
    """What preflight says of a canary's room for losses. Its total of 2,000 allows 60 in 24 h and 100 from the peak."""
    path = REPOSITORY / "configs" / "rollout.smoke.yaml"
    plan = load_plan(path)
    access = AccountAccess(
        "a1", "simulated", "http://127.0.0.1:9", *["ws://127.0.0.1:9"] * 3, "key", "secret", "grant", "approve"
    )
    stage, settings = plan.stage("canary"), under_root(plan.settings)
    sizes = Sizes(stage.symbols, f"{stage.inventory_max_quote:f}", f"{stage.total_max_quote:f}", "5", "2", "1.2")
    command = bot_command("live", sizes, home / "runs" / "preflight", settings)
    launch = (command, {**access.venue_environment(), "MM_LIVE_ENABLE": "1", **(kept or {})})
    subject = Subject(access, plan, path, stage, "s", "v", "p", "http://127.0.0.1:9", home, launch=launch)
    (row,) = asyncio.run(preflight(subject, {"preflight_loss_room"}))
    return row


@pytest.mark.parametrize(
    ("net", "peak", "outcome", "value"),
    [
        ("-59.99", "0", Outcome.PASS, "lost 59.99 in 24 h (allowed below 60.00), 59.99 below the peak (100.00)"),
        ("-60", "0", Outcome.FAIL, "lost 60.00 in 24 h (allowed below 60.00), 60.00 below the peak (100.00)"),
        ("-10", "90", Outcome.FAIL, "lost 10.00 in 24 h (allowed below 60.00), 100.00 below the peak (100.00)"),
    ],
)
def test_an_account_that_has_lost_what_it_may_is_granted_nothing(
    tmp_path: Path, net: str, peak: str, outcome: Outcome, value: str
) -> None:
    now = time.time_ns()
    run(tmp_path / "runs" / "earlier", [(now - HOUR_NS, "0", "0"), (now - 1_000_000_000, net, peak)])
    row = asked(tmp_path)
    assert (row.outcome, row.value) == (outcome, value)


def test_an_account_without_earlier_runs_has_room(tmp_path: Path) -> None:
    assert asked(tmp_path).outcome is Outcome.PASS


def test_what_a_journal_that_cannot_be_read_would_tell_is_not_known(tmp_path: Path) -> None:
    run(tmp_path / "runs" / "earlier", [(time.time_ns() - HOUR_NS, "-10", "0")])
    damaged = tmp_path / "runs" / "later" / "journal.db"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"no journal")
    row = asked(tmp_path)
    assert row.outcome is Outcome.UNKNOWN
    assert str(damaged) in row.detail, row


def test_a_journal_that_nobody_wrote_to_in_a_day_need_not_be_read(tmp_path: Path) -> None:
    damaged = tmp_path / "runs" / "earlier" / "journal.db"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"no journal")
    long_ago = time.time() - 25 * 3_600
    os.utime(damaged, (long_ago, long_ago))
    assert asked(tmp_path).outcome is Outcome.PASS


def test_a_journal_with_an_entry_that_is_no_json_is_told_and_ends_no_launch(tmp_path: Path) -> None:
    now = time.time_ns()
    run(tmp_path / "earlier", [(now - HOUR_NS, "-10", "0")])
    with sqlite3.connect(tmp_path / "earlier" / "journal.db") as db:
        db.execute("UPDATE entry SET body = substr(body, 1, 20)")
    db.close()
    (said,) = carried_equity(tmp_path / "next", "a1", "live", now).unread
    assert str(tmp_path / "earlier" / "journal.db") in said


def test_what_was_lost_after_a_bot_had_ended_counts_in_the_next_run(tmp_path: Path) -> None:
    now = 2 * DAY_NS
    run(tmp_path / "one", [(now - 9 * HOUR_NS, "0", "0"), (now - 8 * HOUR_NS, "-20", "0")])
    assert carried_equity(tmp_path / "next", "a1", "live", now).curve.loss_24h_quote == 20
    write_booked(tmp_path / "one", Booked(now - 7 * HOUR_NS, Decimal("-325.5")))
    run(tmp_path / "two", [(now - 2 * HOUR_NS, "0", "0"), (now - HOUR_NS, "-1", "0")])
    curve = carried_equity(tmp_path / "next", "a1", "live", now).curve
    assert (curve.loss_24h_quote, curve.drawdown_quote) == (Decimal("326.5"), Decimal("326.5"))


@pytest.mark.parametrize(("noted", "loss"), [([(5, "0", "0"), (4, "-20", "0")], 305), ([], 325)])
def test_what_was_lost_today_by_a_bot_that_ended_the_day_before_counts(
    tmp_path: Path, noted: list[tuple[int, str, str]], loss: int
) -> None:
    now = 3 * DAY_NS
    run(tmp_path / "one", [(now - DAY_NS - ago_h * HOUR_NS, net, peak) for ago_h, net, peak in noted])
    write_booked(tmp_path / "one", Booked(now - HOUR_NS, Decimal(-325)))
    assert carried_equity(tmp_path / "next", "a1", "live", now).curve.loss_24h_quote == loss


@pytest.mark.parametrize("left", ['{"at_ns": %d, "net_quote": null, "why": "the venue was away"}', "no json", "{}"])
def test_what_a_run_came_to_after_its_bot_and_is_not_known_leaves_the_room_unknown(tmp_path: Path, left: str) -> None:
    now = time.time_ns()
    run(tmp_path / "runs" / "earlier", [(now - HOUR_NS, "0", "0"), (now - 1_000_000_000, "-10", "0")])
    (tmp_path / "runs" / "earlier" / "booked.json").write_text(left.replace("%d", str(now)))
    row = asked(tmp_path)
    assert row.outcome is Outcome.UNKNOWN
    assert str(tmp_path / "runs" / "earlier") in row.detail


@pytest.mark.parametrize("net", [Decimal(-400), None])
def test_a_result_without_its_journal_leaves_the_room_unknown_for_a_day(tmp_path: Path, net: Decimal | None) -> None:
    now = time.time_ns()
    left = tmp_path / "runs" / "of-a-lost-machine"
    write_booked(left, Booked(now - HOUR_NS, net, "" if net is not None else "the venue was away", "a1", "live"))
    row = asked(tmp_path)
    assert row.outcome is Outcome.UNKNOWN
    assert f"{left}: what it came to is {'not known' if net is None else net}" in row.detail
    mine = tmp_path / "runs" / "next"
    assert carried_equity(mine, "a2", "live", now).unread == (), "another account's"
    assert carried_equity(mine, "a1", "testnet", now).unread == ()
    assert carried_equity(mine, "a1", "live", now + DAY_NS).unread == (), "none of it is of the last 24 hours"
    (said,) = carried_equity(mine, "a1", "live", now).unread
    assert said in row.detail


def test_a_copy_of_a_run_counts_once_and_by_what_it_came_to(tmp_path: Path) -> None:
    now = 2 * DAY_NS
    samples = [(now - 9 * HOUR_NS, "0", "0"), (now - 8 * HOUR_NS, "-30", "0"), (now - 7 * HOUR_NS, "-50", "0")]
    run(tmp_path / "copy", samples[:2])
    run(tmp_path / "one", samples)
    assert carried_equity(tmp_path / "next", "a1", "live", now).curve.loss_24h_quote == 50


def test_the_room_is_looked_for_where_the_bot_would_keep_its_journal(tmp_path: Path) -> None:
    row = asked(tmp_path, {"MM_JOURNAL_STORE": "redis://127.0.0.1:1"})
    assert row.outcome is Outcome.UNKNOWN
    assert "redis://127.0.0.1:1" in row.detail, row
