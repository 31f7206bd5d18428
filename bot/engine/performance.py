"""How well it goes: markouts, edge, fill rate, shares. All absent before the first fill.

A markout is the mid's move after a fill, in our favour positive, in bps of the mid at the fill. The moving averages
start at 0 and each sample weighs `markout_weight_pct`; the adverse selection that edge is charged with is the negative
of the 5 s average, and fades linearly to nothing over `markout_memory_s` without a new fill (else a stop for too little
edge, which prevents fills, would never end). Whole micro basis points throughout.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from bot.domain.order import Side
from bot.engine.parameters import NS_PER_S, UBPS, UBPS_ONE, EngineParameters, ubps
from bot.engine.state import NEVER_NS

HORIZONS: Final = (("1s", NS_PER_S), ("5s", 5 * NS_PER_S), ("60s", 60 * NS_PER_S))
_EDGE_HORIZON: Final = "5s"


class Earning:
    """What a quote of one symbol is expected to earn, micro basis points.

    `half_spread_ubps`: what our two quotes would earn at their middle, as last shaped; None before that. `fee_ubps`:
    what the venue charges a maker, net of rebates. `average_ubps`: of the markouts that edge goes by, None before one;
    `sampled_ns`: when that was last taken.
    """

    __slots__ = ("_memory_ns", "average_ubps", "fee_ubps", "half_spread_ubps", "sampled_ns")

    def __init__(self, fee_ubps: int, memory_ns: int) -> None:
        self._memory_ns = memory_ns
        self.fee_ubps = fee_ubps
        self.half_spread_ubps: int | None = None
        self.average_ubps: int | None = None
        self.sampled_ns = 0

    def adverse_ubps(self, at_ns: int) -> int:
        """Expected adverse selection: how far the mid moves against us after a fill; negative: in our favour."""
        if self.average_ubps is None:
            return 0
        left_ns = self._memory_ns - (at_ns - self.sampled_ns)
        return -self.average_ubps * left_ns // self._memory_ns if left_ns > 0 else 0

    def edge_ubps(self, at_ns: int) -> int | None:
        """Quoted half-spread - maker fee + rebate - expected adverse selection. None before anything was shaped."""
        half = self.half_spread_ubps
        if half is None:
            return None
        return half - self.fee_ubps - (0 if self.average_ubps is None else self.adverse_ubps(at_ns))


class Performance:
    """Of one run, per symbol."""

    def __init__(self, parameters: EngineParameters) -> None:
        self._weight = int(parameters.markout_weight_pct * 100)
        self.of: dict[str, Earning] = {}
        for symbol in parameters.symbols:
            own = parameters.of(symbol)
            fee_ubps = ubps(own.fee_maker_bps) - ubps(own.rebate_maker_bps)
            self.of[symbol] = Earning(fee_ubps, parameters.markout_memory_s * NS_PER_S)
        self._waiting: dict[str, deque[tuple[int, str, int, int]]] = {name: deque() for name, _ in HORIZONS}
        self._average: dict[tuple[str, str], int] = {}

    def set_fee(self, symbol: str, maker_net_ubps: int) -> None:
        """What the venue charges a maker, net of rebates, from now on."""
        self.of[symbol].fee_ubps = maker_net_ubps

    def filled(self, symbol: str, side: Side, mid2_ticks: int, at_ns: int) -> None:
        """Start waiting for the markouts of a fill."""
        for name, horizon_ns in HORIZONS:
            self._waiting[name].append((at_ns + horizon_ns, symbol, side.sign, mid2_ticks))

    def advance(self, mids2: dict[str, int], at_ns: int) -> None:
        """Take every sample that is due, at the newest mid."""
        for name, waiting in self._waiting.items():
            while waiting and waiting[0][0] <= at_ns:
                _, symbol, sign, mid2_then = waiting.popleft()
                move_ubps = sign * (mids2[symbol] - mid2_then) * UBPS_ONE // mid2_then
                before = self._average.get((symbol, name), 0)
                average = self._average[(symbol, name)] = before + (move_ubps - before) * self._weight // 10_000
                if name == _EDGE_HORIZON:
                    self.of[symbol].average_ubps, self.of[symbol].sampled_ns = average, at_ns

    @property
    def due_ns(self) -> int:
        """When the next sample is due."""
        return min((waiting[0][0] for waiting in self._waiting.values() if waiting), default=NEVER_NS)

    def edge_ubps(self, symbol: str, at_ns: int) -> int | None:
        """What a quote of that symbol is expected to earn; None before anything was shaped."""
        return self.of[symbol].edge_ubps(at_ns)

    def markouts(self) -> Iterator[tuple[str, str, Decimal]]:
        """(symbol, horizon, bps) of every average that has a sample."""
        for (symbol, horizon), value in self._average.items():
            yield symbol, horizon, Decimal(value) / UBPS
