"""What the market does: the actions every market speaks in, and the generated market. Pure and seeded.

The generated market has a fair price that diffuses, jumps and changes between regimes of volatility. Around it stand
levels of background size, dense at the touch and sparser further out. Market orders arrive in two kinds: small ones
that trade at the touch, and sweeps that walk the book for some basis points. Most sweeps are uninformed: the book
refills around the same fair price, so a maker who was reached keeps most of its half-spread. A few are informed: the
fair price follows them, which is the maker's adverse selection. The random process uses floats; every price and size
that leaves it is an integer.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Protocol

from bot.domain.order import Side


@dataclass(frozen=True, slots=True)
class MarketOrder:
    """Somebody takes at most `lots` down (or up) to `limit_ticks`, from background and own orders alike."""

    taker: Side
    limit_ticks: int
    lots: int


@dataclass(frozen=True, slots=True)
class BookReset:
    """The whole background becomes this (price_ticks → lots). Own orders it stands through are filled first."""

    bids: dict[int, int]
    asks: dict[int, int]


@dataclass(frozen=True, slots=True)
class BookChange:
    """Some levels of the background become these absolute sizes; 0 deletes."""

    bids: tuple[tuple[int, int], ...]
    asks: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class BookShift:
    """The whole background moves by `ticks`: one price jump."""

    ticks: int


@dataclass(frozen=True, slots=True)
class RecordedTrade:
    """A trade that really happened: it reaches own orders by their place in the queue, and the book by its record."""

    taker: Side
    price_ticks: int
    lots: int


Action = MarketOrder | BookReset | BookChange | BookShift | RecordedTrade


class Market(Protocol):
    """The rest of the market. Times are the venue's, integer nanoseconds."""

    fixed_background: bool
    """True where own orders must never change the background's size (a record)."""

    def start(self, now_ns: int) -> BookReset:
        """The first book."""

    def next_at_ns(self) -> int:
        """When the next step is due."""

    def step(self) -> list[Action]:
        """What happens at `next_at_ns`; moves on to the next step."""

    def jump(self, ticks: int) -> BookShift:
        """Move this and all later prices by `ticks`."""


@dataclass(frozen=True, slots=True)
class Regime:
    """Factors on the volatility, the rate of sweeps and the spread; and how long it lasts on average."""

    volatility: float
    sweeps: float
    spread_ticks: int
    mean_s: float


@dataclass(frozen=True, slots=True)
class MarketParameters:
    """The generated market. Rates are per second, distances in basis points of the price."""

    start_ticks: int = 600_000
    step_ns: int = 100_000_000
    volatility_bps: float = 0.45
    jump_rate: float = 1 / 180
    jump_bps: float = 6.0
    touch_trade_rate: float = 3.0
    touch_trade_lots: int = 40
    sweep_rate: float = 1.6
    sweep_reach_bps: float = 7.5
    sweep_informed_share: float = 0.10
    informed_follow: tuple[float, float] = (0.5, 1.0)
    impact_share: float = 0.15
    impact_decay_s: float = 0.4
    redraws: int = 6
    regimes: tuple[Regime, ...] = (
        Regime(0.7, 0.9, 1, 40.0),
        Regime(1.0, 1.0, 2, 40.0),
        Regime(2.2, 1.4, 4, 15.0),
    )


_BANDS = ((10, 1, 250), (100, 5, 500), (700, 20, 900), (3_000, 100, 2_000), (9_000, 500, 4_000))
"""(distance from the touch in ticks, every how many ticks a level stands, its mean size in lots)."""


_NORMAL = 4 * math.exp(-0.5) / math.sqrt(2.0)
"""Of Kinderman and Monahan's method, as the standard library draws normal variates."""


