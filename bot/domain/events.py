"""Everything the engine can be told: one closed union. Time is in the event, integer nanoseconds since the epoch.

Prices and quantities of market data and own orders are whole ticks and lots; money (fees) is exact `Decimal`.
`at_ns` is when we received it by the loop's clock; `venue_at_ns` is the venue's own time where it gives one.
The union is tagged, so that a journal line decodes to exactly one of these and an unknown tag is an error.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from bot.domain.order import Side
from bot.domain.told import Told
from bot.domain.venue_events import (
    AmendAnswered,
    CancelAllAnswered,
    CancelAnswered,
    EquityCarried,
    ExecutionsSwept,
    FeesRead,
    Filled,
    FundingPaid,
    InstrumentsRead,
    OpenOrdersRead,
    OrderAccepted,
    OrderNotFound,
    OrderRefused,
    OrderStatus,
    OrderUncertain,
    OrderUnreachable,
    OrderUpdated,
    PositionRead,
    ReadFailed,
    StreamDown,
    StreamUp,
    VenueOrder,
    WalletRead,
)

__all__ = [
    "MARKET_DATA",
    "AmendAnswered",
    "BookDelta",
    "BookLost",
    "BookSnapshot",
    "CancelAllAnswered",
    "CancelAnswered",
    "EquityCarried",
    "Event",
    "ExecutionsSwept",
    "FeesRead",
    "Filled",
    "FundingPaid",
    "GrantReceived",
    "InstrumentsRead",
    "Level",
    "OpenOrdersRead",
    "OrderAccepted",
    "OrderNotFound",
    "OrderRefused",
    "OrderStatus",
    "OrderUncertain",
    "OrderUnreachable",
    "OrderUpdated",
    "PositionRead",
    "ReadFailed",
    "RearmRequested",
    "ResumeRequested",
    "ShutdownRequested",
    "Started",
    "StopRequested",
    "StreamDown",
    "StreamUp",
    "Thresholds",
    "ThresholdsReloaded",
    "Ticked",
    "TradePrinted",
    "VenueOrder",
    "WalletRead",
]

Level = tuple[int, int]
"""(price_ticks, qty_lots); qty_lots 0 deletes the level."""


# ---- the process and its permission -------------------------------------------------------------------------------


class Started(Told, frozen=True, tag=True):
    """First event of every run. `epoch` 0 means: no grant was ever held in this run."""

    run: str
    mode: str
    config_digest: str
    version: str
    symbols: tuple[str, ...]
    parameters: str = ""
    """The engine's parameters as JSON, so that a journal replays without the configuration it ran under."""


class Ticked(Told, frozen=True, tag=True):
    """The clock, about every 100 ms: everything that depends on time passing happens here."""


class GrantReceived(Told, frozen=True, tag=True):
    """The guard's permission to trade: it expires at `at_ns` + `ttl_s`.

    `at_ns` never steps: the loop's clock is the wall time at start plus what the monotonic clock has counted since.
    A lower epoch than the one held never gets this far. Limits are per symbol and in total, quote. `symbols`: on which
    alone risk may be added; empty: on all.
    """

    account: str
    epoch: int
    inventory_max_quote: Decimal
    total_max_quote: Decimal
    ttl_s: float
    revoked: bool = False
    symbols: tuple[str, ...] = ()


class StopRequested(Told, frozen=True, tag=True):
    """Somebody or something outside the engine wants quoting to stop (operator API, signal, kill switch, journal).

    `key`: idempotency key of whoever asked, empty without one: the same key again does nothing and is counted.
    """

    reason: str
    stop_class: str
    resume: str
    who: str
    key: str = ""


class DrillRequested(Told, frozen=True, tag=True):
    """An operator announces a drill: what follows from it is planned.

    `name`: maker-policy (what it must hold back is offered to it), orphan (`subject`: the client order id that another
    client is about to place), stream-loss (both streams are about to be cut).
    """

    name: str
    who: str
    subject: str = ""


