"""The people who may release a stop, each with a token of their own, and what they say over HTTP.

`MM_OPERATOR_TOKENS` is `name=token,name=token`: at least two people, no two with one token, none with the guard's or
with the one that stops. Without it nothing can be released over HTTP. What is decided is decided by the engine; here
only tokens are compared (each in constant time, and always all of them) and answers worded.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from bot.domain.events import ReleaseAsked, ReleaseConfirmed
from bot.engine.state import Release

OPERATORS: Final = "MM_OPERATOR_TOKENS"
TOKEN_CHARS_MIN: Final = 16
PEOPLE_MIN: Final = 2
Kind = Literal["resume", "re-arm"]
Words = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
CODES: Final = {"consent": 403, "unknown": 404}
"""HTTP status by the name in front of a refusal; 409 for any other."""


class OperatorsRefused(Exception):
    """The variable does not name two people. One line, no token in it."""


class Operators(NamedTuple):
    """Name to token. `armed`: what re-arming needs of the process itself holds (MM_LIVE_ENABLE on live)."""

    tokens: Mapping[str, str] = {}
    armed: bool = False

    def who(self, offered: str) -> str:
        """The name behind a token, empty for none. Takes as long whoever it is."""
        found = ""
        for name, token in self.tokens.items():
            if hmac.compare_digest(offered.encode(), token.encode()):
                found = name
        return found


class AskBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which stop (`*`: all that this kind releases), and why."""

    reason: Words
    why: Words
    consent: bool = False


class ConfirmBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which request of somebody else, and why."""

    request_id: Words
    why: Words
    consent: bool = False


def read_operators(text: str, other_tokens: Sequence[str]) -> dict[str, str]:
    """Name to token; empty where the variable is. Raises OperatorsRefused."""
    people: dict[str, str] = {}
    for number, entry in enumerate(text.split(",") if text.strip() else (), start=1):
        name, separator, token = (part.strip() for part in entry.partition("="))
        if not separator or not name or len(name) > 80:
            raise OperatorsRefused(f"{OPERATORS}: entry {number} is not name=token; allowed: name=token,name=token")
        if name.casefold() in {known.casefold() for known in people}:
            raise OperatorsRefused(f"{OPERATORS}: {name!r} twice; allowed: every person once")
        if len(token) < TOKEN_CHARS_MIN:
            shown = f"{name!r} has a token of {len(token)} characters"
            raise OperatorsRefused(f"{OPERATORS}: {shown}; allowed: {TOKEN_CHARS_MIN} or more")
        if token in (*people.values(), *other_tokens):
            raise OperatorsRefused(f"{OPERATORS}: {name!r} has the token of another; allowed: one of their own")
        people[name] = token
    if len(people) == 1:
        raise OperatorsRefused(f"{OPERATORS}: 1 of them; allowed: at least {PEOPLE_MIN} people, or none at all")
    return people


def asked(kind: Kind, who: str, body: AskBody, now_ns: int, *, armed: bool) -> ReleaseAsked:
    """The event of a first person's request, under an id that nobody can guess."""
    number = secrets.token_hex(8)
    return ReleaseAsked(now_ns, number, kind, body.reason, who, body.why, body.consent and armed)


def confirmed(who: str, body: ConfirmBody, now_ns: int, *, armed: bool) -> ReleaseConfirmed:
    """The event of a second person's word."""
    return ReleaseConfirmed(now_ns, body.request_id, who, body.why, body.consent and armed)


def answer(
    kind: Kind, release_id: str, read: Callable[[str], Release | None], before: str, expires_in_s: int
) -> tuple[int, dict[str, object]]:
    """(HTTP status, body) after the engine decided. `before`: the word on the request until then, empty without one."""
    release = read(release_id)
    if release is None:
        return 404, {"error": f"unknown: request {release_id!r} is none of this process"}
    if release.kind != kind:
        return 409, {"error": f"other_kind: request {release_id!r} is for {release.kind}, not for {kind}"}
    if before == "released":
        return 409, {"error": f"used: request {release_id!r} has released what it covers"}
    body: dict[str, object] = {"request_id": release_id, "asked_by": release.asked_by, "covers": list(release.covers)}
    if release.word == "released":
        return 200, {**body, "released": list(release.released)}
    if release.refusal:
        return CODES.get(release.refusal.partition(":")[0], 409), {"error": release.refusal}
    return (202, {**body, "expires_in_s": expires_in_s}) if not before else (503, {"error": "undecided: ask again"})
