"""Writes the evidence of a stage run: `python -m tasks.evidence --stage-run N --out DIR [--ends promoted]`.

A process of its own, because plots need what the guard must not load. It only reads the record, the journal and
Prometheus; where Prometheus is gone the page says so and draws from the journal alone. Every file's SHA-256 stands in
manifest.json; the SHA-256 of the manifest is the evidence's digest.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlmodel import SQLModel

from bot.settings_file import ConfigError
from gates.approvers import ApproversError
from gates.criteria import CriteriaError
from gates.evidence_folder import CRITERIA, MANIFEST, sha256_of
from gates.stages import PlanError, criteria_of, each_part, load_plan, plan_digest
from tasks.evidence_page import render_page
from tasks.evidence_plots import draw_plots
from tasks.evidence_series import Series, read_series
from tasks.measured import measured_until_stopped
from tasks.post_mortem import files_of, left_out_of, save_post_mortem
from tasks.record import Record, RecordError, iso, open_record
from tasks.record_chain import ChainReport
from tasks.record_tables import StageRun

WENT_WRONG = ("rolled_back", "parked")


@dataclass(frozen=True)
class Gathered:
    """Everything the page and the files show."""

    run: StageRun
    ends: str
    rollout: dict[str, Any]
    latest: list[dict[str, Any]]
    measurements: list[dict[str, Any]]
    verdicts: list[dict[str, Any]]
    sign_offs: list[dict[str, Any]]
    steps: list[dict[str, Any]]
    parts: list[dict[str, Any]]
    drills: list[dict[str, Any]]
    timeline: dict[str, str | None]
    entries: list[dict[str, Any]]
    chain: ChainReport
    data_check: dict[str, Any] | None
    series: Series
    criteria: dict[str, Any]


def gather(record: Record, stage_run_id: int, ends: str, prometheus_url: str) -> Gathered:
    """Reads everything once. Raises RecordError where there is no such stage run."""
    run = record.stage_run(stage_run_id)
    rollout = record.rollout(run.rollout)
    state_dir = Path(run.state_dir) if run.state_dir else None
    return Gathered(
        run=run,
        ends=ends,
        rollout=_plain(rollout) if rollout else {},
        latest=_all(measured_until_stopped(record, run)),
        measurements=_all(record.measurements(stage_run_id)),
        verdicts=_all(record.verdicts(stage_run_id)),
        sign_offs=_all(record.sign_offs(stage_run_id)),
        steps=_all(record.rollback_steps(stage_run_id)),
        parts=_all(record.parts(stage_run_id)),
        drills=_all(record.drills(stage_run_id)),
        timeline=record.timeline(stage_run_id),
        entries=_all(record.entries(run.account)),
        chain=record.verify_chain(run.account),
        data_check=_data_check(state_dir),
        series=read_series(run, state_dir, prometheus_url),
        criteria=_criteria(run, rollout.plan_digest if rollout else ""),
    )


def write_evidence(out: Path, found: Gathered, logs: Path | None = None, prometheus_url: str = "") -> str:
    """Writes all files of the evidence; returns its digest. A repeat replaces them.

    What went wrong gets a post-mortem beside its page; `logs`: the folder of the processes' logs.
    """
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    plots = draw_plots(found.series)
    if found.ends in WENT_WRONG:
        save_post_mortem(out, found.run, logs, prometheus_url)
    contents = {
        "record.json": _pretty({"chain": vars(found.chain), "entries": found.entries}),
        "measurements.json": _pretty(found.measurements),
        CRITERIA: _pretty(found.criteria),
        "verdict.json": _pretty(
            {
                "stage_run": _plain(found.run),
                "rollout": found.rollout,
                "timeline": found.timeline,
                "verdicts": found.verdicts,
                "sign_offs": found.sign_offs,
                "rollback_steps": found.steps,
                "parts": found.parts,
                "drills": found.drills,
            }
        ),
        "data_check.json": _pretty(found.data_check or {"status": "not run"}),
        "index.html": render_page(found, plots, files_of(out), left_out_of(out)),
    }
    for name, text in contents.items():
        _replace(out / name, text)
    files = sorted(path for path in out.rglob("*") if path.is_file() and path != out / MANIFEST)
    manifest = {
        "stage_run": found.run.id,
        "rollout": found.run.rollout,
        "stage": found.run.stage,
        "attempt": found.run.attempt,
        "candidate": found.run.candidate,
        "written_at": iso(datetime.now(UTC)),
        "record_head": found.chain.head,
        "files": {path.relative_to(out).as_posix(): sha256_of(path) for path in files},
    }
    text = _pretty(manifest)
    _replace(out / MANIFEST, text)
    return hashlib.sha256(text.encode()).hexdigest()


def _criteria(run: StageRun, signed: str) -> dict[str, Any]:
    """The criteria of each part, as they were signed, so that `gates replay` needs nothing but the folder."""
    try:
        plan = load_plan(Path(run.plan_path))
        found = plan_digest(plan)
        if found != signed:
            return {"missing": f"the plan and its files are {found[:12]}, signed was {signed[:12]}"}
        parts = each_part(plan.stage(run.stage))
        return {"parts": [[one.model_dump(mode="json") for one in criteria_of(part)] for part in parts]}
    except (PlanError, CriteriaError, ApproversError, ConfigError) as error:
        return {"missing": str(error)}


def _data_check(state_dir: Path | None) -> dict[str, Any] | None:
    if state_dir is None:
        return None
    try:
        found = json.loads((state_dir / "data_check.json").read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _plain(row: SQLModel) -> dict[str, Any]:
    return {name: iso(value) if isinstance(value, datetime) else value for name, value in row.model_dump().items()}


def _all(rows: Sequence[SQLModel]) -> list[dict[str, Any]]:
    return [_plain(row) for row in rows]


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.chmod(0o600)
    temporary.replace(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="evidence", description="Writes the evidence of a stage run.")
    text: Callable[..., object] = parser.add_argument
    text("--stage-run", type=int, required=True, metavar="N", help="its number in the record, >= 1")
    text("--out", type=Path, required=True, metavar="DIR", help="the folder to write")
    text("--ends", default="", metavar="STEP", help="how it ends, where that is decided but not yet written")
    text("--logs", type=Path, metavar="DIR", help="where the processes log, for a post-mortem")
    for name, variable in (("record", "SLIPWAY_RECORD_URL"), ("prometheus", "SLIPWAY_PROMETHEUS_URL")):
        text(f"--{name}-url", default=os.environ.get(variable, ""), metavar="URL", help=f"default: {variable}")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """See the module's text. Exit 2 for bad input."""
    chosen = _parser().parse_args(arguments)
    if not chosen.record_url:
        print("evidence: SLIPWAY_RECORD_URL is not set and --record-url not given", file=sys.stderr)
        return 2
    try:
        record = open_record(chosen.record_url)
        found = gather(record, chosen.stage_run, chosen.ends, chosen.prometheus_url)
    except RecordError as error:
        print(f"evidence: {error}", file=sys.stderr)
        return 2
    print(write_evidence(chosen.out, found, chosen.logs, chosen.prometheus_url))
    record.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
