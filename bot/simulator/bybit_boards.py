"""The public side of one symbol: its books, trades and ticker, to whoever subscribed to them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bot.simulator import bybit_public as public
from bot.simulator.bybit_messages import Json
from bot.simulator.bybit_sockets import PublicSession, encode
from bot.simulator.bybit_written import Written, quoted
from bot.simulator.depth import DepthMessage, DepthView
from bot.simulator.orders import Happening, Printed, PublicTrade
from bot.simulator.venue import Venue

EVERY_MS: Final[Mapping[int, int]] = {1: 0, 50: 0, 200: 100, 1000: 200}
"""Depth → how often its changes are told, ms. The venue promises 10 and 20 for the shallow ones; 0 is with every step
of the market, which is never more seldom than it changes."""
BEFORE_THE_FIRST: Final = 0
"""The update before update 1, by which clients know that the service restarted."""


class _Depth:
    """One depth of the book as a topic. `told_ns`: when its changes were last told."""

    __slots__ = ("depth", "every_ns", "json_topic", "told_ns", "topic", "view")

    def __init__(self, depth: int, symbol: str) -> None:
        self.depth = depth
        self.topic = f"orderbook.{depth}.{symbol}"
        self.json_topic = quoted(self.topic)
        self.every_ns = EVERY_MS[depth] * 1_000_000
        self.told_ns = 0
        self.view = DepthView(depth)


class Board:
    """`sessions`: the public connections of the symbol's category, shared with its other symbols."""

    def __init__(self, venue: Venue, sessions: dict[PublicSession, None], written: Written) -> None:
        self.venue = venue
        self.symbol = symbol = venue.instrument.symbol
        self._sessions = sessions
        self._written = written
        self._depths = [_Depth(depth, symbol) for depth in EVERY_MS]
        self._by_topic = {one.topic: one for one in self._depths}
        self._waiting: dict[_Depth, None] = {}
        """books that changed before it was time to tell"""
        self._trades_topic = f"publicTrade.{symbol}"
        self._trades_head = encode({"topic": self._trades_topic, "type": "snapshot"})[:-1] + ',"ts":'
        self._ticker_topic = f"tickers.{symbol}"
        self._ticker: Json = {}

    @property
    def topics(self) -> tuple[str, ...]:
        return (*self._by_topic, self._trades_topic, self._ticker_topic)

    def restart(self) -> None:
        """The service begins anew: whoever comes back is told so by the first update's number."""
        for one in self._depths:
            one.view = DepthView(one.depth, BEFORE_THE_FIRST)

    def subscribed(self, session: PublicSession, topic: str, now_ns: int) -> None:
        """Start a topic for a session: books and tickers begin with a snapshot."""
        one = self._by_topic.get(topic)
        if one is not None:
            if not any(topic in other.topics for other in self._sessions if other is not session):
                one.view.publish(self.venue.book)
            session.send(self._snapshot_text(one, now_ns))
        elif topic == self._ticker_topic:
            session.send(self._ticker_text("snapshot", public.ticker(self.venue, now_ns), now_ns))

    def resume(self, now_ns: int) -> None:
        """After a stall: every book whole."""
        self._waiting.clear()
        for one in self._depths:
            one.view.publish(self.venue.book)
            self._to_topic(one.topic, self._snapshot_text(one, now_ns))

    def trades(self, happenings: list[Happening], now_ns: int) -> None:
        """Tell of all prints among them, in one message."""
        printed: list[PublicTrade] = []
        for happening in happenings:
            if type(happening) is Printed:
                printed.append(happening.trade)
        if printed and self._trades_topic in self._wanted():
            rows = [self._written.trade(trade) for trade in printed]
            text = f'{self._trades_head}{now_ns // 1_000_000},"data":[{",".join(rows)}]}}'
            self._to_topic(self._trades_topic, text)

    def moved(self, now_ns: int) -> None:
        """The market has moved: tell what changed in books and ticker."""
        book, waiting, wanted = self.venue.book, self._waiting, self._wanted()
        changes = book.drain_changes()
        for one in self._depths:
            if one.topic not in wanted:  # a view that nobody wants looks at the whole book when somebody does
                one.view.stay_behind(book, changes)
                if waiting:
                    waiting.pop(one, None)
            elif now_ns < one.told_ns + one.every_ns or (waiting and one in waiting):
                one.view.stay_behind(book, changes)
                waiting[one] = None
            else:
                self._tell_depth(one, now_ns, one.view.follow(book, changes))
        if waiting:
            self.flush(now_ns)
        if self._ticker_topic not in wanted:
            return
        ticker = public.ticker(self.venue, now_ns)
        changed = {name: value for name, value in ticker.items() if self._ticker.get(name) != value}
        if changed:
            self._to_topic(self._ticker_topic, self._ticker_text("delta", {"symbol": self.symbol, **changed}, now_ns))
        self._ticker = ticker

    def next_flush_ns(self) -> int | None:
        """When a book that changed before it was time is to be told; None: none waits."""
        if not self._waiting:
            return None
        return min(one.told_ns + one.every_ns for one in self._waiting)

    def flush(self, now_ns: int) -> None:
        """Tell the books that waited until now, all their changes as one."""
        for one in [waiting for waiting in self._waiting if now_ns >= waiting.told_ns + waiting.every_ns]:
            del self._waiting[one]
            self._tell_depth(one, now_ns, one.view.publish(self.venue.book))

    def _tell_depth(self, one: _Depth, now_ns: int, message: DepthMessage | None) -> None:
        if message is not None:
            one.told_ns = now_ns
            text = self._written.book(one.json_topic, message, self.venue.sequence, now_ns // 1_000_000)
            self._to_topic(one.topic, text)

    def _to_topic(self, topic: str, text: str) -> None:
        for session in self._sessions:
            if topic in session.topics:
                session.send(text)

    def _wanted(self) -> dict[str, None]:
        """The topics that anybody listens to. To look at only: of one listener they are his own."""
        if len(self._sessions) == 1:
            for session in self._sessions:
                return session.topics
        wanted: dict[str, None] = {}
        for session in self._sessions:
            wanted.update(session.topics)
        return wanted

    def _snapshot_text(self, one: _Depth, now_ns: int) -> str:
        return self._written.book(
            one.json_topic, one.view.snapshot(self.venue.book), self.venue.sequence, now_ns // 1_000_000
        )

    def _ticker_text(self, kind: str, data: Mapping[str, object], now_ns: int) -> str:
        stamp = {"cs": self.venue.sequence, "ts": now_ns // 1_000_000}
        return encode({"topic": self._ticker_topic, "type": kind, "data": data, **stamp})
