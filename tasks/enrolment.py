"""Enrols people: each gets a seed for one-time codes, once, and anew only where two others have confirmed it.

A seed never passes through the record. Whoever enrols makes it and hands it to the guard in a private file named after
its hash; the guard alone writes the seeds. The record says who was enrolled, when and by whom it was confirmed, and
what it says counts, whatever has become of the file of seeds.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyotp

from gates.approvers import Approvers
from tasks.attestation import Taken
from tasks.record import Record
from tasks.record_tables import Attested, utc_now
from tasks.record_writer import Notice, RecordWriter
from tasks.sign_off import Coded, CodeDesk, Seeds, SeedsError
from tasks.state_folder import write_private

ISSUER: Final = "slipway"
OTHERS_MIN: Final = 2
CONFIRMED_WITHIN_S: Final = 86_400.0
"""How long a confirmation waits for the enrolment that it is for; as long as a sign-off waits."""
ENROLLED: Final = "enrolled"
"""The kind of link that says so."""


@dataclass(frozen=True)
class Enrolling:
    """Who is enrolled, or is confirmed to be enrolled anew, where and among whom. `inbox_id`: the request's row."""

    account: str
    person: str
    approvers: Approvers
    author: str
    inbox_id: int
    requested_by: str = ""


class Link(NamedTuple):
    """When somebody was enrolled, and what was written then."""

    at: datetime
    body: dict[str, Any]


@dataclass(frozen=True)
class Confirmation:
    """What one of the others sent. `asked_at_s`: when, wall clock."""

    by: str
    code: str
    asked_at_s: float


def new_seed() -> str:
    """A seed that nobody has, base32, 160 bits."""
    return pyotp.random_base32()


def uri_of(person: str, seed: str) -> str:
    """The seed as the address that authenticator apps read (otpauth, SHA-1, six digits, 30 s)."""
    return str(pyotp.TOTP(seed).provisioning_uri(name=person, issuer_name=ISSUER))


def hand_over(folder: Path, seed: str) -> tuple[Path, str]:
    """Leaves the seed for the guard, mode 0600, under its SHA-256; returns both. To be removed by whoever asked."""
    digest = hashlib.sha256(seed.encode()).hexdigest()
    write_private(folder / f"{digest}.seed", seed)
    return folder / f"{digest}.seed", digest


def handed_over(folder: Path, digest: str) -> str:
    """The seed that was left under that hash. Raises SeedsError; never tells it."""
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise SeedsError(f"seed {digest[:80]!r}: not a SHA-256, 64 hex digits")
    path = folder / f"{digest}.seed"
    try:
        mode, seed = path.stat().st_mode & 0o777, path.read_text()
    except (OSError, UnicodeDecodeError):
        raise SeedsError(f"{path}: the new seed is not there: enrol again") from None
    if (
        mode & 0o077
        or hashlib.sha256(seed.encode()).hexdigest() != digest
        or not re.fullmatch(r"[A-Z2-7]{32,64}", seed)
    ):
        raise SeedsError(f"{path}: not a seed as it was left: a base32 word under its own hash, mode 0600")
    return seed


