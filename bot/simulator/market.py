"""What the market does: the actions every market speaks in, and the generated market. Pure and seeded.

The generated market has a fair price that diffuses, jumps and changes between regimes of volatility. Around it stand
levels of background size: one at the touch, then a grid that is sparser further out. Market orders arrive in two kinds:
small ones that trade at the touch, and sweeps that take all that stands for some basis points. Most sweeps are
uninformed: the book refills around the same fair price, so a maker who was reached keeps most of its half-spread. A few
are informed: the fair price follows them, which is the maker's adverse selection. The random process uses floats; every
price and size that leaves it is an integer.

Of the levels only what changed is told: those that a move of the touch brings or takes away, and a few new sizes. It is
told to the book itself, as it is drawn: to write all of it down first would cost more than to draw it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from bot.domain.order import Side
from bot.simulator.book_half import Half

if TYPE_CHECKING:
    from mypy_extensions import i64

_BUY: Final = Side.BUY
_SELL: Final = Side.SELL

Levels = list[tuple[int, int]]
"""(price_ticks, lots) each."""


class MarketOrder:
    """Somebody takes at most `lots` down (or up) to `limit_ticks`, from background and own orders alike."""

    __slots__ = ("limit_ticks", "lots", "taker")

    def __init__(self, taker: Side, limit_ticks: int, lots: int) -> None:
        self.taker: Final = taker
        self.limit_ticks: Final = limit_ticks
        self.lots: Final = lots


class PassingOrder:
    """As MarketOrder, but the background it took stands again at once, at the back of its queue.

    `lots` None: everything down to the limit.
    """

    __slots__ = ("limit_ticks", "lots", "taker")

    def __init__(self, taker: Side, limit_ticks: int, lots: int | None) -> None:
        self.taker: Final = taker
        self.limit_ticks: Final = limit_ticks
        self.lots: Final = lots

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PassingOrder):
            return NotImplemented
        return self.taker is other.taker and self.limit_ticks == other.limit_ticks and self.lots == other.lots

    def __hash__(self) -> int:
        return hash((self.taker, self.limit_ticks, self.lots))


class BookReset:
    """The whole background becomes this (price_ticks → lots). Own orders it stands through are filled first."""

    __slots__ = ("asks", "bids")

    def __init__(self, bids: dict[int, int], asks: dict[int, int]) -> None:
        self.bids: Final = bids
        self.asks: Final = asks

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BookReset):
            return NotImplemented
        return self.bids == other.bids and self.asks == other.asks

    __hash__ = None  # type: ignore[assignment]


class BookChange:
    """Some levels of the background become these absolute sizes; 0 deletes."""

    __slots__ = ("asks", "bids")

    def __init__(self, bids: Levels, asks: Levels) -> None:
        self.bids: Final = bids
        self.asks: Final = asks

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BookChange):
            return NotImplemented
        return self.bids == other.bids and self.asks == other.asks

    __hash__ = None  # type: ignore[assignment]


@final
class LevelsMove:
    """The generated market's levels go with its price. What changes is drawn while it is told, once, by `tell`.

    `is_new_book`: around a price far from the last; where somebody else changed the background, `whole` stands then.
    """

    __slots__ = ("_market", "ask", "bid", "is_new_book", "is_told")

    def __init__(self, market: GeneratedMarket, bid: int, ask: int, is_new_book: bool) -> None:
        self._market: Final = market
        self.bid: Final = bid
        self.ask: Final = ask
        self.is_new_book: Final = is_new_book
        self.is_told = False

    def tell(self, bids: Half, asks: Half) -> None:
        self.is_told = True
        self._market.move_levels(self, bids, asks)

    def whole(self) -> BookReset:
        """All that stands, once it was told."""
        return self._market.levels()


class BookShift:
    """The whole background moves by `ticks`: one price jump."""

    __slots__ = ("ticks",)

    def __init__(self, ticks: int) -> None:
        self.ticks: Final = ticks


class RecordedTrade:
    """A trade that really happened: it reaches own orders by their place in the queue, and the book by its record."""

    __slots__ = ("lots", "price_ticks", "taker")

    def __init__(self, taker: Side, price_ticks: int, lots: int) -> None:
        self.taker: Final = taker
        self.price_ticks: Final = price_ticks
        self.lots: Final = lots

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RecordedTrade):
            return NotImplemented
        return self.taker is other.taker and self.price_ticks == other.price_ticks and self.lots == other.lots

    def __hash__(self) -> int:
        return hash((self.taker, self.price_ticks, self.lots))


Action = MarketOrder | PassingOrder | BookReset | BookChange | LevelsMove | BookShift | RecordedTrade


class Market(Protocol):
    """The rest of the market. Times are the venue's, integer nanoseconds."""

    fixed_background: bool
    """True where own orders must never change the background's size (a record)."""

    def start(self, now_ns: int) -> BookReset:
        """The first book."""

    def next_at_ns(self) -> int:
        """When the next step is due."""

    def step(self) -> list[Action]:
        """What happens at `next_at_ns`; moves on to the next step. All of it happens before anything else is asked."""

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


