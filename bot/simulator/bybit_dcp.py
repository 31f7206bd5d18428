"""Disconnected-cancel-all of Bybit V5: an account's orders go when its private connection has been away too long. Pure.

A window is set by REST; it is armed only while a private connection has the topic `dcp.future`. When the last such
connection of an account closes, its orders are cancelled a window later, unless another one has come by then.
"""

from __future__ import annotations

from bot.simulator.accounts import Account
from bot.simulator.bybit_access import V5Error
from bot.simulator.bybit_orders import Params
from bot.simulator.orders import Refused
from bot.simulator.venue import Venue

TOPICS = {"dcp.future": "DERIVATIVES", "dcp.spot": "SPOT", "dcp.option": "OPTIONS"}
WINDOW_MIN_S, WINDOW_MAX_S = 3, 300
WINDOW_DEFAULT_S = 10
OURS = "DERIVATIVES"
"""The product this venue trades; the windows of others are kept and shown, and cancel nothing."""


class DisconnectCancel:
    """Windows, armed connections and what is due, for all accounts of one venue."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._windows_s: dict[str, dict[str, int]] = {}
        self._armed: dict[str, int] = {}
        self._due_ns: dict[str, int] = {}

    def set_window(self, venue: Venue, account: Account, params: Params, now_ns: int) -> Params:
        """order/disconnected-cancel-all. Raises V5Error 10001 for a product or a window that is not allowed."""
        product, window = params.get("product", "OPTIONS"), params.get("timeWindow")
        if product not in TOPICS.values():
            raise V5Error(10001, f"params error: product {product!r} is not one of {', '.join(TOPICS.values())}")
        if not isinstance(window, int) or not WINDOW_MIN_S <= window <= WINDOW_MAX_S:
            raise V5Error(10001, f"params error: timeWindow {window!r} is outside {WINDOW_MIN_S} to {WINDOW_MAX_S}")
        self._windows_s.setdefault(account.name, {})[str(product)] = window
        return {}

    def show(self, venue: Venue, account: Account, params: Params, now_ns: int) -> Params:
        """account/query-dcp-info: the products that have a window."""
        rows = [
            {"product": product, "dcpStatus": "ON", "timeWindow": str(window)}
            for product, window in self._windows_s.get(account.name, {}).items()
        ]
        return {"dcpInfos": rows}

    def window_s(self, account: Account) -> int | None:
        """The window of the product traded here, seconds; None where none was set."""
        return self._windows_s.get(account.name, {}).get(OURS)

    def connected(self, account: Account) -> None:
        """A private connection of the account subscribed to `dcp.future`."""
        self._armed[account.name] = self._armed.get(account.name, 0) + 1
        self._due_ns.pop(account.name, None)

    def disconnected(self, account: Account, now_ns: int) -> None:
        """Such a connection closed; the last one starts the window."""
        self._armed[account.name] -= 1
        window_s = self.window_s(account)
        if not self._armed[account.name] and window_s is not None:
            self._due_ns[account.name] = now_ns + window_s * 1_000_000_000

    def next_at_ns(self) -> int | None:
        """When the next cancellation is due; None where none is."""
        return min(self._due_ns.values(), default=None)

    def cancel_due(self, now_ns: int) -> None:
        """Cancel what is due by now."""
        for name, at_ns in list(self._due_ns.items()):
            if at_ns <= now_ns:
                del self._due_ns[name]
                self._cancel_all(self._venue.accounts[name], now_ns)

    def _cancel_all(self, account: Account, now_ns: int) -> None:
        for order in list(account.open_orders.values()):
            try:
                self._venue.cancel(account, order, now_ns)
            except Refused:  # a reduce-only order may end with one cancelled before it
                continue
