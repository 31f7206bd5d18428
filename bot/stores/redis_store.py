"""The journal in Redis. Every write is one script: all of it or nothing, and nothing twice.

Redis keeps it only where it is told to, so that is asked before the first row: an append-only file, written before a
write is answered (`appendfsync always`), and no eviction. Afterwards every write proves that the server still has what
it took: rows that were answered and are gone, or another writer, end the writing, and with it the quoting.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from bot.stores.redis_place import PAGE_ROWS, Client, RedisPlace
from bot.stores.sqlite import SCHEMA_VERSION, JournalDamaged, JournalError, JournalUnwritable
from bot.stores.store import Row, Totals, already_there

FIELDS: Final = ("at_ns", "direction", "kind", "symbol", "client_order_id", "body")
BATCH_ROWS: Final = 1_000
"""A longer batch goes in parts, in order: a script keeps everybody else waiting while it runs."""

RETRY_AFTER_S: Final = 2.0
"""A server that does not answer costs a second each time; in between the loop is free to cancel."""

WANTED: Final = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}

WRITE: Final = """
if redis.call('GET', KEYS[4]) ~= ARGV[1] then return redis.error_reply('FENCED') end
local last = redis.call('GET', KEYS[5]) or '0'
if tonumber(last) < tonumber(ARGV[2]) then return redis.error_reply('LOST ' .. last) end
local first, rows, epoch = tonumber(last), 0, ARGV[3]
local to = 4 + tonumber(ARGV[4]) * 7
for i = 5, to, 7 do
    if tonumber(ARGV[i]) > first then
        redis.call('XADD', KEYS[1], ARGV[i] .. '-0', 'at_ns', ARGV[i+1], 'direction', ARGV[i+2], 'kind', ARGV[i+3],
            'symbol', ARGV[i+4], 'client_order_id', ARGV[i+5], 'body', ARGV[i+6])
        last, rows = ARGV[i], rows + 1
    end
end
for i = to + 1, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i+1]) end
redis.call('HINCRBY', KEYS[3], 'rows', rows)
if tonumber(epoch) > tonumber(redis.call('HGET', KEYS[3], 'epoch') or '0') then
    redis.call('HSET', KEYS[3], 'epoch', epoch)
