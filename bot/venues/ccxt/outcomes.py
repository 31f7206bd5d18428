"""What an error of ccxt means for us: the venue's own code first, the library's class second.

ccxt's classes alone do not answer "did it happen": the same "execution status unknown" of one venue is a time-out on
one of its hosts and a plain error on another. So the codes that decide are in tables here, and whatever stands in none
of them and has no definite class is unknown: nobody promised that it did not happen.
"""

from __future__ import annotations

import json
import re
import socket
from enum import StrEnum
from typing import Final, Literal

import aiohttp
from ccxt.base import errors as raised

from bot.venues.port import (
    Accepted,
    Outcome,
    Refused,
    Unknown,
    Unreachable,
    VenueClockSkew,
    VenueError,
    VenueRefused,
    VenueUnknown,
    VenueUnreachable,
)

Action = Literal["create", "change", "cancel"]


class Meaning(StrEnum):
    """As of Bybit's codes; POST_ONLY: it would have taken."""

    REFUSED = "refused"
    POST_ONLY = "post_only"
    GONE = "gone"
    UNKNOWN = "unknown"
    CLOCK = "clock"
    SYMBOL_STOPPED = "symbol_stopped"
    ACCOUNT_STOPPED = "account_stopped"


_BINANCE: Final = {
    **dict.fromkeys(("-1013", "-1111", "-1121", "-2010", "-2018", "-2019", "-2022", "-2027"), Meaning.REFUSED),
    **dict.fromkeys(("-4003", "-4005", "-4014", "-4164"), Meaning.REFUSED),
    **dict.fromkeys(("-5022",), Meaning.POST_ONLY),
    **dict.fromkeys(("-2011", "-2013"), Meaning.GONE),
    **dict.fromkeys(("-1000", "-1001", "-1006", "-1007", "-1008", "-4116"), Meaning.UNKNOWN),
    **dict.fromkeys(("-1021", "-5028"), Meaning.CLOCK),
    **dict.fromkeys(("-4140", "-4141"), Meaning.SYMBOL_STOPPED),
    **dict.fromkeys(("-2015", "-2023"), Meaning.ACCOUNT_STOPPED),
}
_OKX: Final = {
    **dict.fromkeys(("51400", "51401", "51402", "51503", "51509", "51510", "51603"), Meaning.GONE),
    **dict.fromkeys(("50001", "50004", "50011", "50026", "50061", "51016", "51410"), Meaning.UNKNOWN),
    **dict.fromkeys(("50102",), Meaning.CLOCK),
    **dict.fromkeys(("51021", "51022", "51027", "51028"), Meaning.SYMBOL_STOPPED),
    **dict.fromkeys(("50007",), Meaning.ACCOUNT_STOPPED),
}
_BITGET: Final = {
    **dict.fromkeys(("40768", "40109", "43001", "22001"), Meaning.GONE),
    **dict.fromkeys(("40010", "40015", "40725", "40786", "429", "45001"), Meaning.UNKNOWN),
    **dict.fromkeys(("40004", "40005", "40008"), Meaning.CLOCK),
}
TABLES: Final[dict[str, dict[str, Meaning]]] = {"binance": _BINANCE, "okx": _OKX, "bitget": _BITGET}

POST_ONLY_WORDS: Final = ("immediately match and take", "Post Only order will be rejected")
DUPLICATE_WORDS: Final = ("Duplicate order sent", "ClientOrderId is duplicated", "Duplicate clientOid")

