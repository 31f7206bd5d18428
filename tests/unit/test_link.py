"""The way between bot and simulated venue: what is lost, late or cut there, and what its client is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest

from bot.simulator.bybit import V5, Request
from bot.simulator.exchange import Exchange
from bot.simulator.faults import FaultPlan
from bot.simulator.link import HOSTS, Latency, Link, LinkSocket
from bot.simulator.listings import GENERATED
from bot.simulator.market import GeneratedMarket
from bot.simulator.timeline import Timeline
from bot.simulator.venue import Venue
from bot.venues.bybit.signing import rest_headers, socket_auth
from bot.venues.transport import NoAnswer, NotSent, SocketClosed

START_NS = 1_767_225_600_000_000_000
KEY, SECRET = "key", "secret"
CREATE = (
    b'{"category":"linear","symbol":"BTCUSDT","side":"Buy","orderType":"Limit","qty":"0.002","price":"59000",'
    b'"timeInForce":"PostOnly","orderLinkId":"slwq-1-1"}'
)
SUBSCRIBE = '{"op":"subscribe","args":["orderbook.50.BTCUSDT"]}'

Work = Callable[[Link, Venue, Timeline], Awaitable[Any]]


def play(work: Work, **harm: object) -> Any:
    """`harm`: the parameters of a fault of kind `way`."""
    timeline = Timeline(START_NS)
    venue = Venue(GENERATED, GeneratedMarket(1), seed=1, now_ns=START_NS)
    venue.open_account(KEY, SECRET, Decimal(100_000), START_NS)

    async def whole() -> Any:
        link = Link(Exchange((venue,)), timeline, Latency())
        if harm:
            link.arm("way", "", harm)
        link.start_market()
        return await work(link, venue, timeline)

    with asyncio.Runner(loop_factory=lambda: timeline) as runner:
        return runner.run(whole())


def signed(body: bytes, now_ns: int) -> dict[str, str]:
    return rest_headers(KEY, SECRET, now_ns // 1_000_000, 5_000, body)


async def create(link: Link, timeline: Timeline) -> bytes:
    url = HOSTS.rest_url + "/v5/order/create"
    return (await link.request("POST", url, signed(CREATE, timeline.now_ns()), CREATE, 2.0)).body


def test_an_answer_is_the_face_s_own_bytes_and_takes_both_ways() -> None:
    async def work(link: Link, venue: Venue, timeline: Timeline) -> None:
        url = HOSTS.rest_url + "/v5/market/instruments-info?category=linear&symbol=BTCUSDT"
        answer = await link.request("GET", url, {}, b"", 2.0)
        assert timeline.now_ns() - START_NS == Latency().request_ns + Latency().answer_ns
        request = Request("GET", "/v5/market/instruments-info", "category=linear&symbol=BTCUSDT", b"", {})
        assert answer.body == V5(Exchange((venue,))).answer(request, START_NS + Latency().request_ns).body

    play(work)


def test_a_lost_request_did_not_happen_and_is_known_only_as_no_answer() -> None:
    async def work(link: Link, venue: Venue, timeline: Timeline) -> None:
        with pytest.raises(NoAnswer):
            await create(link, timeline)
        assert timeline.now_ns() - START_NS == 2_000_000_000
        assert not venue.accounts["sim-1"].open_orders

    play(work, way="request", lost_pct=100)


def test_a_lost_answer_happened_all_the_same() -> None:
    async def work(link: Link, venue: Venue, timeline: Timeline) -> None:
        with pytest.raises(NoAnswer):
            await create(link, timeline)
        assert len(venue.accounts["sim-1"].open_orders) == 1

    play(work, way="answer", lost_pct=100)


def test_a_request_that_is_later_than_its_time_out_still_happens() -> None:
    async def work(link: Link, venue: Venue, timeline: Timeline) -> None:
        with pytest.raises(NoAnswer):
            await create(link, timeline)
        assert not venue.accounts["sim-1"].open_orders
        await asyncio.sleep(2)
        assert len(venue.accounts["sim-1"].open_orders) == 1

    play(work, way="request", delay_ms=3_000)


async def opened(link: Link) -> LinkSocket:
    socket = await link.connect(HOSTS.ws_public_url, 5.0)
    await socket.send(SUBSCRIBE)
    assert "success" in await socket.receive()
    return socket


def test_pushes_keep_their_order_however_unevenly_they_are_delayed() -> None:
    async def work(link: Link, venue: Venue, timeline: Timeline) -> None:
        socket = await opened(link)
        updates = [int((await socket.receive()).partition('"u":')[2].partition(",")[0]) for _ in range(40)]
        assert updates == list(range(updates[0], updates[0] + 40))

    play(work, way="push", jitter_ms=900)


def test_a_push_that_is_lost_is_a_gap() -> None:
    async def work(link: Link, venue: Venue, timeline: Timeline) -> None:
        socket = await link.connect(HOSTS.ws_public_url, 5.0)
        await socket.send(SUBSCRIBE)
        seen = [await socket.receive() for _ in range(40)]
        updates = [int(text.partition('"u":')[2].partition(",")[0]) for text in seen if '"u":' in text]
        assert updates[-1] - updates[0] > len(updates) - 1

    play(work, way="push", lost_pct=20)


def test_a_cut_socket_says_so_to_who_waits_and_to_who_sends() -> None:
    async def work(link: Link, venue: Venue, timeline: Timeline) -> None:
        socket = await opened(link)
        await socket.receive()
        waiting = asyncio.create_task(socket.receive())
        await asyncio.sleep(0)
        assert link.cut("private") == 0
        assert link.cut("public") == 1
        with pytest.raises(SocketClosed):
            await waiting
        with pytest.raises(SocketClosed):
            await socket.send(SUBSCRIBE)

    play(work)


def test_a_private_connection_that_is_closed_takes_the_orders_it_kept_along_after_their_window() -> None:
    async def work(link: Link, venue: Venue, timeline: Timeline) -> list[int]:
        url = f"{HOSTS.rest_url}/v5/order/disconnected-cancel-all"
        window = b'{"product":"DERIVATIVES","timeWindow":10}'
        for path, body in ((url, window), (f"{HOSTS.rest_url}/v5/order/create", CREATE)):
            await link.request("POST", path, signed(body, timeline.now_ns()), body, 5.0)
        socket = await link.connect(HOSTS.ws_private_url, 5.0)
        await socket.send(socket_auth(KEY, SECRET, timeline.now_ns() // 1_000_000 + 5_000))
        await socket.send('{"op":"subscribe","args":["dcp.future"]}')
        while "subscribe" not in await socket.receive():
            pass
        await socket.close()
        counts = []
        for wait_s in (9.9, 0.2):
            await asyncio.sleep(wait_s)  # simulated time
            counts.append(len(venue.accounts["sim-1"].open_orders))
        return counts

    assert play(work) == [1, 0]


def test_an_address_that_leads_nowhere_is_not_connected_to() -> None:
    async def work(link: Link, venue: Venue, timeline: Timeline) -> None:
        with pytest.raises(NotSent, match="no socket at ws://link/v5/elsewhere"):
            await link.connect("ws://link/v5/elsewhere", 5.0)

    play(work)


def test_what_becomes_of_messages_repeats_under_the_seed() -> None:
    def fates(seed: int) -> list[int | None]:
        plan = FaultPlan(seed)
        plan.arm("way", "", {"way": "answer", "lost_pct": 10, "jitter_ms": 50}, 0)
        return [plan.of("answer", 0) for _ in range(200)]

    assert fates(4) == fates(4)
    assert fates(4) != fates(5)
    assert None in fates(4)


def test_a_request_that_is_delivered_twice_answers_the_second_time_that_it_is_there_already() -> None:
    async def work(link: Link, venue: Venue, timeline: Timeline) -> None:
        assert b'"retCode":110072' in await create(link, timeline)
        assert len(venue.accounts["sim-1"].open_orders) == 1

    play(work, way="request", doubled_pct=100)


def test_pushes_come_twice_or_after_the_next_as_the_plan_has_it() -> None:
    async def work(link: Link, venue: Venue, timeline: Timeline) -> list[int]:
        socket = await link.connect(HOSTS.ws_public_url, 5.0)
        await socket.send(SUBSCRIBE)
        seen = [await socket.receive() for _ in range(30)]
        return [int(text.partition('"u":')[2].partition(",")[0]) for text in seen if '"u":' in text]

    twice = play(work, way="push", doubled_pct=100)
    assert twice == sorted(twice)
    assert len(set(twice)) * 2 in (len(twice), len(twice) + 1)
    turned = play(work, way="push", swapped_pct=100)
    assert turned != sorted(turned)
    assert max(abs(found - wanted) for found, wanted in zip(turned, sorted(turned), strict=True)) == 1


async def _drained(socket: LinkSocket) -> None:
    while True:
        await socket.receive()


def test_while_it_restarts_it_answers_nobody_and_comes_back_with_update_one_and_no_closed_orders() -> None:
    async def work(link: Link, venue: Venue, timeline: Timeline) -> None:
        socket = await opened(link)
        await create(link, timeline)
        body = b'{"category":"linear","symbol":"BTCUSDT","orderLinkId":"slwq-1-1"}'
        url = f"{HOSTS.rest_url}/v5/order/cancel"
        await link.request("POST", url, signed(body, timeline.now_ns()), body, 2.0)
        link.arm("venue_restart", "", {"lasts_s": "0.5"})
        with pytest.raises(SocketClosed):
            await _drained(socket)
        with pytest.raises(NotSent):
            await link.connect(HOSTS.ws_public_url, 5.0)
        query = "category=linear&symbol=BTCUSDT&orderLinkId=slwq-1-1"

        async def rows(path: str) -> tuple[int, bytes]:
            headers = signed(query.encode(), timeline.now_ns())
            answer = await link.request("GET", f"{HOSTS.rest_url}{path}?{query}", headers, b"", 2.0)
            return answer.status, answer.body

        assert (await rows("/v5/order/realtime"))[0] == 503
        await asyncio.sleep(0.6)  # simulated time
        assert b'"list":[]' in (await rows("/v5/order/realtime"))[1]
        assert b"slwq-1-1" in (await rows("/v5/order/history"))[1]
        socket = await link.connect(HOSTS.ws_public_url, 5.0)
        await socket.send(SUBSCRIBE)
        await socket.receive()
        first = await socket.receive()
        assert '"type":"snapshot"' in first
        assert '"u":1,' in first

    play(work)
