"""The venue's objects as the engine's events, without JSON between. The wire lane says the same by another road."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from bot.domain import events as ev
from bot.domain.instrument import Instrument
from bot.simulator.accounts import Account
from bot.simulator.bybit_access import V5Error
from bot.simulator.bybit_messages import REJECT_REASONS
from bot.simulator.depth import DepthMessage
from bot.simulator.funding import Funding
from bot.simulator.orders import EndReason, Execution, Order, PublicTrade, Status, TimeInForce
from bot.simulator.venue import Venue
from bot.venues.bybit.codes import Meaning, meaning

_NS_PER_MS: Final = 1_000_000
POST_ONLY: Final = TimeInForce.POST_ONLY
IOC: Final = TimeInForce.IOC
_NEW: Final = Status.NEW
_PARTLY_FILLED: Final = Status.PARTLY_FILLED
_FILLED: Final = Status.FILLED
_NOT_ENDED: Final = EndReason.NONE
_WOULD_TAKE: Final = EndReason.POST_ONLY_WOULD_TAKE
_STANDS: Final = ev.OrderStatus.WORKING
_IS_FILLED: Final = ev.OrderStatus.FILLED
_IS_CANCELLED: Final = ev.OrderStatus.CANCELLED
_IS_REJECTED: Final = ev.OrderStatus.REJECTED
_NO_ERROR: Final = "EC_NoError"
_ORDER_ACCEPTED: Final = ev.OrderAccepted
_VENUE_ORDER: Final = ev.VenueOrder
_BOOK_DELTA: Final = ev.BookDelta
_TRADE_PRINTED: Final = ev.TradePrinted
_FILL: Final = ev.Filled
"""Names that are looked up once, not with every message."""


def whole_ms_ns(at_ns: int) -> int:
    """In whole milliseconds, as the venue's messages have it. A product of numbers this large would cost far more."""
    return at_ns - at_ns % _NS_PER_MS


def _printed(value: Decimal) -> Decimal:
    """As it comes back from the venue's print, which has no exponent."""
    return Decimal(format(value, "f")) if "E" in str(value) else value


def trade(at_ns: Any, symbol: str, last: PublicTrade) -> ev.TradePrinted:
    """The newest print of a message, as the adapter tells it; `at_ns`: when it is received."""
    return _TRADE_PRINTED(at_ns, symbol, last.price_ticks, last.lots, last.taker, whole_ms_ns(last.at_ns))


def book(at_ns: Any, symbol: str, what: DepthMessage, venue_at_ns: int) -> ev.BookSnapshot | ev.BookDelta:
    """A message of the book; `venue_at_ns` in whole milliseconds."""
    if what.is_snapshot:
        bids, asks = tuple(sorted(what.bids, reverse=True)), tuple(sorted(what.asks))
        return ev.BookSnapshot(at_ns, symbol, bids, asks, what.update_id, venue_at_ns)
    return _BOOK_DELTA(at_ns, symbol, tuple(what.bids), tuple(what.asks), what.update_id, venue_at_ns)


def venue_order(symbol: str, order: Order) -> ev.VenueOrder:
    end_reason, status = order.end_reason, order.status
    if end_reason is _NOT_ENDED and (status is _NEW or status is _PARTLY_FILLED):
        return _VENUE_ORDER(
            symbol, order.link_id, order.order_id, order.side, order.price_ticks, order.qty_lots, order.filled_lots,
            _STANDS,
        )  # fmt: skip
    reason = "" if end_reason is _NOT_ENDED else REJECT_REASONS[end_reason]
    would_take = end_reason is _WOULD_TAKE
    told = _IS_CANCELLED
    if would_take:
        told = _IS_REJECTED
    elif status is _NEW or status is _PARTLY_FILLED:
        told = _STANDS
    elif status is _FILLED:
        told = _IS_FILLED
    return _VENUE_ORDER(
        symbol,
        order.link_id,
        order.order_id,
        order.side,
        order.price_ticks,
        order.qty_lots,
        order.filled_lots,
        told,
        "" if reason == _NO_ERROR else reason,
        would_take,
    )


def execution(at_ns: Any, instrument: Instrument, found: Execution | Funding) -> ev.Filled | ev.FundingPaid:
    if isinstance(found, Execution):
        return fill(at_ns, instrument, found)
    paid_quote = _printed(found.paid_quote)
    return ev.FundingPaid(at_ns, found.execution_id, instrument.symbol, -paid_quote, whole_ms_ns(found.at_ns))


def fill(at_ns: Any, instrument: Instrument, found: Execution) -> ev.Filled:
    return _FILL(
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
        whole_ms_ns(found.at_ns),
    )


def wallet(venue: Venue, account_: Account) -> tuple[Decimal, Decimal, Decimal]:
    """(equity, margin in use, net paid in), quote, as the statement has them."""
    half = venue.mark_half_ticks
    balance, realised = _printed(account_.wallet_quote), _printed(account_.realised_quote)
    used = _printed(account_.margin_used_quote(half))
    return _printed(account_.equity_quote(half)), used, balance - realised


def fees(venue: Venue) -> tuple[Decimal, Decimal]:
    """(maker, taker), bps."""
    return _printed(venue.fees.maker) * 10_000, _printed(venue.fees.taker) * 10_000


def position(account_: Account) -> tuple[int, Decimal]:
    """(signed lots, entry price as the venue would print it)."""
    lots = account_.position.lots
    return lots, _printed(account_.entry_price().normalize()) if lots else Decimal(0)


class NotLeft(V5Error):
    """No answer at all: its endpoint takes no more just now, so it was not sent. The message says for how long."""

    def __init__(self, message: str, wait_ms: int = 0) -> None:
        super().__init__(0, message)
        self.wait_ms = wait_ms


def created(at_ns: int, client_order_id: str, order_id: str, error: V5Error | None) -> Any:
    """What a create came to: its order, or the error."""
    if error is None:
        return _ORDER_ACCEPTED(at_ns, client_order_id, order_id)
    if isinstance(error, NotLeft):
        return ev.OrderUnreachable(at_ns, client_order_id, error.message)
    detail = f"{error.code} {error.message}"
    if meaning(error.code) is Meaning.REFUSED:
        return ev.OrderRefused(at_ns, client_order_id, error.code, detail)
    return ev.OrderUncertain(at_ns, client_order_id, error.code, detail)


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
