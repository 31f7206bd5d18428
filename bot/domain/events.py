"""Everything the engine can be told: one closed union. Time is in the event, integer nanoseconds since the epoch.

Prices and quantities of market data and own orders are whole ticks and lots; money (fees) is exact `Decimal`.
`at_ns` is when we received it by the loop's clock; `venue_at_ns` is the venue's own time where it gives one.
The union is tagged, so that a journal line decodes to exactly one of these and an unknown tag is an error.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec

from bot.domain.order import Side

Level = tuple[int, int]
"""(price_ticks, qty_lots); qty_lots 0 deletes the level."""


class _Event(msgspec.Struct, frozen=True, tag=True, omit_defaults=True, gc=False):
    """`gc=False`: an event refers to nothing that could refer back, so the collector of cycles need not look at it."""

    at_ns: int


# ---- the process and its permission -------------------------------------------------------------------------------


class Started(_Event, frozen=True, tag=True):
    """First event of every run. `epoch` 0 means: no grant was ever held in this run."""

    run: str
    mode: str
    config_digest: str
    version: str
    symbols: tuple[str, ...]
    parameters: str = ""
    """The engine's parameters as JSON, so that a journal replays without the configuration it ran under."""


class Ticked(_Event, frozen=True, tag=True):
    """The clock, about every 100 ms: everything that depends on time passing happens here."""


class GrantReceived(_Event, frozen=True, tag=True):
    """The guard's permission to trade: it expires at `at_ns` + `ttl_s`.

    `at_ns` never steps: the loop's clock is the wall time at start plus what the monotonic clock has counted since.
    A lower epoch than the one held never gets this far. Limits are per symbol and in total, quote.
    """

    account: str
    epoch: int
    inventory_max_quote: Decimal
    total_max_quote: Decimal
    ttl_s: float
    revoked: bool = False


class StopRequested(_Event, frozen=True, tag=True):
    """Somebody or something outside the engine wants quoting to stop (operator API, signal, kill switch, journal).

    `key`: idempotency key of whoever asked, empty without one: the same key again does nothing and is counted.
    """

    reason: str
    stop_class: str
    resume: str
    who: str
    key: str = ""


class ResumeRequested(_Event, frozen=True, tag=True):
    """People confirmed that a HELD bot may quote again. `key` as in StopRequested."""

    reason: str
    who: str
    key: str = ""


class RearmRequested(_Event, frozen=True, tag=True):
    """People confirmed that a HALTED bot may quote again: at least two different ones, or nothing happens."""

    reason: str
    people: tuple[str, ...]
    key: str = ""


class ShutdownRequested(_Event, frozen=True, tag=True):
    """SIGTERM, Ctrl-C or the operator API: cancel everything, then end."""

    reason: str


class Thresholds(msgspec.Struct, frozen=True, omit_defaults=True):
    """When quoting freezes, of one symbol (or `*`: of all that are not named). None: as the run was started with."""

    edge_threshold_bps: Decimal | None = None
    stale_after_ms: int | None = None
    venue_slow_ms: int | None = None


class ThresholdsReloaded(_Event, frozen=True, tag=True):
    """The thresholds file as it reads now, whole. Tightening holds at once; loosening not while a grant is held."""

    source: str
    thresholds: dict[str, Thresholds]


# ---- market data --------------------------------------------------------------------------------------------------


class BookSnapshot(_Event, frozen=True, tag=True):
    """Replaces the book. Levels best first."""

    symbol: str
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    update_id: int
    venue_at_ns: int


class BookDelta(_Event, frozen=True, tag=True):
    """Changes the book; `update_id` is the last one plus 1 (the adapter resyncs on a gap, the engine checks again)."""

    symbol: str
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    update_id: int
    venue_at_ns: int


class BookLost(_Event, frozen=True, tag=True):
    """The book of that symbol can no longer be trusted (gap, disconnect, undecodable message)."""

    symbol: str
    reason: str


class TradePrinted(_Event, frozen=True, tag=True):
    """A public trade. `taker_side`: who crossed the spread."""

    symbol: str
    price_ticks: int
    qty_lots: int
    taker_side: Side
    venue_at_ns: int


# ---- answers to what we sent --------------------------------------------------------------------------------------


class OrderAccepted(_Event, frozen=True, tag=True):
    """The venue acknowledged a create. Confirmation follows on the private stream."""

    client_order_id: str
    venue_order_id: str


class OrderRefused(_Event, frozen=True, tag=True):
    """Definite: it did not and will not happen. `post_only`: refused because it would have taken."""

    client_order_id: str
    code: int
    reason: str
    post_only: bool = False


class OrderUnreachable(_Event, frozen=True, tag=True):
    """The request never left this machine: it did not happen."""

    client_order_id: str
    detail: str


class OrderUncertain(_Event, frozen=True, tag=True):
    """It may have happened (time-out, 5xx, rate limit in flight, duplicate id): probe, never re-send blind."""

    client_order_id: str
    code: int
    detail: str


