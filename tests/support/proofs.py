"""What must hold when a guard has closed a stage: by the record, by the venue, by the process table."""

from __future__ import annotations

from datetime import datetime

from tasks.proof_words import step_in_words
from tasks.record_tables import StageRun
from tests.support.guard_stack import GuardStack

SAFETY_STEPS = ("revoke_grant", "stop_bot", "cancel_all", "flatten")


def proofs(stack: GuardStack, run: StageRun, *, granted: bool = True) -> dict[str, dict[str, object]]:
    """Every safety step verified, the venue clean by its own word, the chain whole; returns the proofs.

    `granted` false: nothing was ever permitted (shadow), so nothing has to be waited for.
    """
    steps = {step.name: step for step in stack.record.rollback_steps(run.id or 0)}
    assert {name: steps[name].state for name in SAFETY_STEPS} == dict.fromkeys(SAFETY_STEPS, "verified")
    assert stack.is_clean()
    assert stack.bot(run) is None
    assert stack.record.verify_chain(stack.account).ok
    reads = steps["cancel_all"].proof["reads"]
    assert [read["own_open"] for read in reads] == [0, 0]
    revoked = datetime.fromisoformat(str(stack.record.timeline(run.id or 0)["grant_revoked"]))
    first_read = datetime.fromisoformat(reads[0]["at"])
    whole_s = stack.plan.grant_ttl_s + stack.plan.recv_window_ms / 1000 + 2 * stack.plan.quote_interval_ms / 1000
    wait_s = whole_s if granted else 0.0
    assert (first_read - revoked).total_seconds() >= wait_s - 0.01
    for step in (steps[name] for name in SAFETY_STEPS):
        said = step_in_words(step.name, step.state, step.error, step.proof)
        assert not [sign for sign in ("MISSING", "UNKNOWN", "NO PROOF", "{") if sign in said], said
    return {name: step.proof for name, step in steps.items()}


def seconds(stack: GuardStack, run: StageRun, first: str, last: str) -> float:
    """Between two moments of the run's timeline."""
    times = stack.record.timeline(run.id or 0)
    return (datetime.fromisoformat(str(times[last])) - datetime.fromisoformat(str(times[first]))).total_seconds()
