"""The one place where the bot's bytes go out: HTTP requests and sockets behind a small protocol.

The adapter speaks to `Transport`; live it is aiohttp, in simulated time a mount of the simulated venue in process.
What a failure means is decided here, because only here it is known: `NotSent` (it did not happen) or `NoAnswer` (it
may have happened). Anything doubtful is `NoAnswer`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket as sockets
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, Never, Protocol

import aiohttp
from aiohttp.http import WSMessageNoDecodeText
from yarl import URL

from bot.venues.prompt_request import PromptRequest


class NotSent(Exception):
    """No byte of the request left this machine: no route, refused, no TLS, no connection in time.

    `wait_ms`: where our own count of the venue's limits kept it, how long until it may leave; 0: it was not that.
    """

    def __init__(self, detail: str, wait_ms: int = 0) -> None:
        super().__init__(detail)
        self.wait_ms = wait_ms


class NoAnswer(Exception):
    """The request left, or may have left, and no whole answer came back."""


class SocketClosed(Exception):
    """The socket ended; the message says how."""


class HttpAnswer:
    """`headers`: to be asked with names in lower case."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Socket(Protocol):
    """One open WebSocket of text messages."""

    async def send(self, text: str) -> None:
        """Raises SocketClosed."""

    def takes(self) -> bool:
        """Whether what is sent now leaves this process at once."""

    def send_now(self, text: str) -> None:
        """As `send`, where it `takes`. Raises SocketClosed."""

    async def drained(self) -> None:
        """Waits until everything sent so far has left this process. Raises SocketClosed."""

    async def receive(self) -> bytes | str:
        """The next message. Raises SocketClosed."""

    async def hand_over(self, take: Callable[[bytes | str], None]) -> Never:
        """Gives every message from now on to `take`, as it arrives. Raises SocketClosed, and what `take` raises."""

    async def close(self) -> None:
        """Idempotent; a `receive` or `hand_over` that waits raises SocketClosed."""


class Transport(Protocol):
    """Where requests and sockets go."""

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> HttpAnswer:
        """One request, never repeated, never redirected. Raises NotSent or NoAnswer."""

    async def connect(self, url: str, timeout_s: float) -> Socket:
        """Opens a socket, never redirected: the login that is sent on it is for that host alone. Raises NotSent."""

    async def close(self) -> None:
        """Closes everything."""


