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
    SHUT_OUT_MS,
    WINDOW_MS,
    RateLimits,
)
from bot.venues.port import Accepted, Outcome, Refused, Unknown, Unreachable, VenueUnreachable

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


WAYS = pytest.mark.parametrize(
    "way",
    [{"trade_socket": False, "batches": False}, {"batches": False}, {"trade_socket": False}, {}],
    ids=["by REST", "by socket", "in a batch by REST", "in a batch by socket"],
)


@WAYS
def test_of_more_than_an_endpoint_still_takes_the_rest_does_not_leave(way: dict[str, bool]) -> None:
    """Each would be answered that it is one too many, and be of unknown outcome for it."""
    eight = [10 + number for number in range(8)]

    async def work(bench: Bench) -> None:
        if way.get("batches", True):
            await asyncio.gather(*(bench.place(number) for number in range(8)))
        else:
            for number in range(8):
                await bench.place(number)
        outcomes = await asyncio.gather(*(bench.place(number) for number in eight))
        assert [type(outcome) for outcome in outcomes] == [Accepted] * 2 + [Unreachable] * 6
        assert all("rate limit" in outcome.detail for outcome in outcomes if isinstance(outcome, Unreachable))
        assert len(bench.orders) == 10
        gone = await asyncio.gather(*(bench.cancel(number) for number in range(8)), bench.cancel(10), bench.cancel(11))
        assert all(isinstance(outcome, Accepted) for outcome in gone), "cancels have a bucket of their own"
        await asyncio.sleep(1.0)  # simulated time, until the bucket is full again
        again = await asyncio.gather(*(bench.place(20 + number) for number in range(12)))
        assert [type(outcome) for outcome in again] == [Accepted] * 10 + [Unreachable] * 2

    play(work, **way)


@WAYS
def test_of_a_first_turn_nothing_is_known_and_after_it_the_venue_is_believed(way: dict[str, bool]) -> None:
    async def work(bench: Bench) -> None:
        outcomes = await asyncio.gather(*(bench.place(number) for number in range(12)))
        assert [type(outcome) for outcome in outcomes] == [Accepted] * 10 + [Unknown] * 2
        refused = await asyncio.gather(bench.place(20), bench.place(21))
        assert all(isinstance(outcome, Unreachable) and "rate limit" in outcome.detail for outcome in refused)

    play(work, **way)


def test_an_address_that_is_shut_out_asks_nothing_for_ten_minutes_but_to_cancel() -> None:
    async def work(bench: Bench) -> None:
        assert isinstance(await bench.place(1), Accepted)
        bench.link.arm("http_error", "sim-1", {"status": "403"})
        assert isinstance(await bench.place(2), Unknown)
        refused = await bench.place(3)
        assert isinstance(refused, Unreachable)
        assert f"{SHUT_OUT_MS} ms" in refused.detail
        with pytest.raises(VenueUnreachable):
            await bench.adapter.position("BTCUSDT")
        assert bench.sent(calls.POSITIONS) == 0
        assert isinstance(await bench.cancel(1), Accepted), "a cancel is tried all the same"
        assert isinstance(await bench.adapter.cancel_all("BTCUSDT"), Accepted)
        await asyncio.sleep(SHUT_OUT_MS / 1_000)  # simulated time
        assert isinstance(await bench.place(4), Accepted)
        await bench.adapter.position("BTCUSDT")

    play(work, batches=False, trade_socket=False)


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


NOW_MS = 1_767_225_600_000


def said(left: int, resets_ms: int, limit: int = 10) -> dict[str, str]:
    """Headers of an answer."""
    return {
        "x-bapi-limit": str(limit),
        "x-bapi-limit-status": str(left),
        "x-bapi-limit-reset-timestamp": str(resets_ms),
    }


def test_a_moment_that_no_bucket_can_mean_silences_no_endpoint() -> None:
    limits = RateLimits()
    limits.heard(calls.CANCEL, said(0, NOW_MS + 700), NOW_MS)
    assert limits.wait_ms(calls.CANCEL, NOW_MS, is_cancel=True) == 700
    limits.heard(calls.CANCEL, said(0, NOW_MS * 1_000), NOW_MS)  # in microseconds
    assert limits.wait_ms(calls.CANCEL, NOW_MS, is_cancel=True) == RESET_MAX_MS
    assert limits.wait_ms(calls.CANCEL, NOW_MS + RESET_MAX_MS, is_cancel=True) == 0


