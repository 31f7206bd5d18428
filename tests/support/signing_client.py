"""A client of the simulated venue that was written here: it signs by hand, and shares no line with the adapter."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "token-of-the-test"
SERVE = "import sys; from bot.simulator.server import main; sys.exit(main(sys.argv[1:]))"
Json = dict[str, Any]


def start(*args: str, token: str | None = TOKEN) -> subprocess.Popen[str]:
    environment = {"PATH": os.environ["PATH"]}
    if token is not None:
        environment["SLIPWAY_SIM_CONTROL_TOKEN"] = token
    return subprocess.Popen(
        [sys.executable, "-c", SERVE, *args],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ready_of(process: subprocess.Popen[str]) -> Json:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr.read() if process.stderr else ""
    return json.loads(line)


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=10)


@contextlib.contextmanager
def served_venue() -> Iterator[Json]:
    """A venue with a market of its own and one account; what it says of itself, and its pid."""
    process = start("--market", "generated", "--port", "0", "--json", "--seed", "11", "--accounts", "1")
    try:
        yield {**ready_of(process), "pid": process.pid}
    finally:
        end(process)


class Client:
    """One account's raw client. `stream` messages are kept in order; waiting for one has a deadline."""

    def __init__(self, session: aiohttp.ClientSession, ready: Json, account: Json) -> None:
        self.session = session
        self.ready = ready
        self.name: str = account.get("account", "sim-1")
        self.key: str = account["api_key"]
        self.secret: str = account["api_secret"]
        self.headers: dict[str, str] = {}
        self.skew_ms = 0

    def sign(self, text: str) -> str:
        return hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).hexdigest()

    async def request(self, method: str, path: str, query: str = "", body: Json | None = None) -> Json:
        raw = json.dumps(body) if body is not None else ""
        stamp = str(int(time.time() * 1000) + self.skew_ms)
        headers = {
            "X-BAPI-API-KEY": self.key,
            "X-BAPI-TIMESTAMP": stamp,
            "X-BAPI-RECV-WINDOW": "5000",
            "X-BAPI-SIGN": self.sign(stamp + self.key + "5000" + (query or raw)),
            "Content-Type": "application/json",
        }
        url = self.ready["rest_url"] + path + (f"?{query}" if query else "")
        async with self.session.request(method, url, data=raw or None, headers=headers) as response:
            assert response.status == 200
            self.headers = dict(response.headers)
            return await response.json()

    async def get(self, path: str, query: str) -> Json:
        return await self.request("GET", path, query)

    async def post(self, path: str, **body: Any) -> Json:
        return await self.request("POST", path, body={"category": "linear", "symbol": "BTCUSDT", **body})

    async def place(self, side: str, price: str, qty: str = "0.010", **more: Any) -> Json:
        order = {"side": side, "orderType": "Limit", "qty": qty, "price": price, "timeInForce": "PostOnly", **more}
        return await self.post("/v5/order/create", **order)

    async def touch(self) -> tuple[Decimal, Decimal]:
        book = await self.get("/v5/market/orderbook", "category=linear&symbol=BTCUSDT&limit=1")
        return Decimal(book["result"]["b"][0][0]), Decimal(book["result"]["a"][0][0])

    async def control(self, method: str, path: str, body: Json | None = None, token: str = TOKEN) -> tuple[int, Json]:
        url = self.ready["rest_url"] + path
        async with self.session.request(method, url, json=body, headers={"X-Sim-Token": token}) as response:
            return response.status, await response.json()

    async def state(self) -> Json:
        status, state = await self.control("GET", f"/sim/state?account={self.name}")
        assert status == 200
        return state


class Stream:
    """One socket with everything it received."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.seen: list[Json] = []

    async def send(self, message: Json) -> None:
        await self.socket.send_str(json.dumps(message))

    async def until(self, wanted: Callable[[Json], bool], deadline_s: float = 60.0) -> Json:
        """The next message that is wanted; those before it are kept in `seen`."""
        async with asyncio.timeout(deadline_s):
            while True:
                message = json.loads(await self.socket.receive_str())
                self.seen.append(message)
                if wanted(message):
                    return message

    async def row(self, topic: str, wanted: Callable[[Json], bool]) -> Json:
        """The next row of a topic that is wanted."""
        message = await self.until(lambda m: m.get("topic") == topic and any(wanted(row) for row in m["data"]))
        return next(row for row in message["data"] if wanted(row))


async def private_stream(client: Client, url: str = "ws_private_url") -> Stream:
    stream = Stream(await client.session.ws_connect(client.ready[url]))
    expires = int(time.time() * 1000) + 60_000
    await stream.send({"op": "auth", "args": [client.key, expires, client.sign(f"GET/realtime{expires}")]})
    reply = await stream.until(lambda m: m["op"] == "auth")
    assert reply.get("success") is True or reply.get("retCode") == 0
    if url == "ws_private_url":
        await stream.send({"op": "subscribe", "args": ["order", "execution", "position", "wallet"]})
        assert (await stream.until(lambda m: m.get("op") == "subscribe"))["success"] is True
    return stream


def with_account(ready: Json, use: Callable[[Client], Awaitable[None]]) -> None:
    """Run `use` with a client of a new account."""

    async def run() -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
            first = Client(session, ready, ready["accounts"][0])
            status, account = await first.control("POST", "/sim/accounts", {"equity_quote": "100000"})
            assert status == 200
            await use(Client(session, ready, account))

    asyncio.run(run())
