"""The bot's own client of a venue over TLS: whom it believes, and what a peer that reads nothing is left with."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import hashlib
import socket
import ssl
import struct
import warnings
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp.web
import pytest
import uvloop
from redis.exceptions import ConnectionError as RedisConnectionError

from bot.runtime.aws_secrets import AwsSecrets
from bot.runtime.secrets import SecretsUnreadable
from bot.runtime.venue_watch import VenueWatch
from bot.simulator.listings import GENERATED, exchange_of, generated
from bot.simulator.loopback import Clock, LoopbackVenue
from bot.stores.redis_place import RedisPlace
from bot.venues.bybit.account_client import AccountClient
from bot.venues.bybit.hosts import BybitHosts
from bot.venues.ccxt.capabilities import CAPABILITIES
from bot.venues.ccxt.client import open_exchange
from bot.venues.port import VenueGarbled, VenueUnreachable
from bot.venues.transport import (
    UNSENT_BYTES_MAX,
    AiohttpSocket,
    AiohttpTransport,
    NoAnswer,
    NotSent,
    Socket,
    SocketClosed,
)
from tests.support.tls import Authority, TlsFront, tls_front

pytestmark = pytest.mark.integration

Loop = Callable[[], asyncio.AbstractEventLoop]
WS_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
SIOCOUTQ, SIOCOUTQNSD, BYTES_ACKED_AT = 0x5411, 0x894B, 120
"""Of Linux: how many bytes of a socket nobody has acknowledged, how many were not sent even once; where in its account
of a connection stands how many were acknowledged."""
KEY, SECRET = "the-key", "the-secret"
FRAME = "x" * 400
"""About as long as an order."""
FRAME_BYTES = {False: len(FRAME) + 8, True: len(FRAME) + 8 + 22}
"""As a client's frame, and as a record of TLS 1.3"""
SEGMENT_BYTES_MAX = 1 << 16
"""What a kernel adds to the last segment that it has, whatever the limit."""


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Loop:
    made: Loop = request.param
    return made


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process that was started with SSL_CERT_FILE."""
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", authority.client())
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))


def play(loop: Loop, work: Callable[[AiohttpTransport], Awaitable[None]]) -> None:
    async def whole() -> None:
        transport = AiohttpTransport()
        try:
            async with asyncio.timeout(60):
                await work(transport)
        finally:
            await transport.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(whole())


# ---- whom it believes -----------------------------------------------------------------------------------------------


def outdated(context: ssl.SSLContext) -> ssl.SSLContext:
    """Speaks TLS 1.1 at most."""
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is the point
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    return context


REFUSED: dict[str, tuple[Callable[[Authority, Path], ssl.SSLContext], str]] = {
    "another authority": (lambda _, folder: Authority(folder, "another").server(), "unable to get local issuer"),
    "another host": (lambda authority, _: authority.server(["venue.example"]), "not valid for 'localhost'"),
    "expired": (lambda authority, _: authority.server(expired=True), "has expired"),
    "TLS 1.1": (lambda authority, _: outdated(authority.server()), "no connection to localhost"),
}


async def knock(transport: AiohttpTransport, port: int) -> list[str]:
    """By every way there is, with a key in each. Returns what was said of them."""
    said = []
    for way in (
        transport.request("POST", f"https://localhost:{port}/v5/order/create", {"X-BAPI-API-KEY": KEY}, b"{}", 30.0),
        transport.request("GET", f"https://localhost:{port}/v5/x?k={KEY}", {"X-BAPI-API-KEY": KEY}, b"", 30.0),
        transport.connect(f"wss://localhost:{port}/v5/private", 30.0),
    ):
        with pytest.raises(NotSent) as refused:
            await way
        said.append(str(refused.value))
    return said


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("whose", REFUSED)
def test_who_shows_no_certificate_of_that_host_is_told_nothing_at_all(
    whose: str, authority: Authority, loop: Loop, tmp_path: Path
) -> None:
    context_of, why = REFUSED[whose]
    with tls_front(context_of(authority, tmp_path), 9) as front:

        async def work(transport: AiohttpTransport) -> None:
            for said in await knock(transport, front.port):
                assert why in said
                assert "\n" not in said

        play(loop, work)
        assert len(front.names) >= 3 or whose == "TLS 1.1", "it was greeted"
        assert bytes(front.heard) == b""


@pytest.mark.usefixtures("trusted")
def test_a_refused_certificate_is_one_line_of_whose_and_why(authority: Authority, loop: Loop) -> None:
    with tls_front(authority.server(expired=True), 9) as front:

        async def work(transport: AiohttpTransport) -> None:
            wanted = f"the certificate of localhost:{front.port} is refused: certificate has expired"
            assert set(await knock(transport, front.port)) == {wanted}

        play(loop, work)


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("peer", ["no TLS", "gone", "silent"])
def test_who_never_ends_the_handshake_was_sent_nothing(peer: str, loop: Loop) -> None:
    heard, ended = bytearray(), asyncio.Semaphore(0)

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read(1 << 16))
        if peer == "no TLS":
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        if peer == "silent":
            with contextlib.suppress(ConnectionError):
                heard.extend(await reader.read(-1))
        writer.close()
        ended.release()

    async def work(transport: AiohttpTransport) -> None:
        server = await asyncio.start_server(accepted, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NotSent):
            await transport.request("POST", f"https://localhost:{port}/", {"X-BAPI-API-KEY": KEY}, b"{}", 0.5)
        with pytest.raises(NotSent):
            await transport.connect(f"wss://localhost:{port}/", 0.3)
        await ended.acquire()
        await ended.acquire()  # nobody holds on to a connection that was given up
        server.close()

    play(loop, work)
    assert heard
    assert KEY.encode() not in heard


@pytest.mark.usefixtures("trusted")
def test_every_way_names_the_host_that_it_means_and_speaks_a_tls_of_today(authority: Authority, loop: Loop) -> None:
    with answering(authority.server()) as front:

        async def work(transport: AiohttpTransport) -> None:
            url = f"localhost:{front.port}/v5/private"
            assert (await transport.request("POST", f"https://{url}", {}, b"{}", 30.0)).status == 200
            with pytest.raises(NotSent):
                await transport.connect(f"wss://{url}", 30.0)  # the venue answers with no upgrade

        play(loop, work)
        with account_client(front.port) as client, pytest.raises(VenueGarbled):
            client.server_time_ms()
        assert front.names == ["localhost"] * 3
        assert sum(front.opened.values()) == 3
        assert set(front.versions) <= {"TLSv1.2", "TLSv1.3"}


def test_the_contexts_of_every_client_check_host_and_certificate_from_tls_1_2_on() -> None:
    import aiohttp.connector as theirs

    client = AccountClient(BybitHosts("https://localhost", "", "", ""), KEY, SECRET)
    kill_switchs: ssl.SSLContext = client._http._transport._pool._ssl_context  # type: ignore[attr-defined]
    client.close()
    for context in (theirs._SSL_CONTEXT_VERIFIED, kill_switchs):
        assert context.check_hostname
        assert context.verify_mode is ssl.CERT_REQUIRED
    assert kill_switchs.minimum_version >= ssl.TLSVersion.TLSv1_2
    left_to_the_system = ssl.TLSVersion.MINIMUM_SUPPORTED  # as Debian has it; that 1.1 is refused is shown above
    assert theirs._SSL_CONTEXT_VERIFIED.minimum_version in (
        ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3, left_to_the_system
    )  # fmt: skip


def account_client(port: int) -> AccountClient:
    return AccountClient(BybitHosts(f"https://localhost:{port}", "", "", ""), KEY, SECRET, timeout_s=30, call_s_max=30)


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("whose", REFUSED)
def test_the_kill_switchs_client_tells_nothing_either(whose: str, authority: Authority, tmp_path: Path) -> None:
    context_of, _ = REFUSED[whose]
    with tls_front(context_of(authority, tmp_path), 9) as front, account_client(front.port) as client:
        with pytest.raises(VenueUnreachable):
            client.server_time_ms()
        assert bytes(front.heard) == b""


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("whose", ["another authority", "another host", "expired"])
def test_where_the_journal_and_the_keys_are_kept_is_told_nothing_either(
    whose: str, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context_of, why = REFUSED[whose]
    known = {"MM_REDIS_PASSWORD": SECRET, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    for name, value in {**known, "AWS_CA_BUNDLE": str(authority.file)}.items():
        monkeypatch.setenv(name, value)
    with tls_front(context_of(authority, tmp_path), 9) as front:
        redis = RedisPlace(f"rediss://localhost:{front.port}", "a").connect()
        with pytest.raises(RedisConnectionError, match=why):
            redis.ping()
        redis.close()
        aws = AwsSecrets("dev", {"AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL": f"https://localhost:{front.port}"})
        with pytest.raises(SecretsUnreadable, match="SSL"):
            aws.pair("bybit")
        assert len(front.names) >= 2
        assert bytes(front.heard) == b""


@contextlib.contextmanager
def answering(context: ssl.SSLContext) -> Iterator[TlsFront]:
    """A front before one that answers whatever it is asked with an empty object."""
    from tests.support.loopback import LoopbackServer

    class Empty(LoopbackServer):
        def answer(self, path: str, headers: object, body: bytes) -> tuple[int, bytes]:
            return 200, b"{}"

    venue = Empty()
    try:
        with tls_front(context, venue.port) as front:
            yield front
    finally:
        venue.close()


@pytest.mark.usefixtures("trusted")
def test_the_watchdogs_looks_go_by_the_same_rules(authority: Authority, loop: Loop) -> None:
    async def look(port: int) -> tuple[int, int]:
        async with aiohttp.ClientSession(trust_env=False) as session:
            hosts = BybitHosts(f"https://localhost:{port}", f"wss://localhost:{port}/v5/public/linear", "", "")
            watch = VenueWatch(session, hosts, 30.0)
            await watch.look()
            await watch.close()
            return watch.rest_failed, watch.socket_failed

    async def work(_: AiohttpTransport) -> None:
        exchange = exchange_of([GENERATED], generated, seed=1, now_ns=Clock().now_ns())
        runner = aiohttp.web.AppRunner(LoopbackVenue(exchange, "", Clock()).application(), shutdown_timeout=0.1)
        await runner.setup()
        for context, failed in ((authority.server(), 0), (authority.server(expired=True), 1)):
            site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
            await site.start()
            assert await look(runner.addresses[-1][1]) == (failed, failed)
            await site.stop()
        await runner.cleanup()

    play(loop, work)


def test_what_ccxt_opens_checks_certificates_and_asks_no_proxy_of_the_environment() -> None:
    for exchange in CAPABILITIES:
        opened = open_exchange(exchange, "linear")
        assert opened.verify is True
        assert not opened.aiohttp_trust_env


@pytest.mark.usefixtures("trusted")
def test_no_proxy_of_the_environment_stands_between_us_and_the_venue(
    authority: Authority, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy, answering(authority.server()) as front:
        proxy.setblocking(False)
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "WS_PROXY", "WSS_PROXY"):
            monkeypatch.setenv(name, address)
            monkeypatch.setenv(name.lower(), address)

        async def work(transport: AiohttpTransport) -> None:
            answer = await transport.request("POST", f"https://localhost:{front.port}/v5/x", {}, b"{}", 30.0)
            assert answer.status == 200
            with pytest.raises(NotSent):
                await transport.connect(f"wss://localhost:{front.port}/v5/trade", 30.0)

        play(loop, work)
        with account_client(front.port) as client, pytest.raises(VenueGarbled):
            client.server_time_ms()
        assert (front.opened["rest"], front.opened["trade"]) == (2, 1)
        with pytest.raises(BlockingIOError):
            proxy.accept()


# ---- how a connection ends ------------------------------------------------------------------------------------------


async def ends(writer: asyncio.StreamWriter, how: str) -> None:
    if how == "by a reset":
        own = writer.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if how == "with the farewell of TLS":
        writer.close()
    else:
        writer.transport.abort()


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("how", ["with the farewell of TLS", "without it", "by a reset"])
def test_an_end_in_the_middle_is_told_at_once_whatever_it_looks_like(
    how: str, authority: Authority, loop: Loop
) -> None:
    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"POST"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        else:
            writer.write(upgrade(head) + b"\x81\x02hi" + b"\x81\x7e\x10\x00{")  # a message, and the beginning of one
        await writer.drain()
        await asyncio.sleep(0)
        await ends(writer, how)

    async def work(transport: AiohttpTransport) -> None:
        server = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=authority.server())
        at = f"localhost:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(NoAnswer):
            await transport.request("POST", f"https://{at}", {}, b"{}", 60.0)
        taken: list[bytes | str] = []
        opened = await transport.connect(f"wss://{at}", 30.0)
        with pytest.raises(SocketClosed):
            await opened.hand_over(taken.append)
        assert taken == [b"hi"] or how == "by a reset", "a reset may overtake what was sent"
        server.close()

    play(loop, work)


def upgrade(head: bytes) -> bytes:
    """What a server answers to a handshake."""
    asked = next(line for line in head.splitlines() if line.startswith(b"Sec-WebSocket-Key"))
    accept = base64.b64encode(hashlib.sha1(asked.split(b": ")[1] + WS_KEY).digest())  # noqa: S324  # RFC 6455
    first = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    return first + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"


# ---- what a peer that reads nothing is left with --------------------------------------------------------------------


class Deaf:
    """A server of one WebSocket that reads nothing of it until `reads`. `heard`: whole frames, once it is over."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        self.reads = asyncio.Event()
        self.over = asyncio.Event()
        self.ended_by = ""
        self.heard = 0

    async def __aenter__(self) -> Deaf:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0, ssl=self._context)
        scheme = "ws" if self._context is None else "wss"
        self.url = f"{scheme}://localhost:{self._server.sockets[0].getsockname()[1]}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.reads.set()
        self._server.close()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(upgrade(await reader.readuntil(b"\r\n\r\n")))
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # it can
        await self.reads.wait()
        writer.transport.resume_reading()  # type: ignore[attr-defined]  # it can
        taken = 0
        try:
            while data := await reader.read(1 << 16):
                taken += len(data)
            self.ended_by = "end"
        except (OSError, ssl.SSLError) as error:
            self.ended_by = type(error).__name__
        self.heard = taken // FRAME_BYTES[False]
        writer.transport.abort()
        self.over.set()


