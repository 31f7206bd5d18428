"""SIGKILL with orders out, and what comes after: nothing is lost, nothing survives, nothing of others is touched."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bot_rig import SimulatedVenue, simulated_venue, wait_for
from tests.support.recovery import Drill, RecoveryFailed, settings_file
from tests.support.redis_server import redis_server

pytestmark = pytest.mark.integration

SEED = 20261129


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedVenue]:
    with simulated_venue(tmp_path_factory.mktemp("venue"), seed=5) as running:
        yield running


def test_ten_kills_at_random_moments_lose_nothing(venue: SimulatedVenue, tmp_path: Path) -> None:
    drill = Drill(venue, tmp_path, SEED, settings_file(tmp_path))
    for _ in range(10):
        drill.kill()
    drill.finish()
    assert drill.seen_orders > 5, "there was next to nothing to recover"
    assert drill.fills > 0


def test_six_kills_with_the_journal_in_redis_lose_nothing(venue: SimulatedVenue, tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as server:
        settings = settings_file(tmp_path, f"journal: {{store: '{server.url}'}}\n")
        drill = Drill(venue, tmp_path, SEED + 1, settings)
        for number in range(6):
            drill.kill()
            if number % 2:  # the server dies with the bot
                server.kill()
                server.start()
        drill.finish()
        assert drill.seen_orders > 5, "there was next to nothing to recover"
        assert not (tmp_path / "run" / "journal.db").exists()


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
