"""The adapter over a transport of our own: every way a call or a stream can go wrong, without a network."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any, Never

import pytest

from bot.domain.events import BookDelta, BookLost, BookSnapshot, Event, InstrumentsRead, StreamDown, StreamUp
from bot.domain.instrument import Instrument
from bot.domain.intent import CancelOrder, PlaceOrder
from bot.domain.order import Side
from bot.venues.bybit import calls
from bot.venues.bybit.adapter import BybitAdapter
from bot.venues.bybit.hosts import BybitHosts
from bot.venues.port import (
    Accepted,
    Refused,
    Unknown,
    Unreachable,
    VenueGarbled,
    VenueRefused,
    VenueUnknown,
    VenueUnreachable,
)
from bot.venues.transport import HttpAnswer, NoAnswer, NotSent, SocketClosed

pytestmark = pytest.mark.integration

HOSTS = BybitHosts("http://venue", "ws://venue/public", "ws://venue/private", "")
BTC = Instrument(
    *("BTCUSDT", "linear", "BTC", "USDT", Decimal("0.1"), Decimal("0.001")),
    *(Decimal("0.001"), Decimal(100), Decimal(5)),
)
QUOTE = PlaceOrder(0, "slwq-1-1", "BTCUSDT", Side.BUY, 500_000, 10, 1)
NOW_NS = 1_700_000_000_000_000_000
INSTRUMENT_ROW = {
    "symbol": "BTCUSDT",
    "status": "Trading",
    "baseCoin": "BTC",
    "quoteCoin": "USDT",
    "priceFilter": {"tickSize": "0.1"},
    "lotSizeFilter": {
        **{"minOrderQty": "0.001", "maxOrderQty": "100", "qtyStep": "0.001", "minNotionalValue": "5"},
    },
}


class ScriptedSocket:
    """A socket whose other end is the test."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self._incoming: asyncio.Queue[str | None] = asyncio.Queue()
        self.on_send: Callable[[dict[str, Any]], None] = lambda message: None

    async def send(self, text: str) -> None:
        message = json.loads(text)
        self.sent.append(message)
        self.on_send(message)

    def push(self, message: object) -> None:
        self._incoming.put_nowait(message if isinstance(message, str) else json.dumps(message))

    async def drained(self) -> None:
        """The test takes everything at once."""

    async def receive(self) -> str:
        text = await self._incoming.get()
        if text is None:
            raise SocketClosed("closed by the test")
        return text

    async def hand_over(self, take: Callable[[bytes | str], None]) -> Never:
        while True:
            take(await self.receive())

    async def close(self) -> None:
        self._incoming.put_nowait(None)


class ScriptedTransport:
    """Answers by path; sockets greet as the venue does unless told otherwise."""

    def __init__(self) -> None:
        self.answers: dict[str, deque[object]] = {}
        self.requests: list[tuple[str, str, Mapping[str, str], bytes]] = []
        self.sockets: dict[str, list[ScriptedSocket]] = {"public": [], "private": []}
        self.refuse_auth = False
        self.connect_error: Exception | None = None
        self.always(calls.TIME, {"timeSecond": "1700000000", "timeNano": str(NOW_NS + 250_000_000)})
        self.always(calls.INSTRUMENTS, {"list": [INSTRUMENT_ROW], "nextPageCursor": ""})

    def always(self, path: str, result: object) -> None:
        self.answers[path] = deque([("always", result)])

    def then(self, path: str, *answers: object) -> None:
        self.answers[path] = deque(answers)

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> HttpAnswer:
        self.requests.append((method, url, headers, body))
        script = self.answers[url.removeprefix("http://venue").partition("?")[0]]
        answer = script[0] if isinstance(script[0], tuple) else script.popleft()
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, HttpAnswer):
            return answer
        result = answer[1] if isinstance(answer, tuple) else answer
        return ok(result)

    async def connect(self, url: str, timeout_s: float) -> ScriptedSocket:
        if self.connect_error is not None:
            raise self.connect_error
        name = url.rpartition("/")[2]
        socket = ScriptedSocket()
        self.sockets[name].append(socket)

        def greet(message: dict[str, Any]) -> None:
            refused = message["op"] == "auth" and self.refuse_auth
            if message["op"] != "ping":
                socket.push({"success": not refused, "op": message["op"], "ret_msg": "no" if refused else ""})

        socket.on_send = greet
        return socket

    async def close(self) -> None:
        for sockets in self.sockets.values():
            for socket in sockets:
                await socket.close()


