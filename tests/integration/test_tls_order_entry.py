"""Order entry over a trade socket of TLS whose venue reads nothing for a while: what was given up never leaves."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import uvloop
from aiohttp import web

from bot.domain.order import Side
from bot.simulator.listings import GENERATED
from bot.venues.bybit import calls
from bot.venues.bybit.calls import Call
from bot.venues.bybit.order_entry import OrderEntry
from bot.venues.bybit.rest import BybitRest
from bot.venues.bybit.trade_stream import NO_GRANT, TradeStream
from bot.venues.port import Accepted, Outcome, Unreachable
from bot.venues.transport import AiohttpTransport
from tests.support.tls import Authority

pytestmark = pytest.mark.integration

Loop = Callable[[], asyncio.AbstractEventLoop]
EPOCH = 7
TIMEOUT_S = 0.5
FILLER = "x" * 400
PATIENCE_S = 60


class Venue:
    """One that takes every order it reads. `orders`: in that order."""

    def __init__(self) -> None:
        self.orders: list[str] = []
        self.open: web.Request | None = None

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        answers = web.WebSocketResponse()
        await answers.prepare(request)
        self.open = request
        async for message in answers:
            if message.data == FILLER:
                continue
            asked = json.loads(message.data)
            if asked["op"] == "auth":
                await answers.send_str('{"op":"auth","retCode":0}')
            elif asked["op"] != "ping":
                self.orders.append(asked["args"][0]["orderLinkId"])
                known = {"op": asked["op"], "reqId": asked["reqId"], "retCode": 0, "data": {"orderId": "v-1"}}
                await answers.send_str(json.dumps(known))
        return answers

    def deafen(self) -> None:
        self._transport.pause_reading()

    def listen(self) -> None:
        self._transport.resume_reading()

    @property
    def _transport(self) -> Any:
        assert self.open is not None
        return self.open.transport


class Bench:
    """The bot's order entry by that venue's socket; the grant of EPOCH holds while `granted` is true."""

    def __init__(self, port: int, transport: AiohttpTransport) -> None:
        self.granted = True
        self.rest = BybitRest(transport, "https://localhost:9", "key", "secret", time.time_ns, 5000, TIMEOUT_S)
        self.trade = TradeStream(
            f"wss://localhost:{port}/v5/trade", transport, time.time_ns, Random(1),
            self.rest.resync_quietly, "key", "secret", self.rest.venue_now_ms, 5000, self.permitted,
        )  # fmt: skip
        self.entry = OrderEntry(self.rest, self.trade, TIMEOUT_S, 1, self.permitted)

    def permitted(self, epoch: int) -> bool:
        return self.granted and epoch == EPOCH

    def ask(self, number: int) -> asyncio.Task[Outcome]:
        return asyncio.create_task(self.entry.mutate(create(number)))

    async def up(self) -> None:
        while not self.trade.takes_orders:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)

    async def fill(self) -> None:
        """Sends until nothing has been taken for a while."""
        opened = self.trade._socket
        assert opened is not None
        while True:
            while opened.takes():
                opened.send_now(FILLER)
            try:
                async with asyncio.timeout(0.3):
                    await opened.drained()
            except TimeoutError:
                return


def create(number: int) -> Call:
    return calls.create_post_only(
        "linear", "BTCUSDT", Side.BUY, GENERATED.qty(10), GENERATED.price(550_000), f"slwq-7-{number}", False, EPOCH
    )


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def play(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Bench, Venue], Awaitable[None]]], None]:
    authority = Authority(tmp_path)
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", authority.client())

    async def whole(work: Callable[[Bench, Venue], Awaitable[None]]) -> None:
        venue, application = Venue(), web.Application()
        application.router.add_get("/v5/trade", venue.serve)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=authority.server()).start()
        transport = AiohttpTransport()
        bench = Bench(runner.addresses[0][1], transport)
        running = asyncio.create_task(bench.trade.run())
        try:
            async with asyncio.timeout(PATIENCE_S):
                await bench.up()
                await work(bench, venue)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await transport.close()
            await runner.cleanup()

    def played(work: Callable[[Bench, Venue], Awaitable[None]]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(whole(work))

    return played


Play = Callable[[Callable[[Bench, Venue], Awaitable[None]]], None]


def test_an_order_that_a_full_socket_does_not_take_in_time_did_not_happen_and_does_not_leave_later(play: Play) -> None:
    async def work(bench: Bench, venue: Venue) -> None:
        assert isinstance(await bench.ask(1), Accepted)
        venue.deafen()
        await bench.fill()
        since_s = asyncio.get_running_loop().time()
        outcome = await bench.ask(2)
        assert asyncio.get_running_loop().time() - since_s < PATIENCE_S / 2
        assert isinstance(outcome, Unreachable), outcome
        assert "took nothing" in outcome.detail
        venue.listen()
        await bench.up()
        assert isinstance(await bench.ask(3), Accepted)
        assert venue.orders == ["slwq-7-1", "slwq-7-3"]

    play(work)


def test_an_order_that_waits_for_the_socket_past_the_end_of_its_grant_never_leaves(play: Play) -> None:
    async def work(bench: Bench, venue: Venue) -> None:
        venue.deafen()
        await bench.fill()
        waiting = bench.ask(1)
        await asyncio.sleep(0)
        bench.granted = False
        venue.listen()
        outcome = await waiting
        assert isinstance(outcome, Unreachable), outcome
        assert outcome.detail == NO_GRANT or "took nothing" in outcome.detail, "on a busy machine its time may be up"
        bench.granted = True
        assert isinstance(await bench.ask(2), Accepted)
        assert venue.orders == ["slwq-7-2"]

    play(work)
