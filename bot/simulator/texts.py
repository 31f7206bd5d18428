"""Prices and sizes as the venue prints them: never with an exponent. Pure."""

from __future__ import annotations

from decimal import Decimal

TEXTS_KEPT = 20_000
"""Of one step; past that many all are forgotten."""


class _Texts(dict[int, str]):
    """Multiples of one step as text; remembers them, because a market repeats itself."""

    def __init__(self, step: Decimal) -> None:
        super().__init__()
        self._step = step

    def __missing__(self, count: int) -> str:
        if len(self) >= TEXTS_KEPT:
            self.clear()
        written = self[count] = format(self._step * count, "f")
        return written


_texts: dict[str, _Texts] = {}


def texts(step: Decimal) -> _Texts:
    """Number of steps → the value as the venue prints it."""
    name = str(step)  # as it is written: 0.1 and 0.10 are equal, and their multiples print differently
    known = _texts.get(name)
    if known is None:
        known = _texts[name] = _Texts(step)
    return known
