"""Every answer code, from the simulated venue over the link and through the adapter to what the bot is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any, Final

import pytest

from bot.domain.intent import AmendOrder, CancelOrder, PlaceOrder
from bot.domain.order import Side
from bot.simulator.exchange import Exchange
from bot.simulator.link import HOSTS, Latency, Link
from bot.simulator.listings import GENERATED, exchange_of, generated
from bot.simulator.timeline import Timeline
from bot.venues.bybit.adapter import BybitAdapter
from bot.venues.port import Accepted, Outcome, Refused, Unknown

START_NS: Final = 1_767_225_600_000_000_000
S: Final = 1_000_000_000

DEFINITE: Final = """10001 10003 10004 10005 10010 10029 110003 110004 110007 110012 110017 110020 110094 170131 170132
170133 170134 170135 170136 170137 170140 170218"""
GONE: Final = "110001 110008 110010 170139 170142 170143 170190 170213"
UNKNOWN: Final = """110072 170141 10000 10006 10016 10019 10403 10429 110079 170001 170005 170007 170032 170146 170147
20003 20006 500000 10002"""
SYMBOL: Final = "110066 110074 30228"
ACCOUNT: Final = "10024 10027 33004"

PLACE = PlaceOrder(0, "slwq-1-1", "BTCUSDT", Side.BUY, 550_000, 10, 1)
AMEND = AmendOrder(0, "slwq-1-1", "BTCUSDT", 551_000, 10, 1)
CANCEL = CancelOrder(0, "slwq-1-1", "BTCUSDT")

Asked = Callable[[BybitAdapter], Awaitable[Outcome]]
REQUESTS: Final[dict[str, Asked]] = {
    "create": lambda adapter: adapter.place(PLACE, GENERATED),
    "amend": lambda adapter: adapter.amend(AMEND, GENERATED),
    "cancel": lambda adapter: adapter.cancel(CANCEL),
    "cancel-all": lambda adapter: adapter.cancel_all("BTCUSDT"),
}
WAYS: Final = {"rest": (False, False), "socket": (True, False), "batch": (False, True)}


def codes(text: str) -> list[int]:
    return [int(word) for word in text.split()]


def expected(code: int, request: str) -> tuple[type[Outcome], dict[str, Any]]:
    """What the bot must be told of that answer to that request."""
    if code in codes(DEFINITE):
        return Refused, {"code": code, "post_only": code == 170218, "scope": "order"}
    if code in codes(GONE):
        return (Unknown, {"code": code}) if request == "create" else (Accepted, {"gone": True})
    if code in codes(SYMBOL):
        return Refused, {"code": code, "scope": "symbol"}
    if code in codes(ACCOUNT):
        return Refused, {"code": code, "scope": "account"}
    return Unknown, {"code": code}


def answered(code: int, way: str) -> tuple[dict[str, Outcome], Exchange]:
    """Each kind of request answered with that code once; the exchange afterwards."""
    timeline = Timeline(START_NS)
    exchange = exchange_of([GENERATED], generated, seed=5, now_ns=START_NS)
    exchange.open_account("key", "secret", Decimal(100_000), START_NS)
    trade_socket, batches = WAYS[way]

    async def ask() -> dict[str, Outcome]:
        link = Link(exchange, timeline, Latency())
        adapter = BybitAdapter(
            HOSTS, "key", "secret", ["BTCUSDT"], timeline.now_ns,
            transport=link, trade_socket=trade_socket, batches=batches,
        )  # fmt: skip
        link.start_market()
        await adapter.start(lambda event: None)
        await asyncio.sleep(0.1)  # simulated time, until the sockets are up
        assert adapter.connections_open["trade"] == int(trade_socket)
        found: dict[str, Outcome] = {}
        for request, asked in REQUESTS.items():
            await asyncio.sleep(5)  # simulated: a socket whose key was refused has made room for another by then
            assert adapter.connections_open["trade"] == int(trade_socket)
            link.arm("refuse", "sim-1", {"request": request, "code": code})
            found[request] = await (_twice(adapter, request) if batches else asked(adapter))
        await adapter.close()
        return found

    with asyncio.Runner(loop_factory=lambda: timeline) as runner:
        return runner.run(ask()), exchange


async def _twice(adapter: BybitAdapter, request: str) -> Outcome:
    """Two in one turn, so that they leave as a batch; the outcome of the first, which is the one that is refused."""
    outcomes = await asyncio.gather(REQUESTS[request](adapter), REQUESTS[request](adapter))
    return outcomes[0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("code", codes(f"{DEFINITE} {GONE} {UNKNOWN} {SYMBOL} {ACCOUNT}"))
def test_every_code_that_the_venue_can_answer_is_told_as_what_it_means(code: int, way: str) -> None:
    found, exchange = answered(code, way)
    assert [fault.fired_at_ns is not None for fault in exchange.faults.of_kind("refuse")] == [True] * len(REQUESTS)
    for request, outcome in found.items():
        kind, fields = expected(code, request)
        assert type(outcome) is kind, f"{request}: {outcome}"
        assert {name: getattr(outcome, name) for name in fields} == fields, f"{request}: {outcome}"