async def fill(opened: Socket) -> int:
    """Sends until nothing has been taken for a while. Returns how many frames were."""
    sent = 0
    while True:
        while opened.takes():
            opened.send_now(FRAME)
            sent += 1
        try:
            async with asyncio.timeout(0.3):
                await opened.drained()
        except TimeoutError:
            return sent


def own_socket(opened: Socket) -> Any:
    assert isinstance(opened, AiohttpSocket)
    return opened._writer.transport.get_extra_info("socket")


def in_kernel(opened: Socket) -> tuple[int, int]:
    """How many bytes its kernel was ever given, and how many of these it has not sent even once."""
    own = own_socket(opened)
    (acknowledged,) = struct.unpack_from("Q", own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), BYTES_ACKED_AT)
    unacknowledged, unsent = (
        struct.unpack("i", fcntl.ioctl(own.fileno(), asked, b"\0" * 4))[0] for asked in (SIOCOUTQ, SIOCOUTQNSD)
    )
    return acknowledged + unacknowledged, unsent


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "TLS"])
def test_of_what_a_peer_does_not_read_little_waits_in_a_kernel_nothing_unseen_and_none_leaves_after_the_end(
    is_tls: bool, authority: Authority, loop: Loop
) -> None:
    async def work(transport: AiohttpTransport) -> None:
        async with Deaf(authority.server() if is_tls else None) as peer:
            opened = await transport.connect(peer.url, 30.0)
            given, _ = in_kernel(opened)
            sent = await fill(opened)
            assert not opened.takes()
            given_since, unsent = in_kernel(opened)[0] - given, in_kernel(opened)[1]
            assert sent * FRAME_BYTES[is_tls] - given_since <= FRAME_BYTES[is_tls], (
                "less than one waits in this process"
            )
            assert len(FRAME) < unsent <= UNSENT_BYTES_MAX + SEGMENT_BYTES_MAX
            own = own_socket(opened)
            await opened.close()
            while own.fileno() != -1:  # noqa: ASYNC110 - a loop tells nobody
                await asyncio.sleep(0)
            peer.reads.set()
            await peer.over.wait()
            assert peer.heard < sent
            assert peer.ended_by == "ConnectionResetError"
            with pytest.raises(SocketClosed):
                opened.send_now(FRAME)

    play(loop, work)


