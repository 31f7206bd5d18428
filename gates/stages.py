"""The rollout plan: its stages, their sizes, durations and sign-offs. The schema of `configs/rollout*.yaml`.

Paths in a plan are relative to the project's root folder, unless absolute. The plan's digest covers what it says and
what its criteria, settings and approvers files say, so that none of them changes under a candidate that was signed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from gates.approvers import SignOffs
from gates.checklists import Checklist, Item, load_checklist
from gates.criteria import (
    CriteriaError,
    Criterion,
    NotYet,
    Seconds,
    files_of,
    load_criteria,
    not_yet_measurable,
)
from gates.live_plan import ATTEMPTS_MAX, live_fault, loosened
from gates.parts import Ceiling, Drill, Part, Quote, Size, Symbols, ceiling_fault, step_fault
from gates.windows import PromotionWindows
from gates.yaml_file import YamlFile

ROOT: Final = Path(__file__).resolve().parent.parent
"""The project's root folder."""

StageId = Literal["shadow", "testnet", "canary", "soak", "scale-up"]
ROAD: Final[tuple[str, ...]] = get_args(StageId)
"""The stages in the order in which a candidate passes them."""
Bps = Annotated[Decimal, Field(ge=0, le=1000, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1000)]


class PlanError(Exception):
    """A plan that cannot be used. The message is one line for a person."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Stage(_Part):
    """One stage. Sizes in quote currency, offsets and edge in bps, times in seconds.

    `available: false` says that this version cannot run the stage, and `unavailable_because` why, in one sentence.
    `overrides` sets numbers of criteria (by id, or `*` for all) for this plan's durations. `prolong_share` is by
    how much a HOLD at the end prolongs the watch, once. `launch_deadline_s` is how long the bot may take until it
    says that it is there, and a quarter of it (two lives of a grant at most) until it takes its first grant;
    `proof_deadline_s` how long a rollback may take before it counts as failed. `entry_sign_offs` are asked only
    where the stages before are waived and have not passed. `rollback_to` plateau: a verdict's NO-GO against
    the candidate leads back to the step before it, once; anything else, also what parks and every guard's NO-GO,
    closes flat. `checklist` is what must hold before a grant, beside what is checked before every one; where the
    stage is live at a real venue it must be given.
    """

    id: StageId
    available: bool = True
    unavailable_because: str | None = None
    env: Literal["shadow", "testnet", "live"]
    symbols: Symbols
    inventory_max_quote: Quote
    total_max_quote: Quote
    post_only_offset_bps: Bps
    min_qty_pad: Annotated[Decimal, Field(ge=1, le=10, allow_inf_nan=False)]
    edge_threshold_bps: Bps
    warm_up_s: Seconds
    lasts_s: Seconds
    prolong_share: Annotated[Decimal, Field(ge=0, le=1)] = Decimal("0.1")
    criteria: Path | None = None
    checklist: Path | None = None
    overrides: dict[str, dict[str, Any]] = Field(default_factory=dict)
    waive_predecessor: bool = False
    entry_sign_offs: SignOffs = SignOffs()
    exit_sign_offs: SignOffs = SignOffs()
    sign_off_reminder_s: Seconds = 4 * 3600
    sign_off_expiry_s: Seconds = 24 * 3600
    flatten: bool = True
    launch_deadline_s: Annotated[float, Field(ge=5, le=600, allow_inf_nan=False)] = 20
    proof_deadline_s: Seconds = 60
    drills: tuple[Drill, ...] = ()
    parts: tuple[Part, ...] = ()
    ceilings: tuple[Ceiling, ...] = ()
    rollback_to: Literal["flat", "plateau"] = "flat"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.available == (self.unavailable_because is not None):
            raise ValueError("available and unavailable_because contradict; allowed: a reason where it is false")
        if self.available and self.criteria is None and not (self.parts and all(one.criteria for one in self.parts)):
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

    @model_validator(mode="after")
    def _parts_consistent(self) -> Self:
        names = [part.id for part in self.parts]
        if len(set(names)) != len(names):
            raise ValueError(f"parts {', '.join(names)}; allowed: each id once")
        for number, part in enumerate(self.parts):
            one = self.at(number)
            if one.total_max_quote < one.inventory_max_quote:
                allowed = f"at least inventory_max_quote {one.inventory_max_quote}"
                raise ValueError(f"part {part.id}: total_max_quote {one.total_max_quote}; allowed: {allowed}")
            if not set(one.symbols) <= set(self.symbols):
                raise ValueError(
                    f"part {part.id}: symbols {', '.join(one.symbols)}; allowed: {', '.join(self.symbols)}"
                )
        if fault := ceiling_fault(self.sizes, self.ceilings):
            raise ValueError(fault)
        if self.rollback_to == "plateau" and len(self.parts) < 2:
            raise ValueError("rollback_to plateau without two parts; allowed: flat, or steps to go back to")
        if self.env == "shadow" and (self.drills or any(part.drills for part in self.parts)):
            raise ValueError("drills in env shadow; allowed: on testnet and live, where a grant is held")
        return self

    def at(self, number: int) -> Stage:
        """The stage as it is in its part of that number, counted from 0; itself where it has no parts."""
        if not self.parts:
            return self
        part = self.parts[number]
        named = ("lasts_s", "symbols", "inventory_max_quote", "total_max_quote", "criteria")
        changes: dict[str, Any] = {name: getattr(part, name) for name in named if getattr(part, name) is not None}
        merged = {name: {**self.overrides.get(name, {}), **own} for name, own in part.overrides.items()}
        changes |= {"overrides": {**self.overrides, **merged}, "drills": part.drills or self.drills * (number == 0)}
        if number < self.part_count - 1:
            changes["exit_sign_offs"] = part.exit_sign_offs
        return self.model_copy(update=changes)

    @property
    def part_count(self) -> int:
        """How many parts are watched one after the other; 1 where none are named."""
        return max(1, len(self.parts))

    @property
    def sizes(self) -> tuple[Size, ...]:
        """What each part amounts to, in order."""
        each = [(self.part_name(number), self.at(number)) for number in range(self.part_count)]
        return tuple(
            Size(
                name=name,
                inventory_max_quote=one.inventory_max_quote,
                symbols_count=len(one.symbols),
                lasts_s=one.lasts_s,
            )
            for name, one in each
        )

    def part_name(self, number: int) -> str:
        """The id of that part; empty where the stage has none."""
        return self.parts[number].id if self.parts else ""

    @property
    def largest(self) -> tuple[Decimal, Decimal]:
        """(per symbol, total): the largest sizes of all parts, quote. The bot is launched for them; the grant of each
        part allows that part's."""
        each = [self.at(number) for number in range(self.part_count)]
        return max(one.inventory_max_quote for one in each), max(one.total_max_quote for one in each)


