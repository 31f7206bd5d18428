"""Prices and sizes as the venue prints them: never with an exponent. Pure."""

from __future__ import annotations

from decimal import Decimal

TEXTS_KEPT = 4_000
"""Of one step; past that many all are forgotten."""

STEPS_KEPT = 64


class _Texts(dict[int, str]):
    """Multiples of one step as text; remembers them, because a market repeats itself."""

    def __init__(self, step: Decimal) -> None:
        super().__init__()
        self._step = step

    def __missing__(self, count: int) -> str:
        if len(self) >= TEXTS_KEPT:
            self.clear()
        value = self._step * count
        shown = str(value)  # a third of the price of a format, and the same wherever it has no exponent
        written = self[count] = shown if "E" not in shown else format(value, "f")
        return written


_texts: dict[str, _Texts] = {}
_of_object: dict[int, tuple[Decimal, _Texts]] = {}
"""By the step's own identity, beside the step, so that no other object can come to the same one."""


def texts(step: Decimal) -> _Texts:
    """Number of steps → the value as the venue prints it."""
    found = _of_object.get(id(step))
    if found is not None:
        return found[1]
    name = str(step)  # as it is written: 0.1 and 0.10 are equal, and their multiples print differently
    known = _texts.get(name)
    if known is None:
        known = _texts[name] = _Texts(step)
    if len(_of_object) < STEPS_KEPT:
        _of_object[id(step)] = (step, known)
    return known


class Counts(dict[str, int]):
    """Values as clients write them to whole numbers of steps; only what was found valid is put in."""

    def keep(self, written: str, count: int) -> int:
        """Remembers and returns the count."""
        if len(self) >= TEXTS_KEPT:
            self.clear()
        self[written] = count
        return count
