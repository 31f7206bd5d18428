"""The rollout's memory, for everybody: read it, and ask the guard by a row in the inbox.

`open_record(url)` brings the tables to the newest revision and may be called by several processes at once. The record
is a SQLite file or a PostgreSQL database. Only the guard uses `tasks.record_writer`, which adds the writing side.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Engine, and_, case, func, or_, text
from sqlalchemy import select as sql_select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import defer
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from tasks.record_chain import ChainReport, check_chain
from tasks.record_damage import DamagedRow, read_requests
from tasks.record_engine import SQLITE, open_engine, without_password
from tasks.record_migrations import MigrationFailed, ensure_newest
from tasks.record_stops import MACHINE, Created, StopSaid, clock_here, first_meant
from tasks.record_tables import (
    Attested,
    Drill,
    EvidenceFile,
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
    VerdictRow,
    utc_now,
)

FINAL_STEPS = ("promoted", "rolled_back", "parked")
"""Steps in which nothing is left to do. `rollback_failed` is not one: it keeps trying."""
INBOX_KINDS = (
    "begin", "launch", "judge", "promote", "drill", "sign_off", "attest", "enroll", "release_ask", "release_confirm",
    "stop", "takeover",
)  # fmt: skip


class RecordError(Exception):
    """The record cannot be opened or does not hold what was asked for. One line for people."""


class StopDamaged(RecordError):
    """Stops that cannot be read. Each is to be refused by its number, and stands as one that can be read after that."""

    def __init__(self, rows: Sequence[DamagedRow]) -> None:
        super().__init__("; ".join(map(str, rows)))
        self.rows = tuple(rows)


EVERYWHERE = "*"
"""In the inbox: no account, so no guard answers it. Each goes by it."""
FOR_NOW = "for_now"
"""In the result of a refusal of what may be done a moment later."""


@dataclass(frozen=True)
class Answer:
    """The guard's answer to one inbox row. `state`: done | refused; `reason` says why it was refused."""

    inbox_id: int
    state: str
    reason: str
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        return self.state == "done"

    @property
    def for_now(self) -> bool:
        """Whether it is refused for what could not be seen, or done, just now: who asks may ask again."""
        return not self.done and self.result.get(FOR_NOW) is True


