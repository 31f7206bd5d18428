"""Enumerations whose members are plain attributes are enumerations all the same."""

from __future__ import annotations

from copy import copy, deepcopy
from enum import Enum

import msgspec
import pytest

from bot.domain.order import OrderState, Side
from bot.engine.stop import View
from bot.simulator.orders import Status

KINDS: list[type[Enum]] = [Side, OrderState, View, Status]


@pytest.mark.parametrize("kind", KINDS)
def test_members_are_found_by_name_by_value_and_by_every_copy(kind: type[Enum]) -> None:
    for name, member in kind.__members__.items():
        assert getattr(kind, name) is kind[name] is kind(member.value) is member
        assert copy(member) is deepcopy(member) is member
        assert msgspec.json.decode(msgspec.json.encode(member), type=kind) is member
        assert (member.name, f"{member}") == (name, member.value)
    assert list(kind) == list(kind.__members__.values())


def test_a_side_knows_its_sign_and_its_opposite_and_a_status_whether_it_is_open() -> None:
    assert [(side, side.sign, side.opposite) for side in Side] == [(Side.BUY, 1, Side.SELL), (Side.SELL, -1, Side.BUY)]
    assert [status for status in Status if status.is_open] == [Status.NEW, Status.PARTLY_FILLED]
