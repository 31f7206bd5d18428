"""One market for every engine that is measured: made once under a seed, kept in a file that all of them read.

An update is one step of a tenth of a second: how the 50 best levels of each side changed. The engines of others get
these changes alone (`levels`); ours get what made them as well (`orders`, which print trades, and `bids` and `asks` of
the whole depth), because its venue matches.

The market is livelier than a real one, and fewer of its levels change: of 3,000 tenths of a second of a real capture
(Binance spot BTCUSDT) 8 % moved the middle, 7 % by more than 5 ticks of 0.1, and 15.7 levels changed in each; here it
is about 80 %, 12 % and 7. A sweep moves the whole book and the book comes back: that fills quotes in every engine
alike, for most of them fill where the opposite side comes through the quote.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from bot.domain.order import Side
from bot.simulator.depth import DepthMessage, DepthView
from bot.simulator.listings import GENERATED
from bot.simulator.market import (
    Action,
    BookChange,
    BookReset,
    BookShift,
    GeneratedMarket,
    Market,
    MarketOrder,
    MarketParameters,
)
from bot.simulator.venue import Venue

Levels = list[tuple[int, int]]
"""(price_ticks, lots); lots 0 deletes."""

DEPTH = 50
EVERYTHING_LOTS = 1 << 40
STEP_NS = 100_000_000
MARKET = MarketParameters(step_ns=STEP_NS, volatility_bps=0.1, sweep_rate=0.1, impact_share=1.0)
FORMAT = 2
"""Raised whenever the same seed would give another feed."""


class Update(msgspec.Struct, array_like=True):
    """One step. `orders`: (sign of the taker, limit_ticks, lots), before the book changes; `levels`: bids, asks."""

    orders: list[tuple[int, int, int]]
    bids: Levels
    asks: Levels
    levels: tuple[Levels, Levels]


class Feed(msgspec.Struct):
    """`bids`, `asks`: the whole first book; `levels`: its best levels. Prices in ticks, sizes in lots."""

    tick_size: str
    lot_size: str
    step_ns: int
    bids: Levels
    asks: Levels
    levels: tuple[Levels, Levels]
    updates: list[Update]


class FeedMarket:
    """A `Market` that plays a feed, as often as one likes. It ends in silence, and it cannot jump."""

    fixed_background = False

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._updates: Iterator[Update] = iter(feed.updates)
        self._at_ns = 0

    def start(self, now_ns: int) -> BookReset:
        self._at_ns = now_ns + self._feed.step_ns
        return BookReset(dict(self._feed.bids), dict(self._feed.asks))

    def next_at_ns(self) -> int:
        return self._at_ns

    def step(self) -> list[Action]:
        self._at_ns += self._feed.step_ns
        update = next(self._updates, None)
        if update is None:
            return []
        actions: list[Action] = [
            MarketOrder(Side.BUY if sign > 0 else Side.SELL, limit, lots) for sign, limit, lots in update.orders
        ]
        actions.append(BookChange(update.bids, update.asks))
        return actions

    def jump(self, ticks: int) -> BookShift:
        raise NotImplementedError(f"a feed cannot jump by {ticks} ticks")


class _Tapped:
    """A market that remembers what its last step was."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self.fixed_background = market.fixed_background
        self.last: list[Action] = []

    def start(self, now_ns: int) -> BookReset:
        return self._market.start(now_ns)

    def next_at_ns(self) -> int:
        return self._market.next_at_ns()

    def step(self) -> list[Action]:
        self.last = self._market.step()
        return self.last

    def jump(self, ticks: int) -> BookShift:
        return self._market.jump(ticks)


def make(seed: int, updates: int, parameters: MarketParameters = MARKET) -> Feed:
    """The first `updates` steps of the generated market under that seed, with nobody trading on it."""
    market = _Tapped(GeneratedMarket(seed, parameters))
    venue = Venue(GENERATED, market, seed=seed, now_ns=0)
    view = DepthView(DEPTH)
    view.publish(venue.book)
    shown = view.snapshot()
    bids, asks = venue.book.background(Side.BUY), venue.book.background(Side.SELL)
    feed = Feed(
        str(GENERATED.tick_size), str(GENERATED.lot_size), parameters.step_ns, list(bids.items()), list(asks.items()),
        (shown.bids, shown.asks), [],
    )  # fmt: skip
    for _ in range(updates):
        venue.advance(venue.next_at_ns())
        venue.drain()
        orders = [order for action in market.last if (order := _taking(action)) is not None]
        bids_after, asks_after = venue.book.background(Side.BUY), venue.book.background(Side.SELL)
        changed_bids = _changes(bids, bids_after, [limit for sign, limit, _ in orders if sign < 0], 1)
        changed_asks = _changes(asks, asks_after, [limit for sign, limit, _ in orders if sign > 0], -1)
        feed.updates.append(Update(orders, changed_bids, changed_asks, _levels(view.publish(venue.book))))
        bids, asks = bids_after, asks_after
    return feed


def _taking(action: Action) -> tuple[int, int, int] | None:
    """Any kind of order that takes, as (sign, limit_ticks, lots); one without a size takes all down to its limit."""
    fields = {name: getattr(action, name, None) for name in ("taker", "limit_ticks", "lots")}
    if fields["taker"] is None or fields["limit_ticks"] is None:
        return None
    return fields["taker"].sign, fields["limit_ticks"], fields["lots"] or EVERYTHING_LOTS


def _levels(message: DepthMessage | None) -> tuple[Levels, Levels]:
    return ([], []) if message is None else (message.bids, message.asks)


def _changes(before: dict[int, int], after: dict[int, int], reached: list[int], sign: int) -> Levels:
    """What differs, and every level that a taker may have taken from: the venue has to be told what stands there now.

    `reached`: the limits of those who took; `sign` 1 where they walk down to it (bids), -1 where up.
    """
    changed = [
        (price, lots)
        for price, lots in after.items()
        if before.get(price) != lots or any((price - limit) * sign >= 0 for limit in reached)
    ]
    return changed + [(price, 0) for price in before if price not in after]


def kept(folder: Path, seed: int, updates: int) -> Path:
    """The file of that feed, made where it is not there yet."""
    path = folder / f"feed-{FORMAT}-{seed}-{updates}.msgpack"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        draft.write_bytes(msgspec.msgpack.encode(make(seed, updates)))
        draft.replace(path)
    return path


def load(path: Path) -> Feed:
    """Raises OSError or msgspec.DecodeError where the file is none."""
    return msgspec.msgpack.decode(path.read_bytes(), type=Feed)
