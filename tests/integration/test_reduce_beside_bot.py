"""A position is closed beside a bot that goes on quoting: reduce-only, without a cancel, and it runs on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tasks.account_file import AccountAccess
from tasks.rollback import DeskError
from tasks.venue_desk import VenueDesk
from tests.support.bot_rig import SimulatedVenue, running_bot, simulated_venue, wait_for
from tests.support.recovery import FLAGS, settings_file

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedVenue]:
    with simulated_venue(tmp_path_factory.mktemp("venue"), seed=3) as running:
        yield running


def _access(venue: SimulatedVenue, account: dict[str, str]) -> AccountAccess:
    url, key = venue.ready["rest_url"], (account["api_key"], account["api_secret"])
    return AccountAccess(account["account"], "simulated", url, "", "", "", *key, "", "")


def test_a_slice_closes_what_is_held_and_the_bot_stays_in_its_state(venue: SimulatedVenue, tmp_path: Path) -> None:
    account = venue.account()
    with running_bot(venue, tmp_path, settings=settings_file(tmp_path), extra=FLAGS, account=account) as bot:
        bot.renew(1)
        wait_for("a position", lambda: venue.truth(bot.account)["positions"], 60)
        desk = VenueDesk(lambda: _access(venue, account), ("BTCUSDT",))
        try:
            held, told = Decimal(0), ""

            def reduced() -> bool:
                """What is held moves, as the bot goes on trading: a slice of what it has closed itself is refused. So
                is who asks too often."""
                nonlocal held, told
                with contextlib.suppress(DeskError):
                    held = asyncio.run(desk.read_positions())["BTCUSDT"]
                    told = asyncio.run(desk.reduce("BTCUSDT", held)) if held else ""
                return bool(told)

            wait_for("a slice that the venue took", reduced, 60)
            name = told.rpartition(" ")[2]
            assert name.startswith("slwf-0-")
            assert told.startswith("sell" if held > 0 else "buy")
            wait_for("the bot books it", lambda: [one for one in bot.log_events() if name in str(one)], 30)
            assert bot.state() == "RUNNING"
            counted = bot.metrics()
            assert not any(count for key, count in counted.items() if key.startswith("mm_recon_divergence_total"))
            assert not any(count for key, count in counted.items() if key.startswith("mm_taker_fills_total"))
            with pytest.raises(DeskError, match="less than one lot"):
                asyncio.run(desk.reduce("BTCUSDT", Decimal("0.0000001")))
        finally:
            desk.close()
