"""What a criterion says, and how a file of them is read. The schema of `configs/criteria/*.yaml`.

A criterion is a number with a source, two bands and a fault. Nothing here measures or judges. A criterion that could
never fail, or whose failure to be measured would never matter, does not load: see also `gates.lint`.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from gates.bands import EVERYTHING, INFINITY, Band, Interval, meet, rest
from gates.yaml_file import Including, YamlFile, with_included

Fault = Literal["candidate", "environment", "people"]
"""Why something ended. Only `candidate` burns the digest."""

Source = Literal["promql", "table", "check"]
Severity = Literal["critical", "advisory"]
Phase = Literal["preflight", "guard", "final", "kpi"]
Reduce = Literal["one", "each", "worst", "sum"]
Unit = Literal["count", "ratio", "share", "flag", "seconds", "ms", "bytes", "percent", "bps", "quote"]

_FROM_ZERO: Final = (Interval(Decimal(0), True, INFINITY, False),)
_ZERO_TO_ONE: Final = (Interval(Decimal(0), True, Decimal(1), True),)
DOMAINS: Final[Mapping[Unit, tuple[Interval, ...]]] = {
    "count": _FROM_ZERO,
    "ratio": _FROM_ZERO,
    "share": _ZERO_TO_ONE,
    "flag": _ZERO_TO_ONE,
    "seconds": _FROM_ZERO,
    "ms": _FROM_ZERO,
    "bytes": _FROM_ZERO,
    "percent": EVERYTHING,
    "bps": EVERYTHING,
    "quote": EVERYTHING,
}
"""The values each unit can take: what makes "this can never fail" decidable."""

Seconds = Annotated[float, Field(gt=0, le=366 * 86_400, allow_inf_nan=False)]
SecondsOrNone = Annotated[float, Field(ge=0, le=366 * 86_400, allow_inf_nan=False)]


class CriteriaError(Exception):
    """A criteria file that cannot be used. The message is one line for a person."""


class Criterion(BaseModel):
    """One thing that must hold.

    `query` is PromQL (source promql) or a sum of journal totals or one SELECT (source table); `check` names a function
    of `gates.sources.checks`, or `great_expectations` (source table). `go` and `no_go` are bands in `unit`; where one
    is given, the rest is the other. `every_s` how often; `window_s` the span a windowed query looks back over, `null`
    the whole stage so far; `for_s` how long a FAIL must last before a guard acts on it; `min_coverage` the share of
    the expected scrapes that must be there; `unknown_deadline_s` how long it may stay UNKNOWN. `on_no_go` says whose
    fault a FAIL is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{2,63}$")]
    title: Annotated[str, Field(min_length=3, max_length=120)]
    source: Source
    query: Annotated[str, Field(min_length=1)] | None = None
    check: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] | None = None
    unit: Unit
    go: Band | None = None
    no_go: Band | None = None
    severity: Severity = "critical"
    phase: Phase
    every_s: Seconds = 1.0
    window_s: Seconds | None = None
    for_s: SecondsOrNone = 0.0
    min_coverage: Annotated[Decimal, Field(ge=0, le=1)] = Decimal("0.9")
    unknown_deadline_s: Seconds
    why: Annotated[str, Field(min_length=10)]
    reduce: Reduce = "one"
    on_no_go: Fault = "candidate"

    @field_validator("query")
    @classmethod
    def _one_line(cls, query: str | None) -> str | None:
        return None if query is None else " ".join(query.split())

    @model_validator(mode="after")
    def _source_fits(self) -> Self:
        given = [name for name in ("query", "check") if getattr(self, name) is not None]
        wanted = {"promql": ["query"], "check": ["check"]}.get(self.source)
        if wanted is not None and given != wanted:
            raise ValueError(
                f"source {self.source} with {' and '.join(given) or 'neither'}; allowed: {wanted[0]} alone"
            )
        if len(given) != 1:
            raise ValueError("source table with both or neither of query and check; allowed: exactly one")
        if self.source == "table" and self.check not in {None, "great_expectations"}:
            raise ValueError(f"source table with check {self.check!r}; allowed: great_expectations")
        return self

    @model_validator(mode="after")
    def _can_fail_and_pass(self) -> Self:
        if self.go is None and self.no_go is None:
            raise ValueError("neither go nor no_go is given: it cannot fail; allowed: at least one band")
        if self.go is not None and self.no_go is not None and meet(self.go.intervals, self.no_go.intervals):
            raise ValueError(f"go '{self.go}' and no_go '{self.no_go}' overlap; allowed: bands apart")
        domain = DOMAINS[self.unit]
        if not meet(self.fails, domain):
            raise ValueError(f"{self.limit} can never FAIL: no {self.unit} lies there; allowed: a band it can reach")
        if not meet(self.passes, domain):
            raise ValueError(f"{self.limit} can never PASS: no {self.unit} lies there; allowed: a band it can reach")
        return self

    @property
    def passes(self) -> tuple[Interval, ...]:
        """The values that are go."""
        return self.go.intervals if self.go is not None else rest(self.no_go.intervals if self.no_go else ())

    @property
    def fails(self) -> tuple[Interval, ...]:
        """The values that are no-go."""
        return self.no_go.intervals if self.no_go is not None else rest(self.go.intervals if self.go else ())

    @property
    def limit(self) -> str:
        """The bands in words, as they are shown beside a value."""
        words = [f"go {self.go}"] if self.go is not None else []
        return ", ".join([*words, f"no-go {self.no_go}"] if self.no_go is not None else words)

    @property
    def windowed(self) -> bool:
        """Whether the query looks back over a span, so that coverage must be known."""
        return self.source == "promql" and "$window" in (self.query or "")


