"""What a plan for a real venue must keep to, whatever else it says: who signs, how large, how long, how strict. Pure.

The simulated venue risks nothing, so a plan there may ask nobody and last seconds. Elsewhere these are the least and
the most; a plan may be more careful. Each fault is one line: the field, its value, what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from gates.approvers import SignOffs
from gates.bands import meet, rest
from gates.criteria import Criterion
from gates.parts import DAY_S, STEP_MAX, Ceiling, ceiling_at

if TYPE_CHECKING:
    from gates.stages import Stage

_ALL: Final = SignOffs(roles=("Quant Lead", "SRE Lead", "Risk Manager"), distinct_people=3)
_TWO: Final = SignOffs(roles=("Risk Manager",), distinct_people=2)
SIGNERS_MIN: Final[Mapping[str, SignOffs]] = {
    "shadow": SignOffs(distinct_people=1),
    "testnet": _ALL,
    "canary": _TWO,
    "soak": _ALL,
    "scale-up": _TWO,
}
"""Who signs at least out of a stage, which is into the next one; on a scale-up out of each step."""


class Bounds(NamedTuple):
    """Sizes at most, quote; so many symbols at most; watched at least, s."""

    inventory_max_quote: Decimal
    total_max_quote: Decimal
    symbols_max: int
    lasts_s_min: float


BOUNDS: Final[Mapping[str, Bounds]] = {
    "canary": Bounds(Decimal(500), Decimal(2000), 1, DAY_S),
    "soak": Bounds(Decimal(2000), Decimal(10_000), 3, 2 * DAY_S),
}
ATTEMPTS_MAX: Final = 3
PROLONG_SHARE_MAX: Final = Decimal("0.1")
STEP_LASTS_S_MIN: Final = 2 * DAY_S
CEILINGS: Final = (
    Ceiling(from_day=0, inventory_max_quote=Decimal(5000), symbols_max=1),
    Ceiling(from_day=7, inventory_max_quote=Decimal(10_000), symbols_max=3),
    Ceiling(from_day=14, inventory_max_quote=Decimal(50_000), symbols_max=10),
)
"""Of a scale-up, until MONTH_2_DAY; from then on the plan's own limits hold."""
MONTH_2_DAY: Final = 30


def live_fault(stages: Sequence[Stage]) -> str:
    """Why these stages, in order, may not run at a real venue; empty where they may."""
    for before, stage in zip((None, *stages), stages, strict=False):
        for fault in (*_signers(stage), *_bounds(stage), *_ends(stage), *_scale_up(stage, before)):
            return f"stage {stage.id}: {fault}"
    return ""


def loosened(base: Criterion, changed: Criterion) -> str:
    """Which of a criterion's numbers a plan sets looser than its file does, in one line; empty where none is.

    Tighter: what FAILs in the file still FAILs, what passes now passed there, it is looked at as often, with as much
    coverage, and neither a FAIL nor blindness is borne for longer. A window of another length is another measurement.
    """
    if meet(base.fails, rest(changed.fails)) or meet(changed.passes, rest(base.passes)):
        return f"{base.id}: {changed.limit}; allowed: no looser than {base.limit}"
    for name in ("every_s", "for_s", "unknown_deadline_s"):
        if getattr(changed, name) > getattr(base, name):
            return f"{base.id}.{name} {getattr(changed, name):g}; allowed: at most {getattr(base, name):g}"
    if changed.min_coverage < base.min_coverage:
        return f"{base.id}.min_coverage {changed.min_coverage}; allowed: at least {base.min_coverage}"
    if changed.window_s != base.window_s:
        return f"{base.id}.window_s {_span(changed.window_s)}; allowed: {_span(base.window_s)}"
    return ""


def _signers(stage: Stage) -> Iterator[str]:
    wanted = SIGNERS_MIN[stage.id]
    each = range(stage.part_count) if stage.id == "scale-up" else (stage.part_count - 1,)
    for number in each:
        found = stage.at(number).exit_sign_offs
        if found.people_count < wanted.people_count or not set(wanted.roles) <= set(found.roles):
            yield f"{_where(stage, number)}exit_sign_offs {_people(found)}; allowed: at least {_people(wanted)}"


def _bounds(stage: Stage) -> Iterator[str]:
    bounds = BOUNDS.get(stage.id)
    if bounds is None:
        return
    for number in range(stage.part_count):
        part, where = stage.at(number), _where(stage, number)
        for name in ("inventory_max_quote", "total_max_quote"):
            found, most = getattr(part, name), getattr(bounds, name)
            if found > most:
                yield f"{where}{name} {found:f}; allowed: at most {most}"
        if len(part.symbols) > bounds.symbols_max:
            yield f"{where}symbols {', '.join(part.symbols)}; allowed: at most {bounds.symbols_max}"
    longest_s = max(stage.at(number).lasts_s for number in range(stage.part_count))
    if longest_s < bounds.lasts_s_min:
        yield f"lasts_s {longest_s:g}; allowed: at least {bounds.lasts_s_min:g}"


def _ends(stage: Stage) -> Iterator[str]:
    if stage.env != "shadow" and not stage.flatten:
        yield "flatten false; allowed: true"
    if stage.prolong_share > PROLONG_SHARE_MAX:
        yield f"prolong_share {stage.prolong_share}; allowed: at most {PROLONG_SHARE_MAX}"


def _scale_up(stage: Stage, before: Stage | None) -> Iterator[str]:
    """Its sizes per symbol grow by at most a fifth, and stand under its own ceilings: that holds at every venue."""
    if stage.id != "scale-up":
        return
    if not stage.parts:
        yield "parts none; allowed: steps, each at most 20 % above the one before"
        return
    yield from _ceilings(stage.ceilings)
    total = None if before is None else before.largest[1]
    for number in range(stage.part_count):
        part, where = stage.at(number), _where(stage, number)
        if part.lasts_s < STEP_LASTS_S_MIN:
            yield f"{where}lasts_s {part.lasts_s:g}; allowed: at least {STEP_LASTS_S_MIN:g}"
        if total is not None and part.total_max_quote > total * STEP_MAX:
            yield f"{where}total_max_quote {part.total_max_quote:f}; allowed: at most 20 % above {total:f}"
        total = part.total_max_quote


def _ceilings(own: Sequence[Ceiling]) -> Iterator[str]:
    for day in sorted({one.from_day for one in (*own, *CEILINGS) if one.from_day < MONTH_2_DAY}):
        found, most = ceiling_at(own, day), ceiling_at(CEILINGS, day)
        if most is None:
            continue
        allowed = f"at most {most.inventory_max_quote} on {most.symbols_max} symbols on day {day}"
        if found is None:
            yield f"ceilings none on day {day}; allowed: {allowed}"
        elif found.inventory_max_quote > most.inventory_max_quote or found.symbols_max > most.symbols_max:
            yield f"ceilings {found.inventory_max_quote:f} on {found.symbols_max} symbols; allowed: {allowed}"


def _where(stage: Stage, number: int) -> str:
    return f"part {stage.part_name(number)}: " if stage.parts else ""


def _people(wanted: SignOffs) -> str:
    roles = f" with {', '.join(wanted.roles)}" if wanted.roles else ""
    return f"{wanted.people_count} {'person' if wanted.people_count == 1 else 'people'}{roles}"


def _span(window_s: float | None) -> str:
    return "the whole stage" if window_s is None else f"{window_s:g}"