def ok(result: object, headers: Mapping[str, str] | None = None) -> HttpAnswer:
    return HttpAnswer(200, headers or {}, json.dumps({"retCode": 0, "retMsg": "OK", "result": result}).encode())


def refused(code: int, message: str = "no") -> HttpAnswer:
    return HttpAnswer(200, {}, json.dumps({"retCode": code, "retMsg": message, "result": {}}).encode())


def adapter_on(transport: ScriptedTransport) -> BybitAdapter:
    return BybitAdapter(HOSTS, "key-0123456789ab", "the-secret", ["BTCUSDT"], lambda: NOW_NS, transport=transport)


def ask(transport: ScriptedTransport, call: Callable[[BybitAdapter], Awaitable[Any]]) -> tuple[Any, BybitAdapter]:
    adapter = adapter_on(transport)

    async def once() -> Any:
        return await call(adapter)

    return asyncio.run(once()), adapter


# ---- outcomes of mutations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (ok({"orderId": "v-1", "orderLinkId": "slwq-1-1"}), Accepted("v-1")),
        (refused(110007), Refused(110007, "110007 no")),
        (refused(170218), Refused(170218, "170218 no", post_only=True)),
        (refused(110072), Unknown(110072, "110072 no")),
        (refused(424242), Unknown(424242, "424242 no")),
        (HttpAnswer(503, {}, b"<html>"), Unknown(503, "/v5/order/create: HTTP 503")),
        (HttpAnswer(429, {}, b""), Unknown(429, "/v5/order/create: HTTP 429")),
        (NotSent("refused"), Unreachable("refused")),
        (NoAnswer("no answer in 2.0 s"), Unknown(0, "no answer in 2.0 s")),
    ],
)
def test_a_create_has_three_outcomes_and_never_raises(answer, expected):
    transport = ScriptedTransport()
    transport.then(calls.CREATE, answer)
    outcome, _ = ask(transport, lambda adapter: adapter.place(QUOTE, BTC))
    assert outcome == expected


@pytest.mark.parametrize("answer", [HttpAnswer(200, {}, b"{"), ok({"orderLinkId": "x"}), HttpAnswer(404, {}, b"?")])
def test_an_answer_to_a_create_that_does_not_decode_is_unknown(answer):
    transport = ScriptedTransport()
    transport.then(calls.CREATE, answer)
    outcome, _ = ask(transport, lambda adapter: adapter.place(QUOTE, BTC))
    assert isinstance(outcome, Unknown)


def test_a_cancel_of_an_order_that_is_gone_is_accepted_as_gone():
    transport = ScriptedTransport()
    transport.then(calls.CANCEL, refused(110001))
    outcome, _ = ask(transport, lambda adapter: adapter.cancel(CancelOrder(0, "slwq-1-1", "BTCUSDT")))
    assert outcome == Accepted(gone=True)


def test_a_refused_timestamp_resynchronises_the_clock_and_is_not_sent_again():
    transport = ScriptedTransport()
    transport.then(calls.CREATE, refused(10002))
    outcome, adapter = ask(transport, lambda adapter: adapter.place(QUOTE, BTC))
    assert isinstance(outcome, Unknown)
    assert adapter.clock_offset_ms == 250
    assert [url.rpartition("/")[2] for _, url, _, _ in transport.requests] == ["create", "time"]