class Beginning(Protocol):
    """A transport whose requests need no task of their own."""

    def begin(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> asyncio.Future[HttpAnswer]:
        """As `Transport.request`, but it leaves before this returns. Whoever cancels the future gives the answer up."""


CONNECT_SHARE = 0.6
"""The part of a call's time-out that connecting may take: past it the request is known not to have been sent."""

CLOSE_TIMEOUT_S = 0.5
UNSENT_BYTES_MAX: Final = 4096
"""Past so much that a socket's kernel holds and has not sent, it is full. By itself it takes megabytes for a peer that
reads nothing, thousands of orders that nobody could withhold any more."""
NO_LINGER: Final = struct.pack("ii", 1, 0)
"""Closed with it, a kernel forgets what it has not sent."""
LOOKS_EVERY_S = 0.001
"""Whoever waits for what has left TLS and not this process."""
MESSAGE_BYTES_MAX = 4 * 1024 * 1024

SLICE_MESSAGES = 32
"""So many messages that wait are taken in one turn of the loop. Then everything else has its turn: a stop, a cancel or
an answer overtakes market data that piled up, however much of it there is. A fraction of a millisecond's work."""


class AiohttpTransport:
    """The network. One connection pool, opened at first use inside the running loop."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._sockets: aiohttp.ClientSession | None = None
        self._timeouts: dict[float, aiohttp.ClientTimeout] = {}

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> HttpAnswer:
        timeout = self._timeouts.get(timeout_s)
        if timeout is None:
            timeout = aiohttp.ClientTimeout(total=timeout_s, connect=timeout_s * CONNECT_SHARE)
            self._timeouts[timeout_s] = timeout
        try:
            answer = await self._opened().request(
                method,
                URL(url, encoded=True),  # the query is signed: nobody may quote it again
                headers=headers,
                data=body or None,
                timeout=timeout,
                allow_redirects=False,
            )
            return HttpAnswer(answer.status, answer.headers, await answer.read())  # read to its end, or closed
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as unconnected:
            raise NotSent(_describe(unconnected)) from None
        except TimeoutError:
            raise NoAnswer(f"no answer in {timeout_s} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise NoAnswer(_describe(error)) from None

    async def connect(self, url: str, timeout_s: float) -> Socket:
        try:
            async with asyncio.timeout(timeout_s):
                return AiohttpSocket(
                    await self._opened_for_sockets().ws_connect(
                        url,
                        timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
                        max_msg_size=MESSAGE_BYTES_MAX,
                        decode_text=False,  # whoever decodes the JSON looks at the encoding as well
                    )
                )
        except TimeoutError:
            raise NotSent(f"no connection in {timeout_s} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise NotSent(_describe(error)) from None

    async def close(self) -> None:
        for session in (self._session, self._sockets):
            if session is not None:
                await session.close()
        self._session = self._sockets = None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = _new_session()
        return self._session

    def _opened_for_sockets(self) -> aiohttp.ClientSession:
        """Their own: aiohttp follows a redirected handshake unless a trace stops it, which would cost each request."""
        if self._sockets is None:
            trace = aiohttp.TraceConfig()
            trace.on_request_redirect.append(_refuse_redirect)
            self._sockets = _new_session(trace)
        return self._sockets


def _new_session(*traces: aiohttp.TraceConfig) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=32, keepalive_timeout=30.0),
        cookie_jar=aiohttp.DummyCookieJar(),
        request_class=PromptRequest,
        headers={"Content-Type": "application/json"},
        trace_configs=list(traces),
    )


async def _refuse_redirect(_: aiohttp.ClientSession, __: object, told: aiohttp.TraceRequestRedirectParams) -> None:
    raise NotSent(f"{told.url.host} answered the handshake with a redirect, which is not followed")


class AiohttpSocket:
    """One WebSocket of aiohttp. What its kernel does not take at once pauses its writing: see `drained`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse[Literal[False]]) -> None:
        self._socket = socket
        self._writer = socket._writer  # aiohttp shows nobody else whether a message has left
        self._is_left = False
        transport = self._writer.transport
        self._below: Any = _next_to_kernel(transport)
        lowat = getattr(sockets, "TCP_NOTSENT_LOWAT", None)
        if lowat is not None:  # a system that cannot: full is then what its kernel takes for full
            _set_option(transport, sockets.IPPROTO_TCP, lowat, UNSENT_BYTES_MAX)
        if transport.get_extra_info("ssl_object") is None:
            transport.set_write_buffer_limits(high=0)
            return
        transport.set_write_buffer_limits(high=1, low=0)  # by 0 TLS takes itself for full with nothing in it
        if self._below is not transport:
            self._below.set_write_buffer_limits(high=0)

    async def send(self, text: str) -> None:
        try:
            await self._socket.send_str(text)
        except (aiohttp.ClientError, OSError) as error:
            raise SocketClosed(_describe(error)) from None

    def takes(self) -> bool:
        return not self._writer.protocol.writing_paused and not self._below.get_write_buffer_size()

    def send_now(self, text: str) -> None:
        sending = self._socket.send_str(text)
        try:
            waiting = sending.send(None)
        except StopIteration:
            return
        except (aiohttp.ClientError, OSError) as error:
            raise SocketClosed(_describe(error)) from None
        if waiting is not None:  # others wait for the same future: hand it back as if nobody had begun to
            waiting._asyncio_future_blocking = False
        sending.close()  # it is written, and would only wait until that has left

    async def drained(self) -> None:
        protocol = self._writer.protocol
        while self._below.get_write_buffer_size() and not protocol.writing_paused:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(LOOKS_EVERY_S)
        if not protocol.writing_paused:
            return
        try:
            # shielded: whoever waits besides, to answer a ping, waits for the same future and would be cancelled too
            left = asyncio.ensure_future(protocol._drain_helper())
            left.add_done_callback(_heard)  # whoever gave up waiting hears of the lost connection elsewhere
            await asyncio.shield(left)
        except (aiohttp.ClientError, OSError) as error:
            raise SocketClosed(_describe(error)) from None

    async def receive(self) -> bytes | str:
        return self._payload(await self._socket.receive())

    async def hand_over(self, take: Callable[[bytes | str], None]) -> Never:
        receive, text, taken = self._socket.receive, aiohttp.WSMsgType.TEXT, 0
        while True:
            message = await receive()  # goes on at once where one waits already
            take(message[1] if message[0] is text else self._payload(message))
            taken += 1
            if taken == SLICE_MESSAGES:
                taken = 0
                await asyncio.sleep(0)

    async def close(self) -> None:
        """What has not left by then never does, so that an order which was given up comes to nobody later."""
        if self._is_left:
            return
        self._is_left = True
        try:
            async with asyncio.timeout(2 * CLOSE_TIMEOUT_S):
                await self._socket.close()
        except TimeoutError:
            pass  # not even the word that it closes is taken
        finally:
            self._end()

    def _end(self) -> None:
        """Without waiting for anything: aiohttp's own end flushes first, for half a minute by TLS, else for ever."""
        transport = self._writer.transport
        if self._socket.close_code in (None, aiohttp.WSCloseCode.ABNORMAL_CLOSURE):  # nobody has heard it all
            _set_option(transport, sockets.SOL_SOCKET, sockets.SO_LINGER, NO_LINGER)
        if getattr(transport, "_ssl_protocol", transport) is None:  # asyncio's own, closed twice, knows nobody any more
            self._below.abort()
        else:
            transport.abort()

    def _payload(self, message: WSMessageNoDecodeText) -> bytes:
        if message.type is aiohttp.WSMsgType.TEXT or message.type is aiohttp.WSMsgType.BINARY:
            data: bytes = message.data
            return data
        if message.type is aiohttp.WSMsgType.ERROR:
            raise SocketClosed(_describe(message.data))
        raise SocketClosed(f"closed with code {self._socket.close_code}")


