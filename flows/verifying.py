"""`rollout verify-record`: whether the record is what was written, link by link and row by row, and the evidence of
each stage that has ended what the record says of it, where its folder is on this machine. It only reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlmodel import select

from flows.names import EXIT_FAILED
from flows.plan_view import wrapped
from gates.evidence_folder import names_in, sha256_of
from tasks.record import FINAL_STEPS, Record
from tasks.record_audit import measurements_fault, record_fault
from tasks.record_chain import ChainReport
from tasks.record_engine import RecordDamaged
from tasks.record_tables import Account, Attested, Grant, RecordEntry, Rollout, StageRun

HEAD_LETTERS_MIN = 12
"""As many as a notice shows."""
A_HEAD = re.compile(rf"[0-9a-f]{{{HEAD_LETTERS_MIN},64}}")


class CannotVerify(Exception):
    """What was asked for cannot be looked at. One line: the thing, its value, what is allowed."""


def print_verified(record: Record, account: str | None, head: str | None, *, as_json: bool) -> int:
    """Looks at every account, or at one. Exit code 1 where something does not hold. Raises CannotVerify.

    `head`: the hash that went out with a notice, or its beginning. A chain that lacks it was cut off, or is another.
    """
    if head is not None and not A_HEAD.fullmatch(head.lower()):
        raise CannotVerify(f"--head {head!r}; allowed: the {HEAD_LETTERS_MIN} to 64 hexadecimal letters of a notice")
    known = _accounts(record)
    if account is not None and account not in known and head is None:
        raise CannotVerify(f"--account {account}; allowed: {', '.join(known) or 'none, the record is empty'}")
    found = [_verified(record, one) for one in (known if account is None else [account])]
    if head is not None:
        found = _with_head(record, found, head.lower())
    holds = all(one["holds"] for one in found)
    if as_json:
        print(json.dumps({"holds": holds, "accounts": found}, indent=2))
    else:
        for line in [part for one in found for part in wrapped(_words(one))] or ["the record is empty"]:
            print(line)
    return 0 if holds else EXIT_FAILED


def _accounts(record: Record) -> list[str]:
    """Each that any row of the record names, whether it is known, and has a chain, or not: rows that were put in may
    name one of their own, and a candidate's attempts count on whatever account."""
    with record.snapshot() as session:
        named = set(session.exec(select(Account.name)).all())
        tables: tuple[Any, ...] = (RecordEntry, Rollout, StageRun, Attested, Grant)
        for table in tables:
            named |= set(session.exec(select(table.account).distinct()).all())
    return sorted(named)


def _verified(record: Record, account: str) -> dict[str, Any]:
    reason = record_fault(record, account) or measurements_fault(record, account)
    chain, stages, away = ChainReport(account, ok=False, length=0, head=""), 0, 0
    try:
        chain = record.verify_chain(account)
        if not reason and not chain.length:
            reason = f"account {account} has no chain"
        if not reason:
            reason, stages, away = _evidence(record, account)
    except RecordDamaged as error:
        reason = reason or str(error)
    told = {"account": account, "holds": not reason, "links": chain.length, "head": chain.head, "reason": reason}
    return {**told, "links_after_head": None, "evidence_stages": stages, "evidence_away": away}


def _evidence(record: Record, account: str) -> tuple[str, int, int]:
    """The first file that is not what the chain tells of it, empty where none is; of how many stages the evidence was
    looked at, and of how many it is not on this machine."""
    looked, away = 0, 0
    for run in record.stage_runs(account=account):
        if run.id is None or run.step not in FINAL_STEPS or not run.evidence_dir:
            continue
        bundles = [step for step in record.rollback_steps(run.id) if (step.name, step.state) == ("bundle", "verified")]
        files = record.evidence_files(run.id)
        if not bundles or not files:
            continue  # it ended without its bundle, and says so
        folder, newest = Path(run.evidence_dir), max(one.at for one in files)
        if not folder.is_dir():
            away += 1
            continue
        looked += 1
        named = {one.path: one.sha256 for one in files if one.at == newest}
        if fault := _folder_fault(folder, named):
            return f"evidence of {run.rollout}/{run.stage}: {fault}", looked, away
    return "", looked, away


def _folder_fault(folder: Path, named: Mapping[str, str]) -> str:
    """Both ways: what is not what was written, and what nobody wrote. `named`: path → SHA-256, as the record tells."""
    for name, sha256 in named.items():
        if fault := _file_fault(folder, name, sha256):
            return f"{folder / name} {fault}"
    try:
        more = sorted(names_in(folder) - named.keys())
    except OSError as error:
        return f"{error.filename} cannot be read: {error.strerror}"
    return f"{folder / more[0]} was put in" if more else ""


def _file_fault(folder: Path, name: str, sha256: str) -> str:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        return "is not in its folder"
    try:
        found = sha256_of(path)
    except FileNotFoundError:
        return "is gone"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if found == sha256 else "is not what was written"


def _with_head(record: Record, found: list[dict[str, Any]], head: str) -> list[dict[str, Any]]:
    """The account whose chain has that link says how many came after it; where none has, none holds."""
    for one in found:
        hashes = [link.hash for link in record.entries(one["account"])]
        at = next((number for number, link in enumerate(hashes, 1) if link.startswith(head)), None)
        if at is not None:
            return [{**each, "links_after_head": len(hashes) - at} if each is one else each for each in found]
    lost = f"no link has the head {head}, which went out: links were removed at the end, or this is another record"
    return [{**one, "holds": False, "reason": one["reason"] or lost} for one in found] or [
        {
            "account": None,
            "holds": False,
            "links": 0,
            "head": None,
            "reason": lost,
            "links_after_head": None,
            "evidence_stages": 0,
            "evidence_away": 0,
        }
    ]


def _words(one: dict[str, Any]) -> str:
    if not one["holds"]:
        return f"account {one['account']}: DOES NOT HOLD: {one['reason']}"
    after = one["links_after_head"]
    more = "" if after is None else f"; the head that was given is in it, {after} links before its end"
    looked = one["evidence_stages"]
    evidence = f"; evidence of {looked} stage{'s'[: looked != 1]} is as it was written" if looked else ""
    if one["evidence_away"]:
        evidence += f"; of {one['evidence_away']} it is not on this machine, and was not looked at"
    words = f"account {one['account']}: holds, {one['links']} links, head {one['head'][:HEAD_LETTERS_MIN]}"
    return words + more + evidence
