"""What the quote cycle keeps of one symbol between two looks, so that a calm market costs next to nothing.

After a look that changed nothing, the *keep band* says how far the top of the book may move before a working quote
could leave its tolerance: a strategy's and the policy's prices move at most one tick further than the top does. Inside
the band nothing is worked out. Every turn of the clock looks again whatever the band says, unless nothing that a look
goes by has changed since the last one.
"""

from __future__ import annotations

from typing import Final

from bot.domain.book import NO_TICKS
from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.engine.maker_policy import MakerPolicy
from bot.engine.order_plan import Tolerance
from bot.engine.parameters import NS_PER_MS, UBPS_ONE, ubps
from bot.engine.performance import Earning
from bot.engine.risk import Limits, Sight
from bot.engine.state import State
from bot.engine.strategies import strategy_of
from bot.engine.volatility import Volatility

BAND_MAX_TICKS: Final = 1_000
"""A wider band would outlive the one tick of slack that it allows the prices' slope."""


class DeskSide:
    """One side of a desk.

    `asked_ticks`: the strategy's price; `price_ticks`: what the policy made of it, NO_TICKS where it holds the quote
    back; `qty_lots`: its size. `planned_ticks`, `planned_lots`: price and open size that the last look kept or asked
    for; NO_TICKS for a side at odds. `blocked`: why nothing new was sent when that was last told; empty where nothing
    was.
    """

    __slots__ = (
        "asked_ticks", "back_off", "blocked", "is_buy", "planned_lots", "planned_ticks", "price_ticks", "qty_lots",
        "side",
    )  # fmt: skip

    def __init__(self, state: State, symbol: str, side: Side) -> None:
        self.side = side
        self.is_buy = side is Side.BUY
        self.back_off = state.back_off[symbol, side]
        self.blocked = ""
        self.asked_ticks = 0
        self.price_ticks = NO_TICKS
        self.qty_lots = 0
        self.planned_ticks = NO_TICKS
        self.planned_lots = 0


