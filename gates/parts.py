"""The parts of a stage: a testnet's smoke and its unbroken run, the steps of a scale-up. Pure.

Between two parts the bot goes on running; what a part sets otherwise than its stage holds from its begin. A step is at
most 20 % larger than the one before it, and stays under the ceilings of the days it runs in.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from gates.approvers import SignOffs
from gates.criteria import Seconds

Quote = Annotated[Decimal, Field(gt=0, le=Decimal("10000000"), allow_inf_nan=False)]
Symbol = Annotated[str, Field(pattern=r"^[A-Z0-9]{5,20}$")]
Symbols = Annotated[tuple[Symbol, ...], Field(min_length=1)]
DrillName = Literal["freeze", "maker-policy", "kill-switch", "restart", "orphan", "stream-loss", "alert", "backup"]

STEP_MAX: Final = Decimal("1.2")
"""How many times the size before it a step may have."""
DAY_S: Final = 86_400


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Drill(_Part):
    """A planned fault, made before the part's watch begins, so that nothing of it counts in what is judged.

    `trips`: criteria of the stage that must FAIL within `window_s` of it; a drill that does not trip them has shown
    that a fault of that kind would not be seen. Those of phase guard end no stage meanwhile, and must PASS again within
    the window, without what the drill made them count.
    """

    name: DrillName
    trips: Annotated[tuple[str, ...], Field(min_length=1)]
    window_s: Seconds = 30


class Part(_Part):
    """What is None is as the stage says. `exit_sign_offs`: who lets the rollout into the next part; none is asked
    where it is not given. The last part is left by the stage's own."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,30}$")]
    lasts_s: Seconds | None = None
    symbols: Symbols | None = None
    inventory_max_quote: Quote | None = None
    total_max_quote: Quote | None = None
    criteria: Path | None = None
    overrides: dict[str, dict[str, Any]] = Field(default_factory=dict)
    drills: tuple[Drill, ...] = ()
    exit_sign_offs: SignOffs = SignOffs()


class Ceiling(_Part):
    """From that day of the stage on (0 is its first) a symbol may hold so much, on at most so many symbols."""

    from_day: Annotated[int, Field(ge=0, le=3660)]
    inventory_max_quote: Quote
    symbols_max: Annotated[int, Field(ge=1, le=50)]


class Size(BaseModel):
    """What a part of a stage amounts to: quote per symbol, on how many symbols, for how long."""

    model_config = ConfigDict(frozen=True)

    name: str
    inventory_max_quote: Decimal
    symbols_count: int
    lasts_s: float


def step_fault(sizes: Sequence[Size], before: Decimal | None) -> str:
    """Why a step is too large, in words; empty where each is at most 20 % above the one before it.

    `before`: the size per symbol that the stage before had; None where there is none.
    """
    for size in sizes:
        if before is not None and size.inventory_max_quote > before * STEP_MAX:
            allowed = f"at most 20 % above {before:f}"
            return f"step {size.name}: inventory_max_quote {size.inventory_max_quote:f}; allowed: {allowed}"
        before = size.inventory_max_quote
    return ""


def ceiling_at(ceilings: Sequence[Ceiling], day: int) -> Ceiling | None:
    """The one that holds on that day of the stage; None where none does yet."""
    held = [one for one in ceilings if one.from_day <= day]
    return max(held, key=lambda one: one.from_day) if held else None


def ceiling_fault(sizes: Sequence[Size], ceilings: Sequence[Ceiling]) -> str:
    """Why a step stands above a ceiling of the day on which it begins, in words; empty where none does."""
    begins_s = 0.0
    for size in sizes:
        day = int(begins_s // DAY_S)
        begins_s += size.lasts_s
        ceiling = ceiling_at(ceilings, day)
        if ceiling is None:
            continue
        if size.inventory_max_quote > ceiling.inventory_max_quote:
            allowed = f"at most {ceiling.inventory_max_quote:f} on day {day}"
            return f"step {size.name}: inventory_max_quote {size.inventory_max_quote:f}; allowed: {allowed}"
        if size.symbols_count > ceiling.symbols_max:
            return (
                f"step {size.name}: {size.symbols_count} symbols; allowed: at most {ceiling.symbols_max} on day {day}"
            )
    return ""
