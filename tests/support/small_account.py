"""A small account at a venue, on a hand-turned clock, for the tests of the kill switch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from decimal import Decimal
from typing import Any

from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.runtime.kill_switch import KillSwitch
from bot.runtime.kill_switch_report import Report
from bot.venues.bybit.account_orders import AccountOrder
from bot.venues.port import ImmediateOrder, Position, TopOfBook, VenueUnknown, VenueUnreachable

SYMBOL = "BTCUSDT"
START_NS = 1_700_000_000_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now_ns = START_NS
        self.on_wait: list[Callable[[], None]] = []

    def __call__(self) -> int:
        self.now_ns += 1_000_000  # a call takes a millisecond
        return self.now_ns

    def wait(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)
        for action in self.on_wait:
            action()


class Account:
    """Orders, a position, and a venue that can be down."""

    def __init__(self, own: int = 0, foreign: int = 0, qty: str = "0") -> None:
        self.orders = [order(f"slwq-1-{n}") for n in range(own)] + [order(f"hand-{n}") for n in range(foreign)]
        self.qty = Decimal(qty)
        self.ended: list[AccountOrder] = []
        self.failing: set[str] = set()
        self.sent: list[str] = []
        self.flattens: list[ImmediateOrder] = []
        self.fill_share = Decimal(1)

    def _call(self, name: str) -> None:
        if "everything" in self.failing:
            raise VenueUnreachable(f"{name}: connection refused")
        if name in self.failing:
            raise VenueUnknown(f"{name}: HTTP 503", 503)

    def within(self, _left_s: Callable[[], float]) -> AbstractContextManager[None]:
        return nullcontext()

    def open_orders(self, symbols):
        self._call("open_orders")
        return [found for found in self.orders if not symbols or found.symbol in symbols]

    def recent_orders(self, symbols):
        self._call("recent_orders")
        return [found for found in (*self.orders, *self.ended) if not symbols or found.symbol in symbols]

    def cancel_all(self, symbol: str) -> int:
        self._call("cancel_all")
        self.ended += self.orders
        self.sent.append("cancel_all" if symbol == SYMBOL else f"cancel_all {symbol}")
        before = len(self.orders)
        self.orders = [left for left in self.orders if symbol not in ("*", left.symbol)]
        return before - len(self.orders)

    def cancel_everything(self) -> int:
        return self.cancel_all("*")

    def cancel_own(self, symbol: str, client_order_id: str) -> bool:
        self._call("cancel_own")
        self.sent.append(f"cancel_own {symbol} {client_order_id}")
        before = len(self.orders)
        self.orders = [left for left in self.orders if left.client_order_id != client_order_id]
        return len(self.orders) < before

    def cancel(self, gone: AccountOrder) -> bool:
        self._call("cancel")
        self.sent.append(f"cancel {gone.client_order_id}")
        before = len(self.orders)
        self.orders = [left for left in self.orders if left != gone]
        return len(self.orders) < before

    def positions(self, symbols):
        self._call("positions")
        return [Position(symbol, self.qty, Decimal(100)) for symbol in symbols or [SYMBOL]]

    def instrument(self, symbol: str) -> Instrument:
        return Instrument(
            *(symbol, "linear", "BTC", "USDT", Decimal("0.1"), Decimal("0.001")),
            *(Decimal("0.001"), Decimal(2), Decimal(5)),
        )

    def top_of_book(self, symbol: str) -> TopOfBook:
        self._call("top_of_book")
        return TopOfBook(symbol, Decimal("50000.1"), Decimal("50000.2"), 0)

    def place_immediate(self, sent: ImmediateOrder) -> str:
        self._call("place_immediate")
        self.flattens.append(sent)
        filled = sent.qty * self.fill_share
        self.qty += filled if sent.side is Side.BUY else -filled
        return "o"


def order(client_order_id: str, symbol: str = SYMBOL) -> AccountOrder:
    return AccountOrder(
        symbol, client_order_id, f"v-{client_order_id}", Side.BUY, Decimal(1), Decimal(1), Decimal(0), False
    )


def run(
    account: Account,
    *,
    execute: bool = True,
    flatten: bool = False,
    clock: Clock | None = None,
    deadline_s: float = 5.0,
    quiet_s: float = 0.5,
    symbols: Sequence[str] = (SYMBOL,),
    **more: Any,
) -> Report:
    clock = clock or Clock()
    switch = KillSwitch(account, symbols, **{"late_s": 0.0, "quiet_s": quiet_s, **more})
    return switch.run(execute, flatten, deadline_s, clock, clock.wait)
