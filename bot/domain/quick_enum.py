"""Enumerations whose members cost what any attribute of a class costs. Pure."""

from __future__ import annotations

from enum import Enum
from operator import attrgetter
from typing import TypeVar

E = TypeVar("E", bound=Enum)


def quick(kind: type[E]) -> type[E]:
    """Makes the members plain attributes of their class, as they are from Python 3.12 on, and `value` one of theirs.

    In 3.11 each is found by a descriptor that is written in Python, at several times the price of the attribute, and
    sides are compared and statuses asked dozens of times for each message.
    """
    for name, member in kind.__members__.items():
        type.__setattr__(kind, name, member)  # past the metaclass, which refuses to assign a member anew
    type.__setattr__(kind, "value", property(attrgetter("_value_")))
    return kind
