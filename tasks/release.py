"""Judges who has a bot's stop released: two different people, each by a one-time code of their own.

The same mechanism as sign-offs and the same codes: what needs no code is refused first, a locked person's code is not
looked at, and a right code is spent before the word is accepted. Only the guard judges; what the bot does with two
words that were accepted is decided by its engine.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from gates.approvers import Approvers, Person
from tasks.record_tables import Released
from tasks.sign_off import Coded, CodeDesk

KINDS: Final = ("resume", "re-arm")


@dataclass(frozen=True)
class Word:
    """What a person sent. `request_id`: whose request it confirms; one that is asked gets its own from the guard.

    `kind`, `stop`: what is to be released, of one that is asked. `consent`: what re-arming needs of both. `asked_at_s`:
    when it was sent, wall clock; None where that is now. `inbox_id`: its row.
    """

    word: str
    person: str
    code: str
    request_id: str
    kind: str = "resume"
    stop: str = "*"
    consent: bool = False
    comment: str = ""
    asked_at_s: float | None = None
    inbox_id: int | None = None


@dataclass(frozen=True)
class Bot:
    """Whose stop it is: the stage run, who may release it, and the author, who may not."""

    stage_run_id: int
    approvers: Approvers
    author: str


class ReleaseDesk(CodeDesk):
    """Takes words on releases."""

    def take(self, said: Word, bot: Bot, now_s: float | None = None) -> tuple[Released, str]:
        """The row that says so, and why it is refused; empty where it is accepted."""
        person = next((one for one in bot.approvers.people if one.name == said.person), None)
        asking = self.asking(said.request_id, bot) if said.word == "confirmed" else None
        row = _row(said, bot, person, asking)
        reason = self._judge_code(
            Coded(said.person, said.code, said.asked_at_s),
            time.time() if now_s is None else now_s,
            _refusal_without_code(said, bot, person, asking),
            lambda step: self._record.release(row, step),
            lambda why, wrong: self._record.add_release(_refused(row, why, wrong)),
        )
        return row, reason

    def asking(self, request_id: str, bot: Bot) -> Released | None:
        """The accepted request of that id, on this stage run."""
        rows = self._record.releases(bot.stage_run_id)
        return next(
            (row for row in rows if row.accepted and row.word == "asked" and row.request_id == request_id), None
        )


def _refusal_without_code(said: Word, bot: Bot, person: Person | None, asking: Released | None) -> str:
    if said.kind not in KINDS:
        return f"kind {said.kind!r}: allowed are {' and '.join(KINDS)}"
    if said.word == "confirmed" and asking is None:
        return f"request {said.request_id!r} is none of this stage run"
    if said.person == bot.author:
        return f"{said.person} is the candidate's author, who releases nothing"
    if person is None:
        return f"{said.person!r} is not one of the approvers"
    if asking is not None and asking.person == said.person:
        return f"{said.person} asked for it; another person has to confirm"
    return ""


def _row(said: Word, bot: Bot, person: Person | None, asking: Released | None) -> Released:
    """As it is kept where it is accepted. What is confirmed is of the kind that was asked for."""
    of = asking if asking is not None else said
    return Released(
        stage_run_id=bot.stage_run_id,
        request_id=said.request_id[:80],
        word=said.word,
        kind=of.kind[:20],
        stop=of.stop[:200],
        consent=said.consent,
        person=said.person[:80],
        roles=list(person.roles) if person else [],
        accepted=True,
        comment=said.comment[:200],
        inbox_id=said.inbox_id,
    )


def _refused(row: Released, why: str, wrong_code: bool) -> Released:
    more = {"accepted": False, "refused_reason": why, "counts_as_wrong_code": wrong_code}
    return Released(**{**row.model_dump(exclude={"id"}), **more})