def take(limits: RateLimits, wanted: int, now_ms: int, path: str = calls.CREATE) -> int:
    return limits.take(path, wanted, now_ms, is_cancel=path in (calls.CANCEL, calls.CANCEL_BATCH))


def test_what_is_under_way_is_not_counted_by_the_venue_yet_and_by_us_already() -> None:
    limits = RateLimits()
    assert take(limits, 3, NOW_MS) == 3
    limits.heard(calls.CREATE, said(9, NOW_MS + 900), NOW_MS + 10)
    assert take(limits, 20, NOW_MS + 10) == 7, "two of three are still on their way there"


def test_what_never_left_comes_back_and_what_nobody_answered_does_not() -> None:
    limits = RateLimits()
    take(limits, 1, NOW_MS)
    limits.heard(calls.CREATE, said(9, NOW_MS + 900), NOW_MS)
    assert take(limits, 9, NOW_MS + 1) == 9
    limits.returned(calls.CREATE, 4)
    limits.unheard(calls.CREATE, 5)
    assert take(limits, 9, NOW_MS + 2) == 4


def test_the_count_is_forgotten_at_the_reset_and_the_whole_limit_is_there_again() -> None:
    limits = RateLimits()
    take(limits, 8, NOW_MS)
    limits.heard(calls.CREATE, said(2, NOW_MS + 600), NOW_MS + 5, taken=8)
    assert take(limits, 9, NOW_MS + 599) == 2
    assert take(limits, 9, NOW_MS + 599) == 0
    assert take(limits, 20, NOW_MS + 600) == 10


@pytest.mark.parametrize("resets_ms", [0, NOW_MS, NOW_MS + 7], ids=["none", "now", "now by another clock"])
def test_without_a_moment_of_reset_the_count_is_forgotten_a_second_after_the_last_answer(resets_ms: int) -> None:
    limits = RateLimits()
    take(limits, 8, NOW_MS - 5)
    limits.heard(calls.CREATE, said(2, resets_ms), NOW_MS, taken=8)
    assert take(limits, 9, NOW_MS + 900) == 2
    limits.heard(calls.CREATE, {}, NOW_MS + 950, taken=2)
    assert limits.wait_ms(calls.CREATE, NOW_MS + 950, is_cancel=False) == WINDOW_MS
    assert take(limits, 20, NOW_MS + 950 + WINDOW_MS) == 10


def test_answers_of_one_window_that_overtake_each_other_give_nothing_back() -> None:
    limits = RateLimits()
    take(limits, 2, NOW_MS)
    limits.heard(calls.CREATE, said(4, NOW_MS + 600), NOW_MS + 5)
    limits.heard(calls.CREATE, said(5, NOW_MS + 600), NOW_MS + 6)
    assert take(limits, 9, NOW_MS + 7) == 3, "four less the one that was under way then"


def test_a_cancel_is_held_back_by_the_word_of_the_venue_alone() -> None:
    limits = RateLimits()
    take(limits, 8, NOW_MS, calls.CANCEL_BATCH)
    limits.heard(calls.CANCEL_BATCH, said(2, NOW_MS + 600), NOW_MS, taken=8)
    assert take(limits, 6, NOW_MS, calls.CANCEL_BATCH) == 6, "by our count four too many"
    limits.heard(calls.CANCEL_BATCH, said(0, NOW_MS + 600), NOW_MS, taken=6)
    assert take(limits, 6, NOW_MS, calls.CANCEL_BATCH) == 0


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

    def take_turns(self, path: str, wanted: int, *, is_cancel: bool) -> int:
        """Always room."""
        return wanted

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


def hear_trade_socket(bench: Bench) -> list[str]:
    """What arrives on the trade socket from now on."""
    heard: list[str] = []
    (trade,) = [socket for socket in bench.link._sockets if socket.kind == "trade"]
    arrive = trade.arrive

    def heard_and_taken(text: str) -> None:
        heard.append(text)
        arrive(text)

    trade.arrive = heard_and_taken  # type: ignore[method-assign]
    return heard


