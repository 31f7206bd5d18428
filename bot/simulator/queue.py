"""The queue at one price of the book: background and own orders, front first. Pure."""

from __future__ import annotations

from typing import Final

from bot.domain.order import Side

BACKGROUND: Final = 0
"""The key of size that belongs to nobody's account."""


class Entry:
    __slots__ = ("lots", "order")

    def __init__(self, order: int, lots: int) -> None:
        self.order = order
        self.lots = lots


class Queue:
    """The queue at a price where own orders stand, front first. `total` and `background`: lots."""

    __slots__ = ("background", "entries", "price_ticks", "side", "total")

    def __init__(self, side: Side, price_ticks: int, background: int) -> None:
        self.side: Final = side
        self.price_ticks: Final = price_ticks
        self.entries: list[Entry] = [Entry(BACKGROUND, background)] if background else []
        self.total = background
        self.background = background

    def append(self, order: int, lots: int) -> None:
        entries = self.entries
        if order == BACKGROUND and entries and entries[-1].order == BACKGROUND:
            entries[-1].lots += lots
        else:
            entries.append(Entry(order, lots))
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
        entries = self.entries
        if len(entries) == 1:
            self.reduce(0, lots)
            return
        before = self.background
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

    def find(self, order: int) -> int:
        for index, entry in enumerate(self.entries):
            if entry.order == order:
                return index
        raise KeyError(order)
