"""What a bot did when its grant had run out, by its own journal and its own clock: independent of how fast it was."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bot.domain.events import GrantReceived
from bot.journal import JournalReader

NS_PER_S = 1_000_000_000


def check_lapse(journal: Path, epoch: int) -> None:
    """The first thing it did once the last grant of that epoch had run out was to cancel all, if it had not done so for
    another reason, and nothing was quoted since. One that went on has a quote, or a read of the account, before that
    cancel: it reads every two seconds.

    Read before the next grant. Raises AssertionError with what it did instead.
    """
    with JournalReader(journal) as reader:
        entries = list(reader.entries())
    grants = [msgspec.json.decode(one.body, type=GrantReceived) for one in entries if one.kind == "GrantReceived"]
    assert grants[-1].epoch == epoch, f"granted since: {grants[-1]}"
    expired_at_ns = grants[-1].at_ns + int(grants[-1].ttl_s * NS_PER_S)
    since = [one for one in entries if one.at_ns >= expired_at_ns]
    assert since, "it has written nothing since"
    cancels = [one.seq for one in entries if one.kind == "CancelAll" and one.at_ns <= since[0].at_ns]
    assert cancels, f"its first deed without a grant: {since[0]}"
    assert [one for one in entries if one.seq > cancels[-1] and one.kind in ("PlaceOrder", "AmendOrder")] == []
