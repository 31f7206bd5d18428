"""Idempotency keys of mutations that were carried out, the newest so many of them. Pure.

Nearly all keys of a run are those of amends, `<order>.a1`, `<order>.a2` and so on, and tens of thousands of texts would
be megabytes. So what stands before the number is kept once, with the numbers as runs: 1 to 90 is one of these.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from mypy_extensions import i64

_ZERO: Final = 48
_NINE: Final = 57
_NONE: Final = -1
"""The number of a key that ends in none."""


@final
class _Run:
    """Numbers without a gap. `used`: how many keys there had been when the last one came to it."""

    __slots__ = ("first", "last", "used")

    def __init__(self, number: int, used: int) -> None:
        self.first = self.last = number
        self.used = used


@final
class Keys:
    """Whoever was among the newest `kept` is known, and perhaps some older ones beside them."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._count = 0
        """how many there have been"""
        self._runs: dict[str, list[_Run]] = {}
        """what stands before the number → its runs, the one that was used last at the end"""
        self._turns: deque[str] = deque()
        """the same stems, in the order in which they are looked at next, whether they are old"""

    def __len__(self) -> int:
        """How many are known."""
        return sum([run.last - run.first + 1 for runs in self._runs.values() for run in runs])

    def __contains__(self, key: str) -> bool:
        stem, number = _parted(key)
        return _has(self._runs.get(stem, []), number)

    def add(self, key: str) -> bool:
        """Whether it is new; it is known from then on."""
        stem, number = _parted(key)
        runs = self._runs.get(stem)
        if runs is None:
            self._count += 1
            self._forget()
            self._runs[stem] = [_Run(number, self._count)]
            self._turns.append(stem)
            return True
        newest = runs[-1]
        if number != newest.last + 1 or len(runs) > 1:
            if _has(runs, number):
                return False
            if number != newest.last + 1:
                newest = _Run(number, 0)
                runs.append(newest)
        self._count += 1
        newest.last, newest.used = number, self._count
        if number - newest.first >= self._kept:
            newest.first = number - self._kept + 1
        if len(runs) > 1 and self._is_old(runs[0]):
            del runs[0]
        return True

    def _forget(self) -> None:
        """For each stem that comes two are looked at, so that those which nobody uses any more go before long."""
        turns = self._turns
        for _ in range(min(2, len(turns))):
            stem = turns.popleft()
            if self._is_old(self._runs[stem][-1]):
                del self._runs[stem]
            else:
                turns.append(stem)

    def _is_old(self, run: _Run) -> bool:
        return run.used <= self._count - self._kept


def _has(runs: list[_Run], number: int) -> bool:
    for run in runs:  # noqa: SIM110 - of one or two; a generator would cost more than they do
        if run.first <= number <= run.last:
            return True
    return False


def _parted(key: str) -> tuple[str, int]:
    """What stands before the number that it ends in, and that number as it is written in one way only."""
    size: i64 = len(key)
    start: i64 = size
    while start > 0 and _ZERO <= ord(key[start - 1]) <= _NINE:
        start -= 1
    while start < size - 1 and ord(key[start]) == _ZERO:
        start += 1
    if start == size:
        return key, _NONE
    return key[:start], int(key[start:])
