"""Funding at the simulated venue: paid on time, shown ahead, no fill, and both lanes account for it alike."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from pathlib import Path

import msgspec
import pytest

from bot.domain.order import Side
from bot.simulation import START_NS, run_kernel
from bot.simulator import bybit_public as public
from bot.simulator import bybit_queries as queries
from bot.simulator.accounts import Account
from bot.simulator.exchange import Exchange
from bot.simulator.funding import FUNDING_NS
from bot.simulator.listings import GENERATED
from bot.simulator.market import GeneratedMarket, MarketParameters
from bot.simulator.orders import NewOrder, TimeInForce
from bot.simulator.venue import Venue
from tests.support.lanes import Kept, both, demo

D = Decimal
SLOW = partial(GeneratedMarket, parameters=MarketParameters(step_ns=60_000_000_000))
"""A step a minute: a day is short."""
FIVE_S = partial(GeneratedMarket, parameters=MarketParameters(step_ns=5_000_000_000))
HOUR_NS = 3_600_000_000_000


def held(side: Side, seed: int = 7) -> tuple[Venue, Account]:
    """A venue whose one account took 5 lots shortly before the funding hour."""
    before_ns = START_NS + 8 * HOUR_NS - 1_000_000_000
    venue = Venue(GENERATED, SLOW(seed), seed=seed, now_ns=before_ns)
    account = venue.open_account("k", "s", D(100_000), before_ns)
    venue.create(account, NewOrder("x-1", side, None, 5, TimeInForce.IOC), before_ns)
    assert account.position.lots == side.sign * 5
    return venue, account


def executed_rows(venue: Venue, account: Account, **asked: object) -> list[dict[str, str]]:
    """What execution/list says of the account."""
    exchange = Exchange((venue,))
    found = queries.executions(exchange, account.holder, {"category": "linear", **asked}, 0)
    rows: list[dict[str, str]] = msgspec.json.decode(msgspec.json.encode(found["list"]))
    return rows


@pytest.mark.parametrize("side", list(Side))
def test_who_is_long_pays_what_the_ticker_said_and_who_is_short_receives_it(side: Side) -> None:
    venue, account = held(side)
    ticker = public.ticker(venue, START_NS + 8 * HOUR_NS - 1)
    assert ticker["nextFundingTime"] == str((START_NS + 8 * HOUR_NS) // 1_000_000)
    rate = D(str(ticker["fundingRate"]))
    assert rate != 0
    wallet, executed = account.wallet_quote, account.executions_count
    venue.advance(START_NS + 8 * HOUR_NS + 60_000_000_000)
    (row,) = executed_rows(venue, account, execType="Funding")
    value = D(row["execValue"])
    assert value == D(row["execPrice"]) * D(row["execQty"]) == D(row["execPrice"]) * D("0.005")
    assert D(row["execFee"]) == value * rate * side.sign
    assert account.wallet_quote == wallet - D(row["execFee"])
    assert (row["execType"], row["feeRate"]) == ("Funding", ticker["fundingRate"])
    assert row["execTime"] == str((START_NS + 8 * HOUR_NS) // 1_000_000)
    assert account.executions_count == executed, "funding is no fill"
    everything = executed_rows(venue, account)
    assert [one["execType"] for one in everything] == ["Funding", "Trade"]


def test_who_holds_nothing_pays_nothing_and_a_new_rate_is_shown() -> None:
    venue = Venue(GENERATED, SLOW(3), seed=3, now_ns=START_NS)
    account = venue.open_account("k", "s", D(100_000), START_NS)
    shown = []
    for number in range(6):
        now_ns = START_NS + number * FUNDING_NS
        venue.advance(now_ns + 1)
        shown.append(public.ticker(venue, now_ns + 1)["fundingRate"])
    assert account.wallet_quote == D(100_000)
    assert len(set(shown)) > 3
    assert all(abs(D(str(rate))) <= D("0.005") for rate in shown)


def test_a_venue_that_was_not_looked_at_for_a_day_settles_each_interval_once() -> None:
    venue, account = held(Side.BUY)
    venue.advance(START_NS + 25 * HOUR_NS)
    rows = executed_rows(venue, account, execType="Funding")
    assert [int(row["execTime"]) for row in rows] == [(START_NS + hour * HOUR_NS) // 1_000_000 for hour in (24, 16, 8)]


@pytest.mark.parametrize("seed", [1, 5, 8, 12])
def test_both_lanes_agree_where_funding_is_paid_every_few_seconds(seed: int, tmp_path: Path) -> None:
    (wire, on_wire), (kernel, in_kernel) = both(demo(seed, 20, funding_ns=4_000_000_000), tmp_path / "run")
    assert on_wire.events == in_kernel.events, f"seed {seed}: different events"
    assert on_wire.intents == in_kernel.intents, f"seed {seed}: different decisions"
    paid = [event for event in in_kernel.events if b'"FundingPaid"' in event]
    assert paid, f"seed {seed}: nothing was paid"
    assert wire.engine.pnl() == kernel.engine.pnl()
    pnl = kernel.engine.pnl()
    assert pnl.funding != 0
    mark = kernel.venue.instrument.tick_size * kernel.venue.mark_half_ticks / 2
    state = kernel.engine.known
    own = state.ledger.pnl("BTCUSDT", mark, state.instruments["BTCUSDT"]).net
    assert abs(own - (kernel.venue_equity_quote - D(100_000))) < D("0.000001")
    assert wire.venue_equity_quote == kernel.venue_equity_quote


def test_it_is_paid_every_eighth_hour_of_the_venue_s_clock() -> None:
    kept = Kept()
    outcome = run_kernel(demo(4, 8 * 3600 + 60, market=FIVE_S, tick_s=5.0, stale_after_ms=60_000), kept)
    times = [found.at_ns for found in outcome.account.fundings]
    assert set(times) <= {START_NS + 8 * HOUR_NS}
    assert times, "it never held anything at a funding hour"


@pytest.mark.parametrize(("signed_maker_bps", "quotes"), [("2", True), ("1", False)])
def test_fees_of_the_venue_decide_and_where_they_are_not_as_signed_nothing_is_quoted(
    signed_maker_bps: str, quotes: bool, tmp_path: Path
) -> None:
    fees = {
        "fee_mode": "auto",
        "require_fee_resolution": True,
        "fee_maker_bps": D(signed_maker_bps),
        "fee_taker_bps": D("5.5"),
        "rebate_maker_bps": D(0),
    }
    (wire, on_wire), (kernel, in_kernel) = both(demo(3, 10, **fees), tmp_path / "run")
    assert on_wire.events == in_kernel.events
    assert on_wire.intents == in_kernel.intents
    assert any(b'"PlaceOrder"' in intent for intent in in_kernel.intents) is quotes
    assert kernel.engine.known.venue_fees == {"BTCUSDT": (D(2), D("5.5"))}
    reasons = [stop.reason for stop in wire.engine.stops]
    assert ("fee_mismatch" in reasons) is not quotes
