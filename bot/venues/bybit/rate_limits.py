"""How much we may still ask: the venue's word on each endpoint, and our own count of everything. Pure.

Each answer says how many requests its endpoint still takes. Whatever leaves before the next answer is taken from that,
so that what is known to be one too many is not tried. Over all endpoints one address has so many requests in five
seconds and is shut out for ten minutes past them: whatever adds risk, and every read, stops short of that, so that a
cancel always has room, and keeps still while the address is shut out. A cancel is held back by nothing but the venue's
own word that its endpoint is empty: our count of it may be too careful, and an order that should be gone still stands.

Source: Bybit V5, rate limit. Its windows last a second. The header's moment of reset is meant only where the limit was
exceeded; else it is the present one, and the count is forgotten a second after the last answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, final

from multidict import istr

LIMIT, STATUS = istr("x-bapi-limit"), istr("x-bapi-limit-status")
RESETS: Final = istr("x-bapi-limit-reset-timestamp")
"""Names of headers whose lower case is worked out once, not with every answer."""
_LIMIT: Final = "x-bapi-limit"
_STATUS: Final = "x-bapi-limit-status"
_RESETS: Final = "x-bapi-limit-reset-timestamp"

ADDRESS_REQUESTS_MAX: Final = 600
ADDRESS_WINDOW_MS: Final = 5_000
WINDOW_MS: Final = 1_000
"""A bucket is full again that long after the last request, whatever it was not told of."""
RESET_MIN_MS: Final = 20
"""A moment of reset nearer than this is the present one, by clocks that do not quite agree."""
RESET_MAX_MS: Final = 5_000
"""No bucket takes longer to be full again: a later moment is a mistake, and obeyed it would silence an endpoint."""
CANCEL_RESERVE: Final = 120
"""Of the address's requests in five seconds, those that only cancels may use."""
SHUT_OUT: Final = 403
"""The HTTP status by which the venue turns away a whole address."""
SHUT_OUT_MS: Final = 600_000
DIGITS_MAX: Final = 18
"""Of a number in a header."""


@final
class Bucket:
    """What one endpoint takes until `full_at_ms`; from then on `limit` again. `limit` 0: it has not said yet."""

    __slots__ = ("full_at_ms", "is_empty", "left", "limit", "under_way")

    def __init__(self) -> None:
        self.limit = self.left = self.under_way = 0
        self.full_at_ms = 0
        self.is_empty = False
        """by the venue's word, not by our count"""

    def wait_ms(self, now_ms: int, *, is_cancel: bool) -> int:
        if self.left > 0 or not self.limit or (is_cancel and not self.is_empty):
            return 0
        return max(0, self.full_at_ms - now_ms)

    def take(self, wanted: int, now_ms: int, *, is_cancel: bool) -> int:
        if self.limit and now_ms >= self.full_at_ms:
            self.left, self.is_empty, self.full_at_ms = self.limit, False, now_ms + WINDOW_MS
        taken = min(wanted, self.left) if self.limit and not is_cancel else wanted
        self.left = max(0, self.left - taken)
        self.under_way += taken
        return taken

    def told(self, limit: int, left: int, resets_ms: int, now_ms: int, taken: int) -> None:
        """The answer to so many of them said so much; `resets_ms` 0: not when."""
        self.under_way = max(0, self.under_way - taken)
        self._said(limit, left, resets_ms, now_ms)

    def _said(self, limit: int, left: int, resets_ms: int, now_ms: int) -> None:
        """What is under way has not been counted there yet. A word of the window that is known gives nothing back."""
        of_now = resets_ms < now_ms + RESET_MIN_MS
        full_at_ms = now_ms + WINDOW_MS if of_now else min(resets_ms, now_ms + RESET_MAX_MS)
        uncounted = max(0, left - self.under_way)
        known = self.limit and not of_now and full_at_ms == self.full_at_ms
        self.left = min(self.left, uncounted) if known else uncounted
        self.limit, self.full_at_ms, self.is_empty = limit, full_at_ms, not left


