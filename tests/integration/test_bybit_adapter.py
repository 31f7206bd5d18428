"""The adapter, the account client and the kill switch against the simulated venue, served as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from bot.domain.events import (
    BookDelta,
    BookLost,
    BookSnapshot,
    Event,
    Filled,
    InstrumentsRead,
    OrderStatus,
    OrderUpdated,
    StreamDown,
    StreamUp,
)
from bot.domain.instrument import Instrument
from bot.domain.intent import AmendOrder, CancelOrder, PlaceOrder
from bot.domain.order import Side
from bot.runtime.kill_switch_command import run_command
from bot.venues.bybit.account_client import AccountClient
from bot.venues.bybit.adapter import BybitAdapter
from bot.venues.bybit.hosts import BybitHosts, hosts_for, override_hosts
from bot.venues.port import Accepted, ImmediateOrder, Refused, Unknown, Unreachable, VenueRefused, VenueUnreachable
from tests.support.hearing import Hearing

pytestmark = pytest.mark.integration

SYMBOL = "BTCUSDT"
TOKEN = "control-token-of-the-test"


class Venue(NamedTuple):
    """The running venue: its addresses as overrides, and how to open an account."""

    process: subprocess.Popen[str]
    environ: dict[str, str]

    @property
    def hosts(self) -> BybitHosts:
        return override_hosts(hosts_for("live", "linear"), self.environ)

    def control(self, method: str, path: str, **body: object) -> dict[str, Any]:
        answer = httpx.request(
            *(method, self.environ["MM_VENUE_REST_URL"] + path),
            headers={"X-Sim-Token": TOKEN},
            json=body or None,
            trust_env=False,
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def account(self) -> dict[str, str]:
        return self.control("POST", "/sim/accounts", equity_quote="100000")


@pytest.fixture(scope="module")
def venue() -> Iterator[Venue]:
    process = start_venue()
    try:
        yield process
    finally:
        process.process.terminate()
        process.process.wait(10)


def start_venue(port: int = 0) -> Venue:
    command = [sys.executable, "-m", "bot", "serve-venue", "--market", "generated", "--json", "--seed", "5"]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--accounts", "1"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"SLIPWAY_SIM_CONTROL_TOKEN": TOKEN},
    )
    assert process.stdout is not None
    line = json.loads(process.stdout.readline())
    names = ("rest_url", "ws_public_url", "ws_private_url", "ws_trade_url")
    return Venue(process, {f"MM_VENUE_{name.upper()}": line[name] for name in names})


class Bot(Hearing):
    """An adapter on an account of its own, and what its sink heard."""

    def __init__(self, venue: Venue) -> None:
        self.account = venue.account()
        self.adapter = BybitAdapter(
            venue.hosts, self.account["api_key"], self.account["api_secret"], [SYMBOL], time.time_ns, seed=1
        )
        super().__init__()
        self.sequence = 0

    async def __aenter__(self) -> Bot:
        await self.adapter.start(self.heard.append)
        await self.until(lambda: len(self.of(StreamUp)) == 2 and bool(self.of(BookSnapshot)))
        self.instrument = (await self.adapter.instruments([SYMBOL]))[SYMBOL]
        return self

    def updates(self, client_order_id: str) -> list[OrderStatus]:
        return [e.order.status for e in self.of(OrderUpdated) if e.order.client_order_id == client_order_id]

    async def quote(self, side: Side = Side.BUY, away_ticks: int = 5_000, lots: int = 10) -> PlaceOrder:
        """A quote that far from its own touch, by default beyond any jump of the market (9 bps); negative crosses."""
        top = await self.adapter.top_of_book(SYMBOL)
        touch = self.instrument.ticks(top.bid if side is Side.BUY else top.ask)
        self.sequence += 1
        name = f"slwq-1-{self.sequence}"
        return PlaceOrder(0, name, SYMBOL, side, touch - side.sign * away_ticks, lots, 1)

    async def rest_at_the_touch(self, lots: int) -> PlaceOrder:
        """A quote there that the venue took; one that the market has come to meanwhile is refused, and placed anew."""
        while True:
            quote = await self.quote(away_ticks=0, lots=lots)
            await self.adapter.place(quote, self.instrument)
            await self.until(lambda name=quote.client_order_id: bool(self.updates(name)))
            if OrderStatus.REJECTED not in self.updates(quote.client_order_id):
                return quote


def client_of(venue: Venue, account: dict[str, str]) -> AccountClient:
    return AccountClient(venue.hosts, account["api_key"], account["api_secret"])


def test_instruments_and_a_gapless_two_sided_book_arrive(venue: Venue):
    async def story() -> None:
        async with Bot(venue) as bot:
            assert isinstance(bot.heard[0], InstrumentsRead)
            assert bot.instrument == Instrument(
                *(SYMBOL, "linear", "BTC", "USDT", Decimal("0.1"), Decimal("0.001")),
                *(Decimal("0.001"), Decimal(100), Decimal(5)),
            )
            await bot.until(lambda: len(bot.of(BookDelta)) >= 20)
            first = bot.of(BookSnapshot)[0]
            assert first.bids[0][0] < first.asks[0][0]
            ids = [event.update_id for event in bot.heard if isinstance(event, BookSnapshot | BookDelta)]
            assert ids == list(range(ids[0], ids[0] + len(ids)))
            assert bot.of(BookLost) == []

    asyncio.run(story())


def test_a_resync_brings_a_fresh_snapshot(venue: Venue):
    async def story() -> None:
        async with Bot(venue) as bot:
            bot.adapter.resync(SYMBOL)
            await bot.until(lambda: len(bot.of(BookSnapshot)) == 2)
            seen = len(bot.of(BookDelta))
            await bot.until(lambda: len(bot.of(BookDelta)) > seen + 3)
            assert bot.of(BookLost) == []

    asyncio.run(story())


def test_an_order_is_placed_amended_and_cancelled_and_the_stream_says_so(venue: Venue):
    async def story() -> None:
        async with Bot(venue) as bot:
            quote = await bot.quote()
            outcome = await bot.adapter.place(quote, bot.instrument)
            assert isinstance(outcome, Accepted)
            await bot.until(lambda: bot.updates(quote.client_order_id) == [OrderStatus.WORKING])

            amend = AmendOrder(0, quote.client_order_id, SYMBOL, quote.price_ticks - 5, 7, 1)
            assert isinstance(await bot.adapter.amend(amend, bot.instrument), Accepted)
            (working,) = await bot.adapter.open_orders(SYMBOL, bot.instrument)
            assert (working.price_ticks, working.qty_lots) == (quote.price_ticks - 5, 7)
            assert working.venue_order_id == outcome.venue_order_id
            assert await bot.adapter.order(SYMBOL, quote.client_order_id, bot.instrument) == working

            cancel = CancelOrder(0, quote.client_order_id, SYMBOL)
            assert await bot.adapter.cancel(cancel) == Accepted(outcome.venue_order_id)
            await bot.until(lambda: OrderStatus.CANCELLED in bot.updates(quote.client_order_id))
            assert await bot.adapter.open_orders(SYMBOL, bot.instrument) == []
            gone = await bot.adapter.cancel(cancel)
            assert isinstance(gone, Accepted)
            assert gone.gone
            found = await bot.adapter.order(SYMBOL, quote.client_order_id, bot.instrument)
            assert found is not None
            assert found.status is OrderStatus.CANCELLED
            assert await bot.adapter.order(SYMBOL, "slwq-9-9", bot.instrument) is None

    asyncio.run(story())


def test_a_crossing_post_only_order_is_acknowledged_and_then_refused_by_its_reason(venue: Venue):
    async def story() -> None:
        async with Bot(venue) as bot:
            quote = await bot.quote(away_ticks=-200)
            assert isinstance(await bot.adapter.place(quote, bot.instrument), Accepted)
            await bot.until(lambda: bot.updates(quote.client_order_id) == [OrderStatus.REJECTED])
            (update,) = bot.of(OrderUpdated)
            assert update.order.post_only_refused
            assert bot.of(Filled) == []

    asyncio.run(story())


def test_a_duplicate_id_is_unknown_and_a_size_below_the_least_is_refused(venue: Venue):
    async def story() -> None:
        async with Bot(venue) as bot:
            quote = await bot.quote()
            await bot.adapter.place(quote, bot.instrument)
            again = await bot.adapter.place(quote, bot.instrument)
            assert isinstance(again, Unknown)
            assert again.code == 110072
            small = await bot.adapter.place(await bot.quote(lots=0), bot.instrument)
            assert isinstance(small, Refused)
            cancelled = await bot.adapter.cancel_all(SYMBOL)
            assert isinstance(cancelled, Accepted)
            assert cancelled.count == 1

    asyncio.run(story())


def test_fills_on_the_stream_by_rest_and_in_the_position_are_the_same_to_the_lot(venue: Venue):
    async def story() -> None:
        async with Bot(venue) as bot:
            since_ms = await bot.adapter.server_time_ms()
            quote = await bot.rest_at_the_touch(lots=20)
            await bot.until(lambda: sum(fill.qty_lots for fill in bot.of(Filled)) > 0)
            fills = bot.of(Filled)
            assert all(fill.is_maker and fill.side is Side.BUY for fill in fills)
            assert {fill.client_order_id for fill in fills} == {quote.client_order_id}
            await bot.adapter.cancel_all(SYMBOL)
            await bot.until(lambda: bot.updates(quote.client_order_id)[-1] is not OrderStatus.WORKING)
            position = await bot.adapter.position(SYMBOL)
            fills = await bot.adapter.executions(SYMBOL, since_ms - 60_000, bot.instrument)
            assert position.qty == bot.instrument.qty(sum(fill.qty_lots for fill in fills)) > 0
            assert {f.execution_id for f in bot.of(Filled)} == {f.execution_id for f in fills}
            assert await close_out(bot) == Decimal(0)

    asyncio.run(story())


async def close_out(bot: Bot) -> Decimal:
    position = await bot.adapter.position(SYMBOL)
    top = await bot.adapter.top_of_book(SYMBOL)
    limit = bot.instrument.price(bot.instrument.ticks_ceil(top.bid * Decimal("0.99")))
    order = ImmediateOrder("slwf-1-1", SYMBOL, Side.SELL, position.qty, limit)
    assert isinstance(await bot.adapter.place_immediate(order), Accepted)
    await bot.until(lambda: any(fill.client_order_id == "slwf-1-1" and not fill.is_maker for fill in bot.of(Filled)))
    return (await bot.adapter.position(SYMBOL)).qty


def test_answers_limits_and_latencies_are_shown(venue: Venue):
    async def story() -> None:
        begun_s = time.monotonic()
        async with Bot(venue) as bot:
            quote, placed_s = await bot.quote(), time.monotonic()
            await bot.adapter.place(quote, bot.instrument)
            took_ms = (time.monotonic() - placed_s) * 1000
            await bot.adapter.cancel_all(SYMBOL)
            assert bot.adapter.http_responses["/v5/order/create", "200"] == 1
            assert 0 < bot.adapter.rate_limit_headroom["/v5/order/create"] < 1
            ((name, labels, latency_ms),) = bot.adapter.drain_observations()
            assert (name, labels) == ("mm_order_latency_ms", (SYMBOL,))
            assert 0 < latency_ms <= took_ms + 1
            assert bot.adapter.connections_open == {"public": 1, "private": 1, "trade": 0}
            took_s = time.monotonic() - begun_s  # the way of an answer is in it
            assert abs(bot.adapter.clock_offset_ms) < 1000 * (1 + took_s)

    asyncio.run(story())


def test_wrong_keys_never_bring_the_private_stream_up(venue: Venue):
    async def story() -> None:
        heard: list[Event] = []
        adapter = BybitAdapter(venue.hosts, "no-such-key", "no-such-secret", [SYMBOL], time.time_ns)
        await adapter.start(heard.append)
        try:
            for _ in range(10_000):
                if any(isinstance(event, StreamDown) and event.stream == "private" for event in heard):
                    break
                await asyncio.sleep(0.005)
            with pytest.raises(VenueRefused):
                await adapter.position(SYMBOL)
            assert not any(isinstance(event, StreamUp) and event.stream == "private" for event in heard)
        finally:
            await adapter.close()

    asyncio.run(story())


def test_a_venue_that_dies_and_comes_back_is_unreachable_and_then_whole_again():
    venue = start_venue()
    port = int(venue.hosts.rest_url.rpartition(":")[2])
    reborn: list[Venue] = []

    async def story() -> None:
        async with Bot(venue) as bot:
            quote = await bot.quote()
            venue.process.kill()
            venue.process.wait(10)
            await bot.until(lambda: len(bot.of(StreamDown)) == 2 and len(bot.of(BookLost)) == 1)
            assert isinstance(await bot.adapter.place(quote, bot.instrument), Unreachable | Unknown)
            assert isinstance(await bot.adapter.place(quote, bot.instrument), Unreachable)
            with pytest.raises(VenueUnreachable):
                await bot.adapter.open_orders(SYMBOL, bot.instrument)
            reborn.append(await asyncio.to_thread(start_venue, port))
            # it has forgotten the account: the public stream alone comes back
            await bot.until(lambda: [event.stream for event in bot.of(StreamUp)].count("public") == 2)
            await bot.until(lambda: len(bot.of(BookSnapshot)) == 2)
            assert bot.adapter.ws_reconnects == 1

    try:
        asyncio.run(story())
    finally:
        for one in (venue, *reborn):
            one.process.kill()
            one.process.wait(10)


# ---- other processes ------------------------------------------------------------------------------------------------


def test_the_account_client_reads_and_changes_the_account(venue: Venue):
    account = venue.account()
    with client_of(venue, account) as client:
        asked_ms = time.time_ns() // 1_000_000
        assert asked_ms - 1000 < client.server_time_ms() < time.time_ns() // 1_000_000 + 1000
        instrument, top = client.instrument(SYMBOL), client.top_of_book(SYMBOL)
        assert top.bid < top.ask
        assert client.wallet_equity_quote() == Decimal(100_000)
        assert client.key_information().read_only == 0
        low = instrument.price(instrument.ticks_floor(top.bid * Decimal("0.98")))
        for n in range(3):
            client.place_post_only(SYMBOL, Side.BUY, Decimal("0.01"), low, f"slwq-0-{n}")
        orders = client.open_orders([SYMBOL])
        assert sorted(order.client_order_id for order in orders) == ["slwq-0-0", "slwq-0-1", "slwq-0-2"]
        assert client.cancel(orders[0])
        assert not client.cancel(orders[0])
        assert client.cancel_all(SYMBOL) == 2
        assert client.open_orders([SYMBOL]) == []
        assert client.positions([SYMBOL])[0].qty == 0
        assert client.executions(SYMBOL, client.server_time_ms() - 60_000) == []


def take(client: AccountClient, qty: Decimal) -> None:
    """Comes to hold a position by resting at the touch until somebody trades there."""
    deadline_s = time.monotonic() + 240
    n = 0
    while client.positions([SYMBOL])[0].qty <= 0:
        assert time.monotonic() < deadline_s, "nobody traded against the quote"
        n += 1
        client.place_post_only(SYMBOL, Side.BUY, qty, client.top_of_book(SYMBOL).bid, f"slwq-7-{n}")
        time.sleep(0.3)
        client.cancel_all(SYMBOL)


def test_the_kill_switch_cancels_flattens_and_proves_it_and_the_venues_truth_agrees(venue: Venue, tmp_path: Path):
    account = venue.account()
    environ = venue.environ | {"BYBIT_API_KEY": account["api_key"], "BYBIT_API_SECRET": account["api_secret"]}
    path = tmp_path / "latest.json"
    arguments = ["--flatten", "--symbols", SYMBOL, "--report", str(path)]
    with client_of(venue, account) as client:
        take(client, Decimal("0.05"))
        instrument, top = client.instrument(SYMBOL), client.top_of_book(SYMBOL)
        low = instrument.price(instrument.ticks_floor(top.bid * Decimal("0.97")))
        client.place_post_only(SYMBOL, Side.BUY, Decimal("0.01"), low, "slwq-8-1")

        assert run_command(arguments, environ) == 0
        dry = json.loads(path.read_text())
        assert (dry["status"], dry["reads"][-1]["own_open"], dry["flattened"]) == ("dry_run", 1, False)
        assert len(client.open_orders([SYMBOL])) == 1

        client.place_post_only(SYMBOL, Side.BUY, Decimal("0.01"), low, "by-hand")
        held = client.positions([SYMBOL])[0].qty
        assert run_command(["--execute", *arguments], environ) == 0
        report = json.loads(path.read_text())
        shown = [client.order(one["symbol"], one["client_order_id"]) for one in report["flattens"]]
        assert sum(order.filled for order in shown if order) == held > 0
    assert (report["status"], report["flattened"], report["cancelled"]) == ("executed", True, 1)
    assert report["reads"][-1]["own_open"] == 0
    assert report["reads"][-1]["foreign_open"] == 1
    truth = venue.control("GET", f"/sim/state?account={account['account']}")
    assert [order["client_order_id"] for order in truth["orders"]] == ["by-hand"]
    assert all(Decimal(position["qty"]) == 0 for position in truth["positions"])


def test_the_kill_switch_says_failed_where_the_venue_cannot_be_reached(tmp_path: Path, capfd):
    environ = {"BYBIT_API_KEY": "key-0123456789ab", "BYBIT_API_SECRET": "secret-0123456789"}
    environ["MM_VENUE_REST_URL"] = "http://127.0.0.1:9"  # the discard port: nobody listens
    path = tmp_path / "deep" / "latest.json"
    arguments = ["--execute", "--symbols", SYMBOL, "--deadline-s", "1", "--report", str(path)]
    assert run_command(arguments, environ) == 1
    report = json.loads(path.read_text())
    assert report["status"] == "failed"
    assert report == json.loads(capfd.readouterr().out)
    assert [left.name for left in path.parent.iterdir()] == ["latest.json"]


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("bot.venues.bybit.adapter", ("httpx", "bot.simulator", "prefect")),
        ("bot.runtime.kill_switch_command", ("aiohttp", "httpx", "bot.simulator")),
        ("bot.venues.bybit.account_client", ("aiohttp", "bot.simulator")),
    ],
)
def test_a_module_loads_nothing_its_process_cannot_afford(module: str, absent: tuple[str, ...]):
    code = f"import {module}, sys; print([name for name in {absent!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
