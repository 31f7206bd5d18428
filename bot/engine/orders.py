"""Own orders: the table of what is out, and what it may cost at worst.

States and their rows live in `bot.domain.order`. Here an order also knows what the table of states cannot: the terms an
amend in flight would give it, how much of it the venue says is filled and how much of that has been accounted for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from bot.domain.order import TERMINAL, TRANSITIONS, OrderHappening, OrderState, Side, next_state
from bot.engine.budgets import BackOff

_BUY: Final = Side.BUY
_PENDING_NEW: Final = OrderState.PENDING_NEW
_WORKING: Final = OrderState.WORKING
_PENDING_AMEND: Final = OrderState.PENDING_AMEND
_FILLED: Final = OrderState.FILLED
_CANCELLED: Final = OrderState.CANCELLED
_REJECTED: Final = OrderState.REJECTED
OUT: Final = frozenset({_WORKING, _PENDING_AMEND})
"""States in which the venue has the order in its book, as far as we know."""

NONE_ASKED: Final = -1
"""Terms of an amend that is not there; no price and no quantity is negative."""

NO_ANSWER: Final = -1
"""`answered_at_ns` of an order whose last create, amend or cancel has no answer yet."""

# the two rows that nearly every step goes by, looked up once
_AMEND_SENT: Final = OrderHappening.AMEND_SENT
_AMENDED: Final = OrderHappening.AMENDED
_AFTER_AMEND_SENT: Final = TRANSITIONS[_WORKING, _AMEND_SENT]
_AFTER_AMENDED: Final = TRANSITIONS[_PENDING_AMEND, _AMENDED]


class SymbolOrders:
    """One symbol's orders that may still cost something, and what they come to.

    `counting`: by client order id, in the order of their creation: live ones, and ended ones of which fills were
    reported whose executions have not come. `buys`, `sells`: the live ones, lists that are replaced and never changed.
    `buys_lots`, `sells_lots`: the worst case of each side. `version` rises with every change of orders or position.
    `is_touched`: whether the symbol is one of `OrderTable.touched`.
    """

    __slots__ = (
        "buys",
        "buys_back_off",
        "buys_lots",
        "counting",
        "is_touched",
        "sells",
        "sells_back_off",
        "sells_lots",
        "version",
    )

    def __init__(self) -> None:
        self.counting: dict[str, OwnOrder] = {}
        self.buys: list[OwnOrder] = []
        self.sells: list[OwnOrder] = []
        self.buys_lots = 0
        self.sells_lots = 0
        self.version = 0
        self.is_touched = True
        self.buys_back_off = BackOff()
        self.sells_back_off = BackOff()

    def back_off(self, side: Side) -> BackOff:
        """How long that side waits."""
        return self.buys_back_off if side is _BUY else self.sells_back_off

    def relist(self) -> None:
        """Some order has begun or ended."""
        live = [order for order in self.counting.values() if order.live]
        self.buys = [order for order in live if order.side is _BUY]
        self.sells = [order for order in live if order.side is not _BUY]


_NO_SYMBOL: Final = SymbolOrders()
"""Of an order that is in no table yet."""


class OwnOrder:
    """One quote of ours. `qty_lots` is the whole quantity, filled part included, as the venue counts it.

    `sent_at_ns`: last create, amend or cancel. `confirmed`: seen on the private stream or in a read. `reported_lots`:
    filled by the venue's word; `executed_lots`: accounted for by executions. `asked_ticks`, `asked_lots`: terms of an
    amend whose outcome is open, NONE_ASKED where none is; `pending_*`: the same, None for that. `amended_before_ns`:
    what `amended_at_ns` was before the last amend, which may not have left.
    `unwanted`: wherever it is found working, it is cancelled and never quoted with again.
    `absent_ns`: when the last question was asked to which the venue said that it knows no such order. `shown_ns`: when
    the venue last said that it works: when that was heard, or, of a read of open orders, when it was asked for.
    `terms_told_ns`: when the venue told the terms that it has: when that was heard, or, of a probe, when it was asked.
    `operations`: amends and cancels sent, for their keys. `counted_lots`, `counted_live`: as its symbol's sums have it.
    """

    __slots__ = (
        "absent_ns", "acknowledged", "amend_key", "amended_at_ns", "amended_before_ns", "answered_at_ns", "asked_lots",
        "asked_ticks", "cancel_sent_ns", "changed_at_ns", "client_order_id", "confirmed", "counted_live",
        "counted_lots", "created_at_ns", "epoch", "executed_lots", "finished_at_ns", "of", "operations", "price_ticks",
        "probe_due_ns", "probe_sent_ns", "probes", "qty_lots", "reported_lots", "sent_at_ns", "shown_ns", "side",
        "state", "symbol", "taker_counted", "terms", "terms_told_ns", "unwanted", "venue_order_id",
    )  # fmt: skip

    def __init__(
        self, client_order_id: str, symbol: str, side: Side, price_ticks: int, qty_lots: int, epoch: int,
        created_at_ns: int, sent_at_ns: int, changed_at_ns: int, state: OrderState = _PENDING_NEW,
    ) -> None:  # fmt: skip
        self.client_order_id = client_order_id
        self.symbol = symbol
        self.side = side
        self.price_ticks = price_ticks
        self.qty_lots = qty_lots
        self.epoch = epoch
        self.created_at_ns = created_at_ns
        self.sent_at_ns = sent_at_ns
        self.changed_at_ns = changed_at_ns
        self.state = state
        self.venue_order_id = ""
        self.acknowledged = False
        self.confirmed = False
        self.executed_lots = 0
        self.reported_lots = 0
        self.asked_ticks = self.asked_lots = NONE_ASKED
        self.amended_at_ns = 0
        self.amended_before_ns = 0
        self.cancel_sent_ns = 0
        self.answered_at_ns = NO_ANSWER
        self.probe_due_ns: int | None = None
        self.probe_sent_ns = 0
        self.absent_ns = 0
        self.shown_ns = 0
        self.terms_told_ns = 0
        self.probes = 0
        self.finished_at_ns = 0
        self.taker_counted = False
        self.unwanted = False
        self.operations = 0
        self.counted_lots = 0
        self.counted_live = False
        self.of = _NO_SYMBOL
        """all orders of its symbol, once it is in a table"""
        self.amend_key = f"{client_order_id}.a"
        self.terms: dict[str, Any] = {
            "client_order_id": client_order_id,
            "symbol": symbol,
            "side": "buy" if side is _BUY else "sell",
            "price_ticks": price_ticks,
            "qty_lots": qty_lots,
        }
        """as it was placed, for notes: to be copied only"""

    @property
    def pending_price_ticks(self) -> int | None:
        return None if self.asked_ticks == NONE_ASKED else self.asked_ticks

    @property
    def pending_qty_lots(self) -> int | None:
        return None if self.asked_lots == NONE_ASKED else self.asked_lots

    @property
    def live(self) -> bool:
        """Working, in flight or unknown."""
        state = self.state
        return state is _WORKING or (state is not _FILLED and state is not _CANCELLED and state is not _REJECTED)

    def is_unseen(self, since_ns: int) -> bool:
        """Whether the venue has never said a word of it, and asked after `since_ns` knew nothing: it may still come."""
        return not self.acknowledged and not self.confirmed and self.absent_ns > max(since_ns, self.created_at_ns)

    def next_amend_key(self) -> str:
        """The idempotency key of the next amend of this order."""
        self.operations += 1
        return self.amend_key + str(self.operations)

    def next_cancel_key(self) -> str:
        """The same of a cancel."""
        self.operations += 1
        return f"{self.client_order_id}.c{self.operations}"

    @property
    def remaining_lots(self) -> int:
        """What the venue could still fill by the terms last confirmed."""
        filled_lots = self.executed_lots if self.executed_lots > self.reported_lots else self.reported_lots
        return self.qty_lots - filled_lots if self.qty_lots > filled_lots else 0

    @property
    def worst_qty_lots(self) -> int:
        """The larger of the confirmed quantity and the one an open amend would give."""
        return max(self.qty_lots, self.asked_lots)

    @property
    def exposed_lots(self) -> int:
        """What may still be added to the position: all that is open, and fills reported but not yet accounted for."""
        state = self.state
        if state is _FILLED or state is _CANCELLED or state is _REJECTED:
            lots = self.reported_lots
        elif self.asked_lots > self.qty_lots:
            lots = self.asked_lots
        else:
            lots = self.qty_lots
        return lots - self.executed_lots if lots > self.executed_lots else 0


class OrderTable:
    """All own orders of the run; finished ones leave after a while."""

    def __init__(self, symbols: Iterable[str]) -> None:
        self._orders: dict[str, OwnOrder] = {}
        self.by_id = self._orders
        """client order id → order, until it is forgotten; to look at only"""
        self.of: dict[str, SymbolOrders] = {symbol: SymbolOrders() for symbol in symbols}
        self._finished: dict[str, int] = {}
        self.finished_first_ns = 0
        """No order that is still here has ended before; 0: none has ended."""
        self.touched: set[str] = set(self.of)
        """Symbols whose orders, position or mark changed; whoever adds exposures up takes them out (`untouch`)."""
        self.sides_version = 0
        """Rises where a symbol may have become quoted on more or fewer sides."""

    def get(self, client_order_id: str) -> OwnOrder | None:
        """None where it is not known or was forgotten."""
        return self._orders.get(client_order_id)

    def add(self, order: OwnOrder) -> None:
        """Raises ValueError where the client order id was used before."""
        if order.client_order_id in self._orders:
            raise ValueError(f"client order id {order.client_order_id} is in use")
        self._orders[order.client_order_id] = order
        order.of = self.of[order.symbol]
        order.of.counting[order.client_order_id] = order
        self.recount(order)

    def touch(self, symbol: str) -> None:
        """Something that exposure depends on has changed."""
        of = self.of[symbol]
        of.version += 1
        self.marked(symbol, of)

    def marked(self, symbol: str, of: SymbolOrders) -> None:
        """That symbol's mark has changed, or something beside it."""
        if not of.is_touched:
            of.is_touched = True
            self.touched.add(symbol)

    def untouch(self) -> None:
        """All of them have been looked at."""
        for symbol in self.touched:
            self.of[symbol].is_touched = False
        self.touched.clear()

    def happen(self, order: OwnOrder, happening: OrderHappening, at_ns: int) -> bool:
        """Move it along the table. True where that ended it. Raises IllegalTransition and changes nothing."""
        before = order.state
        state = next_state(before, happening)
        was_live = before not in TERMINAL
        order.state = state
        order.changed_at_ns = at_ns
        if state in TERMINAL:
            order.probe_due_ns = None
            order.asked_ticks = order.asked_lots = NONE_ASKED
            if was_live:
                order.finished_at_ns = at_ns
                self._finished[order.client_order_id] = at_ns
                if not self.finished_first_ns:
                    self.finished_first_ns = at_ns
        elif not was_live:  # found working, or filled, after its end: against the venue's own word
            self._finished.pop(order.client_order_id, None)
            order.finished_at_ns = 0
            order.unwanted = True
        if (before in OUT) is not (state in OUT):
            self.sides_version += 1
        self.recount(order)
        return was_live and state in TERMINAL

    def amend(self, order: OwnOrder, price_ticks: int, qty_lots: int, at_ns: int) -> None:
        """An amend to these terms leaves. Raises IllegalTransition and changes nothing."""
        order.state = _AFTER_AMEND_SENT if order.state is _WORKING else next_state(order.state, _AMEND_SENT)
        order.amended_before_ns = order.amended_at_ns
        order.changed_at_ns = order.sent_at_ns = order.amended_at_ns = at_ns
        order.answered_at_ns = NO_ANSWER
        order.asked_ticks = price_ticks
        order.asked_lots = qty_lots
        if qty_lots > order.qty_lots:
            self.recount(order)
            return
        of = order.of  # at worst it stays as it was
        of.version += 1
        if not of.is_touched:
            self.marked(order.symbol, of)

    def amended(self, order: OwnOrder, at_ns: int) -> None:
        """The venue has the terms of the amend in flight. Raises IllegalTransition and changes nothing."""
        order.state = _AFTER_AMENDED if order.state is _PENDING_AMEND else next_state(order.state, _AMENDED)
        order.changed_at_ns = order.shown_ns = order.terms_told_ns = at_ns
        if order.asked_ticks != NONE_ASKED:
            order.price_ticks = order.asked_ticks
            order.qty_lots = order.asked_lots
            order.asked_ticks = order.asked_lots = NONE_ASKED
        order.probe_due_ns = None
        order.answered_at_ns = NO_ANSWER
        if order.qty_lots - order.executed_lots != order.counted_lots:
            self.recount(order)
            return
        of = order.of
        of.version += 1
        if not of.is_touched:
            self.marked(order.symbol, of)

    def recount(self, order: OwnOrder) -> None:
        """Tell the table that an order's numbers changed."""
        of = order.of
        lots = order.exposed_lots
        if lots != order.counted_lots:
            if order.side is _BUY:
                of.buys_lots += lots - order.counted_lots
            else:
                of.sells_lots += lots - order.counted_lots
            order.counted_lots = lots
        live = order.live
        if live is not order.counted_live:
            order.counted_live = live
            if live:
                of.counting[order.client_order_id] = order
            of.relist()
        if not live:
            if lots:
                of.counting[order.client_order_id] = order
            else:
                of.counting.pop(order.client_order_id, None)
        of.version += 1
        self.marked(order.symbol, of)

    def live(self, symbol: str) -> list[OwnOrder]:
        """Orders of that symbol that may still be at the venue, in the order of their creation."""
        return [order for order in self.of[symbol].counting.values() if order.live]

    def live_on(self, symbol: str, side: Side) -> list[OwnOrder]:
        """The same of one side; not to be changed."""
        return self.of[symbol].buys if side is _BUY else self.of[symbol].sells

    def all_live(self) -> Iterator[OwnOrder]:
        for of in self.of.values():
            for order in list(of.counting.values()):
                if order.live:
                    yield order

    def any_live(self) -> bool:
        return any(of.buys or of.sells for of in self.of.values())

    def active(self, symbol: str) -> int:
        """How many own orders are working, in flight or unknown."""
        of = self.of[symbol]
        return len(of.buys) + len(of.sells)

    def exposed_lots(self, symbol: str) -> tuple[int, int]:
        """(buys, sells) at their worst case, lots."""
        of = self.of[symbol]
        return of.buys_lots, of.sells_lots

    def sides_out(self, symbol: str) -> int:
        """On how many sides the venue has a quote of ours."""
        of = self.of[symbol]
        return int(_any_out(of.buys)) + int(_any_out(of.sells))

    def forget_finished(self, before_ns: int) -> None:
        """Orders that finished before that leave memory, unless executions of theirs are still owed."""
        if not self.finished_first_ns or self.finished_first_ns >= before_ns:
            return
        for client_order_id, finished_at_ns in list(self._finished.items()):
            if finished_at_ns >= before_ns:
                break
            order = self._orders[client_order_id]
            if order.exposed_lots and not order.live:
                continue
            del self._finished[client_order_id]
            del self._orders[client_order_id]
        self.finished_first_ns = next(iter(self._finished.values()), 0)

    def __len__(self) -> int:
        return len(self._orders)


def _any_out(orders: list[OwnOrder]) -> bool:
    """Whether the venue has one of them in its book, as far as we know."""
    return any(order.state is _WORKING or order.state is _PENDING_AMEND for order in orders)
