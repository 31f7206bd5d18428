"""Checklists: what must hold before a grant. The schema of `configs/checklists/*.yaml`, and who still has to say what.

An item is a criterion of phase `preflight`: a check that the system makes itself, a drill that this candidate has
passed, or an attestation, which is what a person says with a file of evidence. What is wanted and cannot be had yet
stands under `not_yet_measurable`: `gates lint` lists it, and no stage that has one starts on live.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gates.approvers import Person, Signature, SignOffs, signed_off
from gates.bands import Band
from gates.criteria import CriteriaError, Criterion, Fault, NotYet, Seconds, Source, Unit
from gates.parts import DrillName
from gates.yaml_file import Including, YamlFile, with_included

DRILLED: Final = "drill_passed"
ATTESTED: Final = "attested"
DAY_S: Final = 86_400

ALWAYS: Final[Mapping[str, str]] = {
    "preflight_clock": "The venue answers, and its clock agrees with ours.",
    "preflight_key": "The venue key reads and trades, and cannot withdraw.",
    "preflight_ip": "The venue key is bound to addresses.",
    "preflight_expiry": "The venue key lasts long enough.",
    "preflight_age": "Venue key and saved secret are not too old.",
    "preflight_margin": "The account's margin mode is what the settings assume.",
    "preflight_one_way": "Each symbol has one position, not two.",
    "preflight_fees": "The venue's fees are those that the settings assume.",
    "preflight_symbols": "Every symbol trades, and its filters are known.",
    "preflight_no_orders": "No order of anybody stands on the account.",
    "preflight_flat": "The account is flat.",
    "preflight_loss_room": "What the account lost in its earlier runs leaves the next one room.",
    "preflight_prometheus": "Prometheus is ready and new enough.",
    "preflight_scraping": "Prometheus scrapes the guard.",
    "preflight_disk": "There is room on the disk.",
    "preflight_plan": "Plan, criteria and checklists have no fault.",
    "preflight_queries": "Prometheus takes every query.",
    "preflight_window": "Orders expire within the plan's receive window.",
    "preflight_candidate": "Code, settings and plan are the candidate's.",
}
"""Made before every grant, whether a checklist names them or not."""

ON_THE_LIST: Final[Mapping[str, str]] = {
    "preflight_order_size": "One quote of the settings passes the venue's filters for size and value, with its pad.",
    "preflight_switches": "The bot would start with safe_mode and two_man_rule on, kill caps set, APPROVE_TOKEN given.",
    "preflight_tokens": "The account's tokens are long, and no two are the same.",
    "preflight_enrolled": "Everybody who may sign has a one-time code.",
    "preflight_record": "The account's chain of the record holds from its first link to its last.",
    "preflight_notices": "Notices go to Slack: its webhook is set.",
    "preflight_work_tree": "The code is what is committed: git names no change and no stray file.",
}
"""Made where a checklist names them."""

PREFLIGHT_CHECKS: Final[Mapping[str, str]] = {**ALWAYS, **ON_THE_LIST}
"""Every check that an item may name, and what it says."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class DrillAsked(_Part):
    """The drill `name`, passed by the same candidate in `stage`, at most `max_age_s` ago."""

    name: DrillName
    stage: Literal["testnet", "canary", "soak", "scale-up"] = "testnet"
    max_age_s: Seconds = 30 * DAY_S


class Attestation(_Part):
    """Who must say so, as sign-offs are asked for, and how long ago at most. The candidate's author says nothing."""

    by: SignOffs = SignOffs(distinct_people=1)
    max_age_s: Seconds = 30 * DAY_S

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if self.by.people_count < 1:
            raise ValueError("by asks for nobody; allowed: at least one person")
        return self


