"""`rollout status`, `stop`, `explain`, `code`: what the record says, in JSON or in words. No Prefect is loaded."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.names import EXIT_FAILED
from flows.plan_view import wrapped
from flows.stage_table import as_table, stages_of
from flows.words import end_sentence, needs, stands
from tasks.account_file import SIMULATED
from tasks.record import FINAL_STEPS, Record, iso
from tasks.record_tables import MeasurementLatest, RollbackStep, Rollout, StageRun, utc_now
from tasks.rollback import SAID_BY, STEPS, proven_in_words
from tasks.state_folder import StateFolder
from tasks.supervise.found import table_as_it_is, table_of_what_runs
from tasks.supervise.table import Table, read_table

if TYPE_CHECKING:
    from gates.stages import Plan

ROLLOUTS_SHOWN = 20
CLOSING_STEPS = ("rolling_back", "rollback_failed")
PROOF_WITHIN_S = 90.0
"""How long `stop` waits for a stage's proof."""


def status_document(folder: StateFolder, record: Record | None) -> dict[str, Any]:
    """The whole of `status --json`; rollouts newest first."""
    table = read_table(folder.table) or table_of_what_runs(folder)
    up = table is not None and table.supervisor.identity.is_alive()
    rollouts = [] if record is None else [rollout_entry(record, one) for one in record.rollouts(ROLLOUTS_SHOWN)]
    processes = [] if table is None else [_process_entry(table, name) for name in (row.name for row in table.processes)]
    shown = [entry for entry in rollouts if entry is not None]
    for entry in shown:
        entry["stop_url"] = None if entry["state"] in FINAL_STEPS else stop_url(folder, entry["account"])
    return {
        "rollouts": shown,
        "endpoints": dict(table.endpoints) if table is not None and up else {},
        "stack": {"up": up, "state": _state(table, up), "processes": processes},
    }


def stop_url(folder: StateFolder, account: str) -> str | None:
    """Where the account's guard takes a stop, and shows a button for it; None where no guard has told its address."""
    try:
        target = json.loads((folder.targets / f"{account}-guard.json").read_text())[0]["targets"][0]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return f"http://{target}/stop"


def _state(table: Table | None, up: bool) -> str:
    """`starting`, `ready`, `stopping`, `unsupervised` (what a killed supervisor left runs on) or `down`."""
    if table is not None and up:
        return table.state
    left = table is not None and any(row.identity.is_alive() for row in table.processes)
    return "unsupervised" if left else "down"


def _process_entry(table: Table, name: str) -> dict[str, Any]:
    row = table.row(name)
    assert row is not None  # noqa: S101 - the name comes from the same table
    return {"name": name, "pid": row.pid, "alive": row.identity.is_alive(), "restarts": row.restarts, "log": row.log}


def rollout_entry(record: Record, rollout: Rollout) -> dict[str, Any] | None:
    """One rollout by its newest stage run; None where it has none. Times UTC, ISO 8601."""
    runs = record.stage_runs(rollout=rollout.name)
    return {**stage_entry(record, runs[-1]), "stages": stages_of(record, rollout.name)} if runs else None


def stage_entry(record: Record, run: StageRun) -> dict[str, Any]:
    decided = None
    if run.decided_criterion:
        decided = {"criterion": run.decided_criterion, "value": run.decided_value, "limit": run.decided_limit}
    return {
        "rollout": run.rollout,
        "candidate": run.candidate,
        "stage": run.stage,
        "attempt": run.attempt,
        "account": run.account,
        "state": run.step,
        "reason": run.reason,
        "decided_by": decided,
        "others": run.decided_others,
        "timeline": record.timeline(run.id or 0),
        "evidence": run.evidence_dir,
        "started": iso(run.created_at),
        "ended": iso(run.ended_at),
    }


