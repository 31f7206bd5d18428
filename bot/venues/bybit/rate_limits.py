"""How much we may still ask: the venue's word on each endpoint, and our own count of everything. Pure.

Each answer says how many requests its endpoint still takes and when it takes more again; what it says is obeyed, not
tried. Over all endpoints one address has so many requests in five seconds and is shut out for ten minutes past them:
whatever adds risk, and every read, stops short of that, so that a cancel always has room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from multidict import istr

LIMIT, STATUS = istr("x-bapi-limit"), istr("x-bapi-limit-status")
RESETS: Final = istr("x-bapi-limit-reset-timestamp")
"""Names of headers whose lower case is worked out once, not with every answer."""

ADDRESS_REQUESTS_MAX: Final = 600
ADDRESS_WINDOW_MS: Final = 5_000
RESET_MAX_MS: Final = 5_000
"""No bucket takes longer to be full again: a later moment is a mistake, and obeyed it would silence an endpoint."""
CANCEL_RESERVE: Final = 120
"""Of the address's requests in five seconds, those that only cancels may use."""


class RateLimits:
    """`headroom`: endpoint → requests left / limit, as the last headers said. Times are the venue's clock, ms."""

    def __init__(self) -> None:
        self.headroom: dict[str, float] = {}
        self._empty_until_ms: dict[str, int] = {}
        self._sent_ms: deque[int] = deque()

    def sent(self, now_ms: int) -> None:
        """A request leaves."""
        self._sent_ms.append(now_ms)
        while self._sent_ms and self._sent_ms[0] <= now_ms - ADDRESS_WINDOW_MS:
            self._sent_ms.popleft()

    def heard(self, path: str, headers: Mapping[str, str]) -> None:
        """An answer came. Header names in lower case; one without limits says nothing."""
        said, status = headers.get(LIMIT, ""), headers.get(STATUS, "")
        if not (said.isdecimal() and status.isdecimal() and (limit := int(said))):
            return
        left = int(status)
        self.headroom[path] = left / limit
        if left == 0 and (resets := headers.get(RESETS, "")).isdecimal():
            asked_ms = self._sent_ms[-1] if self._sent_ms else 0
            self._empty_until_ms[path] = min(int(resets), asked_ms + RESET_MAX_MS)
        elif self._empty_until_ms:
            self._empty_until_ms.pop(path, None)

    def wait_ms(self, path: str, now_ms: int, *, is_cancel: bool) -> int:
        """How long a request of that endpoint has to wait, ms; 0: it may go now."""
        wait_ms = max(0, self._empty_until_ms.get(path, 0) - now_ms) if self._empty_until_ms else 0
        allowed = ADDRESS_REQUESTS_MAX if is_cancel else ADDRESS_REQUESTS_MAX - CANCEL_RESERVE
        over = len(self._sent_ms) - allowed
        if over >= 0:
            wait_ms = max(wait_ms, self._sent_ms[over] + ADDRESS_WINDOW_MS - now_ms)
        return wait_ms
