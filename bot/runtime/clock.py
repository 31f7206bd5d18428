"""The loop's clock: the wall time at start plus what the monotonic clock has counted since. It never steps."""

from __future__ import annotations

import time


class Clock:
    """Integer nanoseconds since the epoch. A wall clock set back or forth after the start changes nothing."""

    def __init__(self) -> None:
        self._start_wall_ns = time.time_ns()
        self._start_monotonic_ns = time.monotonic_ns()

    def now_ns(self) -> int:
        return self._start_wall_ns + time.monotonic_ns() - self._start_monotonic_ns