def print_status(folder: StateFolder, record: Record | None, *, as_json: bool) -> int:
    document = status_document(folder, record)
    if as_json:
        print(json.dumps(document, indent=2))
        return 0
    stack = document["stack"]
    hint = "; `rollout up` takes it over, `rollout down` ends it" if stack["state"] == "unsupervised" else ""
    _print_wrapped(f"stack: {stack['state']} ({folder.root}){hint}")
    for row in stack["processes"] if stack["state"] != "down" else []:
        print(
            f"  {row['name']:<18} pid {row['pid']:<8} {'runs' if row['alive'] else 'DEAD'}, restarts {row['restarts']}"
        )
    for name in ("prefect_ui", "prometheus", "venue_rest_url"):
        if name in document["endpoints"]:
            print(f"  {name:<18} {document['endpoints'][name]}")
    for entry in document["rollouts"]:
        decided = entry["decided_by"]
        why = f": {_decided_words(decided)}" if decided else ""
        words = f"{entry['rollout']}  {entry['stage']}  {entry['state']}  {entry['reason'] or ''}{why}"
        _print_wrapped(words.rstrip(" "))
        if entry["stop_url"] is not None:
            print(f"  stop it            {entry['stop_url']}")
        if len(entry["stages"]) > 1:
            print("\n".join(f" {line}" for line in as_table(entry["stages"])))
    if not document["rollouts"]:
        print("no rollout has been started yet")
    return 0


def _print_wrapped(text: str) -> None:
    print("\n".join(wrapped(text)))


def _decided_words(decided: dict[str, str | None]) -> str:
    value = f"{decided['criterion']} {decided['value'] or ''}".rstrip()
    return f"{value} (needs {needs(decided['limit'])})" if decided["limit"] else value


def newest(record: Record, name: str | None) -> StageRun | None:
    """The newest stage run of the named rollout, or of all."""
    if name is not None:
        runs = record.stage_runs(rollout=name)
        return runs[-1] if runs else None
    found = [run for one in record.rollouts(ROLLOUTS_SHOWN) for run in record.stage_runs(rollout=one.name)]
    return max(found, key=lambda run: run.id or 0, default=None)


def stop(folder: StateFolder, record: Record, name: str | None, who: str, reason: str) -> int:
    """Ends the named rollout (or every open one) through its guard; waits for the proof. What is between two stages
    begins no further one: that is written first, so that whatever is not seen open here is not begun after it either.

    A stage of an account whose file is away is told to its guard where that lives: it read the file when it began.
    Where none does, nothing is proven of it, unless its venue was ours and is gone with the file.
    """
    record.submit_stop_of_what_begins(name, who, reason)
    runs = [run for run in record.stage_runs(rollout=name) if run.step not in FINAL_STEPS]
    reachable = [run for run in runs if (folder.accounts / f"{run.account}.json").exists()]
    away = [run for run in runs if run not in reachable and _venue_of(record, run) != SIMULATED]
    asked = [*reachable, *(run for run in away if _guard_lives(folder, run.account))]
    unknown = [run for run in away if run not in asked]
    for run in away:
        known = "nobody knows what is open there" if run in unknown else "its guard is told all the same"
        print(f"{run.rollout}/{run.stage}: account {run.account} has no file: {known}")
    if not asked and not unknown:
        said = "nothing to stop: no stage is open" + (f" in rollout {name}" if name else "")
        _print_wrapped(f"{said}; a run that is queued or under way begins no further stage")
        return 0
    requests = []
    for run in asked:
        payload = {"stage_run_id": run.id, "who": who, "reason": reason}
        requests.append(record.submit(run.account, "stop", payload, f"stop-{run.id}-{time.time_ns()}"))
        print(f"{run.rollout}/{run.stage}: told the guard to stop; waiting for the proof")
    ended = [_await_end(folder, record, run, request) for run, request in zip(asked, requests, strict=True)]
    return max([EXIT_FAILED] * bool(unknown) + ended)


def _venue_of(record: Record, run: StageRun) -> str:
    """As the plan said when it began; empty where the chain does not tell."""
    return str((record.plan_begun(run) or {}).get("venue", ""))


