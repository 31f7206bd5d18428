"""Drills of what stands around the bot: an alert that must fire, a backup that must be whole when it is restored."""

from __future__ import annotations

import asyncio
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from gates.sources.prometheus import Failed, PrometheusSource
from tasks.backup import RECORD, BackupFailed, back_up, faults_of, restore
from tasks.guard.drill_facts import restored_at
from tasks.guard.drill_faults import LOOK_EVERY_S, DrillFailed, DrillNotRun, Fault
from tasks.guard.state import Active, GuardState

LOWERED: Final = "MMHighLatency"
"""The alert whose threshold is lowered: every order has a latency, so below it lies none."""
RELOAD_TIMEOUT_S: Final = 5.0
SEEN_WITHIN_S: Final = 5.0
"""At least, where its half of the window is over: another alert may have tripped the criterion late in it."""
RESOLVED_WITHIN_S: Final = 15.0
OWN: Final = {"alertname": LOWERED, "drill": "true"}
"""Labels of the lowered alert alone: the shipped one of that name has no `drill`."""


def lowered_rule(rules: Path, name: str, account: str) -> str:
    """A rule file with the alert of that name once more, for this account alone, at once and above 0.

    Raises DrillNotRun where no file of the folder has it, or it compares with no number.
    """
    for path in sorted(rules.glob("*.yml")):
        if path.name.startswith("drill-"):
            continue
        try:
            groups = yaml.safe_load(path.read_text())["groups"]
            found = [rule for group in groups for rule in group["rules"] if rule.get("alert") == name]
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise DrillNotRun(f"{path}: no file of alert rules ({type(error).__name__})") from error
        if found:
            return yaml.safe_dump({"groups": [{"name": f"drill-{account}", "rules": [_lowered(found[0], account)]}]})
    raise DrillNotRun(f"{rules}: no alert {name}; allowed: the rules of infra/prometheus/rules in that folder")


def _lowered(rule: dict[str, Any], account: str) -> dict[str, Any]:
    expression, numbers = re.subn(r"> *[0-9.]+\s*$", "> 0", str(rule["expr"]).strip())
    if numbers != 1:
        raise DrillNotRun(f"alert {rule['alert']}: compares with no number at its end, so it cannot be lowered")
    only = re.sub(r"(mm_\w+)(?=\[)", rf'\1{{account="{account}"}}', expression)
    return {**rule, "expr": only, "for": "0s", "labels": {**rule.get("labels", {}), "drill": "true"}}


class Alert(Fault):
    """An alert rule once more with its threshold lowered: it fires, is seen, and is resolved when the rule is gone."""

    @property
    def _path(self) -> Path:
        return self.guard.folder.rules / f"drill-{self.guard.account}.yml"

    async def make(self) -> None:
        text = lowered_rule(self.guard.folder.rules, LOWERED, self.guard.account)
        before = await self._await_firing({}, lambda count: count == 0, self.until)
        if before:  # what it is to trip is tripped already, and would say nothing of it
            raise DrillNotRun(f"{before} alert{'s' * (before > 1)} about this bot fires before it")
        try:
            self._path.write_text(text)
        except OSError as error:
            raise DrillNotRun(f"{self._path}: {error.strerror}") from error
        await reload_rules(self.guard.prometheus_url)

    async def seen(self) -> None:
        until = max(self.until, time.monotonic() + SEEN_WITHIN_S)  # the plan's window bounds it, not how busy we are
        if not await self._await_firing(OWN, lambda count: count > 0, until):
            raise DrillFailed(f"{LOWERED} did not fire though its threshold was lowered")
        self.proof["fired"] = LOWERED

    async def undo(self) -> None:
        await forget_lowered(self.guard)
        until = max(self.until, time.monotonic() + RESOLVED_WITHIN_S)
        if left := await self._await_firing(OWN, lambda count: count == 0, until):
            raise DrillFailed(f"the alert was not resolved: {left} still fire")
        self.proof["resolved"] = "yes"

    async def _await_firing(self, labels: Mapping[str, str], wanted: Callable[[int], bool], until: float) -> int:
        """How many alerts with these labels fire, once that is as wanted, else at `until` (monotonic).

        Raises DrillNotRun where it cannot be seen then: what is not seen is neither fired nor resolved.
        """
        row, plan = self.active.row, self.active.plan
        async with PrometheusSource(self.guard.prometheus_url, plan.source_timeout_s) as source:
            while True:
                firing = await source.firing(row.account, row.rollout, row.stage, **labels)
                if isinstance(firing, int) and wanted(firing):
                    return firing
                if time.monotonic() >= until:
                    if isinstance(firing, Failed):
                        raise DrillNotRun(f"whether the alert fires could not be seen: {firing.detail}")
                    return firing
                await asyncio.sleep(LOOK_EVERY_S)


