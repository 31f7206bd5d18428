"""A client that says nothing is cut; one that pings is not, however little else it says."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal

import aiohttp
from aiohttp import web

from bot.simulator.listings import GENERATED, exchange_of, generated
from bot.simulator.loopback import Clock, LoopbackVenue

IDLE_CUT_S = 3.0
"""More than a machine stands still for a moment: what sends nothing meanwhile is cut, as it must be."""


def test_a_socket_that_is_silent_is_cut_and_one_that_pings_stays() -> None:
    async def whole() -> None:
        clock = Clock()
        exchange = exchange_of([GENERATED], generated, seed=5, now_ns=clock.now_ns())
        exchange.open_account("key", "secret", Decimal(100_000), clock.now_ns())
        runner = web.AppRunner(LoopbackVenue(exchange, "", clock, idle_cut_s=IDLE_CUT_S).application())
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"ws://127.0.0.1:{runner.addresses[0][1]}/v5/public/linear"
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(url) as silent,
                session.ws_connect(url) as pinging,
            ):
                began_s = time.monotonic()
                cut = asyncio.create_task(silent.receive())
                pongs = 0
                while not cut.done() or time.monotonic() - began_s < 1.5 * IDLE_CUT_S:
                    assert time.monotonic() - began_s < 60, "it was not cut"
                    await pinging.send_str('{"op":"ping"}')
                    assert '"pong"' in (await pinging.receive()).data
                    pongs += 1
                    await asyncio.sleep(IDLE_CUT_S / 10)  # its pace is what is tested
                assert (await cut).type is aiohttp.WSMsgType.CLOSE
                assert not pinging.closed
                assert pongs >= 3
        finally:
            await runner.cleanup()

    asyncio.run(whole())