class NotYet(BaseModel):
    """A criterion that is wanted and cannot be measured yet: named, so that it is never silently left out.

    `limit` as people say it, `needs` what is missing. `gates lint` lists it, and no stage that has one starts on live.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{2,63}$")]
    title: Annotated[str, Field(min_length=3, max_length=120)]
    limit: Annotated[str, Field(min_length=1, max_length=120)]
    needs: Annotated[str, Field(min_length=5)]


class CriteriaFile(Including):
    """The whole file: `criteria`, in the order that decides ties; those of the file `include`d beside it come first."""

    criteria: Annotated[tuple[Criterion, ...], Field(min_length=1)]
    not_yet_measurable: tuple[NotYet, ...] = ()


OVERRIDABLE: Final = (
    "go",
    "no_go",
    "every_s",
    "window_s",
    "for_s",
    "min_coverage",
    "unknown_deadline_s",
)
"""What a plan may set otherwise for its own durations: numbers, never what is measured, how severe, or whose fault."""

EVERY_CRITERION: Final = "*"

Overrides = Mapping[str, Mapping[str, Any]]


def load_criteria(path: Path, overrides: Overrides | None = None) -> tuple[Criterion, ...]:
    """The criteria of the file and of those it includes, in order, with a plan's `overrides` set over them.

    Overrides go by criterion id; those under `*` are for every criterion, and its own go over them.
    Raises CriteriaError with one line: file, line, the thing, its value, what is allowed.
    """
    criteria: dict[str, Criterion] = {}
    for file, whole in files_of(path):
        for at, one in enumerate(whole.criteria):
            if one.id in criteria:
                line = file.line(("criteria", at, "id"))
                raise CriteriaError(f"{file.path}:{line}: the id {one.id!r} stands twice; allowed: once")
            criteria[one.id] = one
    given = dict(overrides or {})
    for_all = given.pop(EVERY_CRITERION, {})
    for name in given:
        if name not in criteria:
            allowed = ", ".join([EVERY_CRITERION, *criteria])
            raise CriteriaError(f"{path}: override of unknown criterion {name!r}; allowed: {allowed}")
    return tuple(overridden(one, {**for_all, **given.get(one.id, {})}, path) for one in criteria.values())


def files_of(path: Path) -> list[tuple[YamlFile, CriteriaFile]]:
    """The file and those it includes, the innermost first, for whoever looks at files. Raises CriteriaError."""
    return with_included(path, CriteriaFile, CriteriaError)


def not_yet_measurable(path: Path) -> tuple[NotYet, ...]:
    """What the file and those it includes name as not measurable yet, in order. Raises CriteriaError."""
    return tuple(one for _, whole in files_of(path) for one in whole.not_yet_measurable)


def overridden(criterion: Criterion, changes: Mapping[str, Any], path: Path) -> Criterion:
    """`criterion` with a plan's own numbers, checked by the same schema. Raises CriteriaError."""
    for key in changes:
        if key not in OVERRIDABLE:
            allowed = ", ".join(OVERRIDABLE)
            raise CriteriaError(f"{path}: override {criterion.id}.{key}: not a number of a plan; allowed: {allowed}")
    if not changes:
        return criterion
    try:
        return Criterion.model_validate({**criterion.model_dump(), **changes})
    except ValidationError as failure:
        fault = failure.errors(include_url=False)[0]
        where = ".".join([criterion.id, *(str(part) for part in fault["loc"])])
        raise CriteriaError(f"{path}: override {where}: {fault['msg'].removeprefix('Value error, ')}") from None
