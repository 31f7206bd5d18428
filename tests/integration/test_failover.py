"""The second endpoint of a venue, with real processes: a bot whose first one is gone quotes through the other."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.support.bot_rig import running_bot, simulated_venue, wait_for

pytestmark = pytest.mark.integration


def test_a_bot_whose_first_endpoint_is_gone_quotes_through_the_second(tmp_path: Path) -> None:
    with socket.socket() as nobody, simulated_venue(tmp_path) as venue:
        nobody.bind(("127.0.0.1", 0))  # bound and never listening: every connection is refused
        gone, there = f"127.0.0.1:{nobody.getsockname()[1]}", venue.ready["rest_url"].removeprefix("http://")
        names = ("MM_VENUE_REST_URL", "MM_VENUE_WS_PUBLIC_URL", "MM_VENUE_WS_PRIVATE_URL", "MM_VENUE_WS_TRADE_URL")
        keys = ("rest_url", "ws_public_url", "ws_private_url", "ws_trade_url")
        moved = {name: venue.ready[key].replace(there, gone) for name, key in zip(names, keys, strict=True)}
        with running_bot(venue, tmp_path, environment={**moved, "MM_VENUE_SECOND": there}) as bot:
            bot.renew(1)
            wait_for("two quotes", lambda: {o["side"] for o in venue.own_open(bot.account)} == {"buy", "sell"})
            switched = [event for event in bot.log_events() if event["event"] == "venue_endpoint_switched"]
            assert {event["used"] for event in switched} == {f"{kind}://{there}" for kind in ("http", "ws")}
            assert bot.metrics()["mm_uncaught_exceptions_total"] == 0
            assert bot.stop() == 0
        assert venue.own_open(bot.account) == []