class GeneratedMarket:
    """A seeded market: the same seed gives the same actions, whatever the venue's accounts do."""

    fixed_background = False

    def __init__(self, seed: int, parameters: MarketParameters | None = None) -> None:
        self._p = parameters or MarketParameters()
        self._random = random.Random(seed)  # noqa: S311 - a simulation that must repeat under its seed
        self._fair = float(self._p.start_ticks)
        self._impact = 0.0
        self._regime = self._p.regimes[min(1, len(self._p.regimes) - 1)]
        self._at_ns = 0
        self._bids: dict[int, int] = {}
        self._asks: dict[int, int] = {}

    def start(self, now_ns: int) -> BookReset:
        self._at_ns = now_ns + self._p.step_ns
        return self._rebuild()

    def next_at_ns(self) -> int:
        return self._at_ns

    def jump(self, ticks: int) -> BookShift:
        self._fair += ticks
        self._bids = {price + ticks: lots for price, lots in self._bids.items()}
        self._asks = {price + ticks: lots for price, lots in self._asks.items()}
        return BookShift(ticks)

    def step(self) -> list[Action]:
        self._at_ns += self._p.step_ns
        dt_s = self._p.step_ns / 1e9
        self._move_fair(dt_s)
        actions: list[Action] = []
        if self._happens(self._p.touch_trade_rate, dt_s):
            actions.append(self._touch_trade())
        if self._happens(self._p.sweep_rate * self._regime.sweeps, dt_s):
            actions.append(self._sweep())
        actions.append(self._rebuild())
        return actions

    # ---- the process --------------------------------------------------------------------------------------------

    def _happens(self, rate: float, dt_s: float) -> bool:
        return self._random.random() < 1 - math.exp(-rate * dt_s)

    def _move_fair(self, dt_s: float) -> None:
        draw = self._random
        if self._happens(1 / self._regime.mean_s, dt_s):
            self._regime = draw.choice(self._p.regimes)
        sigma = self._p.volatility_bps * self._regime.volatility * math.sqrt(dt_s)
        move_bps = draw.gauss(0.0, sigma)
        if self._happens(self._p.jump_rate, dt_s):
            move_bps += draw.choice((-1, 1)) * self._p.jump_bps * (0.5 + draw.random())
        self._fair *= 1 + move_bps / 10_000
        self._impact *= math.exp(-dt_s / self._p.impact_decay_s)

    def _touch_trade(self) -> MarketOrder:
        taker = self._random.choice((Side.BUY, Side.SELL))
        touch = min(self._asks) if taker is Side.BUY else max(self._bids)
        return MarketOrder(taker, touch, 1 + int(self._random.expovariate(1 / self._p.touch_trade_lots)))

    def _sweep(self) -> MarketOrder:
        draw = self._random
        taker = draw.choice((Side.BUY, Side.SELL))
        reach = draw.expovariate(1 / self._p.sweep_reach_bps) * self._fair / 10_000
        side = self._asks if taker is Side.BUY else self._bids
        touch = min(side) if taker is Side.BUY else max(side)
        limit = touch + taker.sign * int(reach)
        walked = [lots for price, lots in side.items() if (limit - price) * taker.sign >= 0]
        lots = sum(walked[:-1]) + 1 + int(draw.random() * walked[-1])
        if draw.random() < self._p.sweep_informed_share:
            self._fair += taker.sign * reach * draw.uniform(*self._p.informed_follow)
        else:
            self._impact += taker.sign * reach * self._p.impact_share
        return MarketOrder(taker, limit, lots)

    # ---- the levels ---------------------------------------------------------------------------------------------

    def _rebuild(self) -> BookReset:
        centre = self._fair + self._impact
        spread = self._regime.spread_ticks
        bid = max(1, math.floor(centre - spread / 2))
        self._bids = self._side(self._bids, bid, -1)
        self._asks = self._side(self._asks, bid + spread, 1)
        return BookReset(dict(self._bids), dict(self._asks))

    def _side(self, before: dict[int, int], touch: int, away: int) -> dict[int, int]:
        levels: dict[int, int] = {}
        size = self._size
        near = 0
        for far, every, mean in _BANDS:
            first = touch + away * near
            first += -first % every if away > 0 else -(first % every)
            for price in range(first, touch + away * far, away * every):
                if price > 0:
                    levels[price] = before.get(price) or size(mean)
            near = far
        prices = list(levels)
        for _ in range(self._p.redraws):
            rank = int(len(prices) * self._random.random() ** 2)
            levels[prices[rank]] = size(max(1, levels[prices[rank]]))
        return levels

    def _size(self, mean: int) -> int:
        """Log-normal around `mean` and bounded; drawn as `random.lognormvariate(-0.2, 0.6)` does, without its calls."""
        draw = self._random.random
        while True:
            first = draw()
            second = 1.0 - draw()
            z = _NORMAL * (first - 0.5) / second
            if z * z / 4.0 <= -math.log(second):
                break
        return 1 + int(min(6.0, max(0.15, math.exp(-0.2 + z * 0.6))) * mean)
