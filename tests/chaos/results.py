"""What the cells' runs have come to, kept in a file of one line a run, so that a matrix that was stopped goes on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from bot.version import sources_digest
from tasks.state_folder import REPOSITORY
from tests.chaos.outcome import Outcome

FLOORS = ("bot", "gates", "tasks", "flows")


@dataclass(frozen=True)
class Result:
    """One run of a cell. `word`: as it should be | WRONG | missed | broke off. `code`: of the product that ran."""

    cell: str
    word: str
    ended: str
    decided_by: str
    at: str
    pids: list[int]
    wrong: list[str]
    took_s: float
    code: str

    @property
    def good(self) -> bool:
        return self.word == "as it should be"


def of_outcome(outcome: Outcome, code: str) -> Result:
    hit = outcome.hit
    at, pids = (outcome.missed, []) if hit is None else (hit.at, list(hit.pids))
    took_s, wrong = round(outcome.took_s, 1), outcome.wrong
    return Result(outcome.cell.name, outcome.word, outcome.ended, outcome.decided_by, at, pids, wrong, took_s, code)


def broke_off(cell: str, why: str, took_s: float, code: str) -> Result:
    """A run that gave no outcome at all: it is no pass, and says why."""
    return Result(cell, "broke off", "", "", "", [], [why], round(took_s, 1), code)


def read_results(path: Path) -> dict[str, Result]:
    """Cell → its newest run. Raises ValueError, with the line, where the file is not one of these."""
    found: dict[str, Result] = {}
    lines = path.read_text().splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            result = Result(**json.loads(line))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}:{number}: not a result of the matrix ({error}); allowed: what it wrote") from None
        found[result.cell] = result
    return found


def keep(path: Path, result: Result) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as out:
        out.write(json.dumps(asdict(result)) + "\n")


def product_code() -> str:
    """Twelve hex digits over every source of the product: what was changed since is run again."""
    return "-".join(sources_digest(REPOSITORY / floor)[:3] for floor in FLOORS)
