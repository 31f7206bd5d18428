"""The loopback mount: one exchange behind HTTP and WebSockets on this machine, in wall time.

The same plan of faults as in process: what becomes of a message on the way is asked of it here.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Mapping
from typing import Literal

import msgspec
from aiohttp import WSMsgType, web

from bot.domain.instrument import Category
from bot.simulator.bybit import V5, Request
from bot.simulator.bybit_access import AddressLimits, holder_of_key
from bot.simulator.bybit_sockets import PrivateSession, PublicSession, Session, TradeSession
from bot.simulator.bybit_streams import Streams
from bot.simulator.control import Control
from bot.simulator.exchange import Exchange
from bot.simulator.fault_file import FaultFile
from bot.simulator.faults import FaultPlan, Pushes, Way

CONFIRM_AFTER_S = 0.001
"""Confirmations leave this long after the request they belong to, so that they usually follow its answer."""
PUMP_MIN_S = 0.05
OUTBOX_MAX = 20_000
IDLE_CUT_S = 600.0
LOST_ANSWER_S = 30.0
ORDER_KEPT_S = 1e-6
"""Between two late messages of one connection: timers of one moment may fire in either order."""

Kind = Literal["public", "private", "trade"]
_WAYS: Mapping[Kind, Way] = {"public": "push", "private": "private", "trade": "answer"}


class Clock:
    """Wall time that never steps: the wall clock at start plus what the monotonic clock has counted since."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ns(self) -> int:
        return time.monotonic_ns() + self._offset_ns