def test_every_answer_is_counted_by_endpoint_and_status_and_headers_are_remembered():
    transport = ScriptedTransport()
    limits = {"x-bapi-limit": "10", "x-bapi-limit-status": "4"}
    transport.then(calls.CREATE, ok({"orderId": "v"}, limits), HttpAnswer(503, {}, b""), NotSent("x"), NoAnswer("y"))

    async def four(adapter: BybitAdapter) -> None:
        assert set(adapter.http_responses.values()) == {0}  # born at nought
        for _ in range(4):
            await adapter.place(QUOTE, BTC)

    _, adapter = ask(transport, four)
    counts = {status: count for (path, status), count in adapter.http_responses.items() if count}
    assert counts == {"200": 1, "503": 1, "not_sent": 1, "no_answer": 1}
    assert adapter.rate_limit_headroom == {calls.CREATE: 0.4}
    assert [name for name, _, _ in adapter.drain_observations()] == ["mm_order_latency_ms"], "one was acknowledged"
    assert adapter.drain_observations() == []


# ---- reads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refused(10003), VenueRefused),
        (refused(10006), VenueUnknown),
        (HttpAnswer(502, {}, b""), VenueUnknown),
        (NotSent("x"), VenueUnreachable),
        (NoAnswer("x"), VenueUnknown),
        (ok({"list": [{"symbol": "BTCUSDT"}]}), VenueGarbled),
        (ok({}), VenueGarbled),
    ],
)
def test_a_read_that_failed_raises_and_is_never_empty(answer, error):
    transport = ScriptedTransport()
    transport.then(calls.OPEN_ORDERS, answer)
    with pytest.raises(error):
        ask(transport, lambda adapter: adapter.open_orders("BTCUSDT", BTC))


def test_a_read_after_a_refused_timestamp_is_asked_once_more():
    transport = ScriptedTransport()
    transport.then(calls.OPEN_ORDERS, refused(10002), ok({"list": [], "nextPageCursor": ""}))
    orders, adapter = ask(transport, lambda adapter: adapter.open_orders("BTCUSDT", BTC))
    assert orders == []
    assert adapter.clock_offset_ms == 250
    stamps = [int(headers["X-BAPI-TIMESTAMP"]) for _, _, headers, _ in transport.requests if headers]
    assert stamps[1] - stamps[0] == 250


def test_open_orders_are_read_over_all_pages_and_closed_ones_left_out():
    def row(n: int, status: str = "New") -> dict[str, str]:
        fixed = {"symbol": "BTCUSDT", "side": "Buy", "price": "1", "qty": "1", "cumExecQty": "0"}
        return {"orderId": f"v{n}", "orderLinkId": f"slwq-1-{n}", "orderStatus": status, **fixed}

    transport = ScriptedTransport()
    transport.then(
        calls.OPEN_ORDERS,
        ok({"list": [row(1), row(2, "Filled")], "nextPageCursor": "a%3Db"}),
        ok({"list": [row(3)], "nextPageCursor": ""}),
    )
    orders, _ = ask(transport, lambda adapter: adapter.open_orders("BTCUSDT", BTC))
    assert [order.venue_order_id for order in orders] == ["v1", "v3"]
    assert transport.requests[1][1].endswith("&cursor=a%3Db")


def test_a_symbol_that_is_not_listed_is_refused_by_name():
    transport = ScriptedTransport()
    transport.always(calls.INSTRUMENTS, {"list": []})
    with pytest.raises(VenueRefused, match="BTCUSDT: the venue does not list it"):
        ask(transport, lambda adapter: adapter.instruments(["BTCUSDT"]))


# ---- streams --------------------------------------------------------------------------------------------------------


class Running:
    """A started adapter, what its sink heard, and waiting for a condition."""

    def __init__(self, transport: ScriptedTransport) -> None:
        self.transport = transport
        self.adapter = adapter_on(transport)
        self.heard: list[Event] = []

    async def __aenter__(self) -> Running:
        await self.adapter.start(self.heard.append)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.adapter.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(2000):
            if condition():
                return
            await asyncio.sleep(0.005)
        raise TimeoutError(f"the condition did not come true; heard {self.heard[-5:]}")

    async def until_up(self) -> None:
        await self.until(lambda: sum(isinstance(event, StreamUp) for event in self.heard) >= 2)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.heard if isinstance(event, kind)]


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
            async with asyncio.timeout(5):
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