def test_a_request_that_the_socket_carries_twice_happens_once_and_its_second_answer_is_nobody_s() -> None:
    async def work(bench: Bench) -> None:
        bench.link.arm("way", "", {"way": "request", "doubled_pct": 100})
        heard = hear_trade_socket(bench)
        assert isinstance(await bench.place(1), Accepted)
        together = await asyncio.gather(bench.place(2), bench.place(3))
        assert all(isinstance(outcome, Accepted) for outcome in together)
        assert isinstance(await bench.amend(1, 551_000), Accepted)
        await asyncio.sleep(0.05)  # simulated time, until the last second answer is here
        assert sum('"retCode":20006' in text for text in heard) == 3
        assert bench.orders == ["slwq-1-1", "slwq-1-2", "slwq-1-3"]
        assert bench.adapter.connections_open["trade"] == 1

    play(work)


def test_requests_of_the_socket_that_change_places_happen_in_that_order() -> None:
    async def work(bench: Bench) -> None:
        bench.link.arm("way", "", {"way": "request", "swapped_pct": 100})
        asked = asyncio.gather(bench.place(1), bench.amend(1, 551_000))
        placed, amended = await asked
        assert isinstance(placed, Accepted)
        assert amended == Accepted(gone=True), "there was no such order yet"

    play(work, batches=False)


def test_answers_of_the_socket_that_change_places_are_told_apart_by_their_numbers() -> None:
    async def work(bench: Bench) -> None:
        bench.link.arm("way", "", {"way": "answer", "swapped_pct": 100})
        heard = hear_trade_socket(bench)
        placed, amended = await asyncio.gather(bench.place(1), bench.amend(9, 551_000))
        assert placed != Accepted(gone=True) == amended
        assert ["order.amend" in text for text in heard] == [True, False]

    play(work, batches=False)


def test_a_clock_that_is_put_right_leaves_no_endpoint_waiting_for_the_time_it_showed() -> None:
    """A bucket's moment, the count of the address and its time outside are as far away as they were."""

    async def work(bench: Bench) -> None:
        bench.link.arm("clock_skew", "", {"ms": 60_000})
        await bench.place(0)  # its time was refused, and the clock read again
        for number in range(10):
            await bench.place(1 + number)
        assert "rate limit" in getattr(await bench.place(20), "detail", "")
        bench.link.arm("clock_skew", "", {"ms": 0})
        await bench.cancel(1)  # so is this one's
        assert isinstance(await bench.place(21), Unreachable), "the second is not over"
        await asyncio.sleep(WINDOW_MS / 1_000)  # simulated time
        assert isinstance(await bench.place(22), Accepted)

    play(work, batches=False, trade_socket=False)


def test_a_clock_that_is_read_after_waiting_for_its_turn_is_not_off_by_the_wait() -> None:
    async def work(bench: Bench) -> None:
        rest = bench.adapter._rest
        before_ms = rest.clock_offset_ms
        for _ in range(ADDRESS_REQUESTS_MAX - CANCEL_RESERVE):
            rest.limits.sent(rest.venue_now_ms() - ADDRESS_WINDOW_MS + 1_000)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await rest.sync_clock()
        assert loop.time() - began_s >= 1.0, "it had to wait"
        assert abs(rest.clock_offset_ms - before_ms) <= 1

    play(work)


@pytest.mark.parametrize("number", ["9" * 400, "9" * 5_000, "٣", "-1", "1.5", ""])
def test_a_header_that_is_no_number_that_means_anything_says_nothing(number: str) -> None:
    """An answer with it is an answer all the same."""
    for name in said(3, NOW_MS + 900):
        limits = RateLimits()
        take(limits, 1, NOW_MS)
        limits.heard(calls.CREATE, {**said(3, NOW_MS + 900), name: number}, NOW_MS)
        assert limits.headroom == ({calls.CREATE: 0.3} if "reset" in name else {})
        assert 3 <= take(limits, 20, NOW_MS + 1) <= 20
