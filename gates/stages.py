"""The rollout plan: its stages, their sizes, durations and sign-offs. The schema of `configs/rollout*.yaml`.

Paths in a plan are relative to the project's root folder, unless absolute. The plan's digest covers what it says and
what its criteria, settings and approvers files say, so that none of them changes under a candidate that was signed.
"""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gates.approvers import SignOffs
from gates.criteria import Criterion, Seconds, load_criteria
from gates.yaml_file import YamlFile

ROOT: Final = Path(__file__).resolve().parent.parent
"""The project's root folder."""

StageId = Literal["shadow", "testnet", "canary", "soak", "scale-up"]
Quote = Annotated[Decimal, Field(gt=0, le=Decimal("10000000"), allow_inf_nan=False)]
Bps = Annotated[Decimal, Field(ge=0, le=1000, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1000)]


class PlanError(Exception):
    """A plan that cannot be used. The message is one line for a person."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Stage(_Part):
    """One stage. Sizes in quote currency, offsets and edge in bps, times in seconds.

    `available: false` says that this version cannot run the stage, and `unavailable_because` why, in one sentence.
    `overrides` sets numbers of criteria (by id, or `*` for all) for this plan's durations. `prolong_share` is by how
    much a HOLD at the end prolongs the watch, once. `proof_deadline_s` is how long a rollback may take before it counts
    as failed.
    """

    id: StageId
    available: bool = True
    unavailable_because: str | None = None
    env: Literal["shadow", "testnet", "live"]
    symbols: Annotated[tuple[Annotated[str, Field(pattern=r"^[A-Z0-9]{5,20}$")], ...], Field(min_length=1)]
    inventory_max_quote: Quote
    total_max_quote: Quote
    post_only_offset_bps: Bps
    min_qty_pad: Annotated[Decimal, Field(ge=1, le=10, allow_inf_nan=False)]
    edge_threshold_bps: Bps
    warm_up_s: Seconds
    lasts_s: Seconds
    prolong_share: Annotated[Decimal, Field(ge=0, le=1)] = Decimal("0.1")
    criteria: Path | None = None
    overrides: dict[str, dict[str, Any]] = Field(default_factory=dict)
    waive_predecessor: bool = False
    entry_sign_offs: SignOffs = SignOffs()
    exit_sign_offs: SignOffs = SignOffs()
    sign_off_reminder_s: Seconds = 4 * 3600
    sign_off_expiry_s: Seconds = 24 * 3600
    flatten: bool = True
    proof_deadline_s: Seconds = 60

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.available == (self.unavailable_because is not None):
            raise ValueError("available and unavailable_because contradict; allowed: a reason where it is false")
        if self.available and self.criteria is None:
            raise ValueError("no criteria file; allowed: every available stage names one")
        if self.total_max_quote < self.inventory_max_quote:
            allowed = f"at least inventory_max_quote {self.inventory_max_quote}"
            raise ValueError(f"total_max_quote {self.total_max_quote}; allowed: {allowed}")
        if self.warm_up_s >= self.lasts_s:
            raise ValueError(f"warm_up_s {self.warm_up_s:g}; allowed: less than lasts_s {self.lasts_s:g}")
        if self.sign_off_reminder_s >= self.sign_off_expiry_s:
            allowed = f"less than sign_off_expiry_s {self.sign_off_expiry_s:g}"
            raise ValueError(f"sign_off_reminder_s {self.sign_off_reminder_s:g}; allowed: {allowed}")
        if self.waive_predecessor and self.env == "live" and not self.entry_sign_offs.roles:
            raise ValueError("waive_predecessor without entry_sign_offs; allowed: people sign before the grant")
        return self


class Plan(_Part):
    """The whole plan. `venue` simulated: mode live with loopback host overrides, new account for every rollout.

    `measure_every_s` is the guard's round; `stale_after_s` the greatest age of a scrape that is believed;
    `attempts_max` how often one digest may try a stage. `max_age_s`: how old the preflight that people signed over may
    be at the launch; past it no launch is accepted, and a stage that waits for one is parked. The age of an earlier
    stage's evidence is not looked at.
    """

    schema_version: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{2,40}$")]
    venue: Literal["simulated", "bybit"]
    settings: Path
    approvers: Path
    author: Annotated[str, Field(min_length=2, max_length=80)]
    measure_every_s: Annotated[float, Field(ge=0.2, le=60)] = 1.0
    scrape_every_s: Annotated[float, Field(ge=0.2, le=60)] = 1.0
    stale_after_s: Annotated[float, Field(ge=1, le=600)] = 3.0
    source_timeout_s: Annotated[float, Field(ge=0.1, le=30)] = 2.0
    grant_ttl_s: Annotated[float, Field(ge=2, le=30)] = 5.0
    recv_window_ms: Annotated[int, Field(ge=500, le=60_000)] = 5000
    quote_interval_ms: Annotated[int, Field(ge=10, le=60_000)] = 250
    attempts_max: Count = 3
    max_age_s: Seconds = 30 * 86_400
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ids = [stage.id for stage in self.stages]
        if len(set(ids)) != len(ids):
            raise ValueError(f"stages {', '.join(ids)}; allowed: each id once")
        if self.stale_after_s < 2 * self.scrape_every_s:
            raise ValueError(f"stale_after_s {self.stale_after_s:g}; allowed: at least two scrapes")
        return self

    def stage(self, stage_id: str) -> Stage:
        """The stage by its id. Raises PlanError with one line where the plan has none or it cannot run yet."""
        found = next((stage for stage in self.stages if stage.id == stage_id), None)
        if found is None:
            allowed = ", ".join(stage.id for stage in self.stages)
            raise PlanError(f"plan {self.name}: no stage {stage_id!r}; allowed: {allowed}")
        if not found.available:
            allowed = ", ".join(stage.id for stage in self.stages if stage.available) or "none"
            said = f"cannot run: {found.unavailable_because}"
            raise PlanError(f"plan {self.name}: stage {stage_id} {said}; available: {allowed}")
        return found


def load_plan(path: Path) -> Plan:
    """The plan in `path`. Raises PlanError with one line: file, line, the thing, its value, what is allowed."""
    return YamlFile(path, PlanError).read(Plan)


def under_root(path: Path, root: Path = ROOT) -> Path:
    """A plan's path, below `root` unless it is absolute."""
    return path if path.is_absolute() else root / path


