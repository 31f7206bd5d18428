"""The writing side of the record: for the guard alone, one per account.

Every method is one transaction. What belongs to the record's chain is appended in the same transaction as the row it
tells of, so neither can exist without the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlmodel import Session, col, select, update

from tasks.flattenings import with_earlier
from tasks.record import FINAL_STEPS, Record, RecordError, iso, open_record
from tasks.record_digest import KIND, RANGE_ROWS, Range, digest_of, newest_id
from tasks.record_engine import replacing
from tasks.record_inbox import InboxWriter
from tasks.record_links import told_columns
from tasks.record_lock import LockWriter
from tasks.record_outbox import Notice
from tasks.record_said import TIME_STEP, SaidWriter
from tasks.record_tables import (
    Account,
    Drill,
    EvidenceFile,
    Grant,
    MeasurementLatest,
    MeasurementRow,
    RecordEntry,
    RollbackStep,
    Rollout,
    StagePart,
    StageRun,
    VerdictRow,
    utc_now,
)

DONE_STATES = ("verified", "skipped")
"""States in which nothing of a rollback step changes any more but by a new try of it."""


class EpochLost(Exception):
    """Somebody else took the next epoch of this account first. Names account and both epochs."""


class StepLost(RecordError):
    """A stage run stands elsewhere than whoever moves it believes. Names both steps; nothing was changed."""


class RecordWriter(SaidWriter, InboxWriter, LockWriter):
    """All writes of one account's guard."""

    def __init__(self, record: Record, account: str) -> None:
        super().__init__(record, account)
        self._digested: dict[int, int] = {}  # stage run → up to which measurement the chain tells a digest
        self._untold: dict[int, int] = {}  # stage run → about how many measurements came after that

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
        """Compare-and-swap `expected` → `expected + 1`. Raises EpochLost where the table holds another epoch.

        Where `holder` has it already it is the same again: the answer was lost.
        """
        with self.writing() as session:
            changed = session.exec(
                update(Grant)
                .where(col(Grant.account) == self.account, col(Grant.epoch) == expected)
                .values(epoch=expected + 1, holder=holder, changed_at=utc_now())
            )
            if changed.rowcount != 1:
                found = session.get(Grant, self.account)
                if found is not None and (found.epoch, found.holder) == (expected + 1, holder):
                    return found.epoch
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
            others = told_columns(rollout, without=("name", "plan_digest"))
            self._append(session, "rollout", {"rollout": rollout.name, "plan": rollout.plan_digest, **others})

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
            columns = told_columns(row, without=("id", *named, *candidate))
            self._append(session, "stage_run", {**named, **candidate, "plan": plan, "columns": columns})
            session.flush()
            return row

    def change_stage_run(
        self, stage_run_id: int, kind: str, notices: Sequence[Notice] = (), /, **changes: Any
    ) -> StageRun:
        """Sets columns; a link of that kind, one of `tasks.record_told.CHANGES_RUN`, tells of it in the chain.

        A final step comes with the digest of what was measured. `notices` of the change are queued with it: whoever
        dies in between has told both or neither.
        """
        with self.writing() as session:
            row = session.get(StageRun, stage_run_id)
            if row is None:
                raise RecordError(f"stage run {stage_run_id}: no such row")
            for name, value in changes.items():
                setattr(row, name, value)
            session.add(row)
            told = {k: iso(v) if isinstance(v, datetime) else v for k, v in changes.items()}
            self._append(session, kind, {"stage_run": stage_run_id, **told})
            if changes.get("step") in FINAL_STEPS:
                self._tell_measurements(session, stage_run_id, final=True)
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
        only_from: str = "",
        **changes: Any,
    ) -> None:
        """One transaction: the part before is closed with its outcome, the next one opened, the stage run changed.

        `watched_s`: for how long the part before was watched, where it was.

        `only_from`: at which step alone the stage run may stand, where one is named, or at the one it goes to: that is
        this entry, written before, whose answer was lost. Raises StepLost.

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
            if only_from and run.step not in (only_from, changes.get("step")):
                raise StepLost(f"stage run {row.stage_run_id} is {run.step}, expected {only_from}")
            if last is not None and last.ended_at is None:
                last.ended_at, last.outcome = row.began_at, outcome_before
                if watched_s is not None:
                    last.proof = {**last.proof, "watched_s": round(watched_s, 1)}
                session.add(last)
            begun = StagePart(**row.model_dump(exclude={"id"}))
            session.add(begun)
            for name, value in changes.items():
                setattr(run, name, value)
            session.add(run)
            told = {name: iso(value) if isinstance(value, datetime) else value for name, value in changes.items()}
            sizes = {"inventory_max_quote": row.inventory_max_quote, "total_max_quote": row.total_max_quote}
            body = {"stage_run": row.stage_run_id, "number": row.number, "name": row.name, "epoch": row.epoch}
            more = told_columns(begun, only=("symbols", "began_at", "proof"))
            proof_before = {} if last is None else last.proof
            before = {"before": outcome_before, "proof_before": proof_before}
            self._append(session, "part", {**body, **sizes, **more, **before, "run": told})
            self._queue(session, notices)

    def end_part(self, stage_run_id: int, outcome: str) -> None:
        """Closes the part that is open; none open changes nothing."""
        with self.writing() as session:
            query = select(StagePart).where(StagePart.stage_run_id == stage_run_id, col(StagePart.ended_at).is_(None))
            for row in session.exec(query):
                row.ended_at, row.outcome = utc_now(), outcome
                session.add(row)
                body = {"stage_run": stage_run_id, "number": row.number, "name": row.name, "outcome": outcome}
                self._append(session, "part_ended", {**body, "ended_at": iso(row.ended_at)})

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
            more = told_columns(row, without=("stage_run_id", "name", "criteria"))
            self._append(session, "drill", {**body, **more})
            return row.id or 0

    def note_in_drill(self, drill_id: int, proof: dict[str, Any]) -> None:
        """What a drill that lasts is about to do, beside what its proof says so far."""
        with self.writing() as session:
            row = session.get(Drill, drill_id)
            if row is None:
                raise RecordError(f"drill {drill_id}: no such row")
            row.proof = {**row.proof, **proof}
            session.add(row)
            body = {"id": row.id, "stage_run": row.stage_run_id, "drill": row.name, "proof": row.proof}
            self._append(session, "drill_noted", body)

    def end_drill(self, drill_id: int, outcome: str, proof: dict[str, Any], notices: Sequence[Notice] = ()) -> None:
        with self.writing() as session:
            row = session.get(Drill, drill_id)
            if row is None:
                raise RecordError(f"drill {drill_id}: no such row")
            row.outcome, row.proof, row.ends_at = outcome, proof, utc_now()
            session.add(row)
            body = {"id": row.id, "stage_run": row.stage_run_id, "drill": row.name, "outcome": outcome, "proof": proof}
            self._append(session, "drill_ended", {**body, "ended_at": iso(row.ends_at)})
            self._queue(session, notices)

    # ---- measuring and judging ------------------------------------------------------------------------------------

    def store_measurements(self, rows: Sequence[MeasurementRow], latest: Iterable[MeasurementLatest]) -> None:
        """One transaction: rows worth keeping, and the newest of every criterion. A row with a number is written anew.

        Afterwards each of `rows` has its number. A row whose digest the chain has told stays as it is: what would be
        written over it becomes a row of its own. What comes after the end of its stage run is not kept.
        """
        for one in rows:
            if one.id is not None and one.id <= self._digested.get(one.stage_run_id, 0):
                one.id = None
        with self.writing() as session:
            over = {number for number in {one.stage_run_id for one in rows} if self._is_over(session, number)}
            rows = [one for one in rows if one.stage_run_id not in over]
            again = [one.model_dump() for one in rows if one.id is not None]
            if again:
                session.connection().execute(replacing(self.engine, MeasurementRow), again)
            new = [one for one in rows if one.id is None]
            session.add_all(new)
            newest = [one.model_dump() for one in latest]
            if newest:  # dozens each second: one statement, not a look and a write for each
                session.connection().execute(replacing(self.engine, MeasurementLatest), newest)
            for number in {one.stage_run_id for one in new}:
                self._tell_when_many(session, number, sum(one.stage_run_id == number for one in new))

    def _is_over(self, session: Session, stage_run_id: int) -> bool:
        """Asked once a transaction, for the step alone: the whole row is long, and every writer waits for this one."""
        return session.exec(select(StageRun.step).where(StageRun.id == stage_run_id)).first() in FINAL_STEPS

    def _tell_when_many(self, session: Session, stage_run_id: int, more: int) -> None:
        self._untold[stage_run_id] = self._untold.get(stage_run_id, 0) + more
        if self._untold[stage_run_id] >= RANGE_ROWS:
            session.flush()
            self._tell_measurements(session, stage_run_id, final=False)

    def _tell_measurements(self, session: Session, stage_run_id: int, *, final: bool) -> None:
        """The digest of all rows since the last one that was told."""
        after, upto = self._digested_upto(session, stage_run_id), newest_id(session, stage_run_id)
        told: Range = digest_of(session, stage_run_id, after, upto)
        self._append(session, KIND, {"stage_run": stage_run_id, **told._asdict(), "final": final})
        # Before the commit: should it fail, a row more is all that comes of it.
        self._digested[stage_run_id], self._untold[stage_run_id] = upto, 0

    def _digested_upto(self, session: Session, stage_run_id: int) -> int:
        query = select(RecordEntry.body).where(RecordEntry.account == self.account, RecordEntry.kind == KIND)
        bodies = (json.loads(body) for body in session.exec(query.order_by(col(RecordEntry.seq).desc())))
        return next((int(body["upto"]) for body in bodies if body["stage_run"] == stage_run_id), 0)

    def add_verdict(self, row: VerdictRow) -> None:
        """With it the digest of what was measured so far."""
        with self.writing() as session:
            session.add(row)
            told = told_columns(row, without=("id", "stage_run_id"))
            self._append(session, "verdict", {"stage_run": row.stage_run_id, **told})
            self._tell_measurements(session, row.stage_run_id, final=False)

    def add_evidence(self, stage_run_id: int, files: dict[str, tuple[str, int]]) -> None:
        """`files`: path → (SHA-256 hex, bytes)."""
        at = utc_now()
        with self.writing() as session:
            for path, (sha256, size) in sorted(files.items()):
                session.add(EvidenceFile(stage_run_id=stage_run_id, path=path, sha256=sha256, size_bytes=size, at=at))
            hashes = {path: sha256 for path, (sha256, _) in files.items()}
            sizes = {path: size for path, (_, size) in files.items()}
            body = {"stage_run": stage_run_id, "files": hashes, "sizes_bytes": sizes, "at": iso(at)}
            self._append(session, "evidence", body)

    # ---- rollback -------------------------------------------------------------------------------------------------

    def write_rollback_step(self, row: RollbackStep, notices: Sequence[Notice] = ()) -> None:
        """Inserts or updates by (stage run, number). Every change of state is told in the chain, and of a step that is
        done every change: only how often a step was tried, and what failed last, is told with its next state.

        A step that is begun anew begins without a proof; what was flattened before stays told all the same.
        """
        with self.writing() as session:
            query = select(RollbackStep).where(
                RollbackStep.stage_run_id == row.stage_run_id, RollbackStep.number == row.number
            )
            known = session.exec(query).first()
            before = None if known is None else known.model_dump()
            if known is None:
                known = RollbackStep(**row.model_dump(exclude={"id"}))
            else:
                known.state, known.attempts, known.error = row.state, row.attempts, row.error
                known.verified_at, known.proof = row.verified_at, with_earlier(row.proof, known.proof)
            session.add(known)
            changed = before is None or before["state"] != row.state
            if changed or (row.state in DONE_STATES and before != known.model_dump()):
                told = told_columns(known, without=("id", "stage_run_id"))
                self._append(session, "rollback_step", {"stage_run": row.stage_run_id, **told})
            self._queue(session, notices)


def open_writer(url: str, account: str) -> RecordWriter:
    """Opens the record for the guard of `account`."""
    return RecordWriter(open_record(url), account)


__all__ = ["DONE_STATES", "TIME_STEP", "EpochLost", "Notice", "RecordWriter", "StepLost", "open_writer", "told_columns"]
