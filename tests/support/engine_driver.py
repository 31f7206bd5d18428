"""Drives the engine by hand: a clock, and a venue that does at once what it is asked, or keeps silent if told to."""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from typing import Any

from bot.domain import events as ev
from bot.domain import intent as it
from bot.domain.order import Side
from bot.engine.engine import Engine
from bot.engine.parameters import EngineParameters

SYMBOL = "BTCUSDT"
MS = 1_000_000
S = 1_000_000_000
START = 1_700_000_000 * S
BID, ASK = 500_000, 500_002


def parameters(**changes: Any) -> EngineParameters:
    settings: dict[str, Any] = {
        "symbols": (SYMBOL,),
        "inventory_max_quote": Decimal(500),
        "total_max_quote": Decimal(2000),
        "order_notional_quote": Decimal(210),
        "half_spread_bps": Decimal(6),
        "post_only_offset_bps": Decimal(2),
        "min_qty_pad": Decimal("1.2"),
        "edge_threshold_bps": Decimal(5),
        "stale_after_ms": 3000,
        "hysteresis_s": Decimal(2),
        "recon_interval_s": Decimal(2),
        "mode": "live",
    }
    return EngineParameters(**{**settings, **changes})


def filters(at_ns: int, symbol: str = SYMBOL) -> ev.InstrumentsRead:
    return ev.InstrumentsRead(
        at_ns=at_ns,
        symbol=symbol,
        tick_size=Decimal("0.1"),
        lot_size=Decimal("0.001"),
        qty_min=Decimal("0.001"),
        qty_max=Decimal(100),
        notional_min_quote=Decimal(5),
        category="linear",
        base="BTC",
        quote="USDT",
        source="fetched",
    )


