"""The feed that every engine is measured on is the generated market, and several symbols are several markets."""

from __future__ import annotations

from pathlib import Path

from bot.simulation import run_wire
from bot.simulator.depth import DepthView
from bot.simulator.listings import GENERATED
from bot.simulator.venue import Venue
from tests.bench import linearity
from tests.bench.feed import DEPTH, FeedMarket, load, make
from tests.bench.feed import kept as kept_feed

UPDATES = 600


def test_a_feed_plays_the_same_book_to_our_venue_as_it_tells_the_engines_of_others(tmp_path: Path) -> None:
    feed = load(kept_feed(tmp_path, 3, UPDATES))
    assert feed == make(3, UPDATES)
    venue, view = Venue(GENERATED, FeedMarket(feed), seed=1, now_ns=0), DepthView(DEPTH)
    view.publish(venue.book)
    for number, update in enumerate(feed.updates):
        venue.advance(venue.next_at_ns())
        venue.drain()
        message = view.publish(venue.book)
        got = ({}, {}) if message is None else (dict(message.bids), dict(message.asks))
        assert got == (dict(update.levels[0]), dict(update.levels[1])), f"update {number}"
    assert sum(bool(update.orders) for update in feed.updates) > 50
    assert sum(len(bids) + len(asks) for bids, asks in (update.levels for update in feed.updates)) > 5 * UPDATES


def test_one_bot_trades_three_symbols_through_one_connection(tmp_path: Path) -> None:
    outcome = run_wire(linearity.of(3, make(1, UPDATES)), tmp_path)
    linearity.check_traded(outcome)
    for venue, account in outcome.exchange.accounts(outcome.holder):
        symbol = venue.instrument.symbol
        assert outcome.engine.known.ledger.accounts[symbol].position_lots == account.position.lots
        assert not account.open_orders, f"{symbol}: orders left"
