"""The writing side of the record: for the guard alone, one per account.

Every method is one transaction. What belongs to the record's chain is appended in the same transaction as the row it
tells of, so neither can exist without the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import func
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select, update

from tasks.record import FINAL_STEPS, Record, RecordError, iso, open_record
from tasks.record_chain import GENESIS, canonical_json, link_hash
from tasks.record_engine import replacing
from tasks.record_tables import (
    Account,
    Attested,
    Drill,
    EvidenceFile,
    Grant,
    Inbox,
    MeasurementLatest,
    MeasurementRow,
    Outbox,
    RecordEntry,
    Released,
    RollbackStep,
    Rollout,
    SignOff,
    StagePart,
    StageRun,
    UsedCode,
    VerdictRow,
    utc_now,
)


class EpochLost(Exception):
    """Somebody else took the next epoch of this account first. Names account and both epochs."""


class Notice(NamedTuple):
    """What is to be told of a transition, once per `key`. The chain's head goes out with `line`.

    `delivered`: it went out while the record was away. `due_in_s`: from when on the outbox may try it.
    """

    key: str
    kind: str
    line: str
    delivered: bool = False
    due_in_s: float = 0.0


class _CodeServed(Exception):
    """This code of this person is spent."""


class RecordWriter(Record):
    """All writes of one account's guard."""

    def __init__(self, record: Record, account: str) -> None:
        super().__init__(record.engine)
        self.account = self.writer = account

    # ---- the chain ------------------------------------------------------------------------------------------------

    def append(self, kind: str, body: dict[str, Any]) -> str:
        """Appends one link on its own. Returns the new head."""
        with self.writing() as session:
            return self._append(session, kind, body)

    def append_told(self, kind: str, body: dict[str, Any], notices: Sequence[Notice]) -> None:
        """One link and the notices of it, together; where the first of them is queued already both were written."""
        with self.writing() as session:
            if session.exec(select(Outbox.id).where(Outbox.key == notices[0].key)).first() is None:
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
            return self._head(session)

    def _head(self, session: Session) -> str:
        query = select(RecordEntry.hash).where(RecordEntry.account == self.account)
        return session.exec(query.order_by(col(RecordEntry.seq).desc()).limit(1)).first() or GENESIS

    # ---- account and epoch ----------------------------------------------------------------------------------------

    def know_account(self, venue: str) -> None:
        """Registers account and its epoch row; repeats change nothing."""
        with self.writing() as session:
            if session.get(Account, self.account) is None:
                session.add(Account(name=self.account, venue=venue))
                self._append(session, "account", {"account": self.account, "venue": venue})
            if session.get(Grant, self.account) is None:
                session.add(Grant(account=self.account, epoch=0))

    def epoch(self) -> int:
        with self.reading() as session:
            grant = session.get(Grant, self.account)
            return grant.epoch if grant else 0

    def take_epoch(self, expected: int, holder: str, why: str) -> int:
        """Compare-and-swap `expected` → `expected + 1`. Raises EpochLost where the table holds another epoch."""
        with self.writing() as session:
            changed = session.exec(
                update(Grant)
                .where(col(Grant.account) == self.account, col(Grant.epoch) == expected)
                .values(epoch=expected + 1, holder=holder, changed_at=utc_now())
            )
            if changed.rowcount != 1:
                found = session.get(Grant, self.account)
                held = found.epoch if found else "none"
                raise EpochLost(f"account {self.account}: epoch is {held}, expected {expected}")
            self._append(session, "epoch", {"epoch": expected + 1, "holder": holder, "why": why})
        return expected + 1

    # ---- rollouts and stage runs ----------------------------------------------------------------------------------

    def add_rollout(self, rollout: Rollout) -> None:
        """A repeat with the same candidate changes nothing; another candidate under the name raises RecordError."""
        with self.writing() as session:
            known = session.get(Rollout, rollout.name)
            if known is not None:
                if known.candidate != rollout.candidate:
                    raise RecordError(
                        f"rollout {rollout.name} belongs to candidate {known.candidate[:12]}, "
                        f"asked for {rollout.candidate[:12]}: a changed candidate needs a new rollout"
                    )
                return
            session.add(rollout)
            self._append(
                session,
                "rollout",
                {
                    "rollout": rollout.name,
                    "candidate": rollout.candidate,
                    "plan": rollout.plan_digest,
                    "author": rollout.author,
                },
            )

    def add_stage_run(self, row: StageRun, plan: dict[str, Any] | None = None) -> StageRun:
        """Opens a stage run. Raises RecordError where the account has one that is not finished.

        `plan`, as JSON, is kept in the chain: what was agreed on, and what closing goes by if its file is gone.
        """
        with self.writing() as session:
            query = select(StageRun).where(StageRun.account == self.account, col(StageRun.step).not_in(FINAL_STEPS))
            other = session.exec(query).first()
            if other is not None:
                raise RecordError(f"account {self.account} is taken by {other.rollout}/{other.stage} ({other.step})")
            session.add(row)
            session.flush()
            named = {"stage_run": row.id, "rollout": row.rollout, "stage": row.stage, "attempt": row.attempt}
            candidate = {"candidate": row.candidate, "predecessor_passed": row.predecessor_passed, "link": row.link}
            self._append(session, "stage_run", {**named, **candidate, "plan": plan})
            session.flush()
            return row

    def change_stage_run(
        self, stage_run_id: int, kind: str | None = None, notices: Sequence[Notice] = (), /, **changes: Any
    ) -> StageRun:
        """Sets columns. With `kind`, a link of that kind tells of it in the chain.

        `notices` of the change are queued with it: whoever dies in between has told both or neither.
        """
        with self.writing() as session:
            row = session.get(StageRun, stage_run_id)
            if row is None:
                raise RecordError(f"stage run {stage_run_id}: no such row")
            for name, value in changes.items():
                setattr(row, name, value)
            session.add(row)
            if kind is not None:
                told = {k: iso(v) if isinstance(v, datetime) else v for k, v in changes.items()}
                self._append(session, kind, {"stage_run": stage_run_id, **told})
            self._queue(session, notices)
            session.flush()
            return row

    def enter_part(
        self,
        row: StagePart,
        outcome_before: str,
        watched_s: float | None = None,
        notices: Sequence[Notice] = (),
        /,
        **changes: Any,
    ) -> None:
        """One transaction: the part before is closed with its outcome, the next one opened, the stage run changed.

        `watched_s`: for how long the part before was watched, where it was.

        The same part under the same epoch again changes nothing: a guard that died in between may repeat it.
        """
        with self.writing() as session:
            query = (
                select(StagePart).where(StagePart.stage_run_id == row.stage_run_id).order_by(col(StagePart.id).desc())
            )
            last = session.exec(query).first()
            run = session.get(StageRun, row.stage_run_id)
            if run is None:
                raise RecordError(f"stage run {row.stage_run_id}: no such row")
            if last is not None and (last.number, last.epoch) == (row.number, row.epoch):
                return
            if last is not None and last.ended_at is None:
                last.ended_at, last.outcome = row.began_at, outcome_before
                if watched_s is not None:
                    last.proof = {**last.proof, "watched_s": round(watched_s, 1)}
                session.add(last)
            session.add(StagePart(**row.model_dump(exclude={"id"})))
            for name, value in changes.items():
                setattr(run, name, value)
            session.add(run)
            told = {name: iso(value) if isinstance(value, datetime) else value for name, value in changes.items()}
            sizes = {"inventory_max_quote": row.inventory_max_quote, "total_max_quote": row.total_max_quote}
            body = {"stage_run": row.stage_run_id, "number": row.number, "name": row.name, "epoch": row.epoch}
            self._append(session, "part", {**body, **sizes, "before": outcome_before, **told})
            self._queue(session, notices)

    def end_part(self, stage_run_id: int, outcome: str) -> None:
        """Closes the part that is open; none open changes nothing."""
        with self.writing() as session:
            query = select(StagePart).where(StagePart.stage_run_id == stage_run_id, col(StagePart.ended_at).is_(None))
            for row in session.exec(query):
                row.ended_at, row.outcome = utc_now(), outcome
                session.add(row)
                body = {"stage_run": stage_run_id, "number": row.number, "name": row.name, "outcome": outcome}
                self._append(session, "part_ended", body)

    def prove_part(self, stage_run_id: int, proof: dict[str, Any]) -> None:
        """What was read after a step down, on the part that is open."""
        with self.writing() as session:
            query = select(StagePart).where(StagePart.stage_run_id == stage_run_id, col(StagePart.ended_at).is_(None))
            for row in session.exec(query):
                row.proof = {**row.proof, **proof}
                session.add(row)
                self._append(session, "part_proven", {"stage_run": stage_run_id, "number": row.number, "proof": proof})

    def add_drill(self, row: Drill) -> int:
        with self.writing() as session:
            session.add(row)
            session.flush()
            body = {"stage_run": row.stage_run_id, "drill": row.name, "must_trip": row.criteria}
            self._append(session, "drill", body)
            return row.id or 0

    def end_drill(self, drill_id: int, outcome: str, proof: dict[str, Any], notices: Sequence[Notice] = ()) -> None:
        with self.writing() as session:
            row = session.get(Drill, drill_id)
            if row is None:
                raise RecordError(f"drill {drill_id}: no such row")
            row.outcome, row.proof, row.ends_at = outcome, proof, utc_now()
            session.add(row)
            body = {"stage_run": row.stage_run_id, "drill": row.name, "outcome": outcome, "proof": proof}
            self._append(session, "drill_ended", {**body, "ended_at": iso(row.ends_at)})
            self._queue(session, notices)

    # ---- inbox ----------------------------------------------------------------------------------------------------

    def waiting(self) -> Sequence[Inbox]:
        """Unanswered requests, oldest first."""
        query = select(Inbox).where(Inbox.account == self.account, Inbox.state == "waiting")
        with self.reading() as session:
            return session.exec(query.order_by(col(Inbox.id))).all()

    def reply(self, inbox_id: int, *, done: bool, reason: str = "", result: dict[str, Any] | None = None) -> None:
        with self.writing() as session:
            row = session.get(Inbox, inbox_id)
            if row is None or row.state != "waiting":
                return
            row.state, row.reason = ("done" if done else "refused"), reason
            row.result, row.answered_at = result or {}, utc_now()
            if "code" in row.payload:  # a one-time code may still be good for a minute: it does not stay in a table
                row.payload = {**row.payload, "code": "(not kept)"}
            session.add(row)

    # ---- measuring and judging ------------------------------------------------------------------------------------

    def store_measurements(self, rows: Sequence[MeasurementRow], latest: Iterable[MeasurementLatest]) -> None:
        """One transaction: rows worth keeping, and the newest of every criterion. A row with a number is written anew.

        Afterwards each of `rows` has its number.
        """
        again = [one.model_dump() for one in rows if one.id is not None]
        with self.writing() as session:
            if again:
                session.connection().execute(replacing(self.engine, MeasurementRow), again)
            session.add_all([one for one in rows if one.id is None])
            newest = [one.model_dump() for one in latest]
            if newest:  # dozens each second: one statement, not a look and a write for each
                session.connection().execute(replacing(self.engine, MeasurementLatest), newest)

    def add_verdict(self, row: VerdictRow) -> None:
        with self.writing() as session:
            session.add(row)
            self._append(
                session,
                "verdict",
                {"stage_run": row.stage_run_id, "word": row.word, "decided_by": row.decided_by, "body": row.body},
            )

    def add_evidence(self, stage_run_id: int, files: dict[str, tuple[str, int]]) -> None:
        """`files`: path → (SHA-256 hex, bytes)."""
        with self.writing() as session:
            for path, (sha256, size) in sorted(files.items()):
                session.add(EvidenceFile(stage_run_id=stage_run_id, path=path, sha256=sha256, size_bytes=size))
            self._append(
                session,
                "evidence",
                {"stage_run": stage_run_id, "files": {path: sha for path, (sha, _) in sorted(files.items())}},
            )

    # ---- rollback -------------------------------------------------------------------------------------------------

    def write_rollback_step(self, row: RollbackStep, notices: Sequence[Notice] = ()) -> None:
        """Inserts or updates by (stage run, number). Every change of state is told in the chain."""
        with self.writing() as session:
            query = select(RollbackStep).where(
                RollbackStep.stage_run_id == row.stage_run_id, RollbackStep.number == row.number
            )
            known = session.exec(query).first()
            told = known is None or known.state != row.state
            if known is None:
                known = RollbackStep(**row.model_dump(exclude={"id"}))
            else:
                known.state, known.attempts, known.error = row.state, row.attempts, row.error
                known.verified_at, known.proof = row.verified_at, row.proof
            session.add(known)
            if told:
                body = {"stage_run": row.stage_run_id, "number": row.number, "name": row.name, "state": row.state}
                self._append(session, "rollback_step", {**body, "proof": row.proof, "error": row.error})
            self._queue(session, notices)

    # ---- sign-offs ------------------------------------------------------------------------------------------------

    def sign(self, row: SignOff, time_step: int) -> bool:
        """Spends the code and stores the accepted sign-off, both or neither. False where the code has served before."""
        return self._spend(row.person, time_step, lambda session: self._add_sign_off(session, row))

    def attest(self, row: Attested, time_step: int) -> bool:
        """The same for an accepted attestation: a code serves once, for whatever it is given."""
        return self._spend(row.person, time_step, lambda session: self._add_attestation(session, row))

    def release(self, row: Released, time_step: int) -> bool:
        """The same for an accepted word on the release of a stop."""
        return self._spend(row.person, time_step, lambda session: self._add_release(session, row))

    def _spend(self, person: str, time_step: int, add: Callable[[Session], None]) -> bool:
        try:
            with self.writing() as session:
                session.add(UsedCode(person=person, time_step=time_step))
                try:
                    session.flush()
                except IntegrityError as error:
                    raise _CodeServed from error
                add(session)
            return True
        except _CodeServed:
            return False

    def use_code(self, person: str, time_step: int) -> bool:
        """True where this code of this person had not served yet; from now on it has."""
        try:
            with self.writing() as session:
                session.add(UsedCode(person=person, time_step=time_step))
            return True
        except IntegrityError:
            return False

    def add_sign_off(self, row: SignOff) -> None:
        with self.writing() as session:
            self._add_sign_off(session, row)

    def _add_sign_off(self, session: Session, row: SignOff) -> None:
        session.add(row)
        body = row.model_dump(mode="json", exclude={"id", "at", "counts_as_wrong_code"})
        self._append(session, "sign_off", body)

    def sign_off_of(self, inbox_id: int) -> SignOff | None:
        """What became of that request; None while nothing has."""
        with self.reading() as session:
            return session.exec(select(SignOff).where(SignOff.inbox_id == inbox_id)).first()

    def add_attestation(self, row: Attested) -> None:
        """One that was refused."""
        with self.writing() as session:
            self._add_attestation(session, row)

    def _add_attestation(self, session: Session, row: Attested) -> None:
        session.add(row)
        body = row.model_dump(mode="json", exclude={"id", "at", "counts_as_wrong_code"})
        self._append(session, "attestation", {**body, "at": iso(row.at)})  # it grows old

    def attestation_of(self, inbox_id: int) -> Attested | None:
        """What became of that request; None while nothing has."""
        with self.reading() as session:
            return session.exec(select(Attested).where(Attested.inbox_id == inbox_id)).first()

    def add_release(self, row: Released) -> None:
        """One that was refused."""
        with self.writing() as session:
            self._add_release(session, row)

    def _add_release(self, session: Session, row: Released) -> None:
        session.add(row)
        body = row.model_dump(mode="json", exclude={"id", "at", "counts_as_wrong_code"})
        self._append(session, "release", body)

    def release_of(self, inbox_id: int) -> Released | None:
        """What became of that request; None while nothing has."""
        with self.reading() as session:
            return session.exec(select(Released).where(Released.inbox_id == inbox_id)).first()

    def wrong_codes(self, person: str, within_s: float) -> Sequence[datetime]:
        """When this person gave a wrong code, newest first, whatever the code was given for."""
        since = utc_now() - timedelta(seconds=within_s)
        found: list[datetime] = []
        with self.reading() as session:
            for table in (SignOff, Attested, Released):
                query = select(table.at).where(
                    table.person == person, col(table.counts_as_wrong_code).is_(True), col(table.at) >= since
                )
                found += session.exec(query).all()
        return sorted(found, reverse=True)

    # ---- outbox ---------------------------------------------------------------------------------------------------

    def put_notice(self, key: str, kind: str, text: str, *, delivered: bool = False, due_in_s: float = 0.0) -> bool:
        """Queues a notice; the same key again changes nothing and returns False. `delivered`: it is out already."""
        try:
            with self.writing() as session:
                row = Outbox(key=key, account=self.account, kind=kind, text=text)
                row.delivered_at = utc_now() if delivered else None
                row.next_at += timedelta(seconds=due_in_s)
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
            if session.exec(select(Outbox.id).where(Outbox.key == notice.key)).first() is None:
                text = f"{notice.line} (record {self._head(session)[:12]})"
                row = Outbox(key=notice.key, account=self.account, kind=notice.kind, text=text)
                row.delivered_at = utc_now() if notice.delivered else None
                row.next_at += timedelta(seconds=notice.due_in_s)
                session.add(row)

    def due_notices(self) -> Sequence[Outbox]:
        """Once one is due, all that were tried before are with it, oldest first: what came first is told first."""
        query = select(Outbox).where(Outbox.account == self.account, col(Outbox.delivered_at).is_(None))
        with self.reading() as session:
            now = utc_now()
            if session.exec(query.where(col(Outbox.next_at) <= now).limit(1)).first() is None:
                return []
            tried = query.where((col(Outbox.next_at) <= now) | (col(Outbox.attempts) > 0))
            return session.exec(tried.order_by(col(Outbox.id)).limit(20)).all()

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

    def notice_tried(self, notice_id: int, error: str, again_in_s: float) -> None:
        """`error` empty: delivered."""
        with self.writing() as session:
            row = session.get(Outbox, notice_id)
            if row is None:
                return
            row.attempts += 1
            row.error = error
            if error:
                row.next_at = utc_now() + timedelta(seconds=again_in_s)
            else:
                row.delivered_at = utc_now()
            session.add(row)


def open_writer(url: str, account: str) -> RecordWriter:
    """Opens the record for the guard of `account`."""
    return RecordWriter(open_record(url), account)
