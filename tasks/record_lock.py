"""The lock of an account: one guard, on one machine. Of a holder that cannot be seen from here nothing is assumed.

A guard that ends in order with nothing open gives the lock back, so that another machine may go on. Any other is taken
over: from a dead process of this machine at once, from another machine only by a person's word that it is off. That
word is a row in the inbox. A guard that lives refuses it; one that waits for the account takes the lock by it, and a
link of the chain tells whose word it was.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta

from sqlmodel import Session, and_, col, select

from tasks.record import FINAL_STEPS, Record, iso
from tasks.record_damage import DamagedRow, read_requests
from tasks.record_engine import storable
from tasks.record_links import ChainWriter
from tasks.record_tables import Inbox, Lock, RecordEntry, StageRun, utc_now
from tasks.supervise.identity import Identity, identify
from tasks.supervise.machine import Machine, Seen, host_of, same_machine

TAKEOVER = "takeover"
"""The kind of the request, and of the link that tells what came of it."""
TAKEOVER_AFTER = timedelta(seconds=10)
"""For so long a guard that lives has the time to refuse it."""
TAKEOVER_WITHIN = timedelta(minutes=10)
"""An older word says nothing of now."""


class AccountTaken(Exception):
    """Another guard holds this account, or may. One line for people."""


class LockWriter(ChainWriter):
    """Takes, keeps and gives back the account's lock."""

    @property
    def _lock(self) -> str:
        return _lock_of(self.account)

    def take_account(self, here: Machine) -> None:
        """Locks the account for this process on this machine. Raises AccountTaken."""
        me = identify(os.getpid())
        if me is None:
            raise AccountTaken("this process does not find itself in /proc")
        with self.writing() as session:
            held = session.get(Lock, self._lock)
            taken = "" if held is None else self._taken(session, held, me, here)
            if not taken:
                if held is not None:
                    session.delete(held)
                    session.flush()
                lock = Lock(name=self._lock, holder="guard", pid=me.pid, pid_started_ticks=me.started_ticks)
                lock.machine = str(here)
                session.add(lock)
        if taken:
            raise AccountTaken(taken)

    def holds_account(self, here: Machine) -> bool:
        """Whether the lock is still this process'."""
        with self.reading() as session:
            return self._is_mine(session.get(Lock, self._lock), here)

    def give_back_account(self, here: Machine) -> None:
        """Where nothing is open on the account: then nothing is left on this machine that another would have to know
        dead. A lock that is not this process' stays."""
        with self.writing() as session:
            held = session.get(Lock, self._lock)
            if held is not None and self._is_mine(held, here) and self._open(session) is None:
                session.delete(held)

    def say_off(self, machine: str, who: str, reason: str, inbox_id: int, here: Machine) -> None:
        """A person's word that the machine where the open stage run's bot was started is off, given to its guard."""
        with self.writing() as session:
            self._tell_off(session, machine, {"who": who, "reason": reason}, inbox_id, here)

    def said_off(self, stage_run_id: int, machine: str) -> str | None:
        """Who has said, while that stage run was open, that this machine is off; None where nobody has."""
        query = select(RecordEntry).where(RecordEntry.account == self.account, RecordEntry.kind == TAKEOVER)
        with self.reading() as session:
            told = [json.loads(link.body) for link in session.exec(query.order_by(col(RecordEntry.seq))).all()]
        of_it = [one for one in told if one["stage_run"] == stage_run_id and same_machine(one["off"], machine)]
        return str(of_it[-1]["who"]) if of_it else None

    def _is_mine(self, held: Lock | None, here: Machine) -> bool:
        me = identify(os.getpid())
        return held is not None and _process(held) == me and held.machine == str(here)

    def _taken(self, session: Session, held: Lock, me: Identity, here: Machine) -> str:
        """Why it cannot be taken from who holds it; empty where it can."""
        seen, holder = here.sees(held.machine), _process(held)
        if seen is Seen.HERE and holder != me and holder.is_alive():
            return f"account {self.account} already has a guard: pid {held.pid}"
        if seen is not Seen.ELSEWHERE or self._given_over(session, held, here):
            return ""
        off = host_of(held.machine)
        return (
            f"account {self.account} is held by a guard on machine {off} (pid {held.pid}, since {iso(held.taken_at)}); "
            f"whether that lives cannot be seen from {here.host}. End it there by rollout down; or make sure that "
            f"{off} is switched off, then: rollout takeover {self.account} --off {off}"
        )

    def _given_over(self, session: Session, held: Lock, here: Machine) -> bool:
        """Whether a person's word takes the account from that machine; a word about another one is refused."""
        meant = and_(col(Inbox.account) == self.account, col(Inbox.state) == "waiting", col(Inbox.kind) == TAKEOVER)
        for row in read_requests(self.reading, meant):
            if isinstance(row, DamagedRow):
                continue  # the guard that takes the account refuses it
            said, age = str(row.payload.get("off", "")), utc_now() - row.created_at
            if said == host_of(held.machine) and age < TAKEOVER_AFTER:
                continue
            row.answered_at = utc_now()
            if said != host_of(held.machine):
                row.state, row.reason = "refused", f"the account is held on {host_of(held.machine)}, not on {said!r}"
            elif age > TAKEOVER_WITHIN:
                row.state, row.reason = "refused", "said more than 10 minutes ago: make sure again"
            else:
                row.state, row.result = "done", {"off": said, "by": here.host}
                self._tell_off(session, held.machine, row.payload, row.id or 0, here)
            session.merge(row)
            if row.state == "done":
                return True
        return False

    def _tell_off(self, session: Session, machine: str, said: dict[str, object], inbox_id: int, here: Machine) -> None:
        named = {"who": str(said.get("who", "somebody"))[:80], "reason": str(said.get("reason", ""))[:200]}
        body = {"off": machine, "by": str(here), **storable(named)}
        self._append(session, TAKEOVER, {**body, "stage_run": self._open(session), "inbox_id": inbox_id})

    def _open(self, session: Session) -> int | None:
        query = select(StageRun.id).where(StageRun.account == self.account, col(StageRun.step).not_in(FINAL_STEPS))
        return session.exec(query).first()


def held_on(record: Record, account: str) -> str:
    """The machine of the guard that holds the account, as noted; empty where none does."""
    with record.reading() as session:
        held = session.get(Lock, _lock_of(account))
        return "" if held is None else held.machine


def _lock_of(account: str) -> str:
    return f"guard:{account}"


def _process(held: Lock) -> Identity:
    return Identity(held.pid, held.pid_started_ticks)