def stage_criteria(plan: Plan, stage_id: str, root: Path = ROOT) -> tuple[Criterion, ...]:
    """The criteria of a stage that can run, with the plan's numbers set over them. Raises PlanError, CriteriaError."""
    return criteria_of(plan.stage(stage_id), root)


def criteria_of(stage: Stage, root: Path = ROOT) -> tuple[Criterion, ...]:
    """The criteria that a stage names, whether it can run or not; none where it names none. Raises CriteriaError."""
    return load_criteria(under_root(stage.criteria, root), stage.overrides) if stage.criteria is not None else ()


def plan_digest(plan: Plan, root: Path = ROOT) -> str:
    """SHA-256 (hex) over the plan and the content of its criteria, settings and approvers files, as canonical JSON.

    Comments and layout of the files do not count. Raises PlanError where one of them cannot be read.
    """
    files = sorted(
        {plan.settings, plan.approvers, *(stage.criteria for stage in plan.stages if stage.criteria is not None)}
    )
    contents = {path.as_posix(): YamlFile(under_root(path, root), PlanError).content for path in files}
    return _digest({"plan": plan.model_dump(mode="json"), "files": contents})


def candidate_digest(code_version: str, settings_digest: str, plan_digest_hex: str, nonce: str) -> str:
    """SHA-256 (hex) of a candidate. `nonce` makes each demo run on the simulated venue a candidate of its own."""
    return _digest({"code": code_version, "settings": settings_digest, "plan": plan_digest_hex, "nonce": nonce})


def _digest(content: Any) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()