def _await_end(folder: StateFolder, record: Record, run: StageRun, request: int) -> int:
    """`request`: the number of the stop in the inbox. The proof counts, not the result and evidence after it.

    A stage that was promoted first was not stopped itself, but its rollout begins no further one.
    """
    end, shown = time.monotonic() + PROOF_WITHIN_S, False
    while time.monotonic() < end:
        now = record.stage_run(run.id or 0)
        rows = record.rollback_steps(run.id or 0)
        if now.step == "promoted":
            words = f"promoted before the stop came; {proven_in_words(rows)}"
            _print_wrapped(f"{now.rollout}/{now.stage}: {words}; its rollout begins no further stage")
            return 0
        if now.step in FINAL_STEPS:
            print(f"{now.rollout}/{now.stage}: {now.step.replace('_', ' ')}; {proven_in_words(rows)}")
            return 0
        if not shown and _is_proven(now, rows):
            shown = True
            print(f"{now.rollout}/{now.stage}: {proven_in_words(rows)}; its result and its evidence follow")
        time.sleep(0.2)
    if shown:
        print(f"{run.rollout}/{run.stage}: proven, but not ended within {PROOF_WITHIN_S:g} s: its result is still open")
        return 0
    tries = _who_tries(folder, record, run, request)
    print(f"{run.rollout}/{run.stage}: NOT proven within {PROOF_WITHIN_S:g} s; {tries}")
    return EXIT_FAILED


def _is_proven(run: StageRun, rows: Sequence[RollbackStep]) -> bool:
    """Whether a closing has proven, by more than a person's word, that nothing of this stage trades any more."""
    proven = {row.name for row in rows if row.state == "verified" and SAID_BY not in row.proof}
    return run.step in CLOSING_STEPS and proven.issuperset(STEPS[:4])


def _who_tries(folder: StateFolder, record: Record, run: StageRun, request: int) -> str:
    """Whether anybody goes on stopping it, in words."""
    if not _guard_lives(folder, run.account):
        return f"no guard of account {run.account} lives: nobody tries; use `rollout down`"
    answer = record.answer(request)
    return "the guard keeps trying" if answer is None or answer.done else f"the guard refused: {answer.reason}"


def _guard_lives(folder: StateFolder, account: str) -> bool:
    """By the stack's table, or by its command line where the table does not know it: a stack may have lost its own."""
    rows = [table.row(f"guard-{account}") for table in (table_as_it_is(folder), table_of_what_runs(folder)) if table]
    return any(row.identity.is_alive() for row in rows if row is not None)


def report(record: Record, name: str | None, *, as_json: bool) -> int:
    """One table of the stages of the named rollout, or of the newest."""
    run = newest(record, name)
    if run is None:
        return none_yet(as_json=as_json)
    rows = stages_of(record, run.rollout)
    if as_json:
        print(json.dumps({**stage_entry(record, run), "stages": rows}, indent=2))
        return 0
    _print_wrapped(f"rollout {run.rollout}, candidate {run.candidate[:12]}, account {run.account}")
    print("\n".join(as_table(rows)))
    ended = end_sentence(run) if run.step in FINAL_STEPS else ""
    _print_wrapped(f"{run.stage} is {stands(run.step)}. {ended}".rstrip())
    _print_wrapped(f"Evidence  {run.evidence_dir or 'none yet'}")
    return 0


def explain(record: Record, name: str | None, *, as_json: bool = False) -> int:
    """Why the newest stage does not promote (or how it ended), in a few sentences."""
    run = newest(record, name)
    if run is None:
        return none_yet(as_json=as_json)
    lines = explanation(record, run)
    if as_json:
        print(json.dumps({**stage_entry(record, run), "against": against(record, run), "explanation": lines}, indent=2))
        return 0
    for line in lines:
        _print_wrapped(line)
    return 0


def none_yet(*, as_json: bool) -> int:
    """There is no rollout to speak of: `null` as JSON."""
    print("null" if as_json else "no rollout has been started yet")
    return 0