class RateLimits:
    """`headroom`: endpoint → requests left / limit, as the last headers said. Times are the venue's clock, ms.

    What is taken is either `heard` of, or `unheard`, or comes back by `returned`. Where the venue's clock turns out to
    be another than was thought, `clock_read` keeps what was counted as far away as it was.
    """

    def __init__(self) -> None:
        self.headroom: dict[str, float] = {}
        self._buckets: dict[str, Bucket] = {}
        self._sent_ms: deque[int] = deque()
        self._shut_out_until_ms = 0
        self._offset_ms = 0

    def clock_read(self, offset_ms: int) -> None:
        """The venue's clock minus ours, ms, by which every time from now on is told."""
        by_ms = offset_ms - self._offset_ms
        if abs(by_ms) <= RESET_MIN_MS:
            return
        self._offset_ms = offset_ms
        self._sent_ms = deque(sent_ms + by_ms for sent_ms in self._sent_ms)
        self._shut_out_until_ms += by_ms
        for bucket in self._buckets.values():
            bucket.full_at_ms += by_ms

    def bucket(self, path: str) -> Bucket:
        """That endpoint's own, for whoever asks nothing but it and from no address that is counted."""
        bucket = self._buckets.get(path)
        if bucket is None:
            bucket = self._buckets[path] = Bucket()
        return bucket

    def take(self, path: str, wanted: int, now_ms: int, *, is_cancel: bool) -> int:
        """How many of so many requests may leave now; they are taken. 0: none, see `wait_ms`."""
        if self.wait_ms(path, now_ms, is_cancel=is_cancel):
            return 0
        return self.bucket(path).take(wanted, now_ms, is_cancel=is_cancel)

    def sent(self, now_ms: int) -> None:
        """A request leaves, with however many orders in it."""
        self._sent_ms.append(now_ms)
        while self._sent_ms and self._sent_ms[0] <= now_ms - ADDRESS_WINDOW_MS:
            self._sent_ms.popleft()

    def heard(self, path: str, headers: Mapping[str, str], now_ms: int, taken: int = 1, status: int = 200) -> None:
        """An answer came. Header names in lower case; one without limits says nothing of them."""
        if status == SHUT_OUT:
            self._shut_out_until_ms = now_ms + SHUT_OUT_MS
        if isinstance(headers, dict):
            plain: dict[str, str] = headers  # of one the names are looked up at once
            limit, left = header_number(plain.get(_LIMIT, "")), header_number(plain.get(_STATUS, ""))
            resets_ms = header_number(plain.get(_RESETS, ""))
        else:
            limit, left = header_number(headers.get(LIMIT, "")), header_number(headers.get(STATUS, ""))
            resets_ms = header_number(headers.get(RESETS, ""))
        if limit and left is not None:
            self.told(path, limit, left, resets_ms or 0, now_ms, taken)
            return
        self.unheard(path, taken)
        bucket = self._buckets.get(path)
        if bucket is not None and bucket.limit:
            bucket.full_at_ms = max(bucket.full_at_ms, now_ms + WINDOW_MS)

    def told(self, path: str, limit: int, left: int, resets_ms: int, now_ms: int, taken: int = 1) -> None:
        """An answer came that said so much; `resets_ms` 0: not when."""
        self.bucket(path).told(limit, left, resets_ms, now_ms, taken)
        self.headroom[path] = left / limit

    def unheard(self, path: str, taken: int = 1) -> None:
        """They left, and nobody waits for their answer any more."""
        bucket = self._buckets.get(path)
        if bucket is not None:
            bucket.under_way = max(0, bucket.under_way - taken)

    def returned(self, path: str, taken: int = 1) -> None:
        """They never left."""
        self.unheard(path, taken)
        bucket = self._buckets.get(path)
        if bucket is not None and bucket.limit:
            bucket.left = min(bucket.limit, bucket.left + taken)

    def wait_ms(self, path: str, now_ms: int, *, is_cancel: bool) -> int:
        """How long a request of that endpoint has to wait, ms; 0: it may go now."""
        bucket = self._buckets.get(path)
        wait_ms = 0 if bucket is None else bucket.wait_ms(now_ms, is_cancel=is_cancel)
        allowed = ADDRESS_REQUESTS_MAX
        if not is_cancel:
            allowed -= CANCEL_RESERVE
            wait_ms = max(wait_ms, self._shut_out_until_ms - now_ms)
        over = len(self._sent_ms) - allowed
        if over >= 0:
            wait_ms = max(wait_ms, self._sent_ms[over] + ADDRESS_WINDOW_MS - now_ms)
        return wait_ms


def lowered(header: Mapping[str, str]) -> dict[str, str]:
    """With names in lower case, of which the last one counts."""
    return {name.lower(): value for name, value in header.items()}


def header_number(text: str) -> int | None:
    """A number of plain digits; None for all else, however long."""
    known = _known.get(text)
    if known is None and len(text) <= DIGITS_MAX and text.isascii() and text.isdecimal():
        if len(_known) >= NUMBERS_KEPT:
            _known.clear()
        known = _known[text] = int(text)
    return known


NUMBERS_KEPT: Final = 64
_known: Final[dict[str, int]] = {}
"""Numbers that were read before: the same few come again and again, and a moment of reset for a second."""


def held_ms(wait_ms: int) -> int:
    """How long a limit that fills again keeps a request; 0 where the address is shut out, which the venue does."""
    return wait_ms if wait_ms <= RESET_MAX_MS else 0


def too_many(path: str, wait_ms: int) -> str:
    """Why a request did not leave."""
    return f"{path}: the rate limit is reached, {wait_ms} ms until it takes more"
