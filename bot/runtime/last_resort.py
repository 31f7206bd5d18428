"""Cancelling without the engine, for the one case in which the engine itself has failed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Final

from bot.domain.instrument import Instrument, NotOnGrid, unlisted
from bot.domain.order import OWN_PREFIX
from bot.runtime.own_orders import OwnOrders
from bot.venues.port import VenueError, VenuePort

RETRY_S: Final = 0.2


async def cancel_and_prove(
    port: VenuePort, own: OwnOrders, symbols: Collection[str], instruments: Mapping[str, Instrument], deadline_s: float
) -> bool:
    """Cancels all of ours until a read that succeeded shows none of any symbol. False where that was not reached."""
    try:
        async with asyncio.timeout(deadline_s):
            standing = {symbol: instruments.get(symbol) or unlisted(symbol) for symbol in symbols}
            while standing:
                for symbol, instrument in list(standing.items()):
                    if await _none_open(port, own, symbol, instrument):
                        del standing[symbol]
                if standing:
                    await asyncio.sleep(RETRY_S)
    except TimeoutError:
        return False
    return True


async def _none_open(port: VenuePort, own: OwnOrders, symbol: str, instrument: Instrument) -> bool:
    await own.cancel_all(symbol)
    try:
        orders = await port.open_orders(symbol, instrument)
    except (VenueError, NotOnGrid):
        return False
    return not any(order.client_order_id.startswith(OWN_PREFIX) for order in orders)
