"""The venue's objects as the engine's events, without JSON between. The wire lane says the same by another road."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from bot.domain import events as ev
from bot.domain.instrument import Instrument
from bot.simulator.accounts import Account
from bot.simulator.bybit_access import V5Error
from bot.simulator.bybit_messages import REJECT_REASONS, text
from bot.simulator.depth import DepthMessage
from bot.simulator.funding import Funding
from bot.simulator.orders import EndReason, Executed, Execution, Order, OrderChanged, PublicTrade, Status
from bot.simulator.venue import Venue
from bot.venues.bybit.codes import Meaning, meaning

Words = Callable[[int, Instrument, Any, int], list[Any]]
"""(received at, instrument, what, the venue's time in whole milliseconds) → events of one message."""

_NS_PER_MS = 1_000_000
_STATUSES = {
    Status.NEW: ev.OrderStatus.WORKING,
    Status.PARTLY_FILLED: ev.OrderStatus.WORKING,
    Status.FILLED: ev.OrderStatus.FILLED,
    Status.CANCELLED: ev.OrderStatus.CANCELLED,
}


def trade(at_ns: int, instrument: Instrument, last: PublicTrade, _venue_at_ns: int) -> list[ev.TradePrinted]:
    """The newest print of a message, as the adapter tells it."""
    venue_at_ns = last.at_ns // _NS_PER_MS * _NS_PER_MS
    return [ev.TradePrinted(at_ns, instrument.symbol, last.price_ticks, last.lots, last.taker, venue_at_ns)]


def book(
    at_ns: int, instrument: Instrument, what: DepthMessage, venue_at_ns: int
) -> list[ev.BookSnapshot | ev.BookDelta]:
    symbol = instrument.symbol
    if what.is_snapshot:
        bids, asks = tuple(sorted(what.bids, reverse=True)), tuple(sorted(what.asks))
        return [ev.BookSnapshot(at_ns, symbol, bids, asks, what.update_id, venue_at_ns)]
    return [ev.BookDelta(at_ns, symbol, tuple(what.bids), tuple(what.asks), what.update_id, venue_at_ns)]


def account(
    at_ns: int, instrument: Instrument, what: list[OrderChanged | Executed], _venue_at_ns: int
) -> list[ev.OrderUpdated | ev.Filled | ev.FundingPaid]:
    return [
        ev.OrderUpdated(at_ns, venue_order(instrument, happening.order))
        if type(happening) is OrderChanged
        else execution(at_ns, instrument, happening.execution)  # type: ignore[union-attr]  # the other of the two
        for happening in what
    ]


def stream_up(at_ns: int, _instrument: Instrument, what: str, _venue_at_ns: int) -> list[ev.StreamUp]:
    return [ev.StreamUp(at_ns, what)]


def venue_order(instrument: Instrument, order: Order) -> ev.VenueOrder:
    would_take = order.end_reason is EndReason.POST_ONLY_WOULD_TAKE
    reason = REJECT_REASONS[order.end_reason]
    return ev.VenueOrder(
        instrument.symbol,
        order.link_id,
        order.order_id,
        order.side,
        order.price_ticks,
        order.qty_lots,
        order.filled_lots,
        ev.OrderStatus.REJECTED if would_take else _STATUSES[order.status],
        "" if reason == "EC_NoError" else reason,
        would_take,
    )


def execution(at_ns: int, instrument: Instrument, found: Execution | Funding) -> ev.Filled | ev.FundingPaid:
    if isinstance(found, Execution):
        return fill(at_ns, instrument, found)
    paid_quote = Decimal(text(found.paid_quote))
    venue_at_ns = found.at_ns // _NS_PER_MS * _NS_PER_MS
    return ev.FundingPaid(at_ns, found.execution_id, instrument.symbol, -paid_quote, venue_at_ns)


def fill(at_ns: int, instrument: Instrument, found: Execution) -> ev.Filled:
    return ev.Filled(
        at_ns,
        found.execution_id,
        found.link_id,
        found.order_id,
        instrument.symbol,
        found.side,
        instrument.price(found.price_ticks),
        found.lots,
        found.fee_quote,
        found.is_maker,
        found.at_ns // _NS_PER_MS * _NS_PER_MS,
    )


def received(told: ev.Filled | ev.FundingPaid, at_ns: int) -> ev.Filled | ev.FundingPaid:
    """The same execution, received then."""
    return msgspec.structs.replace(told, at_ns=at_ns)


def wallet(venue: Venue, account_: Account) -> tuple[Decimal, Decimal, Decimal]:
    """(equity, margin in use, net paid in), quote, as the statement has them."""
    half = venue.mark_half_ticks
    balance, realised = Decimal(text(account_.wallet_quote)), Decimal(text(account_.realised_quote))
    used = Decimal(text(account_.margin_used_quote(half)))
    return Decimal(text(account_.equity_quote(half))), used, balance - realised


def fees(venue: Venue) -> tuple[Decimal, Decimal]:
    """(maker, taker), bps."""
    return Decimal(text(venue.fees.maker)) * 10_000, Decimal(text(venue.fees.taker)) * 10_000


def position(account_: Account) -> tuple[int, Decimal]:
    """(signed lots, entry price as the venue would print it)."""
    lots = account_.position.lots
    return lots, Decimal(text(account_.entry_price().normalize())) if lots else Decimal(0)


class NotLeft(V5Error):
    """No answer at all: its endpoint takes no more just now, so it was not sent. The message says for how long."""

    def __init__(self, message: str, wait_ms: int = 0) -> None:
        super().__init__(0, message)
        self.wait_ms = wait_ms


def created(at_ns: int, client_order_id: str, answer: Order | V5Error) -> Any:
    """What a create came to."""
    if not isinstance(answer, V5Error):
        return ev.OrderAccepted(at_ns, client_order_id, answer.order_id)
    if isinstance(answer, NotLeft):
        return ev.OrderUnreachable(at_ns, client_order_id, answer.message)
    detail = f"{answer.code} {answer.message}"
    if meaning(answer.code) is Meaning.REFUSED:
        return ev.OrderRefused(at_ns, client_order_id, answer.code, detail)
    return ev.OrderUncertain(at_ns, client_order_id, answer.code, detail)


def of_existing(answer: V5Error | None) -> tuple[str, str]:
    """(outcome, detail) of an amend, a cancel or a cancel-all."""
    if answer is None:
        return "accepted", ""
    if isinstance(answer, NotLeft):
        return "unreachable", answer.message
    match meaning(answer.code):
        case Meaning.GONE:
            return "gone", ""
        case Meaning.REFUSED:
            return "refused", f"{answer.code} {answer.code} {answer.message}"
        case _:
            return "unknown", f"{answer.code} {answer.code} {answer.message}"
