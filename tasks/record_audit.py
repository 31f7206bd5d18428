"""Whether the tables still say what the chain of the record tells: a row edited by hand decides nothing.

Each change is told in the chain in the same transaction, so the two can only differ where somebody else wrote.
Compared is every row of the account that belongs to the record, both ways: one that no link tells was put in, one that
a link tells and is not there was taken away. What no link tells is listed in `NOT_TOLD`, with its reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Boolean, Column, String, type_coerce
from sqlalchemy import select as sql_select
from sqlmodel import Session, SQLModel, col, select

from tasks.record import Record, iso
from tasks.record_chain import canonical_json, check_chain
from tasks.record_digest import AT_ONCE, digest_of, newest_id
from tasks.record_engine import RecordDamaged
from tasks.record_tables import (
    Account,
    Attested,
    Drill,
    EvidenceFile,
    Grant,
    RecordEntry,
    Released,
    RollbackStep,
    Rollout,
    SignOff,
    StagePart,
    StageRun,
    UsedCode,
    UtcDateTime,
    VerdictRow,
)
from tasks.record_told import Shapes, Told, differing

NOT_TOLD = {
    "inbox": "requests of anybody: it stands outside the record, and what became of one is told by what it did",
    "outbox": "notices on their way: it stands outside the record, and the chain's head goes out with each",
    "lock": "who runs now: it stands outside the record",
    "measurement_latest": "written anew each second and shown; what decides is judged from the readings themselves",
    "account.created_at": "shown",
    "grant.changed_at": "shown",
    "used_code.at": "shown; that the code is spent is what counts, and is told",
    **{
        f"{table}.id": "only numbers the rows, whose content is compared"
        for table in (
            "sign_off",
            "attestation",
            "release",
            "verdict",
            "evidence_file",
            "stage_part",
            "rollback_step",
        )
    },
    "record.id": "only numbers the links, whose order is their seq",
}
"""Tables and columns that are not compared, each with its reason."""
NOT_TOLD_UNTIL_DONE = ("attempts", "error", "proof", "verified_at")
"""Columns of a rollback step that is not verified yet: it is tried for ever, and each try would be a link. They show
what hinders, prove nothing, and are compared once the step is done."""
A_TIME = re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d(\.\d{1,6})?)?", re.ASCII)
"""As SQLite holds one, UTC: compared there letter by letter."""
T = TypeVar("T", bound=SQLModel)


class _Unreadable(Exception):
    """A value that somebody put in is none of its column's. Names table and value."""


def record_fault(record: Record, account: str) -> str:
    """Why the account's tables and chain do not agree, naming link or row; empty where they do.

    Measurements are many and have a look of their own: `measurements_fault`.
    """
    with record.snapshot() as session:
        told = Told()
        try:
            chain = check_chain(account, _telling(session, account, told))
            if not chain.ok:
                return f"record of {account}: {chain.reason}"
            return next(_faults(session, account, told), "")
        except (_Unreadable, RecordDamaged) as error:
            return str(error)


def measurements_fault(record: Record, account: str, candidate: str | None = None) -> str:
    """Why what was measured is not what was told with a verdict or an end, of that candidate's stage runs alone where
    one is named; empty where it is. Reads every row: of a stage of two days about a second."""
    try:
        return _measurements_fault(record, account, candidate)
    except RecordDamaged as error:
        return str(error)


def _measurements_fault(record: Record, account: str, candidate: str | None) -> str:
    with record.snapshot() as session:
        told = Told()
        check_chain(account, _telling(session, account, told))  # `record_fault` says what of it does not hold
        for number, ranges in told.ranges.items():
            if candidate is not None and told.runs.get(number, {}).get("candidate") != candidate:
                continue
            for one in ranges:
                if digest_of(session, number, one.after, one.upto) != one:
                    return f"a measurement of stage run {number} after {one.after} and up to {one.upto} was changed"
            if number in told.measured_to_the_end and (last := newest_id(session, number)) > ranges[-1].upto:
                return f"measurement {last} of stage run {number} was put in after its end"
    return ""


