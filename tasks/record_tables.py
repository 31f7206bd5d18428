"""The tables of the rollout's memory. Money is text holding an exact decimal, times are UTC, never a float decides.

`record` is the append-only hash chain (one chain per account, written by that account's guard alone). `inbox`,
`outbox` and `lock` stand outside the chain. Everybody but the guard only reads, and inserts into `inbox`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, DateTime, Integer, UniqueConstraint
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel


def utc_now() -> datetime:
    """The wall clock, aware, UTC."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time, stored as UTC. A naive time is refused: it would mean another moment on another machine."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"time {value.isoformat()} has no zone: only aware times are stored")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _json() -> Any:
    return Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


def _json_list() -> Any:
    return Field(default_factory=list, sa_column=Column(JSON, nullable=False))


def _now() -> Any:
    return Field(default_factory=utc_now, sa_type=UtcDateTime, nullable=False)


def _time() -> Any:
    return Field(default=None, sa_type=UtcDateTime, nullable=True)


def _big(**more: Any) -> Any:
    return Field(sa_type=BigInteger, **more)


def _key() -> Any:
    # SQLite numbers rows by itself only for the type INTEGER; everywhere else ids have room for decades.
    return Field(
        default=None,
        sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    )


class Account(SQLModel, table=True):
    """A venue account that a guard owns."""

    name: str = Field(primary_key=True)
    venue: str
    created_at: datetime = _now()


class Rollout(SQLModel, table=True):
    """One candidate on its way. `candidate` is the digest that sign-offs are bound to."""

    name: str = Field(primary_key=True)
    account: str = Field(index=True)
    plan_name: str = Field(index=True)
    plan_path: str
    plan_digest: str
    code_version: str
    settings_digest: str
    nonce: str
    candidate: str = Field(index=True)
    author: str
    requested_by: str
    created_at: datetime = _now()


class StageRun(SQLModel, table=True):
    """One attempt of one stage. `step` as in gates.course; `reason` why it ended or is ending, once decided.

    `decided_*`: the criterion, its value and limit that decided, as text. `breach_at` is the time of the sample that
    broke the limit, `seen_at` when the guard judged it. `run`, `pid`, `pid_started_ticks`, `machine` and `state_dir`
    identify the bot's process beyond reuse of a pid, and in which boot of which machine to look for it (empty: this
    one, as before it was noted). `replicas_frozen`: nothing may start a bot for this stage run any more.
    `part`: in which part of the stage it stands, from 0, and since when. `predecessor_passed`: the stages before passed
    with this digest, so nobody signs at the entry. `baseline`: the journal's totals when the watch began, as [name,
    labels, count]; what the end judges is counted from there. `link`: where people see it run and sign, if anywhere.
    """

    __tablename__ = "stage_run"
    id: int | None = _key()
    rollout: str = Field(foreign_key="rollout.name", index=True)
    account: str = Field(index=True)
    stage: str
    attempt: int
    step: str = Field(index=True)
    candidate: str
    plan_path: str
    reason: str | None = None
    verdict: str | None = None
    decided_criterion: str | None = None
    decided_value: str | None = None
    decided_limit: str | None = None
    decided_why: str | None = None
    decided_others: list[Any] = _json_list()
    end_wanted: str | None = None
    run: str | None = None
    pid: int | None = None
    pid_started_ticks: int | None = Field(default=None, sa_type=BigInteger)
    machine: str = ""
    obs_url: str | None = None
    state_dir: str | None = None
    epoch: int = 0
    replicas_frozen: bool = False
    part: int = 0
    predecessor_passed: bool = False
    baseline: list[Any] = _json_list()
    link: str = ""
    entry_digest: str | None = None
    evidence_dir: str | None = None
    evidence_digest: str | None = None
    created_at: datetime = _now()
    ready_at: datetime | None = _time()
    launched_at: datetime | None = _time()
    part_from: datetime | None = _time()
    watch_from: datetime | None = _time()
    watch_until: datetime | None = _time()
    watched_at: datetime | None = _time()
    judged_at: datetime | None = _time()
    reminded_at: datetime | None = _time()
    breach_at: datetime | None = _time()
    seen_at: datetime | None = _time()
    grant_revoked_at: datetime | None = _time()
    bot_gone_at: datetime | None = _time()
    none_open_at: datetime | None = _time()
    flat_at: datetime | None = _time()
    ended_at: datetime | None = _time()


