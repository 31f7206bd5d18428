"""One exchange of ccxt, set up for us: numbers stay text, nothing is sent twice, only what is traded is listed."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import ccxt.async_support as library
from ccxt.base.errors import BaseError

from bot.domain.instrument import Category
from bot.venues.ccxt.outcomes import error_of
from bot.venues.port import VenueGarbled

T = TypeVar("T")

TIMEOUT_MS: Final = 5_000
LISTED: Final[dict[tuple[str, Category], str]] = {
    ("binance", "linear"): "linear",
    ("okx", "linear"): "swap",
    ("bitget", "linear"): "swap",
    ("binance", "spot"): "spot",
    ("okx", "spot"): "spot",
    ("bitget", "spot"): "spot",
}
"""How each venue's listing calls the category."""


def open_exchange(exchange: str, category: Category, rest_url: str = "", **keys: str) -> Any:
    """The library's asynchronous client. `rest_url`: instead of the venue's hosts; `keys`: apiKey, secret, password.

    Opens no socket. To be closed by whoever opens it.
    """
    made: Any = getattr(library, exchange)(
        {
            "enableRateLimit": True,
            "timeout": TIMEOUT_MS,
            "number": str,  # a float would have decided a price before we saw it
            "options": {
                "defaultType": "swap" if category == "linear" else "spot",
                "fetchMarkets": {"types": [LISTED[exchange, category]]},
                "adjustForTimeDifference": False,
            },
            **keys,
        }
    )
    made.has["fetchCurrencies"] = False  # coins and their networks are nobody's business here
    if rest_url:
        made.urls["api"] = _elsewhere(made.urls["api"], rest_url.rstrip("/"))
    return made


def _elsewhere(addresses: Any, rest_url: str) -> Any:
    """Every address with the same path on another host."""
    if isinstance(addresses, dict):
        return {name: _elsewhere(inner, rest_url) for name, inner in addresses.items()}
    return rest_url + urlsplit(str(addresses)).path


async def asked(exchange: str, call: Awaitable[T]) -> T:
    """A read's answer. Raises VenueError; what the library could not make sense of is garbled."""
    try:
        return await call
    except BaseError as error:
        raise error_of(exchange, error) from None
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise VenueGarbled(f"{exchange}: {type(error).__name__}: {' '.join(str(error).split())[:200]}") from None
