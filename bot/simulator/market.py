"""What the market does: the actions every market speaks in, and the generated market. Pure and seeded.

The generated market has a fair price that diffuses, jumps and changes between regimes of volatility. Around it stand
levels of background size: one at the touch, then a grid that is sparser further out. Market orders arrive in two kinds:
small ones that trade at the touch, and sweeps that take all that stands for some basis points. Most sweeps are
uninformed: the book refills around the same fair price, so a maker who was reached keeps most of its half-spread. A few
are informed: the fair price follows them, which is the maker's adverse selection. The random process uses floats; every
price and size that leaves it is an integer.

A step says only what changed: the levels that a move of the touch brings or takes away, and a few new sizes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import msgspec

from bot.domain.order import Side


class MarketOrder(msgspec.Struct, frozen=True, gc=False):
    """Somebody takes at most `lots` down (or up) to `limit_ticks`, from background and own orders alike."""

    taker: Side
    limit_ticks: int
    lots: int


class PassingOrder(msgspec.Struct, frozen=True, gc=False):
    """As MarketOrder, but the background it took stands again at once, at the back of its queue.

    `lots` None: everything down to the limit.
    """

    taker: Side
    limit_ticks: int
    lots: int | None


class BookReset(msgspec.Struct, frozen=True, gc=False):
    """The whole background becomes this (price_ticks → lots). Own orders it stands through are filled first."""

    bids: dict[int, int]
    asks: dict[int, int]


class BookChange(msgspec.Struct, frozen=True, gc=False):
    """Some levels of the background become these absolute sizes; 0 deletes."""

    bids: tuple[tuple[int, int], ...]
    asks: tuple[tuple[int, int], ...]


class BookShift(msgspec.Struct, frozen=True, gc=False):
    """The whole background moves by `ticks`: one price jump."""

    ticks: int


class RecordedTrade(msgspec.Struct, frozen=True, gc=False):
    """A trade that really happened: it reaches own orders by their place in the queue, and the book by its record."""

    taker: Side
    price_ticks: int
    lots: int


Action = MarketOrder | PassingOrder | BookReset | BookChange | BookShift | RecordedTrade


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
    redraws: int = 2
    regimes: tuple[Regime, ...] = (
        Regime(0.7, 0.9, 1, 40.0),
        Regime(1.0, 1.0, 2, 40.0),
        Regime(2.2, 1.4, 4, 15.0),
    )


_BANDS = ((1, 1, 250), (1_000, 40, 1_500), (5_000, 200, 4_000), (25_000, 1_000, 9_000))
"""(distance from the touch in ticks, every how many ticks a level stands, its mean size in lots).

