"""What leaves by the prompt request is what leaves by aiohttp's own, byte for byte, and is whole however it leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict
from yarl import URL

from bot.venues.prompt_request import PromptRequest

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
JSON = {"Content-Type": "application/json"}
SIGNED = {"X-BAPI-API-KEY": "key", "X-BAPI-TIMESTAMP": "1", "X-BAPI-SIGN": "0f", "X-BAPI-RECV-WINDOW": "5000"}


class Server:
    """Keeps what it is sent, and answers it."""

    def __init__(self) -> None:
        self.heard = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = [line.partition(b":")[2] for line in head.split(b"\r\n") if line.startswith(b"Content-Length")]
        self.heard = head + await reader.readexactly(int(length[0]) if length else 0)
        writer.write(ANSWER)
        writer.close()


async def _heard(
    request_class: type[aiohttp.ClientRequest], method: str, headers: Mapping[str, str], data: object, target: str
) -> bytes:
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    host, port = listening.sockets[0].getsockname()[:2]
    url = URL(f"http://{host}:{port}{target}", encoded=True)
    async with (
        aiohttp.ClientSession(request_class=request_class, headers=JSON) as session,
        session.request(method, url, headers=headers, data=data) as answer,
    ):
        assert (answer.status, await answer.read()) == (200, b"{}")
    listening.close()
    return server.heard.replace(f":{port}".encode(), b":PORT")


@pytest.mark.parametrize(
    ("method", "headers", "data", "target"),
    [
        ("POST", SIGNED, b'{"symbol":"BTCUSDT"}', "/v5/order/create"),
        ("POST", {}, b"x" * 300_000, "/v5/order/create-batch"),
        ("POST", SIGNED, None, "/v5/order/cancel-all"),
        ("PUT", SIGNED, b"{}", "/"),
        ("GET", SIGNED, None, "/v5/order/realtime?symbol=BTCUSDT&cursor=a%2Cb"),
        ("POST", {"User-Agent": "own", "accept": "application/json"}, b"{}", "/"),
        ("POST", {"Host": "elsewhere", "content-type": "text/plain"}, b"{}", "/"),
        ("POST", {"Content-Length": "2"}, b"{}", "/"),
        ("POST", {}, "text", "/"),
        ("POST", {}, b"", "/"),
    ],
    ids=["signed", "large", "no body", "put", "read", "own agent", "own host", "own length", "text", "empty"],
)
def test_what_leaves_is_what_aiohttp_sends(method: str, headers: Mapping[str, str], data: object, target: str) -> None:
    prompt = asyncio.run(_heard(PromptRequest, method, headers, data, target))
    assert prompt.startswith(f"{method} {target} HTTP/1.1\r\n".encode())
    assert prompt == asyncio.run(_heard(aiohttp.ClientRequest, method, headers, data, target))


def test_a_request_leaves_whole_where_writing_is_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[bool] = []
    params = ResponseHandler.set_response_params

    def pause(protocol: ResponseHandler, **more: object) -> None:
        params(protocol, **more)  # type: ignore[arg-type]
        protocol.pause_writing()
        paused.append(protocol.writing_paused)
        asyncio.get_running_loop().call_later(0.05, protocol.resume_writing)

    monkeypatch.setattr(ResponseHandler, "set_response_params", pause)
    heard = asyncio.run(_heard(PromptRequest, "POST", SIGNED, b'{"symbol":"BTCUSDT"}', "/v5/order/create"))
    assert paused == [True]
    assert heard.endswith(b'\r\n\r\n{"symbol":"BTCUSDT"}')


def test_a_body_that_is_changed_before_it_leaves_is_the_one_that_leaves() -> None:
    async def changed() -> tuple[bytes | None, str]:
        loop = asyncio.get_running_loop()
        request = PromptRequest("POST", URL("http://localhost/"), data=b"old", headers=CIMultiDict(JSON), loop=loop)
        await request.update_body(b"newer")
        return request._bytes, request.headers["Content-Length"]

    assert asyncio.run(changed()) == (b"newer", "5")
