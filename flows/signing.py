"""`rollout sign-off`: one person's GO or NO-GO at a gate, from a terminal. No Prefect is loaded.

The guard judges it exactly as what the form sends: by the same inbox, the same codes, the same evidence.
"""

from __future__ import annotations

from typing import NamedTuple

from flows.asking import asked
from flows.codes import code_of
from flows.names import EXIT_FAILED
from flows.plan_view import wrapped
from flows.words import stands
from tasks.record import FINAL_STEPS, Record
from tasks.record_tables import StageRun


class CannotSign(Exception):
    """What was asked for cannot be signed as it was asked. One line: the thing, its value, what is allowed."""


class Signing(NamedTuple):
    """What was given on the command line; `code` as `code_of` takes it."""

    gate: str
    person: str
    decision: str
    code: str | None
    evidence_prefix: str
    comment: str


def sign_off(record: Record, rollout: str, given: Signing) -> int:
    """Asks the guard. Exit code 0 accepted, 1 refused or no guard answered. Raises CannotSign or CodeMissing."""
    run = _open_run(record, rollout)
    payload = {
        "stage_run_id": run.id,
        "gate": given.gate,
        "person": given.person,
        "decision": given.decision,
        "code": code_of(given.person, given.code),
        "evidence_prefix": given.evidence_prefix.strip(),
        "comment": given.comment,
    }
    answer = asked(record, run.account, "sign_off", payload, "nothing is signed until it has", _say)
    if answer is None:
        return EXIT_FAILED
    missing = ", ".join(answer.result.get("missing", [])) or "nobody"
    where = f"the {given.gate} of {run.rollout}/{run.stage}"
    _say(f"{given.person} signed {given.decision} at {where}; missing: {missing}")
    return 0


def _say(line: str) -> None:
    print("\n".join(wrapped(line)))


def _open_run(record: Record, rollout: str) -> StageRun:
    runs = record.stage_runs(rollout=rollout)
    if not runs:
        known = ", ".join(one.name for one in record.rollouts(20)) or "none has been started yet"
        raise CannotSign(f"rollout {rollout!r} is not known; allowed: {known}")
    if runs[-1].step in FINAL_STEPS:
        said = f"rollout {rollout}: {runs[-1].stage} is {stands(runs[-1].step)}"
        raise CannotSign(f"{said}; allowed: one with an open stage")
    return runs[-1]
