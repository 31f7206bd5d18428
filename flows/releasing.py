"""`rollout resume-request` and `resume-confirm`: two people have a stop of a running bot released. No Prefect."""

from __future__ import annotations

from typing import NamedTuple

from flows.asking import asked
from flows.codes import code_of
from flows.names import EXIT_FAILED
from tasks.record import FINAL_STEPS, Record
from tasks.record_tables import StageRun


class CannotRelease(Exception):
    """What was asked for cannot be done as it was asked. One line: the thing, its value, what is allowed."""


class Wanted(NamedTuple):
    """What was given on the command line. `request_id` None: it is the first person who asks.

    `code`: as `code_of` takes it. `stop`: which stop, `*` for all that holds. `rearm`: one that halted, with the
    consent that this needs of both.
    """

    request_id: str | None
    by: str
    code: str | None
    comment: str
    stop: str
    rearm: bool
    rollout: str | None


def release(record: Record | None, wanted: Wanted) -> int:
    """Exit code 0 done, 1 refused or no guard answered. Raises CannotRelease or CodeMissing."""
    run = _open_run(record, wanted.rollout)
    if record is None:
        return EXIT_FAILED
    code = code_of(wanted.by, wanted.code)
    payload = {"person": wanted.by, "code": code, "comment": wanted.comment, "consent": wanted.rearm}
    kind = "release_ask" if wanted.request_id is None else "release_confirm"
    if wanted.request_id is None:
        payload |= {"stop": wanted.stop, "kind": "re-arm" if wanted.rearm else "resume"}
    else:
        payload |= {"request_id": wanted.request_id}
    answer = asked(record, run.account, kind, payload, "nothing is released until it has")
    if answer is None:
        return EXIT_FAILED
    where, told = f"{run.rollout}/{run.stage}", answer.result
    if wanted.request_id is None:
        covers = ", ".join(told.get("covers", [])) or "what holds"  # told again, the bot only says that it was
        print(f"{told['request_id']}: {wanted.by} asks to release {covers} of {where}")
        print(f"another person: rollout resume-confirm {told['request_id']} --by NAME")
    else:
        released = ", ".join(told.get("released", [])) or "what it covers"
        print(f"{wanted.by} confirmed {told['request_id']}: {where} released {released}")
    return 0


def _open_run(record: Record | None, rollout: str | None) -> StageRun:
    """The stage run whose bot it is: the only open one, or the named rollout's. Raises CannotRelease."""
    runs = [] if record is None else [run for run in record.stage_runs() if run.step not in FINAL_STEPS]
    found = [run for run in runs if rollout in (None, run.rollout)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(run.rollout for run in runs) or "none has a stage that is open"
    named = "none given, and several are open" if rollout is None and runs else rollout or "none given"
    raise CannotRelease(f"--rollout: {named}; allowed: {known}")
