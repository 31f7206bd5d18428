"""A change of a book, read byte by byte: the way in which a compiled bot is quickest. Pure.

The same messages as `bot.venues.bybit.book_text` reads by cutting them to pieces, and of these those whose numbers are
digits with at most one point; the rest is left to whoever says what is wrong with it. A test compares the three.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from bot.domain.events import BookDelta, Level
from bot.venues.bybit.decode import NS_PER_MS, Grid

if TYPE_CHECKING:
    from mypy_extensions import i64

DIGITS_MAX: Final = 18
"""So many fit into 64 bits, whatever they are."""
NO_NUMBER: Final = -1
_SHORT: Final = 9_000_000_000_000
"""Milliseconds that are nanoseconds in 64 bits."""

_ZERO: Final = 48
_NINE: Final = 57
_QUOTE: Final = 34
_COMMA: Final = 44
_OPENING: Final = 91
_CLOSING: Final = 93

_DELTA: Final = '","type":"delta","ts":'
_ASKS: Final = b',"a":['
_UPDATE: Final = b',"u":'
_SEQUENCE: Final = b',"seq":'
_STAMP: Final = b'},"cts":'
_END: Final = b"}"


@final
class BookScan:
    """Reads changes of one symbol's book on one grid. `_at`: where it is in the text that it reads."""

    def __init__(self, symbol: str, grid: Grid) -> None:
        self.grid: Final = grid
        self._symbol: Final = symbol
        self._data: Final = f',"data":{{"s":"{symbol}","b":['
        self._at: i64 = 0
        self._ticks: Final = grid.tick_step
        self._lots: Final = grid.lot_step

    def delta(self, text: str, topic_end: int, now_ns: int) -> BookDelta | None:
        """None: it is no such, or has to be looked at more closely. `text`: ASCII and without escapes.

        `topic_end`: where the topic ends that it begins with, which is this one.
        """
        try:
            return self._delta(text, topic_end, now_ns)
        except IndexError:
            return None

    def _delta(self, text: str, topic_end: int, now_ns: int) -> BookDelta | None:
        raw = text.encode()
        stamped = topic_end + len(_DELTA)
        if text[topic_end:stamped] != _DELTA or self._whole(raw, stamped) < 0:
            return None
        data_at: int = self._at
        levels_at = data_at + len(self._data)
        if text[data_at:levels_at] != self._data:
            return None
        self._at = levels_at
        bids: list[Level] = []
        asks: list[Level] = []
        if not (self._levels(raw, bids) and self._passes(raw, _ASKS) and self._levels(raw, asks)):
            return None
        if not self._passes(raw, _UPDATE):
            return None
        update_id = self._whole(raw, self._at)
        if update_id <= 1 or not self._passes(raw, _SEQUENCE):  # 1: a whole book, whatever it calls itself
            return None
        if self._whole(raw, self._at) < 0 or not self._passes(raw, _STAMP):
            return None
        stamp_ms = self._whole(raw, self._at)
        if stamp_ms < 0 or not self._passes(raw, _END) or self._at != len(raw):
            return None
        venue_at_ns: int
        if stamp_ms < _SHORT:
            short_ns: i64 = stamp_ms * NS_PER_MS
            venue_at_ns = short_ns
        else:
            venue_at_ms: int = stamp_ms
            venue_at_ns = venue_at_ms * NS_PER_MS
        return BookDelta(now_ns, self._symbol, tuple(bids), tuple(asks), update_id, venue_at_ns)

    def _levels(self, raw: bytes, found: list[Level]) -> bool:
        """All of one side, behind the bracket that opens it; then it is behind the one that closes it."""
        at: i64 = self._at
        if raw[at] == _CLOSING:
            self._at = at + 1
            return True
        tick_step, lot_step = self._ticks, self._lots
        while True:
            if raw[at] != _OPENING or raw[at + 1] != _QUOTE:
                return False
            ticks = tick_step.scan(raw, at + 2)
            at = tick_step.scanned_to
            if ticks <= 0 or not self._is_between(raw, at):
                return False
            lots = lot_step.scan(raw, at + 3)
            at = lot_step.scanned_to + 1
            if lots < 0 or raw[at - 1] != _QUOTE or raw[at] != _CLOSING:
                return False
            found.append((ticks, lots))
            behind: i64 = raw[at + 1]
            at += 2
            if behind == _CLOSING:
                self._at = at
                return True
            if behind != _COMMA:
                return False

    def _whole(self, raw: bytes, at: i64) -> i64:
        """A number above 0 as JSON writes it, to where it ends; NO_NUMBER where it is none, or one that is too long."""
        first: i64 = at
        number: i64 = 0
        char: i64 = raw[at]
        if char == _ZERO:
            return NO_NUMBER
        while _ZERO <= char <= _NINE:
            number = number * 10 + (char - _ZERO)
            at += 1
            if at - first > DIGITS_MAX:
                return NO_NUMBER
            char = raw[at]
        self._at = at
        return number if at > first else NO_NUMBER

    def _is_between(self, raw: bytes, at: i64) -> bool:
        """Whether a price ends there and a size begins."""
        return raw[at] == _QUOTE and raw[at + 1] == _COMMA and raw[at + 2] == _QUOTE

    def _passes(self, raw: bytes, mark: bytes) -> bool:
        """Whether that stands here; then it is behind it."""
        at: i64 = self._at
        count: i64 = len(mark)
        place: i64 = 0
        while place < count:
            if raw[at + place] != mark[place]:
                return False
            place += 1
        self._at = at + count
        return True
