"""The public side of one symbol: its books, trades and ticker, to whoever subscribed to them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bot.simulator import bybit_public as public
from bot.simulator.bybit_messages import Json
from bot.simulator.bybit_sockets import PublicSession, encode
from bot.simulator.depth import DepthView
from bot.simulator.orders import Happening, Printed
from bot.simulator.venue import Venue

DEPTHS = (1, 50, 200, 1000)
BEFORE_THE_FIRST = 0
"""The update before update 1, by which clients know that the service restarted."""


class Board:
    """`sessions`: the public connections of the symbol's category, shared with its other symbols."""

    def __init__(self, venue: Venue, sessions: Mapping[PublicSession, None]) -> None:
        self.venue = venue
        self.symbol = symbol = venue.instrument.symbol
        self._sessions = sessions
        self._views = {f"orderbook.{depth}.{symbol}": DepthView(depth) for depth in DEPTHS}
        self._trades_topic = f"publicTrade.{symbol}"
        self._ticker_topic = f"tickers.{symbol}"
        self._ticker: Json = {}

    @property
    def topics(self) -> tuple[str, ...]:
        return (*self._views, self._trades_topic, self._ticker_topic)

    def restart(self) -> None:
        """The service begins anew: whoever comes back is told so by the first update's number."""
        self._views = {f"orderbook.{depth}.{self.symbol}": DepthView(depth, BEFORE_THE_FIRST) for depth in DEPTHS}

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
            if self._wanted(topic):  # a view that nobody wants looks at the whole book when somebody does
                message = view.publish(self.venue.book, changes)
                if message is not None:
                    self._to_topic(topic, encode(public.depth(self.venue, message, view.depth, now_ns)))
        if not self._wanted(self._ticker_topic):
            return
        ticker = public.ticker(self.venue, now_ns)
        changed = {name: value for name, value in ticker.items() if self._ticker.get(name) != value}
        if changed:
            self._to_topic(self._ticker_topic, self._ticker_text("delta", {"symbol": self.symbol, **changed}, now_ns))
        self._ticker = ticker

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
