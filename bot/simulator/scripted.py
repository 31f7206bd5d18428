"""The market that deterministic shadow plays: scripted, so that the same run is the same to the last byte.

Told once, what the script says of update n (0, 1, …) of a symbol:
- **The edge falls.** The book's half-spread begins at 60 bps and loses 15 % with every update, down to 1 bps.
- **The price breathes**: a triangle of 16 updates and 0.4 bps a step around a fixed price, downwards first, with a
  seeded ripple of at most 0.2 bps.
- **Takers come one side at a time.** For the first 7 updates they only sell. Then, by turns of 40 updates, four of
  seven sell and four of seven buy: a position builds up and comes down again. Every eleventh update is quiet: nobody
  comes (an odd number, so that neither side misses more than the other).
"""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Final, NamedTuple

from bot.domain.events import BookSnapshot, TradePrinted
from bot.domain.instrument import Instrument
from bot.domain.order import Side

INTERVAL_NS: Final = 1_000_000_000
"""Simulated time between two updates of a symbol."""

PRICES: Final[dict[str, Decimal]] = {"BTCUSDT": Decimal(50_000), "ETHUSDT": Decimal(3_000), "SOLUSDT": Decimal(150)}

_UBPS: Final = 1_000_000
_ONE: Final = 10_000 * _UBPS
_HALF_SPREAD_FIRST: Final = 60 * _UBPS
_HALF_SPREAD_LEAST: Final = _UBPS
_KEPT_PCT: Final = 85
_STEPS: Final = 26
"""After so many updates the half-spread is at its least."""
_PERIOD: Final = 16
_STEP: Final = 400_000
_RIPPLE: Final = 200_000
_SELLERS_ONLY: Final = 7
_TURN: Final = 40
_MORE_SELLERS: Final = (Side.BUY, Side.SELL, Side.BUY, Side.SELL, Side.BUY, Side.SELL, Side.BUY)
_QUIET_EVERY: Final = 11
_LEVELS: Final = 3


class Update(NamedTuple):
    """One market update. `visited`: the side of the book on which a taker trades, None where nobody comes."""

    book: BookSnapshot
    trade: TradePrinted | None
    visited: Side | None


class ScriptedMarket:
    """One symbol. Raises KeyError for a symbol that the script has no price for."""

    def __init__(self, instrument: Instrument, seed: int) -> None:
        self._symbol = instrument.symbol
        self._middle_ticks = instrument.ticks(PRICES[instrument.symbol])
        self._size_lots = instrument.lots_floor(Decimal(10_000) / PRICES[instrument.symbol])
        self._ripple = random.Random(f"{seed}:{instrument.symbol}:market")  # noqa: S311 - a script, no secret
        self._number = 0

    def update(self, at_ns: int) -> Update:
        """The next update, at that time."""
        number = self._number
        self._number += 1
        mid = self._middle_ticks * (_ONE + self._breath(number)) // _ONE
        half = max(1, mid * half_spread_ubps(number) // _ONE)
        lots = self._size_lots + number % 7
        bids = tuple((mid - half * (level + 1), lots * (level + 1)) for level in range(_LEVELS))
        asks = tuple((mid + half * (level + 1), lots * (level + 1)) for level in range(_LEVELS))
        book = BookSnapshot(at_ns, self._symbol, bids, asks, number + 1, at_ns)
        visited = visited_side(number)
        trade = None
        if visited is not None:
            price = bids[0][0] if visited is Side.BUY else asks[0][0]
            trade = TradePrinted(at_ns, self._symbol, price, lots, visited.opposite, at_ns)
        return Update(book, trade, visited)

    def _breath(self, number: int) -> int:
        phase = number % _PERIOD
        depth = min(phase, _PERIOD - phase)
        return -depth * _STEP + self._ripple.randint(-_RIPPLE, _RIPPLE)


def half_spread_ubps(number: int) -> int:
    """The book's half-spread at an update, micro basis points of mid."""
    step = min(number, _STEPS)
    shrunk: int = _HALF_SPREAD_FIRST * _KEPT_PCT**step // 100**step
    return max(_HALF_SPREAD_LEAST, shrunk)


def visited_side(number: int) -> Side | None:
    """Whose resting orders the taker of an update meets: a seller meets bids."""
    if number % _QUIET_EVERY == _QUIET_EVERY - 1:
        return None
    if number < _SELLERS_ONLY:
        return Side.BUY
    since = number - _SELLERS_ONLY
    side = _MORE_SELLERS[since % len(_MORE_SELLERS)]
    return side if since // _TURN % 2 == 0 else side.opposite
