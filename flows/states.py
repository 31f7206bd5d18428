"""The Prefect states that flows end in, from one place: their constructors are generic and lose their type."""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State as AnyState
from prefect.states import Completed as _Completed
from prefect.states import Failed as _Failed

State = AnyState[Any]


def Completed(name: str, message: str) -> State:
    return _Completed(name=name, message=message)


def Failed(name: str, message: str) -> State:
    return _Failed(name=name, message=message)
