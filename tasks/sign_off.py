"""Judges sign-offs by one-time code (RFC 6238, 30 s steps). Only the guard does: nobody else reads the seeds.

The order of the checks matters. What needs no code is refused first, so that a slip costs no code; a locked person's
code is not looked at; a right code is spent (a unique row) before the sign-off is accepted, so that no code serves
twice, not even in two guards at once.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pyotp

from gates.approvers import Approvers, Person, Quorum, Signature, SignOffs, signed_off
from tasks.record_tables import SignOff, utc_now
from tasks.record_writer import RecordWriter
from tasks.state_folder import write_private

STEP_S = 30
STEPS_BACK = 1
"""Accepted are the time step in which a code was sent, this many before it, and those since."""
STALE_S = 90.0
"""A request that has waited longer than its code can have lived is refused unread: its person did nothing wrong."""
WRONG_MAX = 5
WRONG_WITHIN_S = 900.0
PREFIX_LENGTH = 6
DECISIONS = ("GO", "NO-GO")
CANDIDATE_WORD = "candidate:"
"""A NO-GO whose comment begins with this names the candidate: rolled back, not parked."""


def names_candidate(decision: str, comment: str) -> bool:
    """Whether it is a NO-GO about the candidate."""
    return decision == "NO-GO" and comment.strip().lower().startswith(CANDIDATE_WORD)


class SeedsError(Exception):
    """The seeds cannot be read or written as they must be. One line; never a seed."""


class Coded(NamedTuple):
    """Who gave which code. `asked_at_s`: when it was sent, wall clock; None where that is now."""

    person: str
    code: str
    asked_at_s: float | None


@dataclass(frozen=True)
class Request:
    """What a person sent. `names_candidate`: their NO-GO is about the candidate, not about the time or the place.

    `asked_at_s`: when it was sent, wall clock; None where that is now. `inbox_id`: its row, to know it again by.
    """

    person: str
    gate: str
    decision: str
    code: str
    evidence_prefix: str
    comment: str = ""
    asked_at_s: float | None = None
    inbox_id: int | None = None

    @property
    def names_candidate(self) -> bool:
        return names_candidate(self.decision, self.comment)


@dataclass(frozen=True)
class Judged:
    """`accepted`, or why not. `quorum`: who counts and what is missing after it."""

    accepted: bool
    reason: str
    quorum: Quorum


@dataclass(frozen=True)
class Gate:
    """What is asked at one gate of one stage run. `digest`: of the evidence the person must have seen."""

    stage_run_id: int
    name: str
    required: SignOffs
    approvers: Approvers
    author: str
    digest: str


class Seeds:
    """`approvers/seeds.json`: person → base32 seed, mode 0600. Read at each use, so an enrolment counts at once.

    Each account's guard enrols, and `rollout up`: whoever changes the file holds the lock beside it meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, str]:
        try:
            mode = self._path.stat().st_mode & 0o777
            text = self._path.read_text()
        except FileNotFoundError:
            return {}
        if mode & 0o077:
            raise SeedsError(f"{self._path}: mode {mode:04o}: it holds secrets, allowed is 0600")
        try:
            values = json.loads(text)
        except ValueError:
            raise SeedsError(f"{self._path}: is not JSON") from None
        if not isinstance(values, dict):
            raise SeedsError(f"{self._path}: is not an object of person → seed")
        for person, seed in values.items():
            if not _is_seed(seed):
                raise SeedsError(f"{self._path}: {person}: not a base32 seed; allowed: letters and digits 2 to 7")
        return values

    def add(self, people: Sequence[str]) -> list[str]:
        """Enrols those who have no seed yet; returns who they were."""
        with self._alone():
            seeds = self.read()
            new = [person for person in people if person not in seeds]
            if new:
                self._write({**seeds, **{person: pyotp.random_base32() for person in new}})
        return new

    def put(self, person: str, seed: str) -> None:
        """That person's seed is this one from now on, whatever it was before."""
        with self._alone():
            self._write({**self.read(), person: seed})

    def _write(self, seeds: Mapping[str, str]) -> None:
        write_private(self._path, json.dumps(seeds), durable=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Holds every other process off while the seeds change. The lock dies with the process that holds it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_name(f"{self._path.name}.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def matching_step(self, person: str, code: str, now_s: float, sent_at_s: float | None = None) -> int | None:
        """The time step whose code this is, the newest first; None where it is none of the accepted ones.

        `sent_at_s`: when the person sent it, wall clock, not later than now; None where that is now. A code that was
        right when it was sent is not wrong for having been on its way (the form's process starts anew for it).
        """
        seed = self.read().get(person)
        digits = code.strip().replace(" ", "")
        found: int | None = None
        newest = int(now_s) // STEP_S
        oldest = int(now_s if sent_at_s is None else min(sent_at_s, now_s)) // STEP_S - STEPS_BACK
        for step in range(newest, oldest - 1, -1):
            # An unknown person costs the same time as a known one.
            right = pyotp.TOTP(seed or "A" * 32).at(step * STEP_S)
            if hmac.compare_digest(right.encode(), digits.encode()) and seed and found is None:
                found = step
        return found


def _is_seed(value: object) -> bool:
    try:
        return isinstance(value, str) and len(pyotp.TOTP(value).byte_secret()) > 0
    except ValueError:
        return False


class CodeDesk:
    """What every desk does that takes people's one-time codes, whatever for. One request at a time: the guard is one
    process, and spends each code by a unique row."""

    def __init__(self, record: RecordWriter, seeds: Seeds) -> None:
        self._record = record
        self._seeds = seeds

    def _judge_code(
        self,
        said: Coded,
        now_s: float,
        refusal: str,
        spend: Callable[[int], bool],
        refuse: Callable[[str, bool], None],
    ) -> str:
        """Why it is refused, in words; empty where it is accepted. Either way a row says so.

        `refusal`: what speaks against it whatever the code; then it is not looked at. `spend` uses up that time step
        and stores what is accepted, both or neither; False where the code has served before. `refuse` stores why it was
        refused, and whether by a wrong code.
        """
        reason, wrong_code = refusal or locked_words(self._record, said.person), False
        reason = reason or too_old(said.asked_at_s, now_s)
        if not reason:
            step = self._seeds.matching_step(said.person, said.code, now_s, said.asked_at_s)
            if step is None:
                reason, wrong_code = "wrong code", True
            elif not spend(step):
                reason = "this code has already served: wait for the next one"
        if reason:
            refuse(reason, wrong_code)
        return reason + (tries_left_words(self._record, said.person) if wrong_code else "")


class SignOffDesk(CodeDesk):
    """Takes requests at a gate."""

    def quorum(self, gate: Gate) -> Quorum:
        """Who counts and what is missing, by what was signed over exactly this evidence. No GO outvotes a NO-GO."""
        return self._quorum(gate, self._signed(gate))

    def complete_since(self, gate: Gate) -> datetime | None:
        """When the signature came that made the quorum complete; None where none is wanted, or it is not complete."""
        rows = self._signed(gate)
        for count in range(len(rows) + 1):
            if self._quorum(gate, rows[:count]).complete:
                return rows[count - 1].at if count else None
        return None

    def _signed(self, gate: Gate) -> list[SignOff]:
        """What was accepted over exactly this evidence, oldest first."""
        rows = self._record.sign_offs(gate.stage_run_id, gate.name, accepted=True)
        return [row for row in rows if row.evidence_digest == gate.digest]

    @staticmethod
    def _quorum(gate: Gate, rows: Sequence[SignOff]) -> Quorum:
        signatures = [Signature(row.person, "GO" if row.decision == "GO" else "NO-GO") for row in rows]
        found = signed_off(gate.required, gate.approvers.people, signatures, gate.author)
        against = sorted({one.person for one in signatures if one.decision == "NO-GO"})
        if not against:
            return found
        return found._replace(complete=False, missing=(*found.missing, f"{', '.join(against)} signed NO-GO"))

    def standing_no_go(self, gate: Gate) -> SignOff | None:
        """The first accepted NO-GO over exactly this evidence: it ends the stage, whoever has to do it."""
        return next((row for row in self._signed(gate) if row.decision == "NO-GO"), None)

    def judge(self, request: Request, gate: Gate, now_s: float | None = None) -> Judged:
        """Accepts or refuses; either way a row says so. Never raises for what a person can send."""
        person = next((one for one in gate.approvers.people if one.name == request.person), None)
        now_s = time.time() if now_s is None else now_s
        reason = self._judge_code(
            Coded(request.person, request.code, request.asked_at_s),
            now_s,
            self._refusal_without_code(request, gate, person),
            lambda step: self._record.sign(_row(request, gate, person, "", False), step),
            lambda why, wrong: self._record.add_sign_off(_row(request, gate, person, why, wrong)),
        )
        return Judged(not reason, reason, self.quorum(gate))

    def _refusal_without_code(self, request: Request, gate: Gate, person: Person | None) -> str:
        if request.decision not in DECISIONS:
            return f"decision {request.decision!r}: allowed are GO and NO-GO"
        if request.person == gate.author:
            return f"{request.person} is the candidate's author, who signs nothing"
        if person is None:
            return f"{request.person!r} is not one of the approvers"
        if request.evidence_prefix.strip().lower() != gate.digest[:PREFIX_LENGTH]:
            return f"evidence {request.evidence_prefix!r} is not the evidence shown: give its first six characters"
        if request.decision == "GO" and request.person in self.quorum(gate).counted:
            return f"{request.person} has already signed GO here, and counts once"
        return ""


def locked_words(record: RecordWriter, person: str) -> str:
    """Until when this person's codes are not looked at, in words; empty where they are."""
    wrong = record.wrong_codes(person, WRONG_WITHIN_S + WRONG_WITHIN_S)
    for newest, oldest in zip(wrong, wrong[WRONG_MAX - 1 :], strict=False):
        until = newest + timedelta(seconds=WRONG_WITHIN_S)
        if newest - oldest <= timedelta(seconds=WRONG_WITHIN_S) and until > utc_now():
            return f"{person} is locked until {until:%H:%M:%S} UTC: five wrong codes in 15 minutes"
    return ""


def tries_left_words(record: RecordWriter, person: str) -> str:
    """What a wrong code, once it is stored, leaves this person, as the end of a sentence."""
    left = WRONG_MAX - len(record.wrong_codes(person, WRONG_WITHIN_S))
    return f" ({left} tries left)" if left > 0 else ": locked for 15 minutes"


def _row(request: Request, gate: Gate, person: Person | None, refused: str, wrong_code: bool) -> SignOff:
    """What is kept of a request; `refused` empty: accepted."""
    return SignOff(
        stage_run_id=gate.stage_run_id,
        gate=gate.name,
        person=request.person[:80],
        roles=list(person.roles) if person else [],
        decision=request.decision[:20],
        accepted=not refused,
        counts_as_wrong_code=wrong_code,
        refused_reason=refused,
        evidence_digest=gate.digest,
        comment=request.comment[:2000],
        inbox_id=request.inbox_id,
    )


def too_old(asked_at_s: float | None, now_s: float) -> str:
    """Why a request has waited too long for its code to mean anything, in words; empty where it has not."""
    waited_s = 0.0 if asked_at_s is None else now_s - asked_at_s
    if waited_s <= STALE_S:
        return ""
    return f"sent {waited_s:.0f} s ago, and its code is worth nothing after {STALE_S:g} s: sign again with a new code"


def enroll_demo(seeds_path: Path, approvers: Approvers, venue: str) -> list[str]:
    """Gives the made-up people of a demo plan their seeds. Refused on anything but the simulated venue."""
    if venue != "simulated" or not approvers.demo:
        raise SeedsError(f"demo approvers are for the simulated venue alone: the plan's venue is {venue}")
    return Seeds(seeds_path).add([person.name for person in approvers.people])


def demo_code(seeds_path: Path, person: str, approvers: Approvers, venue: str) -> str:
    """The code, now, of one of the plan's demo approvers. Nobody else's is ever shown. Raises SeedsError."""
    if venue != "simulated":
        raise SeedsError(f"codes are shown on the simulated venue alone: the plan's venue is {venue}")
    if not approvers.demo:
        raise SeedsError("codes are shown of demo approvers alone: the plan's approvers are real people")
    names = sorted(one.name for one in approvers.people)
    if person not in names:
        raise SeedsError(f"{person[:80]!r} is not a demo approver of the plan; allowed: {', '.join(names)}")
    return current_code(seeds_path, person, venue)


def current_code(seeds_path: Path, person: str, venue: str, now_s: float | None = None) -> str:
    """The one-time code of a demo approver, now. Refused on anything but the simulated venue."""
    if venue != "simulated":
        raise SeedsError(f"codes are shown on the simulated venue alone: the plan's venue is {venue}")
    seeds = Seeds(seeds_path).read()
    seed = seeds.get(person)
    if seed is None:
        allowed = ", ".join(sorted(seeds)) or "nobody yet, `rollout up` enrols the plan's people"
        raise SeedsError(f"{person!r} is not enrolled; allowed: {allowed}")
    return str(pyotp.TOTP(seed).at(time.time() if now_s is None else now_s))
