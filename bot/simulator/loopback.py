"""The loopback mount: one venue behind HTTP and WebSockets on this machine, in wall time."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from typing import Literal

import msgspec
from aiohttp import WSMsgType, web

from bot.simulator.bybit import V5, Request
from bot.simulator.bybit_access import AddressLimits, account_of_key
from bot.simulator.bybit_sockets import PrivateSession, PublicSession, Session, TradeSession
from bot.simulator.bybit_streams import Streams
from bot.simulator.control import Control
from bot.simulator.venue import Venue

CONFIRM_AFTER_S = 0.001
"""Confirmations leave this long after the request they belong to, so that they usually follow its answer."""
PUMP_MIN_S = 0.05
OUTBOX_MAX = 20_000
IDLE_CUT_S = 600.0
LOST_ANSWER_S = 30.0

Kind = Literal["public", "private", "trade"]


class Clock:
    """Wall time that never steps: the wall clock at start plus what the monotonic clock has counted since."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ns(self) -> int:
        return time.monotonic_ns() + self._offset_ns


class _Socket:
    """One open WebSocket with its outgoing messages; a client that does not read is cut."""

    def __init__(self, kind: Kind, request: web.Request) -> None:
        self.kind = kind
        self.stream = web.WebSocketResponse(compress=False, receive_timeout=IDLE_CUT_S)
        self.address = request.remote or ""
        self.session: Session | None = None
        self._request = request
        self._waiting: deque[str] = deque()
        self._wake = asyncio.Event()

    def send(self, text: str) -> None:
        if len(self._waiting) >= OUTBOX_MAX:
            self.cut()
            return
        self._waiting.append(text)
        self._wake.set()

    def cut(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()

    async def write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                try:
                    await self.stream.send_str(self._waiting.popleft())
                except ConnectionError:
                    return


class LoopbackVenue:
    """One venue on one port."""

    def __init__(self, venue: Venue, token: str, clock: Clock, address_requests_max: int = 0) -> None:
        self._venue = venue
        self._addresses = AddressLimits(address_requests_max)
        self._clock = clock
        self._face = V5(venue)
        self._streams = Streams(venue)
        self._control = Control(venue, token)
        self._sockets: set[_Socket] = set()
        self._connections = 0
        self._confirming = False
        self._cut_fired: set[int] = set()

    def application(self) -> web.Application:
        app = web.Application(client_max_size=1 << 20)
        app.router.add_get("/v5/public/linear", self._open_public)
        app.router.add_get("/v5/private", self._open_private)
        app.router.add_get("/v5/trade", self._open_trade)
        app.router.add_route("*", "/v5/{path:.*}", self._rest)
        app.router.add_route("*", "/sim/{path:.*}", self._sim)
        return app

    async def run_market(self) -> None:
        """Move the market when it is due and tell everybody."""
        while True:
            now_ns = self._clock.now_ns()
            if self._venue.advance(now_ns):
                self._streams.distribute(now_ns, market_moved=True)
            self._cut_ended_keys(now_ns)
            due_s = (self._venue.next_at_ns() - self._clock.now_ns()) / 1e9
            await asyncio.sleep(max(due_s, PUMP_MIN_S))

    # ---- REST ---------------------------------------------------------------------------------------------------

    async def _rest(self, request: web.Request) -> web.Response:
        body = await request.read()
        if not self._addresses.admit_request(request.remote or "", self._clock.now_ns()):
            self._cut_address(request.remote or "")
            return web.Response(status=403, text="access too frequent", content_type="text/plain")
        latency_ns = self._venue.faults.latency_ns()
        if latency_ns:
            await asyncio.sleep(latency_ns / 1e9)
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Request(request.method, request.path, request.rel_url.raw_query_string, body, headers)
        answer = self._face.answer(asked, self._clock.now_ns())
        self._confirm_soon()
        if answer.lost:
            await asyncio.sleep(LOST_ANSWER_S)
            if request.transport is not None:
                request.transport.abort()
        return web.Response(
            status=answer.status, body=answer.body, headers=answer.headers, content_type="application/json"
        )

    async def _sim(self, request: web.Request) -> web.Response:
        body = await request.read()
        token = request.headers.get("X-Sim-Token", "")
        query = request.rel_url.raw_query_string
        status, reply = self._control.answer(request.method, request.path, query, body, token, self._clock.now_ns())
        self._cut_sockets()
        self._confirm_soon()
        return web.Response(status=status, body=msgspec.json.encode(reply), content_type="application/json")

    def _confirm_soon(self) -> None:
        if not self._confirming:
            self._confirming = True
            asyncio.get_running_loop().call_later(CONFIRM_AFTER_S, self._confirm)

    def _confirm(self) -> None:
        self._confirming = False
        self._streams.distribute(self._clock.now_ns(), market_moved=False)

    def _cut_address(self, address: str) -> None:
        for socket in [s for s in self._sockets if s.address == address]:
            socket.cut()

    def _cut_ended_keys(self, now_ns: int) -> None:
        """Sockets whose key is the account's no more, once its grace is over."""
        for socket in list(self._sockets):
            key = socket.session.api_key if isinstance(socket.session, PrivateSession | TradeSession) else ""
            if key and account_of_key(self._venue, key, now_ns) is None:
                socket.cut()

    def _cut_sockets(self) -> None:
        for fault in self._venue.faults.of_kind("disconnect"):
            if fault.fault_id not in self._cut_fired:
                self._cut_fired.add(fault.fault_id)
                for socket in [s for s in self._sockets if fault.parameters["stream"] in ("all", s.kind)]:
                    socket.cut()

    # ---- sockets ------------------------------------------------------------------------------------------------

    async def _open_public(self, request: web.Request) -> web.StreamResponse:
        socket = _Socket("public", request)

        def subscribed(session: PublicSession, topic: str) -> None:
            self._streams.subscribed(session, topic, self._clock.now_ns())

        session = PublicSession(self._connection_id(), socket.send, self._streams.is_public_topic, subscribed)
        self._streams.public[session] = None
        try:
            return await self._serve(socket, session, request)
        finally:
            del self._streams.public[session]

    async def _open_private(self, request: web.Request) -> web.StreamResponse:
        socket = _Socket("private", request)
        session = PrivateSession(self._connection_id(), socket.send, self._face)
        self._streams.private[session] = None
        try:
            return await self._serve(socket, session, request)
        finally:
            del self._streams.private[session]
            session.closed(self._clock.now_ns())
            self._await_disconnect_cancel()

    def _await_disconnect_cancel(self) -> None:
        due_ns = self._face.dcp.next_at_ns()
        if due_ns is not None:
            wait_s = max(0.0, (due_ns - self._clock.now_ns()) / 1e9)
            asyncio.get_running_loop().call_later(wait_s + CONFIRM_AFTER_S, self._disconnect_cancel)

    def _disconnect_cancel(self) -> None:
        self._face.dcp.cancel_due(self._clock.now_ns())
        self._confirm_soon()

    async def _open_trade(self, request: web.Request) -> web.StreamResponse:
        socket = _Socket("trade", request)
        session = TradeSession(self._connection_id(), socket.send, self._face, self._confirm_soon)
        return await self._serve(socket, session, request)

    async def _serve(self, socket: _Socket, session: Session, request: web.Request) -> web.StreamResponse:
        if not self._addresses.admit_socket(socket.address, self._clock.now_ns()):
            return web.Response(status=403, text="access too frequent", content_type="text/plain")
        await socket.stream.prepare(request)
        socket.session = session
        self._sockets.add(socket)
        writer = asyncio.create_task(socket.write())
        try:
            async for message in socket.stream:
                if message.type is WSMsgType.TEXT:
                    session.receive(message.data, self._clock.now_ns())
        except TimeoutError:
            await socket.stream.close()
        finally:
            self._sockets.discard(socket)
            writer.cancel()
        return socket.stream

    def _connection_id(self) -> str:
        self._connections += 1
        return f"sim-{os.getpid()}-{self._connections}"
