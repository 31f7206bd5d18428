"""The adapter over a transport of our own: every way a stream can go wrong, without a network."""

from __future__ import annotations

import asyncio

import pytest

from bot.domain.events import BookDelta, BookLost, BookSnapshot, Event, InstrumentsRead, StreamDown, StreamUp
from bot.venues.bybit import calls
from tests.support.hearing import Hearing
from tests.support.scripted_venue import BTC, NOW_NS, QUOTE, ScriptedTransport, adapter_on, ok

pytestmark = pytest.mark.integration


class Running(Hearing):
    """A started adapter on a scripted transport."""

    def __init__(self, transport: ScriptedTransport) -> None:
        self.transport = transport
        self.adapter = adapter_on(transport)
        super().__init__()

    async def __aenter__(self) -> Running:
        await self.adapter.start(self.heard.append)
        return self

    async def until_up(self) -> None:
        await self.until(lambda: sum(isinstance(event, StreamUp) for event in self.heard) >= 2)


def book(kind: str, update_id: int, price: str = "100.0") -> dict[str, object]:
    data = {"s": "BTCUSDT", "b": [[price, "1"]], "a": [], "u": update_id, "seq": 1}
    return {"topic": "orderbook.50.BTCUSDT", "type": kind, "ts": 1, "cts": 1, "data": data}


def test_the_private_stream_is_up_only_after_authentication_and_subscription():
    async def story() -> None:
        async with Running(ScriptedTransport()) as bot:
            await bot.until_up()
            (socket,) = bot.transport.sockets["private"]
            assert [message["op"] for message in socket.sent] == ["auth", "subscribe"]
            assert socket.sent[0]["args"][1] == NOW_NS // 1_000_000 + 250 + 10_000
            assert socket.sent[1]["args"] == ["order", "execution"]
            assert isinstance(bot.heard[0], InstrumentsRead)
            assert {event.stream for event in bot.of(StreamUp)} == {"public", "private"}
            assert bot.adapter.connections_open == {"public": 1, "private": 1, "trade": 0}

    asyncio.run(story())


def test_a_refused_authentication_is_down_with_its_reason_once():
    async def story() -> None:
        transport = ScriptedTransport()
        transport.refuse_auth = True
        async with Running(transport) as bot:
            await bot.until(lambda: len(transport.sockets["private"]) >= 3)
            downs = [event for event in bot.of(StreamDown) if event.stream == "private"]
            assert [event.reason for event in downs] == ["refused: auth: no"]
            assert [event.stream for event in bot.of(StreamUp)] == ["public"]

    asyncio.run(story())


def test_a_gap_loses_the_book_and_asks_for_a_snapshot_once():
    async def story() -> None:
        async with Running(ScriptedTransport()) as bot:
            await bot.until_up()
            (socket,) = bot.transport.sockets["public"]
            for message in (book("snapshot", 10), book("delta", 11), book("delta", 11), book("delta", 13)):
                socket.push(message)
            await bot.until(lambda: len(bot.of(BookLost)) == 1)
            socket.push(book("delta", 14))  # of the book that is lost
            bot.adapter.resync("BTCUSDT")  # the engine asks as well
            socket.push(book("snapshot", 20))
            await bot.until(lambda: len(bot.of(BookSnapshot)) == 2)
            assert [event.update_id for event in bot.of(BookDelta)] == [11]
            assert bot.of(BookLost)[0].reason == "gap: update 13 after 11"
            assert [message["op"] for message in socket.sent] == ["subscribe", "unsubscribe", "subscribe"]

    asyncio.run(story())


def test_a_book_message_that_does_not_decode_loses_the_book_and_keeps_the_stream():
    async def story() -> None:
        async with Running(ScriptedTransport()) as bot:
            await bot.until_up()
            (socket,) = bot.transport.sockets["public"]
            socket.push(book("snapshot", 10))
            socket.push(book("delta", 11, price="100.05"))
            await bot.until(lambda: bool(bot.of(BookLost)))
            assert bot.of(BookLost)[0].reason.startswith("garbled: data.b: BTCUSDT: price 100.05")
            assert bot.of(StreamDown) == []

    asyncio.run(story())


