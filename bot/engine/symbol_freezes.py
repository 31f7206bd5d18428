"""Symbols that are frozen by themselves: what the venue says of them cannot be read, and the others go on.

    readable → frozen            a message about its market is garbled, or the venue refuses to tell of it: what stands
                                 there is cancelled
    frozen → good since t        a fresh snapshot has come, and the book can be quoted by
    good since t → frozen        the book is lost again, for whatever reason, or has an empty side
    good since t → readable      it has been good for `hysteresis_s`

A gap in a book or a lost connection freezes no symbol by itself: the book comes back, or is stale and stops the bot.
"""

from __future__ import annotations

from bot.engine.counters import SYMBOL_FREEZE
from bot.engine.parameters import seconds_ns
from bot.engine.state import State
from bot.engine.stopping import CANCELLABLE, may_cancel_again, send_cancel


class SymbolFreezes:
    """Keeps `State.frozen`, and sees to it that nothing of ours stands there."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._hysteresis_ns = seconds_ns(state.parameters.hysteresis_s)

    def book_lost(self, symbol: str, reason: str, *, garbled: bool) -> None:
        """That symbol's book can no longer be trusted."""
        state = self._state
        if symbol in state.frozen:
            state.frozen[symbol] = None
        elif garbled:
            state.frozen[symbol] = None
            state.counters.add("mm_freeze_events_total", *SYMBOL_FREEZE)
            state.note("WARNING", "symbol_frozen", symbol=symbol, reason=SYMBOL_FREEZE[0], detail=reason)
            self._cancel(symbol)

    def snapshot_came(self, symbol: str) -> None:
        """A fresh book has replaced the one that was lost."""
        state = self._state
        if symbol in state.frozen and state.frozen[symbol] is None and state.books[symbol].usable:
            state.frozen[symbol] = state.now_ns

    def stream_down(self) -> None:
        for symbol in self._state.frozen:
            self._state.frozen[symbol] = None

    def forget(self) -> None:
        """A new process has no book yet, and cancels whatever stands."""
        self._state.frozen.clear()

    def tick(self) -> None:
        """Cancels what came up since, and releases what has been good for long enough."""
        state = self._state
        for symbol, good_since_ns in list(state.frozen.items()):
            self._cancel(symbol)
            if not state.books[symbol].usable:
                state.frozen[symbol] = None
            elif good_since_ns is None:  # a snapshot came, and a change has made it whole: no other snapshot comes
                state.frozen[symbol] = state.now_ns
            elif state.now_ns - good_since_ns >= self._hysteresis_ns:
                del state.frozen[symbol]
                state.orders.touch(symbol)
                state.note("INFO", "symbol_released", symbol=symbol, reason=SYMBOL_FREEZE[0])

    def _cancel(self, symbol: str) -> None:
        """Also what was under way when it froze: its create is confirmed now, or its cancel was refused."""
        state = self._state
        for order in state.orders.live(symbol):
            order.unwanted = True
            if order.state in CANCELLABLE and may_cancel_again(state, order):
                send_cancel(state, order)
