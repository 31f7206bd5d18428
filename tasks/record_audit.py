"""Whether the tables still say what the chain of the record tells: a row edited by hand decides nothing.

Each change that decides something is told in the chain in the same transaction, so the two can only differ where
somebody else wrote. Compared are the rows that permit a promotion or a begin: rollouts, stage runs, sign-offs, drills,
attestations, and the words on releasing a stop.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from tasks.record import Record, iso
from tasks.record_chain import canonical_json
from tasks.record_tables import Attested, Drill, RecordEntry, Released, Rollout, SignOff, StageRun

TOLD_OF_RUN = ("step", "verdict", "reason", "part", "entry_digest", "evidence_digest", "replicas_frozen")
"""Columns of a stage run that change only with a link."""
CHANGE_RUNS = ("step", "bot", "part")
"""Kinds of links that tell of such a change."""
BEGUN_OF_RUN = ("rollout", "stage", "attempt", "candidate", "predecessor_passed", "link")
OF_ROLLOUT = {"candidate": "candidate", "plan": "plan_digest", "author": "author"}
NOT_TOLD_OF_SIGN_OFF = {"id", "at", "counts_as_wrong_code"}
OF_DRILL = ("stage_run", "drill", "outcome", "ended_at")


def record_fault(record: Record, account: str) -> str:
    """Why the account's tables and chain do not agree, naming link or row; empty where they do."""
    chain = record.verify_chain(account)
    if not chain.ok:
        return f"record of {account}: {chain.reason}"
    links = _by_kind(record.entries(account))
    runs = record.stage_runs(account=account)
    names = {run.rollout for run in runs}
    rollouts = [one for name in sorted(names) if (one := record.rollout(name)) is not None]
    signed = [row for run in runs for row in record.sign_offs(run.id or 0)]
    drilled = [row for run in runs for row in record.drills(run.id or 0) if row.outcome]
    attested = record.attestations(account)
    released = [row for run in runs for row in record.releases(run.id or 0)]
    return (
        _rollouts_fault(rollouts, links.get("rollout", []))
        or _runs_fault(runs, links)
        or _sign_offs_fault(signed, links.get("sign_off", []))
        or _drills_fault(drilled, links.get("drill_ended", []))
        or _attestations_fault(attested, links.get("attestation", []))
        or _releases_fault(released, links.get("release", []))
    )


def _by_kind(entries: Sequence[RecordEntry]) -> dict[str, list[tuple[int, dict[str, Any]]]]:
    found: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for entry in entries:
        found.setdefault(entry.kind, []).append((entry.seq, json.loads(entry.body)))
    return found


def _rollouts_fault(rollouts: Iterable[Rollout], links: Iterable[tuple[int, dict[str, Any]]]) -> str:
    told = {str(body["rollout"]): body for _, body in links}
    for row in rollouts:
        body = told.get(row.name)
        if body is None:
            return f"rollout {row.name} is in no link"
        for name, column in OF_ROLLOUT.items():
            if name in body and body[name] != getattr(row, column):
                return _differs(f"rollout {row.name}", column, getattr(row, column), body[name])
    return ""


def _runs_fault(runs: Sequence[StageRun], links: dict[str, list[tuple[int, dict[str, Any]]]]) -> str:
    begun = {body["stage_run"]: body for _, body in links.get("stage_run", [])}
    there = {run.id for run in runs}
    if lost := sorted(number for number in begun if number not in there):
        return f"stage run {lost[0]} was told in the chain and is in no row"
    said: dict[int, dict[str, Any]] = {}
    every = [link for kind in CHANGE_RUNS for link in links.get(kind, [])]
    for _, body in sorted(every, key=lambda link: link[0]):
        if isinstance(number := body.get("stage_run"), int):
            said.setdefault(number, {}).update({name: body[name] for name in TOLD_OF_RUN if name in body})
    for run in runs:
        if (first := begun.get(run.id)) is None:
            return f"stage run {run.id} is in no link"
        last = {"step": "requested", **said.get(run.id or 0, {})}
        for name, value in [*((n, first[n]) for n in BEGUN_OF_RUN if n in first), *last.items()]:
            if getattr(run, name) != value:
                return _differs(f"stage run {run.id}", name, getattr(run, name), value)
    return ""


def _sign_offs_fault(rows: Iterable[SignOff], links: Iterable[tuple[int, dict[str, Any]]]) -> str:
    """Both ways: a NO-GO that is taken away is as much a forgery as a GO that is put in."""
    told = Counter(canonical_json(body) for _, body in links)
    for row in rows:
        text = canonical_json(row.model_dump(mode="json", exclude=NOT_TOLD_OF_SIGN_OFF))
        if not told[text]:
            return f"sign-off {row.id} of {row.person} at stage run {row.stage_run_id} is not what the chain tells"
        told[text] -= 1
    if lost := [json.loads(text) for text in (+told)]:
        return f"a sign-off of {lost[0]['person']} at stage run {lost[0]['stage_run_id']} is in no row"
    return ""


def _drills_fault(rows: Iterable[Drill], links: Iterable[tuple[int, dict[str, Any]]]) -> str:
    """Both ways, as sign-offs. An end that was told without its time, as they once were, is compared without it."""
    told = Counter(tuple(body.get(name) for name in OF_DRILL) for _, body in links)
    for row in rows:
        what = (row.stage_run_id, row.name, row.outcome)
        key = next((key for key in ((*what, iso(row.ends_at)), (*what, None)) if told[key]), None)
        if key is None:
            return f"drill {row.id} {row.name} at stage run {row.stage_run_id} is not what the chain tells"
        told[key] -= 1
    if lost := list(+told):
        return f"a drill {lost[0][1]} at stage run {lost[0][0]} that {lost[0][2]} is in no row"
    return ""


def _attestations_fault(rows: Iterable[Attested], links: Iterable[tuple[int, dict[str, Any]]]) -> str:
    """Of those that were accepted: one that is taken away permits nothing, so it is looked for one way only."""
    told = Counter(canonical_json(body) for _, body in links)
    for row in rows:
        told_of_it = {**row.model_dump(mode="json", exclude=NOT_TOLD_OF_SIGN_OFF), "at": iso(row.at)}
        text = canonical_json(told_of_it)
        if not told[text]:
            return f"attestation {row.id} of {row.item} by {row.person} is not what the chain tells"
        told[text] -= 1
    return ""


def _releases_fault(rows: Iterable[Released], links: Iterable[tuple[int, dict[str, Any]]]) -> str:
    """As attestations: an asking put in by hand would let one person release alone."""
    told = Counter(canonical_json(body) for _, body in links)
    for row in rows:
        text = canonical_json(row.model_dump(mode="json", exclude=NOT_TOLD_OF_SIGN_OFF))
        if not told[text]:
            return f"release {row.id} {row.word} by {row.person} is not what the chain tells"
        told[text] -= 1
    return ""


def _differs(what: str, column: str, found: object, told: object) -> str:
    return f"{what}: {column} is {found!r}, and the chain tells {told!r}"
