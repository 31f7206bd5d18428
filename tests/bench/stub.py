"""The stub of the edge benches: a venue's outside with nothing behind it, so that the client is what is measured.

    python -m tests.bench.stub --messages N

One process, one port, every client alike. `POST /v5/order/create` is answered at once in the venue's words, and its
signature is checked and counted; every other call is answered by the simulated venue's own V5 face, so that clients
of others can load their markets. A socket on `/v5/public/linear` gets the same stream of N book changes once it has
subscribed; one on `/v5/trade` has its creates answered, and what it greeted with is checked like a signature. A line
on the standard input is answered with what was created since the last one; its end ends the stub.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import sys
from decimal import Decimal
from typing import cast

import uvloop

from bot.simulator.bybit import V5, Request
from bot.simulator.control import open_account
from bot.simulator.exchange import Exchange
from bot.simulator.listings import GENERATED
from bot.simulator.loopback import Clock
from bot.simulator.market import GeneratedMarket
from bot.simulator.venue import Venue
from tests.bench.market_messages import frame, stream

HOST = "127.0.0.1"
SEED = 1
WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, section 1.3."""
PIECE_BYTES = 1 << 18
TRADE_PATH = "/v5/trade"
CREATED = '{{"retCode":0,"retMsg":"OK","result":{{"orderId":"{}","orderLinkId":"{}"}},"retExtInfo":{{}},"time":{}}}'
ORDER_TAKEN = (
    '{{"reqId":"{}","retCode":0,"retMsg":"OK","op":"{}","data":{{"orderId":"6b1b2c9e-0000-4000-8000-{:012d}",'
    '"orderLinkId":"{}"}},"header":{{"X-Bapi-Limit":"10000","X-Bapi-Limit-Status":"9999"}},"connId":"stub"}}'
)


