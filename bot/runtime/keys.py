"""Idempotency keys of mutations that were carried out, the newest so many of them. Pure.

Nearly all keys of a run are those of amends, `<order>.a1`, `<order>.a2` and so on, and tens of thousands of texts would
be megabytes. So what stands before the number is kept once, with the numbers as runs: 1 to 90 is one of these.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

_DIGITS: Final = "0123456789"
_NONE: Final = -1
"""The number of a key that ends in none."""


class _Run:
    """Numbers without a gap, and the how manieth of all keys came into it last."""

    __slots__ = ("first", "last", "used")

    def __init__(self, number: int, used: int) -> None:
        self.first = self.last = number
        self.used = used


class Keys:
    """Whoever was among the newest `kept` is known, and perhaps some older ones beside them."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._count = 0
        """how many there have been"""
        self._runs: OrderedDict[str, list[_Run]] = OrderedDict()
        """what stands before the number → its runs; both the one that was used last at the end"""

    def __len__(self) -> int:
        """How many are known."""
        return sum([run.last - run.first + 1 for runs in self._runs.values() for run in runs])

    def __contains__(self, key: str) -> bool:
        stem, number = _parted(key)
        return _has(self._runs.get(stem, []), number)

    def add(self, key: str) -> bool:
        """Whether it is new; it is known from then on."""
        stem, number = _parted(key)
        table = self._runs
        runs = table.get(stem)
        if runs is None:
            self._count += 1
            table[stem] = [_Run(number, self._count)]
        else:
            if _has(runs, number):
                return False
            self._count += 1
            newest = runs[-1]
            if number == newest.last + 1:
                newest.last, newest.used = number, self._count
            else:
                runs.append(_Run(number, self._count))
                while self._is_old(runs[0]):
                    del runs[0]
            table.move_to_end(stem)
        while self._is_old(next(iter(table.values()))[-1]):
            table.popitem(last=False)
        return True

    def _is_old(self, run: _Run) -> bool:
        return run.used <= self._count - self._kept


def _has(runs: list[_Run], number: int) -> bool:
    for run in runs:  # noqa: SIM110 - of one or two; a generator would cost more than they do
        if run.first <= number <= run.last:
            return True
    return False


def _parted(key: str) -> tuple[str, int]:
    """What stands before the number that it ends in, and that number as it is written in one way only."""
    stem = key.rstrip(_DIGITS)
    digits = key[len(stem) :]
    if not digits:
        return key, _NONE
    if digits[0] == "0" and len(digits) > 1:
        digits = digits.lstrip("0") or "0"
        stem = key[: len(key) - len(digits)]
    return stem, int(digits)
