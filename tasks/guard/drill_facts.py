"""Facts for the checks that drills trip: kill switches of the account, alerts that fire, the restored backup."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Any

from gates.sources.prometheus import Failed, PrometheusSource
from tasks.backup import BackupFailed, faults_of
from tasks.guard.state import Active
from tasks.state_folder import StateFolder


async def drill_facts(
    folder: StateFolder, active: Active, asked: Collection[str | None], source: PrometheusSource
) -> dict[str, Any]:
    """Only what a criterion asks for, under the names of `CheckFacts`. A fact that cannot be had is None, with why."""
    facts: dict[str, Any] = {}
    if "kill_switch_unused" in asked:
        reports = folder.kill_switch_reports(active.row.account)
        facts["kill_switch_runs"], facts["kill_switch_error"] = _kill_switches(reports, _since_s(active))
    if "alerts_firing" in asked:
        row = active.row
        firing = await source.firing(row.account, row.rollout, row.stage)
        told = (None, firing.detail) if isinstance(firing, Failed) else (firing, "")
        facts["alerts_firing"], facts["alerts_error"] = told
    if "backup_is_whole" in asked:
        facts["backup_whole"], facts["backup_error"] = await asyncio.to_thread(_backup, restored_at(folder, active))
    return facts


def restored_at(folder: StateFolder, active: Active) -> Path:
    """Where the newest backup of this stage run is restored."""
    return folder.backups / f"{active.row.account}-{active.id}" / "restored"


def _since_s(active: Active) -> float:
    """Since when what is judged now began: a drill, else the watch, else the launch."""
    if active.drilled.since_s is not None:
        return active.drilled.since_s
    begun = active.row.watch_from or active.row.launched_at
    return 0.0 if begun is None else begun.timestamp()


def _kill_switches(reports: Path, since_s: float) -> tuple[int | None, str]:
    """How many were carried out since then; one report that cannot be read, and it is not known."""
    runs = 0
    for path in sorted(reports.glob("*.json")):
        try:
            told = json.loads(path.read_text())
            carried_out = told["status"] != "dry_run"  # one that failed has cancelled all the same
            runs += carried_out and datetime.fromisoformat(told["started_utc"]).timestamp() >= since_s
        except (OSError, ValueError, KeyError, TypeError) as error:
            return None, f"{path}: not a report of the kill switch ({type(error).__name__})"
    return runs, ""


def _backup(restored: Path) -> tuple[bool | None, str]:
    if not restored.exists():
        return None, ""
    try:
        faults = faults_of(restored)
    except BackupFailed as error:
        return None, str(error)
    return not faults, "; ".join(faults)[:300]
