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
from typing import TYPE_CHECKING, Final

from bot.domain.order import Side
from bot.engine.parameters import NS_PER_S, UBPS, UBPS_ONE, EngineParameters, ubps
from bot.engine.state import NEVER_NS

if TYPE_CHECKING:
    from mypy_extensions import i64

_FITS: Final = 10**12
_SPLIT: Final = 20
"""Numbers below the first, of which one is split after so many bits, have products that fit a machine word."""

HORIZONS: Final = (("1s", NS_PER_S), ("5s", 5 * NS_PER_S), ("60s", 60 * NS_PER_S))
_EDGE_HORIZON: Final = "5s"


class Earning:
    """What a quote of one symbol is expected to earn, micro basis points.

    `shaped`: whether both sides have been, so that there is an edge; `half_spread_ubps`: what our two quotes would earn
    at their middle, as they last were. `fee_ubps`: what the venue charges a maker, net of rebates. `average_ubps`: of
    the markouts that edge goes by, None before one; `sampled_ns`: when that was last taken.
    """

    __slots__ = ("_memory_ns", "average_ubps", "fee_ubps", "half_spread_ubps", "sampled_ns", "shaped")

    def __init__(self, fee_ubps: int, memory_ns: int) -> None:
        self._memory_ns = memory_ns
        self.fee_ubps = fee_ubps
        self.shaped = False
        self.half_spread_ubps = 0
        self.average_ubps: int | None = None
        self.sampled_ns = 0

    def adverse_ubps(self, at_ns: int) -> int:
        """Expected adverse selection: how far the mid moves against us after a fill; negative: in our favour."""
        average_ubps = self.average_ubps
        if average_ubps is None:
            return 0
        memory_ns = self._memory_ns
        left_ns = memory_ns - (at_ns - self.sampled_ns)
        if left_ns <= 0:
            return 0
        if 0 < memory_ns < _FITS and left_ns < _FITS and -_FITS < average_ubps < _FITS:
            moved: i64 = -average_ubps
            left: i64 = left_ns
            memory: i64 = memory_ns
            high: i64 = moved >> _SPLIT
            low: i64 = moved - (high << _SPLIT)
            of_high: i64 = high * left
            whole: i64 = of_high // memory
            rest: i64 = ((of_high - whole * memory) << _SPLIT) + low * left
            return (whole << _SPLIT) + rest // memory
        return -average_ubps * left_ns // memory_ns

    def edge_ubps(self, at_ns: int) -> int | None:
        """Quoted half-spread - maker fee + rebate - expected adverse selection. None before anything was shaped."""
        return self.edge_shaped_ubps(at_ns) if self.shaped else None

    def edge_shaped_ubps(self, at_ns: int) -> int:
        """The same where both sides have been shaped: to be asked only then."""
        edge_ubps = self.half_spread_ubps - self.fee_ubps
        return edge_ubps if self.average_ubps is None else edge_ubps - self.adverse_ubps(at_ns)


class _Fill:
    """One fill whose markout is waited for. `sign` as of its side; `mid2_ticks`: twice the mid when it was told."""

    __slots__ = ("due_ns", "mid2_ticks", "sign", "symbol")

    def __init__(self, due_ns: int, symbol: str, sign: int, mid2_ticks: int) -> None:
        self.due_ns = due_ns
        self.symbol = symbol
        self.sign = sign
        self.mid2_ticks = mid2_ticks


class _Horizon:
    """One distance in time: the fills that are not yet so old, oldest first."""

    __slots__ = ("due_ns", "fills", "is_edge", "name", "passes_ns")

    def __init__(self, name: str, passes_ns: int) -> None:
        self.name = name
        self.passes_ns = passes_ns
        self.is_edge = name == _EDGE_HORIZON
        self.fills: deque[_Fill] = deque()
        self.due_ns = NEVER_NS
        """of the first of them"""


class Performance:
    """Of one run, per symbol."""

    def __init__(self, parameters: EngineParameters) -> None:
        self._weight = int(parameters.markout_weight_pct * 100)
        self.of: dict[str, Earning] = {}
        for symbol in parameters.symbols:
            own = parameters.of(symbol)
            fee_ubps = ubps(own.fee_maker_bps) - ubps(own.rebate_maker_bps)
            self.of[symbol] = Earning(fee_ubps, parameters.markout_memory_s * NS_PER_S)
        self._horizons = [_Horizon(name, passes_ns) for name, passes_ns in HORIZONS]
        self.due_ns = NEVER_NS
        """when the next sample is due"""
        self._average: dict[tuple[str, str], int] = {}

    def set_fee(self, symbol: str, maker_net_ubps: int) -> None:
        """What the venue charges a maker, net of rebates, from now on."""
        self.of[symbol].fee_ubps = maker_net_ubps

    def filled(self, symbol: str, side: Side, mid2_ticks: int, at_ns: int) -> None:
        """Start waiting for the markouts of a fill."""
        for horizon in self._horizons:
            due_ns = at_ns + horizon.passes_ns
            horizon.fills.append(_Fill(due_ns, symbol, side.sign, mid2_ticks))
            if len(horizon.fills) == 1:
                horizon.due_ns = due_ns
            if due_ns < self.due_ns:
                self.due_ns = due_ns

    def advance(self, mids2: dict[str, int], at_ns: int) -> None:
        """Take every sample that is due, at the newest mid."""
        if at_ns < self.due_ns:
            return
        first_ns = NEVER_NS
        for horizon in self._horizons:
            while horizon.due_ns <= at_ns:
                fill = horizon.fills.popleft()
                horizon.due_ns = horizon.fills[0].due_ns if horizon.fills else NEVER_NS
                self._sample(fill, horizon, mids2[fill.symbol], at_ns)
            if horizon.due_ns < first_ns:
                first_ns = horizon.due_ns
        self.due_ns = first_ns

    def _sample(self, fill: _Fill, horizon: _Horizon, mid2_ticks: int, at_ns: int) -> None:
        key = (fill.symbol, horizon.name)
        move_ubps = fill.sign * (mid2_ticks - fill.mid2_ticks) * UBPS_ONE // fill.mid2_ticks
        before = self._average.get(key, 0)
        average = self._average[key] = before + (move_ubps - before) * self._weight // 10_000
        if horizon.is_edge:
            earning = self.of[fill.symbol]
            earning.average_ubps, earning.sampled_ns = average, at_ns

    def edge_ubps(self, symbol: str, at_ns: int) -> int | None:
        """What a quote of that symbol is expected to earn; None before anything was shaped."""
        return self.of[symbol].edge_ubps(at_ns)

    def markouts(self) -> Iterator[tuple[str, str, Decimal]]:
        """(symbol, horizon, bps) of every average that has a sample."""
        for (symbol, horizon), value in self._average.items():
            yield symbol, horizon, Decimal(value) / UBPS
