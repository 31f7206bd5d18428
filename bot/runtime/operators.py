"""Two people release a stop over HTTP: one asks, another one confirms.

Who they are is judged by the guard, by one-time codes, before it calls here with the operator's token. What it says of
the second person it seals with the token that it alone shares with the bot (`release_code`): whoever has no more than
the operator's token, as those who may stop, cannot release alone. Without the guard's token nothing can be released
over HTTP. What is decided is decided by the engine; here only codes are compared and answers worded.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Annotated, Final, Literal

import msgspec

from bot.domain.events import ReleaseAsked, ReleaseConfirmed
from bot.engine.state import Release

Kind = Literal["resume", "re-arm"]
Words = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
RequestId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{8,64}$")]
CODES: Final = {"consent": 403, "wrong_code": 403, "unknown": 404}
"""HTTP status by the name in front of a refusal; 409 for any other."""


class AskBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who asks, and why. `stop`: which one (`*`: all that this kind releases). `request_id`: theirs; the same again is
    the same request."""

    operator: Name
    reason: Words
    stop: Words = "*"
    request_id: RequestId | None = None
    consent: bool = False


class ConfirmBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which request of somebody else, who confirms it, and the `release_code` that says that it is they."""

    request_id: Words
    operator: Name
    code: Words
    reason: Words = "confirmed"
    consent: bool = False


def release_code(grant_token: str, epoch: int, request_id: str, operator: str) -> str:
    """The guard's word that this person confirms this request: HMAC-SHA256 under the token it shares with the bot.

    Of the epoch that the bot is granted, which no later process is: to that one it says nothing.
    """
    said = msgspec.json.encode(["release", epoch, request_id, operator])
    return hmac.new(grant_token.encode(), said, hashlib.sha256).hexdigest()


def is_confirmed_by(grant_token: str, epoch: int, body: ConfirmBody) -> bool:
    """Whether the code is the guard's for exactly this; never where there is no guard. Takes as long either way."""
    right = release_code(grant_token, epoch, body.request_id, body.operator)
    return hmac.compare_digest(body.code.encode(), right.encode()) and bool(grant_token)


def asked(kind: Kind, body: AskBody, now_ns: int, *, armed: bool) -> ReleaseAsked:
    """The event of a first person's request, under an id that nobody can guess where none is given."""
    number = body.request_id or secrets.token_hex(8)
    return ReleaseAsked(now_ns, number, kind, body.stop, body.operator, body.reason, body.consent and armed)


def confirmed(body: ConfirmBody, now_ns: int, *, armed: bool) -> ReleaseConfirmed:
    """The event of a second person's word."""
    return ReleaseConfirmed(now_ns, body.request_id, body.operator, body.reason, body.consent and armed)


def answer(
    kind: Kind, release_id: str, read: Callable[[str], Release | None], before: str, expires_in_s: int
) -> tuple[int, dict[str, object]]:
    """(HTTP status, body) after the engine decided. `before`: the word on the request until then, empty without one."""
    release = read(release_id)
    if release is None or not release.kind:  # nobody has asked for it, whoever has confirmed it
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
