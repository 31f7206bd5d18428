"""What people read in the Prefect UI: tables and sentences in markdown. PASS and FAIL in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.proof_words import step_in_words
from tasks.record_tables import MeasurementLatest, RollbackStep, SignOff, StageRun
from tasks.rollback import end_headline, proven_flat

WHAT_WILL_HAPPEN = {
    "entry": "After GO by everybody asked, the bot is launched under a grant with this stage's limits.",
    "exit": "After GO by everybody asked, the candidate is promoted; the stage is closed flat with proof.",
}

STANDS = {
    "preflight": "in preflight",
    "launching": "being launched",
    "warm_up": "warming up",
    "drills": "being drilled",
    "watch": "being watched",
    "watched": "watched to the end",
    "promoting": "being promoted",
    "rolling_back": "being closed",
    "rollback_failed": "not proven closed",
}
"""Where a stage run stands, after `is`; the other steps are words that fit there themselves."""


def stands(step: str) -> str:
    """The end of a sentence: `canary is …`."""
    return STANDS.get(step, step.replace("_", " "))


def value_words(measurement: MeasurementLatest) -> str:
    """`1.7 bps`, or why there is no value."""
    if measurement.value is None:
        return (measurement.cause or "not measured").replace("_", " ").lower()
    return f"{measurement.value} {measurement.unit}".strip()


def needs(limit: str) -> str:
    """What would pass, from both bands in words: `go < 1, no-go > 2` → `< 1`; `no-go > 2` alone → `not > 2`."""
    go = limit.partition(", no-go")[0]
    return f"not {go.removeprefix('no-go ')}" if go.startswith("no-go ") else go.removeprefix("go ")


def criteria_rows(measurements: Sequence[MeasurementLatest]) -> list[dict[str, str]]:
    """One row a criterion, for a table artifact."""
    return [
        {
            "criterion": one.criterion_id,
            "result": one.outcome + ("" if one.severity == "critical" else " (advisory)"),
            "value": value_words(one),
            "needs": needs(one.limit),
            "what": one.title,
        }
        for one in measurements
    ]


def _rows_of_a_form(measurements: Sequence[MeasurementLatest]) -> list[dict[str, str]]:
    """Narrow: a form is. What did not pass stands first."""
    ordered = sorted(measurements, key=lambda one: one.outcome == "PASS")
    rows = [{**row, "criterion": row["criterion"].removeprefix("preflight_")} for row in criteria_rows(ordered)]
    return [{name: row[name] for name in ("criterion", "result", "value", "needs")} for row in rows]


def sign_off_rows(rows: Sequence[SignOff]) -> list[dict[str, str]]:
    return [
        {
            "gate": row.gate,
            "person": row.person,
            "roles": ", ".join(str(role) for role in row.roles),
            "decision": row.decision,
            "taken": "yes" if row.accepted else f"no: {row.refused_reason}",
            "at (UTC)": f"{row.at:%H:%M:%S}",
            "comment": row.comment,
        }
        for row in rows
    ]


def step_rows(rows: Sequence[RollbackStep]) -> list[dict[str, str]]:
    return [
        {
            "step": f"{row.number} {row.name}",
            "state": row.state,
            "tries": str(row.attempts),
            "verified (UTC)": "" if row.verified_at is None else f"{row.verified_at:%H:%M:%S.%f}"[:-3],
            "proof (times in UTC)": step_in_words(row.name, row.state, row.error, row.proof),
        }
        for row in rows
    ]


def markdown_table(rows: Sequence[dict[str, str]]) -> str:
    """GitHub's kind of table; a bar inside a cell is escaped. Empty where there are no rows."""
    if not rows:
        return ""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_cell(row[name]) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def approval_question(
    stage_run: StageRun,
    gate: str,
    measurements: Sequence[MeasurementLatest],
    link: str,
    evidence_page: str,
    refusal: str,
    next_part: str = "",
) -> str:
    """The text above the form: why it is asked again, what is signed, what was measured, where the evidence is.

    `next_part`: the part that GO leads to, where it does not end the stage.
    """
    parts = []
    if refusal:
        parts.append(f"**Your last answer was refused: {refusal}.**")
    into = "into" if gate == "entry" else "within" if next_part else "out of"
    follows = WHAT_WILL_HAPPEN[gate]
    if next_part:
        follows = f"After GO by everybody asked, the next part begins with the bot running on: {next_part}."
    parts.append(f"## Sign-off {into} {stage_run.stage}: {stage_run.rollout}")
    parts.append(f"Candidate `{stage_run.candidate[:12]}`, attempt {stage_run.attempt}. {follows}")
    if stage_run.verdict:
        parts.append(f"Verdict of the gates: **{stage_run.verdict.replace('_', '-')}**.")
    shown = [one for one in measurements if (one.phase == "preflight") == (gate == "entry")]
    if shown:
        passed = sum(one.outcome == "PASS" for one in shown)
        what = "preflight checks" if gate == "entry" else "criteria"
        parts.append(f"Measured: **{passed} of {len(shown)}** {what} PASS.")
        parts.append(markdown_table(_rows_of_a_form(shown)))
    where = f"The evidence and its digest: [the stage's run, under Artifacts]({link})." if link else ""
    page = f"Page with plots: `{evidence_page}`." if evidence_page else ""
    parts.append(" ".join(words for words in (where, page) if words))
    return "\n\n".join(part for part in parts if part)


def evidence_note(stage_run: StageRun, gate: str, digest: str) -> str:
    """The markdown artifact that shows the digest that people sign."""
    lines = [
        f"# Evidence for the {gate} sign-off of {stage_run.stage}",
        f"Rollout {stage_run.rollout}, candidate `{stage_run.candidate}`.",
        f"Digest of the evidence: `{digest}` (the form asks for its first six characters: `{digest[:6]}`).",
    ]
    if stage_run.evidence_dir:
        lines.append(f"Folder: `{stage_run.evidence_dir}`.")
    return "\n\n".join(lines)


def decision_note(stage_run: StageRun, steps: Sequence[RollbackStep]) -> str:
    """The markdown artifact that says how the stage ended, with the number that decided and every step's proof."""
    lines = [f"# {end_headline(stage_run.step, flat=proven_flat(steps))}: {stage_run.stage} of {stage_run.rollout}"]
    lines.append(end_sentence(stage_run))
    if steps:
        lines += ["## How it was closed", markdown_table(step_rows(steps))]
    if stage_run.evidence_dir:
        lines.append(f"Evidence: `{stage_run.evidence_dir}`")
    return "\n\n".join(lines)


def end_sentence(stage_run: StageRun) -> str:
    """Why it ended, in one sentence."""
    if stage_run.step == "promoted":
        return "Every critical criterion passed, everybody asked signed GO, and the stage is closed flat."
    said = f"Reason: {stage_run.reason or 'not decided'}."
    if stage_run.decided_criterion:
        said += f" Decided by {stage_run.decided_criterion}: {stage_run.decided_value or 'no value'}"
        said += f" (needs {needs(stage_run.decided_limit)})." if stage_run.decided_limit else "."
    why = stage_run.decided_why or ""
    if why and not (stage_run.decided_value and why.startswith(stage_run.decided_value)):  # not the number again
        said += f" {why}"
    return said
