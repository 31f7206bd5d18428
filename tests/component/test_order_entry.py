"""Order entry over the link: by socket, in batches, by REST where that is away, and never past what is allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest
from msgspec import Raw

from bot.domain.events import Event, StreamDown
from bot.domain.intent import AmendOrder, CancelOrder, PlaceOrder
from bot.domain.order import Side
from bot.simulator.exchange import Exchange
from bot.simulator.link import HOSTS, SPOT_HOSTS, Latency, Link
from bot.simulator.listings import GENERATED, LISTINGS, exchange_of, generated
from bot.simulator.timeline import Timeline
from bot.venues.bybit import calls, wire
from bot.venues.bybit.adapter import BybitAdapter
from bot.venues.bybit.order_entry import OrderEntry
from bot.venues.bybit.rate_limits import (
    ADDRESS_REQUESTS_MAX,
    ADDRESS_WINDOW_MS,
    CANCEL_RESERVE,
    RESET_MAX_MS,
    RateLimits,
)
from bot.venues.port import Accepted, Outcome, Refused, Unknown, Unreachable

START_NS = 1_767_225_600_000_000_000


class Bench:
    """An adapter on a link, both in simulated time."""

    def __init__(self, link: Link, adapter: BybitAdapter, exchange: Exchange, told: list[Event]) -> None:
        self.link, self.adapter, self.exchange, self.told = link, adapter, exchange, told

    @property
    def orders(self) -> list[str]:
        """Client ids of all open orders."""
        holder = self.exchange.holders["sim-1"]
        return [order.link_id for account in holder.accounts for order in account.open_orders.values()]

    async def place(self, number: int, price_ticks: int = 550_000) -> Outcome:
        intent = PlaceOrder(0, f"slwq-1-{number}", "BTCUSDT", Side.BUY, price_ticks, 10, 1)
        return await self.adapter.place(intent, GENERATED)

    async def amend(self, number: int, price_ticks: int) -> Outcome:
        return await self.adapter.amend(AmendOrder(0, f"slwq-1-{number}", "BTCUSDT", price_ticks, 10, 1), GENERATED)

    async def cancel(self, number: int) -> Outcome:
        return await self.adapter.cancel(CancelOrder(0, f"slwq-1-{number}", "BTCUSDT"))

    def sent(self, path: str) -> int:
        """REST requests of that endpoint so far."""
        return sum(count for (endpoint, _), count in self.adapter.http_responses.items() if endpoint == path)


def play(work: Callable[[Bench], Awaitable[Any]], *, batches: bool = True, trade_socket: bool = True) -> Any:
    timeline = Timeline(START_NS)
    exchange = exchange_of([GENERATED], generated, seed=5, now_ns=START_NS)
    exchange.open_account("key", "secret", Decimal(100_000), START_NS)

    async def whole() -> Any:
        link = Link(exchange, timeline, Latency())
        adapter = BybitAdapter(
            HOSTS, "key", "secret", ["BTCUSDT"], timeline.now_ns,
            transport=link, trade_socket=trade_socket, batches=batches,
        )  # fmt: skip
        told: list[Event] = []
        link.start_market()
        await adapter.start(told.append)
        await asyncio.sleep(0.1)  # simulated time, until the sockets are up
        try:
            return await work(Bench(link, adapter, exchange, told))
        finally:
            await adapter.close()

    with asyncio.Runner(loop_factory=lambda: timeline) as runner:
        return runner.run(whole())


def test_orders_go_by_the_trade_socket_and_not_by_rest() -> None:
    async def work(bench: Bench) -> None:
        assert isinstance(await bench.place(1), Accepted)
        assert isinstance(await bench.amend(1, 551_000), Accepted)
        assert await bench.cancel(1) == Accepted(venue_order_id=(await _id_of(bench, 1)))
        assert [bench.sent(path) for path in (calls.CREATE, calls.AMEND, calls.CANCEL)] == [0, 0, 0]
        assert bench.adapter.rate_limit_headroom[calls.CREATE] == 0.9

    play(work)


async def _id_of(bench: Bench, number: int) -> str:
    order = await bench.adapter.order("BTCUSDT", f"slwq-1-{number}", GENERATED)
    assert order is not None
    return order.venue_order_id


def test_while_the_trade_socket_is_away_orders_go_by_rest_and_then_by_it_again() -> None:
    async def work(bench: Bench) -> None:
        bench.link.arm("disconnect", "", {"stream": "trade"})
        await asyncio.sleep(0.001)  # simulated time, until the stream has noticed
        assert isinstance(await bench.place(1), Accepted)
        assert bench.sent(calls.CREATE) == 1
        await asyncio.sleep(5)  # simulated time, past the back-off
        assert isinstance(await bench.place(2), Accepted)
        assert bench.sent(calls.CREATE) == 1
        assert bench.orders == ["slwq-1-1", "slwq-1-2"]
        assert bench.adapter.ws_reconnects == 1
        assert not [event for event in bench.told if isinstance(event, StreamDown)], "the engine need not know"

    play(work)


def test_what_was_sent_when_the_trade_socket_was_cut_is_unknown_and_not_sent_again() -> None:
    async def work(bench: Bench) -> None:
        asked = asyncio.create_task(bench.place(1))
        await asyncio.sleep(0.0045)  # the request has arrived, the answer has not left for long
        bench.link.arm("disconnect", "", {"stream": "trade"})
        outcome = await asked
        assert isinstance(outcome, Unknown)
        assert "lost" in outcome.detail
        assert bench.orders == ["slwq-1-1"]
        assert bench.sent(calls.CREATE) == 0

    play(work)


def test_a_trade_socket_whose_key_the_venue_takes_no_more_is_left_for_one_with_the_key_of_now() -> None:
    async def work(bench: Bench) -> None:
        assert isinstance(await bench.place(1), Accepted)
        bench.link.arm("refuse", "sim-1", {"request": "cancel", "code": 10003})
        assert isinstance(await bench.cancel(1), Refused)
        assert bench.adapter.key_refusals == 1
        await asyncio.sleep(0.001)  # simulated time, until the stream has ended
        assert bench.adapter.connections_open["trade"] == 0
        assert isinstance(await bench.cancel(1), Accepted), "by REST, which signs each request anew"
        await asyncio.sleep(5)  # simulated time, past the back-off
        assert bench.adapter.connections_open["trade"] == 1

    play(work, batches=False)


def test_an_answer_that_never_comes_by_socket_is_unknown() -> None:
    async def work(bench: Bench) -> None:
        bench.link.arm("accept_then_timeout", "sim-1", {})
        assert isinstance(await bench.place(1), Unknown)
        assert bench.orders == ["slwq-1-1"]

    play(work)


@pytest.mark.parametrize("trade_socket", [True, False])
def test_what_is_decided_in_one_turn_leaves_as_one_request_and_is_answered_one_by_one(trade_socket: bool) -> None:
    async def work(bench: Bench) -> None:
        outcomes = await asyncio.gather(bench.place(1), bench.place(2), bench.place(2), bench.place(3))
        assert [type(outcome) for outcome in outcomes] == [Accepted, Accepted, Unknown, Accepted]
        assert [getattr(outcome, "code", 0) for outcome in outcomes] == [0, 0, 110072, 0]
        amends = await asyncio.gather(bench.amend(1, 551_000), bench.amend(2, 552_000), bench.amend(9, 553_000))
        assert [type(outcome) for outcome in amends] == [Accepted, Accepted, Accepted]
        assert isinstance(amends[2], Accepted)
        assert amends[2].gone
        prices = [order.price_ticks for order in bench.exchange.holders["sim-1"].accounts[0].open_orders.values()]
        assert prices == [551_000, 552_000, 550_000]
        await asyncio.gather(*(bench.cancel(number) for number in (1, 2, 3)))
        assert bench.orders == []
        wanted = 0 if trade_socket else 1
        batches = (calls.CREATE_BATCH, calls.AMEND_BATCH, calls.CANCEL_BATCH)
        assert [bench.sent(path) for path in batches] == [wanted] * 3

    play(work, trade_socket=trade_socket)


def test_a_bucket_that_runs_out_in_a_batch_leaves_the_rest_unknown_and_the_next_is_not_sent() -> None:
    async def work(bench: Bench) -> None:
        outcomes = await asyncio.gather(*(bench.place(number) for number in range(12)))
        assert [type(outcome) for outcome in outcomes] == [Accepted] * 10 + [Unknown] * 2
        refused = await asyncio.gather(bench.place(20), bench.place(21))
        assert all(isinstance(outcome, Unreachable) and "rate limit" in outcome.detail for outcome in refused)
        gone = await asyncio.gather(bench.cancel(0), bench.cancel(1))
        assert all(isinstance(outcome, Accepted) for outcome in gone), "cancels have a bucket of their own"
        await asyncio.sleep(1.0)  # simulated time, until the bucket is full again
        assert isinstance((await asyncio.gather(bench.place(22), bench.place(23)))[1], Accepted)

    play(work)


def test_an_endpoint_that_is_said_to_be_exhausted_is_not_asked_until_it_takes_more() -> None:
    async def work(bench: Bench) -> None:
        outcomes = [await bench.place(number) for number in range(12)]
        assert [type(outcome) for outcome in outcomes] == [Accepted] * 10 + [Unreachable] * 2
        assert bench.sent(calls.CREATE) == 10
        assert isinstance(await bench.cancel(3), Accepted)
        for _ in range(8):  # reads wait for their turn instead
            await bench.adapter.fee_rates("BTCUSDT")

    play(work, batches=False, trade_socket=False)


def test_of_what_an_address_may_ask_a_part_is_kept_for_cancels() -> None:
    limits = RateLimits()
    for number in range(ADDRESS_REQUESTS_MAX - CANCEL_RESERVE):
        assert limits.wait_ms(calls.CREATE, number, is_cancel=False) == 0
        limits.sent(number)
    now_ms = ADDRESS_REQUESTS_MAX - CANCEL_RESERVE
    assert limits.wait_ms(calls.CREATE, now_ms, is_cancel=False) == ADDRESS_WINDOW_MS - now_ms
    for _ in range(CANCEL_RESERVE):
        assert limits.wait_ms(calls.CANCEL, now_ms, is_cancel=True) == 0
        limits.sent(now_ms)
    assert limits.wait_ms(calls.CANCEL, now_ms, is_cancel=True) > 0
    limits.sent(ADDRESS_WINDOW_MS + now_ms)
    assert limits.wait_ms(calls.CREATE, ADDRESS_WINDOW_MS + now_ms, is_cancel=False) == 0


def test_a_moment_that_no_bucket_can_mean_silences_no_endpoint() -> None:
    limits, now_ms = RateLimits(), 1_767_225_600_000
    limits.sent(now_ms)
    said = {"x-bapi-limit": "10", "x-bapi-limit-status": "0"}
    limits.heard(calls.CANCEL, {**said, "x-bapi-limit-reset-timestamp": str(now_ms + 700)})
    assert limits.wait_ms(calls.CANCEL, now_ms, is_cancel=True) == 700
    limits.heard(calls.CANCEL, {**said, "x-bapi-limit-reset-timestamp": str(now_ms * 1_000)})  # in microseconds
    assert limits.wait_ms(calls.CANCEL, now_ms, is_cancel=True) == RESET_MAX_MS
    assert limits.wait_ms(calls.CANCEL, now_ms + RESET_MAX_MS, is_cancel=True) == 0


@pytest.mark.parametrize(("stream", "kind"), [("private", "private"), ("public", "public")])
def test_a_connection_that_is_open_and_silent_is_found_out_and_opened_again(stream: str, kind: str) -> None:
    async def work(bench: Bench) -> None:
        bench.link.arm("stall", "", {"stream": stream})
        await asyncio.sleep(46)  # simulated time: a ping is due every 20 s
        (down, *_) = [event for event in bench.told if isinstance(event, StreamDown)]
        assert down.stream == kind
        assert "silent" in down.reason or "no market data" in down.reason
        assert down.at_ns - START_NS <= 46e9
        bench.link.arm("unstall", "", {})
        await asyncio.sleep(15)  # simulated time, past the back-off
        assert bench.adapter.connections_open == {"public": 1, "private": 1, "trade": 1}

    play(work)


def test_spot_trades_without_positions_and_holds_what_the_wallet_holds() -> None:
    timeline = Timeline(START_NS)
    eth = LISTINGS["spot", "ETHUSDT"].instrument
    exchange = exchange_of([GENERATED, eth], generated, seed=5, now_ns=START_NS)
    holder = exchange.open_account("key", "secret", Decimal(100_000), START_NS)

    async def whole() -> None:
        link = Link(exchange, timeline, Latency())
        adapter = BybitAdapter(
            SPOT_HOSTS, "key", "secret", ["ETHUSDT"], timeline.now_ns,
            category="spot", transport=link, trade_socket=True, batches=True,
        )  # fmt: skip
        told: list[Event] = []
        link.start_market()
        await adapter.start(told.append)
        await asyncio.sleep(0.3)  # simulated time
        position = await adapter.position("ETHUSDT")
        assert position.qty == holder.coins["ETH"] > 0
        top = await adapter.top_of_book("ETHUSDT")
        assert top.bid < position.entry_price < top.ask
        ask_ticks = eth.ticks(top.ask)
        crossing = PlaceOrder(0, "slwq-1-1", "ETHUSDT", Side.BUY, ask_ticks + 50, 100, 1)
        refused = await adapter.place(crossing, eth)
        assert isinstance(refused, Refused)
        assert refused.post_only
        resting = PlaceOrder(0, "slwq-1-2", "ETHUSDT", Side.BUY, ask_ticks - 2_000, 100, 1)
        assert isinstance(await adapter.place(resting, eth), Accepted)
        assert [order.client_order_id for order in await adapter.open_orders("ETHUSDT", eth)] == ["slwq-1-2"]
        assert await adapter.cancel_all("ETHUSDT") == Accepted(count=1)
        assert (await adapter.wallet(eth)).equity_quote > 100_000
        await adapter.close()

    with asyncio.Runner(loop_factory=lambda: timeline) as runner:
        runner.run(whole())


class Reordering:
    """A venue that answers a batch in another order than it was asked: the first was refused."""

    def __init__(self) -> None:
        self.limits = RateLimits()

    def take_turn(self, path: str, *, is_cancel: bool) -> None:
        """Always room."""

    async def exchange(self, call: calls.Call) -> wire.Envelope:
        rows = {
            calls.CREATE_BATCH: b'{"list":[{"orderId":"v2","orderLinkId":"slwq-1-2"},'
            b'{"orderId":"","orderLinkId":"slwq-1-1"}]}',
            calls.CANCEL_BATCH: b'{"list":[{"orderId":"v2","orderLinkId":""},{"orderId":"v1","orderLinkId":""}]}',
        }[call.path]
        ends = b'{"list":[{"code":0,"msg":"OK"},{"code":110007,"msg":"balance"}]}'
        return wire.Envelope(0, "OK", Raw(rows), ret_ext_info=Raw(ends))


def test_rows_of_a_batch_that_name_other_orders_than_were_asked_leave_all_unknown() -> None:
    def create(number: int) -> calls.Call:
        qty, price, name = Decimal("0.01"), Decimal(50_000), f"slwq-1-{number}"
        return calls.create_post_only("linear", "BTCUSDT", Side.BUY, qty, price, name, reduce_only=False)

    async def work() -> list[Outcome]:
        entry = OrderEntry(Reordering(), None, 1.0, 20, lambda _: True)  # type: ignore[arg-type]  # enough of it
        return await asyncio.gather(entry.mutate(create(1)), entry.mutate(create(2)))

    outcomes = asyncio.run(work())
    assert [type(outcome) for outcome in outcomes] == [Unknown, Unknown]


def test_rows_of_cancels_by_the_venues_own_ids_are_held_against_those() -> None:
    def cancel(number: int) -> calls.Call:
        return calls.cancel("linear", "BTCUSDT", venue_order_id=f"v{number}")

    async def work() -> list[Outcome]:
        entry = OrderEntry(Reordering(), None, 1.0, 20, lambda _: True)  # type: ignore[arg-type]  # enough of it
        return await asyncio.gather(entry.mutate(cancel(1)), entry.mutate(cancel(2)))

    outcomes = asyncio.run(work())
    assert [type(outcome) for outcome in outcomes] == [Unknown, Unknown]