def _set_option(transport: asyncio.Transport, level: int, option: int, value: int | bytes) -> None:
    """Of its socket; nothing where that is closed already, which uvloop calls a negative descriptor, or cannot."""
    own = transport.get_extra_info("socket")
    if own is not None:
        with contextlib.suppress(OSError, ValueError):
            own.setsockopt(level, option, value)


def _next_to_kernel(transport: asyncio.Transport) -> Any:
    """The transport by which one of TLS writes, else itself: what waits there has not left, and TLS does not count it.

    uvloop shows its own to nobody; Python's collector of cycles knows it all the same.
    """
    tls = getattr(transport, "_ssl_protocol", None)
    if tls is not None:
        return tls._transport
    hidden = transport.get_extra_info("uvloop.sslproto")
    for held in gc.get_referents(hidden) if hidden is not None else ():
        if held is not transport and hasattr(held, "get_write_buffer_size"):
            return held
    return transport


def _heard(left: asyncio.Task[None]) -> None:
    """Takes its exception, if it has one: one that nobody took is told of as unexpected, and ends the run."""
    if not left.cancelled():
        left.exception()


def _describe(error: object) -> str:
    """One line, without the request: headers of a request hold the key."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
        return f"the certificate of {error.host}:{error.port} is refused: {str(why).rstrip('.')}"
    refused = isinstance(error, aiohttp.ClientConnectorSSLError)
    if isinstance(error, aiohttp.ClientConnectorError) and (
        refused or error.os_error.errno is None
    ):  # ends as "[None]"
        return f"no connection to {error.host}:{error.port}: {error.os_error or type(error.os_error).__name__}"
    text = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
