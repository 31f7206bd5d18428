"""The guard's side of the inbox: what waits there, and the answer to each.

Anybody writes into it, and a database can be edited by hand. A row that cannot be read is told apart from the others,
so that it is answered as that and keeps nobody else waiting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import col, select, update

from tasks.record_engine import is_away
from tasks.record_links import ChainWriter
from tasks.record_tables import Inbox, utc_now

DAMAGED = "damaged"


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
            return session.exec(query.order_by(col(Inbox.id))).all()

    def waiting_one_by_one(self) -> list[Inbox | DamagedRow]:
        """The same, each read by itself. Raises only where the record is away."""
        query = select(Inbox.id).where(Inbox.account == self.account, Inbox.state == "waiting")
        with self.reading() as session:
            numbers = session.exec(query.order_by(col(Inbox.id))).all()
        return [found for number in numbers if (found := self._one(number or 0)) is not None]

    def _one(self, number: int) -> Inbox | DamagedRow | None:
        try:
            with self.reading() as session:
                return session.get(Inbox, number)
        except Exception as error:  # what a column makes of a value that is none of its own is each type's own error
            if is_away(error):
                raise
            return DamagedRow(number, tuple(name for name in Inbox.model_fields if not self._is_readable(number, name)))

    def _is_readable(self, number: int, name: str) -> bool:
        try:
            with self.reading() as session:
                session.exec(select(getattr(Inbox, name)).where(Inbox.id == number)).first()
        except Exception as error:
            if is_away(error):
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
        mended = {"kind": DAMAGED, "idempotency_key": f"{DAMAGED}-{row.id}", "created_at": utc_now()}
        values = {name: value for name, value in mended.items() if name in row.columns}
        values |= {"state": "refused", "reason": str(row), "result": {}, "answered_at": utc_now()}
        this = (col(Inbox.id) == row.id, col(Inbox.state) == "waiting")
        with self.writing() as session:
            is_stop = session.exec(select(Inbox.id).where(*this, Inbox.kind == "stop")).first() is not None
            values["payload"] = {"rollout": "", "reason": "its words cannot be read"} if is_stop else {}
            if session.exec(update(Inbox).where(*this).values(**values)).rowcount == 1 and refused is not None:
                self._append(session, "refused", refused)
