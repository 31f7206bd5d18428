"""Events from the venue: its answers, its private stream, and what was read there. See `bot.domain.events`."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec

from bot.domain.instrument import NO_COIN, Instrument
from bot.domain.order import Side
from bot.domain.quick_enum import quick
from bot.domain.told import Told

# ---- answers to what we sent --------------------------------------------------------------------------------------


class OrderAccepted(Told, frozen=True, tag=True):
    """The venue acknowledged a create. Confirmation follows on the private stream."""

    client_order_id: str
    venue_order_id: str


class OrderRefused(Told, frozen=True, tag=True):
    """Definite: it did not and will not happen. `post_only`: refused because it would have taken."""

    client_order_id: str
    code: int
    reason: str
    post_only: bool = False


class OrderUnreachable(Told, frozen=True, tag=True):
    """The request never left this machine: it did not happen."""

    client_order_id: str
    detail: str


class OrderUncertain(Told, frozen=True, tag=True):
    """It may have happened (time-out, 5xx, rate limit in flight, duplicate id): probe, never re-send blind."""

    client_order_id: str
    code: int
    detail: str


class CancelAnswered(Told, frozen=True, tag=True):
    """`outcome`: accepted | gone | refused | unreachable | unknown. `gone` is success: fills are swept."""

    client_order_id: str
    outcome: str
    detail: str = ""


class AmendAnswered(Told, frozen=True, tag=True):
    """`outcome`: accepted | gone | refused | unreachable | unknown.

    `wait_ms`: how long our own count of the venue's limits keeps it here; 0: it was not that.
    """

    client_order_id: str
    price_ticks: int
    qty_lots: int
    outcome: str
    detail: str = ""
    wait_ms: int = 0


class CancelAllAnswered(Told, frozen=True, tag=True):
    """The answer to one cancel-all under one idempotency key. `outcome` as in CancelAnswered."""

    key: str
    outcome: str
    detail: str = ""


# ---- private stream and reads -------------------------------------------------------------------------------------


@quick
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


class OrderUpdated(Told, frozen=True, tag=True):
    """The private stream's or a probe's word on an own order.

    `asked_at_ns`: when a probe asked for it, by the loop's clock; 0 where it was pushed, and in older journals.
    """

    order: VenueOrder
    asked_at_ns: int = 0


class OrderNotFound(Told, frozen=True, tag=True):
    """A probe found it neither among open orders nor in history. Final only after receive window + 2 s.

    `asked_at_ns`: when that was asked, by the loop's clock; 0 in older journals, where it is taken for the last probe.
    """

    client_order_id: str
    asked_at_ns: int = 0


class Filled(Told, frozen=True, tag=True):
    """One execution. `execution_id` is its identity: the same id again changes nothing.

    `price_ticks` may carry a wrong price from a faulty venue; `fee_quote` positive = paid, negative = rebate.
    `fee_base`: what of it was taken out of the coin itself (spot), base; already counted in `fee_quote` at the price.
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
    fee_base: Decimal = NO_COIN


class FundingPaid(Told, frozen=True, tag=True):
    """One funding settlement of one symbol. `funding_id` is its identity: the same id again changes nothing.

    `amount_quote` is signed: positive was received, negative paid.
    """

    funding_id: str
    symbol: str
    amount_quote: Decimal
    venue_at_ns: int


class ExecutionsSwept(Told, frozen=True, tag=True):
    """A read of executions that found some the private stream had not told; their `Filled` follow at once.

    `executions`: (execution id, the venue's time in ns) of each.
    """

    symbol: str
    asked_at_ns: int
    executions: tuple[tuple[str, int], ...]


class FeesRead(Told, frozen=True, tag=True):
    """Fee rates as the venue states them for this account. `maker_bps` is net of rebates, so it may be negative.

    `source`: `api:<exchange>:<symbol>`. A read that failed is `ReadFailed` with what = fees.
    """

    symbol: str
    maker_bps: Decimal
    taker_bps: Decimal
    source: str


class WalletRead(Told, frozen=True, tag=True):
    """The account as the venue states it, quote. `transfers_quote`: net paid in since any fixed moment, cumulative."""

    equity_quote: Decimal
    margin_used_quote: Decimal
    transfers_quote: Decimal = Decimal(0)


class EquityCarried(Told, frozen=True, tag=True):
    """The last 24 hours of this account under an earlier run, so that loss limits do not begin anew with a new one.

    `samples`: (at_ns, net result in quote), oldest first, last one newest; `peak_quote` on the same scale.
    """

    account: str
    samples: tuple[tuple[int, Decimal], ...]
    peak_quote: Decimal


class OpenOrdersRead(Told, frozen=True, tag=True):
    """A successful read of all open orders of one symbol. A failed read is `ReadFailed`, never an empty one."""

    symbol: str
    asked_at_ns: int
    orders: tuple[VenueOrder, ...]


class PositionRead(Told, frozen=True, tag=True):
    """A successful read of one position. `qty_lots` is signed: + long, - short.

    `dust_base`: what a wallet holds of the coin beyond whole lots (spot), base, at least 0 and below a lot.
    """

    symbol: str
    asked_at_ns: int
    qty_lots: int
    entry_price: Decimal
    dust_base: Decimal = NO_COIN


class ReadFailed(Told, frozen=True, tag=True):
    """A query that did not succeed. It says nothing about the account."""

    what: str
    symbol: str
    detail: str


class StreamUp(Told, frozen=True, tag=True):
    """`stream`: public | private. For private: authenticated and subscribed; state is read after this."""

    stream: str


class StreamDown(Told, frozen=True, tag=True):
    stream: str
    reason: str


class InstrumentsRead(Told, frozen=True, tag=True):
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


def instruments_read(instrument: Instrument, at_ns: int) -> InstrumentsRead:
    """The event that tells the engine of filters read from the venue."""
    return InstrumentsRead(
        at_ns,
        symbol=instrument.symbol,
        tick_size=instrument.tick_size,
        lot_size=instrument.lot_size,
        qty_min=instrument.qty_min,
        qty_max=instrument.qty_max,
        notional_min_quote=instrument.notional_min_quote,
        category=instrument.category,
        base=instrument.base,
        quote=instrument.quote,
        source="fetched",
    )