async def forget_lowered(guard: GuardState) -> None:
    """Takes the lowered rule away, where there is one. Raises DrillNotRun."""
    path = guard.folder.rules / f"drill-{guard.account}.yml"
    if path.exists():
        path.unlink(missing_ok=True)
        await reload_rules(guard.prometheus_url)


async def reload_rules(url: str) -> None:
    """Makes Prometheus read its rules again. Raises DrillNotRun with its own word."""
    try:
        async with httpx.AsyncClient(timeout=RELOAD_TIMEOUT_S, trust_env=False) as client:
            answer = await client.post(f"{url.rstrip('/')}/-/reload")
    except httpx.HTTPError as error:
        raise DrillNotRun(f"Prometheus does not read its rules again: {type(error).__name__}") from error
    if answer.status_code != httpx.codes.OK:
        said = " ".join(answer.text.split())[:200]
        raise DrillNotRun(f"Prometheus does not read its rules again: HTTP {answer.status_code} {said}")


class Backup(Fault):
    """Record and journal backed up while both are written to, restored, found whole; a damaged row is seen."""

    def __init__(self, guard: GuardState, active: Active, drill_id: int, until: float) -> None:
        super().__init__(guard, active, drill_id, until)
        self._restored = restored_at(guard.folder, active)
        self._backup = self._restored.with_name("backup")

    async def make(self) -> None:
        if self.active.state_dir is None:
            raise DrillNotRun("the bot has no state folder")
        await asyncio.to_thread(self._make, self.active.state_dir / "journal.db")

    def _make(self, journal: Path) -> None:
        shutil.rmtree(self._restored.parent, ignore_errors=True)
        try:
            manifest = back_up(self.guard.folder.record_url, journal, self._backup)
            restore(self._backup, self._restored)
            faults = faults_of(self._restored)
        except BackupFailed as error:
            raise DrillNotRun(str(error)) from error
        if faults:
            raise DrillFailed(f"the restored backup is not whole: {faults[0]}")
        self.proof["rows"] = str(sum(int(said.partition(":")[0]) for said in manifest["record"].values()))
        self.proof["entries"] = manifest["journal"]["entry"].partition(":")[0]
        with closing(sqlite3.connect(self._restored / RECORD)) as db, db:
            row = db.execute("SELECT max(id) FROM record WHERE account = ?", (self.guard.account,)).fetchone()
            db.execute("UPDATE record SET body = body || ' ' WHERE id = ?", row)

    async def undo(self) -> None:
        """The damaged copy goes; what stays restored is whole."""
        await asyncio.to_thread(self._undo)

    def _undo(self) -> None:
        if not self._backup.exists():
            return
        shutil.rmtree(self._restored, ignore_errors=True)
        try:
            restore(self._backup, self._restored)
            faults = faults_of(self._restored)
        except BackupFailed as error:
            raise DrillNotRun(str(error)) from error
        if faults:
            raise DrillFailed(f"restored a second time it is not whole: {faults[0]}")
