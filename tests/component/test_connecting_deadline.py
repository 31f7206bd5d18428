"""A venue's name may lead to several addresses, and any of them may swallow all that is sent to it: a call still ends
with its time, and the address that answers is reached in it."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import httpcore
import httpx
import pytest

from bot.venues.bybit import timed_transport
from bot.venues.bybit.timed_transport import TimedTransport

CALL_S = 2.0
V4 = [(socket.AF_INET, (f"192.0.2.{number}", 443)) for number in range(1, 5)]
SCOPED = [(socket.AF_INET6, ("fe80::1", 443, 0, 7)), (socket.AF_INET6, ("2001:db8::1", 443, 0, 0))]


class Network:
    """A resolver, and a way to addresses of which those that do not answer take all the time they are given."""

    def __init__(self, answers: Sequence[str] = (), refuses: Sequence[str] = ()) -> None:
        self.answers, self.refuses = answers, refuses
        self.now_s = 1000.0
        self.tried: list[tuple[str, float]] = []
        self.server_names: list[str | None] = []

    def connect_tcp(
        self, _backend: object, host: str, _port: int, timeout: float | None = None, *_: object
    ) -> httpcore.NetworkStream:
        assert timeout is not None
        self.tried.append((host, round(timeout, 3)))
        if host in self.answers:
            return Stream(self)
        if host in self.refuses:
            raise httpcore.ConnectError(f"{host}: connection refused")
        self.now_s += timeout
        raise httpcore.ConnectTimeout(f"{host}: timed out")


class Stream(httpcore.MockStream):
    def __init__(self, network: Network) -> None:
        super().__init__([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"])
        self._network = network

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> Any:
        self._network.server_names.append(server_hostname)
        return self


def call(
    monkeypatch: pytest.MonkeyPatch, network: Network, found: Sequence[tuple[int, Any]] | OSError, wait_s: float = 3.0
) -> httpx.Response:
    def resolved(host: str, *_: object, **__: object) -> list[tuple[int, int, int, str, Any]]:
        assert host == "venue.example"
        if isinstance(found, OSError):
            raise found
        return [(family, socket.SOCK_STREAM, 6, "", address) for family, address in found]

    monkeypatch.setattr(timed_transport, "time", SimpleNamespace(monotonic=lambda: network.now_s))
    monkeypatch.setattr(socket, "getaddrinfo", resolved)

    def connected(*given: Any, **named: Any) -> httpcore.NetworkStream:
        return network.connect_tcp(*given, **named)

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connected)
    with httpx.Client(transport=TimedTransport(CALL_S), timeout=wait_s) as client:
        return client.get("https://venue.example/v5/market/time")


def test_addresses_that_swallow_everything_do_not_take_a_call_beyond_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network()
    with pytest.raises(httpx.ConnectTimeout):
        call(monkeypatch, network, V4)
    assert network.now_s - 1000.0 <= CALL_S
    assert [host for host, _ in network.tried] == [address[0] for _, address in V4], "each of them had a share"
    assert all(timeout > 0 for _, timeout in network.tried)


def test_the_one_that_answers_is_reached_after_those_that_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(answers=["192.0.2.4"])
    assert call(monkeypatch, network, V4).text == "ok"
    assert network.now_s - 1000.0 < CALL_S
    assert network.server_names == ["venue.example"], "the certificate is the name's, not the address'"


def test_one_address_alone_has_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network()
    with pytest.raises(httpx.ConnectTimeout):
        call(monkeypatch, network, V4[:1], wait_s=1.5)
    assert network.tried == [("192.0.2.1", 1.5)]


def test_an_address_keeps_its_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(answers=["2001:db8::1"], refuses=["fe80::1%7"])
    assert call(monkeypatch, network, SCOPED).text == "ok"
    assert [host for host, _ in network.tried] == ["fe80::1%7", "2001:db8::1"]


def test_where_all_refuse_the_last_one_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(refuses=[address[0] for _, address in V4])
    with pytest.raises(httpx.ConnectError, match=r"192\.0\.2\.4"):
        call(monkeypatch, network, V4)


@pytest.mark.parametrize("found", [socket.gaierror(-2, "Name or service not known"), []])
def test_a_name_that_leads_nowhere_is_a_connection_that_was_not_made(
    monkeypatch: pytest.MonkeyPatch, found: OSError | list[tuple[int, Any]]
) -> None:
    with pytest.raises(httpx.ConnectError):
        call(monkeypatch, Network(), found)
