"""Writes the links of the record's chain, in the transaction of the row that each tells of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlmodel import Session, SQLModel, col, select

from tasks.record import iso
from tasks.record_chain import GENESIS, canonical_json, link_hash
from tasks.record_outbox import Notice, OutboxWriter, head_of
from tasks.record_tables import RecordEntry, utc_now


class ChainWriter(OutboxWriter):
    """The chain of one account."""

    def append(self, kind: str, body: dict[str, Any]) -> str:
        """Appends one link on its own. Returns the new head."""
        with self.writing() as session:
            return self._append(session, kind, body)

    def append_told(self, kind: str, body: dict[str, Any], notices: Sequence[Notice]) -> None:
        """One link and the notices of it, together; where the first of them is queued already both were written."""
        with self.writing() as session:
            if not self._is_queued(session, notices[0].key):
                self._append(session, kind, body)
                self._queue(session, notices)

    def _append(self, session: Session, kind: str, body: dict[str, Any]) -> str:
        query = select(RecordEntry).where(RecordEntry.account == self.account)
        last = session.exec(query.order_by(col(RecordEntry.seq).desc()).limit(1)).first()
        seq, prev = (last.seq + 1, last.hash) if last else (1, GENESIS)
        at, text = str(iso(utc_now())), canonical_json(body)
        head = link_hash(self.account, seq, prev, at, kind, text)
        session.add(RecordEntry(account=self.account, seq=seq, prev_hash=prev, hash=head, at=at, kind=kind, body=text))
        return head

    def head(self) -> str:
        """The last hash of the chain; it goes out with every notice, so that truncation shows."""
        with self.reading() as session:
            return head_of(session, self.account)


def told_columns(row: SQLModel, *, without: Sequence[str] = (), only: Sequence[str] = ()) -> dict[str, Any]:
    """The row's columns as the chain tells them: times in ISO 8601, UTC, to the millisecond."""
    names = only or [name for name in type(row).model_fields if name not in without]
    return {name: iso(value) if isinstance(value := getattr(row, name), datetime) else value for name in names}
