"""What people are told who are asked to sign: whom it asks, over which evidence, and where they see and sign it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from gates.approvers import SignOffs, asked_of
from tasks.guard.state import Active, Refused
from tasks.sign_off import PREFIX_LENGTH

LINK_CHARS_MAX = 500
NOT_IN_A_LINK = set(" <>|\"'`")


def wanted_words(active: Active, what: str, required: SignOffs, digest: str) -> str:
    """`sign-offs wanted …: Quant Lead, 2 people in all, of ada, grace; evidence abc123; https://…`."""
    roles, count = ", ".join(required.roles), required.people_count
    if not roles or count > len(required.roles):
        people = f"{count} {'person' if count == 1 else 'people'}"
        roles = f"{roles}, {people} in all" if roles else people
    asked = asked_of(required, active.approvers.people if active.approvers else (), active.plan.author)
    return f"sign-offs wanted {what}: {roles}, of {', '.join(asked) or 'nobody'}; {where(active, digest)}"


def where(active: Active, digest: str | None) -> str:
    """What is signed, by the characters that the form asks for, and the link, where there is one."""
    shown = f"evidence {(digest or '')[:PREFIX_LENGTH]}"
    return f"{shown}; {active.row.link}" if active.row.link else shown


def link_of(payload: dict[str, Any]) -> str:
    """Where people see the stage run, as the request says; empty without one. It goes out to people: raises Refused
    for what is no plain web address."""
    link = payload.get("link", "")
    try:
        parts = urlsplit(link) if isinstance(link, str) else None
        good = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        good = False
    plain = isinstance(link, str) and link.isascii() and link.isprintable() and not set(link) & NOT_IN_A_LINK
    if link != "" and not (good and plain and len(link) <= LINK_CHARS_MAX):
        allowed = f"http:// or https:// and a host, at most {LINK_CHARS_MAX} characters"
        raise Refused(f"link: {str(link)[:80]!r} is no web address; allowed: {allowed}, or none")
    return str(link)
