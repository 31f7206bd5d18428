"""`rollout sign-off`: one person's GO or NO-GO at a gate, from a terminal. No Prefect is loaded.

The guard judges it exactly as what the form sends: by the same inbox, the same codes, the same evidence.
"""

from __future__ import annotations

import getpass
import secrets
import sys
from typing import NamedTuple

from flows.names import EXIT_FAILED
from flows.plan_view import wrapped
from tasks.ask import GuardSilent, ask_guard
from tasks.record import FINAL_STEPS, Record
from tasks.record_tables import StageRun


class CannotSign(Exception):
    """What was asked for cannot be signed as it was asked. One line: the thing, its value, what is allowed."""


class Signing(NamedTuple):
    """What was given on the command line. `code` None: it is asked for at the terminal."""

    gate: str
    person: str
    decision: str
    code: str | None
    evidence_prefix: str
    comment: str


def sign_off(record: Record, rollout: str, given: Signing) -> int:
    """Asks the guard. Exit code 0 accepted, 1 refused or no guard answered. Raises CannotSign."""
    run = _open_run(record, rollout)
    code = given.code or _asked_code(given.person)
    payload = {
        "stage_run_id": run.id,
        "gate": given.gate,
        "person": given.person,
        "decision": given.decision,
        "code": code.strip(),
        "evidence_prefix": given.evidence_prefix.strip(),
        "comment": given.comment,
    }
    try:
        answer = ask_guard(record, run.account, "sign_off", payload, f"sign-off-{secrets.token_hex(8)}")
    except GuardSilent as error:
        print(f"rollout: {error}; nothing is signed until it has")
        return EXIT_FAILED
    if not answer.done:
        print("\n".join(wrapped(f"rollout: refused: {answer.reason}")))
        return EXIT_FAILED
    missing = ", ".join(answer.result.get("missing", [])) or "nobody"
    where = f"the {given.gate} of {run.rollout}/{run.stage}"
    print("\n".join(wrapped(f"{given.person} signed {given.decision} at {where}; missing: {missing}")))
    return 0


def _open_run(record: Record, rollout: str) -> StageRun:
    runs = record.stage_runs(rollout=rollout)
    if not runs:
        known = ", ".join(one.name for one in record.rollouts(20)) or "none has been started yet"
        raise CannotSign(f"rollout {rollout!r} is not known; allowed: {known}")
    if runs[-1].step in FINAL_STEPS:
        said = f"rollout {rollout}: {runs[-1].stage} is {runs[-1].step.replace('_', ' ')}"
        raise CannotSign(f"{said}; allowed: one with an open stage")
    return runs[-1]


def _asked_code(person: str) -> str:
    """Read without echo: what stands on a command line, others on the machine may read. Raises CannotSign."""
    if not sys.stdin.isatty():
        raise CannotSign("--code: not given, and there is no terminal to ask for it; allowed: six digits")
    try:
        return getpass.getpass(f"one-time code of {person}: ")
    except EOFError:
        raise CannotSign("--code: not given; allowed: six digits") from None