end
redis.call('SET', KEYS[5], last)
return last
"""


class RedisStore:
    """See `bot.stores.store.Store`."""

    def __init__(self, place: RedisPlace, meta: Mapping[str, str], *, recover: bool = True) -> None:
        """Creates the journal or continues it, and takes the writing over.

        Raises JournalError where the server cannot be reached or would not keep it, where it is another account's, or
        where one is there and was not asked for (then whoever writes it goes on); JournalDamaged where part is gone.
        """
        from redis import RedisError

        self._place = place
        self._client: Client = place.connect()
        self._write = self._client.register_script(WRITE)
        self._token = secrets.token_hex(8)
        self._not_before_s = 0.0
        self._failed = ""
        try:
            self._refuse_forgetful()
            held: dict[str, str] = self._client.hgetall(place.key("meta"))
            self.continued = bool(held)
            if self.continued and not recover:
                raise JournalError(already_there(place))
            if self.continued:
                self._check(held, meta.get("account", ""))
            else:
                self._create(meta)
            self._client.set(place.key("writer"), self._token)
            self._last_seq = int(self._client.get(place.key("batch")) or 0)
            # what was found above may be older: until just now somebody else was writing
            self._epoch = int(self._client.hget(place.key("meta"), "epoch") or 0)
        except RedisError as error:
            raise JournalError(f"{place}: {_in_words(error)}") from error

    def totals(self) -> Totals:
        return read_totals(self._client, self._place)

    def last_seq(self) -> int:
        return self._last_seq

    def last_epoch(self) -> int:
        return self._epoch

    def execution_count(self) -> int:
        fills = (json.loads(row[6])["execution_id"] for row in read_rows(self._client, self._place, 0, self._last_seq)
                 if row[3] == "Filled")  # fmt: skip
        return len(set(fills))

    def last_ns(self, until_seq: int) -> int:
        (newest,) = self._client.xrevrange(self._place.key("entries"), f"{until_seq}-0", "-", count=1) or ((),)
        return int(newest[1]["at_ns"]) if newest else 0

    def write(self, rows: Sequence[Row], totals: Mapping[tuple[str, str], int]) -> None:
        """In parts of BATCH_ROWS, the totals with the last. A server that failed is left alone for a while."""
        if time.monotonic() < self._not_before_s:
            raise JournalUnwritable(f"{self._place}: cannot write ({self._failed})")
        parts = [rows[start : start + BATCH_ROWS] for start in range(0, len(rows), BATCH_ROWS)] or [rows]
        for part in parts:
            self._write_part(part, totals if part is parts[-1] else {})

    def _write_part(self, rows: Sequence[Row], totals: Mapping[tuple[str, str], int]) -> None:
        from redis import RedisError

        place = self._place
        epoch = max((json.loads(row[6])["epoch"] for row in rows if row[3] == "GrantReceived"), default=0)
        arguments: list[str | int] = [self._token, self._last_seq, epoch, len(rows)]
        for row in rows:
            arguments += row
        for (name, labels), value in totals.items():
            arguments += (f"{name}\0{labels}", value)
        keys = [place.key(what) for what in ("entries", "totals", "meta", "writer", "batch")]
        try:
            self._write(keys=keys, args=arguments)
        except RedisError as error:
            self._failed, self._not_before_s = _in_words(error), time.monotonic() + RETRY_AFTER_S
            raise JournalUnwritable(f"{place}: cannot write ({self._failed})") from error
        self._epoch = max(self._epoch, epoch)
        if rows:
            self._last_seq = rows[-1][0]

    def close(self) -> None:
        self._client.close()

    def _refuse_forgetful(self) -> None:
        for name, wanted in WANTED.items():
            found = self._client.config_get(name).get(name)
            if found != wanted:
                raise JournalError(f"{self._place}: its {name} is {found or 'not told'}, a journal needs {wanted}")

    def _create(self, meta: Mapping[str, str]) -> None:
        place = self._place
        left = [key for what in ("entries", "totals", "batch") if self._client.exists(key := place.key(what))]
        if left:
            raise JournalDamaged(f"{place}: damaged journal: {left[0]} is there without {place.key('meta')}")
        fields = {"schema_version": SCHEMA_VERSION, **meta}
        self._client.hset(place.key("meta"), mapping=fields)

    def _check(self, held: Mapping[str, str], account: str) -> None:
        check_meta(self._client, self._place, held)
        if held.get("account", "") != account:
            raise JournalError(
                f"{self._place}: journal of account {held.get('account', '')!r}, this run is for account {account!r}"
            )


def check_meta(client: Client, place: RedisPlace, held: Mapping[str, str]) -> None:
    """Raises JournalDamaged where the schema is another, or rows that were written are gone."""
    version = held.get("schema_version", "absent")
    if version != SCHEMA_VERSION:
        raise JournalDamaged(f"{place}: schema_version is {version}, this version reads {SCHEMA_VERSION}")
    with client.pipeline(transaction=True) as together:  # a writer may be at work
        together.hget(place.key("meta"), "rows")
        together.xlen(place.key("entries"))
        together.get(place.key("batch"))
        together.xrevrange(place.key("entries"), count=1)
        rows, found, last, newest = together.execute()
    if int(rows or 0) != found:
        raise JournalDamaged(f"{place}: damaged journal, cut short: {found} rows, {rows or 0} were written")
    newest_seq = int(newest[0][0].partition("-")[0]) if newest else 0
    if newest_seq != int(last or 0):
        raise JournalDamaged(f"{place}: damaged journal: its last row is {newest_seq}, {last or 0} was written")


def read_rows(client: Client, place: RedisPlace, after_seq: int, until_seq: int | None = None) -> Iterator[Row]:
    """Rows after one number, in order, in pages."""
    last = "+" if until_seq is None else f"{until_seq}-0"
    while True:
        page = client.xrange(place.key("entries"), f"{after_seq + 1}-0", last, count=PAGE_ROWS)
        for number, fields in page:
            after_seq = int(number.partition("-")[0])
            at_ns, direction, kind, symbol, client_order_id, body = (fields[name] for name in FIELDS)
            yield after_seq, int(at_ns), direction, kind, symbol, client_order_id, body
        if len(page) < PAGE_ROWS:
            return


def read_totals(client: Client, place: RedisPlace) -> Totals:
    """All totals."""
    found: Totals = {}
    for field, value in client.hgetall(place.key("totals")).items():
        name, _, labels = field.partition("\0")
        found[name, labels] = int(value)
    return found


def _in_words(error: Exception) -> str:
    said = " ".join(str(error).split())
    if said.startswith("FENCED"):
        return "another process has taken this journal over, or it is gone"
    if said.startswith("LOST"):
        return f"the server has lost rows that it had taken: its last is {said.split()[1]}"
    return f"{type(error).__name__}: {said}"