class Driver:
    """`silent`: kinds of intents that get no answer. `venue`: open orders as the venue has them."""

    def __init__(self, **changes: Any) -> None:
        self.parameters = parameters(**changes)
        self.engine = Engine(self.parameters)
        self.now = START
        self.silent: set[type] = set()
        self.venue: dict[str, ev.VenueOrder] = {}
        self.position_lots = 0
        self.sent: list[it.Intent] = []
        self.granting = True
        self.epoch = 1
        self._update_id = 0
        self._executions = 0

    # ---- what the test says ----

    def tell(self, *said: ev.Event) -> list[it.Intent]:
        """The events and, one after the other, everything that the venue answers to them."""
        told: list[it.Intent] = []
        events: deque[ev.Event] = deque(said)
        while events:
            intents = self.engine.receive(events.popleft())
            told += intents
            for intent in intents:
                if type(intent) not in self.silent:
                    events.extend(self._answers(intent))
        self.sent += told
        return told

    def start(self) -> Driver:
        self.tell(ev.Started(self.now, "run", "live", "digest", "0.1.0", (SYMBOL,)))
        self.tell(filters(self.now))
        self.tell(ev.StreamUp(self.now, "public"))
        self.tell(ev.StreamUp(self.now, "private"))
        self.book(BID, ASK)
        self.wait(100 * MS)
        return self

    def stated(self, equity_quote: Decimal = Decimal(100_000)) -> Driver:
        """The venue says what the account is worth; without it quoting ends after half a minute."""
        self.tell(ev.WalletRead(self.now, equity_quote, Decimal(0)))
        return self

    def book(self, bid: int, ask: int, qty: int = 5_000) -> list[it.Intent]:
        self._update_id += 1
        snapshot = ev.BookSnapshot(self.now, SYMBOL, ((bid, qty),), ((ask, qty),), self._update_id, self.now)
        return self.tell(snapshot)

    def wait(self, duration_ns: int, *, market: bool = True) -> list[it.Intent]:
        """Time passes: a tick every 100 ms, the grant renewed, the book refreshed."""
        told: list[it.Intent] = []
        end = self.now + duration_ns
        while self.now < end:
            self.now += min(100 * MS, end - self.now)
            if self.granting:
                told += self.grant()
            top = self.engine.state.books[SYMBOL].top
            if market and top is not None:
                told += self.book(*top, qty=5_000 + self._update_id % 7)
            told += self.tell(ev.Ticked(self.now))
        return told

    def grant(self, ttl_s: float = 5.0, *, revoked: bool = False) -> list[it.Intent]:
        limits = (self.parameters.inventory_max_quote, self.parameters.total_max_quote)
        return self.tell(ev.GrantReceived(self.now, "acct", self.epoch, *limits, ttl_s, revoked))

    def fill(
        self, client_order_id: str, lots: int, *, maker: bool = True, price: Decimal | None = None, execution: str = ""
    ) -> list[it.Intent]:
        """An order of ours fills; the execution comes first, then the word on the order, then answers to either."""
        order = self.venue[client_order_id]
        self._executions += 1
        filled = order.filled_lots + lots
        self.position_lots += order.side.sign * lots
        done = filled >= order.qty_lots
        status = ev.OrderStatus.FILLED if done else ev.OrderStatus.WORKING
        self.venue[client_order_id] = told = _with(order, filled_lots=filled, status=status)
        if done:
            del self.venue[client_order_id]
        paid = price if price is not None else Decimal(order.price_ticks) / 10
        event = ev.Filled(
            self.now, execution or f"e{self._executions}", client_order_id, "v", SYMBOL, order.side, paid, lots,
            paid * lots / 1000 * Decimal("-0.0001" if maker else "0.0007"), maker, self.now,
        )  # fmt: skip
        return self.tell(event, ev.OrderUpdated(self.now, told))

    # ---- what the venue does ----

    def _answers(self, intent: it.Intent) -> list[ev.Event]:
        if isinstance(intent, it.PlaceOrder):
            order = ev.VenueOrder(
                intent.symbol, intent.client_order_id, "v-" + intent.client_order_id, intent.side,
                intent.price_ticks, intent.qty_lots, 0, ev.OrderStatus.WORKING,
            )  # fmt: skip
            self.venue[order.client_order_id] = order
            accepted = ev.OrderAccepted(self.now, intent.client_order_id, order.venue_order_id)
            return [accepted, ev.OrderUpdated(self.now, order)]
        if isinstance(intent, it.AmendOrder):
            terms = (intent.client_order_id, intent.price_ticks, intent.qty_lots)
            if intent.client_order_id not in self.venue:
                return [ev.AmendAnswered(self.now, *terms, "gone")]
            order = _with(self.venue[intent.client_order_id], price_ticks=intent.price_ticks, qty_lots=intent.qty_lots)
            self.venue[intent.client_order_id] = order
            return [ev.AmendAnswered(self.now, *terms, "accepted"), ev.OrderUpdated(self.now, order)]
        if isinstance(intent, it.CancelOrder):
            return self._cancel(intent.client_order_id)
        if isinstance(intent, it.CancelAll):
            updates = [update for one in list(self.venue) for update in self._cancel(one)[1:]]
            return [ev.CancelAllAnswered(self.now, intent.key, "accepted"), *updates]
        if isinstance(intent, it.ReadAccount):
            return [self.orders_read(), self.position_read()]
        if isinstance(intent, it.ProbeOrder):
            known = self.venue.get(intent.client_order_id)
            if known is None:
                return [ev.OrderNotFound(self.now, intent.client_order_id, intent.at_ns)]
            return [ev.OrderUpdated(self.now, known)]
        return []

    def _cancel(self, client_order_id: str) -> list[ev.Event]:
        order = self.venue.pop(client_order_id, None)
        if order is None:
            return [ev.CancelAnswered(self.now, client_order_id, "gone")]
        cancelled = _with(order, status=ev.OrderStatus.CANCELLED)
        return [ev.CancelAnswered(self.now, client_order_id, "accepted"), ev.OrderUpdated(self.now, cancelled)]

    def orders_read(self) -> ev.OpenOrdersRead:
        return ev.OpenOrdersRead(self.now, SYMBOL, self.now, tuple(self.venue.values()))

    def position_read(self) -> ev.PositionRead:
        return ev.PositionRead(self.now, SYMBOL, self.now, self.position_lots, Decimal(50_000))

    # ---- what the test looks at ----

    @property
    def quotes(self) -> dict[Side, ev.VenueOrder]:
        return {order.side: order for order in self.venue.values()}

    def count(self, name: str, *labels: str) -> int:
        return self.engine.counts[(name, labels)]

    def notes(self, event: str) -> list[it.Note]:
        return [intent for intent in self.sent if isinstance(intent, it.Note) and intent.event == event]


def of(kind: type, intents: list[it.Intent]) -> list[Any]:
    return [intent for intent in intents if isinstance(intent, kind)]


def _with(order: ev.VenueOrder, **changes: Any) -> ev.VenueOrder:
    values = {name: getattr(order, name) for name in order.__struct_fields__}
    return ev.VenueOrder(**{**values, **changes})
