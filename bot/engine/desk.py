"""What the quote cycle keeps of one symbol between two looks, so that a calm market costs next to nothing.

After a look that changed nothing, the *keep band* says how far the top of the book may move before a working quote
could leave its tolerance: a strategy's and the policy's prices move at most one tick further than the top does. Inside
the band nothing is worked out. Every turn of the clock looks again whatever the band says.
"""

from __future__ import annotations

from typing import Final

from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.engine.maker_policy import Blocked, MakerPolicy
from bot.engine.order_plan import Place, Tolerance, is_near_enough
from bot.engine.orders import OwnOrder
from bot.engine.parameters import NS_PER_MS, UBPS_ONE, EngineParameters, ubps
from bot.engine.quoting import Quote, strategy_of
from bot.engine.risk import Limits
from bot.engine.volatility import Volatility

BAND_MAX_TICKS: Final = 1_000
"""A wider band would outlive the one tick of slack that it allows the prices' slope."""


class Desk:
    """One symbol. `parameters`: as they are there."""

    __slots__ = (
        "_interval_ns",
        "_qty_pct",
        "_tolerance_ticks",
        "_tolerance_ubps",
        "_tolerance_was",
        "ask_max",
        "ask_min",
        "bid_max",
        "bid_min",
        "blocked",
        "fitted",
        "instrument",
        "kept_version",
        "limits",
        "limits_version",
        "parameters",
        "pieces_max",
        "planned",
        "planned_for",
        "policy",
        "settled_for",
        "shaped",
        "shaped_for",
        "slack_ticks",
        "strategy",
        "symbol",
        "top",
        "version",
        "volatility",
    )

    def __init__(self, parameters: EngineParameters, instrument: Instrument) -> None:
        self.symbol = instrument.symbol
        self.parameters = parameters
        self.instrument = instrument
        self.strategy = strategy_of(parameters, instrument)
        self.policy = MakerPolicy(
            instrument,
            ubps(parameters.post_only_offset_bps),
            parameters.min_qty_pad,
            enabled=parameters.maker_only,
        )
        self.volatility = Volatility(parameters.volatility_memory_s, parameters.volatility_min_bps)
        self.limits: Limits | None = None
        self.limits_version = -1
        self.pieces_max = max(1, parameters.max_active_orders // 2)
        self.blocked: dict[Side, str] = {}
        self.top: tuple[int, int] | None = None
        self.version = -1
        self.kept_version = -1
        self.bid_min = self.bid_max = self.ask_min = self.ask_max = 0
        self.slack_ticks = 0
        self.fitted: dict[Side, tuple[object, tuple[Quote | None, int]]] = {}
        """what risk's room was last asked for a side, and what came of it where the quote went in"""
        self.shaped_for: object = None
        """what strategy and policy were last asked: (top, position, variance)"""
        self.shaped: tuple[Place | Blocked | None, Place | Blocked | None] = (None, None)
        """what they answered, buy and sell; both are pure, so the same question need not be asked again"""
        self.planned: dict[Side, tuple[int, int]] = {}
        """what the last look kept or asked for: (price, open lots) of a side's one quote, nothing for a side at odds"""
        self.planned_for: object = None
        """what that was decided in: (top, position, variance, version of the limits)"""
        self.settled_for: object = None
        """what both sides were last kept in: (top, version of the orders, variance, version of the limits)"""
        self._tolerance_was: tuple[int, Tolerance] | None = None
        self._tolerance_ubps = ubps(parameters.requote_tolerance_bps)
        self._tolerance_ticks = parameters.requote_tolerance_ticks
        self._qty_pct = int(parameters.requote_qty_tolerance_pct)
        self._interval_ns = parameters.requote_interval_ms * NS_PER_MS

    @property
    def variance_ubps2(self) -> int:
        """What the strategy goes by; 0 where it does not."""
        return self.volatility.variance_ubps2 if self.strategy.goes_by_variance else 0

    def tolerance(self, price_ticks: int) -> Tolerance:
        """What is near enough at that price."""
        ticks = max(self._tolerance_ticks, price_ticks * self._tolerance_ubps // UBPS_ONE)
        if self._tolerance_was is None or self._tolerance_was[0] != ticks:
            self._tolerance_was = (ticks, Tolerance(ticks, self._qty_pct, self._interval_ns))
        return self._tolerance_was[1]

    def inside_band(self, top: tuple[int, int], version: int) -> bool:
        """Whether nothing can have to be done at that top of the book."""
        return (
            version == self.kept_version
            and self.bid_min <= top[0] <= self.bid_max
            and self.ask_min <= top[1] <= self.ask_max
        )

    def begin_look(self) -> None:
        """Nothing is known to be near enough yet."""
        self.kept_version = -1
        self.settled_for = self.planned_for = None
        self.planned.clear()
        self.slack_ticks = BAND_MAX_TICKS

    def kept(self, live: list[OwnOrder], wanted: Quote | None, cap_lots: int, tolerance: Tolerance) -> None:
        """One side was looked at and nothing had to be done: how much of its tolerance is left.

        None is left where it stands only because its interval is not over: then time alone changes what is to do.
        """
        if wanted is None or len(live) != 1 or not is_near_enough(live[0], wanted, cap_lots, tolerance):
            self.slack_ticks = 0
            return
        self.planned[wanted.side] = (live[0].price_ticks, live[0].remaining_lots)
        left = tolerance.price_ticks - abs(live[0].price_ticks - wanted.price_ticks)
        self.slack_ticks = min(self.slack_ticks, left)

    def end_look(self, top: tuple[int, int], version: int) -> None:
        """Remember what was seen, and the band where both sides were kept."""
        self.top = top
        self.version = version
        ticks = self.slack_ticks - 1
        if ticks < 0:
            return
        self.kept_version = version
        self.bid_min, self.bid_max = top[0] - ticks, top[0] + ticks
        self.ask_min, self.ask_max = top[1] - ticks, top[1] + ticks
