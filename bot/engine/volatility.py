"""How fast a symbol's mid moves: an exponentially weighted mean of squared returns, in whole numbers.

A sample is the mid's return since the last one, in micro basis points, squared and divided by the time between them, so
that a gap in the market data counts with its length. The weight of a sample is fixed by `memory_s` (half of the weight
is younger than that) and by the sampling interval. Exact: the same mids give the same estimate, everywhere.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from bot.engine.parameters import NS_PER_S, UBPS, UBPS_ONE, ubps

SAMPLE_NS: Final = NS_PER_S
_ONE: Final = 1_000_000


class Volatility:
    """Of one symbol. `variance_ubps2`: micro basis points squared per second; never below the floor."""

    def __init__(self, memory_s: int, min_bps: Decimal) -> None:
        self._floor = ubps(min_bps) ** 2
        # half of the weight after `memory_s` samples: w = 1 - 2^(-1/memory), once, in exact decimals
        half = (Decimal(2).ln() / memory_s).exp()
        self._weight = int((1 - 1 / half) * _ONE)
        self._sampled_ns = -SAMPLE_NS
        self._sampled_mid2 = 0
        """0 before the first sample"""
        self.variance_ubps2 = self._floor

    def sample(self, mid2_ticks: int, at_ns: int) -> None:
        """Tell the mid; taken at most once a second."""
        passed_ns = at_ns - self._sampled_ns
        before = self._sampled_mid2
        if before and passed_ns < SAMPLE_NS:
            return
        self._sampled_ns, self._sampled_mid2 = at_ns, mid2_ticks
        if not before:
            return
        move_ubps = (mid2_ticks - before) * UBPS_ONE // before
        seen = move_ubps * move_ubps * NS_PER_S // passed_ns
        estimate = self.variance_ubps2 + (seen - self.variance_ubps2) * self._weight // _ONE
        self.variance_ubps2 = max(self._floor, estimate)

    @property
    def bps(self) -> Decimal:
        """Basis points per square root of a second, for showing."""
        return Decimal(self.variance_ubps2).sqrt() / UBPS