class Item(Criterion):
    """One item, a criterion whose value is 1 where it holds. Without `drill` and `attestation` the check is its id."""

    source: Source = "check"
    unit: Unit = "flag"
    go: Band | None = Band("== 1")
    phase: Literal["preflight"] = "preflight"
    severity: Literal["critical"] = "critical"
    unknown_deadline_s: Seconds = 60
    on_no_go: Fault = "environment"
    drill: DrillAsked | None = None
    attestation: Attestation | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_kind(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        kinds = [name for name in ("check", "drill", "attestation") if values.get(name) is not None]
        if len(kinds) > 1:
            raise ValueError(f"{' and '.join(kinds)}; allowed: one of check, drill and attestation")
        given = {"drill": DRILLED, "attestation": ATTESTED}.get(kinds[0] if kinds else "", values.get("id"))
        return {**values, "check": given} if "check" not in kinds else values

    @model_validator(mode="after")
    def _names_what_it_asks(self) -> Self:
        # Such an item would look like a gate and be one that nothing can pass: no drill or person is named in it.
        if self.check == DRILLED and self.drill is None:
            raise ValueError(f"{self.id}: check {DRILLED} without a drill; allowed: `drill:` with the name of one")
        if self.check == ATTESTED and self.attestation is None:
            raise ValueError(f"{self.id}: check {ATTESTED} without an attestation; allowed: `attestation:` with who")
        return self


class ChecklistFile(Including):
    """The whole file: `items` in the order they are shown; those of the file `include`d beside it come first."""

    items: Annotated[tuple[Item, ...], Field(min_length=1)]
    not_yet_measurable: tuple[NotYet, ...] = ()


class Checklist(NamedTuple):
    """A file and those that it includes, as one."""

    items: tuple[Item, ...] = ()
    not_yet: tuple[NotYet, ...] = ()
    files: tuple[YamlFile, ...] = ()

    @property
    def attestations(self) -> tuple[Item, ...]:
        """What people have to say."""
        return tuple(one for one in self.items if one.attestation is not None)

    def item(self, name: str) -> Item | None:
        """The item of that id; None where there is none."""
        return next((one for one in self.items if one.id == name), None)


def load_checklist(path: Path) -> Checklist:
    """The checklist in `path`. Raises CriteriaError with one line: file, line, thing, value, what is allowed."""
    chain = with_included(path, ChecklistFile, CriteriaError)
    items: dict[str, Item] = {}
    for file, whole in chain:
        for at, one in enumerate(whole.items):
            line = file.line(("items", at, "id"))
            if one.id in items:
                raise CriteriaError(f"{file.path}:{line}: the id {one.id!r} stands twice; allowed: once")
            if one.check not in (DRILLED, ATTESTED, *PREFLIGHT_CHECKS):
                allowed = ", ".join(PREFLIGHT_CHECKS)
                raise CriteriaError(f"{file.path}:{line}: unknown check {one.check!r}; allowed: {allowed}")
            items[one.id] = one
    not_yet = tuple(one for _, whole in chain for one in whole.not_yet_measurable)
    return Checklist(tuple(items.values()), not_yet, tuple(file for file, _ in chain))


def is_checklist(path: Path) -> bool:
    """Whether the file says of itself that it is a checklist, and no file of criteria. Raises CriteriaError."""
    content = YamlFile(path, CriteriaError).content
    return isinstance(content, dict) and "items" in content


# ---- what people have said ------------------------------------------------------------------------------------------


class Said(NamedTuple):
    """One accepted attestation. `candidate`: the digest it is bound to. `intact`: its evidence is what it was then."""

    item: str
    person: str
    candidate: str
    at: datetime
    intact: bool = True


def unattested(
    item: Item, people: Sequence[Person], said: Iterable[Said], candidate: str, author: str, now: datetime
) -> tuple[str, ...]:
    """Why the item is not attested, in words, each a reason; none where it is.

    What is bound to another candidate, too old, or whose evidence was changed counts for nothing, and is named.
    """
    asked = item.attestation
    if asked is None:
        return (f"{item.id} is no attestation",)
    newest: dict[str, Said] = {}
    for one in sorted(said, key=lambda row: (row.candidate == candidate, row.at)):
        if one.item == item.id:
            newest[one.person] = one  # what is bound to this candidate goes before what is not, however new
    faults = {name: _void(one, candidate, asked.max_age_s, now) for name, one in newest.items()}
    good = [Signature(name, "GO") for name, fault in faults.items() if not fault]
    quorum = signed_off(asked.by, people, good, author)
    if quorum.complete:
        return ()
    void = [f"{name}'s {fault}" for name, fault in faults.items() if fault]
    return (f"missing {', '.join(quorum.missing)}", *void)


def _void(said: Said, candidate: str, max_age_s: float, now: datetime) -> str:
    """Why it counts for nothing, in words; empty where it counts."""
    if said.candidate != candidate:
        return f"is for candidate {said.candidate[:12]}, this is {candidate[:12]}"
    if not said.intact:
        return "evidence is not the file that was attested"
    age_s = (now - said.at).total_seconds()
    if age_s > max_age_s:
        return f"is {age_s / DAY_S:.1f} d old, allowed: at most {max_age_s / DAY_S:g} d"
    return ""