_BANDS: Final[tuple[tuple[int, int, int], ...]] = (
    (1, 1, 250), (1_000, 40, 1_500), (5_000, 200, 4_000), (25_000, 1_000, 9_000),
)  # fmt: skip
"""(distance from the touch in ticks, every how many ticks a level stands, its mean size in lots).

Each spacing divides the next, so that a move of the touch changes levels only at the touch and where two bands meet.
"""

_NEAR_TICKS: Final = 1_000
_GRID: Final = 40
"""As the second band has it."""

_MOVE_MAX_TICKS: Final = 500
"""A longer move of the touch is a new book: what goes and all that stands is said anew."""

_NEAR_STAND_TICKS: Final = 10_000
"""Up to here the old book and the new one are told apart in one ring."""

_RING: Final = 1_024
"""Multiples of the grid that a ring has room for: more than the farthest level and such a move have between them."""

_REDRAWN_TICKS: Final = 2_000.0
"""Sizes are drawn anew up to this far from the touch, the nearer the more often."""

_SIZES: Final = [
    min(6.0, max(0.15, math.exp(-0.2 + 0.6 * NormalDist().inv_cdf((n + 0.5) / 1024)))) for n in range(1024)
]
"""Log-normal and bounded, as factors of the mean size: 1,024 values, equally likely."""

_LOTS: Final = {mean: [1 + int(size * mean) for size in _SIZES] for _, _, mean in _BANDS}
"""Mean size to the sizes around it, lots."""

_TOUCH_LOTS: Final = _LOTS[250]
_NEAR_LOTS: Final = _LOTS[1_500]
_FAR_LOTS: Final = _LOTS[4_000]


class _Frontier:
    """Where two bands meet: how far from the touch, the inner one, and how sparse the outer one is (0: none)."""

    __slots__ = ("every", "far", "sizes", "spacing_after")

    def __init__(self, far: int, every: int, sizes: list[int], spacing_after: int) -> None:
        self.far: Final = far
        self.every: Final = every
        self.sizes: Final = sizes
        self.spacing_after: Final = spacing_after


class _Places:
    """One band: from where on, up to where, how far apart, and the sizes there."""

    __slots__ = ("every", "far", "near", "sizes")

    def __init__(self, near: int, far: int, every: int, sizes: list[Any]) -> None:
        self.near: Final = near
        self.far: Final = far
        self.every: Final = every
        self.sizes: Final = sizes


_PLACES: Final = [
    _Places(near, far, every, _LOTS[mean])
    for near, (far, every, mean) in zip([0, *(far for far, _, _ in _BANDS)], _BANDS, strict=False)
]

_FRONTIERS: Final = [
    _Frontier(far, every, _LOTS[mean], spacing_after)
    for (far, every, mean), spacing_after in zip(_BANDS[1:], [*(every for _, every, _ in _BANDS[2:]), 0], strict=True)
]


