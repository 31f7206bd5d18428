"""How long we had none, one or two sides out, and how long we might have: exact to the event, in whole milliseconds."""

from __future__ import annotations

from bot.engine.parameters import NS_PER_MS
from bot.engine.state import State
from bot.metrics import QUOTING_SIDES


class QuotingTime:
    """Adds the time between two events to what holds when the second one comes, before that changes anything.

    A side is out while the venue has a quote on it. What goes on as it was is only remembered, and counted when it
    changes or somebody asks for the counters.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._counted_ns: int | None = None
        """up to when everything is in the counters; None before the first event"""
        self._until_ns = 0
        """up to when what is remembered went on"""
        self._sides_version = -1
        self._sides: dict[str, str] = {}
        self._may_quote = False
        self._limits_version = -1
        self._granted: set[str] = set()
        self._held_ns: dict[tuple[str, str], int] = {}
        self._may_ns: dict[str, int] = {}

    def advance(self, at_ns: int) -> None:
        """Call before an event that may change orders or permission is handled."""
        state = self._state
        may_quote = at_ns < state.may_quote_until_ns
        limits = state.limits_version
        if (
            state.orders.sides_version != self._sides_version
            or may_quote is not self._may_quote
            or limits != self._limits_version
        ):
            self.count()
            if self._counted_ns is None:
                self._counted_ns = self._until_ns = at_ns
            self._sides_version, self._may_quote = state.orders.sides_version, may_quote
            symbols = state.parameters.symbols
            self._limits_version, self._granted = limits, {one for one in symbols if state.granted(one)}
            self._sides = {symbol: QUOTING_SIDES[state.orders.sides_out(symbol)] for symbol in symbols}
        if at_ns > self._until_ns:
            self._until_ns = at_ns

    def count(self) -> None:
        """Bring the counters up to the last event."""
        since_ns = self._counted_ns
        if since_ns is None or self._until_ns <= since_ns:
            return
        self._counted_ns = self._until_ns
        passed_ns, counters = self._until_ns - since_ns, self._state.counters
        for symbol, sides in self._sides.items():
            passed_ms, self._held_ns[symbol, sides] = divmod(
                self._held_ns.get((symbol, sides), 0) + passed_ns, NS_PER_MS
            )
            if passed_ms:
                counters.add("mm_quoting_ms_total", symbol, sides, by=passed_ms)
            if self._may_quote and symbol in self._granted:
                passed_ms, self._may_ns[symbol] = divmod(self._may_ns.get(symbol, 0) + passed_ns, NS_PER_MS)
                if passed_ms:
                    counters.add("mm_may_quote_ms_total", symbol, by=passed_ms)