def _telling(session: Session, account: str, told: Told) -> Iterator[Any]:
    """The links one by one; each that is asked on from, so was found to hold, is told. Never all of them in memory."""
    columns: Any = RecordEntry.__table__.columns  # type: ignore[attr-defined]
    query = sql_select(*columns).where(columns.account == account).order_by(columns.seq)
    for link in session.connection().execute(query.execution_options(yield_per=AT_ONCE)):
        yield link
        told.take(link.kind, json.loads(link.body))


def _faults(session: Session, account: str, told: Told) -> Iterator[str]:
    yield from _accounts(session, account, told)
    yield from _keyed("rollout", told.rollouts, {one.name: one for one in _of_account(session, Rollout, account)})
    runs = {one.id: one for one in _of_account(session, StageRun, account)}
    yield from _keyed("stage run", told.runs, runs)
    yield from _written_once("sign-off", told.sign_offs, _of_runs(session, SignOff, account), "person")
    yield from _written_once("attestation", told.attestations, _of_account(session, Attested, account), "person")
    yield from _written_once("release", told.releases, _of_runs(session, Released, account), "person")
    yield from _written_once("verdict", told.verdicts, _of_runs(session, VerdictRow, account), "word")
    yield from _written_once("evidence file", told.files, _of_runs(session, EvidenceFile, account), "path")
    yield from _codes(session, told)
    yield from _drills(_of_runs(session, Drill, account), told)
    yield from _parts(_of_runs(session, StagePart, account), told)
    steps = {(one.stage_run_id, one.number): one for one in _of_runs(session, RollbackStep, account)}
    yield from _keyed("rollback step", told.steps, steps)


def _of_account(session: Session, table: type[T], account: str) -> Sequence[T]:
    of: Any = table
    return _read(session, table, of.account == account)


def _of_runs(session: Session, table: type[T], account: str) -> Sequence[T]:
    """Rows of the account's stage runs, oldest first."""
    own = select(StageRun.id).where(StageRun.account == account)
    of: Any = table
    return _read(session, table, col(of.stage_run_id).in_(own))


def _read(session: Session, table: type[T], which: Any) -> Sequence[T]:
    """Those rows, oldest first. Raises _Unreadable for a value that is none of its column's.

    SQLite keeps whatever is put in. A 2 is read as yes, and found by nobody who asks for what was accepted; a moment in
    another zone is read as the same, and found by nobody who asks for what came since.
    """
    of: Any = table
    columns, name = of.__table__.columns, of.__table__.name
    strict = [one for one in columns if isinstance(one.type, Boolean | UtcDateTime)]
    stored = sql_select(*(type_coerce(one, String) for one in strict)).where(which)
    for values in session.connection().execute(stored) if strict else ():
        for column, value in zip(strict, values, strict=True):
            if not _as_stored(column, value):
                kind = "neither yes nor no" if isinstance(column.type, Boolean) else "no time as it is stored"
                raise _Unreadable(f"{column.name} of a row of {name} is {value!r}, {kind}")
    try:
        rows = session.exec(select(table).where(which).order_by(*of.__table__.primary_key.columns)).all()
        for row in rows:
            canonical_json(_plain(row))
    except (ValueError, TypeError) as error:
        raise _Unreadable(f"a row of {name} cannot be read: {str(error).splitlines()[0]}") from error
    return rows


def _as_stored(column: Column[Any], value: Any) -> bool:
    if isinstance(column.type, Boolean):
        return value in (0, 1)
    return value is None or isinstance(value, datetime) or (isinstance(value, str) and bool(A_TIME.fullmatch(value)))


def _accounts(session: Session, account: str, told: Told) -> Iterator[str]:
    known = _read(session, Account, col(Account.name) == account), _read(session, Grant, col(Grant.account) == account)
    for words, rows, said in (("account", known[0], told.accounts), ("grant", known[1], told.grants)):
        row, columns = next(iter(rows), None), next(iter(said.values()), None)
        if columns is None:
            continue
        if row is None:
            yield f"{words} {account} was told in the chain and is in no row"
        else:
            yield from _differences(f"{words} {account}", columns, _plain(row))