KEPT: Final = "kept"
"""The context in which a plan is read that a record keeps: to close what runs by it, never to begin anything."""


class Plan(_Part):
    """The whole plan. `venue` simulated: mode live with loopback host overrides, new account for every rollout.

    `measure_every_s` is the guard's round; `stale_after_s` the greatest age of a scrape that is believed;
    `attempts_max` how often one digest may try a stage. `max_age_s`: how old the preflight that people signed over may
    be at the launch (past it no launch is accepted, and a stage that waits for one is parked), and how old an earlier
    stage's promotion may be. `blind_share`: how much of a watch may go unseen through no fault of the candidate; it is
    prolonged by that at most, once, and parked past it; more than 0.05 is for the simulated venue. `incumbent_account`:
    where the version trades that is in production now; a rollout on it is refused. `promotion`: when may be promoted.
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
    blind_share: Annotated[Decimal, Field(gt=0, le=1)] = Decimal("0.05")
    max_age_s: Seconds = 30 * 86_400
    incumbent_account: Annotated[str, Field(min_length=1, max_length=61)] | None = None
    promotion: PromotionWindows = PromotionWindows()
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ids = [stage.id for stage in self.stages]
        if len(set(ids)) != len(ids):
            raise ValueError(f"stages {', '.join(ids)}; allowed: each id once")
        for stage in self.stages:
            if stage.env == "live" and self.venue != "simulated" and stage.checklist is None:
                raise ValueError(f"stage {stage.id} is live at {self.venue} without a checklist; allowed: one is named")
        if self.stale_after_s < 2 * self.scrape_every_s:
            raise ValueError(f"stale_after_s {self.stale_after_s:g}; allowed: at least two scrapes")
        for number, stage in enumerate(self.stages):
            if stage.id == "scale-up" and stage.parts:
                before = self.stages[number - 1].largest[0] if number else None
                if fault := step_fault(stage.sizes, before):
                    raise ValueError(f"stage {stage.id}: {fault}")
        return self

    @model_validator(mode="after")
    def _fit_for_its_venue(self, info: ValidationInfo) -> Self:
        """What is read as `KEPT` was agreed on under the rules of its time; by these it could not be closed."""
        if self.venue == "simulated" or info.context == KEPT:
            return self
        if self.blind_share > Decimal("0.05"):
            raise ValueError(f"blind_share {self.blind_share} at venue {self.venue}; allowed: at most 0.05")
        if self.attempts_max > ATTEMPTS_MAX:
            raise ValueError(f"attempts_max {self.attempts_max} at venue {self.venue}; allowed: at most {ATTEMPTS_MAX}")
        if fault := self._skips():
            raise ValueError(fault)
        if fault := live_fault(self.stages):
            raise ValueError(f"{fault} at venue {self.venue}")
        return self

    @property
    def late_s(self) -> float:
        """How long after the end of a grant an order that was sent under it may still reach the venue and stand."""
        return self.grant_ttl_s + self.recv_window_ms / 1000 + 2 * self.quote_interval_ms / 1000

    def _skips(self) -> str:
        """How the plan would get to money without having passed every stage before; empty where it does not."""
        for number, stage in enumerate(self.stages):
            env = "live" if stage.id not in ("shadow", "testnet") else stage.id
            if stage.env != env:
                return f"stage {stage.id}: env {stage.env} at venue {self.venue}; allowed: {env}"
            if stage.waive_predecessor:
                return f"stage {stage.id}: waive_predecessor at venue {self.venue}; allowed: on simulated alone"
            wanted, found = ROAD[: ROAD.index(stage.id)], tuple(one.id for one in self.stages[:number])
            if stage.env == "live" and found != wanted:
                allowed = ", ".join(wanted)
                return f"stage {stage.id}: after {', '.join(found) or 'none'} at venue {self.venue}; allowed: {allowed}"
        return ""

    def keyless(self, stage: Stage) -> bool:
        """Whether the stage needs no account at the venue: shadow on a real one's public market data."""
        return stage.env == "shadow" and self.venue != "simulated"

    def before(self, stage_id: str) -> tuple[str, ...]:
        """The ids of the stages before that one, in order."""
        ids = [stage.id for stage in self.stages]
        return tuple(ids[: ids.index(stage_id)]) if stage_id in ids else ()

    def sign_offs_end_s(self, stage: Stage) -> float:
        """How long sign-offs are waited for before the stage is parked. On live until they expire; before live, where
        waiting risks no money, until what would be signed is too old."""
        return stage.sign_off_expiry_s if stage.env == "live" else max(stage.sign_off_expiry_s, self.max_age_s)

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
    plan = YamlFile(path, PlanError).read(Plan)
    if plan.venue != "simulated" and (fault := _loosens(plan)):
        raise PlanError(f"{path}: {fault} at venue {plan.venue}")
    return plan


