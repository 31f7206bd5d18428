"""Funding of a perpetual: every interval, who is long pays who is short a rate of the position's value at the mark.

The rate of an interval is known while it lasts (it is what the ticker shows) and follows from seed and interval alone:
around +1 basis point, as where longs are the crowd, at times below zero. Pure.
"""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Final

import msgspec

from bot.domain.order import Side

FUNDING_NS: Final = 8 * 3_600 * 1_000_000_000
_LOWEST, _HIGHEST = -10_000, 30_000
"""Hundred-millionths: -1 to +3 basis points an interval."""


class Funding(msgspec.Struct, frozen=True):
    """One settlement of one account. `paid_quote` positive = paid, negative = received; `side` of the position."""

    execution_id: str
    sequence: int
    account: str
    side: Side
    lots: int
    mark_half_ticks: int
    rate: Decimal
    paid_quote: Decimal
    at_ns: int


class FundingSchedule:
    """When it is settled, and at which rate. Times are whole multiples of the interval since the epoch."""

    def __init__(self, seed: int, interval_ns: int, now_ns: int) -> None:
        self._seed = seed
        self.interval_ns = interval_ns
        self.due_ns = self.next_ns(now_ns)

    def next_ns(self, now_ns: int) -> int:
        """The first settlement after that time."""
        return (now_ns // self.interval_ns + 1) * self.interval_ns

    def rate(self, settled_ns: int) -> Decimal:
        """What is paid then; never zero."""
        drawn = Random(self._seed * 1_000_003 + settled_ns // self.interval_ns)  # noqa: S311 - repeats under the seed
        return Decimal(drawn.randint(_LOWEST, _HIGHEST) or 1).scaleb(-8)
