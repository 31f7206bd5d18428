"""`rollout takeover`: a person says that another machine is off, so that this one's guard may have its account."""

from __future__ import annotations

from sqlmodel import select

from flows.asking import asked
from flows.names import EXIT_FAILED
from tasks.record import Record
from tasks.record_lock import TAKEOVER
from tasks.record_tables import Account


class CannotTakeOver(Exception):
    """What was asked for cannot be done as it was asked. One line: the thing, its value, what is allowed."""


def take_over(record: Record | None, account: str, off: str, who: str, reason: str) -> int:
    """Exit code 0 taken over, 1 refused or no guard answered. Raises CannotTakeOver."""
    known = [] if record is None else _accounts(record)
    if record is None or account not in known:
        raise CannotTakeOver(f"takeover {account}; allowed: {', '.join(known) or 'none, the record is empty'}")
    payload = {"off": off, "who": who, "reason": reason}
    answer = asked(record, account, TAKEOVER, payload, "nothing is taken over until one has, within 10 minutes")
    if answer is None:
        return EXIT_FAILED
    print(f"account {account}: {who} says that {off} is off; its guard is the one on {answer.result['by']} now")
    return 0


def _accounts(record: Record) -> list[str]:
    with record.reading() as session:
        return sorted(session.exec(select(Account.name)).all())
