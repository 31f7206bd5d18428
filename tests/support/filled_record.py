"""A record with a row in every table, written by the guard's own writer: what is audited, shown and verified there."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from gates.stages import load_plan, plan_digest
from tasks.record_tables import (
    Attested,
    Drill,
    MeasurementLatest,
    MeasurementRow,
    Released,
    RollbackStep,
    Rollout,
    SignOff,
    StagePart,
    StageRun,
    VerdictRow,
    utc_now,
)
from tasks.record_writer import Notice, RecordWriter

PART_LETTERS_MAX = 31
LONG_CRITERION = "criterion_with_as_long_a_name_as_the_file_of_criteria_lets_it_be"
LONG_ROLLOUT = "full-20260101-000000-of-somebody-who-likes-long-names-a-lot-00"
CANDIDATE = "c" * 64
EVIDENCE = "abc123" + "e" * 58
PERSON = "somebody-with-quite-a-long-name-in-the-approvers-file"
PLAN = Path(__file__).with_name("plan_stages.yaml")


def long_name(part: str) -> str:
    """The part's id, as long as one may be."""
    return f"{part}-a-long-name-for-what-is-done-here"[:PART_LETTERS_MAX]


def long_plan(home: Path) -> Path:
    """A plan whose parts have the longest names that are allowed."""
    home.mkdir(parents=True, exist_ok=True)
    text = PLAN.read_text()
    for name in ("smoke", "unbroken", "step-1", "step-2"):
        text = text.replace(f"id: {name}", f"id: {long_name(name)}")
    path = home / "plan.yaml"
    path.write_text(text)
    return path


def fill(writer: RecordWriter, plan_path: Path, rollout: str = LONG_ROLLOUT) -> None:
    """Stage run 1: a scale-up that was promoted. Stage run 2: another attempt, whose closing is not proven yet."""
    plan = load_plan(plan_path)
    writer.know_account("simulated")
    told = {"plan_name": plan.name, "plan_path": str(plan_path), "plan_digest": plan_digest(plan)}
    more = {"code_version": "v", "settings_digest": "s", "nonce": "n", "author": "demo-author", "requested_by": "me"}
    writer.add_rollout(Rollout(name=rollout, account=writer.account, candidate=CANDIDATE, **told, **more))
    writer.take_epoch(0, "guard-1", "launch")
    first = _begin(writer, rollout, str(plan_path), 1)
    _promoted(writer, first)
    _not_proven(writer, _begin(writer, rollout, str(plan_path), 2))
    word = {"stage_run_id": 2, "request_id": "q", "word": "asked", "kind": "resume", "person": "ada"}
    writer.add_release(Released(**word, accepted=False, refused_reason="wrong code", counts_as_wrong_code=True))
    assert writer.release(Released(**word, accepted=True), 3)
    writer.add_attestation(
        Attested(account=writer.account, candidate=CANDIDATE, item="on_call", person="ada", accepted=False,
                 refused_reason="wrong code", counts_as_wrong_code=True)
    )  # fmt: skip
    words = {"account": writer.account, "candidate": CANDIDATE, "item": "on_call", "person": "ada", "accepted": True}
    assert writer.attest(Attested(**words, evidence_bytes=3), 2)


def _begin(writer: RecordWriter, rollout: str, plan_path: str, attempt: int) -> int:
    words = {"rollout": rollout, "account": writer.account, "stage": "scale-up", "candidate": CANDIDATE}
    row = writer.add_stage_run(StageRun(**words, attempt=attempt, step="requested", plan_path=plan_path), {"name": "p"})
    number = row.id or 0
    writer.change_stage_run(number, "step", step="ready", ready_at=utc_now(), entry_digest=EVIDENCE)
    assert writer.sign(_signed(number, "entry"), attempt * 10)
    writer.change_stage_run(number, "bot", run="run", state_dir="/runs/run", machine="m/i/b/1")
    writer.change_stage_run(number, "bot", pid=7, pid_started_ticks=8, epoch=1)
    writer.enter_part(_part(number, 0), "", part_from=utc_now())
    writer.change_stage_run(number, "baseline", baseline=[["fills", {}, 3]])
    times = {"launched_at": utc_now(), "watch_from": utc_now(), "watch_until": utc_now() + timedelta(days=2)}
    writer.change_stage_run(number, "step", step="watch", **times)
    for name, outcome in (("freeze", "passed"), ("restart", "")):
        drill = writer.add_drill(Drill(stage_run_id=number, name=name, criteria=["halted"]))
        if outcome:
            writer.end_drill(drill, outcome, {"halted": "1"})
    measured = [_measured(number, at_ms) for at_ms in range(3)]
    writer.store_measurements(measured, [_latest(number, at) for at in range(3)])
    return number