def test_an_answer_without_an_operation_is_an_answer():
    """As the venue's documentation shows one."""

    async def story() -> None:
        async with Running(ScriptedTransport()) as bot:
            await bot.until_up()
            for stream in ("public", "private"):
                (socket,) = bot.transport.sockets[stream]
                socket.push({"success": True, "conn_id": "c", "data": {"failTopics": []}, "type": "COMMAND_RESP"})
            (public,) = bot.transport.sockets["public"]
            public.push(book("snapshot", 10))
            await bot.until(lambda: bool(bot.of(BookSnapshot)))
            assert (bot.of(BookLost), bot.of(StreamDown)) == ([], [])

    asyncio.run(story())


def test_a_service_restart_replaces_the_book_without_a_gap():
    async def story() -> None:
        async with Running(ScriptedTransport()) as bot:
            await bot.until_up()
            (socket,) = bot.transport.sockets["public"]
            for message in (book("snapshot", 900), book("delta", 1), book("delta", 2)):
                socket.push(message)
            await bot.until(lambda: len(bot.of(BookDelta)) == 1)
            assert [event.update_id for event in bot.of(BookSnapshot)] == [900, 1]
            assert bot.of(BookLost) == []

    asyncio.run(story())


def test_a_lost_connection_loses_the_book_comes_back_and_is_counted():
    async def story() -> None:
        async with Running(ScriptedTransport()) as bot:
            await bot.until_up()
            (socket,) = bot.transport.sockets["public"]
            socket.push(book("snapshot", 10))
            await bot.until(lambda: bool(bot.of(BookSnapshot)))
            await socket.close()
            await bot.until(lambda: len(bot.of(StreamUp)) == 3)
            assert [type(event) for event in bot.heard[-3:]] == [BookLost, StreamDown, StreamUp]
            assert bot.adapter.ws_reconnects == 1

    asyncio.run(story())


def test_a_private_message_that_does_not_decode_ends_the_connection_so_that_all_is_read_afresh():
    async def story() -> None:
        async with Running(ScriptedTransport()) as bot:
            await bot.until_up()
            (socket,) = bot.transport.sockets["private"]
            socket.push({"topic": "order", "data": [{"symbol": "BTCUSDT", "orderId": 5}]})
            await bot.until(lambda: len(bot.of(StreamUp)) == 3)
            (down,) = bot.of(StreamDown)
            assert down.stream == "private"
            assert "orderId" in down.reason

    asyncio.run(story())


def test_a_private_message_that_names_no_topic_ends_the_connection_too():
    async def story() -> None:
        async with Running(ScriptedTransport()) as bot:
            await bot.until_up()
            (socket,) = bot.transport.sockets["private"]
            socket.push({"req_id": "", "op": "pong", "args": ["1"], "conn_id": "c"})
            socket.push({"data": [{"symbol": "BTCUSDT", "orderId": "v1"}]})
            await bot.until(lambda: len(bot.of(StreamUp)) == 3)
            (down,) = bot.of(StreamDown)
            assert (down.stream, "topic: missing" in down.reason) == ("private", True)

    asyncio.run(story())


def test_an_exception_of_the_sink_is_not_swallowed():
    async def story() -> None:
        adapter = adapter_on(ScriptedTransport())

        def sink(event: Event) -> None:
            if isinstance(event, StreamUp):
                raise ValueError("the engine is broken")

        await adapter.start(sink)
        try:
            async with asyncio.timeout(60):
                assert str(await adapter.wait_broken()) == "the engine is broken"
        finally:
            await adapter.close()

    asyncio.run(story())


def test_no_secret_leaves_the_process_in_any_request_or_message():
    async def story() -> None:
        async with Running(ScriptedTransport()) as bot:
            await bot.until_up()
            bot.transport.then(calls.CREATE, ok({"orderId": "v"}))
            await bot.adapter.place(QUOTE, BTC)
            sent = repr(bot.transport.requests) + repr(
                [s.sent for all_ in bot.transport.sockets.values() for s in all_]
            )
            assert "the-secret" not in sent

    asyncio.run(story())
