"""Cancelling what is ours and nothing else: the venue's cancel-all asks nobody whose an order is.

It is used where no order of others is known to stand: by the newest read of the symbol and what the private stream has
told since. Where one stands, and where nothing was read since that stream came up (unknown is not no), open orders are
read and our own are cancelled one by one. Where even that read fails, what was sent from here and not heard to end is
cancelled by its own id; the answer is then as unknown as the read. An account that is ours alone (`foreign_orders:
cancel`) spares the question.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

from bot.domain.events import Event, OrderStatus, OrderUpdated, StreamDown, StreamUp, VenueOrder
from bot.domain.instrument import Instrument, NotOnGrid, unlisted
from bot.domain.intent import CancelOrder
from bot.domain.order import OWN_PREFIX
from bot.venues.port import Accepted, Outcome, Refused, Unknown, Unreachable, VenueError, VenuePort, VenueUnreachable

LATELY_KEPT: Final = 256
SENT_KEPT: Final = 256
"""Far more than may stand at once."""
_ORDER_UPDATED: Final = OrderUpdated
_STREAM_UP: Final = StreamUp
_STREAM_DOWN: Final = StreamDown
_WORKING: Final = OrderStatus.WORKING
_SEVERITY: Final = (Accepted, Refused, Unreachable, Unknown)


class Strangers:
    """Orders of others on the account, as far as is known: nothing while the private stream is down."""

    def __init__(self) -> None:
        self._standing: dict[str, set[str]] = {}
        """symbol → venue ids of others' orders that stand; a symbol that was not read yet is absent"""
        self._lately: deque[tuple[int, VenueOrder]] = deque(maxlen=LATELY_KEPT)
        self.told = 0
        """How often the stream has told of an order of others, or that it is up; see `read`."""
        self._up_at: int | None = None
        """`told` when the private stream came up; None while it is down"""

    def note(self, event: Event) -> None:
        """What of others is told by any event."""
        kind = type(event)
        if kind is _ORDER_UPDATED:
            self.heard(event.order)  # type: ignore[union-attr]  # it is one
        elif kind is _STREAM_UP and event.stream == "private":  # type: ignore[union-attr]  # as above
            self.stream_up()
        elif kind is _STREAM_DOWN and event.stream == "private":  # type: ignore[union-attr]  # as above
            self.stream_down()

    def stream_up(self) -> None:
        """The private stream is subscribed: from now on it tells of every order of others, of none before."""
        self.told += 1
        self._up_at = self.told
        self._standing.clear()

    def stream_down(self) -> None:
        """What comes now is told to nobody, so what was known is worth nothing."""
        self._up_at = None
        self._standing.clear()

    def read(self, symbol: str, orders: Iterable[VenueOrder], asked_at: int | None = None) -> None:
        """A read of open orders, all pages. `asked_at`: `told` when it was asked; None: nothing was told since.

        The stream may overtake the answer: what it has told since then is newer. One that was asked while the stream
        was down says nothing of what came between.
        """
        if self._up_at is None or (asked_at is not None and asked_at < self._up_at):
            return
        standing = {order.venue_order_id for order in orders if not is_ours(order.client_order_id) and _stands(order)}
        since = 0 if asked_at is None else self.told - asked_at
        if since > len(self._lately):
            self._standing.pop(symbol, None)  # more was told than is remembered: unknown again
            return
        self._standing[symbol] = standing
        for number, order in list(self._lately):
            if number > self.told - since and order.symbol == symbol:
                self._put(standing, order)

    def heard(self, order: VenueOrder) -> None:
        """The private stream's word on an order, whoever's."""
        if is_ours(order.client_order_id):
            return
        self.told += 1
        self._lately.append((self.told, order))
        standing = self._standing.get(order.symbol)
        if standing is not None:
            self._put(standing, order)

    @staticmethod
    def _put(standing: set[str], order: VenueOrder) -> None:
        if _stands(order):
            standing.add(order.venue_order_id)
        else:
            standing.discard(order.venue_order_id)

    def none_stands(self, symbol: str) -> bool:
        """True only where a read showed none and the stream has told of none since."""
        return self._standing.get(symbol) == set()


class OwnOrders:
    """Of one account. `instruments`: filters as they become known, by symbol."""

    def __init__(
        self, port: VenuePort, instruments: Mapping[str, Instrument], now_ns: Callable[[], int], *, alone: bool
    ) -> None:
        self._port = port
        self._instruments = instruments
        self._now_ns = now_ns
        self._alone = alone
        self._sent: OrderedDict[str, str] = OrderedDict()
        """client order id → symbol of what was sent from here and not heard to end, oldest first"""
        self.strangers = Strangers()

    def sent(self, symbol: str, client_order_id: str) -> None:
        """An order is about to leave."""
        self._sent[client_order_id] = symbol
        while len(self._sent) > SENT_KEPT:
            self._sent.popitem(last=False)

    def ended(self, client_order_id: str) -> None:
        """That order does not stand, or never did."""
        self._sent.pop(client_order_id, None)

    def note(self, event: Event) -> None:
        """What the private stream tells of orders, whoever's, and whether it can."""
        if type(event) is _ORDER_UPDATED and not _stands(event.order):
            self.ended(event.order.client_order_id)
        self.strangers.note(event)

    def cancel_all(self, symbol: str) -> asyncio.Task[Outcome]:
        """Starts it at once: a task of its own is ahead of whatever is started after it in the same turn."""
        alone = self._alone or self.strangers.none_stands(symbol)
        work: Awaitable[Outcome] = self._port.cancel_all(symbol) if alone else self._one_by_one(symbol)
        return asyncio.get_running_loop().create_task(_outcome(work))

    async def _one_by_one(self, symbol: str) -> Outcome:
        instrument = self._instruments.get(symbol) or unlisted(symbol)  # an earlier process may have sent something
        asked_at = self.strangers.told
        orders: list[VenueOrder] = []
        failed: Outcome | None = None
        try:
            orders = await self._port.open_orders(symbol, instrument)
        except VenueUnreachable as unreachable:
            failed = Unreachable(str(unreachable))
        except (VenueError, NotOnGrid) as error:
            failed = Unknown(getattr(error, "code", 0), f"open orders of {symbol} could not be read: {error}")
        if failed is not None:
            await self._cancel_sent(symbol)
            return failed
        self.strangers.read(symbol, orders, asked_at)
        now_ns = self._now_ns()
        cancels = [
            self._port.cancel(CancelOrder(now_ns, order.client_order_id, symbol, order.venue_order_id, ""))
            for order in orders
            if _stands(order) and is_ours(order.client_order_id)
        ]
        outcomes = [Accepted(count=len(cancels)), *await asyncio.gather(*cancels)]
        return max(outcomes, key=lambda outcome: _SEVERITY.index(type(outcome)))

    async def _cancel_sent(self, symbol: str) -> None:
        """By the ids under which they were sent; what comes of it is for the next read to show."""
        names = [name for name, where in self._sent.items() if where == symbol]
        cancels = [self._port.cancel(CancelOrder(self._now_ns(), name, symbol, "", "")) for name in names]
        await asyncio.gather(*cancels)


def is_ours(client_order_id: str) -> bool:
    """By the prefix that every order of ours carries."""
    return client_order_id.startswith(OWN_PREFIX)


def _stands(order: VenueOrder) -> bool:
    return order.status is _WORKING


async def _outcome(work: Awaitable[Outcome]) -> Outcome:
    return await work
