"""The public side of one symbol: its books, trades and ticker, to whoever subscribed to them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bot.simulator import bybit_public as public
from bot.simulator.bybit_messages import Json
from bot.simulator.bybit_sockets import PublicSession, encode
from bot.simulator.depth import DepthView
from bot.simulator.matching import Changes
from bot.simulator.orders import Happening, Printed
from bot.simulator.venue import Venue

EVERY_MS: Mapping[int, int] = {1: 0, 50: 0, 200: 100, 1000: 200}
"""Depth → how often its changes are told, ms. The venue promises 10 and 20 for the shallow ones; 0 is with every step
of the market, which is never more seldom than it changes."""
BEFORE_THE_FIRST = 0
"""The update before update 1, by which clients know that the service restarted."""


class Board:
    """`sessions`: the public connections of the symbol's category, shared with its other symbols."""

    def __init__(self, venue: Venue, sessions: Mapping[PublicSession, None]) -> None:
        self.venue = venue
        self.symbol = symbol = venue.instrument.symbol
        self._sessions = sessions
        self._views = {f"orderbook.{depth}.{symbol}": DepthView(depth) for depth in EVERY_MS}
        self._told_ns = dict.fromkeys(self._views, 0)
        self._waiting: dict[str, None] = {}
        """books that changed before it was time to tell"""
        self._trades_topic = f"publicTrade.{symbol}"
        self._ticker_topic = f"tickers.{symbol}"
        self._ticker: Json = {}

    @property
    def topics(self) -> tuple[str, ...]:
        return (*self._views, self._trades_topic, self._ticker_topic)

    def restart(self) -> None:
        """The service begins anew: whoever comes back is told so by the first update's number."""
        self._views = {f"orderbook.{depth}.{self.symbol}": DepthView(depth, BEFORE_THE_FIRST) for depth in EVERY_MS}

    def subscribed(self, session: PublicSession, topic: str, now_ns: int) -> None:
        """Start a topic for a session: books and tickers begin with a snapshot."""
        view = self._views.get(topic)
        if view is not None:
            if not any(topic in other.topics for other in self._sessions if other is not session):
                view.publish(self.venue.book)
            session.send(self._depth_text(view, now_ns))
        elif topic == self._ticker_topic:
            session.send(self._ticker_text("snapshot", public.ticker(self.venue, now_ns), now_ns))

    def resume(self, now_ns: int) -> None:
        """After a stall: every book whole."""
        self._waiting.clear()
        for topic, view in self._views.items():
            view.publish(self.venue.book)
            self._to_topic(topic, self._depth_text(view, now_ns))

    def trades(self, happenings: Iterable[Happening], now_ns: int) -> None:
        """Tell of all prints among them, in one message."""
        trades = [h.trade for h in happenings if isinstance(h, Printed)]
        if not trades or not self._wanted(self._trades_topic):
            return
        data = [public.public_trade(self.venue.instrument, trade) for trade in trades]
        text = encode({"topic": self._trades_topic, "type": "snapshot", "ts": now_ns // 1_000_000, "data": data})
        self._to_topic(self._trades_topic, text)

    def moved(self, now_ns: int) -> None:
        """The market has moved: tell what changed in books and ticker."""
        changes = self.venue.book.drain_changes()
        for topic, view in self._views.items():
            if not self._wanted(topic):  # a view that nobody wants looks at the whole book when somebody does
                self._waiting.pop(topic, None)
            elif topic in self._waiting or now_ns < self._due_ns(topic):
                self._waiting[topic] = None
            else:
                self._tell_depth(topic, view, now_ns, changes)
        self.flush(now_ns)
        if not self._wanted(self._ticker_topic):
            return
        ticker = public.ticker(self.venue, now_ns)
        changed = {name: value for name, value in ticker.items() if self._ticker.get(name) != value}
        if changed:
            self._to_topic(self._ticker_topic, self._ticker_text("delta", {"symbol": self.symbol, **changed}, now_ns))
        self._ticker = ticker

    def next_flush_ns(self) -> int | None:
        """When a book that changed before it was time is to be told; None: none waits."""
        return min((self._due_ns(topic) for topic in self._waiting), default=None)

    def flush(self, now_ns: int) -> None:
        """Tell the books that waited until now, all their changes as one."""
        for topic in [waiting for waiting in self._waiting if now_ns >= self._due_ns(waiting)]:
            del self._waiting[topic]
            self._tell_depth(topic, self._views[topic], now_ns, None)

    def _due_ns(self, topic: str) -> int:
        return self._told_ns[topic] + EVERY_MS[self._views[topic].depth] * 1_000_000

    def _tell_depth(self, topic: str, view: DepthView, now_ns: int, changes: Changes | None) -> None:
        message = view.publish(self.venue.book, changes)
        if message is not None:
            self._told_ns[topic] = now_ns
            self._to_topic(topic, encode(public.depth(self.venue, message, view.depth, now_ns)))

    def _to_topic(self, topic: str, text: str) -> None:
        for session in self._sessions:
            if topic in session.topics:
                session.send(text)

    def _wanted(self, topic: str) -> bool:
        return any(topic in session.topics for session in self._sessions)

    def _depth_text(self, view: DepthView, now_ns: int) -> str:
        return encode(public.depth(self.venue, view.snapshot(), view.depth, now_ns))

    def _ticker_text(self, kind: str, data: Mapping[str, object], now_ns: int) -> str:
        stamp = {"cs": self.venue.sequence, "ts": now_ns // 1_000_000}
        return encode({"topic": self._ticker_topic, "type": kind, "data": data, **stamp})
