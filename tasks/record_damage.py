"""Rows of the inbox that cannot be read, told apart from those that can: one way, for whoever reads requests or stops.

Anybody writes into the inbox, and a database can be edited by hand. One row must neither keep the others from being
read nor be overlooked itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement
from sqlalchemy.exc import DataError, SQLAlchemyError
from sqlmodel import Session, col, select

from tasks.record_engine import is_away
from tasks.record_tables import Inbox

DAMAGED: Final = "damaged"
_KINDS: Final[Mapping[str, type | tuple[type, ...]]] = {
    "id": int,
    **dict.fromkeys(("account", "kind", "idempotency_key", "state", "reason"), str),
    **dict.fromkeys(("payload", "result"), dict),
    "created_at": datetime,
    "answered_at": (datetime, type(None)),
}
STATES: Final = ("waiting", "done", "refused")
FROM, UNTIL = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
"""Nothing was asked before or will be after: what stands there instead is no time of a request."""
Reading = Callable[[], AbstractContextManager[Session]]


@dataclass(frozen=True)
class DamagedRow:
    """A request of which these columns hold what is none of theirs: bytes that are no text, no JSON object, no time
    at which anything was asked, no state that there is.

    `told`: what the others hold. It stands in no text: there may be a code in it.
    """

    id: int
    columns: tuple[str, ...]
    told: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def is_stop(self) -> bool:
        """Whether somebody wanted to stop; one of which not even that can be read says nothing."""
        return self.told.get("kind") == "stop"

    @property
    def is_answered(self) -> bool:
        """As far as can be read."""
        return bool(self.told.get("state", "waiting") != "waiting")

    def __str__(self) -> str:
        said = f"request {self.id} is {DAMAGED}: {', '.join(self.columns)} cannot be read"
        return f"{said}; it is a stop" if self.is_stop else said


def read_requests(reading: Reading, meant: ColumnElement[bool]) -> list[Inbox | DamagedRow]:
    """Those requests by their numbers. Raises only where the record is away, or does not answer just now."""
    try:
        with reading() as session:
            rows = session.exec(select(Inbox).where(meant).order_by(col(Inbox.id))).all()
        if not any(_odd(row) for row in rows):
            return list(rows)
    except Exception as error:
        if is_away(error):
            raise
    with reading() as session:
        numbers = session.exec(select(Inbox.id).where(meant).order_by(col(Inbox.id))).all()
    return [found for number in numbers if (found := _one(reading, number or 0)) is not None]


def _one(reading: Reading, number: int) -> Inbox | DamagedRow | None:
    """None where it is gone. One of which each column can be read is no damage, whatever went wrong with the whole."""
    try:
        with reading() as session:
            row = session.get(Inbox, number)
        if row is None or not _odd(row):
            return row
    except Exception as error:
        if not _is_of_a_value(error):
            raise
    told = {name: value for name in _KINDS for value in _column(reading, number, name)}
    if "id" not in told:
        return None
    damaged = tuple(name for name in _KINDS if name not in told)
    return DamagedRow(number, damaged, told) if damaged else Inbox(**told)


def _column(reading: Reading, number: int, name: str) -> list[Any]:
    """What stands there, alone; empty where it cannot be read, or the row is gone."""
    try:
        with reading() as session:
            values = session.exec(select(getattr(Inbox, name)).where(Inbox.id == number)).all()
    except Exception as error:
        if not _is_of_a_value(error):
            raise
        return []
    return [value for value in values if _fits(name, value)]


def _odd(row: Inbox) -> bool:
    """SQLite also keeps bytes where a text belongs, and they are read without an error; and any JSON is JSON."""
    return not all(_fits(name, getattr(row, name)) for name in _KINDS)


def _fits(name: str, value: Any) -> bool:
    if name == "state" and value not in STATES:
        return False
    if name == "created_at" and not (isinstance(value, datetime) and FROM <= value < UNTIL):
        return False
    return isinstance(value, _KINDS[name])


def _is_of_a_value(error: Exception) -> bool:
    """Whether it comes of what stands in a column, which is each type's own error, and not of a database that does not
    answer just now, or a machine that is short of something: a request that is sound is not refused for those."""
    return isinstance(error, DataError) or not isinstance(error, (SQLAlchemyError, MemoryError, OSError))