_CLASSES: Final[tuple[tuple[type[Exception], Meaning], ...]] = (
    (raised.DuplicateOrderId, Meaning.UNKNOWN),
    (raised.OrderNotFound, Meaning.GONE),
    (raised.CancelPending, Meaning.UNKNOWN),
    (raised.InvalidNonce, Meaning.CLOCK),
    (raised.ContractUnavailable, Meaning.SYMBOL_STOPPED),
    (raised.MarketClosed, Meaning.SYMBOL_STOPPED),
    (raised.AccountSuspended, Meaning.ACCOUNT_STOPPED),
    (raised.AccountNotEnabled, Meaning.ACCOUNT_STOPPED),
    (raised.OperationFailed, Meaning.UNKNOWN),
    (raised.AuthenticationError, Meaning.REFUSED),
    (raised.InsufficientFunds, Meaning.REFUSED),
    (raised.InvalidOrder, Meaning.REFUSED),
    (raised.BadRequest, Meaning.REFUSED),
    (raised.ArgumentsRequired, Meaning.REFUSED),
    (raised.NotSupported, Meaning.REFUSED),
)
"""First match wins; any other error of the library is unknown."""


def code_of(error: Exception) -> str:
    """The venue's own code, out of the answer that the library quotes; empty where there is none."""
    text = str(error)
    start = text.find("{")
    try:
        told = json.loads(text[start:]) if start >= 0 else {}
    except ValueError:
        found = re.search(r'"(?:sCode|code)"\s*:\s*"?(-?\d+)', text)
        return found[1] if found else ""
    rows = told.get("data") if isinstance(told, dict) else None
    first = rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], dict) else {}
    return str(first.get("sCode") or told.get("code") or "")


def meaning(exchange: str, error: Exception) -> Meaning:
    """What the venue meant."""
    text = str(error)
    if any(words in text for words in DUPLICATE_WORDS):
        return Meaning.UNKNOWN
    if any(words in text for words in POST_ONLY_WORDS):
        return Meaning.POST_ONLY
    known = TABLES[exchange].get(code_of(error))
    if known is not None:
        return known
    return next((found for kind, found in _CLASSES if isinstance(error, kind)), Meaning.UNKNOWN)


def is_gone(exchange: str, code: int) -> bool:
    """Whether a code says that there is no such order, or no more."""
    return TABLES[exchange].get(str(code)) is Meaning.GONE


def outcome_of(exchange: str, error: Exception, action: Action) -> Outcome:
    """The outcome of a mutation that the library raised an error for."""
    if _never_sent(error):
        return Unreachable(f"{exchange}: no connection")
    code, text = _number(code_of(error)), _shown(exchange, error)
    match meaning(exchange, error):
        case Meaning.POST_ONLY:
            return Refused(code, text, post_only=True)
        case Meaning.REFUSED:
            return Refused(code, text)
        case Meaning.GONE:
            return Unknown(code, text) if action == "create" else Accepted(gone=True)
        case Meaning.SYMBOL_STOPPED:
            return Refused(code, text, scope="symbol")
        case Meaning.ACCOUNT_STOPPED:
            return Refused(code, text, scope="account")
        case Meaning.UNKNOWN | Meaning.CLOCK:
            return Unknown(code, text)


def error_of(exchange: str, error: Exception) -> VenueError:
    """The error of a read."""
    if _never_sent(error):
        return VenueUnreachable(f"{exchange}: no connection")
    code, text = _number(code_of(error)), _shown(exchange, error)
    match meaning(exchange, error):
        case Meaning.CLOCK:
            return VenueClockSkew(text, code)
        case Meaning.UNKNOWN:
            return VenueUnknown(text, code)
        case _:
            return VenueRefused(text, code)


def _never_sent(error: Exception) -> bool:
    """The library hides that no connection was made behind a class that also means a lost answer; its cause tells."""
    return isinstance(error.__cause__, aiohttp.ClientConnectorError | socket.gaierror)


def _number(code: str) -> int:
    return int(code) if re.fullmatch(r"-?\d{1,9}", code) else 0


def _shown(exchange: str, error: Exception) -> str:
    """Class and code; the answer only where it is one: a network error quotes the address, which is signed."""
    code = code_of(error)
    return f"{exchange}: {type(error).__name__}" + (f" {code}" if code else "")
