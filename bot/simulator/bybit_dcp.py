"""Disconnected-cancel-all of Bybit V5: an account's orders go when its private connection has been away too long. Pure.

A window is set by REST; it is armed only while a private connection has the topic `dcp.future`. When the last such
connection of an account closes, its orders are cancelled a window later, unless another one has come by then.
"""

from __future__ import annotations

from bot.simulator.accounts import Holder
from bot.simulator.bybit_access import V5Error
from bot.simulator.bybit_orders import Params
from bot.simulator.exchange import Exchange
from bot.simulator.orders import Refused

TOPICS = {"dcp.future": "DERIVATIVES", "dcp.spot": "SPOT", "dcp.option": "OPTIONS"}
WINDOW_MIN_S, WINDOW_MAX_S = 3, 300
WINDOW_DEFAULT_S = 10
CATEGORIES = {"DERIVATIVES": "linear", "SPOT": "spot"}
"""The products traded here; the window of another is kept and shown, and cancels nothing."""


class DisconnectCancel:
    """Windows, armed connections and what is due, for all holders of one exchange."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._windows_s: dict[str, dict[str, int]] = {}
        self._armed: dict[tuple[str, str], int] = {}
        self._due_ns: dict[tuple[str, str], int] = {}

    def set_window(self, exchange: Exchange, holder: Holder, params: Params, now_ns: int) -> Params:
        """order/disconnected-cancel-all. Raises V5Error 10001 for a product or a window that is not allowed."""
        product, window = params.get("product", "OPTIONS"), params.get("timeWindow")
        if product not in TOPICS.values():
            raise V5Error(10001, f"params error: product {product!r} is not one of {', '.join(TOPICS.values())}")
        if not isinstance(window, int) or not WINDOW_MIN_S <= window <= WINDOW_MAX_S:
            raise V5Error(10001, f"params error: timeWindow {window!r} is outside {WINDOW_MIN_S} to {WINDOW_MAX_S}")
        self._windows_s.setdefault(holder.name, {})[str(product)] = window
        return {}

    def show(self, exchange: Exchange, holder: Holder, params: Params, now_ns: int) -> Params:
        """account/query-dcp-info: the products that have a window."""
        rows = [
            {"product": product, "dcpStatus": "ON", "timeWindow": str(window)}
            for product, window in self._windows_s.get(holder.name, {}).items()
        ]
        return {"dcpInfos": rows}

    def window_s(self, holder: Holder, product: str = "DERIVATIVES") -> int | None:
        """The window of a product, seconds; None where none was set."""
        return self._windows_s.get(holder.name, {}).get(product)

    def connected(self, holder: Holder, topic: str) -> None:
        """A private connection of the holder subscribed to that topic of TOPICS."""
        key = (holder.name, TOPICS[topic])
        self._armed[key] = self._armed.get(key, 0) + 1
        self._due_ns.pop(key, None)

    def released(self, holder: Holder, topic: str) -> None:
        """A connection that stays no longer has the topic: the account's orders do not depend on it any more."""
        self._armed[holder.name, TOPICS[topic]] -= 1

    def disconnected(self, holder: Holder, topic: str, now_ns: int) -> None:
        """Such a connection closed; the last one starts the window."""
        key = (holder.name, TOPICS[topic])
        self._armed[key] -= 1
        window_s = self.window_s(holder, key[1])
        if not self._armed[key] and window_s is not None:
            self._due_ns[key] = now_ns + window_s * 1_000_000_000

    def next_at_ns(self) -> int | None:
        """When the next cancellation is due; None where none is."""
        return min(self._due_ns.values(), default=None)

    def cancel_due(self, now_ns: int) -> None:
        """Cancel what is due by now."""
        for (name, product), at_ns in list(self._due_ns.items()):
            if at_ns <= now_ns:
                del self._due_ns[name, product]
                self._cancel_all(self._exchange.holders[name], CATEGORIES.get(product), now_ns)

    def _cancel_all(self, holder: Holder, category: str | None, now_ns: int) -> None:
        if category is None:
            return
        for venue, account in self._exchange.accounts(holder, category):
            for order in list(account.open_orders.values()):
                try:
                    venue.cancel(account, order, now_ns)
                except Refused:  # a reduce-only order may end with one cancelled before it
                    continue
