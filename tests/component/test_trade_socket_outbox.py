"""The trade socket's outbox: what waits for the socket leaves under a grant that holds, or it does not leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Never

import msgspec
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
from bot.venues.port import Accepted, Ended, Outcome, Unknown, Unreachable
from bot.venues.transport import HttpAnswer, NotSent, SocketClosed

START_NS = 1_767_225_600_000_000_000
EPOCH = 7
TIMEOUT_S = 2.0


class Clogged:
    """A trade socket that takes messages while `taking` is set, and answers what it has taken."""

    def __init__(self) -> None:
        self.taking = asyncio.Event()
        self.taking.set()
        self.written: list[dict[str, Any]] = []
        self.closed = asyncio.Event()
        self.closes = asyncio.Event()
        self.closes.set()
        self.silent = False
        self.full: bool | None = None
        """What it says when it is asked whether it takes anything; None: what is so"""
        self.breaks = False
        self.texts: list[str] = []
        self.lets_go_s = 0.0
        """How long whoever waited for it to take something still takes to end"""
        self._incoming: asyncio.Queue[str] = asyncio.Queue()

    def takes(self) -> bool:
        return self.taking.is_set() if self.full is None else not self.full

    async def drained(self) -> None:
        try:
            await self.taking.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(self.lets_go_s)
            raise

    async def send(self, text: str) -> None:
        self.send_now(text)

    def send_now(self, text: str) -> None:
        if self.breaks:
            raise SocketClosed("reset")
        message = json.loads(text)
        self.texts.append(text)
        self.written.append(message)
        if self.silent:
            return
        if message["op"] == "auth":
            self._incoming.put_nowait('{"op":"auth","retCode":0}')
        elif message["op"] != "ping":
            answer = {"op": message["op"], "reqId": message["reqId"], "retCode": 0, "data": {"orderId": "v-1"}}
            self._incoming.put_nowait(json.dumps(answer))

    def say(self, text: str) -> None:
        """Something from the other end."""
        self._incoming.put_nowait(text)

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
        await self.closes.wait()
        self.closed.set()

    @property
    def orders(self) -> list[str]:
        return [message["args"][0]["orderLinkId"] for message in self.written if message["op"] == "order.create"]


class OneSocket:
    """A transport to that socket, once. By REST nothing goes, unless `by_rest` is set: then all is well there."""

    def __init__(self, socket: Clogged) -> None:
        self._socket = socket
        self.by_rest = False
        self.requests = 0
        self.heard: Callable[[], object] = lambda: None

    async def connect(self, url: str, timeout_s: float) -> Clogged:
        if self._socket.closed.is_set():
            raise NotSent("connection refused")
        return self._socket

    async def request(self, *_: object) -> HttpAnswer:
        assert self.by_rest, "nothing goes by REST here"
        self.requests += 1
        self.heard()
        return HttpAnswer(200, {}, b'{"retCode":0,"retMsg":"OK","result":{"orderId":"v-1"}}')

    async def close(self) -> None: ...


class Bench:
    """Order entry by that socket alone; the grant of EPOCH holds while `granted` is true."""

    running: asyncio.Task[None]

    def __init__(self, timeline: Timeline) -> None:
        self.socket = Clogged()
        self.granted = True
        transport = self.transport = OneSocket(self.socket)
        rest = self.rest = BybitRest(transport, "", "key", "secret", timeline.now_ns, 5000, TIMEOUT_S)
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
        running = bench.running = asyncio.create_task(bench.trade.run())
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
        bench.socket.taking.clear()
        waiting = bench.ask(create(1))
        await asyncio.sleep(0.5)  # simulated time
        bench.granted = False
        await asyncio.sleep(0.5)
        bench.socket.taking.set()
        assert await waiting == Unreachable(NO_GRANT)
        await asyncio.sleep(10)
        assert bench.socket.orders == []

    play(work)


def test_a_cancel_that_waits_for_the_socket_needs_no_grant() -> None:
    async def work(bench: Bench) -> None:
        bench.socket.taking.clear()
        waiting = bench.ask(calls.cancel("linear", "BTCUSDT", client_order_id="slwq-7-1"))
        await asyncio.sleep(0.5)  # simulated time
        bench.granted = False
        bench.socket.taking.set()
        assert isinstance(await waiting, Accepted)

    play(work)


def test_an_order_whose_time_is_up_before_the_socket_takes_it_did_not_happen_and_does_not_leave_later() -> None:
    async def work(bench: Bench) -> None:
        bench.socket.taking.clear()
        outcome = await bench.ask(create(1))
        assert isinstance(outcome, Unreachable), outcome
        assert "took nothing" in outcome.detail
        bench.socket.taking.set()
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
            bench.socket.taking.clear()
        waiting = bench.ask(create(1))
        await asyncio.sleep(0.5)  # simulated time
        await bench.socket.close()
        outcome = await waiting
        assert isinstance(outcome, wanted), outcome
        assert len(bench.socket.orders) == takes

    play(work)


def cancel(number: int) -> Call:
    return calls.cancel("linear", "BTCUSDT", client_order_id=f"slwq-7-{number}")


def test_a_socket_that_says_nothing_after_an_operation_is_left_and_what_follows_goes_by_rest() -> None:
    async def work(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        bench.socket.silent = bench.transport.by_rest = True
        assert isinstance(await bench.ask(cancel(1)), Unknown)
        since_s = loop.time()
        for number in range(2, 14):
            assert isinstance(await bench.ask(cancel(number)), Accepted)
        assert loop.time() - since_s < TIMEOUT_S
        assert bench.transport.requests == 12
        assert len(bench.socket.written) == 2, "the greeting and the first; nothing is sent twice"
        assert bench.socket.closed.is_set()

    play(work)


def test_what_was_on_its_way_by_a_socket_that_is_left_as_silent_is_unknown_at_once() -> None:
    async def work(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        bench.socket.silent = bench.transport.by_rest = True
        first, since_s = bench.ask(cancel(1)), loop.time()
        await asyncio.sleep(TIMEOUT_S / 2)  # simulated time
        second = bench.ask(cancel(2))
        assert [type(one) for one in await asyncio.gather(first, second)] == [Unknown, Unknown]
        assert loop.time() - since_s < TIMEOUT_S + 0.1
        assert bench.transport.requests == 0

    play(work)


def test_while_a_socket_that_was_silent_still_closes_nothing_goes_by_it_any_more() -> None:
    async def work(bench: Bench) -> None:
        bench.socket.silent = bench.transport.by_rest = True
        bench.socket.closes.clear()  # its farewell is not answered either
        assert isinstance(await bench.ask(cancel(1)), Unknown)
        assert isinstance(await bench.ask(cancel(2)), Accepted)
        assert bench.transport.requests == 1
        bench.socket.closes.set()

    play(work)


def test_a_socket_on_which_something_was_heard_since_is_kept() -> None:
    async def work(bench: Bench) -> None:
        bench.socket.silent = True
        waiting = bench.ask(cancel(1))
        await asyncio.sleep(TIMEOUT_S / 2)  # simulated time
        bench.socket.say('{"op":"pong","retCode":0}')
        assert isinstance(await waiting, Unknown)
        bench.socket.silent = False
        assert isinstance(await bench.ask(cancel(2)), Accepted)
        assert not bench.socket.closed.is_set()

    play(work)


def test_a_socket_that_took_nothing_of_an_operation_is_not_left_for_its_silence() -> None:
    async def work(bench: Bench) -> None:
        bench.socket.taking.clear()
        assert isinstance(await bench.ask(cancel(1)), Unreachable)
        assert not bench.socket.closed.is_set()

    play(work)


def test_a_socket_that_takes_nothing_any_more_is_left() -> None:
    async def work(bench: Bench) -> None:
        bench.socket.taking.clear()
        waiting = bench.ask(create(1))
        await asyncio.sleep(PONG_WITHIN_S + 0.1)  # simulated time
        assert bench.socket.closed.is_set()
        assert not bench.trade.is_up
        assert isinstance(await waiting, Unreachable)

    play(work)


def test_a_stream_that_is_cancelled_while_its_connection_ends_ends_too() -> None:
    async def work(bench: Bench) -> None:
        bench.socket.taking.clear()
        bench.socket.lets_go_s = 0.2
        waiting = bench.ask(cancel(1))
        await asyncio.sleep(0.1)  # simulated time, until it waits for the socket
        await bench.socket.close()
        await asyncio.sleep(0.1)  # simulated time, until the connection is being left
        bench.running.cancel()
        await asyncio.wait([bench.running], timeout=1)
        assert bench.running.cancelled(), "it went on to the next connection"
        waiting.cancel()

    play(work)


def test_what_is_written_is_what_an_encoder_would_write() -> None:
    async def work(bench: Bench) -> None:
        call = create(1)
        assert isinstance(await bench.ask(call), Accepted)
        header = {"X-BAPI-TIMESTAMP": str(bench.socket.written[1]["header"]["X-BAPI-TIMESTAMP"])}
        header["X-BAPI-RECV-WINDOW"] = "5000"
        written = {"reqId": "0-1", "header": header, "op": "order.create", "args": [msgspec.Raw(call.body)]}
        assert msgspec.json.encode(written).decode() == bench.socket.texts[1]

    play(work)


def test_nothing_overtakes_an_operation_that_waits_for_the_socket() -> None:
    async def work(bench: Bench) -> None:
        bench.socket.taking.clear()
        first = bench.ask(create(1))
        await asyncio.sleep(0.1)  # simulated time, until it waits for the socket
        bench.socket.full = False  # and the socket takes again, before whoever waits for it has seen it
        second = bench.ask(create(2))
        await asyncio.sleep(0.1)
        bench.socket.taking.set()
        assert [type(one) for one in await asyncio.gather(first, second)] == [Accepted, Accepted]
        assert bench.socket.orders == ["slwq-7-1", "slwq-7-2"]

    play(work)


def test_a_socket_that_ended_under_the_writer_leaves_the_operation_unknown() -> None:
    async def work(bench: Bench) -> None:
        bench.socket.breaks = True
        assert isinstance(await bench.ask(create(1)), Unknown)
        assert not bench.trade.takes_orders
        assert bench.trade._open == {}

    play(work)


def test_what_was_answered_is_not_kept_past_its_patience() -> None:
    async def work(bench: Bench) -> None:
        for number in range(1, 4):
            assert isinstance(await bench.ask(create(number)), Accepted)
        await asyncio.sleep(2 * TIMEOUT_S + 0.1)  # simulated time
        assert (bench.trade._open, list(bench.trade._due), bench.trade._alarm) == ({}, [], None)

    play(work)


def ignored(_: Ended) -> None: ...


def test_patience_ends_in_time_though_somebody_begins_another_when_it_is_told_of_an_earlier_one() -> None:
    async def work(bench: Bench) -> None:
        bench.socket.silent = True
        told_s: list[float] = []
        now_s = asyncio.get_running_loop().time
        begun_s = now_s()

        def another(_: Ended) -> None:
            bench.entry.begin(cancel(3), ignored)

        bench.entry.begin(cancel(1), another)
        await asyncio.sleep(1)  # simulated time
        bench.socket.say('{"op":"pong","retCode":0}')  # it is kept
        bench.entry.begin(cancel(2), lambda _: told_s.append(now_s() - begun_s))
        bench.socket.say('{"op":"pong","retCode":0}')
        await asyncio.sleep(5)
        assert [round(one, 3) for one in told_s] == [1 + TIMEOUT_S]

    play(work)


def test_a_moment_that_no_float_names_ends_the_patience_as_any_other() -> None:
    """Time plus patience, as a float, is a hair after the nanosecond at which simulated time wakes us."""

    async def work(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        bench.socket.silent = True
        looked = 0
        look = bench.trade._look_who_is_due

        def counted(*args: Any) -> None:
            nonlocal looked
            looked += 1
            assert looked < 100, "it looks again and again and no time passes"
            look(*args)

        bench.trade._look_who_is_due = counted  # type: ignore[method-assign,assignment]
        while round((loop.time() + TIMEOUT_S) * 1e9) / 1e9 >= loop.time() + TIMEOUT_S:  # noqa: ASYNC110 - for time alone
            await asyncio.sleep(0.000_000_001)
        outcome = asyncio.ensure_future(bench.entry.mutate(cancel(1)))
        await asyncio.sleep(TIMEOUT_S + 0.1)
        assert outcome.done()

    play(work)


@pytest.mark.parametrize("way", ["awaited", "begun", "closed"])
def test_what_is_given_up_while_it_waits_for_the_socket_is_not_written_later_and_its_turn_comes_back(way: str) -> None:
    async def work(bench: Bench) -> None:
        heard: list[Ended] = []
        bucket = bench.rest.limits.bucket(calls.CREATE)
        bucket.limit = bucket.left = 10
        bucket.full_at_ms = 1 << 60
        bench.socket.taking.clear()
        waiting = under_way = None
        if way == "begun":
            under_way = bench.entry.begin(create(1), heard.append)
            assert under_way is not None
        else:
            waiting = bench.ask(create(1))
        await asyncio.sleep(0.1)  # simulated time
        if under_way is not None:
            under_way.cancel()
        elif way == "awaited" and waiting is not None:
            waiting.cancel()
        else:
            await bench.entry.close()
        await asyncio.sleep(0)
        bench.socket.taking.set()
        await asyncio.sleep(10)
        assert bench.socket.orders == []
        if way == "begun":
            assert [type(one) for one in heard] == [asyncio.CancelledError]
        assert (bucket.left, bucket.under_way) == (10, 0)

    play(work)


def test_nobody_is_told_before_begin_has_returned_though_its_grant_ends_while_it_is_written() -> None:
    async def work(bench: Bench) -> None:
        heard: list[Ended] = []
        asked = 0

        def lapsing(epoch: int) -> bool:
            nonlocal asked
            asked += 1
            return asked < 2

        bench.entry._permitted = bench.trade._permitted = lapsing
        assert bench.entry.begin(create(1), heard.append) is not None
        assert heard == []
        await asyncio.sleep(0)
        assert heard == [Unreachable(NO_GRANT)]
        assert (bench.trade._open, bench.entry._open) == ({}, {})

    play(work)


def test_what_follows_a_broken_write_goes_by_rest_and_is_not_unknown() -> None:
    async def work(bench: Bench) -> None:
        heard: list[Ended] = []
        bench.transport.by_rest = True
        bench.socket.breaks = True
        for number in (1, 2, 3):
            assert bench.entry.begin(cancel(number), heard.append) is not None
        await asyncio.sleep(0.1)  # simulated time
        assert sorted(type(one).__name__ for one in heard) == ["Accepted", "Accepted", "Unknown"]
        assert bench.transport.requests == 2

    play(work)


def test_what_is_decided_when_a_refused_key_is_told_does_not_go_by_the_socket_that_is_left_for_it() -> None:
    async def work(bench: Bench) -> None:
        heard: list[Ended] = []
        bench.transport.by_rest = True
        bench.socket.silent = True

        def another(_: Ended) -> None:
            bench.entry.begin(cancel(2), heard.append)

        bench.entry.begin(cancel(1), another)
        bench.socket.say('{"op":"order.cancel","reqId":"0-1","retCode":10003}')
        await asyncio.sleep(0.1)  # simulated time
        assert [type(one) for one in heard] == [Accepted]
        assert bench.transport.requests == 1

    play(work)


def test_an_answer_to_what_has_not_left_is_nobody_s() -> None:
    async def work(bench: Bench) -> None:
        bench.socket.taking.clear()
        waiting = bench.ask(create(1))
        await asyncio.sleep(0.1)  # simulated time
        bench.socket.say('{"op":"order.create","reqId":"0-1","retCode":0,"data":{"orderId":"v-9"}}')
        await asyncio.sleep(0.1)
        bench.socket.taking.set()
        assert await waiting == Accepted("v-1")
        assert bench.socket.orders == ["slwq-7-1"]

    play(work)


def test_a_cancel_all_by_rest_leaves_before_an_order_by_the_socket_that_is_decided_after_it() -> None:
    async def work(bench: Bench) -> None:
        bench.transport.by_rest = True
        written_before: list[int] = []
        bench.transport.heard = lambda: written_before.append(len(bench.socket.orders))
        await asyncio.gather(bench.ask(calls.cancel_all("linear", "BTCUSDT")), bench.ask(create(1)))
        assert written_before == [0]

    play(work)


def test_who_cannot_be_begun_hears_of_it_from_begin_and_never_again() -> None:
    async def work(bench: Bench) -> None:
        heard: list[Ended] = []

        def odd(_: str) -> Never:
            raise RuntimeError("nobody expected it")

        send, bench.socket.send_now = bench.socket.send_now, odd  # type: ignore[method-assign,assignment]
        with pytest.raises(RuntimeError):
            bench.entry.begin(create(1), heard.append)
        bench.socket.send_now = send  # type: ignore[method-assign]
        await asyncio.sleep(2 * TIMEOUT_S + 0.1)  # simulated time
        assert (heard, bench.trade._open, bench.entry._open) == ([], {}, {})

    play(work)
