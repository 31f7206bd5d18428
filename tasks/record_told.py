"""What the chain of an account tells of each row of its tables, link by link. Pure.

A row that is written again and again is told column by column; the last word counts. A column that no link has told is
not compared: records from before it was told stay readable, and nothing is claimed of it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tasks.record_chain import canonical_json
from tasks.record_digest import Range
from tasks.record_engine import storable
from tasks.record_tables import StageRun

CHANGES_RUN = ("step", "bot", "baseline", "reminder", "evidence_place", "proven", "prolonged")
"""Kinds of links that tell what columns of a stage run became; `part` does so too, below its own."""
ONCE_SILENT = ("evidence_dir", "reminded_at")
"""Columns of a stage run that were once told and then changed without a link. Where the begin of the stage run does not
tell its columns, it is of that time, and these are not compared."""
DONE = ("verified", "skipped")
RUN_COLUMNS = frozenset(StageRun.model_fields)
Body = dict[str, Any]


class TimeStep(NamedTuple):
    """A one-time code that was spent."""

    person: str
    time_step: int


class Shapes:
    """Rows that are written once, as often as they were told: each by the columns that its link tells."""

    def __init__(self) -> None:
        self.left: Counter[str] = Counter()
        self._names: set[tuple[str, ...]] = set()

    def told(self, columns: Mapping[str, Any]) -> None:
        self._names.add(tuple(sorted(columns)))
        self.left[_text(columns)] += 1

    def take(self, row: Mapping[str, Any]) -> bool:
        """Whether it is one of those that were told; each counts once."""
        for names in sorted(self._names, key=len, reverse=True):  # what tells most of it first
            if self.left[text := _text({name: row.get(name) for name in names})]:
                self.left[text] -= 1
                return True
        return False

    def first_left(self) -> dict[str, Any] | None:
        """One that was told and not taken."""
        found = next(iter(+self.left), None)
        return None if found is None else dict(json.loads(found))


@dataclass
class Told:
    """By table and key, what each row is by the chain's word."""

    accounts: dict[str, Body] = field(default_factory=dict)
    grants: dict[str, Body] = field(default_factory=dict)
    rollouts: dict[str, Body] = field(default_factory=dict)
    runs: dict[int, Body] = field(default_factory=dict)
    parts: dict[int, list[Body]] = field(default_factory=dict)
    drills: dict[int, Body] = field(default_factory=dict)
    steps: dict[tuple[int, int], Body] = field(default_factory=dict)
    ranges: dict[int, list[Range]] = field(default_factory=dict)
    measured_to_the_end: set[int] = field(default_factory=set)
    sign_offs: Shapes = field(default_factory=Shapes)
    attestations: Shapes = field(default_factory=Shapes)
    releases: Shapes = field(default_factory=Shapes)
    verdicts: Shapes = field(default_factory=Shapes)
    files: Shapes = field(default_factory=Shapes)
    drills_begun: Shapes = field(default_factory=Shapes)
    """Of drills that were told without their number, as they once were: stage run and name, then also the end."""
    drills_ended: Shapes = field(default_factory=Shapes)
    codes: list[TimeStep] = field(default_factory=list)
    _silent: set[int] = field(default_factory=set)

    def take(self, kind: str, body: Body) -> None:
        """The next link."""
        if kind in CHANGES_RUN:
            self._change_run(body.get("stage_run"), body)
        elif (tell := getattr(self, f"_{kind}", None)) is not None:
            tell(body)

    def _account(self, body: Body) -> None:
        self.accounts[body["account"]] = {"venue": body["venue"]}

    def _epoch(self, body: Body) -> None:
        self.grants.setdefault("", {}).update(epoch=body["epoch"], holder=body["holder"])

    def _rollout(self, body: Body) -> None:
        columns = {("plan_digest" if name == "plan" else name): value for name, value in body.items()}
        self.rollouts[columns.pop("rollout")] = columns

    def _stage_run(self, body: Body) -> None:
        columns = body.get("columns")
        named = {name: body[name] for name in body if name in RUN_COLUMNS}
        self.runs[body["stage_run"]] = {"step": "requested", **(columns or {}), **named}
        if columns is None:
            self._silent.add(body["stage_run"])

    def _change_run(self, number: Any, changes: Mapping[str, Any]) -> None:
        if number in self.runs:
            without = ONCE_SILENT if number in self._silent else ()
            told = {name: value for name, value in changes.items() if name in RUN_COLUMNS and name not in without}
            self.runs[number].update(told)

    def _part(self, body: Body) -> None:
        self._change_run(body["stage_run"], body.get("run", body))
        been = self.parts.setdefault(body["stage_run"], [])
        if been and been[-1]["outcome"] == "":
            been[-1]["outcome"] = body["before"]
            if "began_at" in body:
                been[-1] |= {"ended_at": body["began_at"], "proof": body["proof_before"]}
        names = ("number", "name", "epoch", "inventory_max_quote", "total_max_quote", "symbols", "began_at", "proof")
        ends = {"ended_at": None} if "began_at" in body else {}
        been.append({**{name: body[name] for name in names if name in body}, "outcome": "", **ends})

    def _part_ended(self, body: Body) -> None:
        if part := self._open_part(body):
            part["outcome"] = body["outcome"]
            part |= {"ended_at": body["ended_at"]} if "ended_at" in body else {}

    def _part_proven(self, body: Body) -> None:
        part = self._open_part(body)
        if part is not None and "proof" in part:
            part["proof"] = {**part["proof"], **body["proof"]}

    def _open_part(self, body: Body) -> Body | None:
        return next((one for one in reversed(self.parts.get(body["stage_run"], [])) if one["outcome"] == ""), None)

    def _drill(self, body: Body) -> None:
        named = {"stage_run_id": body["stage_run"], "name": body["drill"]}
        if "id" not in body:
            self.drills_begun.told(named)
            return
        own = {name: value for name, value in body.items() if name not in ("id", "stage_run", "drill", "must_trip")}
        self.drills[body["id"]] = {**named, "criteria": body["must_trip"], **own}

    def _drill_noted(self, body: Body) -> None:
        if body["id"] in self.drills:
            self.drills[body["id"]]["proof"] = body["proof"]

    def _drill_ended(self, body: Body) -> None:
        ended = {"outcome": body["outcome"], "proof": body["proof"]}
        ended |= {"ends_at": body["ended_at"]} if "ended_at" in body else {}
        if body.get("id") in self.drills:
            self.drills[body["id"]].update(ended)
        else:
            self.drills_ended.told({"stage_run_id": body["stage_run"], "name": body["drill"], **ended})

    def _rollback_step(self, body: Body) -> None:
        done = "verified_at" in body and body["state"] in DONE
        names = (
            set(body) - {"stage_run"} if done else {"stage_run_id", "number", "name", "state", "started_at"} & set(body)
        )
        self.steps[body["stage_run"], body["number"]] = {name: body[name] for name in names}

    def _sign_off(self, body: Body) -> None:
        self.sign_offs.told(self._spent(body))

    def _attestation(self, body: Body) -> None:
        self.attestations.told(self._spent(body))

    def _release(self, body: Body) -> None:
        self.releases.told(self._spent(body))

    def _spent(self, body: Body) -> Body:
        if body.get("time_step") is not None:
            self.codes.append(TimeStep(body["person"], body["time_step"]))
        return {name: value for name, value in body.items() if name != "time_step"}

    def _verdict(self, body: Body) -> None:
        self.verdicts.told({("stage_run_id" if name == "stage_run" else name): one for name, one in body.items()})

    def _evidence(self, body: Body) -> None:
        for path, sha256 in body["files"].items():
            named = {"stage_run_id": body["stage_run"], "path": path, "sha256": sha256}
            more = {"size_bytes": body["sizes_bytes"][path], "at": body["at"]} if "sizes_bytes" in body else {}
            self.files.told({**named, **more})

    def _measurements(self, body: Body) -> None:
        told = Range(body["after"], body["upto"], body["rows"], body["sha256"])
        self.ranges.setdefault(body["stage_run"], []).append(told)
        if body["final"]:
            self.measured_to_the_end.add(body["stage_run"])


def differing(told: Mapping[str, Any], row: Mapping[str, Any]) -> Sequence[str]:
    """The columns that were told and are not so in the row."""
    return [name for name, value in told.items() if storable(value) != storable(row.get(name))]


def _text(columns: Mapping[str, Any]) -> str:
    return canonical_json(storable(dict(columns)))