class Grant(SQLModel, table=True):
    """The epoch of an account. Raised only by compare-and-swap; a lower epoch is refused everywhere."""

    account: str = Field(primary_key=True)
    epoch: int = 0
    holder: str = ""
    changed_at: datetime = _now()


class MeasurementRow(SQLModel, table=True):
    """A measurement on every change of value or outcome, once a minute, and of every look that came late.

    `raw`: the samples it was judged from. `looked_before_ms`: when the criterion was looked at last before, if known.

    `raw["before"]`: (ms before `at_ms`, value) of earlier changes of the value alone, which this row stood for before.
    """

    __tablename__ = "measurement"
    id: int | None = _key()
    stage_run_id: int = Field(foreign_key="stage_run.id", index=True)
    criterion_id: str = Field(index=True)
    phase: str
    at_ms: int = _big()
    outcome: str
    cause: str | None = None
    value: str | None = None
    limit: str = ""
    unit: str = ""
    window_s: str = "0"
    sample_count: int = 0
    coverage: str = "0"
    query: str = ""
    reason: str = ""
    took_ms: str = "0"
    raw: dict[str, Any] = _json()
    looked_before_ms: int | None = _big(default=None)


class MeasurementLatest(SQLModel, table=True):
    """The newest measurement of each criterion of a stage run: what `status` shows."""

    __tablename__ = "measurement_latest"
    stage_run_id: int = Field(foreign_key="stage_run.id", primary_key=True)
    criterion_id: str = Field(primary_key=True)
    phase: str
    at_ms: int = _big()
    outcome: str
    cause: str | None = None
    value: str | None = None
    limit: str = ""
    unit: str = ""
    severity: str = "critical"
    title: str = ""
    reason: str = ""
    ordinal: int = 0


class VerdictRow(SQLModel, table=True):
    """A judgement of a stage: GO, NO_GO or HOLD, with every measurement it stands on."""

    __tablename__ = "verdict"
    id: int | None = _key()
    stage_run_id: int = Field(foreign_key="stage_run.id", index=True)
    at: datetime = _now()
    word: str
    decided_by: str | None = None
    body: dict[str, Any] = _json()


class SignOff(SQLModel, table=True):
    """One attempt of a person to sign, accepted or refused. Never the code itself.

    `inbox_id`: the request it answers, once each; None where it came another way.
    """

    __tablename__ = "sign_off"
    id: int | None = _key()
    stage_run_id: int = Field(foreign_key="stage_run.id", index=True)
    gate: str
    person: str = Field(index=True)
    roles: list[Any] = _json_list()
    decision: str
    accepted: bool
    counts_as_wrong_code: bool = False
    refused_reason: str = ""
    evidence_digest: str
    comment: str = ""
    inbox_id: int | None = Field(default=None, sa_type=BigInteger, unique=True, index=True)
    at: datetime = _now()


class Attested(SQLModel, table=True):
    """One attempt of a person to attest an item of a checklist for a candidate, accepted or refused. Never the code.

    `evidence_path` is the copy that the guard keeps, `evidence_sha256` what its content must hash to.
    """

    __tablename__ = "attestation"
    id: int | None = _key()
    account: str = Field(index=True)
    candidate: str = Field(index=True)
    item: str = Field(index=True)
    person: str = Field(index=True)
    roles: list[Any] = _json_list()
    accepted: bool
    counts_as_wrong_code: bool = False
    refused_reason: str = ""
    evidence_path: str = ""
    evidence_sha256: str = ""
    evidence_bytes: int = _big(default=0)
    comment: str = ""
    inbox_id: int | None = Field(default=None, sa_type=BigInteger, unique=True, index=True)
    at: datetime = _now()


class Released(SQLModel, table=True):
    """One attempt of a person to have a bot's stop released, accepted or refused. Never the code.

    `word`: asked, or confirmed by a second person. `kind`: resume, or re-arm. `stop`: the reason of the stop that is
    meant, `*` for all. `request_id`: what the bot knows it by, the same for both people.
    """

    __tablename__ = "release"
    id: int | None = _key()
    stage_run_id: int = Field(foreign_key="stage_run.id", index=True)
    request_id: str = Field(index=True)
    word: str
    kind: str
    stop: str = ""
    consent: bool = False
    person: str = Field(index=True)
    roles: list[Any] = _json_list()
    accepted: bool
    counts_as_wrong_code: bool = False
    refused_reason: str = ""
    comment: str = ""
    inbox_id: int | None = Field(default=None, sa_type=BigInteger, unique=True, index=True)
    at: datetime = _now()


