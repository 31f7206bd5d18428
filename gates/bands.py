"""Bands: the sets of values that a criterion calls go or no-go. Exact, by Decimal.

Written as people say them: `< 500`, `>= -50`, `== 0`, `!= 0`, `0.8 .. 1.05` (both ends belong to it) and
`outside 0.8 .. 1.05` (neither end does). Inside, a band is a union of intervals, so that "can this ever fail?" is
arithmetic and not a guess.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final, NamedTuple

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

INFINITY: Final = Decimal("Infinity")
GRAMMAR: Final = "'< 1', '<= 1', '> 1', '>= 1', '== 1', '!= 1', '1 .. 2' or 'outside 1 .. 2'"

_NUMBER: Final = r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)"
_COMPARISON: Final = re.compile(rf"(<=|>=|==|!=|<|>)\s*({_NUMBER})")
_RANGE: Final = re.compile(rf"(outside\s+)?({_NUMBER})\s*\.\.\s*({_NUMBER})")


class Interval(NamedTuple):
    """All values between `low` and `high`; an end belongs to it where it is closed. Infinite ends are open."""

    low: Decimal
    low_closed: bool
    high: Decimal
    high_closed: bool

    def holds(self, value: Decimal) -> bool:
        """Whether `value` lies inside."""
        above = value > self.low or (self.low_closed and value == self.low)
        below = value < self.high or (self.high_closed and value == self.high)
        return above and below

    def meets(self, other: Interval) -> bool:
        """Whether the two have a value in common."""
        low, low_closed = max((self.low, not self.low_closed), (other.low, not other.low_closed))
        high, high_closed = min((self.high, self.high_closed), (other.high, other.high_closed))
        return low < high or (low == high and not low_closed and high_closed)


EVERYTHING: Final = (Interval(-INFINITY, False, INFINITY, False),)


def meet(left: tuple[Interval, ...], right: tuple[Interval, ...]) -> bool:
    """Whether two sets of values have one in common."""
    return any(a.meets(b) for a in left for b in right)


def rest(intervals: tuple[Interval, ...]) -> tuple[Interval, ...]:
    """Every value outside `intervals` (which are in rising order and do not overlap)."""
    outside: list[Interval] = []
    low, low_closed = -INFINITY, False
    for interval in intervals:
        if low < interval.low or (low == interval.low and low_closed and not interval.low_closed):
            outside.append(
                Interval(low, low_closed, interval.low, not interval.low_closed and interval.low.is_finite())
            )
        low, low_closed = interval.high, not interval.high_closed and interval.high.is_finite()
    if low < INFINITY:
        outside.append(Interval(low, low_closed, INFINITY, False))
    return tuple(outside)


class Band:
    """A set of values with the words it was written in. Immutable; equal when the words are equal."""

    __slots__ = ("intervals", "text")

    intervals: tuple[Interval, ...]
    text: str

    def __init__(self, text: str) -> None:
        """Reads `text`. Raises ValueError naming the grammar where it is not a band."""
        words = " ".join(text.split())
        if match := _COMPARISON.fullmatch(words):
            intervals, words = _comparison(match[1], Decimal(match[2])), f"{match[1]} {match[2]}"
        elif match := _RANGE.fullmatch(words):
            low, high = Decimal(match[2]), Decimal(match[3])
            if low >= high:
                raise ValueError(f"{text!r} is an empty range; allowed: the smaller number first")
            inside = (Interval(low, True, high, True),)
            intervals = rest(inside) if match[1] else inside
        else:
            raise ValueError(f"{text!r} is not a band; allowed: {GRAMMAR}")
        object.__setattr__(self, "intervals", intervals)
        object.__setattr__(self, "text", words)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a band does not change: {name}")

    def holds(self, value: Decimal) -> bool:
        """Whether `value` is in the band. NaN is in none."""
        return not value.is_nan() and any(interval.holds(value) for interval in self.intervals)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Band({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Band) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """From a string in YAML, back to the same string in JSON."""
        return core_schema.no_info_plain_validator_function(_band_of, serialization=core_schema.to_string_ser_schema())


def _band_of(given: object) -> Band:
    if isinstance(given, Band):
        return given
    if not isinstance(given, str):
        raise ValueError(f"{given!r} is not a band; allowed: {GRAMMAR}")
    return Band(given)


def _comparison(sign: str, number: Decimal) -> tuple[Interval, ...]:
    point = (Interval(number, True, number, True),)
    match sign:
        case "<" | "<=":
            return (Interval(-INFINITY, False, number, sign == "<="),)
        case ">" | ">=":
            return (Interval(number, sign == ">=", INFINITY, False),)
        case "==":
            return point
        case _:
            return rest(point)
