"""The guard's side of the inbox: what waits there, and the answer to each. See `tasks.record_damage`."""

from __future__ import annotations

import secrets
from typing import Any

from sqlmodel import and_, col, or_, select, update

from tasks.record_damage import DAMAGED, DamagedRow, read_requests
from tasks.record_links import ChainWriter
from tasks.record_stops import MACHINE, clock_here
from tasks.record_tables import Inbox, utc_now

STOP_WORDS = ("stage_run_id", "rollout", "who", "reason", MACHINE)


class InboxWriter(ChainWriter):
    """The inbox of one account."""

    def waiting(self) -> list[Inbox | DamagedRow]:
        """Unanswered requests, oldest first; one whose state cannot be read is no answer either. Raises only where the
        record is away, or does not answer just now."""
        # As ranges, and by number: so a database looks into its index of states. It is asked all the time.
        state = col(Inbox.state)
        unanswered = select(Inbox.id).where(
            or_(state < "done", and_(state > "done", state < "refused"), state > "refused")
        )
        return read_requests(self.reading, and_(col(Inbox.account) == self.account, col(Inbox.id).in_(unanswered)))

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

        Its words are not kept, for there may be a code among them, but a stop's that can be read. One whose cannot be
        read stands as one of everything: what it was to stop is not known. It holds for whatever was there when it
        was said (refused, where that cannot be read) and nothing later, so no row stops rollouts for ever.
        """
        now = utc_now()
        key = f"{DAMAGED}-{secrets.token_hex(8)}"
        mended: dict[str, Any] = {"kind": DAMAGED, "idempotency_key": key, "created_at": now, "answered_at": now}
        mended |= {"reason": "", "result": {}}
        values = {name: value for name, value in mended.items() if name in row.columns}
        if not row.is_answered:
            values |= {"state": "refused", "reason": str(row), "result": {}, "answered_at": now}
        values["payload"] = _stop_words(row) if row.is_stop else {}
        this = and_(col(Inbox.id) == row.id, *([col(Inbox.state) == row.told["state"]] if "state" in row.told else []))
        with self.writing() as session:
            if session.exec(update(Inbox).where(this).values(**values)).rowcount == 1 and refused is not None:
                self._append(session, "refused", refused)


def _stop_words(row: DamagedRow) -> dict[str, Any]:
    """A time that is this guard's is by this machine's clock."""
    words = row.told.get("payload", {"rollout": "", "reason": str(row)})
    clock = {MACHINE: clock_here()} if "created_at" in row.columns else {}
    return {name: value for name, value in words.items() if name in STOP_WORDS} | clock
