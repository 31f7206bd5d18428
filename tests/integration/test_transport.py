"""What a failing connection means, against real sockets on loopback: not sent, or no answer."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import ssl
import warnings
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import aiohttp
import pytest
import uvloop
from aiohttp import web
from aiohttp.http import WS_KEY
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from yarl import URL

from bot.venues.transport import SLICE_MESSAGES, AiohttpTransport, HttpAnswer, NoAnswer, NotSent, SocketClosed

pytestmark = pytest.mark.integration

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def request_to(handler: Handler, *, path: str = "/x", timeout_s: float = 60.0) -> HttpAnswer:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport = AiohttpTransport()
    try:
        return await transport.request("POST", f"http://127.0.0.1:{port}{path}", {"X-A": "b"}, b"{}", timeout_s)
    finally:
        await transport.close()
        server.close()


def answering(text: bytes, seen: list[bytes]) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(text)
        await writer.drain()

    return handler


def test_a_whole_answer_comes_back_and_its_headers_are_asked_for_in_lower_case():
    seen: list[bytes] = []
    text = b"HTTP/1.1 429 Too Many\r\nX-Bapi-Limit: 10\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
    answer = asyncio.run(request_to(answering(text, seen)))
    assert (answer.status, answer.body, answer.headers["x-bapi-limit"]) == (429, b"hi", "10")
    assert b"Content-Type: application/json" in seen[0]


def test_the_query_goes_out_byte_for_byte_as_it_was_signed():
    seen: list[bytes] = []
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    asyncio.run(request_to(answering(text, seen), path="/v5/x?cursor=a%3Db%26c&d=%2B"))
    assert seen[0].startswith(b"POST /v5/x?cursor=a%3Db%26c&d=%2B HTTP/1.1\r\n")


def test_a_request_leaves_as_aiohttp_itself_would_write_it_and_without_a_task_of_its_own():
    heads: list[bytes] = []
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            heads.append(head + await reader.readexactly(2))
            writer.write(text)

    async def run() -> int:
        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v5/x?a=%2B"
        transport, headers = AiohttpTransport(), {"X-A": "b"}
        async with aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as session:
            await session.post(URL(url, encoded=True), headers=headers, data=b"{}")
        try:
            await transport.request("POST", url, headers, b"{}", 60.0)  # opens the connection
            before = asyncio.all_tasks()
            made: list[object] = []
            asyncio.get_running_loop().set_task_factory(
                lambda loop, work: made.append(work) or asyncio.Task(work, loop=loop)
            )
            await transport.request("POST", url, headers, b"{}", 60.0)
            assert asyncio.all_tasks() == before
        finally:
            asyncio.get_running_loop().set_task_factory(None)
            await transport.close()
            server.close()
        return len(made)

    assert asyncio.run(run()) == 0
    theirs, first, second = heads
    assert first == second == theirs
    assert theirs.endswith(b"\r\n\r\n{}")


def test_a_socket_whose_other_end_takes_nothing_is_not_drained_until_it_does():
    taking = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line for line in head.splitlines() if line.startswith("Sec-WebSocket-Key")).split(": ")[1]
        accept = base64.b64encode(hashlib.sha1(key.encode() + WS_KEY).digest()).decode()  # noqa: S324  # RFC 6455
        upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        writer.write(f"{upgrade}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
        try:
            await taking.wait()
            while await reader.read(1 << 20):
                pass
        finally:
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(deaf, "127.0.0.1", 0)
        transport = AiohttpTransport()
        try:
            socket = await transport.connect(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", 60.0)
            async with asyncio.timeout(60):
                await socket.drained()
            sending = asyncio.create_task(socket.send("x" * 20_000_000))  # more than two kernels' buffers
            await asyncio.sleep(0)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await socket.drained()
            taking.set()
            async with asyncio.timeout(60):
                await sending
                await socket.drained()
        finally:
            taking.set()
            await transport.close()
            server.close()

    asyncio.run(run())


def test_what_is_sent_at_once_is_written_before_it_returns_and_a_full_socket_takes_nothing_more():
    """The wait for a full socket is not begun: whoever sends next asks first, and nothing of it warns or lingers."""
    heard: list[str] = []
    taking, all_heard = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        await taking.wait()
        async for message in socket:
            heard.append(message.data)
            if len(heard) == 3:
                all_heard.set()
        return socket

    async def run() -> list[bool]:
        application = web.Application()
        application.router.add_get("/", slow)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        transport = AiohttpTransport()
        try:
            socket = await transport.connect(f"http://127.0.0.1:{runner.addresses[0][1]}/", 60.0)
            took = [socket.takes()]
            socket.send_now("first")
            took.append(socket.takes())
            socket.send_now("x" * 20_000_000)  # more than two kernels' buffers
            took.append(socket.takes())
            taking.set()
            async with asyncio.timeout(60):
                await socket.drained()
            took.append(socket.takes())
            socket.send_now("last")
            async with asyncio.timeout(60):
                await all_heard.wait()
            await socket.close()
            with pytest.raises(SocketClosed):
                socket.send_now("too late")
        finally:
            await transport.close()
            await runner.cleanup()
        return took

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert asyncio.run(run()) == [True, True, False, True]
    assert [len(text) for text in heard] == [5, 20_000_000, 4]


def test_a_redirect_is_an_answer_and_is_not_followed():
    seen: list[bytes] = []
    text = b"HTTP/1.1 302 Found\r\nLocation: /y\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    assert asyncio.run(request_to(answering(text, seen))).status == 302
    assert len(seen) == 1


def test_a_refused_connection_means_not_sent():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/x"

        async def ask() -> None:
            transport = AiohttpTransport()
            try:
                with pytest.raises(NotSent):
                    await transport.request("POST", url, {}, b"{}", 30.0)
                with pytest.raises(NotSent):
                    await transport.connect(url.replace("http", "ws"), 30.0)
            finally:
                await transport.close()

        asyncio.run(ask())


def test_a_connection_cut_after_the_request_means_no_answer_and_is_not_repeated():
    seen: list[bytes] = []
    with pytest.raises(NoAnswer):
        asyncio.run(request_to(answering(b"", seen)))
    assert len(seen) == 1


def test_half_an_answer_means_no_answer():
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"
    with pytest.raises(NoAnswer):
        asyncio.run(request_to(answering(text, [])))


def test_silence_after_the_request_means_no_answer_within_the_time_out():
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)  # until the client gives up

    with pytest.raises(NoAnswer, match=r"no answer in 0\.2 s"):
        asyncio.run(request_to(handler, timeout_s=0.2))


def test_other_work_has_its_turn_while_messages_still_wait_and_none_is_lost_or_out_of_order():
    sent = [f'{{"u":{number}}}'.encode() for number in range(5_000)]

    async def flood(request: web.Request) -> web.WebSocketResponse:
        stream = web.WebSocketResponse(compress=False)
        await stream.prepare(request)
        for message in sent:
            await stream.send_str(message.decode())
        await stream.close()
        return stream

    async def run() -> tuple[list[bytes | str], list[int]]:
        app = web.Application()
        app.router.add_get("/", flood)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        transport = AiohttpTransport()
        taken: list[bytes | str] = []
        turns: list[int] = []

        def turn() -> None:
            turns.append(len(taken))
            if len(taken) < len(sent):
                asyncio.get_running_loop().call_soon(turn)

        def take(message: bytes | str) -> None:
            if not taken:
                turn()
            taken.append(message)

        try:
            socket = await transport.connect(f"http://127.0.0.1:{runner.addresses[0][1]}/", 60.0)
            with pytest.raises(SocketClosed):
                await socket.hand_over(take)
        finally:
            await transport.close()
            await runner.cleanup()
        return taken, turns

    taken, turns = asyncio.run(run())
    assert taken == sent
    assert max(after - before for before, after in pairwise(turns)) <= SLICE_MESSAGES


def test_a_socket_follows_no_redirect_and_so_its_login_reaches_no_other_host():
    reached: list[str] = []

    async def elsewhere(request: web.Request) -> web.WebSocketResponse:
        reached.append(request.path)
        await (opened := web.WebSocketResponse()).prepare(request)
        return opened

    async def run() -> None:
        other, own = web.Application(), web.Application()
        other.router.add_get("/x", elsewhere)
        runners = [web.AppRunner(one, access_log=None) for one in (other, own)]

        async def redirect(_: web.Request) -> web.Response:
            raise web.HTTPFound(f"http://127.0.0.1:{runners[0].addresses[0][1]}/x")

        own.router.add_get("/v5/private", redirect)
        transport = AiohttpTransport()
        try:
            for runner in runners:
                await runner.setup()
                await web.TCPSite(runner, "127.0.0.1", 0).start()
            with pytest.raises(NotSent, match="redirect"):
                await transport.connect(f"ws://127.0.0.1:{runners[1].addresses[0][1]}/v5/private", 60.0)
        finally:
            await transport.close()
            for runner in runners:
                await runner.cleanup()

    asyncio.run(run())
    assert reached == []


def certified(folder: Path) -> ssl.SSLContext:
    """A server's context for loopback, by a certificate that nobody else has."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
    certificate = builder.not_valid_after(now + timedelta(hours=1)).sign(key, hashes.SHA256())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    both = folder / "server.pem"
    both.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + certificate.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_socket_over_tls_takes_what_is_sent_until_it_is_full_and_again_once_it_is_not(
    loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
):
    context = certified(tmp_path)

    async def run() -> tuple[list[bool], int, int]:
        taking, heard, sent = asyncio.Event(), 0, 0
        all_heard = asyncio.Event()

        async def slow(request: web.Request) -> web.WebSocketResponse:
            nonlocal heard
            answer = web.WebSocketResponse(max_msg_size=0)
            await answer.prepare(request)
            heard += len((await answer.receive()).data) == 5
            assert request.transport is not None
            request.transport.pause_reading()  # type: ignore[attr-defined]  # it can
            await taking.wait()
            request.transport.resume_reading()  # type: ignore[attr-defined]  # it can
            async for message in answer:
                heard += 1
                if message.data == "last":
                    all_heard.set()
            return answer

        application = web.Application()
        application.router.add_get("/", slow)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        transport = AiohttpTransport()
        transport._sockets = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False))
        try:
            async with asyncio.timeout(60):
                socket = await transport.connect(f"wss://127.0.0.1:{runner.addresses[0][1]}/", 60.0)
                took = [socket.takes()]
                await socket.drained()
                socket.send_now("first")
                sent += 1
                took.append(socket.takes())
                await socket.drained()
                while socket.takes():
                    socket.send_now("x" * 100_000)
                    sent += 1
                    await asyncio.sleep(0)
                taking.set()
                await socket.drained()
                took.append(socket.takes())
                socket.send_now("last")
                sent += 1
                await all_heard.wait()
                await socket.close()
        finally:
            await transport.close()
            await runner.cleanup()
        return took, sent, heard

    with asyncio.Runner(loop_factory=loop) as runner:
        took, sent, heard = runner.run(run())
    assert took == [True, True, True]
    assert heard == sent > 2