@pytest.mark.usefixtures("trusted")
def test_a_socket_that_its_peer_hears_is_closed_in_order_though_two_close_it(authority: Authority, loop: Loop) -> None:
    async def work(transport: AiohttpTransport) -> None:
        heard: list[object] = []

        async def listen(request: aiohttp.web.Request) -> aiohttp.web.WebSocketResponse:
            answer = aiohttp.web.WebSocketResponse()
            await answer.prepare(request)
            heard.extend([one.data async for one in answer])
            heard.append(answer.close_code)
            return answer

        application = aiohttp.web.Application()
        application.router.add_get("/", listen)
        runner = aiohttp.web.AppRunner(application)
        await runner.setup()
        await aiohttp.web.TCPSite(runner, "127.0.0.1", 0, ssl_context=authority.server()).start()
        try:
            opened = await transport.connect(f"wss://localhost:{runner.addresses[0][1]}/", 30.0)
            reading = asyncio.ensure_future(opened.receive())
            await opened.send("hello")
            opened.send_now("bye")
            await asyncio.gather(opened.close(), opened.close())
            with pytest.raises(SocketClosed):
                await reading
            while len(heard) < 3:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0)
            assert heard == ["hello", "bye", aiohttp.WSCloseCode.OK]
        finally:
            await runner.cleanup()

    play(loop, work)
