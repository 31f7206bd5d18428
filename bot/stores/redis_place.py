"""Where a journal lies in Redis: server, name, keys, and the file that says so in the state folder.

Keys of the journal NAME (`<account>:<last part of the state folder>`):

    orders:NAME:meta       hash     schema_version, account, run, …, rows (how many were written), epoch (the highest)
                                    and booked (what its account came to once it was flat, `bot.booked`)
    orders:NAME:entries    stream   one entry a row, its id is `<seq>-0`
    orders:NAME:totals     hash     `metric NUL labels` to value
    orders:NAME:writer     string   who may write: whoever opened it last
    idem:NAME:batch        string   the last row of the last batch: a batch that is sent again writes nothing twice

The state folder holds `journal.redis` instead of `journal.db`, so that whoever reads a journal finds it from the same
path. It holds no password: that comes from `MM_REDIS_PASSWORD`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final, NamedTuple

from bot.stores.sqlite import JournalDamaged, JournalError

Client = Any
"""A `redis.Redis` whose answers are text. Its own types leave open whether they are bytes."""

MARKER: Final = "journal.redis"
BOOKED: Final = "booked"
PASSWORD: Final = "MM_REDIS_PASSWORD"  # noqa: S105 - the variable's name
CONNECT_TIMEOUT_S: Final = 0.25
ANSWER_TIMEOUT_S: Final = 1.0
PAGE_ROWS: Final = 2_000


class RedisPlace(NamedTuple):
    """`url`: redis:// or rediss://, without a password."""

    url: str
    name: str

    def key(self, what: str) -> str:
        return f"{'idem' if what == 'batch' else 'orders'}:{self.name}:{what}"

    def __str__(self) -> str:
        return f"{self.url} {self.name}"

    def connect(self) -> Client:
        """A client that tries once: whoever asks decides whether to ask again. Opens no socket yet."""
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return Redis.from_url(
            self.url,
            password=os.environ.get(PASSWORD) or None,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=ANSWER_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )


def place_for(url: str, account: str, state_dir: Path) -> RedisPlace:
    """The journal of this account and state folder."""
    return RedisPlace(url, f"{account}:{state_dir.resolve().name}")


def journals_of(url: str, account: str) -> list[RedisPlace]:
    """Every journal of the account on that server. Raises JournalError where it cannot be asked."""
    from redis import RedisError

    client = RedisPlace(url, account).connect()
    first, last = f"orders:{account}:", ":meta"
    try:
        found = sorted(client.scan_iter(match=f"{first}*{last}", count=1_000))
    except RedisError as error:
        raise JournalError(f"{url}: cannot be asked for journals ({type(error).__name__})") from error
    finally:
        client.close()
    return [RedisPlace(url, key.removeprefix("orders:").removesuffix(last)) for key in found]


def marker_beside(path: Path) -> Path:
    """The file that stands for `path` (`…/journal.db`) where the journal is in Redis."""
    return path.with_name(MARKER)


def keep_booked(place: RedisPlace, word: str) -> None:
    """Leaves that result with the journal. Raises JournalError where its server does not take it, or has no journal."""
    from redis import RedisError

    client, key = place.connect(), place.key("meta")
    try:
        if not client.hexists(key, "schema_version"):
            raise JournalError(f"{place}: no such journal")
        client.hset(key, BOOKED, word)
    except RedisError as error:
        raise JournalError(f"{place}: takes no result ({type(error).__name__})") from error
    finally:
        client.close()


def write_marker(state_dir: Path, place: RedisPlace) -> None:
    """Leaves word of the journal in the state folder. Raises JournalError where another journal is named there."""
    path = state_dir / MARKER
    if path.exists() and (found := read_marker(path)) != place:
        raise JournalError(f"{path}: names the journal {found}, this run has {place}")
    path.write_text(json.dumps({"url": place.url, "name": place.name}) + "\n", encoding="utf-8")


def read_marker(path: Path) -> RedisPlace:
    """Raises JournalDamaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return RedisPlace(str(found["url"]), str(found["name"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JournalDamaged(f"{path}: does not name a journal in Redis ({type(error).__name__})") from None