def _loosens(plan: Plan) -> str:
    """Which override of a live stage is looser than the criteria's file; empty where none is. Not for the schema: what
    a record keeps of a plan must load without the files."""
    for stage in (one for whole in plan.stages if whole.env == "live" for one in each_part(whole)):
        if stage.criteria is None or not stage.overrides:
            continue
        try:
            files, ours = load_criteria(under_root(stage.criteria)), criteria_of(stage)
        except CriteriaError:
            continue  # whoever loads the criteria is told; nothing runs without them
        for base, changed in zip(files, ours, strict=True):
            if fault := loosened(base, changed):
                return f"stage {stage.id}: override {fault}"
    return ""


def under_root(path: Path, root: Path = ROOT) -> Path:
    """A plan's path, below `root` unless it is absolute."""
    return path if path.is_absolute() else root / path


def stage_criteria(plan: Plan, stage_id: str, root: Path = ROOT) -> tuple[Criterion, ...]:
    """The criteria of a stage that can run, with the plan's numbers set over them. Raises PlanError, CriteriaError."""
    return criteria_of(plan.stage(stage_id).at(0), root)


def criteria_of(stage: Stage, root: Path = ROOT) -> tuple[Criterion, ...]:
    """The criteria that a stage names, whether it can run or not; none where it names none. Raises CriteriaError."""
    return load_criteria(under_root(stage.criteria, root), stage.overrides) if stage.criteria is not None else ()


