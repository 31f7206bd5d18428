"""`rollout enroll`: a person is given a seed for one-time codes, shown once; anew only once two others confirmed it."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import NamedTuple

import qrcode

from flows.asking import asked
from flows.codes import code_of
from flows.names import EXIT_FAILED
from gates.approvers import load_approvers
from gates.stages import Plan, under_root
from tasks.enrolment import hand_over, new_seed, uri_of
from tasks.record import Record
from tasks.state_folder import StateFolder, read_json

UNDONE = "nobody is enrolled until it has: ask again then"


class CannotEnroll(Exception):
    """What was asked for cannot be done as it was asked. One line: the thing, its value, what is allowed."""


class Wanted(NamedTuple):
    """What was given on the command line; None where it was not. `code`: as `code_of` takes it."""

    person: str
    plan: Plan
    plan_path: Path
    account: str | None
    confirm: bool
    by: str | None
    code: str | None


def enroll(folder: StateFolder, record: Record | None, wanted: Wanted) -> int:
    """Exit code 0 done, 1 refused or no guard answered. Raises CannotEnroll or CodeMissing."""
    approvers = load_approvers(under_root(wanted.plan.approvers))
    names = [one.name for one in approvers.people]
    if wanted.person not in names:
        raise CannotEnroll(f"{wanted.person!r} is not an approver of {wanted.plan.name}; allowed: {', '.join(names)}")
    account = account_of(folder, wanted.plan, wanted.account)
    if record is None:
        raise CannotEnroll(f"enroll {wanted.person}: no guard has written a record yet; allowed: with a guard running")
    if wanted.confirm:
        if not wanted.by:
            others = [name for name in names if name not in (wanted.person, wanted.plan.author)]
            raise CannotEnroll(f"--confirm: --by not given; allowed: {', '.join(others)}")
        return _confirm(record, account, wanted, wanted.by)
    if wanted.by or wanted.code:
        raise CannotEnroll("--by and --code without --confirm; allowed: with it, by one of the others")
    return _enroll(folder, record, account, wanted)


def account_of(folder: StateFolder, plan: Plan, given: str | None) -> str:
    """Whose guard is asked: one set up at the plan's venue, named where there are several. Raises CannotEnroll."""
    files = sorted(path.stem for path in folder.accounts.glob("*.json") if not path.name.startswith("."))
    known = [name for name in files if (read_json(folder.accounts / f"{name}.json") or {}).get("venue") == plan.venue]
    if given in known:
        return str(given)
    if given is None and len(known) == 1:
        return known[0]
    told = "none given" if given is None else given
    raise CannotEnroll(f"--account: {told}; allowed: {', '.join(known) or f'none is set up at {plan.venue}'}")


def _enroll(folder: StateFolder, record: Record, account: str, wanted: Wanted) -> int:
    seed = new_seed()
    handed, digest = hand_over(folder.new_seeds, seed)
    payload = {"person": wanted.person, "plan": str(wanted.plan_path), "seed_sha256": digest, "requested_by": _who()}
    try:
        answer = asked(record, account, "enroll", payload, UNDONE)
    finally:
        handed.unlink(missing_ok=True)  # a request that is served later than we wait for finds nothing, and is refused
    if answer is None:
        return EXIT_FAILED
    _show(wanted.person, seed)
    return 0


def _confirm(record: Record, account: str, wanted: Wanted, by: str) -> int:
    payload = {"person": wanted.person, "plan": str(wanted.plan_path), "by": by, "code": code_of(by, wanted.code)}
    answer = asked(record, account, "enroll", payload, UNDONE)
    if answer is None:
        return EXIT_FAILED
    missing = "; ".join(answer.result.get("missing", []))
    then = missing or f"`rollout enroll {wanted.person}` gives a new secret within 24 h"
    print(f"{by} confirmed that {wanted.person} is to be enrolled anew: {then}")
    return 0


def _show(person: str, seed: str) -> None:
    """Once: nothing shows it again."""
    uri = uri_of(person, seed)
    code = qrcode.QRCode(border=2)
    code.add_data(uri)
    print(f"{person} is enrolled. This is shown once: scan it, or type the secret into an authenticator app.")
    code.print_ascii(out=sys.stdout, invert=True)
    print(f"secret  {seed}\n{uri}")


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name
        return "somebody"
