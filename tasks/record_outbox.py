"""The outbox: what is to be told of a transition is queued with it, and goes out once, whoever dies in between."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import func
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from tasks.record import Record
from tasks.record_chain import GENESIS
from tasks.record_tables import Outbox, RecordEntry, utc_now


class Notice(NamedTuple):
    """What is to be told of a transition, once per `key`. The chain's head goes out with `line`.

    `delivered`: it went out while the record was away.
    """

    key: str
    kind: str
    line: str
    delivered: bool = False


class OutboxWriter(Record):
    """The notices of one account."""

    def __init__(self, record: Record, account: str) -> None:
        super().__init__(record.engine)
        self.account = self.writer = account

    def put_notice(self, key: str, kind: str, text: str, *, delivered: bool = False) -> bool:
        """Queues a notice; the same key again changes nothing and returns False. `delivered`: it is out already."""
        try:
            with self.writing() as session:
                row = Outbox(key=key, account=self.account, kind=kind, text=text)
                row.delivered_at = utc_now() if delivered else None
                session.add(row)
            return True
        except IntegrityError:
            return False

    def notice_is_out(self, key: str) -> None:
        """It was delivered by another way than the outbox."""
        with self.writing() as session:
            row = session.exec(select(Outbox).where(Outbox.key == key)).first()
            if row is not None and row.delivered_at is None:
                row.delivered_at = utc_now()
                session.add(row)

    def queue_notices(self, notices: Sequence[Notice]) -> None:
        """On their own, of what no row tells; the same key again changes nothing."""
        with self.writing() as session:
            self._queue(session, notices)

    def _queue(self, session: Session, notices: Sequence[Notice]) -> None:
        """Those that are not queued yet. The head is the one after what this transaction appends."""
        for notice in notices:
            if not self._is_queued(session, notice.key):
                text = f"{notice.line} (record {head_of(session, self.account)[:12]})"
                row = Outbox(key=notice.key, account=self.account, kind=notice.kind, text=text)
                row.delivered_at = utc_now() if notice.delivered else None
                session.add(row)

    def _is_queued(self, session: Session, key: str) -> bool:
        return session.exec(select(Outbox.id).where(Outbox.key == key)).first() is not None

    def due_notices(self) -> Sequence[Outbox]:
        """Those that are due longest, so what came first is told first; one that was refused has its turn after those
        that came before its next try, so that however many are refused hold up no other."""
        query = select(Outbox).where(Outbox.account == self.account, col(Outbox.delivered_at).is_(None))
        with self.reading() as session:
            due = query.where(col(Outbox.next_at) <= utc_now())
            return session.exec(due.order_by(col(Outbox.next_at), col(Outbox.id)).limit(20)).all()

    def undelivered(self) -> int:
        """How many notices are not out, due or not."""
        query = select(func.count()).where(Outbox.account == self.account, col(Outbox.delivered_at).is_(None))
        with self.reading() as session:
            return session.exec(query).one()

    def notice_leaves(self, notice_id: int, words: str) -> None:
        """Before it is sent: `words` stand as its error until `notice_tried`."""
        with self.writing() as session:
            row = session.get(Outbox, notice_id)
            if row is not None:
                row.error = words
                session.add(row)

    def notice_tried(self, notice_id: int, error: str, again_in_s: float | None) -> None:
        """`error` empty: delivered. `again_in_s` None: it keeps its turn, before all that came later."""
        with self.writing() as session:
            row = session.get(Outbox, notice_id)
            if row is None:
                return
            row.attempts += 1
            row.error = error
            if error and again_in_s is not None:
                row.next_at = utc_now() + timedelta(seconds=again_in_s)
            if not error:
                row.delivered_at = utc_now()
            session.add(row)


def head_of(session: Session, account: str) -> str:
    """The last hash of the account's chain, with what this transaction has appended."""
    query = select(RecordEntry.hash).where(RecordEntry.account == account)
    return session.exec(query.order_by(col(RecordEntry.seq).desc()).limit(1)).first() or GENESIS
