"""SIGKILL with orders out, and what comes after: nothing is lost, nothing survives, nothing of others is touched."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bot.domain.order import OWN_PREFIX
from bot.journal import JournalReader
from tests.support.bot_rig import (
    GUARD_TOKEN,
    OPERATOR_TOKEN,
    Bot,
    SimulatedVenue,
    simulated_venue,
    wait_for,
)
from tests.support.planted import files_that_hold
from tests.support.recovery import Drill, RecoveryFailed, settings_file
from tests.support.redis_server import redis_server

pytestmark = pytest.mark.integration

SEED = 20261129
KILLS = 10


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedVenue]:
    with simulated_venue(tmp_path_factory.mktemp("venue"), seed=5) as running:
        yield running


def test_ten_kills_at_random_moments_lose_nothing(venue: SimulatedVenue, tmp_path: Path) -> None:
    drill = Drill(venue, tmp_path, SEED, settings_file(tmp_path))
    drill.kill_with_orders(KILLS)
    drill.finish()
    assert drill.fills > 0
    assert files_that_hold(tmp_path, secrets_of(drill)) == []


def test_the_drill_fails_where_no_bot_has_an_order_out(
    venue: SimulatedVenue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drill = Drill(venue, tmp_path, SEED, settings_file(tmp_path))
    monkeypatch.setattr(drill, "recovered", lambda _bot: None)  # killed before it has a grant, so before it quotes
    with pytest.raises(RecoveryFailed, match="only 0 of them had an order out, 1 were wanted"):
        drill.kill_with_orders(1)
    assert drill.kills == 3


def test_ten_kills_with_the_journal_in_redis_lose_nothing(venue: SimulatedVenue, tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as server:
        settings = settings_file(tmp_path, f"journal: {{store: '{server.url}'}}\n")
        drill = Drill(venue, tmp_path, SEED + 1, settings, server=server)
        drill.kill_with_orders(KILLS)
        drill.finish()
        assert drill.fills > 0
        assert drill.server_kills > 2
        assert not (tmp_path / "run" / "journal.db").exists()
        server.kill()  # what it keeps, it keeps on the disk
        assert [one for one in (tmp_path / "redis").rglob("*.aof") if one.stat().st_size]
        assert files_that_hold(tmp_path, secrets_of(drill)) == []


def test_the_drill_fails_where_the_journal_is_gone(venue: SimulatedVenue, tmp_path: Path) -> None:
    drill = Drill(venue, tmp_path, SEED, settings_file(tmp_path))
    with drill.life() as bot:
        drill.recovered(bot)
        wait_for("a fill", lambda: venue.truth(bot.account)["executions_count"] > 0, 60)
        drill.check_ledger(bot)
        bot.stop(signal.SIGKILL)
    drill.kills, drill.agrees_within_s = 1, 3.0
    for left in (tmp_path / "run").glob("journal.db*"):
        left.unlink()
    with drill.life() as bot, pytest.raises(RecoveryFailed, match="are in no journal"):
        drill.recovered(bot)


def test_the_drill_fails_where_an_own_order_survives_or_a_foreign_one_does_not(
    venue: SimulatedVenue, tmp_path: Path
) -> None:
    drill = Drill(venue, tmp_path, SEED, settings_file(tmp_path))
    drill.kill()
    with drill.life() as bot:
        drill.stranger.cancel_order(category="linear", symbol="BTCUSDT", orderLinkId="hand-1")
        with pytest.raises(RecoveryFailed, match="the foreign order does not stand as it was placed"):
            drill.recovered(bot)


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_without_its_redis_it_stops_quoting_and_nothing_is_lost_when_redis_is_back(
    venue: SimulatedVenue, tmp_path: Path, how: str
) -> None:
    with redis_server(tmp_path / "redis") as server:
        drill = Drill(venue, tmp_path, SEED, settings_file(tmp_path, f"journal: {{store: '{server.url}'}}\n"))
        with drill.life() as bot:
            drill.recovered(bot)
            server.kill() if how == "killed" else server.freeze()
            wait_for("the stop", lambda: bot.state() == "HELD")
            wait_for("no own order at the venue", lambda: own_open(drill) == [], 5)
            said = [row for row in bot.log_events() if row["event"] == "journal_unwritable"]
            assert len(said) == 1
            assert said[0]["lvl"] == "ERROR"
            assert f"{server.url} {bot.account}:run: cannot write" in said[0]["message"]
            server.start() if how == "killed" else server.thaw()
            wait_for("the stop is written", lambda: "journal_unwritable" in stops_written(drill))
            drill.check_ledger(bot)
            assert bot.state() == "HELD"
            bot.stop(signal.SIGKILL)
        drill.kills += 1
        with drill.life() as bot:
            bot.renew(drill.epoch + 1)
            wait_for("the account is read", lambda: bot.http.get("/ready").json()["checks"]["exchange"])
            drill.check_ledger(bot)
            assert bot.state() == "HELD"  # only people release it, whoever restarts
            assert own_open(drill) == []
            asked = bot.release("resume-request", "ada", stop="journal_unwritable", reason="Redis is back")
            assert asked.status_code == 202, asked.text
            number = asked.json()["request_id"]
            wait_for("the release", lambda: bot.release(
                "resume-confirm", "grace", request_id=number).is_success)  # fmt: skip
            wait_for("a quote", lambda: own_open(drill) != [])
            drill.check_ledger(bot)
            assert bot.stop() == 0


def secrets_of(drill: Drill) -> list[str]:
    """What the bots of a drill were given and nothing of them may show."""
    return [drill.account["api_key"], drill.account["api_secret"], GUARD_TOKEN, OPERATOR_TOKEN]


def own_open(drill: Drill) -> list[str]:
    """Own orders that stand, by the venue's word."""
    orders = drill.venue.own_open(drill.account["account"])
    return [order["client_order_id"] for order in orders if order["client_order_id"].startswith(OWN_PREFIX)]


