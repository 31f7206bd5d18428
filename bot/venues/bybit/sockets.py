"""The two streams of an account: each one socket, kept up, decoded, and given to the sink as it arrives.

A connection that ends for whatever reason is opened again after a back-off that doubles, is jittered, and is forgotten
once a connection has lasted. A message that does not decode is never skipped: on the public stream it loses books, on
the private one it ends the connection, so that everything is read afresh.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Final

import msgspec

from bot.domain.events import StreamDown, StreamUp
from bot.venues.bybit import wire
from bot.venues.port import Sink, VenueError, VenueGarbled
from bot.venues.transport import NoAnswer, NotSent, Socket, SocketClosed, Transport

PING: Final = '{"op":"ping"}'
PING_EVERY_S: Final = 20.0
PONG_WITHIN_S: Final = 5.0
"""Whatever comes in this time after a ping shows that the other end lives; nothing, that it does not."""
CONNECT_TIMEOUT_S: Final = 5.0
HANDSHAKE_TIMEOUT_S: Final = 10.0
BACKOFF_FIRST_S: Final = 0.25
BACKOFF_MAX_S: Final = 10.0
STEADY_NS: Final = 10_000_000_000
"""Who has been up for so long begins the back-off anew. Who has not may be up for a moment only, again and again: an
address that connects 500 times in five minutes is shut out, and its cancels with it."""
TOPICS_PER_REQUEST: Final = 10
"""What the venue takes in one subscribe request."""

Outgoing = str | Callable[[], str]
"""A message, or who makes it at the moment of writing; an empty one is not written."""

log = logging.getLogger(__name__)


class StreamRefused(Exception):
    """The venue refused our authentication or a subscription. `op`, `req_id`: of which request, where it says so."""

    def __init__(self, detail: str, op: str = "", req_id: str = "") -> None:
        super().__init__(detail)
        self.op = op
        self.req_id = req_id


def operation(op: str, args: Sequence[str], req_id: str = "") -> str:
    """A subscribe or unsubscribe request. Its answer repeats `req_id`, where it has one."""
    return msgspec.json.encode({"op": op, "args": list(args), **({"req_id": req_id} if req_id else {})}).decode()


class Stream:
    """One socket kept up. Subclasses greet (`_greet`), take messages (`_take`) and hear of losses (`_lost`)."""

    def __init__(
        self,
        name: str,
        url: str,
        transport: Transport,
        sink: Sink,
        now_ns: Callable[[], int],
        jitter: Random,
        before_connect: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self.name = name
        self.is_up = False
        self.reconnects = 0
        self._url = url
        self._transport = transport
        self._sink = sink
        self._now_ns = now_ns
        self._jitter = jitter
        self._before_connect = before_connect
        self._outbox: asyncio.Queue[Outgoing] = asyncio.Queue()
        self._was_up = False
        self._said_down = False
        self._attempt = 0
        self._up_at_ns = 0
        self._heard = False
        self._drop_reason = ""
        self._socket: Socket | None = None
        self._holds = False
        """Whether a message has left the outbox and not yet this process"""
        self._cutting: asyncio.Task[None] | None = None

    # ---- for subclasses ---------------------------------------------------------------------------------------------

    def _greet(self) -> None:
        """A new connection: put the first messages in the outbox."""
        raise NotImplementedError

    def _take(self, raw: bytes | str) -> None:
        """One message. Raises VenueGarbled or StreamRefused to end the connection."""
        raise NotImplementedError

    def _lost(self, reason: str) -> None:
        """The connection has ended."""

    def _pinging(self) -> None:
        """A ping leaves: the time to try again what was refused."""

    def _send(self, message: Outgoing) -> None:
        self._outbox.put_nowait(message)

    def _free_socket(self) -> Socket | None:
        """Where `_write` writes at once; None: something waits before it, or the socket is full."""
        socket = self._socket
        if socket is None or self._holds or not self._outbox.empty() or not socket.takes():
            return None
        return socket

    def _write(self, socket: Socket, text: str) -> None:
        """To the free socket; nothing where it is empty."""
        if not text:
            return
        try:
            socket.send_now(text)
        except SocketClosed as closed:  # it may have left: whoever reads will see the end, and tell of it
            self._drop_reason = self._drop_reason or str(closed)
            self.cut()

    def _now_up(self) -> None:
        if self.is_up:
            return
        self.is_up, self._said_down, self._up_at_ns = True, False, self._now_ns()
        if self._was_up:
            self.reconnects += 1
        self._was_up = True
        self._sink(StreamUp(self._now_ns(), self.name))

    # ---- the life of the connection ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keeps the stream up until cancelled. Only an exception of the sink gets out."""
        while True:
            reason = await self._one_connection()
            was_up, self.is_up = self.is_up, False
            if was_up and self._now_ns() - self._up_at_ns >= STEADY_NS:
                self._attempt = 0
            self._lost(reason)
            if was_up or not self._said_down:
                self._said_down = True
                self._sink(StreamDown(self._now_ns(), self.name, reason))
            log.warning("%s stream down: %s", self.name, reason)
            await asyncio.sleep(self._backoff_s())

    def cut(self) -> bool:
        """Closes the connection under whoever reads from it. False where none is open."""
        if self._socket is None:
            return False
        self._cutting = asyncio.get_running_loop().create_task(self._socket.close())
        return True

    def _backoff_s(self) -> float:
        ceiling = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * (1 << min(self._attempt, 10)))
        self._attempt += 1
        return ceiling * self._jitter.uniform(0.5, 1.0)

    async def _one_connection(self) -> str:
        """Connects, greets, and takes messages until the connection ends. Returns why it ended."""
        try:
            if self._before_connect is not None and self._was_up:
                await self._before_connect()
            socket = await self._transport.connect(self._url, CONNECT_TIMEOUT_S)
        except (NotSent, NoAnswer, VenueError) as unconnected:
            return f"no connection: {unconnected}"
        self._outbox, self._holds = asyncio.Queue(), False
        self._heard, self._drop_reason, self._socket = True, "", socket
        sender = asyncio.get_running_loop().create_task(self._send_all(socket))
        reason, failure = "", None
        try:
            reason = await self._heard_out(socket)
        except BaseException as error:  # noqa: BLE001 - raised below, once the socket is closed
            failure = error
        self._drop_reason = self._drop_reason or reason or "nobody reads from it any more"  # so nobody writes to it
        sender.cancel()
        cancelled = None
        try:
            await asyncio.wait([sender])  # not the sender itself: whoever cancels us now must not be taken for it
        except asyncio.CancelledError as error_of_ours:
            cancelled = error_of_ours
        self._socket = None
        try:
            await socket.close()
        except Exception as unclosed:  # noqa: BLE001 - the connection is gone all the same, and that has to be told
            reason = f"{reason or 'it ended'}; closing it failed ({type(unclosed).__name__}: {unclosed})"
        if cancelled is not None:
            raise cancelled
        with contextlib.suppress(asyncio.CancelledError):
            sender.result()
        if failure is not None:
            raise failure
        return reason

    async def _heard_out(self, socket: Socket) -> str:
        """Greets and takes messages until the connection ends. Returns why it ended."""
        try:
            self._greet()
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                while not self.is_up:
                    self._take(await self._receive(socket))
            await socket.hand_over(self._hear)
        except SocketClosed as closed:
            return self._drop_reason or str(closed)
        except TimeoutError:
            return f"not subscribed in {HANDSHAKE_TIMEOUT_S} s"
        except VenueGarbled as garbled:
            return f"garbled: {garbled}"
        except StreamRefused as refusal:
            return f"refused: {refusal}"

    def _hear(self, raw: bytes | str) -> None:
        self._heard = True
        self._take(raw)

    async def _receive(self, socket: Socket) -> bytes | str:
        raw = await socket.receive()
        self._heard = True
        return raw

    def _silence(self, *, pinged: bool) -> str:
        """Why the connection is dead though it is open, empty where it is not. `pinged`: an answer is due by now."""
        return f"silent for {PONG_WITHIN_S} s after a ping" if pinged and not self._heard else ""

    async def _send_all(self, socket: Socket) -> None:
        """Sends what is in the outbox, and a ping every PING_EVERY_S; silence after it ends the socket."""
        try:
            self._drop_reason = await self._sent_all(socket)
        except SocketClosed as closed:
            self._drop_reason = self._drop_reason or str(closed)
        await socket.close()

    async def _sent_all(self, socket: Socket) -> str:
        """Returns what silence ended it. Raises SocketClosed."""
        ping_at_s, pinged = asyncio.get_running_loop().time() + PING_EVERY_S, False
        while True:
            message = await self._next_outgoing(ping_at_s)
            if message is None:
                if silent := self._silence(pinged=pinged):
                    return silent
                pinged = not pinged
                ping_at_s += PONG_WITHIN_S if pinged else PING_EVERY_S - PONG_WITHIN_S
                if not pinged:
                    continue
                self._heard = False
                self._pinging()
                message = PING
            self._holds = True
            try:
                async with asyncio.timeout(PONG_WITHIN_S):
                    await socket.drained()  # behind what has not left, a message would leave nobody knows when
            except TimeoutError:
                raise SocketClosed(f"the other end took nothing for {PONG_WITHIN_S:g} s") from None
            text = message if isinstance(message, str) else message()
            if text:
                await socket.send(text)
            self._holds = False

    async def _next_outgoing(self, until_s: float) -> Outgoing | None:
        """None: nothing was to be sent until then."""
        try:
            async with asyncio.timeout_at(until_s):
                return await self._outbox.get()
        except TimeoutError:
            return None


def push_of(raw: bytes | str, stream: str) -> wire.Push:
    """A message as topic or answer. Raises VenueGarbled; StreamRefused for an operation that did not succeed."""
    push = wire.decode(wire.Push, raw, stream)
    if push.success is False:
        raise refused(push)
    return push


def refused(push: wire.Push) -> StreamRefused:
    """Whose answer says so."""
    return StreamRefused(
        f"{push.op or 'operation'}: {push.ret_msg or 'no reason given'}", push.op, str(push.req_id or "")
    )
