"""Numbers of a grid to their texts and back, without decimals where a step of it is a power of ten. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

NOT_PLAIN: Final = -1
DIGITS_MAX: Final = 18
TEXTS_KEPT: Final = 4_096
"""Of one grid; a power of two."""

_MASK: Final = TEXTS_KEPT - 1


def places_of(step: Decimal) -> int:
    """How many decimals its multiples are printed with; NOT_PLAIN where it is no power of ten, or one above 1."""
    _, digits, exponent = step.as_tuple()
    return -exponent if digits == (1,) and isinstance(exponent, int) and exponent <= 0 else NOT_PLAIN


def fixed(count: int, places: int) -> str:
    """So many units of the last of `places` decimals, as a Decimal of that exponent is printed without one."""
    digits = str(count)
    if not places:
        return digits
    if count < 0:
        return "-" + fixed(-count, places)
    whole = len(digits) - places
    if whole <= 0:
        return f"0.{'0' * -whole}{digits}"
    return f"{digits[:whole]}.{digits[whole:]}"


def units(text: str, places: int) -> int:
    """`fixed` backwards; NOT_PLAIN for all but some digits with at most that many decimals, be it a number or none."""
    if places < 0 or len(text) > DIGITS_MAX or not text.isascii():
        return NOT_PLAIN
    whole, _, decimals = text.partition(".")
    missing = places - len(decimals)
    digits = whole + decimals
    if missing < 0 or not whole or not digits.isdecimal():
        return NOT_PLAIN
    return int(digits + "0" * missing)


class Grid:
    """Multiples of one step as text, never with an exponent; remembers them, because a market repeats itself."""

    def __init__(self, step: Decimal) -> None:
        self._step = step
        self.places = places_of(step)
        self._counts: list[int] = [1] + [0] * (TEXTS_KEPT - 1)  # of no text yet: none of them has that place
        self._texts: list[str] = [""] * TEXTS_KEPT
        self._opened: list[int] = [1] + [0] * (TEXTS_KEPT - 1)  # of none yet: neither of them has that place
        self._openings: list[str] = [""] * TEXTS_KEPT

    def opening(self, count: int) -> str:
        """The same as the price of a level in JSON, with all that stands between it and the two sizes around it."""
        at = count & _MASK
        if self._opened[at] == count:
            return self._openings[at]
        opening = f'"],["{self.value(count)}","'
        if count >= 0:
            self._opened[at], self._openings[at] = count, opening
        return opening

    def text(self, count: int) -> str:
        at = count & _MASK
        if self._counts[at] == count:
            return self._texts[at]
        text = self.value(count)
        if count >= 0:
            self._counts[at], self._texts[at] = count, text
        return text

    def value(self, count: int) -> str:
        """The same of what does not repeat itself."""
        if self.places >= 0:
            return fixed(count, self.places)
        value = self._step * count
        shown = str(value)
        return shown if "E" not in shown else format(value, "f")
