"""A transport that answers as a test tells it to, and the adapter on it."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Never

from bot.domain.instrument import Instrument
from bot.domain.intent import PlaceOrder
from bot.domain.order import Side
from bot.venues.bybit import calls
from bot.venues.bybit.adapter import BybitAdapter
from bot.venues.bybit.hosts import BybitHosts
from bot.venues.transport import HttpAnswer, SocketClosed

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
        self.send_now(text)

    def takes(self) -> bool:
        return True

    def send_now(self, text: str) -> None:
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