class EnrolmentDesk(CodeDesk):
    """Takes enrolments and what others confirm."""

    def __init__(self, record: RecordWriter, seeds: Seeds, handed: Path) -> None:
        super().__init__(record, seeds)
        self._handed = handed

    def enroll(self, asked: Enrolling, digest: str) -> Taken:
        """Writes the link first: the same request again, after a guard that died in between, ends what was begun."""
        links = links_of(self._record, asked.person)
        begun = any(one["inbox_id"] == asked.inbox_id and one["account"] == asked.account for _, one in links)
        if not begun and (reason := self._refusal(asked, links)):
            return Taken(False, reason)
        seed = handed_over(self._handed, digest)
        if not begun:
            confirmed = sorted(self._confirmed(asked, links))
            body = {
                "account": asked.account, "person": asked.person, "confirmed_by": confirmed,
                "requested_by": asked.requested_by, "inbox_id": asked.inbox_id,
            }  # fmt: skip
            words = f"{asked.person} was enrolled" + (
                f" anew, confirmed by {', '.join(confirmed)}" if confirmed else ""
            )
            notice = Notice(f"enrolled:{asked.account}:{asked.inbox_id}", ENROLLED, f"[{asked.account}] {words}")
            self._record.append_told(ENROLLED, body, [notice])
        self._seeds.put(asked.person, seed)
        return Taken(True, "")

    def confirm(self, asked: Enrolling, said: Confirmation, now_s: float | None = None) -> Taken:
        """Accepts or refuses; either way a row says so. Never raises for what a person can send."""
        now_s = time.time() if now_s is None else now_s
        links = links_of(self._record, asked.person)
        reason = self._judge_code(
            Coded(said.by, said.code, said.asked_at_s),
            now_s,
            self._refusal_to_confirm(asked, said, links),
            lambda step: self._record.attest(_row(asked, said.by, ""), step),
            lambda why, wrong: self._record.add_attestation(_row(asked, said.by, why, wrong)),
        )
        return Taken(not reason, reason, self._missing(asked, links))

    def missing(self, asked: Enrolling) -> tuple[str, ...]:
        """Who still has to confirm, in words; none where enough have."""
        return self._missing(asked, links_of(self._record, asked.person))

    def _refusal(self, asked: Enrolling, links: Sequence[Link]) -> str:
        if all(one.name != asked.person for one in asked.approvers.people):
            return f"{asked.person!r} is not one of the approvers"
        missing = self._missing(asked, links)
        if not missing or not self._is_known(asked.person, links):
            return ""
        how = f"`rollout enroll {asked.person} --confirm --by NAME`"
        return f"{asked.person} is enrolled already; anew only where others confirm it ({how}): {missing[0]}"

    def _refusal_to_confirm(self, asked: Enrolling, said: Confirmation, links: Sequence[Link]) -> str:
        names = [one.name for one in asked.approvers.people]
        for name in (asked.person, said.by):
            if name not in names:
                return f"{name!r} is not one of the approvers"
        if said.by == asked.person:
            return f"{said.by} confirms others, never themself"
        if said.by == asked.author:
            return f"{said.by} is the candidate's author, who confirms nothing"
        if not self._is_known(asked.person, links):
            return f"{asked.person} is not enrolled yet: the first time nobody has to confirm it"
        return ""

    def _is_known(self, person: str, links: Sequence[Link]) -> bool:
        return bool(links) or person in self._seeds.read()

    def _confirmed(self, asked: Enrolling, links: Sequence[Link]) -> set[str]:
        """Others whose word stands: since the last enrolment, of today, and of who may sign now."""
        since = max([at for at, _ in links] + [utc_now() - timedelta(seconds=CONFIRMED_WITHIN_S)])
        may = {one.name for one in asked.approvers.people} - {asked.person, asked.author}
        rows = self._record.attestations(asked.account)
        return {
            row.person for row in rows if row.item == item_of(asked.person) and row.at > since and row.person in may
        }

    def _missing(self, asked: Enrolling, links: Sequence[Link]) -> tuple[str, ...]:
        more = OTHERS_MIN - len(self._confirmed(asked, links))
        return (f"missing {more} more {'person' if more == 1 else 'people'}",) if more > 0 else ()


def links_of(record: Record, person: str) -> list[Link]:
    """Each time that person was enrolled, on whatever account, oldest first."""
    told = [Link(datetime.fromisoformat(one.at), json.loads(one.body)) for one in record.entries_of_kind(ENROLLED)]
    return sorted((one for one in told if one.body["person"] == person), key=lambda one: one.at)


def item_of(person: str) -> str:
    """Under what a confirmation stands among the attestations; no item of a checklist has a blank in its id."""
    return f"enroll {person}"


def _row(asked: Enrolling, by: str, refused: str, wrong_code: bool = False) -> Attested:
    roles = next((list(one.roles) for one in asked.approvers.people if one.name == by), [])
    return Attested(
        account=asked.account,
        candidate="",
        item=item_of(asked.person)[:80],
        person=by[:80],
        roles=roles,
        accepted=not refused,
        counts_as_wrong_code=wrong_code,
        refused_reason=refused,
        inbox_id=asked.inbox_id,
    )
