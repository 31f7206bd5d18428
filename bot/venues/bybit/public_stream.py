"""Books and trades of the public stream: `orderbook.50.SYMBOL` and `publicTrade.SYMBOL`.

`u` rises by one. A gap, a message that does not decode, or a lost connection loses the book, and a book that is lost
comes back by a snapshot alone: the topic is subscribed afresh. Any snapshot, and any message with `u` 1, replaces it.
A message that does not decode loses the books of the symbols that it names; where it names none of ours it may have
been of any of them, and all are lost. The connection stays: each message is framed by itself, so the next is whole,
and one that brings nothing readable any more is found silent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Final

from bot.domain.events import BookLost, BookSnapshot
from bot.venues.bybit import wire
from bot.venues.bybit.decode import Grid, book_event, trade_events
from bot.venues.bybit.sockets import PING_EVERY_S, TOPICS_PER_REQUEST, Stream, operation, push_of
from bot.venues.port import Sink, VenueGarbled
from bot.venues.transport import Transport

BOOK_DEPTH: Final = 50
MESSAGE_MAX: Final = 256 * 1024
"""Bytes, or characters, of one message. A book of that depth and a sweep of trades are a few kilobytes."""
SNAPSHOT_PATIENCE_S: Final = 2.0
"""A snapshot asked for is not asked for again before this has passed."""


class PublicStream(Stream):
    """Market data of some symbols.

    `every_print`: all prints of a message, for who needs the volume and the order in which it traded; else the newest
    of each, by which the engine goes: a sweep's message has dozens.
    """

    def __init__(
        self,
        url: str,
        transport: Transport,
        sink: Sink,
        now_ns: Callable[[], int],
        jitter: Random,
        grids: Mapping[str, Grid],
        *,
        every_print: bool = False,
    ) -> None:
        super().__init__("public", url, transport, sink, now_ns, jitter)
        self._grids = grids
        self._every_print = every_print
        self._books: dict[str, str] = {}
        self._trades: dict[str, str] = {}
        for symbol in grids:
            self._topics_of(symbol)
        self._last_u: dict[str, int] = {}
        self._asked_at_s: dict[str, float] = {}
        self._subscriptions_open = 0
        self._added: list[str] = []
        """topics that a connection under way did not ask for when it began"""
        self._data_came = True

    def _topics_of(self, symbol: str) -> list[str]:
        book, trades = f"orderbook.{BOOK_DEPTH}.{symbol}", f"publicTrade.{symbol}"
        self._books[book] = self._trades[trades] = symbol
        return [book, trades]

    def add(self, symbol: str) -> None:
        """One more, whose grid has just become known. While a connection comes up it waits for that."""
        topics = self._topics_of(symbol)
        if self.is_up:
            self._send(operation("subscribe", topics))
        else:
            self._added += topics

    def resync(self, symbol: str) -> None:
        """Asks for a fresh snapshot; until it comes, changes of that book are not passed on."""
        if symbol not in self._grids or not self.is_up:
            return  # a connection that is down subscribes afresh when it comes back
        self._last_u.pop(symbol, None)
        now_s = asyncio.get_running_loop().time()
        if now_s < self._asked_at_s.get(symbol, float("-inf")) + SNAPSHOT_PATIENCE_S:
            return
        self._asked_at_s[symbol] = now_s
        topic = f"orderbook.{BOOK_DEPTH}.{symbol}"
        self._send(operation("unsubscribe", [topic]))
        self._send(operation("subscribe", [topic]))

    def _greet(self) -> None:
        self._last_u.clear()
        self._asked_at_s.clear()
        self._added.clear()
        self._data_came = True
        self._subscriptions_open = self._subscribe([*self._books, *self._trades])

    def _subscribe(self, topics: Sequence[str]) -> int:
        """In how many requests: each names no more topics than the venue takes."""
        requests = [topics[at : at + TOPICS_PER_REQUEST] for at in range(0, len(topics), TOPICS_PER_REQUEST)]
        for request in requests:
            self._send(operation("subscribe", request))
        return len(requests)

    def _lost(self, reason: str) -> None:
        had_books, self._last_u = list(self._last_u), {}
        for symbol in had_books:
            self._sink(BookLost(self._now_ns(), symbol, reason))

    def _silence(self, *, pinged: bool) -> str:
        """A market that says nothing between two pings is no market: pongs alone do not keep the stream."""
        if pinged and not self._data_came and self.is_up:
            return f"no market data for {PING_EVERY_S:g} s, though the connection answers"
        if pinged:
            self._data_came = False
        return super()._silence(pinged=pinged)

    def _take(self, raw: bytes | str) -> None:
        """A message that cannot be read loses books, not the connection; while that comes up, it ends it."""
        try:
            if len(raw) > MESSAGE_MAX:
                raise VenueGarbled(f"{self.name}: a message of {len(raw)} bytes, {MESSAGE_MAX} is the most")
            self._take_readable(raw)
        except VenueGarbled as error:
            ours = dict.fromkeys(self._books.values())
            named = wire.symbols_named(raw)
            suspect = [symbol for symbol in ours if symbol in named]
            if not suspect and not self.is_up:
                raise  # nothing hangs on it yet, and what it should have answered is unknown
            for symbol in suspect or ours:
                self._lose_book(symbol, f"garbled: {error}", garbled=True)

    def _take_readable(self, raw: bytes | str) -> None:
        book = wire.book_push(raw)
        if book is not None and book.topic in self._books:
            self._data_came = True
            self._take_book(book, book.data, self._books[book.topic])
            return
        push = push_of(raw, self.name)
        if push.topic:
            self._data_came = True
        if push.topic in self._books:
            symbol = self._books[push.topic]
            self._take_book(push, wire.decode(wire.BookRows, push.data, push.topic), symbol)
        elif push.topic in self._trades:
            trades = wire.decode_rows(wire.TradeRow, push.data, push.topic)
            symbol = self._trades[push.topic]
            for row in trades:
                if row.s != symbol:
                    raise _of_another(row.s, symbol)
            wanted = trades if self._every_print else trades[-1:]
            for event in trade_events(wanted, self._grids[symbol], self._now_ns()):
                self._sink(event)
        elif push.op == "subscribe" and not self.is_up:
            self._subscriptions_open -= 1
            if self._subscriptions_open == 0:
                self._now_up()
                self._subscribe(self._added)
                self._added = []
        elif not push.topic and not push.op and push.success is None:
            raise VenueGarbled(f"{self.name}: topic: missing, and it answers no operation")
        elif push.topic.rpartition(".")[2] in self._books.values():
            raise VenueGarbled(f"topic: {push.topic!r} is none that was asked for")

    def _take_book(self, push: wire.Push | wire.BookPush, rows: wire.BookRows, symbol: str) -> None:
        if rows.s != symbol:
            raise _of_another(rows.s, symbol)
        event = book_event(push, rows, self._grids[symbol], self._now_ns())
        if isinstance(event, BookSnapshot):
            self._last_u[symbol] = event.update_id
            self._asked_at_s.pop(symbol, None)
            self._sink(event)
            return
        last = self._last_u.get(symbol)
        if last is None:
            self.resync(symbol)  # no book to change: its snapshot is on the way, or was lost or garbled
            return
        if event.update_id <= last:
            return  # a message that came twice, or after its successor
        if event.update_id != last + 1:
            self._lose_book(symbol, f"gap: update {event.update_id} after {last}")
            return
        self._last_u[symbol] = event.update_id
        self._sink(event)

    def _lose_book(self, symbol: str, reason: str, *, garbled: bool = False) -> None:
        self._last_u.pop(symbol, None)
        self._sink(BookLost(self._now_ns(), symbol, reason, garbled=garbled))
        self.resync(symbol)


def _of_another(told: str, symbol: str) -> VenueGarbled:
    return VenueGarbled(f"data.s: {told!r} under a topic of {symbol}")
