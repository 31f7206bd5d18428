"""Takes attestations: what a person says about a candidate, with a file of evidence, by one-time code.

The same mechanism as sign-offs and the same codes: what needs no code is refused first, a locked person's code is not
looked at, and a right code is spent before the attestation is accepted. Only the guard takes them.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gates.approvers import Approvers, Person
from gates.checklists import Item, Said, unattested
from tasks.record import Record
from tasks.record_tables import Attested, utc_now
from tasks.sign_off import Coded, CodeDesk

EVIDENCE_MAX_BYTES = 50_000_000


class EvidenceUnusable(Exception):
    """The file of evidence cannot be taken. One line: the file, what is wrong, what is allowed."""


@dataclass(frozen=True)
class Evidence:
    """A copy that is kept, and what its content hashes to (SHA-256, hex)."""

    path: Path
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Statement:
    """What a person sent. `asked_at_s`: when, wall clock; None where that is now. `inbox_id`: its row."""

    item: str
    person: str
    code: str
    comment: str = ""
    asked_at_s: float | None = None
    inbox_id: int | None = None


@dataclass(frozen=True)
class Asked:
    """What is attested: which items, of which candidate, by whom."""

    account: str
    candidate: str
    items: Sequence[Item]
    approvers: Approvers
    author: str


@dataclass(frozen=True)
class Taken:
    """`accepted`, or why not. `missing`: what the item still lacks after it, in words."""

    accepted: bool
    reason: str
    missing: tuple[str, ...] = ()


def keep_evidence(file: Path, folder: Path) -> Evidence:
    """Copies the file below `folder`, under its own hash. Raises EvidenceUnusable."""
    try:
        size = file.stat().st_size
        if not file.is_file() or not 0 < size <= EVIDENCE_MAX_BYTES:
            said = "is no file" if not file.is_file() else f"has {size} bytes"
            raise EvidenceUnusable(f"--evidence {file}: {said}; allowed: a file of 1 to {EVIDENCE_MAX_BYTES} bytes")
        found = sha256_of(file)
        kept = folder / found / file.name
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copyfile(file, kept)
        kept.chmod(0o600)
    except OSError as error:
        raise EvidenceUnusable(f"--evidence {file}: {error.strerror}; allowed: a file that can be read") from None
    return Evidence(kept, found, size)


def sha256_of(path: Path) -> str:
    """Of the file's content, hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def said_of(record: Record, account: str) -> list[Said]:
    """What was accepted on that account, each with whether its evidence is still what it was then.

    What was said of another account, its key or its kill switch, says nothing of this one.
    """
    return [
        Said(row.item, row.person, row.candidate, row.at, _intact(Path(row.evidence_path), row.evidence_sha256))
        for row in record.attestations(account)
    ]


def _intact(path: Path, sha256: str) -> bool:
    try:
        return sha256_of(path) == sha256
    except OSError:
        return False


def lacking(asked: Asked, item: Item, record: Record) -> tuple[str, ...]:
    """Why that item is not attested now, in words; none where it is."""
    said = said_of(record, asked.account)
    return unattested(item, asked.approvers.people, said, asked.candidate, asked.author, utc_now())


class AttestationDesk(CodeDesk):
    """Takes statements."""

    def take(self, said: Statement, asked: Asked, evidence: Evidence, now_s: float | None = None) -> Taken:
        """Accepts or refuses; either way a row says so. Never raises for what a person can send."""
        person = next((one for one in asked.approvers.people if one.name == said.person), None)
        item = next((one for one in asked.items if one.id == said.item), None)
        now_s = time.time() if now_s is None else now_s
        reason = self._judge_code(
            Coded(said.person, said.code, said.asked_at_s),
            now_s,
            self._refusal_without_code(said, asked, item, person, evidence),
            lambda step: self._record.attest(_row(said, asked, person, evidence, ""), step),
            lambda why, wrong: self._record.add_attestation(_row(said, asked, person, evidence, why, wrong)),
        )
        return Taken(not reason, reason, lacking(asked, item, self._record) if item is not None else ())

    def _refusal_without_code(
        self, said: Statement, asked: Asked, item: Item | None, person: Person | None, evidence: Evidence
    ) -> str:
        if item is None:
            known = ", ".join(one.id for one in asked.items) or "none, the plan asks for no attestation"
            return f"item {said.item!r} is not attested by people; allowed: {known}"
        if said.person == asked.author:
            return f"{said.person} is the candidate's author, who attests nothing"
        if person is None:
            return f"{said.person!r} is not one of the approvers"
        by = item.attestation.by if item.attestation is not None else None
        if by is not None and by.people_count <= len(by.roles) and not set(by.roles) & set(person.roles):
            return f"{said.person} is {', '.join(person.roles)}; {item.id} is for {', '.join(by.roles)}"
        if not _intact(evidence.path, evidence.sha256):
            return f"evidence {evidence.path.name}: its content does not hash to {evidence.sha256[:12]}"
        return ""


def _row(
    said: Statement, asked: Asked, person: Person | None, evidence: Evidence, refused: str, wrong_code: bool = False
) -> Attested:
    """What is kept of a statement; `refused` empty: accepted."""
    return Attested(
        account=asked.account,
        candidate=asked.candidate,
        item=said.item[:80],
        person=said.person[:80],
        roles=list(person.roles) if person else [],
        accepted=not refused,
        counts_as_wrong_code=wrong_code,
        refused_reason=refused,
        evidence_path=str(evidence.path),
        evidence_sha256=evidence.sha256,
        evidence_bytes=evidence.size_bytes,
        comment=said.comment[:2000],
        inbox_id=said.inbox_id,
    )