def _promoted(writer: RecordWriter, number: int) -> None:
    told = {"measurements": [{"criterion": LONG_CRITERION, "outcome": "PASS", "value": "1", "limit": "", "reason": ""}]}
    writer.add_verdict(VerdictRow(stage_run_id=number, word="GO", body=told))
    writer.add_evidence(number, {"index.html": ("f" * 64, 10), "manifest.json": ("a" * 64, 20)})
    judged = {"verdict": "GO", "judged_at": utc_now(), "evidence_digest": EVIDENCE, "evidence_dir": "/evidence/x"}
    writer.change_stage_run(number, "step", step="judged", watched_at=utc_now(), **judged)
    writer.change_stage_run(number, "reminder", reminded_at=utc_now())
    assert writer.sign(_signed(number, "exit"), 11)
    writer.enter_part(_part(number, 1), "passed", 86_400.0, part=1, part_from=utc_now(), epoch=2, step="watch")
    writer.prove_part(number, {"held_quote": "0"})
    writer.store_measurements([_measured(number, 9)], [])
    writer.change_stage_run(number, "step", step="promoting", replicas_frozen=True)
    for step, name in enumerate(("revoke", "stop_bot")):
        row = RollbackStep(stage_run_id=number, number=step, name=name, state="started")
        writer.write_rollback_step(row)
        row.state, row.verified_at, row.proof = "verified", utc_now(), {"by": "asked"}
        writer.write_rollback_step(row)
    proven = dict.fromkeys(("grant_revoked_at", "bot_gone_at", "none_open_at", "flat_at"), utc_now())
    writer.change_stage_run(number, "proven", **proven)
    writer.end_part(number, "passed")
    writer.change_stage_run(number, "step", [Notice("k", "promoted", "out")], step="promoted", ended_at=utc_now())


def _not_proven(writer: RecordWriter, number: int) -> None:
    decided = {"reason": "candidate", "end_wanted": "roll_back", "decided_criterion": LONG_CRITERION}
    decided |= {"decided_value": "-1234.5678", "decided_limit": f"go >= -50 quote of {'l' * 60}, no-go < -100 quote"}
    writer.add_verdict(
        VerdictRow(stage_run_id=number, word="NO_GO", decided_by=LONG_CRITERION, body={"measurements": []})
    )
    decided |= {"decided_why": "w" * 200, "decided_others": [LONG_CRITERION], "breach_at": utc_now()}
    writer.change_stage_run(number, "step", step="rolling_back", seen_at=utc_now(), **decided)
    row = RollbackStep(stage_run_id=number, number=1, name="stop_bot", state="failing", attempts=3, error="away")
    writer.write_rollback_step(row)


def _signed(number: int, gate: str) -> SignOff:
    digest = {"evidence_digest": EVIDENCE, "roles": ["Quant Lead"], "comment": "read"}
    return SignOff(stage_run_id=number, gate=gate, person=PERSON, decision="GO", accepted=True, **digest)


def _part(number: int, at: int) -> StagePart:
    sizes = {"inventory_max_quote": "123456789.5", "total_max_quote": "9876543210", "symbols": ["BTCUSDT"]}
    return StagePart(stage_run_id=number, number=at, name=long_name(f"step-{at + 1}"), epoch=at + 1, **sizes)


def _measured(number: int, at_ms: int) -> MeasurementRow:
    words = {
        "criterion_id": LONG_CRITERION,
        "phase": "guard",
        "outcome": "PASS",
        "value": "1",
        "raw": {"asked_at_ms": 1},
    }
    return MeasurementRow(stage_run_id=number, at_ms=at_ms, **words)


def _latest(number: int, at: int) -> MeasurementLatest:
    words = {"phase": "guard", "outcome": "FAIL", "value": "-1234.5678", "unit": "quote", "at_ms": 1, "ordinal": at}
    name = f"{LONG_CRITERION[:-1]}{at}"
    limit = "go >= -50, no-go < -100 in any rolling 24 h, all attempts of the candidate pooled"
    return MeasurementLatest(stage_run_id=number, criterion_id=name, title="t" * 120, limit=limit, **words)


__all__ = ["CANDIDATE", "EVIDENCE", "LONG_CRITERION", "LONG_ROLLOUT", "PERSON", "fill", "long_name", "long_plan"]
