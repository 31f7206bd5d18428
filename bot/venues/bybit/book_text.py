"""A change of a book, read straight from the text in which the venue writes nearly all that it says. Pure.

`{"topic":"orderbook.50.SYMBOL","type":"delta","ts":1,"data":{"s":"SYMBOL","b":[["1","2"]],"a":[],"u":2,"seq":3},
"cts":1}`, in this order and without a space. Whatever looks different in the least is not judged here: it is decoded
field by field, which says what is wrong with it, if anything is. A test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from bot.domain.events import BookDelta, Level
from bot.venues.bybit.decode import NS_PER_MS, Grid
from bot.venues.port import VenueGarbled

_TOPIC: Final = '{"topic":"'
_DELTA: Final = '","type":"delta","ts":'
_TOPIC_AT: Final = len(_TOPIC)
_DIGITS_MAX: Final = 18
NO_NUMBER: Final = -1


@final
class BookText:
    """Reads changes of one symbol's book."""

    def __init__(self, topic: str, symbol: str, now_ns: Callable[[], int]) -> None:
        self.symbol = symbol
        self._now_ns = now_ns
        self._head = topic + _DELTA
        self._data = f',"data":{{"s":"{symbol}","b":['
        self._data_length = len(self._data)

    def delta(self, text: str, grid: Grid) -> BookDelta | None:
        """None: it is no such, or has to be looked at more closely. `text`: ASCII, of that topic, without escapes."""
        try:
            return self._delta(text, grid)
        except (VenueGarbled, IndexError):
            return None

    def _delta(self, text: str, grid: Grid) -> BookDelta | None:
        head = self._head
        if not text.startswith(head, _TOPIC_AT):
            return None
        stamped = _TOPIC_AT + len(head)
        data_at = text.find(",", stamped)
        if data_at < 0 or not text.startswith(self._data, data_at):
            return None
        if whole(text[stamped:data_at]) < 0:
            return None
        pieces = text[data_at + self._data_length :].split('"')
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
        update_id = between(pieces[at + 1], ":", ",")
        cts = between(pieces[at + 5], ":", "}")
        if update_id <= 1 or cts <= 0 or between(pieces[at + 3], ":", "},") < 0:  # update 1 is a whole book
            return None
        return BookDelta(self._now_ns(), self.symbol, tuple(bids), tuple(asks), update_id, cts * NS_PER_MS)


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


def between(piece: str, before: str, behind: str) -> int:
    """A whole number between two marks; NO_NUMBER for all else."""
    if not piece.startswith(before) or not piece.endswith(behind):
        return NO_NUMBER
    return whole(piece[len(before) : len(piece) - len(behind)])


def whole(text: str) -> int:
    """A number as JSON writes one above 0; NO_NUMBER for all else. `text`: ASCII."""
    if len(text) > _DIGITS_MAX or not text.isdecimal() or text.startswith("0"):
        return NO_NUMBER
    return int(text)


def topic_of(text: str) -> str:
    """The topic of a message that begins with it, empty where it does not."""
    if not text.startswith(_TOPIC):
        return ""
    end = text.find('"', _TOPIC_AT)
    return text[_TOPIC_AT:end] if end > 0 else ""
