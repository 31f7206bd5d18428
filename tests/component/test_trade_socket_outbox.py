"""The trade socket's outbox: what waits for the socket leaves under a grant that holds, or it does not leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Never

import pytest

from bot.domain.order import Side
from bot.simulator.listings import GENERATED
from bot.simulator.timeline import Timeline
from bot.venues.bybit import calls
from bot.venues.bybit.calls import Call
from bot.venues.bybit.order_entry import OrderEntry
from bot.venues.bybit.rest import BybitRest
from bot.venues.bybit.sockets import PONG_WITHIN_S
from bot.venues.bybit.trade_stream import NO_GRANT, TradeStream
from bot.venues.port import Accepted, Outcome, Unknown, Unreachable
from bot.venues.transport import HttpAnswer, SocketClosed

START_NS = 1_767_225_600_000_000_000
EPOCH = 7
TIMEOUT_S = 2.0


class Clogged:
    """A trade socket that takes messages while `takes` is set, and answers what it has taken."""

    def __init__(self) -> None:
        self.takes = asyncio.Event()
        self.takes.set()
        self.written: list[dict[str, Any]] = []
        self.closed = asyncio.Event()
        self.silent = False
        self._incoming: asyncio.Queue[str] = asyncio.Queue()

    async def drained(self) -> None:
        await self.takes.wait()

    async def send(self, text: str) -> None:
        message = json.loads(text)
        self.written.append(message)
        if self.silent:
            return
        if message["op"] == "auth":
            self._incoming.put_nowait('{"op":"auth","retCode":0}')
        elif message["op"] != "ping":
            answer = {"op": message["op"], "reqId": message["reqId"], "retCode": 0, "data": {"orderId": "v-1"}}
            self._incoming.put_nowait(json.dumps(answer))

    async def receive(self) -> str:
        getting, closing = (asyncio.ensure_future(one) for one in (self._incoming.get(), self.closed.wait()))
        done, _ = await asyncio.wait({getting, closing}, return_when=asyncio.FIRST_COMPLETED)
        for one in (getting, closing):
            one.cancel()
        if getting in done:
            return str(getting.result())
        raise SocketClosed("closed")

    async def hand_over(self, take: Callable[[bytes | str], None]) -> Never:
        while True:
            take(await self.receive())

    async def close(self) -> None:
        self.closed.set()

    @property
    def orders(self) -> list[str]:
        return [message["args"][0]["orderLinkId"] for message in self.written if message["op"] == "order.create"]


class OneSocket:
    """A transport to that socket; there is no REST behind it."""

    def __init__(self, socket: Clogged) -> None:
        self._socket = socket

    async def connect(self, url: str, timeout_s: float) -> Clogged:
        return self._socket

    async def request(self, *_: object) -> HttpAnswer:
        raise AssertionError("nothing goes by REST here")

    async def close(self) -> None: ...


class Bench:
    """Order entry by that socket alone; the grant of EPOCH holds while `granted` is true."""

    def __init__(self, timeline: Timeline) -> None:
        self.socket = Clogged()
        self.granted = True
        transport = OneSocket(self.socket)
        rest = BybitRest(transport, "", "key", "secret", timeline.now_ns, 5000, TIMEOUT_S)
        self.trade = TradeStream(
            "ws://trade", transport, timeline.now_ns, Random(1), rest.resync_quietly, "key", "secret",
            rest.venue_now_ms, 5000, self.permitted,
        )  # fmt: skip
        self.entry = OrderEntry(rest, self.trade, TIMEOUT_S, 1, self.permitted)

    def permitted(self, epoch: int) -> bool:
        return self.granted and epoch == EPOCH

    def ask(self, call: Call) -> asyncio.Task[Outcome]:
        return asyncio.create_task(self.entry.mutate(call))


def create(number: int) -> Call:
    return calls.create_post_only(
        "linear", "BTCUSDT", Side.BUY, GENERATED.qty(10), GENERATED.price(550_000), f"slwq-7-{number}", False, EPOCH
    )


def play(work: Callable[[Bench], Awaitable[None]]) -> None:
    timeline = Timeline(START_NS)

    async def whole() -> None:
        bench = Bench(timeline)
        running = asyncio.create_task(bench.trade.run())
        await asyncio.sleep(0.1)  # simulated time, until it is up
        assert bench.trade.is_up
        try:
            await work(bench)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    with asyncio.Runner(loop_factory=lambda: timeline) as runner:
        runner.run(whole())


def test_an_order_that_waits_for_the_socket_past_the_end_of_its_grant_is_never_written() -> None:
    async def work(bench: Bench) -> None:
        bench.socket.takes.clear()
        waiting = bench.ask(create(1))
        await asyncio.sleep(0.5)  # simulated time
        bench.granted = False
        await asyncio.sleep(0.5)
        bench.socket.takes.set()
        assert await waiting == Unreachable(NO_GRANT)
        await asyncio.sleep(10)
        assert bench.socket.orders == []

    play(work)


def test_a_cancel_that_waits_for_the_socket_needs_no_grant() -> None:
    async def work(bench: Bench) -> None:
        bench.socket.takes.clear()
        waiting = bench.ask(calls.cancel("linear", "BTCUSDT", client_order_id="slwq-7-1"))
        await asyncio.sleep(0.5)  # simulated time
        bench.granted = False
        bench.socket.takes.set()
        assert isinstance(await waiting, Accepted)

    play(work)


def test_an_order_whose_time_is_up_before_the_socket_takes_it_did_not_happen_and_does_not_leave_later() -> None:
    async def work(bench: Bench) -> None:
        bench.socket.takes.clear()
        outcome = await bench.ask(create(1))
        assert isinstance(outcome, Unreachable), outcome
        assert "took nothing" in outcome.detail
        bench.socket.takes.set()
        assert isinstance(await bench.ask(create(2)), Accepted)
        assert bench.socket.orders == ["slwq-7-2"]

    play(work)


def test_an_order_that_was_written_and_not_answered_in_time_stays_unknown() -> None:
    async def work(bench: Bench) -> None:
        bench.socket.silent = True
        assert isinstance(await bench.ask(create(1)), Unknown)
        assert bench.socket.orders == ["slwq-7-1"]

    play(work)


@pytest.mark.parametrize(("takes", "wanted"), [(True, Unknown), (False, Unreachable)])
def test_when_the_socket_is_lost_only_what_was_written_is_unknown(takes: bool, wanted: type) -> None:
    async def work(bench: Bench) -> None:
        bench.socket.silent = True
        if not takes:
            bench.socket.takes.clear()
        waiting = bench.ask(create(1))
        await asyncio.sleep(0.5)  # simulated time
        await bench.socket.close()
        outcome = await waiting
        assert isinstance(outcome, wanted), outcome
        assert len(bench.socket.orders) == takes

    play(work)


def test_a_socket_that_takes_nothing_any_more_is_left() -> None:
    async def work(bench: Bench) -> None:
        bench.socket.takes.clear()
        waiting = bench.ask(create(1))
        await asyncio.sleep(PONG_WITHIN_S + 0.1)  # simulated time
        assert bench.socket.closed.is_set()
        assert not bench.trade.is_up
        assert isinstance(await waiting, Unreachable)

    play(work)
