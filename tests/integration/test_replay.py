"""What a real bot wrote on a real run, killed and recovered, replays to the same intents byte for byte."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.replaying import replay
from tests.support.bot_rig import DEMO_SETTINGS, SimulatedVenue, running_bot, simulated_venue, wait_for

pytestmark = pytest.mark.integration


@pytest.fixture
def venue() -> Iterator[SimulatedVenue]:
    with tempfile.TemporaryDirectory() as folder, simulated_venue(Path(folder)) as one:
        yield one


def test_a_run_that_was_killed_and_recovered_replays_byte_for_byte(venue: SimulatedVenue, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    text = DEMO_SETTINGS.read_text(encoding="utf-8") + "journal:\n  market_data: true\n"
    settings.write_text(text, encoding="utf-8")
    account = venue.account()
    with running_bot(venue, tmp_path, account=account, settings=settings) as bot:
        bot.renew(3)
        wait_for("quotes", lambda: len(venue.own_open(account["account"])) == 2)
        first_seen = bot.metrics()['mm_orders_placed_total{side="buy",symbol="BTCUSDT"}']
        assert first_seen >= 1
        assert bot.stop(signal.SIGKILL) == -signal.SIGKILL
        journal = bot.state_dir / "journal.db"
    killed = replay(journal)
    assert killed.difference == ""
    assert (killed.processes, killed.intents > 5) == (1, True)
    with running_bot(venue, tmp_path, account=account, settings=settings, extra=("--recover",)) as bot:
        bot.renew(4)
        wait_for("quotes", lambda: len(venue.own_open(account["account"])) == 2)
        assert bot.stop() == 0
    whole = replay(journal)
    assert (whole.difference, whole.processes) == ("", 2)
    assert whole.intents > killed.intents
