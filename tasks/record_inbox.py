"""The guard's side of the inbox: what waits there, and the answer to each.

Anybody writes into it, and a database can be edited by hand. A row that cannot be read is told apart from the others,
so that it is answered as that and keeps nobody else waiting.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import DataError, SQLAlchemyError
from sqlmodel import col, select, update

from tasks.record_links import ChainWriter
from tasks.record_tables import Inbox, utc_now

DAMAGED = "damaged"
TEXTS = ("kind", "idempotency_key", "reason")


@dataclass(frozen=True)
class DamagedRow:
    """A request of which these columns hold what is none of theirs: bytes that are no text, no JSON, no time."""

    id: int
    columns: tuple[str, ...]

    def __str__(self) -> str:
        return f"request {self.id} is {DAMAGED}: {', '.join(self.columns)} cannot be read"


class InboxWriter(ChainWriter):
    """The inbox of one account."""

    def waiting(self) -> Sequence[Inbox]:
        """Unanswered requests, oldest first. Raises where one of them cannot be read: see `waiting_one_by_one`."""
        query = select(Inbox).where(Inbox.account == self.account, Inbox.state == "waiting")
        with self.reading() as session:
            rows = session.exec(query.order_by(col(Inbox.id))).all()
        if any(_bytes_in(row) for row in rows):
            raise ValueError("bytes where a text belongs")
        return rows

    def waiting_one_by_one(self) -> list[Inbox | DamagedRow]:
        """The same, each read by itself. Raises only where the record is away, or does not answer just now."""
        query = select(Inbox.id).where(Inbox.account == self.account, Inbox.state == "waiting")
        with self.reading() as session:
            numbers = session.exec(query.order_by(col(Inbox.id))).all()
        return [found for number in numbers if (found := self._one(number or 0)) is not None]

    def _one(self, number: int) -> Inbox | DamagedRow | None:
        """None where it is gone, or where each of its columns can be read by itself: it is looked at again."""
        try:
            with self.reading() as session:
                row = session.get(Inbox, number)
            bytes_in = () if row is None else _bytes_in(row)
            return DamagedRow(number, bytes_in) if bytes_in else row
        except Exception as error:
            if not _is_of_a_value(error):
                raise
        columns = tuple(name for name in Inbox.model_fields if not self._is_readable(number, name))
        return DamagedRow(number, columns) if columns else None

    def _is_readable(self, number: int, name: str) -> bool:
        try:
            with self.reading() as session:
                session.exec(select(getattr(Inbox, name)).where(Inbox.id == number)).first()
        except Exception as error:
            if not _is_of_a_value(error):
                raise
            return False
        return True

    def reply(
        self,
        inbox_id: int,
        *,
        done: bool,
        reason: str = "",
        result: dict[str, Any] | None = None,
        refused: dict[str, Any] | None = None,
    ) -> None:
        """Answers it, once. `refused`: what a link tells of it in the chain; None where none does."""
        with self.writing() as session:
            row = session.get(Inbox, inbox_id)
            if row is None or row.state != "waiting":
                return
            row.state, row.reason = ("done" if done else "refused"), reason
            row.result, row.answered_at = result or {}, utc_now()
            payload: Any = row.payload  # a stranger's may be no object
            if isinstance(payload, dict) and "code" in payload:
                # A one-time code may still be good for a minute: it does not stay in a table.
                row.payload = {**payload, "code": "(not kept)"}
            session.add(row)
            if refused is not None:
                self._append(session, "refused", refused)

    def refuse_damaged(self, row: DamagedRow, refused: dict[str, Any] | None = None) -> None:
        """Answers a row that cannot be read, once, and makes it one that can, for whoever waits for the answer.

        Its words are not kept: there may be a code among them. A stop whose words cannot be read stands as one of
        everything, for what it was to keep from beginning is not known.
        """
        mended = {"kind": DAMAGED, "idempotency_key": f"{DAMAGED}-{secrets.token_hex(8)}", "created_at": utc_now()}
        values = {name: value for name, value in mended.items() if name in row.columns}
        values |= {"state": "refused", "reason": str(row), "result": {}, "answered_at": utc_now()}
        this = (col(Inbox.id) == row.id, col(Inbox.state) == "waiting")
        with self.writing() as session:
            is_stop = session.exec(select(Inbox.id).where(*this, Inbox.kind == "stop")).first() is not None
            values["payload"] = {"rollout": "", "reason": "its words cannot be read"} if is_stop else {}
            if session.exec(update(Inbox).where(*this).values(**values)).rowcount == 1 and refused is not None:
                self._append(session, "refused", refused)


def _bytes_in(row: Inbox) -> tuple[str, ...]:
    """SQLite also keeps bytes where a text belongs, and they are read without an error."""
    return tuple(name for name in TEXTS if not isinstance(getattr(row, name), str))


def _is_of_a_value(error: Exception) -> bool:
    """Whether it comes of what stands in a column, which is each type's own error, and not of a database that does not
    answer just now, or a machine that is short of something: a request that is sound is not refused for those."""
    return isinstance(error, DataError) or not isinstance(error, (SQLAlchemyError, MemoryError, OSError))