class ResumeRequested(Told, frozen=True, tag=True):
    """People confirmed that a HELD bot may quote again. `key` as in StopRequested."""

    reason: str
    who: str
    key: str = ""


class RearmRequested(Told, frozen=True, tag=True):
    """People confirmed that a HALTED bot may quote again: at least two different ones, or nothing happens."""

    reason: str
    people: tuple[str, ...]
    key: str = ""


class ReleaseAsked(Told, frozen=True, tag=True):
    """A first person asks that a stop be released; a second one has to confirm it under the same `release_id`.

    `kind`: resume (what people may release) | re-arm (what HALTED). `reason`: of the stop, or `*`. `consent`: this
    person said so in so many words, and the process was armed for it; only re-arming asks for it.
    """

    release_id: str
    kind: str
    reason: str
    who: str
    why: str
    consent: bool = False


class ReleaseConfirmed(Told, frozen=True, tag=True):
    """A second person confirms. The fields as in ReleaseAsked."""

    release_id: str
    who: str
    why: str
    consent: bool = False


class ShutdownRequested(Told, frozen=True, tag=True):
    """SIGTERM, Ctrl-C or the operator API: cancel everything, then end."""

    reason: str


class Thresholds(msgspec.Struct, frozen=True, omit_defaults=True):
    """When quoting freezes, of one symbol (or `*`: of all that are not named). None: as the run was started with."""

    edge_threshold_bps: Decimal | None = None
    stale_after_ms: int | None = None
    venue_slow_ms: int | None = None


class ThresholdsReloaded(Told, frozen=True, tag=True):
    """The thresholds file as it reads now, whole. Tightening holds at once; loosening not while a grant is held."""

    source: str
    thresholds: dict[str, Thresholds]


# ---- market data --------------------------------------------------------------------------------------------------


class BookSnapshot(Told, frozen=True, tag=True):
    """Replaces the book. Levels best first."""

    symbol: str
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    update_id: int
    venue_at_ns: int


class BookDelta(Told, frozen=True, tag=True):
    """Changes the book; `update_id` is the last one plus 1 (the adapter resyncs on a gap, the engine checks again)."""

    symbol: str
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    update_id: int
    venue_at_ns: int


class BookLost(Told, frozen=True, tag=True):
    """The book of that symbol can no longer be trusted (gap, disconnect, undecodable message).

    `garbled`: what the venue says about that symbol's market cannot be read, and `reason` names the field; or the venue
    refuses to say anything, and `reason` has its words.
    """

    symbol: str
    reason: str
    garbled: bool = False


class TradePrinted(Told, frozen=True, tag=True):
    """A public trade. `taker_side`: who crossed the spread."""

    symbol: str
    price_ticks: int
    qty_lots: int
    taker_side: Side
    venue_at_ns: int


Event = (
    Started
    | Ticked
    | GrantReceived
    | StopRequested
    | DrillRequested
    | ResumeRequested
    | RearmRequested
    | ReleaseAsked
    | ReleaseConfirmed
    | ShutdownRequested
    | ThresholdsReloaded
    | BookSnapshot
    | BookDelta
    | BookLost
    | TradePrinted
    | OrderAccepted
    | OrderRefused
    | OrderUnreachable
    | OrderUncertain
    | CancelAnswered
    | AmendAnswered
    | CancelAllAnswered
    | OrderUpdated
    | OrderNotFound
    | Filled
    | FundingPaid
    | ExecutionsSwept
    | FeesRead
    | WalletRead
    | EquityCarried
    | OpenOrdersRead
    | PositionRead
    | ReadFailed
    | StreamUp
    | StreamDown
    | InstrumentsRead
)

MARKET_DATA: tuple[type, ...] = (BookSnapshot, BookDelta, TradePrinted, Ticked)
"""Events that need not be committed durably before the engine sees them."""
