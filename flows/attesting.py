"""`rollout attest`: what people still have to say for a candidate, and the saying of it. No Prefect is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from bot.config import load_settings, settings_digest
from bot.version import code_version
from flows.asking import asked
from flows.codes import code_of
from flows.names import EXIT_FAILED
from gates.approvers import load_approvers
from gates.stages import Plan, attested_items, candidate_digest, load_plan, plan_digest, under_root
from tasks.account_file import SIMULATED, real_accounts
from tasks.attestation import Asked, EvidenceUnusable, keep_evidence, lacking
from tasks.preflight_listed import item_limit
from tasks.record import Record
from tasks.record_tables import Rollout
from tasks.state_folder import StateFolder


class CannotAttest(Exception):
    """What was asked for cannot be attested as it was asked. One line: the thing, its value, what is allowed."""


class Spoken(NamedTuple):
    """What was given on the command line; None where it was not. `code`: as `code_of` takes it."""

    item: str | None
    person: str | None
    code: str | None
    evidence: Path | None
    comment: str


class About(NamedTuple):
    """Which candidate is spoken of, and where. `account`: empty where none was named and none is the only one."""

    plan: Plan
    plan_path: Path
    account: str
    candidate: str
    nonce: str


def about(folder: StateFolder, plan_path: Path, rollout: Rollout | None, account: str | None) -> About:
    """A known rollout's candidate on its own account, else what the plan's files are now. Raises CannotAttest."""
    if rollout is not None:
        if account not in (None, rollout.account):
            raise CannotAttest(f"--account {account}; allowed: {rollout.account}, where {rollout.name} is")
        path = Path(rollout.plan_path)
        return About(load_plan(path), path, rollout.account, rollout.candidate, rollout.nonce)
    plan = load_plan(plan_path)
    if plan.venue == SIMULATED:
        said = f"plan {plan.name} is for the simulated venue, where every rollout is a candidate of its own"
        raise CannotAttest(f"{said}; allowed: --rollout NAME")
    known = real_accounts(folder.accounts, plan.venue)
    if account is not None and account not in known:
        raise CannotAttest(f"--account {account}; allowed: {', '.join(known) or f'none is set up at {plan.venue}'}")
    settings = settings_digest(load_settings(under_root(plan.settings)))
    candidate = candidate_digest(code_version(), settings, plan_digest(plan), "")
    return About(plan, plan_path, account or (known[0] if len(known) == 1 else ""), candidate, "")


def print_asked(record: Record | None, of: About) -> int:
    """Every item that people attest, who may, and what it lacks. Exit code 1 while one lacks something."""
    approvers = load_approvers(under_root(of.plan.approvers))
    items = attested_items(of.plan)
    where = f"plan {of.plan.name}, account {of.account or 'not named'}"
    print(f"{where}, candidate {of.candidate[:12]}: {len(items)} to attest")
    subject = Asked(of.account, of.candidate, items, approvers, of.plan.author)
    open_items = 0
    for item in items:
        missing = ("missing: nothing was said yet",) if record is None else lacking(subject, item, record)
        open_items += bool(missing)
        print(f"{'-' if missing else '+'} {item.id}: {item.title}")
        print(f"    {item_limit(item)}. {item.why}")
        for one in missing:
            print(f"    {one}")
    return EXIT_FAILED if open_items else 0


def attest(folder: StateFolder, record: Record, of: About, spoken: Spoken) -> int:
    """Keeps a copy of the evidence and asks the guard. Exit code 0 accepted, 1 refused or no guard answered.

    Raises CannotAttest or CodeMissing.
    """
    if not spoken.person or spoken.evidence is None:
        absent = [name for name, value in (("--by", spoken.person), ("--evidence", spoken.evidence)) if not value]
        raise CannotAttest(f"attest {spoken.item}: {', '.join(absent)} not given; allowed: both --by and --evidence")
    if not of.account:
        files = sorted(path.stem for path in folder.accounts.glob("*.json") if not path.name.startswith("."))
        raise CannotAttest(f"--account: none given; allowed: {', '.join(files) or 'none is set up yet'}")
    try:
        kept = keep_evidence(spoken.evidence, folder.attestations)
    except EvidenceUnusable as error:
        raise CannotAttest(str(error)) from None
    payload = {
        "item": spoken.item,
        "person": spoken.person,
        "code": code_of(spoken.person, spoken.code),
        "comment": spoken.comment,
        "plan": str(of.plan_path),
        "nonce": of.nonce,
        "evidence": str(kept.path),
        "sha256": kept.sha256,
        "size_bytes": kept.size_bytes,
    }
    answer = asked(record, of.account, "attest", payload, "nothing is attested until it has")
    if answer is None:
        return EXIT_FAILED
    if answer.result.get("candidate") != of.candidate:
        print(f"rollout: attested for candidate {str(answer.result.get('candidate'))[:12]}, not {of.candidate[:12]}")
        return EXIT_FAILED
    missing = "; ".join(answer.result.get("missing", [])) or "nothing is missing"
    print(f"{spoken.item} attested by {spoken.person} for {of.candidate[:12]}, evidence {kept.sha256[:12]}: {missing}")
    return 0