def text_frames(data: bytes) -> tuple[list[bytes], bytes]:
    """The payloads of a client's whole text frames (masked, RFC 6455 section 5.2), and what is left over."""
    found = []
    while len(data) >= 2:
        size, at = data[1] & 0x7F, 2
        if size == 126:
            size, at = int.from_bytes(data[2:4], "big"), 4
        end = at + 4 + size
        if len(data) < end:
            break
        mask = (data[at : at + 4] * (size // 4 + 1))[:size]
        plain = int.from_bytes(data[at + 4 : end], "big") ^ int.from_bytes(mask, "big")
        if data[0] & 0x0F == 1:
            found.append(plain.to_bytes(size, "big"))
        data = data[end:]
    return found, data


class Desk:
    """What all connections share."""

    def __init__(self, messages: int) -> None:
        self.clock = Clock()
        now_ns = self.clock.now_ns()
        exchange = Exchange((Venue(GENERATED, GeneratedMarket(SEED), seed=SEED, now_ns=now_ns),))
        self.account = open_account(exchange, Decimal(1_000_000), now_ns)
        self._face = V5(exchange)
        self.counts = {"created": 0, "signed": 0}
        self.is_greeted = False
        frames = [frame(message) for message in stream(SEED, messages)]
        self.snapshot, self.changes = frames[0], b"".join(frames[1:])

    def answer(self, asked: Request) -> tuple[int, bytes, dict[str, str]]:
        if asked.path == "/v5/order/create":
            return 200, self._created(asked), {"X-Bapi-Limit": "10000", "X-Bapi-Limit-Status": "9999"}
        found = self._face.answer(asked, self.clock.now_ns())
        return found.status, found.body, found.headers

    def traded(self, text: bytes) -> bytes:
        """The answer to one message of a trade socket."""
        asked = json.loads(text)
        if asked["op"] == "auth":
            key, expires_ms, signature = asked["args"]
            wanted = hmac.digest(self.account.api_secret.encode(), f"GET/realtime{expires_ms}".encode(), "sha256").hex()
            self.is_greeted = (key, signature) == (self.account.api_key, wanted)
            return json.dumps({"retCode": 0, "retMsg": "OK", "op": "auth", "connId": "stub"}).encode()
        if asked["op"] == "ping":  # of a client that waits for its next round
            return json.dumps({"retCode": 0, "retMsg": "OK", "op": "pong", "data": [], "connId": "stub"}).encode()
        self.counts["created"] += 1
        self.counts["signed"] += self.is_greeted
        answer = ORDER_TAKEN.format(
            asked["reqId"], asked["op"], self.counts["created"], asked["args"][0].get("orderLinkId", "")
        )
        return answer.encode()

    def say_counts(self) -> None:
        """What was created and rightly signed, in one line; then from 0 again."""
        counts, self.counts = self.counts, dict.fromkeys(self.counts, 0)
        print(json.dumps(counts), flush=True)

    def _created(self, asked: Request) -> bytes:
        self.counts["created"] += 1
        headers, secret = asked.headers, self.account.api_secret.encode()
        named = "".join(headers.get(f"x-bapi-{name}", "") for name in ("timestamp", "api-key", "recv-window"))
        if hmac.digest(secret, named.encode() + asked.body, "sha256").hex() == headers.get("x-bapi-sign"):
            self.counts["signed"] += 1
        order: dict[str, str] = json.loads(asked.body)
        number = self.counts["created"]
        link_id, at_ms = order.get("orderLinkId", ""), self.clock.now_ns() // 1_000_000
        return CREATED.format(f"6b1b2c9e-0000-4000-8000-{number:012d}", link_id, at_ms).encode()


class Connection(asyncio.Protocol):
    """HTTP/1.1 with bodies of a known length, kept alive; after an upgrade, a WebSocket that sends its stream once."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._is_socket = self._is_trade = False
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._sending: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its ancestors

    def connection_lost(self, error: Exception | None) -> None:
        if self._sending is not None:
            self._sending.cancel()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def data_received(self, data: bytes) -> None:
        if self._is_trade:
            assert self._transport is not None
            texts, self._buffer = text_frames(self._buffer + data)
            for text in texts:
                self._transport.write(frame(self._desk.traded(text)))
            return
        if self._is_socket:
            if self._sending is None:  # whatever a client says first is its subscription
                self._sending = asyncio.get_running_loop().create_task(self._send_stream())
            return
        self._buffer += data
        while (asked := self._next_request()) is not None:
            self._answer(asked)

    def _next_request(self) -> Request | None:
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return None
        self._buffer = rest[length:]
        method, target, _ = first.split(" ")
        path, _, query = target.partition("?")
        return Request(method, path, query, rest[:length], headers)

    def _answer(self, asked: Request) -> None:
        assert self._transport is not None
        if asked.headers.get("upgrade", "").lower() == "websocket":
            self._upgrade(asked.headers["sec-websocket-key"])
            self._is_trade = asked.path == TRADE_PATH
            return
        status, body, headers = self._desk.answer(asked)
        shown = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in shown.items())
        self._transport.write(f"HTTP/1.1 {status} OK\r\n{lines}\r\n".encode() + body)

    def _upgrade(self, key: str) -> None:
        assert self._transport is not None
        accept = base64.b64encode(hashlib.sha1(key.encode() + WEBSOCKET_GUID.encode()).digest()).decode()  # noqa: S324
        self._is_socket = True
        self._transport.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )

    async def _send_stream(self) -> None:
        assert self._transport is not None
        self._transport.write(frame(b'{"success":true,"ret_msg":"","conn_id":"stub","op":"subscribe"}'))
        self._transport.write(self._desk.snapshot)
        for at in range(0, len(self._desk.changes), PIECE_BYTES):
            await self._may_write.wait()
            self._transport.write(self._desk.changes[at : at + PIECE_BYTES])


async def serve(messages: int) -> None:
    """Until the standard input ends."""
    desk, loop = Desk(messages), asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(desk), HOST, 0)
    port = server.sockets[0].getsockname()[1]
    ready = {
        "rest_url": f"http://{HOST}:{port}",
        "ws_trade_url": f"ws://{HOST}:{port}{TRADE_PATH}",
        "ws_public_url": f"ws://{HOST}:{port}/v5/public/linear",
        "api_key": desk.account.api_key,
        "api_secret": desk.account.api_secret,
    }
    print("ready", flush=True)
    print(json.dumps(ready), flush=True)
    ended = loop.create_future()

    def hear() -> None:
        if sys.stdin.readline():
            desk.say_counts()
        elif not ended.done():
            ended.set_result(None)

    loop.add_reader(sys.stdin, hear)
    await ended
    server.close()


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.stub")
    parser.add_argument("--messages", type=int, required=True)
    uvloop.run(serve(parser.parse_args(argv).messages))


if __name__ == "__main__":
    main(sys.argv[1:])