class _Socket:
    """One open WebSocket with its outgoing messages; a client that does not read is cut."""

    def __init__(
        self, kind: Kind, request: web.Request, faults: FaultPlan, clock: Clock, idle_cut_s: float = IDLE_CUT_S
    ) -> None:
        self.kind = kind
        self.pushes = Pushes(faults, _WAYS[kind], self.send)
        self.arriving: list[str] = []
        self.requests = Pushes(faults, "request", self.arriving.append)
        self._faults = faults
        self._clock = clock
        self._not_before_s = 0.0
        self.stream = web.WebSocketResponse(compress=False, receive_timeout=idle_cut_s)
        self.address = request.remote or ""
        self.session: Session | None = None
        self._request = request
        self._waiting: deque[str] = deque()
        self._wake = asyncio.Event()

    def send(self, text: str) -> None:
        """On its way, as the plan of faults has it; one connection keeps its order."""
        extra_ns = self._faults.of(_WAYS[self.kind], self._clock.now_ns())
        if extra_ns is None:
            return
        loop = asyncio.get_running_loop()
        at_s = max(loop.time() + extra_ns / 1e9, self._not_before_s)
        if at_s <= loop.time():
            self._arrive(text)
        else:
            self._not_before_s = at_s + ORDER_KEPT_S
            loop.call_at(at_s, self._arrive, text)

    def _arrive(self, text: str) -> None:
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
    """One exchange on one port. `plan`: faults that come by themselves. `idle_cut_s`: what a client may be silent."""

    def __init__(
        self,
        exchange: Exchange,
        token: str,
        clock: Clock,
        address_requests_max: int = 0,
        plan: FaultFile | None = None,
        idle_cut_s: float = IDLE_CUT_S,
    ) -> None:
        self._idle_cut_s = idle_cut_s
        self._exchange = exchange
        self._faults = exchange.faults
        self._addresses = AddressLimits(address_requests_max)
        self._clock = clock
        self._plan = plan
        self._plan_changed = asyncio.Event()
        self._face = V5(exchange)
        self._streams = Streams(exchange)
        self._control = Control(exchange, token, self._begin)
        self._sockets: set[_Socket] = set()
        self._connections = 0
        self._confirming = False

    def application(self) -> web.Application:
        app = web.Application(client_max_size=1 << 20)
        for category in self._exchange.categories:
            app.router.add_get(f"/v5/public/{category}", self._open_public)
        app.router.add_get("/v5/private", self._open_private)
        app.router.add_get("/v5/trade", self._open_trade)
        app.router.add_route("*", "/v5/{path:.*}", self._rest)
        app.router.add_route("*", "/sim/{path:.*}", self._sim)
        return app

    async def run_market(self) -> None:
        """Move every market when it is due and tell everybody."""
        exchange = self._exchange
        while True:
            now_ns = self._clock.now_ns()
            for venue in exchange.venues:
                if venue.advance(now_ns):
                    self._streams.distribute(now_ns, venue)
            self._streams.flush(now_ns)
            self._cut_ended_keys(now_ns)
            due_ns = min(exchange.next_at_ns(), self._streams.next_flush_ns() or exchange.next_at_ns())
            due_s = (due_ns - self._clock.now_ns()) / 1e9
            await asyncio.sleep(max(due_s, PUMP_MIN_S))

    def _begin(self, plan: FaultFile | None) -> None:
        self._plan = plan
        self._faults.calm()
        self._plan_changed.set()

    async def run_plan(self) -> None:
        """Let the faults of the plan come in their time, counted from its beginning, until another one takes over."""
        while True:
            self._plan_changed.clear()
            start_ns = self._clock.now_ns()
            for due in self._plan.due() if self._plan is not None else ():
                if await self._other_plan_within((start_ns + due.at_ns - self._clock.now_ns()) / 1e9):
                    break
                self._exchange.befall(due, self._clock.now_ns())
                self._after_arming()
            await self._plan_changed.wait()

    async def _other_plan_within(self, wait_s: float) -> bool:
        try:
            async with asyncio.timeout(max(0.0, wait_s)):
                return await self._plan_changed.wait()
        except TimeoutError:
            return False

    # ---- REST ---------------------------------------------------------------------------------------------------

    async def _rest(self, request: web.Request) -> web.Response:
        body = await request.read()
        if not self._addresses.admit_request(request.remote or "", self._clock.now_ns()):
            self._cut_address(request.remote or "")
            return web.Response(status=403, text="access too frequent", content_type="text/plain")
        latency_ns = self._faults.latency_ns()
        late_ns = self._faults.of("request", self._clock.now_ns())
        if late_ns is None:
            return await self._lose(request)
        if latency_ns + late_ns:
            await asyncio.sleep((latency_ns + late_ns) / 1e9)
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Request(request.method, request.path, request.rel_url.raw_query_string, body, headers)
        if self._faults.doubles("request"):  # as a gateway that tries again: the second answer is the client's
            self._face.answer(asked, self._clock.now_ns())
        answer = self._face.answer(asked, self._clock.now_ns())
        self._confirm_soon()
        late_ns = None if answer.lost else self._faults.of("answer", self._clock.now_ns())
        if late_ns is None:
            return await self._lose(request)
        if late_ns:
            await asyncio.sleep(late_ns / 1e9)
        return web.Response(
            status=answer.status, body=answer.body, headers=answer.headers, content_type="application/json"
        )

    async def _lose(self, request: web.Request) -> web.Response:
        """No answer ever comes."""
        await asyncio.sleep(LOST_ANSWER_S)
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=504)

    async def _sim(self, request: web.Request) -> web.Response:
        body = await request.read()
        token = request.headers.get("X-Sim-Token", "")
        query = request.rel_url.raw_query_string
        status, reply = self._control.answer(request.method, request.path, query, body, token, self._clock.now_ns())
        self._after_arming()
        return web.Response(status=status, body=msgspec.json.encode(reply), content_type="application/json")

    def _after_arming(self) -> None:
        for stream in self._faults.take_cuts():
            for socket in [one for one in self._sockets if stream in ("all", one.kind)]:
                socket.cut()
        self._confirm_soon()

    def _confirm_soon(self) -> None:
        if not self._confirming:
            self._confirming = True
            asyncio.get_running_loop().call_later(CONFIRM_AFTER_S, self._confirm)

    def _confirm(self) -> None:
        self._confirming = False
        self._streams.distribute(self._clock.now_ns())

    def _cut_address(self, address: str) -> None:
        for socket in [s for s in self._sockets if s.address == address]:
            socket.cut()

    def _cut_ended_keys(self, now_ns: int) -> None:
        """Sockets whose key is the account's no more, once its grace is over."""
        for socket in list(self._sockets):
            key = socket.session.api_key if isinstance(socket.session, PrivateSession | TradeSession) else ""
            if key and holder_of_key(self._exchange, key, now_ns) is None:
                socket.cut()

    # ---- sockets ------------------------------------------------------------------------------------------------

    async def _open_public(self, request: web.Request) -> web.StreamResponse:
        socket = self._socket("public", request)
        category: Category = "spot" if request.path.endswith("/spot") else "linear"

        def is_topic(topic: str) -> bool:
            return self._streams.is_public_topic(category, topic)

        def subscribed(session: PublicSession, topic: str) -> None:
            self._streams.subscribed(category, session, topic, self._clock.now_ns())

        session = PublicSession(self._connection_id(), socket.pushes, is_topic, subscribed)
        self._streams.open_public(category, session)
        try:
            return await self._serve(socket, session, request)
        finally:
            self._streams.close_public(session)

    def _socket(self, kind: Kind, request: web.Request) -> _Socket:
        return _Socket(kind, request, self._faults, self._clock, self._idle_cut_s)

    async def _open_private(self, request: web.Request) -> web.StreamResponse:
        socket = self._socket("private", request)
        session = PrivateSession(self._connection_id(), socket.pushes, self._face)
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
        self._await_disconnect_cancel()  # of others, whose window ends later
        self._confirm_soon()

    async def _open_trade(self, request: web.Request) -> web.StreamResponse:
        socket = self._socket("trade", request)
        session = TradeSession(self._connection_id(), socket.pushes, self._face, self._confirm_soon)
        return await self._serve(socket, session, request)

    async def _serve(self, socket: _Socket, session: Session, request: web.Request) -> web.StreamResponse:
        if not self._addresses.admit_socket(socket.address, self._clock.now_ns()):
            return web.Response(status=403, text="access too frequent", content_type="text/plain")
        if self._faults.is_down(self._clock.now_ns()):
            return web.Response(status=503)
        await socket.stream.prepare(request)
        socket.session = session
        self._sockets.add(socket)
        writer = asyncio.create_task(socket.write())
        try:
            async for message in socket.stream:
                if message.type is WSMsgType.TEXT:
                    await self._hear(socket, session, message.data)
        except TimeoutError:
            await socket.stream.close()
        finally:
            self._sockets.discard(socket)
            writer.cancel()
        return socket.stream

    async def _hear(self, socket: _Socket, session: Session, text: str) -> None:
        """A client's message; on the trade socket it is a request: late or lost, twice or after the next."""
        if socket.kind != "trade":
            session.receive(text, self._clock.now_ns())
            return
        socket.requests(text)
        arriving, socket.arriving[:] = list(socket.arriving), []
        for one in arriving:
            late_ns = self._faults.of("request", self._clock.now_ns())
            if late_ns:
                await asyncio.sleep(late_ns / 1e9)
            if late_ns is not None:
                session.receive(one, self._clock.now_ns())

    def _connection_id(self) -> str:
        self._connections += 1
        return f"sim-{os.getpid()}-{self._connections}"
