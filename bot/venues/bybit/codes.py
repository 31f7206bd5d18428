"""What Bybit's answer codes mean for us: one table, and two ways to read it.

Source: Bybit V5 error codes. The question each class answers is "did it happen, and what now?":

    REFUSED          it did not and will not happen                     → re-decide
    GONE             the order had already ended: a cancel succeeded    → sweep its fills
    UNKNOWN          it may have happened, or it exists already         → probe, never re-send blind
    CLOCK            our timestamp was refused                          → resynchronise, then probe
    SYMBOL_STOPPED   the instrument does not trade                      → freeze the symbol
    ACCOUNT_STOPPED  the account may not trade                          → hold the bot

A code that stands in no row is UNKNOWN: nobody promised that it did not happen.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from bot.venues.port import (
    Accepted,
    Outcome,
    Refused,
    Unknown,
    VenueClockSkew,
    VenueError,
    VenueRefused,
    VenueUnknown,
)


class Meaning(StrEnum):
    """The classes of the table above."""

    REFUSED = "refused"
    GONE = "gone"
    UNKNOWN = "unknown"
    CLOCK = "clock"
    SYMBOL_STOPPED = "symbol_stopped"
    ACCOUNT_STOPPED = "account_stopped"


_REFUSED = (
    *(10001, 10003, 10004, 10005, 10010, 10029),
    *(110003, 110004, 110007, 110012, 110017, 110020, 110094),
    *(170131, 170132, 170133, 170134, 170135, 170136, 170137, 170140, 170218),
)
_GONE = (110001, 110008, 110010, 170139, 170142, 170143, 170190, 170213)
_DUPLICATE_ID = (110072, 170141)
_UNKNOWN = (
    *_DUPLICATE_ID,
    *(10000, 10006, 10016, 10019, 10403, 10429, 110079),
    *(170001, 170005, 170007, 170032, 170146, 170147, 20003, 20006, 500000),
)

TABLE: Final[dict[int, Meaning]] = {
    **dict.fromkeys(_REFUSED, Meaning.REFUSED),
    **dict.fromkeys(_GONE, Meaning.GONE),
    **dict.fromkeys(_UNKNOWN, Meaning.UNKNOWN),
    10002: Meaning.CLOCK,
    **dict.fromkeys((110066, 110074, 30228), Meaning.SYMBOL_STOPPED),
    **dict.fromkeys((10024, 10027, 33004), Meaning.ACCOUNT_STOPPED),
}

KEY_CODES: Final = frozenset({10003, 10004, 33004})
"""Refusals of the key itself: unknown, wrongly signed, expired. Another key may be waiting at the backend."""

POST_ONLY_CODES: Final = frozenset({170218})
"""Refusals at the door that mean: the post-only order would have taken."""

POST_ONLY_REASON: Final = "EC_PostOnlyWillTakeLiquidity"
"""The `rejectReason` of an acknowledged order that would have taken; its status may be Cancelled or Rejected."""


def meaning(code: int) -> Meaning:
    """The class of a non-zero answer code. A code nobody has seen is UNKNOWN."""
    return TABLE.get(code, Meaning.UNKNOWN)


def refusal_outcome(code: int, message: str, *, of_existing: bool) -> Outcome:
    """The outcome of a mutation answered with a non-zero code.

    `of_existing`: the call was about an order that existed (cancel, amend, cancel-all), so that "it is gone" is an
    answer to it. To a create that answer makes no sense, and what makes no sense is unknown.
    """
    text = f"{code} {message}".strip()
    match meaning(code):
        case Meaning.REFUSED:
            return Refused(code, text, post_only=code in POST_ONLY_CODES)
        case Meaning.GONE:
            return Accepted(gone=True) if of_existing else Unknown(code, text)
        case Meaning.SYMBOL_STOPPED:
            return Refused(code, text, scope="symbol")
        case Meaning.ACCOUNT_STOPPED:
            return Refused(code, text, scope="account")
        case Meaning.UNKNOWN | Meaning.CLOCK:
            return Unknown(code, text)


def refusal_error(code: int, message: str, where: str) -> VenueError:
    """The error of a read, or of a mutation of a caller that wants errors, answered with a non-zero code."""
    text = f"{where}: {code} {message}".strip()
    match meaning(code):
        case Meaning.REFUSED | Meaning.GONE | Meaning.SYMBOL_STOPPED | Meaning.ACCOUNT_STOPPED:
            return VenueRefused(text, code)
        case Meaning.CLOCK:
            return VenueClockSkew(text, code)
        case Meaning.UNKNOWN:
            return VenueUnknown(text, code)
