"""The private stream at a venue that refuses a topic: its orders and fills it needs, disconnect-cancel it does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from random import Random
from typing import Never

import pytest

from bot.domain.events import Event, StreamDown, StreamUp
from bot.simulator.listings import GENERATED
from bot.simulator.timeline import Timeline
from bot.venues.bybit.decode import Grid
from bot.venues.bybit.private_stream import PrivateStream
from bot.venues.transport import SocketClosed

TOPICS = ["dcp.future", "order", "execution"]
START_NS = 1_767_225_600_000_000_000


class Choosy:
    """A transport to a venue that refuses some topics, each with the whole request that names one.

    `numbered`: its answers repeat the number of what they answer. `mute`: of this topic it says nothing at all.
    """

    def __init__(self, *refused: str, numbered: bool = True, mute: str = "") -> None:
        self.refused, self.numbered, self.mute = frozenset(refused), numbered, mute
        self.sockets: list[ChoosySocket] = []

    async def connect(self, url: str, timeout_s: float) -> ChoosySocket:
        self.sockets.append(ChoosySocket(self))
        return self.sockets[-1]


class ChoosySocket:
    """`topics`: those that it took; `topics_when_up`, `asked_when_up`: and all requests, as the stream came up."""

    def __init__(self, venue: Choosy) -> None:
        self.venue, self.topics = venue, list[str]()
        self.asked: list[list[str]] = []
        self.topics_when_up: list[str] = []
        self.asked_when_up: list[list[str]] = []
        self.waiting: asyncio.Queue[str | None] = asyncio.Queue()

    async def send(self, text: str) -> None:
        asked = json.loads(text)
        if asked["op"] == "subscribe":
            self.asked.append(asked["args"])
            if self.venue.mute in asked["args"]:
                return
        refused = sorted(self.venue.refused.intersection(asked["args"] if asked["op"] == "subscribe" else ()))
        said = f"error:handler not found,topic:{','.join(refused)}" if refused else ""
        number = {"req_id": asked.get("req_id", "")} if self.venue.numbered else {}
        self.say(json.dumps({"success": not refused, "ret_msg": said, "op": asked["op"], **number}))
        if asked["op"] == "subscribe" and not refused:
            self.topics += asked["args"]

    def say(self, text: str) -> None:
        self.waiting.put_nowait(text)

    async def drained(self) -> None:
        """At once."""

    async def receive(self) -> str:
        text = await self.waiting.get()
        if text is None:
            raise SocketClosed("gone")
        return text

    async def hand_over(self, take: Callable[[bytes | str], None]) -> Never:
        while True:
            take(await self.receive())

    async def close(self) -> None:
        self.waiting.put_nowait(None)


def play(venue: Choosy, work: Callable[[PrivateStream, list[Event]], Awaitable[None]]) -> None:
    timeline = Timeline(START_NS)
    told: list[Event] = []

    async def nothing() -> None: ...

    async def whole() -> None:
        def take(event: Event) -> None:
            told.append(event)
            if isinstance(event, StreamUp):
                socket = venue.sockets[-1]
                socket.topics_when_up, socket.asked_when_up = list(socket.topics), list(socket.asked)

        stream = PrivateStream(
            "ws://private", venue, take, timeline.now_ns, Random(1), nothing, {"BTCUSDT": Grid(GENERATED)},
            "linear", "key", "secret", lambda: timeline.now_ns() // 1_000_000,
        )  # fmt: skip
        stream.guards_orders = True
        running = asyncio.create_task(stream.run())
        await asyncio.sleep(0.1)  # simulated time, until it is up, or would be
        try:
            await work(stream, told)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    with asyncio.Runner(loop_factory=lambda: timeline) as runner:
        runner.run(whole())


@pytest.mark.parametrize("numbered", [True, False])
def test_a_venue_that_refuses_disconnect_cancel_keeps_no_orders_and_fills_from_us(
    numbered: bool, caplog: pytest.LogCaptureFixture
) -> None:
    venue = Choosy("dcp.future", numbered=numbered)

    async def work(stream: PrivateStream, told: list[Event]) -> None:
        await asyncio.sleep(60)  # simulated time
        assert stream.is_up
        assert [type(event) for event in told] == [StreamUp]
        assert [socket.topics for socket in venue.sockets] == [["order", "execution"]]
        await venue.sockets[0].close()
        await asyncio.sleep(5)  # simulated time, past the back-off
        assert stream.is_up
        assert [socket.topics for socket in venue.sockets] == [["order", "execution"]] * 2

    play(venue, work)
    (warned,) = [message for message in caplog.messages if "disconnect-cancel" in message]
    assert "dcp.future" in warned


@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize("refused", [(), ("dcp.future",)], ids=["taken", "refused"])
def test_the_stream_is_not_up_before_the_venue_has_heard_of_disconnect_cancel(
    refused: tuple[str, ...], numbered: bool
) -> None:
    """Up means that the bot may quote: what guards its orders comes before that, not a round trip later."""
    venue = Choosy(*refused, numbered=numbered)

    async def work(stream: PrivateStream, told: list[Event]) -> None:
        assert venue.sockets[0].topics_when_up == (["order", "execution"] if refused else TOPICS)
        assert venue.sockets[0].asked_when_up[-1] == ["order", "execution"]

    play(venue, work)


def test_a_venue_that_answers_nothing_to_disconnect_cancel_keeps_no_orders_and_fills_from_us() -> None:
    venue = Choosy(mute="dcp.future")

    async def work(stream: PrivateStream, told: list[Event]) -> None:
        assert stream.is_up
        await asyncio.sleep(60)  # simulated time
        assert [type(event) for event in told] == [StreamUp]

    play(venue, work)


def test_what_keeps_the_orders_is_subscribed_on_every_connection_and_once() -> None:
    venue = Choosy()

    async def work(stream: PrivateStream, told: list[Event]) -> None:
        venue.sockets[0].say('{"success":true,"op":"subscribe"}')  # the first answer, twice
        await asyncio.sleep(1)  # simulated time
        await venue.sockets[0].close()
        await asyncio.sleep(5)  # simulated time, past the back-off
        assert [socket.topics for socket in venue.sockets] == [TOPICS] * 2

    play(venue, work)


@pytest.mark.parametrize("topic", ["order", "execution"])
def test_a_venue_that_refuses_orders_or_fills_keeps_the_stream_down(topic: str) -> None:
    venue = Choosy(topic)

    async def work(stream: PrivateStream, told: list[Event]) -> None:
        assert not stream.is_up
        (down,) = told
        assert isinstance(down, StreamDown)
        assert "refused" in down.reason
        assert topic in down.reason

    play(venue, work)


def test_a_refusal_of_anything_else_ends_the_connection() -> None:
    venue = Choosy()

    async def work(stream: PrivateStream, told: list[Event]) -> None:
        assert stream.is_up
        venue.sockets[0].say('{"success":false,"op":"auth","ret_msg":"the key has ended"}')
        await asyncio.sleep(0.01)  # simulated time
        assert not stream.is_up

    play(venue, work)