def against(record: Record, run: StageRun) -> list[dict[str, Any]]:
    """The critical criteria that do not pass now, each with its value (text) and what it needs."""
    return [
        {
            "criterion": one.criterion_id,
            "outcome": one.outcome,
            "value": one.value,
            "unit": one.unit,
            "cause": one.cause,
            "needs": needs(one.limit),
        }
        for one in record.measurements_latest(run.id or 0)
        if _counts_against(one)
    ]


def explanation(record: Record, run: StageRun) -> list[str]:
    plan = _plan_of(run)
    part = "" if plan is None else plan.stage(run.stage).part_name(run.part)
    where = f"{run.rollout}/{run.stage} is {stands(run.step)}{f' in part {part}' if part else ''}."
    if run.step in FINAL_STEPS:
        return [where, end_sentence(run)]
    lines = [where]
    against = [_against(one) for one in record.measurements_latest(run.id or 0) if _counts_against(one)]
    if against:
        lines.append("Not promoting because " + "; ".join(against) + ".")
    if run.step == "watch" and run.watch_until is not None:
        lines.append(f"Earliest GO {run.watch_until:%A %H:%M:%S} UTC, when the watch is over.")
        lines += _window_words(plan, run.watch_until)
    if run.step == "drills":
        open_ones = [row.name for row in record.drills(run.id or 0) if not row.outcome]
        lines.append(f"Drilled now: {', '.join(open_ones) or 'about to begin'}. The watch begins when it has passed.")
    if run.step == "judged":
        lines += _window_words(plan, utc_now())
    if run.step in ("ready", "judged"):
        lines.append(f"Waiting for {_missing(record, run)}.")
    if run.step in ("rolling_back", "rollback_failed"):
        open_steps = [
            step.name for step in record.rollback_steps(run.id or 0) if step.state not in ("verified", "skipped")
        ]
        lines.append(f"Not yet proven: {', '.join(open_steps) or 'nothing'}.")
    return lines


def _plan_of(run: StageRun) -> Plan | None:
    """The plan of a stage run by its file; None where that does not load any more, or lacks the stage now."""
    from gates.stages import PlanError, load_plan

    try:
        plan = load_plan(Path(run.plan_path))
        plan.stage(run.stage)
    except PlanError:
        return None
    return plan


def _window_words(plan: Plan | None, at: datetime) -> list[str]:
    """That nothing is promoted at that moment, and when it may be; empty where the window is open then."""
    closed = "" if plan is None else plan.promotion.closed_because(at)
    if plan is None or not closed:
        return []
    opens = plan.promotion.next_open(at)
    said = "no window opens within two months" if opens is None else f"the window opens {opens:%A %Y-%m-%d %H:%M} UTC"
    return [f"No promotion then: {closed}; {said}."]


def _counts_against(one: MeasurementLatest) -> bool:
    return one.severity == "critical" and one.outcome != "PASS"


def _against(one: MeasurementLatest) -> str:
    value = f"{one.value} {one.unit}".strip() if one.value is not None else f"unknown ({one.cause or 'not measured'})"
    return f"{one.criterion_id} is {value} (needs {needs(one.limit)})"


def _missing(record: Record, run: StageRun) -> str:
    from gates.approvers import Signature, SignOffs, load_approvers, signed_off
    from gates.stages import load_plan, under_root

    plan = load_plan(Path(run.plan_path))
    stage = plan.stage(run.stage).at(run.part)
    entry = SignOffs() if run.predecessor_passed else stage.entry_sign_offs
    gate, digest = ("entry", run.entry_digest) if run.step == "ready" else ("exit", run.evidence_digest)
    rows = record.sign_offs(run.id or 0, gate, accepted=True)
    quorum = signed_off(
        entry if gate == "entry" else stage.exit_sign_offs,
        load_approvers(under_root(plan.approvers)).people,
        [Signature(r.person, "GO" if r.decision == "GO" else "NO-GO") for r in rows if r.evidence_digest == digest],
        plan.author,
    )
    return ", ".join(quorum.missing) or "the flow (`prefect deployment run rollout/" + run.stage + "` goes on)"