def stops_written(drill: Drill) -> list[str]:
    with JournalReader(drill.folder / "run" / "journal.db") as reader:
        return [str(row[0]) for row in reader.rows("SELECT reason FROM stops")]


LOSS_EACH_QUOTE = 36
"""Of a limit of 60 (3 % of 2,000): one loss does not reach it, two do, and neither process has seen both."""


def lose(drill: Drill) -> None:
    """One price jump against the position, as large as the loss that is wanted; at the venue it waits for one that was
    closed since it was looked at."""
    account = drill.account["account"]

    def held() -> float:
        truth = drill.venue.truth(account)
        return sum(abs(float(one["qty"])) for one in truth["positions"]) * float(truth["mark_price"])

    position_quote = wait_for("a position", lambda: held() > 100 and held(), 90)
    jump_pct = f"{100 * LOSS_EACH_QUOTE / position_quote:.2f}"
    fault = {"kind": "loss", "account": account, "jump_pct": jump_pct, "position_quote_min": "100"}
    drill.venue.http.post("/sim/faults", json=fault).raise_for_status()


def kill_switches(folder: Path) -> list[int]:
    """Those that bots with their state there have left to themselves, and that still try."""
    lines = [(one.pid, " ".join(one.info["cmdline"] or ())) for one in psutil.process_iter(["cmdline"])]
    return [pid for pid, line in lines if " kill-switch " in line and str(folder) in line]


def test_a_loss_before_the_kill_counts_towards_the_limit_after_it(venue: SimulatedVenue, tmp_path: Path) -> None:
    one_fill = ("--max-inv", "150")  # so that a jump does not make the position larger
    drill = Drill(venue, tmp_path, SEED, settings_file(tmp_path), flags=one_fill)

    def net(bot: Bot) -> float:
        return float(bot.status()["pnl"]["net"])

    with drill.life() as bot:
        drill.recovered(bot)
        lose(drill)
        wait_for("the loss", lambda: net(bot) < -LOSS_EACH_QUOTE / 2)
        before = net(bot)
        assert bot.state() != "HALTED"
        wait_for("the loss is in the journal", lambda: drill.lowest_sample_quote() < -LOSS_EACH_QUOTE / 2)
        bot.stop(signal.SIGKILL)
    drill.kills += 1
    with drill.life() as bot:
        bot.renew(2)
        wait_for("it may quote", lambda: bot.state() == "RUNNING", 30)
        drill.check_ledger(bot)
        lose(drill)
        wait_for("HALTED", lambda: bot.state() == "HALTED", 30)
        assert bot.status()["stop"]["reason"] in ("daily_loss", "drawdown")
        assert net(bot) - before > -60  # this process alone has not lost as much as the limit
        bot.stop(signal.SIGKILL)
    drill.kills += 1
    with drill.life() as bot:  # and a third one stays where the second was stopped
        bot.renew(3)
        wait_for("the account is read", lambda: bot.http.get("/ready").json()["checks"]["exchange"])
        wait_for("nothing of ours stands", lambda: own_open(drill) == [])
        assert bot.state() == "HALTED"
        assert bot.metrics()['mm_orders_placed_total{side="buy",symbol="BTCUSDT"}'] == 0
    wait_for("the kill switches of those that halted have proven it", lambda: not kill_switches(tmp_path), 60)