class Record:
    """Read side of the record, and the two calls anybody may make of a guard: `submit` and `answer`."""

    writer = "anybody"
    """Whose transactions come one after another: of an account's guard, its account."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """Several reads that all see the same moment, whoever writes meanwhile; SQLite's reads always do."""
        level = {} if self.engine.dialect.name == SQLITE else {"isolation_level": "REPEATABLE READ"}
        with Session(self.engine.execution_options(**level), expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """One transaction that takes its writer's lock at its start: what it read still holds when it writes."""
        bound = self.engine.execution_options(slipway_writer=self.writer)
        with Session(bound, expire_on_commit=False) as session, session.begin():
            yield session

    # ---- asking the guard -----------------------------------------------------------------------------------------

    def submit(self, account: str, kind: str, payload: dict[str, Any], idempotency_key: str) -> int:
        """Inserts a request for the account's guard; the same key again returns the first row. Answer: `answer(id)`."""
        if kind not in INBOX_KINDS:
            raise RecordError(f"inbox kind {kind!r}: allowed are {', '.join(INBOX_KINDS)}")
        try:
            with self.writing() as session:
                row = Inbox(account=account, kind=kind, payload=payload, idempotency_key=idempotency_key)
                session.add(row)
                session.flush()
                return _id(row.id)
        except IntegrityError:
            with self.reading() as session:
                found = session.exec(select(Inbox).where(Inbox.idempotency_key == idempotency_key)).one()
                if found.kind != kind or found.account != account:
                    raise RecordError(
                        f"idempotency key {idempotency_key!r} was already used for {found.kind} of {found.account}"
                    ) from None
                return _id(found.id)

    def answer(self, inbox_id: int) -> Answer | None:
        """None while the guard has not answered. A row that cannot be read is answered by it as that; RecordError where
        it was answered before."""
        row = next(iter(read_requests(self.reading, col(Inbox.id) == inbox_id)), None)
        if row is None:
            raise RecordError(f"inbox {inbox_id}: no such row")
        if isinstance(row, DamagedRow):
            if row.is_answered:
                raise RecordError(str(row))
            return None
        return None if row.state == "waiting" else Answer(inbox_id, row.state, row.reason, row.result)

    def submit_stop_of_what_begins(self, rollout: str | None, who: str, reason: str, account: str = EVERYWHERE) -> int:
        """Whoever is under way with that rollout (None: with any) on that account begins no further stage: a `begin`
        of theirs is refused from now on, whether a guard lives just now or not. See `stop_since`."""
        payload = {"rollout": rollout or "", "who": who, "reason": reason, MACHINE: clock_here()}
        with self.writing() as session:
            session.connection()  # said when it is its turn to be written: what was created while it waited is meant
            key = f"stop-begins-{secrets.token_hex(8)}"
            row = Inbox(account=account, kind="stop", payload=payload, idempotency_key=key)
            session.add(row)
            session.flush()
            return _id(row.id)

    def stop_since(self, rollout: str, account: str, after: int, created: Created | None = None) -> StopSaid | None:
        """A stop of that rollout, or of all, behind that request in the inbox; None where there is none. `created`: of
        the flow run that asks, where one does: then also a stop that it had been queued at.

        Requests are numbered in the order in which they are written, by whichever clock. Raises StopDamaged where none
        that can be read holds and others cannot be read: whether one of them does is not known.
        """
        meant = and_(col(Inbox.kind) == "stop", col(Inbox.account).in_((account, EVERYWHERE)))
        if created is None:
            meant = and_(meant, col(Inbox.id) > after)
        # Else all of them, few as stops are: a time of which a part is lost is found by no comparison of times.
        stops = read_requests(self.reading, meant)
        said = first_meant([one for one in stops if isinstance(one, Inbox)], rollout, after, created)
        damaged = [one for one in stops if isinstance(one, DamagedRow)]
        if said is None and damaged:
            raise StopDamaged(damaged)
        return said

    def newest_request(self) -> int:
        """The number of the newest request in the inbox; 0 where there is none."""
        with self.reading() as session:
            return session.exec(select(func.max(col(Inbox.id)))).one() or 0

    # ---- reading --------------------------------------------------------------------------------------------------

    def rollout(self, name: str) -> Rollout | None:
        with self.reading() as session:
            return session.get(Rollout, name)

    def rollouts(self, limit: int = 100) -> Sequence[Rollout]:
        """Newest first."""
        with self.reading() as session:
            return session.exec(select(Rollout).order_by(col(Rollout.created_at).desc()).limit(limit)).all()

    def stage_run(self, stage_run_id: int) -> StageRun:
        with self.reading() as session:
            row = session.get(StageRun, stage_run_id)
            if row is None:
                raise RecordError(f"stage run {stage_run_id}: no such row")
            return row

    def stage_runs(self, rollout: str | None = None, account: str | None = None) -> Sequence[StageRun]:
        """Oldest first."""
        query = select(StageRun).order_by(col(StageRun.id))
        if rollout is not None:
            query = query.where(StageRun.rollout == rollout)
        if account is not None:
            query = query.where(StageRun.account == account)
        with self.reading() as session:
            return session.exec(query).all()

    def attempts_of(self, candidate: str) -> Sequence[StageRun]:
        """Every stage run of that candidate, on whatever account, oldest first; without what it began to count from."""
        query = select(StageRun).where(StageRun.candidate == candidate).order_by(col(StageRun.id))
        # each is long, and nobody asks for it
        query = query.options(defer(StageRun.baseline, raiseload=True))  # type: ignore[arg-type]
        with self.reading() as session:
            return session.exec(query).all()

    def open_stage_run(self, rollout: str, stage: str) -> StageRun | None:
        """The unfinished attempt of that stage; None where there is none."""
        query = (
            select(StageRun)
            .where(StageRun.rollout == rollout, StageRun.stage == stage, col(StageRun.step).not_in(FINAL_STEPS))
            .order_by(col(StageRun.id).desc())
        )
        with self.reading() as session:
            return session.exec(query).first()

    def open_on_account(self, account: str) -> StageRun | None:
        """The one unfinished stage run of the account; None where there is none."""
        query = (
            select(StageRun)
            .where(StageRun.account == account, col(StageRun.step).not_in(FINAL_STEPS))
            .order_by(col(StageRun.id).desc())
        )
        with self.reading() as session:
            return session.exec(query).first()

    def newest_unfinished(self, stage: str, plan_name: str, account: str | None = None) -> StageRun | None:
        """What a deployment started without a rollout's name continues: the newest unfinished one of stage and plan,
        on that account where one is given."""
        query = (
            select(StageRun)
            .join(Rollout, col(Rollout.name) == col(StageRun.rollout))
            .where(StageRun.stage == stage, Rollout.plan_name == plan_name, col(StageRun.step).not_in(FINAL_STEPS))
            .order_by(col(StageRun.id).desc())
        )
        if account is not None:
            query = query.where(StageRun.account == account)
        with self.reading() as session:
            return session.exec(query).first()

    def measurements_latest(self, stage_run_id: int) -> Sequence[MeasurementLatest]:
        """The newest measurement of each criterion, in the order of the criteria file."""
        query = (
            select(MeasurementLatest)
            .where(MeasurementLatest.stage_run_id == stage_run_id)
            .order_by(col(MeasurementLatest.ordinal), col(MeasurementLatest.criterion_id))
        )
        with self.reading() as session:
            return session.exec(query).all()

    def measurements(self, stage_run_id: int) -> Sequence[MeasurementRow]:
        query = select(MeasurementRow).where(MeasurementRow.stage_run_id == stage_run_id)
        with self.reading() as session:
            return session.exec(query.order_by(col(MeasurementRow.id))).all()

    def last_known(self, stage_run_id: int, criterion_id: str) -> tuple[int, Decimal] | None:
        """(ms, value) of that criterion's newest measurement that has one, to the last digit; None where none has."""
        query = _known_values(stage_run_id, criterion_id).order_by(col(MeasurementRow.id).desc()).limit(1)
        with self.reading() as session:
            row = session.exec(query).first()
        return None if row is None else (row.at_ms, _exact(row.value, row.raw))

    def booked(self, stage_run_id: int, criterion_id: str, query: str) -> tuple[int, Decimal | None, str] | None:
        """(ms, value, why there is none) of that criterion's newest row by that query; None where there is no row."""
        row = MeasurementRow
        of_run = (row.stage_run_id == stage_run_id, row.criterion_id == criterion_id, row.query == query)
        with self.reading() as session:
            found = session.exec(select(row).where(*of_run).order_by(col(row.id).desc()).limit(1)).first()
        if found is None:
            return None
        return found.at_ms, None if found.value is None else _exact(found.value, found.raw), found.reason

    def known_values(
        self, stage_run_id: int, criterion_id: str, since_ms: int, until_ms: int
    ) -> list[tuple[int, Decimal]]:
        """(ms, value) of that criterion's rows of that time that have a value, oldest first, to the last digit."""
        at_ms = col(MeasurementRow.at_ms)
        query = _known_values(stage_run_id, criterion_id).where(at_ms >= since_ms, at_ms <= until_ms)
        with self.reading() as session:
            rows = session.exec(query.order_by(at_ms, col(MeasurementRow.id))).all()
        return [(row.at_ms, _exact(row.value, row.raw)) for row in rows]

    def newest_known(
        self, stage_run_ids: Sequence[int], criterion_id: str, since_ms: int, until_ms: int
    ) -> dict[int, tuple[int, Decimal]]:
        """The newest of `known_values` of each of those stage runs that has one."""
        at_ms, row = col(MeasurementRow.at_ms), MeasurementRow
        of_runs = (col(row.stage_run_id).in_(stage_run_ids), row.criterion_id == criterion_id)
        query = select(row).where(*of_runs, col(row.value).is_not(None), at_ms >= since_ms, at_ms <= until_ms)
        with self.reading() as session:
            rows = session.exec(query.order_by(at_ms, col(row.id))).all()
        return {row.stage_run_id: (row.at_ms, _exact(row.value, row.raw)) for row in rows}

    def measurements_since_good(self, stage_run_id: int) -> Sequence[MeasurementRow]:
        """Of each guard criterion the last row that was known and no FAIL, and what came after it, oldest first."""
        of_run = (MeasurementRow.stage_run_id == stage_run_id, MeasurementRow.phase == "guard")
        good = (
            select(MeasurementRow.criterion_id, func.max(MeasurementRow.id).label("id"))
            .where(*of_run, col(MeasurementRow.outcome).in_(("PASS", "INCONCLUSIVE")))
            .group_by(MeasurementRow.criterion_id)
            .subquery()
        )
        query = (
            select(MeasurementRow)
            .outerjoin(good, good.c.criterion_id == col(MeasurementRow.criterion_id))
            .where(*of_run, col(MeasurementRow.id) >= func.coalesce(good.c.id, 0))
            .order_by(col(MeasurementRow.at_ms), col(MeasurementRow.id))
        )
        with self.reading() as session:
            return session.exec(query).all()

    def seen_of_guards(self, stage_run_id: int, since_ms: int) -> list[tuple[str, int, str, str | None, int | None]]:
        """(criterion, ms, outcome, cause, looked at last before) of guard measurements kept since then, of each the
        last before it, and its newest, which was seen without a break since the one kept.

        By when they were made: on a busy machine a verdict's are written before the watch's own of a moment earlier.
        """
        number, at_ms = col(MeasurementRow.id), col(MeasurementRow.at_ms)
        of_run = (col(MeasurementRow.stage_run_id) == stage_run_id, col(MeasurementRow.phase) == "guard")
        before = (
            sql_select(func.max(number)).where(*of_run, at_ms <= since_ms).group_by(col(MeasurementRow.criterion_id))
        )
        query = (
            sql_select(
                col(MeasurementRow.criterion_id), at_ms, col(MeasurementRow.outcome), col(MeasurementRow.cause),
                col(MeasurementRow.looked_before_ms),
            )
            .where(*of_run, or_(at_ms > since_ms, number.in_(before)))
            .order_by(at_ms, number)
        )  # fmt: skip
        latest = select(MeasurementLatest).where(
            MeasurementLatest.stage_run_id == stage_run_id, MeasurementLatest.phase == "guard"
        )
        with self.snapshot() as session:
            newest = session.exec(latest).all()
            kept = [
                (name, int(at), out, why, before) for name, at, out, why, before in session.connection().execute(query)
            ]
        kept += [(one.criterion_id, one.at_ms, one.outcome, one.cause, one.at_ms) for one in newest]
        return sorted(kept, key=lambda one: one[1])

    def blind_before_good_ms(
        self, stage_run_id: int, without: Sequence[tuple[int, int]] = (), since_ms: int = 0
    ) -> dict[str, int]:
        """Of each guard criterion the ms it stood UNKNOWN, from when it was first known to its last good row; not those
        in the spans `without`, from and to in ms, none within another, and none that had ended before `since_ms`.

        What came after that row `measurements_since_good` tells.
        """
        of_run = (col(MeasurementRow.stage_run_id) == stage_run_id, col(MeasurementRow.phase) == "guard")
        named, good = col(MeasurementRow.criterion_id), col(MeasurementRow.outcome).in_(("PASS", "INCONCLUSIVE"))
        at_ms, outcome, number = col(MeasurementRow.at_ms), col(MeasurementRow.outcome), col(MeasurementRow.id)
        known_id, good_id = case((outcome != "UNKNOWN", number)), case((good, number))
        spans = (
            sql_select(
                named.label("name"),
                number.label("id"),
                at_ms.label("until_ms"),
                (at_ms - func.lag(at_ms).over(partition_by=named, order_by=number)).label("took_ms"),
                func.lag(outcome).over(partition_by=named, order_by=number).label("was"),
                func.min(known_id).over(partition_by=named).label("first_known"),
                func.max(good_id).over(partition_by=named).label("last_good"),
            )
            .where(*of_run)
            .subquery()
        )
        query = (
            sql_select(spans.c.name, spans.c.until_ms, spans.c.took_ms)
            .where(spans.c.was == "UNKNOWN", spans.c.id > spans.c.first_known, spans.c.id <= spans.c.last_good)
            .where(spans.c.until_ms >= since_ms)
        )  # fmt: skip
        found: dict[str, int] = {}
        with self.reading() as session:
            for name, until_ms, took_ms in session.connection().execute(query):
                began_ms = until_ms - took_ms
                left_out = sum(max(0, min(until_ms, end) - max(began_ms, begin)) for begin, end in without)
                found[name] = found.get(name, 0) + took_ms - left_out
        return found

    def sign_offs(self, stage_run_id: int, gate: str | None = None, accepted: bool | None = None) -> Sequence[SignOff]:
        query = select(SignOff).where(SignOff.stage_run_id == stage_run_id).order_by(col(SignOff.id))
        if gate is not None:
            query = query.where(SignOff.gate == gate)
        if accepted is not None:
            query = query.where(SignOff.accepted == accepted)
        with self.reading() as session:
            return session.exec(query).all()

    def attestations(self, account: str) -> Sequence[Attested]:
        """What was accepted on that account, of every candidate, oldest first."""
        query = select(Attested).where(col(Attested.accepted).is_(True), Attested.account == account)
        with self.reading() as session:
            return session.exec(query.order_by(col(Attested.id))).all()

    def drills_of(self, candidate: str) -> Sequence[tuple[StageRun, Drill]]:
        """Every drill that this candidate was put through, with the stage run it was in, oldest first."""
        query = (
            select(StageRun, Drill)
            .join(Drill, col(Drill.stage_run_id) == col(StageRun.id))
            .where(StageRun.candidate == candidate)
            .order_by(col(Drill.id))
        )
        with self.reading() as session:
            return session.exec(query).all()

    def rollback_steps(self, stage_run_id: int) -> Sequence[RollbackStep]:
        query = select(RollbackStep).where(RollbackStep.stage_run_id == stage_run_id)
        with self.reading() as session:
            return session.exec(query.order_by(col(RollbackStep.number))).all()

    def verdicts(self, stage_run_id: int) -> Sequence[VerdictRow]:
        query = select(VerdictRow).where(VerdictRow.stage_run_id == stage_run_id).order_by(col(VerdictRow.id))
        with self.reading() as session:
            return session.exec(query).all()

    def parts(self, stage_run_id: int) -> Sequence[StagePart]:
        """The parts that the stage run has been in, oldest first; after a step down one comes again."""
        query = select(StagePart).where(StagePart.stage_run_id == stage_run_id).order_by(col(StagePart.id))
        with self.reading() as session:
            return session.exec(query).all()

    def drills(self, stage_run_id: int) -> Sequence[Drill]:
        query = select(Drill).where(Drill.stage_run_id == stage_run_id).order_by(col(Drill.id))
        with self.reading() as session:
            return session.exec(query).all()

    def unfinished(self, plan_name: str) -> Sequence[Rollout]:
        """Rollouts of that plan with a stage run that has not ended, newest first."""
        runs = select(StageRun.rollout).where(col(StageRun.step).not_in(FINAL_STEPS))
        query = select(Rollout).where(Rollout.plan_name == plan_name, col(Rollout.name).in_(runs))
        with self.reading() as session:
            return session.exec(query.order_by(col(Rollout.created_at).desc())).all()

    def evidence_files(self, stage_run_id: int) -> Sequence[EvidenceFile]:
        query = select(EvidenceFile).where(EvidenceFile.stage_run_id == stage_run_id).order_by(col(EvidenceFile.id))
        with self.reading() as session:
            return session.exec(query).all()

    def releases(self, stage_run_id: int) -> Sequence[Released]:
        """Every word of a person on releasing a stop of its bot, as they came."""
        query = select(Released).where(Released.stage_run_id == stage_run_id).order_by(col(Released.id))
        with self.reading() as session:
            return session.exec(query).all()

    def notices(self, account: str) -> Sequence[Outbox]:
        query = select(Outbox).where(Outbox.account == account).order_by(col(Outbox.id))
        with self.reading() as session:
            return session.exec(query).all()

    def timeline(self, stage_run_id: int) -> dict[str, str | None]:
        """breach, seen, grant_revoked, bot_gone, none_open, flat: UTC ISO 8601, None where not (yet)."""
        row = self.stage_run(stage_run_id)
        return {
            "breach": iso(row.breach_at),
            "seen": iso(row.seen_at),
            "grant_revoked": iso(row.grant_revoked_at),
            "bot_gone": iso(row.bot_gone_at),
            "none_open": iso(row.none_open_at),
            "flat": iso(row.flat_at),
        }

    def plan_begun(self, row: StageRun) -> dict[str, Any] | None:
        """The plan as it was when the stage run began, from the chain; None where none was told."""
        query = select(RecordEntry.body).where(RecordEntry.account == row.account, RecordEntry.kind == "stage_run")
        with self.reading() as session:
            bodies = [json.loads(body) for body in session.exec(query.order_by(col(RecordEntry.seq).desc())).all()]
        plan = next((body.get("plan") for body in bodies if body["stage_run"] == row.id), None)
        return plan if isinstance(plan, dict) else None

    def entries_of_kind(self, kind: str) -> Sequence[RecordEntry]:
        """Links of that kind, of every account."""
        query = select(RecordEntry).where(RecordEntry.kind == kind).order_by(col(RecordEntry.id))
        with self.reading() as session:
            return session.exec(query).all()

    def entries(self, account: str) -> Sequence[RecordEntry]:
        """The chain of an account in order."""
        query = select(RecordEntry).where(RecordEntry.account == account).order_by(col(RecordEntry.seq))
        with self.reading() as session:
            return session.exec(query).all()

    def verify_chain(self, account: str) -> ChainReport:
        """Recomputes the account's chain; names the first link that does not hold."""
        return check_chain(account, self.entries(account))


def iso(at: datetime | None) -> str | None:
    """UTC, ISO 8601, milliseconds, ending in Z."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def open_record(url: str) -> Record:
    """Opens the record and brings its tables to the newest revision. Raises RecordError in one line."""
    try:
        engine = open_engine(url)
        ensure_newest(engine, url)
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except (SQLAlchemyError, OSError) as error:
        said = str(error).splitlines()[0]
        raise RecordError(f"record {without_password(url)}: cannot be opened: {said}") from error
    except MigrationFailed as error:
        raise RecordError(str(error)) from error
    return Record(engine)


def _known_values(stage_run_id: int, criterion_id: str) -> SelectOfScalar[MeasurementRow]:
    row = MeasurementRow
    of_run = (row.stage_run_id == stage_run_id, row.criterion_id == criterion_id)
    return select(row).where(*of_run, col(row.value).is_not(None))


def _exact(value: str | None, raw: Mapping[str, Any]) -> Decimal:
    """A row shows its value rounded for people; its one sample has all digits."""
    samples = raw.get("samples") or []
    shown = samples[0]["value"] if len(samples) == 1 else value
    return Decimal(str(value if shown is None else shown))


def _id(value: int | None) -> int:
    if value is None:
        raise RecordError("a row was stored without a number")
    return value


__all__ = ["FINAL_STEPS", "Answer", "Record", "RecordError", "iso", "open_record", "utc_now"]
