"""The matrix: every process × every step, and by rule how the rollout must end where that process dies there.

The rules, in the order in which they are asked:

1. Once a rollback has been decided, nothing that dies changes its end: it is proven and ends rolled back. Here the
   bot's own crossing quote is what decides it.
2. A dead bot is not resumed. Killed while it lives, before the rollback, it is the candidate's NO-GO: rolled back.
3. Before it is started and after it is proven gone there is no bot: the cell proves that none lives, and goes on.
4. The death of everything else is no verdict about the candidate: what starts next adopts, and the rollout goes on to
   its promotion. Prometheus and PostgreSQL are back within every deadline for what is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from tasks.rollback import STEPS as ROLLBACK_STEPS

Victim = Literal["flow", "worker", "server", "guard", "bot", "prometheus", "postgresql"]
Place = Literal["guard alone", "Prefect", "guard alone on PostgreSQL"]

VICTIMS: Final[tuple[Victim, ...]] = ("flow", "worker", "server", "guard", "bot", "prometheus", "postgresql")
FORWARD_STEPS: Final = ("preflight", "grant", "launch", "watch", "drill", "judge", "sign-off", "promote")
STEPS: Final = (*FORWARD_STEPS, *ROLLBACK_STEPS)

WITHOUT_BOT: Final = ("preflight", "flatten", "bundle", "tell")
"""Steps at which no bot lives: it is not started yet, or proven gone."""
PLACES: Final[dict[Victim, Place]] = {
    "flow": "Prefect",
    "worker": "Prefect",
    "server": "Prefect",
    "guard": "guard alone",
    "bot": "guard alone",
    "prometheus": "guard alone",
    "postgresql": "guard alone on PostgreSQL",
}
"""Where a cell of that victim is run. Where PostgreSQL dies it holds the record, elsewhere SQLite does."""


@dataclass(frozen=True)
class Ending:
    """`step` in which the stage run ends and the `reason` that the record must name; None: none is named."""

    step: Literal["promoted", "rolled_back"]
    reason: Literal["candidate"] | None
    why: str


@dataclass(frozen=True)
class Cell:
    """One victim at one step."""

    victim: Victim
    step: str

    @property
    def name(self) -> str:
        return f"{self.victim}@{self.step}"

    @property
    def place(self) -> Place:
        return PLACES[self.victim]

    @property
    def rolls_back(self) -> bool:
        """Whether its step is one of a rollback, which something must have begun."""
        return self.step in ROLLBACK_STEPS

    @property
    def has_victim(self) -> bool:
        """False where nothing can be killed, because no bot lives at that step."""
        return not (self.victim == "bot" and self.step in WITHOUT_BOT)

    @property
    def ending(self) -> Ending:
        if self.rolls_back:
            return Ending("rolled_back", "candidate", "the rollback that was decided is proven, whatever dies")
        if self.victim == "bot" and self.has_victim:
            return Ending("rolled_back", "candidate", "an undrilled death of the bot is the candidate's NO-GO")
        if self.victim == "bot":
            return Ending("promoted", None, "no bot lives here: nothing dies")
        return Ending("promoted", None, "adopted, and goes on")


def matrix() -> Iterator[Cell]:
    """Every cell, victim by victim, in the order of the course."""
    for victim in VICTIMS:
        for step in STEPS:
            yield Cell(victim, step)


def chosen(words: str) -> list[Cell]:
    """The cells that one of the comma-separated `words` names: a cell, a victim, a step, or a place; all without one.

    Raises ValueError for a word that names none, and says what is allowed.
    """
    wanted = [word.strip() for word in words.split(",") if word.strip()]
    cells = list(matrix())
    for word in wanted:
        if not any(word in _names(cell) for cell in cells):
            allowed = ", ".join((*VICTIMS, *STEPS, *dict.fromkeys(PLACES.values())))
            raise ValueError(f"cells {word!r}; allowed: VICTIM@STEP, or one of {allowed}")
    return [cell for cell in cells if not wanted or any(word in _names(cell) for word in wanted)]


def _names(cell: Cell) -> tuple[str, ...]:
    return (cell.name, cell.victim, cell.step, cell.place)
