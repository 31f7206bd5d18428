"""How long we had none, one or two sides out, and how long we might have: exact to the event, in whole milliseconds."""

from __future__ import annotations

from typing import Final

from bot.domain.order import OrderState
from bot.engine.parameters import NS_PER_MS
from bot.engine.state import State
from bot.metrics import QUOTING_SIDES

_OUT: Final = (OrderState.WORKING, OrderState.PENDING_AMEND)


class QuotingTime:
    """Adds the time since the last event to what held during it. A side is out while the venue has a quote on it."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._since_ns: int | None = None
        self._held_ns: dict[tuple[str, str], int] = {}
        self._may_ns: dict[str, int] = {}
        self._sides: dict[str, tuple[int, str]] = {}
        """symbol → (version of its orders, how many sides are out)"""

    def advance(self, at_ns: int) -> None:
        """Call before an event that may change orders or permission is handled."""
        since_ns, self._since_ns = self._since_ns, at_ns
        if since_ns is None or at_ns <= since_ns:
            return
        passed_ns, counters = at_ns - since_ns, self._state.counters
        may_quote = self._state.may_quote()
        for symbol in self._state.parameters.symbols:
            version = self._state.orders.version[symbol]
            known = self._sides.get(symbol)
            if known is None or known[0] != version:
                out = {order.side for order in self._state.orders.live(symbol) if order.state in _OUT}
                known = self._sides[symbol] = (version, QUOTING_SIDES[len(out)])
            sides = known[1]
            passed_ms, self._held_ns[(symbol, sides)] = divmod(
                self._held_ns.get((symbol, sides), 0) + passed_ns, NS_PER_MS
            )
            if passed_ms:
                counters.add("mm_quoting_ms_total", symbol, sides, by=passed_ms)
            if may_quote:
                passed_ms, self._may_ns[symbol] = divmod(self._may_ns.get(symbol, 0) + passed_ns, NS_PER_MS)
                if passed_ms:
                    counters.add("mm_may_quote_ms_total", symbol, by=passed_ms)
