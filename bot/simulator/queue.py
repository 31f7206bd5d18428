"""What stands at one price of the book: background and own orders, front first. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mypy_extensions import i64

BACKGROUND: Final = 0
"""The key of size that belongs to nobody's account."""


class Entry:
    """A part of a queue. An own order keeps its entry when it goes to another level."""

    __slots__ = ("level", "lots", "order")

    def __init__(self, order: int, lots: i64, level: Level) -> None:
        self.order: Final = order
        self.lots = lots
        self.level = level


class Level:
    """Everything at a price, lots, and how much of it is of own orders. A level where nothing stands has 0 lots.

    `entries`: the queue, front first; None where no own order stands. `price`: `price_ticks` as the object that it came
    as, so that whoever looks it up or tells it need not make another one, and `gone` is what is told of it where it
    goes: (price, 0). `before`: the lots when somebody last looked, where `is_changed`.
    """

    __slots__ = ("before", "entries", "gone", "is_bid", "is_changed", "lots", "own", "price", "price_ticks")

    def __init__(self, price: Any, is_bid: bool) -> None:
        self.price = price
        self.price_ticks: i64 = price
        self.gone: Any = (price, 0)
        self.is_bid: Final = is_bid
        self.lots: i64 = 0
        self.own: i64 = 0
        self.before: i64 = 0
        self.is_changed = False
        self.entries: list[Entry] | None = None

    def stand_for(self, price: Any) -> None:
        """Another price, where nothing stands yet: a level that nobody looks for any more is used again."""
        self.price = self.price_ticks = price
        self.gone = (price, 0)

    def join(self, entry: Entry) -> None:
        """An own order goes to the back."""
        entries = self.entries
        if entries is None:
            entries = self.entries = [Entry(BACKGROUND, self.lots, self)] if self.lots else []
        entries.append(entry)
        entry.level = self
        self.lots += entry.lots
        self.own += entry.lots

    def reduce(self, index: int, lots: int) -> None:
        """Less of one entry; there is no queue any more where the last own order leaves."""
        entries = self.queue()
        entry = entries[index]
        entry.lots -= lots
        self.lots -= lots
        if entry.order != BACKGROUND:
            self.own -= lots
            if not self.own:
                self.entries = None
                return
        if not entry.lots:
            entries.pop(index)

    def put_back(self, lots: int) -> None:
        """Background at the front of the queue."""
        entries = self.queue()
        if entries[0].order == BACKGROUND:
            entries[0].lots += lots
        else:
            entries.insert(0, Entry(BACKGROUND, lots, self))
        self.lots += lots

    def set_background(self, lots: int) -> None:
        """Growth joins at the back of the queue; a fall is shared out among the background in it."""
        entries, change = self.queue(), lots - (self.lots - self.own)
        if change < 0:
            self._cancel(entries, -change)
        elif entries[-1].order == BACKGROUND:
            entries[-1].lots += change
            self.lots += change
        else:
            entries.append(Entry(BACKGROUND, change, self))
            self.lots += change

    def _cancel(self, entries: list[Entry], lots: int) -> None:
        before = self.lots - self.own
        shares = [lots * e.lots // before if e.order == BACKGROUND else 0 for e in entries]
        rest = lots - sum(shares)
        for index in range(len(entries) - 1, -1, -1):
            entry = entries[index]
            if entry.order != BACKGROUND:
                continue
            extra = min(rest, entry.lots - shares[index])
            rest -= extra
            if shares[index] + extra:
                self.reduce(index, shares[index] + extra)

    def queue(self) -> list[Entry]:
        """The entries of a level where own orders stand."""
        entries = self.entries
        if entries is None:
            raise ValueError(f"no own order stands at {self.price_ticks}")
        return entries

    def find(self, entry: Entry) -> int:
        """The place of an entry in the queue."""
        for index, one in enumerate(self.queue()):
            if one is entry:
                return index
        raise KeyError(entry.order)
