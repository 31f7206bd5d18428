"""Who may ask, and how often: signatures, the receive window and rate limits of Bybit V5. Pure."""

from __future__ import annotations

import hashlib
import hmac
from functools import cache
from typing import Final, final

from bot.simulator.accounts import Holder
from bot.simulator.exchange import Exchange

RECV_WINDOW_MS = 5_000
BLOCK_BYTES = 64
"""Of SHA-256."""
AHEAD_MS = 1_000
"""A timestamp this far ahead of the venue's clock is refused."""
ADDRESS_WINDOW_MS = 5_000
CONNECT_WINDOW_MS = 300_000
SHUT_OUT_MS = 600_000
DIGITS_MAX = 60
"""Of a number that a client sends."""


class V5Error(Exception):
    """An answer other than OK: the code and its message as the venue words them."""

    def __init__(self, code: int, message: str, limit: Limit | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.limit = limit


@final
class Limit:
    """What is left of a bucket, for the answer's headers.

    `taken`: how many of the requests asked for the bucket still had; only a batch asks for more than one.
    """

    __slots__ = ("allowed", "left", "resets_at_ms", "taken")

    def __init__(self, allowed: int, left: int, resets_at_ms: int, taken: int = 1) -> None:
        self.allowed = allowed
        self.left = left
        self.resets_at_ms = resets_at_ms
        self.taken = taken

    def headers(self, skew_ms: int) -> dict[str, str]:
        """`skew_ms`: how much more than it should the clock shows by which clients are told of the reset."""
        return {
            "X-Bapi-Limit": str(self.allowed),
            "X-Bapi-Limit-Status": str(self.left),
            "X-Bapi-Limit-Reset-Timestamp": str(self.resets_at_ms + skew_ms),
        }


@final
class Bucket:
    """What one account may ask within a second; refilled whole when its second is over."""

    __slots__ = ("_opened_ms", "_used", "left", "resets_at_ms")

    def __init__(self) -> None:
        self._opened_ms = self._used = 0
        self.left = self.resets_at_ms = 0
        """as of the last request"""

    def spend(self, allowed: int, now_ms: int, wanted: int) -> int:
        """Take so many of what a second allows, or what is left; returns how many. Raises V5Error 10006: none is."""
        opened_ms, used = self._opened_ms, self._used
        if now_ms - opened_ms >= 1_000:
            opened_ms, used = now_ms, 0
        self.resets_at_ms = opened_ms + 1_000
        if used >= allowed:
            self.left = 0
            limit = Limit(allowed, 0, opened_ms + 1_000)
            raise V5Error(10006, "Too many visits. Exceeded the API Rate Limit.", limit)
        taken = min(wanted, allowed - used)
        self._opened_ms, self._used = opened_ms, used + taken
        self.left = allowed - used - taken
        return taken


class RateLimits:
    """Requests per account, bucket and second."""

    def __init__(self) -> None:
        self._buckets: dict[int, dict[str, Bucket]] = {}

    def bucket(self, uid: int, name: str) -> Bucket:
        """That one of that account."""
        buckets = self._buckets.get(uid)
        if buckets is None:
            buckets = self._buckets[uid] = {}
        bucket = buckets.get(name)
        if bucket is None:
            bucket = buckets[name] = Bucket()
        return bucket

    def spend(self, uid: int, name: str, allowed: int, now_ns: int, wanted: int = 1) -> Limit:
        """Take `wanted` requests from the bucket, or what it still has. Raises V5Error 10006 where it is empty."""
        bucket = self.bucket(uid, name)
        taken = bucket.spend(allowed, now_ns // 1_000_000, wanted)
        return Limit(allowed, bucket.left, bucket.resets_at_ms, taken)


class AddressLimits:
    """What one network address may do: requests in 5 s, and sockets opened in 5 min. Past either it is shut out.

    `requests_max` 0: nobody counts. The real venue's numbers are 600 requests and 500 sockets, and 10 min outside.
    """

    def __init__(self, requests_max: int, connects_max: int = 500) -> None:
        self._requests = _Window(requests_max, ADDRESS_WINDOW_MS)
        self._connects = _Window(connects_max if requests_max else 0, CONNECT_WINDOW_MS)

    def admit_request(self, address: str, now_ns: int) -> bool:
        return self._requests.admit(address, now_ns // 1_000_000)

    def admit_socket(self, address: str, now_ns: int) -> bool:
        now_ms = now_ns // 1_000_000
        return not self._requests.is_shut_out(address, now_ms) and self._connects.admit(address, now_ms)


class _Window:
    """Happenings per address in a window of fixed length; one too many shuts the address out."""

    def __init__(self, allowed: int, length_ms: int) -> None:
        self._allowed = allowed
        self._length_ms = length_ms
        self._seen: dict[str, tuple[int, int]] = {}
        self._out_until_ms: dict[str, int] = {}

    def is_shut_out(self, address: str, now_ms: int) -> bool:
        return now_ms < self._out_until_ms.get(address, 0)

    def admit(self, address: str, now_ms: int) -> bool:
        if not self._allowed:
            return True
        if self.is_shut_out(address, now_ms):
            return False
        opened_ms, count = self._seen.get(address, (0, 0))
        if now_ms - opened_ms >= self._length_ms:
            opened_ms, count = now_ms, 0
        self._seen[address] = (opened_ms, count + 1)
        if count < self._allowed:
            return True
        self._out_until_ms[address] = now_ms + SHUT_OUT_MS
        return False


def _sign(secret: str, message: bytes) -> str:
    """HMAC-SHA256 as RFC 2104 defines it, lower-case hex. What depends on the key alone is worked out once."""
    started, finishing = _keyed(secret)
    inner, outer = started.copy(), finishing.copy()
    inner.update(message)
    outer.update(inner.digest())
    return outer.hexdigest()


@cache
def _keyed(secret: str) -> tuple[hashlib._Hash, hashlib._Hash]:
    key = secret.encode()
    block = (key if len(key) <= BLOCK_BYTES else hashlib.sha256(key).digest()).ljust(BLOCK_BYTES, b"\0")
    return hashlib.sha256(bytes(b ^ 0x36 for b in block)), hashlib.sha256(bytes(b ^ 0x5C for b in block))


def holder_of_key(exchange: Exchange, api_key: str, now_ns: int) -> tuple[Holder, str] | None:
    """Whose key it is, and its secret; None where no key of today, and none whose grace still runs, is this one."""
    given = _bytes(api_key)
    for holder in exchange.holders.values():
        if hmac.compare_digest(holder.api_key.encode(), given):
            return holder, holder.api_secret
        for former, old in holder.keys.former.items():
            if hmac.compare_digest(former.encode(), given) and now_ns < old.until_ns:
                return holder, old.api_secret
    return None


def _bytes(text: str) -> bytes:
    """To be compared, whatever a client has sent: also what no encoding has."""
    return text.encode(errors="replace")


def _check_expiry(holder: Holder, now_ns: int) -> None:
    expires_at_ns = holder.keys.standing.expires_at_ns
    if expires_at_ns is not None and expires_at_ns <= now_ns:
        raise V5Error(33004, "Your api key has expired.")


def whole(text: str) -> int | None:
    """A number of plain digits, as long as any that means something here; None for all else."""
    known = _numbers.get(text)
    if known is None and len(text) <= DIGITS_MAX and text.isascii() and text.isdecimal():
        if len(_numbers) >= NUMBERS_KEPT:
            _numbers.clear()
        known = _numbers[text] = int(text)
    return known


NUMBERS_KEPT: Final = 64
_numbers: Final[dict[str, int]] = {}
"""Those that were read last: a window is always the same, and much is asked within one millisecond."""


def check_timestamp(timestamp: str, window: str, now_ns: int) -> None:
    """Raises V5Error 10002 unless now − window ≤ timestamp < now + 1 s; 10001 for what is no number."""
    stamp_ms, window_ms = whole(timestamp), whole(window)
    if stamp_ms is None or window_ms is None:
        raise V5Error(10001, f"params error: timestamp {timestamp[:20]!r} or recv_window {window[:20]!r} is no number")
    now_ms = now_ns // 1_000_000
    if not is_timely(stamp_ms, window_ms, now_ms):
        raise V5Error(
            10002,
            "invalid request, please check your server timestamp or recv_window param. "
            f"req_timestamp[{timestamp}],server_timestamp[{now_ms}],recv_window[{window}]",
        )


def is_timely(stamp_ms: int, window_ms: int, now_ms: int) -> bool:
    """Whether a timestamp lies within its window."""
    return now_ms - window_ms <= stamp_ms < now_ms + AHEAD_MS


def authenticate(exchange: Exchange, headers: dict[str, str], signed: bytes, now_ns: int) -> Holder:
    """Check a REST request. `signed`: the query string as sent, or the raw body. Header names in lower case."""
    api_key = headers.get("x-bapi-api-key", "")
    found = holder_of_key(exchange, api_key, now_ns)
    if found is None:
        raise V5Error(10003, "API key is invalid.")
    holder, api_secret = found
    _check_expiry(holder, now_ns)
    timestamp = headers.get("x-bapi-timestamp", "")
    given_window = headers.get("x-bapi-recv-window")
    sent_window = "" if given_window is None else given_window
    window = str(RECV_WINDOW_MS) if given_window is None else given_window
    check_timestamp(timestamp, window, now_ns)
    expected = _sign(api_secret, (timestamp + api_key + sent_window).encode() + signed)
    if not hmac.compare_digest(expected.encode(), _bytes(headers.get("x-bapi-sign", ""))):
        raise V5Error(10004, "Error sign, please check your signature generation algorithm.")
    return holder


def authenticate_socket(exchange: Exchange, args: list[object], now_ns: int) -> Holder:
    """Check `[key, expires_ms, HMAC(secret, "GET/realtime" + expires)]`."""
    if len(args) != 3:
        raise V5Error(10001, "Params Error")
    api_key, expires, signature = str(args[0]), str(args[1]), str(args[2])
    found = holder_of_key(exchange, api_key, now_ns)
    if found is None:
        raise V5Error(10003, "Invalid api_key")
    holder, api_secret = found
    _check_expiry(holder, now_ns)
    expires_ms = whole(expires)
    if expires_ms is None or expires_ms <= now_ns // 1_000_000:
        raise V5Error(10002, "Params Error: expires is not in the future")
    expected = _sign(api_secret, b"GET/realtime" + expires.encode())
    if not hmac.compare_digest(expected.encode(), _bytes(signature)):
        raise V5Error(10004, "Invalid sign")
    return holder
