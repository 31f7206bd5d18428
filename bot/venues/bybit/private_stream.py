"""The account's own stream: authenticate, subscribe `order execution`, and only then StreamUp.

After every StreamUp("private") the account has to be read: what happened while the stream was down is not repeated.
Rows of other categories and symbols are not ours to judge and are passed over; everything else is passed on as the
venue sends it, orders of others on the same account included (their client ids may be empty).

What arms disconnect-cancel is asked for before them, by itself: StreamUp lets the bot read and quote, and what guards
its orders shall be there by then, not a round trip later. One connection is heard in order, so that costs no wait. A
venue that refuses it, or says nothing to it, keeps no orders and fills from us: it is never relied on, so a refusal is
said once, and asked about again on the next connection.

The `position` topic is left alone: it fires on every order operation, and a position is what fills make of the one that
was read. So is `wallet`: it says nothing while nothing happens, so nobody could tell an old word from a silent one.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Final

from bot.domain.events import OrderUpdated
from bot.domain.instrument import Category
from bot.venues.bybit import wire
from bot.venues.bybit.account_text import OrderText
from bot.venues.bybit.decode import IS_COMPILED, Grid, execution, venue_order
from bot.venues.bybit.signing import socket_auth
from bot.venues.bybit.sockets import Stream, StreamRefused, operation, push_of
from bot.venues.port import Sink, VenueGarbled
from bot.venues.transport import Transport

TOPICS: Final = ("order", "execution")
OURS, GUARD = "ours", "guard"
"""Numbers of the two subscriptions: their answers repeat them."""
AUTH_VALID_MS: Final = 10_000

log = logging.getLogger(__name__)


class PrivateStream(Stream):
    """Own orders and fills."""

    def __init__(
        self,
        url: str,
        transport: Transport,
        sink: Sink,
        now_ns: Callable[[], int],
        jitter: Random,
        before_connect: Callable[[], Awaitable[object]],
        grids: dict[str, Grid],
        category: Category,
        api_key: str,
        api_secret: str,
        venue_now_ms: Callable[[], int],
    ) -> None:
        super().__init__("private", url, transport, sink, now_ns, jitter, before_connect)
        self._grids = grids
        self._category = category
        self._api_key = api_key
        self._api_secret = api_secret
        self._venue_now_ms = venue_now_ms
        self.guards_orders = False
        """Whether each connection is to be one whose loss cancels the account's orders, once it is gone too long"""
        self._guard_unanswered = False
        self._guard_refusal_told = False
        self._texts: Final = OrderText(category)

    def use_key(self, api_key: str, api_secret: str) -> None:
        """Greets with that pair from the next connection on; the one that is open stays as it is."""
        self._api_key, self._api_secret = api_key, api_secret

    def _greet(self) -> None:
        self._guard_unanswered = False
        self._send(socket_auth(self._api_key, self._api_secret, self._venue_now_ms() + AUTH_VALID_MS))

    def _subscribe(self) -> None:
        if self.guards_orders:
            self._guard_unanswered = True
            self._send(operation("subscribe", ("dcp.spot" if self._category == "spot" else "dcp.future",), GUARD))
        self._send(operation("subscribe", TOPICS, OURS))

    def _is_of_guard(self, req_id: str) -> bool:
        """Whether an answer is to what arms disconnect-cancel: by its number; without one, the first is."""
        if req_id != GUARD and (req_id or not self._guard_unanswered):
            return False
        self._guard_unanswered = False
        return True

    def _unguarded(self, error: StreamRefused) -> None:
        if not self._guard_refusal_told:
            self._guard_refusal_told = True
            log.warning("disconnect-cancel is not armed: %s", error)

    def _take(self, raw: bytes | str) -> None:
        text = ""
        if IS_COMPILED and raw.isascii():
            text = raw.decode() if isinstance(raw, bytes) else raw
            orders = self._texts.read(text, self._grids)
            if orders:
                for order in orders:
                    self._sink(OrderUpdated(self._now_ns(), order))
                return
        pushed = wire.account_push(raw)
        if pushed is None:
            self._take_any(raw)
        elif type(pushed) is wire.OrderPush:
            self._take_orders(pushed.data)
            if text:
                self._texts.learn(text, pushed.data, self._grids)
        elif type(pushed) is wire.ExecutionPush:
            self._take_executions(pushed.data)

    def _take_any(self, raw: bytes | str) -> None:
        try:
            push = push_of(raw, self.name)
        except StreamRefused as error:
            if error.op != "subscribe" or not self._is_of_guard(error.req_id):
                raise
            self._unguarded(error)
            return
        match push.topic:
            case "order":
                self._take_orders(wire.decode_rows(wire.OrderRow, push.data, push.topic))
            case "execution":
                self._take_executions(wire.decode_rows(wire.ExecutionRow, push.data, push.topic))
            case "" if push.op == "auth":
                self._subscribe()
            case "" if push.op == "subscribe":
                if not self._is_of_guard(str(push.req_id or "")):
                    self._now_up()
            case "" if not push.op and push.success is None:
                raise VenueGarbled(f"{self.name}: topic: missing, and it answers no operation")
            case _:
                return  # pongs

    def _ours(self, symbol: str, category: str) -> Grid | None:
        return self._grids.get(symbol) if not category or category == self._category else None

    def _take_orders(self, rows: Sequence[wire.OrderRow]) -> None:
        for row in rows:
            grid = self._ours(row.symbol, row.category)
            if grid is not None:
                self._sink(OrderUpdated(self._now_ns(), venue_order(row, grid.instrument, grid)))

    def _take_executions(self, rows: Sequence[wire.ExecutionRow]) -> None:
        for row in rows:
            grid = self._ours(row.symbol, row.category)
            event = execution(row, grid.instrument, self._now_ns(), grid) if grid is not None else None
            if event is not None:
                self._sink(event)