class Desk:
    """One symbol: what belongs to it, what it is set to, and what the last look found."""

    __slots__ = (
        "_tolerance_ticks", "_tolerance_ubps", "account", "ask_max", "ask_min", "ask_ticks", "bid_max", "bid_min",
        "bid_ticks", "book", "buy", "earning", "edge_ubps", "fresh_units2", "goes_by_variance", "held", "instrument",
        "interval_ns", "is_spot", "kept_version", "last_trade", "limits", "limits_version", "orders", "parameters",
        "pieces_max", "planned", "policy", "position_lots", "qty_pct", "room_units2", "seen_limits", "sell", "settled",
        "settled_version", "shaped_ask", "shaped_bid", "shaped_position", "shaped_variance", "sight", "sighted",
        "slack_ticks", "strategy", "symbol", "variance", "variance_ubps2", "version", "volatility",
    )  # fmt: skip

    def __init__(self, state: State, instrument: Instrument, earning: Earning) -> None:
        symbol = instrument.symbol
        parameters = state.own[symbol]
        self.symbol = symbol
        self.parameters = parameters
        self.instrument = instrument
        self.is_spot = instrument.category == "spot"
        self.book = state.books[symbol]
        self.orders = state.orders.of[symbol]
        self.last_trade = state.last_trade[symbol]
        self.account = state.ledger.accounts[symbol]
        self.earning = earning
        self.held = state.thresholds.held[symbol]
        self.buy = DeskSide(state, symbol, Side.BUY)
        self.sell = DeskSide(state, symbol, Side.SELL)
        self.strategy = strategy_of(parameters, instrument)
        self.policy = MakerPolicy(
            instrument,
            ubps(parameters.post_only_offset_bps),
            parameters.min_qty_pad,
            enabled=parameters.maker_only,
        )
        self.volatility = Volatility(parameters.volatility_memory_s, parameters.volatility_min_bps)
        self.goes_by_variance = self.strategy.goes_by_variance
        self.variance_ubps2 = self.volatility.variance_ubps2 if self.goes_by_variance else 0
        """what the strategy goes by; 0 where it does not"""
        self.pieces_max = max(1, parameters.max_active_orders // 2)
        self.sight = Sight()
        self.sighted = False
        """whether `sight` is of this look"""
        self.limits: Limits | None = None
        self.limits_version = -1
        self._tolerance_ubps = ubps(parameters.requote_tolerance_bps)
        self._tolerance_ticks = parameters.requote_tolerance_ticks
        self.qty_pct = int(parameters.requote_qty_tolerance_pct)
        self.interval_ns = parameters.requote_interval_ms * NS_PER_MS
        # what strategy and policy were last asked: both are pure, so the same question need not be asked again
        self.shaped_bid = self.shaped_ask = NO_TICKS
        self.shaped_position = 0
        self.shaped_variance = 0
        # what the last look went by
        self.bid_ticks = self.ask_ticks = NO_TICKS
        self.version = -1
        """of the orders: as the last look found them, or as they are where that look's plan is being carried out"""
        self.position_lots = 0
        self.edge_ubps = UBPS_ONE
        """what a quote is expected to earn"""
        self.variance = 0
        self.seen_limits = -1
        self.fresh_units2 = self.room_units2 = 0
        """room that the limits left, as in `Limits.left_units2`"""
        # what it came to
        self.slack_ticks = 0
        self.planned = False
        """whether both sides have a plan"""
        self.settled = False
        """whether both sides were near enough, and the orders were as in `settled_version`"""
        self.settled_version = -1
        self.kept_version = -1
        self.bid_min = self.bid_max = self.ask_min = self.ask_max = 0

    def tolerance_ticks(self, price_ticks: int) -> int:
        """How far from that price a quote is near enough."""
        ticks = price_ticks * self._tolerance_ubps // UBPS_ONE if self._tolerance_ubps else 0
        return ticks if ticks > self._tolerance_ticks else self._tolerance_ticks

    def tolerance(self, price_ticks: int) -> Tolerance:
        """What is near enough at that price."""
        return Tolerance(self.tolerance_ticks(price_ticks), self.qty_pct, self.interval_ns)

    def inside_band(self, bid: int, ask: int) -> bool:
        """Whether nothing can have to be done at that top of the book, the orders being as in `kept_version`."""
        return self.bid_min <= bid <= self.bid_max and self.ask_min <= ask <= self.ask_max

    def begin_look(self, bid: int, ask: int) -> None:
        """Nothing is known to be near enough yet."""
        self.bid_ticks = bid
        self.ask_ticks = ask
        self.version = self.orders.version
        self.kept_version = -1
        self.settled = self.planned = self.sighted = False
        self.buy.planned_ticks = self.sell.planned_ticks = NO_TICKS
        self.slack_ticks = BAND_MAX_TICKS

    def kept(self, half: DeskSide, price_ticks: int, open_lots: int, slack_ticks: int) -> None:
        """One side was looked at and its one quote is near enough; `slack_ticks`: what is left of its tolerance."""
        half.planned_ticks = price_ticks
        half.planned_lots = open_lots
        if slack_ticks < self.slack_ticks:
            self.slack_ticks = slack_ticks

    def end_look(self, bid: int, ask: int) -> None:
        """Remember what it came to, and the band where both sides were kept."""
        self.version = self.orders.version
        self.planned = self.buy.planned_ticks > NO_TICKS and self.sell.planned_ticks > NO_TICKS
        ticks = self.slack_ticks - 1
        if ticks < 0:
            return
        self.settled = True
        self.settled_version = self.kept_version = self.version
        self.bid_min = bid - ticks
        self.bid_max = bid + ticks
        self.ask_min = ask - ticks
        self.ask_max = ask + ticks
