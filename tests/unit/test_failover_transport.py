"""A second endpoint of the same venue takes over, and no order is ever sent twice by that."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Never

import pytest

from bot.venues.bybit.hosts import HostRefused, hosts_for, override_hosts, second_endpoints
from bot.venues.failover import FailoverTransport
from bot.venues.transport import HttpAnswer, NoAnswer, NotSent, Socket

ONE, TWO = "https://one", "https://two"


class Network:
    """Endpoints that are `away` take nothing, `silent` ones take it and say nothing, `broken` ones answer 502."""

    def __init__(self) -> None:
        self.away: set[str] = set()
        self.silent: set[str] = set()
        self.broken: set[str] = set()
        self.sent: list[str] = []

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> HttpAnswer:
        host = "/".join(url.split("/")[:3])
        if host in self.away:
            raise NotSent("refused")
        self.sent.append(f"{method} {url}")
        if host in self.silent:
            raise NoAnswer("nothing")
        return HttpAnswer(502 if host in self.broken else 200, {}, b"")

    async def connect(self, url: str, timeout_s: float) -> Socket:
        if "/".join(url.split("/")[:3]) in self.away:
            raise NotSent("refused")
        self.sent.append(url)
        return Closed()

    async def close(self) -> None:
        self.sent.append("closed")


class Closed:
    """A socket of which nobody asks anything here."""

    async def send(self, text: str) -> None: ...

    def takes(self) -> bool:
        return True

    def send_now(self, text: str) -> None: ...

    async def drained(self) -> None: ...

    async def receive(self) -> str:
        return ""

    async def hand_over(self, take: object) -> Never:
        raise NotImplementedError

    async def close(self) -> None: ...


def rig() -> tuple[Network, FailoverTransport, list[tuple[str, str]]]:
    network, switches = Network(), list[tuple[str, str]]()
    pairs = {ONE: TWO, "wss://one": "wss://two"}
    return network, FailoverTransport(network, pairs, lambda *pair: switches.append(pair)), switches


def ask(transport: FailoverTransport, method: str, path: str = "/v5/x") -> HttpAnswer:
    return asyncio.run(transport.request(method, ONE + path, {}, b"", 1.0))


def test_a_read_that_was_not_sent_is_asked_of_the_other_at_once_and_stays_there() -> None:
    network, transport, switches = rig()
    network.away.add(ONE)
    assert ask(transport, "GET", "/v5/x?a=1").status == 200
    network.away.clear()
    ask(transport, "GET")
    assert network.sent == ["GET https://two/v5/x?a=1", "GET https://two/v5/x"]
    assert switches == [(ONE, TWO)]


def test_an_order_that_was_not_sent_is_told_so_and_the_next_one_goes_to_the_other() -> None:
    network, transport, _ = rig()
    network.away.add(ONE)
    with pytest.raises(NotSent):
        ask(transport, "POST")
    assert network.sent == []
    ask(transport, "POST")
    assert network.sent == ["POST https://two/v5/x"]
    network.away = {TWO}
    with pytest.raises(NotSent):
        ask(transport, "POST")
    assert ask(transport, "GET").status == 200  # and back


def test_what_may_have_been_sent_is_never_sent_again_and_three_silences_change_the_endpoint() -> None:
    network, transport, switches = rig()
    network.silent.add(ONE)
    for _ in range(3):
        with pytest.raises(NoAnswer):
            ask(transport, "POST")
    assert network.sent == ["POST https://one/v5/x"] * 3
    assert switches == [(ONE, TWO)]
    assert ask(transport, "POST").status == 200


def test_broken_answers_count_as_silence_and_a_whole_one_in_between_forgives() -> None:
    network, transport, switches = rig()
    for broken in (True, True, False, True, True):
        network.broken = {ONE} if broken else set()
        ask(transport, "GET")
    assert switches == []
    ask(transport, "GET")
    assert switches == [(ONE, TWO)]


def test_a_socket_is_opened_at_the_other_when_it_is_tried_again() -> None:
    network, transport, _ = rig()
    network.away.add("wss://one")
    with pytest.raises(NotSent):
        asyncio.run(transport.connect("wss://one/v5/private", 1.0))
    asyncio.run(transport.connect("wss://one/v5/private", 1.0))
    asyncio.run(transport.connect("wss://else/v5", 1.0))
    assert network.sent == ["wss://two/v5/private", "wss://else/v5"]


def test_requests_that_fail_together_change_the_endpoint_once() -> None:
    network, transport, switches = rig()
    network.away.add(ONE)

    async def together() -> None:
        await asyncio.gather(*(transport.request("GET", f"{ONE}/{n}", {}, b"", 1.0) for n in range(5)))

    asyncio.run(together())
    assert switches == [(ONE, TWO)]


def test_the_venues_second_endpoint_is_of_its_live_side_and_an_override_has_to_be_loopback() -> None:
    assert second_endpoints(hosts_for("live", "linear"), {}) == {"https://api.bybit.com": "https://api.bytick.com"}
    assert second_endpoints(hosts_for("testnet", "linear"), {}) == {}
    own = {
        "MM_VENUE_REST_URL": "http://127.0.0.1:1",
        "MM_VENUE_WS_PUBLIC_URL": "ws://127.0.0.1:1/v5/public/linear",
        "MM_VENUE_WS_PRIVATE_URL": "ws://127.0.0.1:1/v5/private",
        "MM_VENUE_WS_TRADE_URL": "ws://127.0.0.1:1/v5/trade",
        "MM_VENUE_SECOND": "127.0.0.1:2",
    }
    hosts = override_hosts(hosts_for("live", "linear"), own)
    assert second_endpoints(hosts, own) == {
        "http://127.0.0.1:1": "http://127.0.0.1:2",
        "ws://127.0.0.1:1": "ws://127.0.0.1:2",
    }
    with pytest.raises(HostRefused, match=r"is not on loopback"):
        second_endpoints(hosts, own | {"MM_VENUE_SECOND": "example.com"})
    with pytest.raises(HostRefused, match="MM_VENUE_SECOND is set although MM_VENUE_REST_URL is not"):
        second_endpoints(hosts_for("live", "linear"), {"MM_VENUE_SECOND": "127.0.0.1:2"})