def criteria_files(plan: Plan) -> tuple[Path, ...]:
    """Every criteria file that a stage or a part of one names, each once, as the plan writes it."""
    found = [one.criteria for stage in plan.stages for one in each_part(stage) if one.criteria is not None]
    return tuple(dict.fromkeys(found))


def checklist_files(plan: Plan) -> tuple[Path, ...]:
    """Every checklist that a stage names, each once, as the plan writes it."""
    return tuple(dict.fromkeys(stage.checklist for stage in plan.stages if stage.checklist is not None))


def attested_items(plan: Plan, root: Path = ROOT) -> tuple[Item, ...]:
    """What people have to attest for any stage of the plan, each once. Raises CriteriaError."""
    items = {one.id: one for stage in plan.stages for one in checklist_of(stage, root).attestations}
    return tuple(items.values())


def each_part(stage: Stage) -> tuple[Stage, ...]:
    """The stage as it is in each of its parts, in order."""
    return tuple(stage.at(number) for number in range(stage.part_count))


def checklist_of(stage: Stage, root: Path = ROOT) -> Checklist:
    """What the stage's checklist asks; empty where it names none. Raises CriteriaError."""
    return Checklist() if stage.checklist is None else load_checklist(under_root(stage.checklist, root))


def cannot_be_measured(stage: Stage, root: Path = ROOT) -> tuple[NotYet, ...]:
    """The criteria of any part of the stage, and the items of its checklist, that cannot be measured yet, each once.

    Raises CriteriaError.
    """
    paths = dict.fromkeys(one.criteria for one in each_part(stage) if one.criteria is not None)
    criteria = [one for path in paths for one in not_yet_measurable(under_root(path, root))]
    return tuple({one.id: one for one in (*criteria, *checklist_of(stage, root).not_yet)}.values())


def plan_digest(plan: Plan, root: Path = ROOT) -> str:
    """SHA-256 (hex) over the plan and its criteria, checklists, settings and approvers files, as canonical JSON.

    Comments and layout of the files do not count. Raises PlanError or CriteriaError where one of them cannot be read.
    """
    contents: dict[str, Any] = {}
    for path in criteria_files(plan):
        contents |= _contents(path, [file for file, _ in files_of(under_root(path, root))])
    for path in checklist_files(plan):
        contents |= _contents(path, load_checklist(under_root(path, root)).files)
    for path in (plan.approvers, plan.settings):
        contents |= _contents(path, [YamlFile(under_root(path, root), PlanError)])
    return _digest({"plan": plan.model_dump(mode="json"), "files": contents})


def _contents(path: Path, files: Iterable[YamlFile]) -> dict[str, Any]:
    """What the files say that belong to `path`, by their own paths as the plan would write them."""
    return {(path.parent / file.path.name).as_posix(): file.content for file in files}


def candidate_digest(code_version: str, settings_digest: str, plan_digest_hex: str, nonce: str) -> str:
    """SHA-256 (hex) of a candidate. `nonce` makes each demo run on the simulated venue a candidate of its own."""
    return _digest({"code": code_version, "settings": settings_digest, "plan": plan_digest_hex, "nonce": nonce})


def _digest(content: Any) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()
