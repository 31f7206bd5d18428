"""The hash chain of the record: canonical text, the hash of a link, and the check of a whole chain. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

GENESIS = "0" * 64
"""`prev_hash` of the first link of every account."""


class Link(Protocol):
    """What a link must show to be checked."""

    account: str
    seq: int
    prev_hash: str
    hash: str
    at: str
    kind: str
    body: str


@dataclass(frozen=True)
class ChainReport:
    """`ok` where all of `length` links hold. `head`: the last hash; `broken_at_seq`: the first bad link."""

    account: str
    ok: bool
    length: int
    head: str
    broken_at_seq: int | None = None
    reason: str = ""


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, no NaN. Decimals must already be text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def link_hash(account: str, seq: int, prev_hash: str, at: str, kind: str, body: str) -> str:
    """SHA-256, hex, over the canonical form of the link. `body` is the stored text itself, not its meaning."""
    text = canonical_json([account, seq, prev_hash, at, kind, body])
    return hashlib.sha256(text.encode()).hexdigest()


def _holds(account: str, link: Link) -> bool:
    try:
        return link_hash(account, link.seq, link.prev_hash, link.at, link.kind, link.body) == link.hash
    except (TypeError, ValueError):  # no text: what SQLite keeps where somebody puts it in
        return False


def check_chain(account: str, links: Iterable[Link]) -> ChainReport:
    """Recomputes every hash in order of `seq`. A changed, missing, swapped or doubled link is named by its seq.

    A chain cut off at its end still checks: compare `head` with the one that went out with the last notice.
    """
    prev, seq = GENESIS, 0
    for link in links:
        seq += 1
        broken = ""
        if link.seq != seq:
            broken = f"link {seq} is missing, found {link.seq}"
        elif link.prev_hash != prev:
            broken = f"link {seq} does not follow link {seq - 1}"
        elif not _holds(account, link):
            broken = f"link {seq} ({link.kind}) was changed after it was written"
        if broken:
            return ChainReport(account, False, seq - 1, prev, seq, broken)
        prev = link.hash
    return ChainReport(account, True, seq, prev)
