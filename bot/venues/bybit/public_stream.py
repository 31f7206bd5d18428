"""Books and trades of the public stream: `orderbook.50.SYMBOL` and `publicTrade.SYMBOL`.

`u` rises by one. A gap, a message that does not decode, or a lost connection loses the book, and a book that is lost
comes back by a snapshot alone: the topic is subscribed afresh. Any snapshot, and any message with `u` 1, replaces it.
A message that does not decode loses the books of the symbols that it names; where it names none of ours it may have
been of any of them, and all are lost. The connection stays: each message is framed by itself, so the next is whole,
and one that brings nothing readable any more is found silent.

A subscription that the venue refuses concerns its symbol alone. Where a request named several, each is asked for by
itself; the one that is refused then is lost as if its data were garbled, and asked for again with every ping.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Final

from bot.domain.events import BookDelta, BookLost, BookSnapshot
from bot.venues.bybit import wire
from bot.venues.bybit.book_text import TOPIC_AT, BookText, topic_of
from bot.venues.bybit.decode import Grid, book_event, trade_event
from bot.venues.bybit.sockets import PING_EVERY_S, TOPICS_PER_REQUEST, Stream, operation, refused
from bot.venues.port import Sink, VenueGarbled
from bot.venues.transport import Transport

BOOK_DEPTH: Final = 50
MESSAGE_MAX: Final = 256 * 1024
"""Bytes, or characters, of one message. A book of that depth and a sweep of trades are a few kilobytes."""
SYMBOLS_PER_REQUEST: Final = TOPICS_PER_REQUEST // 2
"""Each has a book and trades."""
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
        self._texts: dict[str, BookText] = {}
        """topic of a book → who reads its changes"""
        self._reader: BookText | None = None
        """The one of them that read last: a book changes more than once before another does"""
        self._opening = ""
        """What a message for that one begins with, to the quote behind the topic"""
        for symbol in grids:
            self._topics_of(symbol)
        self._last_u: dict[str, int] = {}
        self._asked_at_s: dict[str, float] = {}
        self._requests = 0
        self._asked: dict[str, tuple[str, ...]] = {}
        """subscribe requests that were not answered → their symbols"""
        self._refused: set[str] = set()
        """symbols of which the venue tells nothing on this connection"""
        self._added: list[str] = []
        """symbols that a connection under way did not ask for when it began"""
        self._data_came = True

    def _topics_of(self, symbol: str) -> list[str]:
        book, trades = f"orderbook.{BOOK_DEPTH}.{symbol}", f"publicTrade.{symbol}"
        self._books[book] = self._trades[trades] = symbol
        return [book, trades]

    def add(self, symbol: str) -> None:
        """One more, whose grid has just become known. While a connection comes up it waits for that."""
        self._topics_of(symbol)
        if self.is_up:
            self._subscribe((symbol,))
        else:
            self._added.append(symbol)

    def resync(self, symbol: str) -> None:
        """Asks for a fresh snapshot; until it comes, changes of that book are not passed on."""
        if symbol not in self._grids or not self.is_up or symbol in self._refused:
            return  # a connection that is down subscribes afresh when it comes back
        self._last_u.pop(symbol, None)
        now_s = asyncio.get_running_loop().time()
        if now_s < self._asked_at_s.get(symbol, float("-inf")) + SNAPSHOT_PATIENCE_S:
            return
        self._asked_at_s[symbol] = now_s
        self._ask_again(symbol, [f"orderbook.{BOOK_DEPTH}.{symbol}"])

    def _greet(self) -> None:
        self._last_u.clear()
        self._asked_at_s.clear()
        self._asked.clear()
        self._refused.clear()
        self._added.clear()
        self._data_came = True
        self._subscribe(tuple(self._books.values()))

    # ---- subscriptions ----------------------------------------------------------------------------------------------

    def _subscribe(self, symbols: Sequence[str]) -> None:
        """Books and trades, in requests that name no more topics than the venue takes."""
        for at in range(0, len(symbols), SYMBOLS_PER_REQUEST):
            some = tuple(symbols[at : at + SYMBOLS_PER_REQUEST])
            self._ask(some, [topic for symbol in some for topic in self._topics_of(symbol)])

    def _ask(self, symbols: tuple[str, ...], topics: Sequence[str]) -> None:
        self._requests += 1
        number = str(self._requests)
        self._asked[number] = symbols
        self._send(operation("subscribe", topics, number))

    def _ask_again(self, symbol: str, topics: Sequence[str]) -> None:
        """Whether it is subscribed or not: what already is would be refused."""
        self._send(operation("unsubscribe", topics))
        self._ask((symbol,), topics)

    def _pinging(self) -> None:
        for symbol in sorted(self._refused):
            self._ask_again(symbol, self._topics_of(symbol))

    def _answered(self, push: wire.Push) -> tuple[str, ...]:
        """The symbols of the request that this answers, the oldest where it names none; none where it came twice."""
        number = str(push.req_id) if push.req_id else next(iter(self._asked), "")
        return self._asked.pop(number, ())

    def _take_refusal(self, push: wire.Push) -> None:
        """Raises StreamRefused where it is not about some symbols alone."""
        if push.op == "unsubscribe":
            return  # what is subscribed afresh need not have been before
        if push.op != "subscribe":
            raise refused(push)
        symbols = self._answered(push)
        for symbol in symbols:
            if len(symbols) > 1:
                self._ask_again(symbol, self._topics_of(symbol))
                continue
            self._refused.add(symbol)
            self._last_u.pop(symbol, None)
            self._sink(BookLost(self._now_ns(), symbol, f"refused: {push.ret_msg or 'no reason given'}", garbled=True))
        if not self.is_up and not self._asked and self._refused >= set(self._books.values()):
            raise refused(push)
        self._up_where_answered()

    def _up_where_answered(self) -> None:
        """All that was asked for at the begin has its answer, whatever that was."""
        if not self.is_up and not self._asked:
            self._now_up()
            self._subscribe(self._added)
            self._added = []

    # ---- what it says -----------------------------------------------------------------------------------------------

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

    def _take_change(self, raw: bytes | str) -> bool:
        """Takes a change of a book that is written as nearly all are. False: it has to be looked at more closely."""
        if not raw.isascii() or (b"\\" in raw if isinstance(raw, bytes) else "\\" in raw):
            return False
        text = raw.decode() if isinstance(raw, bytes) else raw
        reader = self._reader_of(text)
        if reader is None:
            return False
        change = reader.delta(text, len(self._opening) - 1, self._grids[reader.symbol])
        if change is None:
            return False
        self._data_came = True
        symbol = reader.symbol
        if symbol not in self._refused:
            self._change_book(change, symbol)
        return True

    def _reader_of(self, text: str) -> BookText | None:
        """Who reads changes of the book that it is about; None: it is about none. `text`: without escapes."""
        reader = self._reader
        if reader is not None and text.startswith(self._opening):
            return reader
        topic = topic_of(text)
        reader = self._texts.get(topic)
        if reader is None:
            named = self._books.get(topic)
            if named is None:
                return None
            reader = self._texts[topic] = BookText(named, self._now_ns)
        self._reader, self._opening = reader, text[: TOPIC_AT + len(topic) + 1]
        return reader

    def _take_readable(self, raw: bytes | str) -> None:
        if self._take_change(raw):
            return
        book = wire.book_push(raw)
        if book is not None and book.topic in self._books:
            self._data_came = True
            self._take_book(book, book.data, self._books[book.topic])
            return
        traded = wire.trade_push(raw)
        if traded is not None and traded.topic in self._trades:
            self._data_came = True
            self._take_trades(traded.data, self._trades[traded.topic])
            return
        push = wire.decode(wire.Push, raw, self.name)
        if push.success is False:
            self._take_refusal(push)
            return
        if push.topic:
            self._data_came = True
        if push.topic in self._books:
            symbol = self._books[push.topic]
            self._take_book(push, wire.decode(wire.BookRows, push.data, push.topic), symbol)
        elif push.topic in self._trades:
            rows = wire.decode_rows(wire.TradeRow, push.data, push.topic)
            self._take_trades(rows, self._trades[push.topic])
        elif push.op == "subscribe":
            self._refused.difference_update(self._answered(push))
            self._up_where_answered()
        elif not push.topic and not push.op and push.success is None:
            raise VenueGarbled(f"{self.name}: topic: missing, and it answers no operation")
        elif push.topic.rpartition(".")[2] in self._books.values():
            raise VenueGarbled(f"topic: {push.topic!r} is none that was asked for")

    def _take_trades(self, rows: list[wire.TradeRow], symbol: str) -> None:
        for row in rows:
            if row.s != symbol:
                raise _of_another(row.s, symbol)
        wanted = rows if self._every_print else rows[-1:]
        grid, now_ns = self._grids[symbol], self._now_ns()
        for row in wanted:
            self._sink(trade_event(row, grid, now_ns))

    def _take_book(self, push: wire.Push | wire.BookPush, rows: wire.BookRows, symbol: str) -> None:
        if rows.s != symbol:
            raise _of_another(rows.s, symbol)
        if symbol in self._refused:
            return  # told of in part: its trades are missing, or it comes behind the refusal
        event = book_event(push, rows, self._grids[symbol], self._now_ns())
        if isinstance(event, BookSnapshot):
            self._last_u[symbol] = event.update_id
            self._asked_at_s.pop(symbol, None)
            self._sink(event)
        else:
            self._change_book(event, symbol)

    def _change_book(self, event: BookDelta, symbol: str) -> None:
        last = self._last_u.get(symbol)
        if last is None:
            self.resync(symbol)  # no book to change: its snapshot is on the way, or was lost or garbled
            return
        update_id = event.update_id
        if update_id <= last:
            return  # a message that came twice, or after its successor
        if update_id != last + 1:
            self._lose_book(symbol, f"gap: update {update_id} after {last}")
            return
        self._last_u[symbol] = update_id
        self._sink(event)

    def _lose_book(self, symbol: str, reason: str, *, garbled: bool = False) -> None:
        self._last_u.pop(symbol, None)
        self._sink(BookLost(self._now_ns(), symbol, reason, garbled=garbled))
        self.resync(symbol)


def _of_another(told: str, symbol: str) -> VenueGarbled:
    return VenueGarbled(f"data.s: {told!r} under a topic of {symbol}")
