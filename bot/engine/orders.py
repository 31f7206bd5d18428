"""Own orders: the table of what is out, and what it may cost at worst.

States and their rows live in `bot.domain.order`. Here an order also knows what the table of states cannot: the terms an
amend in flight would give it, how much of it the venue says is filled and how much of that has been accounted for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from bot.domain.order import TERMINAL, OrderHappening, OrderState, Side, next_state


class OwnOrder(msgspec.Struct):
    """One quote of ours. `qty_lots` is the whole quantity, filled part included, as the venue counts it.

    `sent_at_ns`: last create, amend or cancel. `confirmed`: seen on the private stream or in a read. `reported_lots`:
    filled by the venue's word; `executed_lots`: accounted for by executions. `pending_*`: terms of an amend whose
    outcome is open. `unwanted`: wherever it is found working, it is cancelled and never quoted with again.
    `operations`: amends and cancels sent, for their keys.
    """

    client_order_id: str
    symbol: str
    side: Side
    price_ticks: int
    qty_lots: int
    epoch: int
    created_at_ns: int
    sent_at_ns: int
    changed_at_ns: int
    state: OrderState = OrderState.PENDING_NEW
    venue_order_id: str = ""
    acknowledged: bool = False
    confirmed: bool = False
    executed_lots: int = 0
    reported_lots: int = 0
    pending_price_ticks: int | None = None
    pending_qty_lots: int | None = None
    amended_at_ns: int = 0
    cancel_sent_ns: int = 0
    answered_at_ns: int | None = None
    probe_due_ns: int | None = None
    probe_sent_ns: int = 0
    probes: int = 0
    finished_at_ns: int = 0
    taker_counted: bool = False
    unwanted: bool = False
    operations: int = 0

    @property
    def live(self) -> bool:
        """Working, in flight or unknown."""
        return self.state not in TERMINAL

    def next_key(self, what: str) -> str:
        """The idempotency key of the next amend (`a`) or cancel (`c`) of this order."""
        self.operations += 1
        return f"{self.client_order_id}.{what}{self.operations}"

    @property
    def remaining_lots(self) -> int:
        """What the venue could still fill by the terms last confirmed."""
        return max(0, self.qty_lots - max(self.executed_lots, self.reported_lots))

    @property
    def worst_qty_lots(self) -> int:
        """The larger of the confirmed quantity and the one an open amend would give."""
        return self.qty_lots if self.pending_qty_lots is None else max(self.qty_lots, self.pending_qty_lots)

    @property
    def exposed_lots(self) -> int:
        """What may still be added to the position: all that is open, and fills reported but not yet accounted for."""
        if self.live:
            return max(0, self.worst_qty_lots - self.executed_lots)
        return max(0, self.reported_lots - self.executed_lots)


class OrderTable:
    """All own orders of the run; finished ones leave after a while."""

    def __init__(self, symbols: Iterable[str]) -> None:
        self._orders: dict[str, OwnOrder] = {}
        self._counting: dict[str, dict[str, OwnOrder]] = {symbol: {} for symbol in symbols}
        self._finished: dict[str, int] = {}
        self.version: dict[str, int] = dict.fromkeys(self._counting, 0)
        """Rises with every change of a symbol's orders or position."""
        self.touched: set[str] = set(self._counting)
        """Symbols whose orders, position or mark changed; whoever adds exposures up clears it."""
        self._exposed: dict[str, tuple[int, int, int]] = {}

    def add(self, order: OwnOrder) -> None:
        """Raises ValueError where the client order id was used before."""
        if order.client_order_id in self._orders:
            raise ValueError(f"client order id {order.client_order_id} is in use")
        self._orders[order.client_order_id] = order
        self._counting[order.symbol][order.client_order_id] = order
        self.touch(order.symbol)

    def touch(self, symbol: str) -> None:
        """Something that exposure depends on has changed."""
        self.version[symbol] += 1
        self.touched.add(symbol)

    def get(self, client_order_id: str) -> OwnOrder | None:
        return self._orders.get(client_order_id)

    def happen(self, order: OwnOrder, happening: OrderHappening, at_ns: int) -> bool:
        """Move it along the table. True where that ended it. Raises IllegalTransition and changes nothing."""
        state = next_state(order.state, happening)
        was_live = order.live
        order.state = state
        order.changed_at_ns = at_ns
        if state in TERMINAL:
            order.probe_due_ns = None
            order.pending_price_ticks = order.pending_qty_lots = None
            if was_live:
                order.finished_at_ns = at_ns
                self._finished[order.client_order_id] = at_ns
        elif not was_live:  # found working, or filled, after its end: against the venue's own word
            self._finished.pop(order.client_order_id, None)
            order.finished_at_ns = 0
            order.unwanted = True
        self.recount(order)
        return was_live and not order.live

    def recount(self, order: OwnOrder) -> None:
        """Tell the table that an order's numbers changed."""
        counting = self._counting[order.symbol]
        if order.live or order.exposed_lots:
            counting[order.client_order_id] = order
        else:
            counting.pop(order.client_order_id, None)
        self.touch(order.symbol)

    def live(self, symbol: str) -> list[OwnOrder]:
        """Orders of that symbol that may still be at the venue, in the order of their creation."""
        return [order for order in self._counting[symbol].values() if order.live]

    def live_on(self, symbol: str, side: Side) -> list[OwnOrder]:
        return [
            order for order in self._counting[symbol].values() if order.side is side and order.state not in TERMINAL
        ]

    def all_live(self) -> Iterator[OwnOrder]:
        for counting in self._counting.values():
            for order in list(counting.values()):
                if order.live:
                    yield order

    def any_live(self) -> bool:
        return any(order.live for counting in self._counting.values() for order in counting.values())

    def active(self, symbol: str) -> int:
        """How many own orders are working, in flight or unknown."""
        number = 0
        for order in self._counting[symbol].values():
            if order.state not in TERMINAL:
                number += 1
        return number

    def exposed_lots(self, symbol: str) -> tuple[int, int]:
        """(buys, sells) at their worst case, lots."""
        known = self._exposed.get(symbol)
        version = self.version[symbol]
        if known is not None and known[0] == version:
            return known[1], known[2]
        buys = sells = 0
        for order in self._counting[symbol].values():
            if order.side is Side.BUY:
                buys += order.exposed_lots
            else:
                sells += order.exposed_lots
        self._exposed[symbol] = (version, buys, sells)
        return buys, sells

    def owing(self, symbol: str) -> bool:
        """Whether the venue reported fills whose executions have not come yet."""
        return any(order.reported_lots > order.executed_lots for order in self._counting[symbol].values())

    def forget_finished(self, before_ns: int) -> None:
        """Orders that finished before that leave memory, unless executions of theirs are still owed."""
        if not self._finished or next(iter(self._finished.values())) >= before_ns:
            return
        for client_order_id, finished_at_ns in list(self._finished.items()):
            if finished_at_ns >= before_ns:
                return
            order = self._orders[client_order_id]
            if order.exposed_lots and not order.live:
                continue
            del self._finished[client_order_id]
            del self._orders[client_order_id]

    def __len__(self) -> int:
        return len(self._orders)