class UsedCode(SQLModel, table=True):
    """A one-time code that has served. Inserted before acceptance, so no code serves twice."""

    __tablename__ = "used_code"
    person: str = Field(primary_key=True)
    time_step: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    at: datetime = _now()


class RollbackStep(SQLModel, table=True):
    """One step of closing a stage, with its proof. `state`: started | verified | failing | skipped."""

    __tablename__ = "rollback_step"
    __table_args__ = (UniqueConstraint("stage_run_id", "number"),)
    id: int | None = _key()
    stage_run_id: int = Field(foreign_key="stage_run.id", index=True)
    number: int
    name: str
    state: str
    attempts: int = 0
    started_at: datetime = _now()
    verified_at: datetime | None = _time()
    proof: dict[str, Any] = _json()
    error: str = ""


class StagePart(SQLModel, table=True):
    """One visit of one part of a stage run, with the size its grant allowed (quote, text).

    `outcome`: "" while it lasts, then passed | stepped_down | ended. `proof`: of the position after a step down.
    """

    __tablename__ = "stage_part"
    id: int | None = _key()
    stage_run_id: int = Field(foreign_key="stage_run.id", index=True)
    number: int
    name: str
    symbols: list[Any] = _json_list()
    inventory_max_quote: str
    total_max_quote: str
    epoch: int
    began_at: datetime = _now()
    ended_at: datetime | None = _time()
    outcome: str = ""
    proof: dict[str, Any] = _json()


class Drill(SQLModel, table=True):
    """A planned fault and the criteria it must trip inside its window, in that part of the stage run.

    `outcome`: "" while it lasts, then passed | failed | not_run. `proof`: criterion → what it was tripped by.
    """

    id: int | None = _key()
    stage_run_id: int = Field(foreign_key="stage_run.id", index=True)
    name: str
    part: int = 0
    criteria: list[Any] = _json_list()
    started_at: datetime = _now()
    ends_at: datetime | None = _time()
    outcome: str = ""
    proof: dict[str, Any] = _json()


class EvidenceFile(SQLModel, table=True):
    """A file of the evidence with its SHA-256, as it was when written."""

    __tablename__ = "evidence_file"
    id: int | None = _key()
    stage_run_id: int = Field(foreign_key="stage_run.id", index=True)
    path: str
    sha256: str
    size_bytes: int = _big()
    at: datetime = _now()


class Outbox(SQLModel, table=True):
    """A notice to deliver once. `key` makes a transition unique; `next_at` is when to try (again)."""

    id: int | None = _key()
    key: str = Field(unique=True)
    account: str = Field(index=True)
    kind: str
    text: str
    created_at: datetime = _now()
    attempts: int = 0
    next_at: datetime = _now()
    delivered_at: datetime | None = _time()
    error: str = ""


class Inbox(SQLModel, table=True):
    """What anybody asks of an account's guard. `state`: waiting | done | refused."""

    id: int | None = _key()
    account: str = Field(index=True)
    kind: str
    payload: dict[str, Any] = _json()
    idempotency_key: str = Field(unique=True)
    state: str = Field(default="waiting", index=True)
    reason: str = ""
    result: dict[str, Any] = _json()
    created_at: datetime = _now()
    answered_at: datetime | None = _time()


class Lock(SQLModel, table=True):
    """A lock with the process that holds it: pid, start time, and the machine in its boot, so that a dead holder shows
    and one that cannot be seen from here is not taken for dead."""

    name: str = Field(primary_key=True)
    holder: str
    pid: int
    pid_started_ticks: int = _big()
    machine: str = ""
    taken_at: datetime = _now()


class RecordEntry(SQLModel, table=True):
    """One link of the chain. `hash` covers account, seq, prev_hash, at, kind and body."""

    __tablename__ = "record"
    __table_args__ = (UniqueConstraint("account", "seq"), UniqueConstraint("account", "prev_hash"))
    id: int | None = _key()
    account: str = Field(index=True)
    seq: int
    prev_hash: str
    hash: str
    at: str
    kind: str
    body: str
