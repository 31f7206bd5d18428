"""A change of a book, read straight from the text in which the venue writes nearly all that it says. Pure.

`{"topic":"orderbook.50.SYMBOL","type":"delta","ts":1,"data":{"s":"SYMBOL","b":[["1","2"]],"a":[],"u":2,"seq":3},
"cts":1}`, in this order and without a space. Whatever looks different in the least is not judged here: it is decoded
field by field, which says what is wrong with it, if anything is. A test compares the two. A compiled bot reads it
character by character (`bot.venues.bybit.book_scan`), at a quarter of the price; interpreted that costs several times
as much as to cut it to pieces, which the interpreter does by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from bot.domain.events import BookDelta, Level
from bot.venues.bybit.book_scan import BookScan
from bot.venues.bybit.decode import IS_COMPILED, NS_PER_MS, Grid
from bot.venues.port import VenueGarbled

_TOPIC: Final = '{"topic":"'
_DELTA: Final = '","type":"delta","ts":'
TOPIC_AT: Final = len(_TOPIC)
_DIGITS_MAX: Final = 18
NO_NUMBER: Final = -1


@final
class BookText:
    """Reads changes of one symbol's book."""

    def __init__(self, symbol: str, now_ns: Callable[[], int]) -> None:
        self.symbol = symbol
        self._now_ns = now_ns
        self._data = f',"data":{{"s":"{symbol}","b":['
        self._scan: BookScan | None = None

    def delta(self, text: str, topic_end: int, grid: Grid) -> BookDelta | None:
        """None: it is no such, or has to be looked at more closely. `text`: ASCII and without escapes.

        `topic_end`: where the topic ends that it begins with, which is this one.
        """
        if IS_COMPILED:
            scan = self._scan
            if scan is None or scan.grid is not grid:
                scan = self._scan = BookScan(self.symbol, grid)
            return scan.delta(text, topic_end, self._now_ns())
        return self.cut(text, topic_end, grid)

    def cut(self, text: str, topic_end: int, grid: Grid) -> BookDelta | None:
        """As `delta`, by cutting the text to pieces."""
        try:
            return self._delta(text, topic_end, grid)
        except (VenueGarbled, IndexError):
            return None

    def _delta(self, text: str, topic_end: int, grid: Grid) -> BookDelta | None:
        stamped = topic_end + len(_DELTA)
        if text[topic_end:stamped] != _DELTA:
            return None
        data_at = text.find(",", stamped)
        levels_at = data_at + len(self._data)
        if data_at < 0 or text[data_at:levels_at] != self._data:
            return None
        pieces = text[levels_at:].split('"')
        bids: list[Level] = []
        asks: list[Level] = []
        at = 1
        if pieces[0] == "[":
            at = _levels(pieces, 1, bids, grid, "data.b")
            if at < 0:
                return None
        elif pieces[0] != "],":
            return None
        if pieces[at] != "a":
            return None
        if pieces[at + 1] == ":[[":
            at = _levels(pieces, at + 2, asks, grid, "data.a")
            if at < 0:
                return None
        elif pieces[at + 1] == ":[],":
            at += 2
        else:
            return None
        if len(pieces) != at + 6 or pieces[at] != "u" or pieces[at + 2] != "seq" or pieces[at + 4] != "cts":
            return None
        ts, number = text[stamped:data_at], between(pieces[at + 1], ":", ",")
        seq, cts = between(pieces[at + 3], ":", "},"), between(pieces[at + 5], ":", "}")
        if not (is_whole(ts) and is_whole(number) and is_whole(seq) and is_whole(cts)):
            return None
        if not (ts + number + seq + cts).isdecimal():
            return None
        update_id = int(number)
        if update_id == 1:  # a whole book, whatever it calls itself
            return None
        return BookDelta(self._now_ns(), self.symbol, tuple(bids), tuple(asks), update_id, int(cts) * NS_PER_MS)


def _levels(pieces: list[str], at: int, found: list[Level], grid: Grid, field: str) -> int:
    """Levels from that piece on; returns which piece comes behind them, NO_NUMBER where they end otherwise."""
    ticks, lots = grid.known_ticks, grid.known_lots
    while True:
        if pieces[at + 1] != ",":
            return NO_NUMBER
        price, size = pieces[at], pieces[at + 2]
        tick, lot = ticks.get(price), lots.get(size)
        if tick is None:
            tick = grid.ticks(price, field)
        if lot is None:
            lot = grid.lots(size, field)
        found.append((tick, lot))
        behind = pieces[at + 3]
        at += 4
        if behind == "]],":
            return at
        if behind != "],[":
            return NO_NUMBER


def between(piece: str, before: str, behind: str) -> str:
    """What stands between two marks; empty where they are not there."""
    if not piece.startswith(before) or not piece.endswith(behind):
        return ""
    return piece[len(before) : len(piece) - len(behind)]


def is_whole(digits: str) -> bool:
    """Whether digits are a number above 0 as JSON writes it, and none that is too long."""
    return 0 < len(digits) <= _DIGITS_MAX and not digits.startswith("0")


def topic_of(text: str) -> str:
    """The topic of a message that begins with it, empty where it does not."""
    if not text.startswith(_TOPIC):
        return ""
    end = text.find('"', TOPIC_AT)
    return text[TOPIC_AT:end] if end > 0 else ""
