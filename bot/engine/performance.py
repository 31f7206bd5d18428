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

HORIZONS: Final = (("1s", NS_PER_S), ("5s", 5 * NS_PER_S), ("60s", 60 * NS_PER_S))
_EDGE_HORIZON: Final = "5s"


class Performance:
    """Of one run, per symbol."""

    def __init__(self, parameters: EngineParameters) -> None:
        self._weight = int(parameters.markout_weight_pct * 100)
        self._memory_ns = parameters.markout_memory_s * NS_PER_S
        self._fee_ubps: dict[str, int] = {}
        for symbol in parameters.symbols:
            own = parameters.of(symbol)
            self._fee_ubps[symbol] = ubps(own.fee_maker_bps) - ubps(own.rebate_maker_bps)
        self._waiting: dict[str, deque[tuple[int, str, int, int]]] = {name: deque() for name, _ in HORIZONS}
        self._average: dict[tuple[str, str], int] = {}
        self._sampled_ns: dict[str, int] = {}
        self.half_spread_ubps: dict[str, int] = {}
        """symbol → what our two quotes would earn at their middle, as last shaped"""

    def set_fee(self, symbol: str, maker_net_ubps: int) -> None:
        """What the venue charges a maker, net of rebates, from now on."""
        self._fee_ubps[symbol] = maker_net_ubps

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
                self._average[(symbol, name)] = before + (move_ubps - before) * self._weight // 10_000
                if name == _EDGE_HORIZON:
                    self._sampled_ns[symbol] = at_ns

    def adverse_ubps(self, symbol: str, at_ns: int) -> int:
        """Expected adverse selection: how far the mid moves against us after a fill; negative: in our favour."""
        average = self._average.get((symbol, _EDGE_HORIZON))
        if average is None:
            return 0
        left_ns = self._memory_ns - (at_ns - self._sampled_ns[symbol])
        return -average * left_ns // self._memory_ns if left_ns > 0 else 0

    def edge_ubps(self, symbol: str, at_ns: int) -> int | None:
        """Quoted half-spread - maker fee + rebate - expected adverse selection. None before anything was shaped."""
        half = self.half_spread_ubps.get(symbol)
        return None if half is None else half - self._fee_ubps[symbol] - self.adverse_ubps(symbol, at_ns)

    def markouts(self) -> Iterator[tuple[str, str, Decimal]]:
        """(symbol, horizon, bps) of every average that has a sample."""
        for (symbol, horizon), value in self._average.items():
            yield symbol, horizon, Decimal(value) / UBPS