class LevelSide:
    """The background of one side as it should stand. `away`: the sign of the way from the touch outwards.

    All levels but one at the touch stand at multiples of `_GRID`. So a ring by these multiples holds their sizes, and
    what stands at a price is found without a look-up. Sizes are `Any`, as in the book: they stay the objects they are.
    """

    __slots__ = ("_away", "_draw", "_elsewhere", "_ring", "_touch_lots", "touch")

    def __init__(self, away: int, draw: Callable[[], float]) -> None:
        self._away: Final = away
        self._draw: Final = draw
        self.touch = 0
        self._ring: list[Any] = [None] * _RING
        self._touch_lots: Any = None
        """at the touch, where that is no multiple of the grid"""
        self._elsewhere: dict[int, int] | None = {}
        """price → lots of everything, until the next stand, where it does not stand on the grid: after a jump"""

    @property
    def levels(self) -> dict[int, int]:
        """Price → lots of all that stands."""
        if self._elsewhere is not None:
            return self._elsewhere
        levels: dict[int, int] = {}
        near = 0
        for far, every, _ in _BANDS:
            for price in _multiples(self.touch + self._away * near, self._away, far - near, every):
                lots = self._lots_at(price)
                if lots is not None:
                    levels[price] = lots
            near = far
        return levels

    def shift(self, ticks: int) -> None:
        """Everything moves by so much, wherever the grid is, until the next stand."""
        self._elsewhere = {price + ticks: lots for price, lots in self.levels.items()}
        self.touch += ticks

    def stand(self, touch: int) -> dict[int, int]:
        """All levels around that touch; those that stood before keep their sizes."""
        before, near = self.levels, 0
        levels: dict[int, int] = {}
        self._elsewhere, self._ring, self._touch_lots, self.touch = None, [None] * _RING, None, touch
        for far, every, mean in _BANDS:
            for price in _multiples(touch + self._away * near, self._away, far - near, every):
                if price > 0:
                    lots = levels[price] = before.get(price) or _LOTS[mean][int(self._draw() * 1024)]
                    self._put(price, lots)
            near = far
        return levels

    def stand_near(self, touch: int, book: Half) -> None:
        """The same within `_NEAR_STAND_TICKS` of where it stands. The book is told what comes, then what goes."""
        before, upwards, ring, draw = self.touch, self._away > 0, self._ring, self._draw
        if touch == before:
            return
        self.touch = touch
        if before % _GRID != 0:
            self._touch_lots = None
            book.change(before, 0)
        for band in _PLACES:
            spacing: i64 = band.every
            place: i64 = _first(touch + band.near if upwards else touch - band.near, upwards, spacing)
            end: i64 = touch + band.far if upwards else touch - band.far
            step = spacing if upwards else -spacing
            while place < end if upwards else place > end:
                if place <= 0:
                    pass
                elif place % _GRID != 0:
                    self._come(place, band.sizes, book)
                elif ring[place // _GRID % _RING] is None:
                    lots = band.sizes[int(draw() * 1024)]
                    ring[place // _GRID % _RING] = lots
                    book.change(place, lots)
                place += step
        for band in _PLACES:
            stood: i64 = _first(before + band.near if upwards else before - band.near, upwards, band.every)
            last: i64 = before + band.far if upwards else before - band.far
            far: i64 = band.far
            stride: i64 = band.every if upwards else -band.every
            while stood < last if upwards else stood > last:
                distance: i64 = stood - touch if upwards else touch - stood
                stays = 0 <= distance < far  # the bands up to its own are as dense or denser
                if not stays and stood % _GRID == 0 and stood > 0 and not _is_place(distance, stood):
                    self._gone(stood, book)
                stood += stride

    def move(self, touch: int, book: Half) -> None:
        """Bring the touch there; the book is told of the levels that change for it."""
        before: i64 = self.touch
        after: i64 = touch
        upwards = self._away > 0
        if after == before:
            return
        self.touch = touch
        outwards = after > before if upwards else after < before
        step: i64 = _GRID if upwards else -_GRID
        if before % _GRID != 0:
            self._touch_lots = None
            book.change(before, 0)
        elif outwards:
            self._gone(before, book)
        if outwards:
            place: i64 = _first(before + self._away, upwards, _GRID)
            while place < after if upwards else place > after:
                self._gone(place, book)
                place += step
        else:
            place = _first(after + self._away, upwards, _GRID)
            while place < before if upwards else place > before:
                self._come(place, _NEAR_LOTS, book)
                place += step
        if after % _GRID != 0 or self._ring[after // _GRID % _RING] is None:
            self._come(after, _TOUCH_LOTS, book)
        start, end = (before, after) if outwards else (after, before)
        for frontier in _FRONTIERS:
            far: i64 = frontier.far if upwards else -frontier.far
            first: i64 = _first(start + far, upwards, frontier.every)
            last: i64 = end + far
            if first < last if upwards else first > last:  # most moves are short, and bring no level of a sparse band
                self._cross(frontier, first, last, outwards, book)

    def _cross(self, frontier: _Frontier, place: i64, end: i64, outwards: bool, book: Half) -> None:
        """Levels of the inner band up to that end come or go, but for those that stand in both bands."""
        upwards = self._away > 0
        spacing_after: i64 = frontier.spacing_after
        step: i64 = frontier.every if upwards else -frontier.every
        while place < end if upwards else place > end:
            if spacing_after != 0 and place % spacing_after == 0:
                pass
            elif not outwards:
                if self._ring[place // _GRID % _RING] is not None:
                    self._gone(place, book)
            elif place > 0:
                self._come(place, frontier.sizes, book)
            place += step

    def redraw(self, book: Half) -> None:
        """A new size somewhere."""
        drawn = self._draw()
        touch: i64 = self.touch
        distance: i64 = int(_REDRAWN_TICKS * (drawn * drawn))
        place = touch + distance if self._away > 0 else touch - distance
        place -= place % _GRID
        sizes = _NEAR_LOTS if distance < _NEAR_TICKS else _FAR_LOTS
        if place == touch or self._ring[place // _GRID % _RING] is None:
            place, sizes = touch, _TOUCH_LOTS
        self._come(place, sizes, book)

    def _come(self, place: i64, sizes: list[Any], book: Half) -> None:
        """A level with a size of those."""
        lots = sizes[int(self._draw() * 1024)]
        if place % _GRID == 0:
            self._ring[place // _GRID % _RING] = lots
        else:
            self._touch_lots = lots
        book.change(place, lots)

    def _gone(self, place: i64, book: Half) -> None:
        """A level of the grid."""
        self._ring[place // _GRID % _RING] = None
        book.change(place, 0)

    def _put(self, price: int, lots: Any) -> None:
        if price % _GRID == 0:
            self._ring[price // _GRID % _RING] = lots
        else:
            self._touch_lots = lots

    def _lots_at(self, price: int) -> Any:
        return self._ring[price // _GRID % _RING] if price % _GRID == 0 else self._touch_lots


def _is_place(distance: i64, price: i64) -> bool:
    """Whether a level stands at that multiple of the grid, so far outwards from the touch."""
    if distance < 0:
        return False
    for band in _PLACES:
        if distance < band.far:
            return distance == 0 or price % band.every == 0
    return False


def _first(start: i64, upwards: bool, every: i64) -> i64:
    """The first multiple of `every` from `start` on, going that way."""
    return start + -start % every if upwards else start - start % every


def _multiples(start: int, away: int, count: int, every: int) -> range:
    """The multiples of `every` among `count` prices from `start` on, going away."""
    first = start + -start % every if away > 0 else start - start % every
    return range(first, start + away * count, away * every)


class GeneratedMarket:
    """A seeded market: the same seed gives the same actions, whatever the venue's accounts do."""

    fixed_background = False

    def __init__(self, seed: int, parameters: MarketParameters | None = None) -> None:
        self._p = p = parameters or MarketParameters()
        self._random = random.Random(seed)  # noqa: S311 - a simulation that must repeat under its seed
        self._draw: Callable[[], float] = self._random.random
        self._normal_left = False
        self._normal = 0.0
        """Normal draws come in pairs: the second one of the last pair, while it is left."""
        self._fair = float(p.start_ticks)
        self._impact = 0.0
        self._at_ns = 0
        self._bids = LevelSide(-1, self._draw)
        self._asks = LevelSide(1, self._draw)
        self._stands = False
        self._move: LevelsMove | None = None
        """the last"""
        dt_s = p.step_ns / 1e9
        self._jump_chance = _chance(p.jump_rate, dt_s)
        self._touch_chance = _chance(p.touch_trade_rate, dt_s)
        self._fading = math.exp(-dt_s / p.impact_decay_s)
        self._touch_trade_rate = 1 / p.touch_trade_lots
        self._sweep_reach_rate = 1 / p.sweep_reach_bps
        self._enter(p.regimes[min(1, len(p.regimes) - 1)])

    def start(self, now_ns: int) -> BookReset:
        self._at_ns = now_ns + self._p.step_ns
        bid, ask = self._touches()
        return self._stand(bid, ask)

    def next_at_ns(self) -> int:
        return self._at_ns

    def jump(self, ticks: int) -> BookShift:
        self._check_told()
        self._fair += ticks
        for side in (self._bids, self._asks):
            side.shift(ticks)
        self._stands = False
        return BookShift(ticks)

    def _check_told(self) -> None:
        if self._move is not None and not self._move.is_told:
            raise RuntimeError("the levels of the last step have not moved yet")

    def step(self) -> list[Action]:
        self._check_told()
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
        move = self._drawn_normal() * self._sigma
        if draw() < self._jump_chance:
            move += self._random.choice((-1, 1)) * self._p.jump_bps * (0.5 + draw()) / 10_000
        self._fair *= 1 + move
        self._impact *= self._fading

    def _drawn_normal(self) -> float:
        """As `random.Random.gauss` draws it, to the bit: the pairs of Box and Muller."""
        if self._normal_left:
            self._normal_left = False
            return self._normal
        angle = self._draw() * (2.0 * math.pi)
        radius = math.sqrt(-2.0 * math.log(1.0 - self._draw()))
        self._normal_left, self._normal = True, math.sin(angle) * radius
        return math.cos(angle) * radius

    def _drawn_exponential(self, rate: float) -> float:
        """As `random.Random.expovariate` draws it, to the bit."""
        return -math.log(1.0 - self._draw()) / rate

    def _touch_trade(self) -> PassingOrder:
        buys = self._draw() < 0.5
        touch = self._asks.touch if buys else self._bids.touch
        lots = 1 + int(self._drawn_exponential(self._touch_trade_rate))
        return PassingOrder(_BUY if buys else _SELL, touch, lots)

    def _sweep(self) -> PassingOrder:
        draw = self._draw
        buys = draw() < 0.5
        sign = 1 if buys else -1
        reach = self._drawn_exponential(self._sweep_reach_rate) * self._fair / 10_000
        touch = self._asks.touch if buys else self._bids.touch
        if draw() < self._p.sweep_informed_share:
            low, high = self._p.informed_follow
            self._fair += sign * reach * (low + (high - low) * draw())
        else:
            self._impact += sign * reach * self._p.impact_share
        return PassingOrder(_BUY if buys else _SELL, touch + sign * int(reach), None)

    # ---- the levels ---------------------------------------------------------------------------------------------

    def _touches(self) -> tuple[int, int]:
        spread = self._spread_ticks
        bid = max(1, math.floor(self._fair + self._impact - spread / 2))
        return bid, bid + spread

    def _stand(self, bid: int, ask: int) -> BookReset:
        self._stands = True
        return BookReset(self._bids.stand(bid), self._asks.stand(ask))

    def _change(self) -> BookReset | LevelsMove:
        bid, ask = self._touches()
        farthest = _farther(bid - self._bids.touch, ask - self._asks.touch)
        if not self._stands or farthest > _NEAR_STAND_TICKS:
            return self._stand(bid, ask)
        self._move = LevelsMove(self, bid, ask, farthest > _MOVE_MAX_TICKS)
        return self._move

    def move_levels(self, move: LevelsMove, book_bids: Half, book_asks: Half) -> None:
        """What that move changes, drawn and told."""
        bids, asks = self._bids, self._asks
        if move.is_new_book:
            bids.stand_near(move.bid, book_bids)
            asks.stand_near(move.ask, book_asks)
            return
        bids.move(move.bid, book_bids)
        asks.move(move.ask, book_asks)
        for _ in range(self._p.redraws):
            bids.redraw(book_bids)
            asks.redraw(book_asks)

    def levels(self) -> BookReset:
        """All that stands."""
        return BookReset(self._bids.levels, self._asks.levels)


def _farther(one: i64, other: i64) -> int:
    """The greater of the two whatever their signs, without the calls of Python's that `max` and `abs` are."""
    one = one if one >= 0 else -one
    other = other if other >= 0 else -other
    return one if one > other else other


def _chance(rate: float, dt_s: float) -> float:
    """That something which happens at that rate happens within the time, at least once."""
    return 1 - math.exp(-rate * dt_s)
