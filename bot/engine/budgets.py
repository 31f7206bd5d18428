"""Rates: how often something may happen in a minute, or a second, and how long to wait after a refusal.

Counted in event time over a sliding window.
"""

from __future__ import annotations

from typing import Any, Final

from bot.engine.parameters import NS_PER_MS, NS_PER_S

MINUTE_NS: Final = 60 * NS_PER_S

BREACH: Final = "cancel_budget_breached"
"""The note of a breach: a process that begins on its journal counts on from it."""


class Rate:
    """At most `allowed` in any `window_ns`. Forgets what has left the window."""

    def __init__(self, allowed: int, window_ns: int = MINUTE_NS) -> None:
        self.allowed = allowed
        self._window_ns = window_ns
        self._times: list[Any] = []
        """oldest first; what lies before `_first` has left the window. Each is the number that came: compiled, one
        would be made anew to be put in"""
        self._first = 0
        self.kept = 0
        """how many lie inside the window, and some that have left it since the last question"""

    def spend(self, at_ns: Any) -> None:
        """Count one, whether allowed or not. `at_ns`: whole nanoseconds."""
        self._times.append(at_ns)
        self.kept += 1
        if self.kept > self.allowed:  # else whoever asks looks
            self.spent(at_ns)

    def spent(self, at_ns: int) -> int:
        """How many lie inside the window that ends now."""
        if not self.kept:
            return 0
        times, first, since_ns = self._times, self._first, at_ns - self._window_ns
        count = len(times)
        while first < count:
            spent_ns: int = times[first]
            if spent_ns > since_ns:
                break
            first += 1
        if first == self._first:
            return self.kept
        if first > 1_000 or first == count:
            del times[:first]
            first = 0
        self._first = first
        self.kept = len(times) - first
        return self.kept

    def room(self, at_ns: int) -> int:
        """How many more are allowed now; negative where the budget is overspent."""
        return self.allowed - self.spent(at_ns)


class AmendPace:
    """Keeps amends under the rate that the venue takes, so that none comes back as an unknown outcome.

    Requests may bunch up on the way and the venue counts by its own seconds: the reserve is for that, and for amends
    that take size back, which must not wait behind those that only follow the market.
    """

    def __init__(self, per_s: int, reserve_pct: int) -> None:
        self._rate = Rate(per_s, NS_PER_S)
        self._reserve = per_s - max(1, per_s * (100 - reserve_pct) // 100)
        self._follow = per_s - self._reserve

    def is_last(self, at_ns: int) -> bool:
        """Whether just one more may follow the market now."""
        return self._rate.kept >= self._follow - 1 and self._rate.room(at_ns) - self._reserve == 1

    def may(self, at_ns: int, *, takes_back: bool) -> bool:
        """Whether an amend may leave now."""
        return self._rate.kept < self._follow or self._rate.room(at_ns) > (0 if takes_back else self._reserve)

    def spend(self, at_ns: Any) -> None:
        self._rate.spend(at_ns)


class CancelBudget:
    """Single cancels of the order plan, with a reserve that only stopping and clean-up may touch.

    A breach is the first refusal after a time with room: `breaches_max` of them in `breach_window_ns` halt.
    """

    def __init__(
        self, per_min: int, reserve: int, breaches_max: int = 3, breach_window_ns: int = 10 * MINUTE_NS
    ) -> None:
        self._rate = Rate(per_min)
        self._reserve = reserve
        self._breaches = Rate(breaches_max - 1, breach_window_ns)
        self._refusing = False

    def may_plan(self, at_ns: int) -> bool:
        """Whether the order plan may cancel now."""
        if self._rate.room(at_ns) <= self._reserve:
            return False
        self._refusing = False
        return True

    def refuse(self, at_ns: int) -> bool:
        """Count a wanted cancel that found no room. True where that begins a new breach."""
        if self._refusing:
            return False
        self._refusing = True
        self._breaches.spend(at_ns)
        return True

    def restore_breach(self, at_ns: int) -> None:
        """A breach that an earlier process counted. It lasts until there is room, as it would have there."""
        self._refusing = True
        self._breaches.spend(at_ns)

    def spend(self, at_ns: int) -> None:
        """Count a cancel, planned or not."""
        self._rate.spend(at_ns)

    def broken(self, at_ns: int) -> bool:
        """As many breaches as halt."""
        return self._breaches.room(at_ns) < 0


class BackOff:
    """Waiting after refusals: doubled at each one, forgotten at the first success."""

    __slots__ = ("step_ms", "until_ns")

    def __init__(self) -> None:
        self.until_ns = 0
        self.step_ms = 0

    def refused(self, at_ns: int, first_ms: int, max_ms: int) -> None:
        self.step_ms = min(max_ms, self.step_ms * 2) if self.step_ms else first_ms
        self.until_ns = at_ns + self.step_ms * NS_PER_MS

    def wait(self, at_ns: int, wait_ms: int) -> None:
        """Nothing was refused: the next try only has to come later."""
        self.until_ns = max(self.until_ns, at_ns + wait_ms * NS_PER_MS)

    def succeeded(self) -> None:
        self.step_ms = 0
        self.until_ns = 0
