"""How long we had none, one or two sides out, and how long we might have: exact to the event, in whole milliseconds."""

from __future__ import annotations

from bot.engine.counters import Key
from bot.engine.parameters import NS_PER_MS
from bot.engine.state import State
from bot.metrics import QUOTING_SIDES


class _Symbol:
    """One symbol: how many sides are out since the last change, and the time that is not in the counters yet."""

    __slots__ = ("granted", "held_keys", "held_ns", "may_key", "may_ns", "sides", "symbol")

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.sides = 0
        self.granted = False
        self.held_ns = [0] * len(QUOTING_SIDES)
        self.held_keys: list[Key] = [("mm_quoting_ms_total", (symbol, sides)) for sides in QUOTING_SIDES]
        self.may_ns = 0
        self.may_key: Key = ("mm_may_quote_ms_total", (symbol,))


class QuotingTime:
    """Adds the time between two events to what holds when the second one comes, before that changes anything.

    A side is out while the venue has a quote on it. What goes on as it was is only remembered, and added up when it
    changes; the counters are brought up when somebody asks for them.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._orders = state.orders
        self._symbols = [_Symbol(symbol) for symbol in state.parameters.symbols]
        self._added_ns = -1
        """up to when everything is added up; -1 before the first event"""
        self._until_ns = 0
        """up to when what is remembered went on"""
        self._sides_version = -1
        self._may_quote = False
        self._limits_version = -1

    def advance(self, at_ns: int) -> None:
        """Call before an event that may change orders or permission is handled."""
        state = self._state
        may_quote = at_ns < state.may_quote_until_ns
        if (
            self._orders.sides_version != self._sides_version
            or may_quote is not self._may_quote
            or state.limits_version != self._limits_version
        ):
            self._change(at_ns, may_quote=may_quote)
        if at_ns > self._until_ns:
            self._until_ns = at_ns

    def _change(self, at_ns: int, *, may_quote: bool) -> None:
        """Add up what went on until now; something else begins."""
        self._add_up()
        if self._added_ns < 0:
            self._added_ns = self._until_ns = at_ns
        state, orders = self._state, self._orders
        limits = state.limits_version
        for one in self._symbols:
            one.sides = orders.sides_out(one.symbol)
            if limits != self._limits_version:
                one.granted = state.granted(one.symbol)
        self._sides_version, self._may_quote, self._limits_version = orders.sides_version, may_quote, limits

    def _add_up(self) -> None:
        """What goes on, up to the last event."""
        since_ns = self._added_ns
        if since_ns < 0 or self._until_ns <= since_ns:
            return
        self._added_ns = self._until_ns
        passed_ns = self._until_ns - since_ns
        for one in self._symbols:
            one.held_ns[one.sides] += passed_ns
            if self._may_quote and one.granted:
                one.may_ns += passed_ns

    def count(self) -> None:
        """Bring the counters up to the last event: whole milliseconds, and what is left over stays for the next."""
        self._add_up()
        counters = self._state.counters
        for one in self._symbols:
            for sides, held_ns in enumerate(one.held_ns):
                if held_ns >= NS_PER_MS:
                    counters.raise_by(one.held_keys[sides], held_ns // NS_PER_MS)
                    one.held_ns[sides] = held_ns % NS_PER_MS
            if one.may_ns >= NS_PER_MS:
                counters.raise_by(one.may_key, one.may_ns // NS_PER_MS)
                one.may_ns %= NS_PER_MS
