"""What a venue says again and again with other values in it: read by what stands between them, word for word. Pure.

A shape is made of a text that was read the patient way. What differs from it in the least, outside of the values of the
fields that it was made for, is not read by it: that is for the patient way to judge. Nothing is known here of the order
of fields, nor of what a venue may add to them. Whoever makes a shape proves it before it is used: `with_values` is read
the patient way, and has to say those values, each in its place, and nothing else that is new.

Byte by byte, which pays in a compiled bot alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from mypy_extensions import i64

_PAIR: Final = re.compile(r'"([A-Za-z0-9_-]+)":(?:"([^"\\\x00-\x1f]*)"|(0|[1-9][0-9]{0,17})(?=[,}]))')

_QUOTE: Final = 34
_BACKSLASH: Final = 92
_SPACE: Final = 32
_ZERO: Final = 48
_NINE: Final = 57
_DIGITS_MAX: Final = 18

_PASSED_OVER: Final = -1
_NUMBER: Final = -2
"""Passed over, and no text but a number."""


@final
class Shape:
    """`opening`: what stands before the first value. `names`: the fields whose values are kept, in their order."""

    __slots__ = ("_behind", "_places", "_size", "names", "opening", "values")

    def __init__(self, opening: str, names: list[str], places: list[int], behind: list[str]) -> None:
        self.opening: Final = opening
        self.names: Final = names
        self.values: Final[list[str]] = [""] * len(names)
        """Of the text that was read last."""
        self._places: Final = places
        """Of each value: its place in `values`, or that it is passed over."""
        self._behind: Final = behind
        """What stands behind each value."""
        self._size: Final = len(behind)

    def end_in(self, text: str, raw: bytes, at: i64) -> i64:
        """Where it ends in that text, its opening having ended at `at`; below 0 where the text has another shape.

        `raw`: the same text, all of it ASCII: compiled, a byte is read in half the time of a character.
        """
        size: i64 = len(raw)
        count: i64 = self._size
        number: i64 = 0
        while number < count:
            first: i64 = at
            place: i64 = self._places[number]
            if place == _NUMBER:
                while at < size and _ZERO <= raw[at] <= _NINE:
                    at += 1
                if at == first or at - first > _DIGITS_MAX or (raw[first] == _ZERO and at - first > 1):
                    return -1
            else:
                while at < size:
                    char: i64 = raw[at]
                    if char == _QUOTE:
                        break
                    if char < _SPACE or char == _BACKSLASH:
                        return -1
                    at += 1
                if place >= 0:
                    self.values[place] = text[first:at]
            behind = self._behind[number]
            first = at
            at += len(behind)
            if text[first:at] != behind:
                return -1
            number += 1
        return at

    def with_values(self, values: list[str], passed_over: str) -> str:
        """A text of this shape. `passed_over`: digits, the value of all that is not kept."""
        pieces = [self.opening]
        for place, behind in zip(self._places, self._behind, strict=True):
            pieces += [values[place] if place >= 0 else passed_over, behind]
        return "".join(pieces)


def shape_of(text: str, fields: Mapping[str, bool]) -> Shape | None:
    """The shape of an ASCII text in JSON. `fields`: those whose value may be another, and whether it is kept.

    None: there is none of them in it, a number is to be kept, or it is written otherwise than it looks.
    """
    if "\\" in text:
        return None
    opening, at = "", 0
    names: list[str] = []
    places: list[int] = []
    behind: list[str] = []
    for pair in _PAIR.finditer(text):
        name, is_number = pair[1], pair[2] is None
        is_kept = fields.get(name)
        if is_kept is None:
            continue
        if is_kept and is_number:
            return None
        first, end = pair.span(3 if is_number else 2)
        if places:
            behind.append(text[at:first])
        else:
            opening = text[:first]
        at = end
        places.append(len(names) if is_kept else _NUMBER if is_number else _PASSED_OVER)
        if is_kept:
            names.append(name)
    if not places:
        return None
    behind.append(text[at:])
    return Shape(opening, names, places, behind)