Each spacing divides the next, so that a move of the touch changes levels only at the touch and where two bands meet.
"""

_FRONTIERS = tuple(
    (*band, spacing_after)
    for band, spacing_after in zip(_BANDS[1:], (*(every for _, every, _ in _BANDS[2:]), 0), strict=True)
)
"""Where two bands meet: the inner one, and how sparse the outer one is."""
_NEAR_TICKS, _GRID, _ = _BANDS[1]
_MOVE_MAX_TICKS = 500
"""A longer move of the touch is a new book."""

_REDRAWN_TICKS = 2_000
"""Sizes are drawn anew up to this far from the touch, the nearer the more often."""

_SIZES = tuple(min(6.0, max(0.15, math.exp(-0.2 + 0.6 * NormalDist().inv_cdf((n + 0.5) / 1024)))) for n in range(1024))
"""Log-normal and bounded, as factors of the mean size: 1,024 values, equally likely."""

_LOTS = {mean: tuple(1 + int(size * mean) for size in _SIZES) for _, _, mean in _BANDS}
"""Mean size to the sizes around it, lots."""
_TOUCH_LOTS, _NEAR_LOTS, _FAR_LOTS = (_LOTS[mean] for _, _, mean in _BANDS[:3])


class LevelSide:
    """The background of one side as it should stand. `away`: the sign of the way from the touch outwards."""

    def __init__(self, away: int, draw: Callable[[], float]) -> None:
        self._away = away
        self._draw = draw
        self.touch = 0
        self.levels: dict[int, int] = {}

    def stand(self, touch: int) -> dict[int, int]:
        """All levels around that touch; those that stood before keep their sizes."""
        before, self.levels, self.touch, near = self.levels, {}, touch, 0
        for far, every, mean in _BANDS:
            for price in _multiples(touch + self._away * near, self._away, far - near, every):
                if price > 0:
                    self.levels[price] = before.get(price) or self._size(mean)
            near = far
        return dict(self.levels)

    def move(self, touch: int) -> list[tuple[int, int]]:
        """Bring the touch there; returns the levels that changed for it: (price, lots), 0 where one is gone."""
        before, away, levels = self.touch, self._away, self.levels
        moved = (touch - before) * away
        changes: list[tuple[int, int]] = []
        if not moved:
            return changes
        self.touch = touch
        outwards = moved > 0
        draw = self._draw
        if outwards or before % _GRID:
            changes.append((before, 0))
            del levels[before]
        if outwards:
            for price in _multiples(before + away, away, moved - 1, _GRID):
                changes.append((price, 0))
                del levels[price]
        else:
            for price in _multiples(touch + away, away, -moved - 1, _GRID):
                levels[price] = lots = _NEAR_LOTS[int(draw() * 1024)]
                changes.append((price, lots))
        if touch not in levels:
            levels[touch] = lots = _TOUCH_LOTS[int(draw() * 1024)]
            changes.append((touch, lots))
        start, count = (before, moved) if outwards else (touch, -moved)
        for far, every, mean, spacing_after in _FRONTIERS:
            edge = start + away * far
            if (-edge % every if away > 0 else edge % every) >= count:
                continue  # most moves are of a few ticks, and bring no level of a sparse band
            for price in _multiples(edge, away, count, every):
                if spacing_after and price % spacing_after == 0:
                    continue  # stands in both bands
                if not outwards:
                    if levels.pop(price, 0):
                        changes.append((price, 0))
                elif price > 0:
                    levels[price] = lots = self._size(mean)
                    changes.append((price, lots))
        return changes

    def redraw(self) -> tuple[int, int]:
        """A new size somewhere: (price, lots)."""
        draw, touch = self._draw, self.touch
        distance = int(_REDRAWN_TICKS * draw() ** 2)
        price = touch + self._away * distance
        price -= price % _GRID
        if price == touch or price not in self.levels:
            price, sizes = touch, _TOUCH_LOTS
        else:
            sizes = _NEAR_LOTS if distance < _NEAR_TICKS else _FAR_LOTS
        self.levels[price] = lots = sizes[int(draw() * 1024)]
        return price, lots

    def _size(self, mean: int) -> int:
        return _LOTS[mean][int(self._draw() * 1024)]


def _multiples(start: int, away: int, count: int, every: int) -> range:
    """The multiples of `every` among `count` prices from `start` on, going away."""
    if away > 0:
        return range(start + -start % every, start + count, every)
    return range(start - start % every, start - count, -every)


class GeneratedMarket:
    """A seeded market: the same seed gives the same actions, whatever the venue's accounts do."""

    fixed_background = False

    def __init__(self, seed: int, parameters: MarketParameters | None = None) -> None:
        self._p = p = parameters or MarketParameters()
        self._random = random.Random(seed)  # noqa: S311 - a simulation that must repeat under its seed
        self._draw = self._random.random
        self._fair = float(p.start_ticks)
        self._impact = 0.0
        self._at_ns = 0
        self._bids = LevelSide(-1, self._draw)
        self._asks = LevelSide(1, self._draw)
        self._stands = False
        dt_s = p.step_ns / 1e9
        self._jump_chance = _chance(p.jump_rate, dt_s)
        self._touch_chance = _chance(p.touch_trade_rate, dt_s)
        self._fading = math.exp(-dt_s / p.impact_decay_s)
        self._enter(p.regimes[min(1, len(p.regimes) - 1)])

    def start(self, now_ns: int) -> BookReset:
        self._at_ns = now_ns + self._p.step_ns
        return self._stand(*self._touches())

    def next_at_ns(self) -> int:
        return self._at_ns

    def jump(self, ticks: int) -> BookShift:
        self._fair += ticks
        for side in (self._bids, self._asks):
            side.touch += ticks
            side.levels = {price + ticks: lots for price, lots in side.levels.items()}
        self._stands = False
        return BookShift(ticks)

    def step(self) -> list[Action]:
        self._at_ns += self._p.step_ns
        self._move_fair()
        draw = self._draw
        actions: list[Action] = []
        if draw() < self._touch_chance:
            actions.append(self._touch_trade())
        if draw() < self._sweep_chance:
            actions.append(self._sweep())
        actions.append(self._change())
        return actions

    # ---- the process --------------------------------------------------------------------------------------------

    def _enter(self, regime: Regime) -> None:
        dt_s = self._p.step_ns / 1e9
        self._spread_ticks = regime.spread_ticks
        self._sigma = self._p.volatility_bps * regime.volatility * math.sqrt(dt_s) / 10_000
        self._sweep_chance = _chance(self._p.sweep_rate * regime.sweeps, dt_s)
        self._regime_chance = _chance(1 / regime.mean_s, dt_s)

    def _move_fair(self) -> None:
        draw = self._draw
        if draw() < self._regime_chance:
            self._enter(self._random.choice(self._p.regimes))
        move = self._random.gauss(0.0, self._sigma)
        if draw() < self._jump_chance:
            move += self._random.choice((-1, 1)) * self._p.jump_bps * (0.5 + draw()) / 10_000
        self._fair *= 1 + move
        self._impact *= self._fading

    def _touch_trade(self) -> PassingOrder:
        taker = Side.BUY if self._draw() < 0.5 else Side.SELL
        touch = self._asks.touch if taker is Side.BUY else self._bids.touch
        return PassingOrder(taker, touch, 1 + int(self._random.expovariate(1 / self._p.touch_trade_lots)))

    def _sweep(self) -> PassingOrder:
        draw = self._draw
        taker = Side.BUY if draw() < 0.5 else Side.SELL
        reach = self._random.expovariate(1 / self._p.sweep_reach_bps) * self._fair / 10_000
        touch = self._asks.touch if taker is Side.BUY else self._bids.touch
        if draw() < self._p.sweep_informed_share:
            low, high = self._p.informed_follow
            self._fair += taker.sign * reach * (low + (high - low) * draw())
        else:
            self._impact += taker.sign * reach * self._p.impact_share
        return PassingOrder(taker, touch + taker.sign * int(reach), None)

    # ---- the levels ---------------------------------------------------------------------------------------------

    def _touches(self) -> tuple[int, int]:
        spread = self._spread_ticks
        bid = max(1, math.floor(self._fair + self._impact - spread / 2))
        return bid, bid + spread

    def _stand(self, bid: int, ask: int) -> BookReset:
        self._stands = True
        return BookReset(self._bids.stand(bid), self._asks.stand(ask))

    def _change(self) -> BookReset | BookChange:
        bid, ask = self._touches()
        bids, asks = self._bids, self._asks
        if not self._stands or abs(bid - bids.touch) > _MOVE_MAX_TICKS or abs(ask - asks.touch) > _MOVE_MAX_TICKS:
            return self._stand(bid, ask)
        changed_bids, changed_asks = bids.move(bid), asks.move(ask)
        for _ in range(self._p.redraws):
            changed_bids.append(bids.redraw())
            changed_asks.append(asks.redraw())
        return BookChange(tuple(changed_bids), tuple(changed_asks))


def _chance(rate: float, dt_s: float) -> float:
    """That something which happens at that rate happens within the time, at least once."""
    return 1 - math.exp(-rate * dt_s)
