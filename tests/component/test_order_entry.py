"""Order entry over the link: by socket, in batches, and by REST where that is away."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from msgspec import Raw

from bot.domain.events import Event, StreamDown
from bot.domain.intent import PlaceOrder
from bot.domain.order import Side
from bot.simulator.link import SPOT_HOSTS, Latency, Link
from bot.simulator.listings import GENERATED, LISTINGS, exchange_of, generated
from bot.simulator.timeline import Timeline
from bot.venues.bybit import calls, wire
from bot.venues.bybit.adapter import BybitAdapter
from bot.venues.bybit.order_entry import OrderEntry
from bot.venues.bybit.rate_limits import (
    RateLimits,
)
from bot.venues.port import Accepted, Outcome, Refused, Unknown
from tests.support.entry_bench import START_NS, Bench, play


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


@pytest.mark.parametrize("stream", ["private", "public", "trade"])
def test_a_connection_that_is_open_and_silent_is_found_out_and_opened_again(
    stream: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(bench: Bench) -> None:
        bench.link.arm("stall", "", {"stream": stream})
        await asyncio.sleep(46)  # simulated time: a ping is due every 20 s
        (down, *_) = [text for text in caplog.messages if text.startswith(f"{stream} stream down")]
        assert "silent" in down or "no market data" in down
        told = [event for event in bench.told if isinstance(event, StreamDown)]
        assert {event.stream for event in told} == {stream} - {"trade"}, "the engine need not know of that one"
        assert all(event.at_ns - START_NS <= 46e9 for event in told)
        bench.link.arm("unstall", "", {})
        await asyncio.sleep(15)  # simulated time, past the back-off
        assert bench.adapter.connections_open == {"public": 1, "private": 1, "trade": 1}

    play(work)


def test_a_silent_trade_socket_takes_one_operation_and_then_orders_go_by_rest() -> None:
    async def work(bench: Bench) -> None:
        assert isinstance(await bench.place(1), Accepted)
        bench.link.arm("stall", "", {"stream": "trade"})
        assert isinstance(await bench.place(2), Unknown)
        assert bench.orders == ["slwq-1-1", "slwq-1-2"], "the venue hears what it does not answer"
        assert isinstance(await bench.cancel(1), Accepted)
        assert isinstance(await bench.cancel(2), Accepted)
        assert bench.sent(calls.CANCEL) == 2
        assert bench.orders == []
        assert not [event for event in bench.told if isinstance(event, StreamDown)], "the engine need not know"
        bench.link.arm("unstall", "", {})
        await asyncio.sleep(15)  # simulated time, past the greeting that waits and the back-off
        assert bench.adapter.connections_open == {"public": 1, "private": 1, "trade": 1}
        assert isinstance(await bench.place(3), Accepted)
        assert bench.sent(calls.CREATE) == 0

    play(work, batches=False)


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

    def begin(self, call: calls.Call, _: object) -> asyncio.Future[calls.Call]:
        answered = asyncio.get_running_loop().create_future()
        answered.set_result(call)
        return answered

    def end(self, call: calls.Call, answered: asyncio.Future[calls.Call]) -> calls.Call:
        return answered.result()

    def enveloped(self, call: calls.Call, _: object) -> wire.Envelope:
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