def _keyed(words: str, told: Mapping[Any, dict[str, Any]], rows: Mapping[Any, SQLModel]) -> Iterator[str]:
    for key in told:
        if key not in rows:
            yield f"{words} {_key(key)} was told in the chain and is in no row"
    for key, row in rows.items():
        if key not in told:
            yield f"{words} {_key(key)} is in no link"
        else:
            yield from _differences(f"{words} {_key(key)}", told[key], _plain(row))


def _key(key: Any) -> str:
    return f"{key[1]} of stage run {key[0]}" if isinstance(key, tuple) else str(key)


def _differences(what: str, told: Mapping[str, Any], row: Mapping[str, Any]) -> Iterator[str]:
    for column in differing(told, row):
        yield f"{what}: {column} is {row.get(column)!r}, and the chain tells {told[column]!r}"


def _written_once(words: str, told: Shapes, rows: Sequence[SQLModel], named: str) -> Iterator[str]:
    """Both ways: a NO-GO that is taken away is as much a forgery as a GO that is put in."""
    for row in rows:
        plain = _plain(row)
        if not told.take(plain):
            yield f"{words} {plain['id']} of {_where(plain, named)} is not what the chain tells"
    if (lost := told.first_left()) is not None:
        yield f"the {words} of {_where(lost, named)} that the chain tells is in no row"


def _where(row: Mapping[str, Any], named: str) -> str:
    if "item" in row:
        return f"{row['item']} by {row[named]}"
    return f"{row[named]} at stage run {row['stage_run_id']}"


def _codes(session: Session, told: Told) -> Iterator[str]:
    """One way: a code that was spent and looks unspent could serve again. One more than was spent serves nobody."""
    spent = set(session.exec(select(UsedCode.person, UsedCode.time_step)).all())
    for one in told.codes:
        if tuple(one) not in spent:
            yield f"the code of {one.person} in time step {one.time_step} was spent, and its row is gone"


def _drills(rows: Sequence[Drill], told: Told) -> Iterator[str]:
    """A drill that was told without its number is found by stage run, name and, once it has ended, its end."""
    for row in rows:
        plain, what = _plain(row), f"drill {row.id} {row.name} at stage run {row.stage_run_id}"
        if (known := told.drills.pop(row.id or 0, None)) is not None:
            if columns := differing(known, plain):
                yield f"{what} is not what the chain tells: {columns[0]}"
        elif not told.drills_begun.take(plain) or (row.outcome and not told.drills_ended.take(plain)):
            yield f"{what} is not what the chain tells"
    lost = next(iter(told.drills.values()), None) or told.drills_ended.first_left() or told.drills_begun.first_left()
    if lost is not None:
        ended = f" that {lost['outcome']}" if lost.get("outcome") else ""
        yield f"a drill {lost['name']} at stage run {lost['stage_run_id']}{ended} is in no row"


def _parts(rows: Sequence[StagePart], told: Told) -> Iterator[str]:
    """In the order in which they were begun; a part comes again after a step down."""
    left = {number: list(parts) for number, parts in told.parts.items()}
    for row in rows:
        what = f"part {row.id} {row.name} of stage run {row.stage_run_id}"
        if not left.get(row.stage_run_id):
            yield f"{what} is in no link"
        else:
            yield from _differences(what, left[row.stage_run_id].pop(0), _plain(row))
    for number, parts in left.items():
        if parts:
            yield f"part {parts[0]['name']} of stage run {number} was told in the chain and is in no row"


def _plain(row: SQLModel) -> dict[str, Any]:
    columns = row.model_dump(warnings=False)  # of an edited row: what is wrong in it is told by name, not by a warning
    return {name: iso(value) if isinstance(value, datetime) else value for name, value in columns.items()}
