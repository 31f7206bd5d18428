"""An answer that comes a byte at a time, or never ends, holds up no call of the account for longer than it may take."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import httpx
import pytest

from bot.runtime.kill_switch import KillSwitch
from bot.venues.bybit import calls
from bot.venues.bybit.account_client import ANSWER_BYTES_MAX, AccountClient
from bot.venues.bybit.hosts import BybitHosts
from bot.venues.port import VenueUnknown
from tests.support.small_account import SYMBOL

WAIT_S, CALL_S = 10.0, 1.0
"""What the client here waits for a byte, and for a whole answer."""
PATIENT_S = 60.0
"""The same for an answer that is to come: a machine that stands still for a moment drips no byte."""
BYTE_EVERY_S = 0.1
DRIPS = 300
"""So many bytes and no more, so that a client that waits for all of them fails here and does not hang."""
OWN = {
    "symbol": SYMBOL, "orderId": "v-1", "orderLinkId": "slwq-1-1", "side": "Buy", "price": "1", "qty": "1",
    "cumExecQty": "0", "orderStatus": "New",
}  # fmt: skip


class Gateway(BaseHTTPRequestHandler):
    """Lets through what the venue says, at once or a byte at a time. One order of ours stands until it is cancelled."""

    protocol_version = "HTTP/1.1"
    drips: ClassVar[dict[str, str]]
    """Path to what of its next answer drips: head or body."""
    posts: ClassVar[list[str]]
    hung_up: ClassVar[threading.Event]

    def do_GET(self) -> None:
        if self.path.startswith(calls.TIME):
            self._answer(calls.TIME, {"timeSecond": "1", "timeNano": str(time.time_ns())})
        else:
            self._answer(calls.OPEN_ORDERS, {"list": [] if self.posts else [OWN]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.posts.append(self.path)
        self._answer(self.path, {"list": [{"orderId": "v-1"}]})

    def _answer(self, path: str, result: object) -> None:
        body = json.dumps({"retCode": 0, "retMsg": "OK", "result": result}).encode()
        dripping = self.drips.pop(path, "")
        if dripping == "head":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
            self._drip()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) + DRIPS if dripping else len(body)))
        self.end_headers()
        if dripping:
            self._drip()
        else:
            self.wfile.write(body)

    def _drip(self) -> None:
        self.close_connection = True
        try:
            for _ in range(DRIPS):
                self.wfile.write(b" ")
                if self.hung_up.wait(BYTE_EVERY_S):
                    return
        except OSError:
            self.hung_up.set()

    def log_message(self, *_: object) -> None:
        """Not on the terminal."""


@pytest.fixture
def gateway() -> Iterator[type[Gateway]]:
    fresh = type("Fresh", (Gateway,), {"drips": {}, "posts": [], "hung_up": threading.Event()})
    with ThreadingHTTPServer(("127.0.0.1", 0), fresh) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        fresh.url = f"http://127.0.0.1:{server.server_address[1]}"  # type: ignore[attr-defined]
        try:
            yield fresh
        finally:
            fresh.hung_up.set()
            server.shutdown()
            thread.join()


def client_of(gateway: type[Gateway]) -> AccountClient:
    hosts = BybitHosts(gateway.url, "", "", "")  # type: ignore[attr-defined]
    return AccountClient(hosts, "key", "secret", timeout_s=WAIT_S, call_s_max=CALL_S)


@pytest.mark.parametrize("part", ["head", "body"])
@pytest.mark.parametrize("path", [calls.TIME, calls.OPEN_ORDERS])
def test_an_answer_that_drips_ends_with_the_calls_time_and_says_nothing(
    path: str, part: str, gateway: type[Gateway]
) -> None:
    gateway.drips[path] = part
    with client_of(gateway) as client:
        began_s = time.monotonic()
        with pytest.raises(VenueUnknown, match="ReadTimeout"):
            client.open_orders([SYMBOL])
        assert time.monotonic() - began_s < CALL_S + DRIPS * BYTE_EVERY_S / 2
        assert gateway.hung_up.wait(DRIPS * BYTE_EVERY_S / 2), "its connection is closed and not kept for the next call"
        client._http._transport._call_s_max = PATIENT_S  # type: ignore[attr-defined]
        assert [one.client_order_id for one in client.open_orders([SYMBOL])] == ["slwq-1-1"], "the next call is its own"


def test_a_call_that_drips_is_not_the_end_of_a_kill_switch(gateway: type[Gateway]) -> None:
    gateway.drips[calls.OPEN_ORDERS] = "body"
    with client_of(gateway) as client:
        switch = KillSwitch(client, [SYMBOL], late_s=0.0, holds_positions=False)
        report = switch.run(True, False, PATIENT_S, time.monotonic_ns, time.sleep)
    assert (report.status, report.cancelled, gateway.posts) == ("executed", 1, [calls.CANCEL_ALL])


def test_the_deadline_of_a_kill_switch_holds_where_every_answer_drips(gateway: type[Gateway]) -> None:
    gateway.drips = _Always()
    with client_of(gateway) as client:
        began_s = time.monotonic()
        switch = KillSwitch(client, [SYMBOL], late_s=0.0, holds_positions=False)
        report = switch.run(True, False, 1.0, time.monotonic_ns, time.sleep)
        took_s = time.monotonic() - began_s
    assert report.status == "failed"
    assert took_s < DRIPS * BYTE_EVERY_S / 2


class _Always(dict[str, str]):
    def pop(self, *_: object) -> str:  # type: ignore[override]
        return "body"


def test_an_answer_that_never_ends_is_left_at_its_limit() -> None:
    part, sent = b" " * 65_536, 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 2 * ANSWER_BYTES_MAX:  # or so it would be
            sent += len(part)
            yield part

    def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=endless())

    hosts = BybitHosts("http://venue", "", "", "")
    with (
        AccountClient(hosts, "key", "secret", http_transport=httpx.MockTransport(answer)) as client,
        pytest.raises(VenueUnknown, match=f"more than {ANSWER_BYTES_MAX} bytes"),
    ):
        client.server_time_ms()
    assert sent <= ANSWER_BYTES_MAX + len(part)
