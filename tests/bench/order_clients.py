"""Worker of the order bench: one client, creating orders at the stub one after the other. See `tests.bench.orders`.

    python -m tests.bench.order_clients slipway|rest|aiohttp|ccxt|pybit READY

READY is the stub's first line. Reads `{"orders": n}` a line; answers with the CPU seconds of this process and every
order's latency in microseconds, from the call to the decoded answer. Asynchronous clients run on uvloop, ccxt as well.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

WARM = 300
"""Orders before the first that is timed: connections, caches, branches."""

KEPT: list[asyncio.Task[None]] = []
"""Tasks that live as long as the process."""

Create = Callable[[int], Awaitable[None]]
"""Creates the order of that number; raises where the answer is not what it has to be."""

SYMBOL = "BTCUSDT"
PRICE, QTY = "59999.5", "0.002"


class Unexpected(Exception):
    """The client's own word on the order is not the stub's."""


def link_id(number: int) -> str:
    return f"mmq-7-{number}"


def check(good: bool, answer: object) -> None:
    if not good:
        raise Unexpected(repr(answer))


async def slipway(ready: dict[str, Any]) -> Create:
    """The adapter as the bot has it, orders by the trade socket: an approved intent in, an outcome out."""
    return await _adapter(ready, ready["ws_trade_url"])


async def slipway_rest(ready: dict[str, Any]) -> Create:
    """The same adapter where the trade socket is away."""
    return await _adapter(ready, "")


async def _adapter(ready: dict[str, Any], ws_trade_url: str) -> Create:
    from bot.domain.intent import PlaceOrder
    from bot.domain.order import Side
    from bot.runtime.clock import Clock
    from bot.venues.bybit import rate_limits
    from bot.venues.bybit.adapter import BybitAdapter
    from bot.venues.bybit.hosts import BybitHosts
    from bot.venues.port import Accepted

    rate_limits.ADDRESS_REQUESTS_MAX = 10**9  # type: ignore[misc]  # counted as ever; none here is held back by it
    clock = Clock()
    hosts = BybitHosts(ready["rest_url"], ready["ws_public_url"], "", ws_trade_url)
    adapter = BybitAdapter(hosts, ready["api_key"], ready["api_secret"], [SYMBOL], clock.now_ns, trade_socket=True)
    await adapter.server_time_ms()
    if adapter._trade is not None:  # alone: the other streams have nobody to talk to here
        KEPT.append(asyncio.get_running_loop().create_task(adapter._trade.run()))
        async with asyncio.timeout(10):
            while not adapter._trade.is_up:  # noqa: ASYNC110 - it tells nobody else
                await asyncio.sleep(0.01)
    instrument = (await adapter.instruments([SYMBOL]))[SYMBOL]

    async def create(number: int) -> None:
        intent = PlaceOrder(clock.now_ns(), link_id(number), SYMBOL, Side.BUY, 599_995, 2, 7)
        outcome = await adapter.place(intent, instrument)
        check(isinstance(outcome, Accepted) and bool(outcome.venue_order_id), outcome)
        if number % 100 == 0:
            adapter.drain_observations()  # as the exporter does from time to time

    return create


async def bare(ready: dict[str, Any]) -> Create:
    """The same bytes by aiohttp and nothing else: not signed, not decoded, the answer read."""
    import aiohttp

    session = aiohttp.ClientSession()
    url = ready["rest_url"] + "/v5/order/create"
    headers = {"Content-Type": "application/json"}
    fields = {
        "category": "linear", "symbol": SYMBOL, "side": "Buy", "orderType": "Limit", "qty": QTY, "price": PRICE,
        "timeInForce": "PostOnly", "orderLinkId": "mmq-7-1000", "positionIdx": 0, "reduceOnly": False,
    }  # fmt: skip
    body = json.dumps(fields, separators=(",", ":")).encode()

    async def create(_number: int) -> None:
        async with session.post(url, data=body, headers=headers) as answer:
            text = await answer.read()
        check(answer.status == 200 and b'"retCode":0' in text, text)

    return create


async def ccxt(ready: dict[str, Any]) -> Create:
    """Its asynchronous client with markets loaded, without its own throttle."""
    import ccxt.async_support

    client = ccxt.async_support.bybit(
        {"apiKey": ready["api_key"], "secret": ready["api_secret"], "enableRateLimit": False}
    )
    client.urls["api"].update({name: ready["rest_url"] for name in ("public", "private")})
    client.options.update({"enableUnifiedMargin": False, "enableUnifiedAccount": True, "unifiedMarginStatus": 6})
    await client.load_markets()
    params = {"postOnly": True, "positionIdx": 0, "reduceOnly": False}

    async def create(number: int) -> None:
        terms = {**params, "orderLinkId": link_id(number)}
        order = await client.create_order("BTC/USDT:USDT", "limit", "buy", float(QTY), float(PRICE), terms)
        check(bool(order["id"]) and order["clientOrderId"] == link_id(number), order)

    return create


def pybit(ready: dict[str, Any]) -> Callable[[int], None]:
    from pybit.unified_trading import HTTP

    client = HTTP(api_key=ready["api_key"], api_secret=ready["api_secret"], log_requests=False)
    client.endpoint = ready["rest_url"]
    logging.getLogger("pybit").setLevel(logging.ERROR)
    fields = {
        "category": "linear", "symbol": SYMBOL, "side": "Buy", "orderType": "Limit", "qty": QTY, "price": PRICE,
        "timeInForce": "PostOnly", "positionIdx": 0, "reduceOnly": False,
    }  # fmt: skip

    def create(number: int) -> None:
        answer = client.place_order(orderLinkId=link_id(number), **fields)
        check(answer["retCode"] == 0 and answer["result"]["orderLinkId"] == link_id(number), answer)

    return create


async def timed(create: Create, first: int, orders: int) -> dict[str, Any]:
    latencies_us: list[float] = []
    gc.collect()
    began_s = time.process_time()
    for number in range(first, first + orders):
        sent_ns = time.perf_counter_ns()
        await create(number)
        latencies_us.append((time.perf_counter_ns() - sent_ns) / 1e3)
    return {"cpu_s": time.process_time() - began_s, "latencies_us": latencies_us}


def timed_in_turn(create: Callable[[int], None], first: int, orders: int) -> dict[str, Any]:
    """As `timed`, for a client that waits by itself."""
    latencies_us: list[float] = []
    gc.collect()
    began_s = time.process_time()
    for number in range(first, first + orders):
        sent_ns = time.perf_counter_ns()
        create(number)
        latencies_us.append((time.perf_counter_ns() - sent_ns) / 1e3)
    return {"cpu_s": time.process_time() - began_s, "latencies_us": latencies_us}


def serve(play: Callable[[int, int], dict[str, Any]]) -> None:
    """One line of JSON for every line of JSON."""
    done = WARM
    play(0, WARM)
    print("ready", flush=True)
    for line in sys.stdin:
        orders: int = json.loads(line)["orders"]
        print(json.dumps(play(done, orders)), flush=True)
        done += orders


def main(kind: str, ready: dict[str, Any]) -> None:
    if kind == "pybit":
        create_in_turn = pybit(ready)
        serve(lambda first, orders: timed_in_turn(create_in_turn, first, orders))
        return
    clients = {"slipway": slipway, "rest": slipway_rest, "aiohttp": bare, "ccxt": ccxt}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        create = runner.run(clients[kind](ready))
        serve(lambda first, orders: runner.run(timed(create, first, orders)))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
