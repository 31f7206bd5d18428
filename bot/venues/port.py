"""What the bot needs of a venue, with three outcomes, and the family of errors.

    VenueError                   something at or on the way to the venue
    ├── VenueRefused             definite: it did not and will not happen        → re-decide
    ├── VenueUnreachable         the request never left: it did not happen       → try again later
    ├── VenueUnknown             it may have happened                            → probe, never re-send blind
    ├── VenueClockSkew           our timestamp was refused                       → resynchronise, then probe
    └── VenueGarbled             an answer we cannot decode; names the field     → treat as unknown, freeze the symbol

Mutations never raise for what a venue can answer: they return an `Outcome`. Reads raise a `VenueError`, because a
failed read says nothing: it is never "flat" and never "empty".
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from bot.domain.events import Event, Filled, FundingPaid, VenueOrder
from bot.domain.instrument import Instrument
from bot.domain.intent import AmendOrder, CancelOrder, PlaceOrder
from bot.domain.order import Side


class VenueError(Exception):
    """Something at or on the way to the venue. `code`: the venue's own number, 0 where there is none."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class VenueRefused(VenueError):
    """Definite: it did not and will not happen."""


class VenueUnreachable(VenueError):
    """The request never left this machine."""


class VenueUnknown(VenueError):
    """It may have happened."""


class VenueClockSkew(VenueError):
    """The venue refused our timestamp."""


class VenueGarbled(VenueError):
    """An answer that does not decode; the message names the field."""


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The venue took the request. `gone`: a cancel or amend of an order that had already ended (a cancel: success)."""

    venue_order_id: str = ""
    gone: bool = False
    count: int = 0
    """cancel_all: how many orders the venue says it cancelled."""


class Refused(msgspec.Struct, frozen=True, gc=False):
    """Definite. `post_only`: it would have taken. `scope`: what has to stop: order | symbol | account."""

    code: int
    reason: str
    post_only: bool = False
    scope: str = "order"


class Unreachable(msgspec.Struct, frozen=True, gc=False):
    """It did not happen. `wait_ms`: how long our own count of the venue's limits keeps it here; 0: it was not that."""

    detail: str
    wait_ms: int = 0


class Unknown(msgspec.Struct, frozen=True, gc=False):
    """It may have happened."""

    code: int
    detail: str


Outcome = Accepted | Refused | Unreachable | Unknown


Ended = Outcome | BaseException
"""What a mutation that was begun has come to: an exception is one that nobody expected."""


class Position(msgspec.Struct, frozen=True, gc=False):
    """One position; `qty` signed in base, + long, - short."""

    symbol: str
    qty: Decimal
    entry_price: Decimal


class Wallet(msgspec.Struct, frozen=True):
    """The account as the venue states it, quote. `transfers_quote`: net paid in since any fixed moment."""

    equity_quote: Decimal
    margin_used_quote: Decimal
    transfers_quote: Decimal


class FeeRates(msgspec.Struct, frozen=True):
    """Of one symbol, bps of notional; `maker_bps` below zero is a rebate. `source`: `api:<exchange>:<symbol>`."""

    maker_bps: Decimal
    taker_bps: Decimal
    source: str


class TopOfBook(msgspec.Struct, frozen=True, gc=False):
    """Best bid and ask as a REST read gives them, quote per base; `at_ms` is the venue's time."""

    symbol: str
    bid: Decimal
    ask: Decimal
    at_ms: int


class ImmediateOrder(msgspec.Struct, frozen=True, gc=False):
    """A reduce-only immediate-or-cancel order of the flatten class; never a quote."""

    client_order_id: str
    symbol: str
    side: Side
    qty: Decimal
    price_limit: Decimal


Sink = Callable[[Event], None]
"""Where streams put decoded events. Synchronous, never blocks: the engine decides before it returns."""


class BeginningPort(Protocol):
    """A port whose orders need no task of their own."""

    def begin(
        self,
        intent: PlaceOrder | AmendOrder | CancelOrder,
        instrument: Instrument | None,
        ended: Callable[[Ended], None],
    ) -> Future[Any] | None:
        """As `place`, `amend` and `cancel`, but nobody awaits it: `ended` is told what came of it, never before this
        has returned. It has left when this returns, or leaves in the loop's next turn where the transport needs a task.

        None: nothing was done, and the other way has to be gone. Who cancels the future gives it up, and `ended` is
        told of a CancelledError.
        """


class VenuePort(Protocol):
    """One authenticated account at one venue. Every call has its own time-out."""

    async def start(self, sink: Sink) -> None:
        """Connect: clock sync, instruments, streams (public; private: authenticate, subscribe, then StreamUp)."""

    async def close(self) -> None:
        """Close every connection. Cancels nothing."""

    async def instruments(self, symbols: Sequence[str]) -> dict[str, Instrument]:
        """Filters of these symbols. Raises VenueError; VenueRefused names a symbol the venue does not list."""

    async def place(self, intent: PlaceOrder, instrument: Instrument) -> Outcome:
        """Create a post-only limit order."""

    async def amend(self, intent: AmendOrder, instrument: Instrument) -> Outcome: ...

    async def cancel(self, intent: CancelOrder) -> Outcome:
        """Cancel one order. One already gone is Accepted(gone=True)."""

    async def cancel_all(self, symbol: str) -> Outcome:
        """Cancel all orders of that symbol, whoever of this account sent them."""

    async def place_immediate(self, order: ImmediateOrder) -> Outcome:
        """Reduce-only immediate-or-cancel, for flattening."""

    async def order(self, symbol: str, client_order_id: str, instrument: Instrument) -> VenueOrder | None:
        """Open orders, then history. None: in neither (final only after receive window + 2 s)."""

    async def open_orders(self, symbol: str, instrument: Instrument) -> list[VenueOrder]:
        """All pages. Raises VenueError; never an empty list for a read that failed."""

    async def executions(self, symbol: str, since_ms: int, instrument: Instrument) -> list[Filled | FundingPaid]:
        """Fills and funding settlements since then, oldest first. Raises VenueError."""

    async def wallet(self, instrument: Instrument) -> Wallet:
        """The account's statement in that instrument's quote currency. Raises VenueError."""

    async def fee_rates(self, symbol: str) -> FeeRates:
        """This account's fees. Raises VenueError."""

    async def position(self, symbol: str) -> Position: ...

    async def top_of_book(self, symbol: str) -> TopOfBook: ...

    async def server_time_ms(self) -> int: ...

    def resync(self, symbol: str) -> None:
        """Ask the stream for a fresh snapshot."""