class CancelAnswered(_Event, frozen=True, tag=True):
    """`outcome`: accepted | gone | refused | unreachable | unknown. `gone` is success: fills are swept."""

    client_order_id: str
    outcome: str
    detail: str = ""


class AmendAnswered(_Event, frozen=True, tag=True):
    """`outcome`: accepted | gone | refused | unreachable | unknown."""

    client_order_id: str
    price_ticks: int
    qty_lots: int
    outcome: str
    detail: str = ""


class CancelAllAnswered(_Event, frozen=True, tag=True):
    """The answer to one cancel-all under one idempotency key. `outcome` as in CancelAnswered."""

    key: str
    outcome: str
    detail: str = ""


# ---- private stream and reads -------------------------------------------------------------------------------------


class OrderStatus(StrEnum):
    """A venue's word on an order, reduced to what differs for us."""

    WORKING = "working"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


class VenueOrder(msgspec.Struct, frozen=True, gc=False):
    """An order as the venue shows it. `client_order_id` is empty for orders entered without one."""

    symbol: str
    client_order_id: str
    venue_order_id: str
    side: Side
    price_ticks: int
    qty_lots: int
    filled_lots: int
    status: OrderStatus
    reason: str = ""
    post_only_refused: bool = False


class OrderUpdated(_Event, frozen=True, tag=True):
    """The private stream's or a probe's word on an own order."""

    order: VenueOrder


class OrderNotFound(_Event, frozen=True, tag=True):
    """A probe found it neither among open orders nor in history. Final only after receive window + 2 s."""

    client_order_id: str


class Filled(_Event, frozen=True, tag=True):
    """One execution. `execution_id` is its identity: the same id again changes nothing.

    `price_ticks` may carry a wrong price from a faulty venue; `fee_quote` positive = paid, negative = rebate.
    """

    execution_id: str
    client_order_id: str
    venue_order_id: str
    symbol: str
    side: Side
    price: Decimal
    qty_lots: int
    fee_quote: Decimal
    is_maker: bool
    venue_at_ns: int


class FundingPaid(_Event, frozen=True, tag=True):
    """One funding settlement of one symbol. `funding_id` is its identity: the same id again changes nothing.

    `amount_quote` is signed: positive was received, negative paid.
    """

    funding_id: str
    symbol: str
    amount_quote: Decimal
    venue_at_ns: int


class ExecutionsSwept(_Event, frozen=True, tag=True):
    """A read of executions that found some the private stream had not told; their `Filled` follow at once.

    `executions`: (execution id, the venue's time in ns) of each.
    """

    symbol: str
    asked_at_ns: int
    executions: tuple[tuple[str, int], ...]


class FeesRead(_Event, frozen=True, tag=True):
    """Fee rates as the venue states them for this account. `maker_bps` is net of rebates, so it may be negative.

    `source`: `api:<exchange>:<symbol>`. A read that failed is `ReadFailed` with what = fees.
    """

    symbol: str
    maker_bps: Decimal
    taker_bps: Decimal
    source: str


class WalletRead(_Event, frozen=True, tag=True):
    """The account as the venue states it, quote. `transfers_quote`: net paid in since any fixed moment, cumulative."""

    equity_quote: Decimal
    margin_used_quote: Decimal
    transfers_quote: Decimal = Decimal(0)


class EquityCarried(_Event, frozen=True, tag=True):
    """The last 24 hours of this account under an earlier run, so that loss limits do not begin anew with a new one.

    `samples`: (at_ns, net result in quote), oldest first, last one newest; `peak_quote` on the same scale.
    """

    account: str
    samples: tuple[tuple[int, Decimal], ...]
    peak_quote: Decimal


class OpenOrdersRead(_Event, frozen=True, tag=True):
    """A successful read of all open orders of one symbol. A failed read is `ReadFailed`, never an empty one."""

    symbol: str
    asked_at_ns: int
    orders: tuple[VenueOrder, ...]


class PositionRead(_Event, frozen=True, tag=True):
    """A successful read of one position. `qty_lots` is signed: + long, - short."""

    symbol: str
    asked_at_ns: int
    qty_lots: int
    entry_price: Decimal


class ReadFailed(_Event, frozen=True, tag=True):
    """A query that did not succeed. It says nothing about the account."""

    what: str
    symbol: str
    detail: str


class StreamUp(_Event, frozen=True, tag=True):
    """`stream`: public | private. For private: authenticated and subscribed; state is read after this."""

    stream: str


class StreamDown(_Event, frozen=True, tag=True):
    stream: str
    reason: str


class InstrumentsRead(_Event, frozen=True, tag=True):
    """Filters as the venue (source `fetched`) or the built-in table (`default_fallback`) gives them."""

    symbol: str
    tick_size: Decimal
    lot_size: Decimal
    qty_min: Decimal
    qty_max: Decimal
    notional_min_quote: Decimal
    category: str
    base: str
    quote: str
    source: str


Event = (
    Started
    | Ticked
    | GrantReceived
    | StopRequested
    | ResumeRequested
    | RearmRequested
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
