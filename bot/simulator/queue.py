"""The queue at one price of the book: background and own orders, front first. Pure."""

from __future__ import annotations

from dataclasses import dataclass

BACKGROUND = 0
"""The key of size that belongs to nobody's account."""


@dataclass(slots=True)
class Entry:
    order: int
    lots: int


class Queue:
    """The queue at a price where own orders stand, front first."""

    __slots__ = ("background", "entries", "total")

    def __init__(self, background: int) -> None:
        self.entries: list[Entry] = [Entry(BACKGROUND, background)] if background else []
        self.total = background
        self.background = background

    def append(self, order: int, lots: int) -> None:
        last = self.entries[-1] if self.entries else None
        if order == BACKGROUND and last is not None and last.order == BACKGROUND:
            last.lots += lots
        else:
            self.entries.append(Entry(order, lots))
        self.total += lots
        if order == BACKGROUND:
            self.background += lots

    def reduce(self, index: int, lots: int) -> None:
        entry = self.entries[index]
        entry.lots -= lots
        self.total -= lots
        if entry.order == BACKGROUND:
            self.background -= lots
        if entry.lots == 0:
            del self.entries[index]

    def cancel_background(self, lots: int) -> None:
        if len(self.entries) == 1:
            self.reduce(0, lots)
            return
        before = self.background
        shares = [lots * e.lots // before if e.order == BACKGROUND else 0 for e in self.entries]
        rest = lots - sum(shares)
        for index in range(len(self.entries) - 1, -1, -1):
            entry = self.entries[index]
            if entry.order != BACKGROUND:
                continue
            extra = min(rest, entry.lots - shares[index])
            rest -= extra
            if shares[index] + extra:
                self.reduce(index, shares[index] + extra)

    def find(self, order: int) -> int:
        for index, entry in enumerate(self.entries):
            if entry.order == order:
                return index
        raise KeyError(order)
