"""ccxt's asynchronous Bybit client pointed at a venue on loopback: nothing but its addresses is changed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import ccxt.pro

from tests.support.judged_venue import DEADLINE_S, JudgedVenue, Key

WINDOW_MS = 60_000
"""How old a request may be when it arrives: a machine that is busy elsewhere is not what is judged."""
MARKET = "BTC/USDT:USDT"
"""ccxt's name of the venue's contract."""


def client(venue: JudgedVenue, key: Key | None = None, **options: Any) -> ccxt.pro.bybit:
    """To be closed by whoever opens it. `options` are ccxt's `options`."""
    signs = {"apiKey": key.api_key, "secret": key.api_secret} if key else {}
    made = ccxt.pro.bybit({**signs, "timeout": int(DEADLINE_S * 1000), "options": {"recvWindow": WINDOW_MS, **options}})
    ready = venue.ready
    made.urls["api"].update({name: ready["rest_url"] for name in ("public", "private")})
    sockets = made.urls["api"]["ws"]
    sockets["public"].update({"linear": ready["ws_public_url"], "spot": ready["ws_public_spot_url"]})
    sockets["private"].update({"contract": ready["ws_private_url"], "trade": ready["ws_trade_url"]})
    return made


Use = Callable[[ccxt.pro.bybit, Key], Awaitable[None]]


def judge(venue: JudgedVenue, use: Use, *, equity_quote: str = "100000", **options: Any) -> None:
    """Run `use` with a client of a new account, within a deadline."""

    async def run() -> None:
        key = venue.key(equity_quote)
        exchange = client(venue, key, **options)
        try:
            async with asyncio.timeout(3 * DEADLINE_S):
                await use(exchange, key)
        finally:
            await exchange.close()

    asyncio.run(run())
