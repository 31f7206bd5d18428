"""Where a rollout stands, by its record alone, and which of the matrix's steps that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine, text

from tasks.record import FINAL_STEPS
from tasks.rollback import STEPS as ROLLBACK_STEPS
from tasks.supervise.identity import Identity

_RUN = text(
    "SELECT s.id, s.account, s.step, s.pid, s.pid_started_ticks, coalesce(g.epoch, 0) AS epoch FROM stage_run s"
    ' LEFT JOIN "grant" g ON g.account = s.account WHERE s.rollout = :rollout ORDER BY s.id DESC LIMIT 1'
)
_STEPS = text("SELECT number, state FROM rollback_step WHERE stage_run_id = :number")
_DRILLING = text("SELECT count(*) FROM drill WHERE stage_run_id = :number AND outcome = ''")
_JUDGING = text("SELECT count(*) FROM inbox WHERE account = :account AND kind = 'judge' AND state = 'waiting'")
_SIGNED = text("SELECT count(*) FROM sign_off WHERE stage_run_id = :number AND gate = 'exit' AND accepted")


@dataclass(frozen=True)
class Standing:
    """One read of the record. `closing`: number of a rollback step → its state."""

    number: int
    account: str
    step: str
    bot: Identity | None
    epoch: int
    closing: dict[int, str]
    is_drilling: bool
    is_judging: bool
    exit_signed: int

    @property
    def ended(self) -> bool:
        return self.step in FINAL_STEPS

    def shown(self) -> str:
        """In a few words, for the table."""
        closing = ", ".join(f"{ROLLBACK_STEPS[number]} {state}" for number, state in sorted(self.closing.items()))
        said = {
            f"epoch {self.epoch}": self.step == "launching",
            "a drill without its outcome": self.is_drilling,
            "a judgement asked for": self.is_judging and self.step == "watched",
            f"{self.exit_signed} of 2 exit sign-offs": self.step == "judged",
            closing: bool(closing),
        }
        return "; ".join([self.step, *(words for words, holds in said.items() if holds)])


def look(engine: Engine, rollout: str) -> Standing | None:
    """None before the rollout has a stage run."""
    with engine.connect() as connection:
        run = connection.execute(_RUN, {"rollout": rollout}).one_or_none()
        if run is None:
            return None
        of_run = {"number": run.id, "account": run.account}
        count: Callable[[Any], int] = lambda query: int(connection.execute(query, of_run).scalar_one())  # noqa: E731
        bot = None if run.pid is None else Identity(run.pid, run.pid_started_ticks)
        closing = {number: state for number, state in connection.execute(_STEPS, of_run)}
        drilling, judging, signed = count(_DRILLING) > 0, count(_JUDGING) > 0, count(_SIGNED)
    return Standing(run.id, run.account, run.step, bot, run.epoch, closing, drilling, judging, signed)


def _under_way(number: int) -> Callable[[Standing], bool]:
    def is_in(at: Standing) -> bool:
        return at.step == "rolling_back" and at.closing.get(number) in ("started", "failing")

    return is_in


_BUNDLE = ROLLBACK_STEPS.index("bundle")
MOMENTS: Final[dict[str, Callable[[Standing], bool]]] = {
    "preflight": lambda at: at.step == "preflight",
    # A fresh account has epoch 0: the first one is taken for the first grant, once the bot has said that it is ready.
    "launch": lambda at: at.step == "launching" and at.bot is not None and at.epoch == 0,
    "grant": lambda at: at.step == "launching" and at.epoch > 0,
    "watch": lambda at: at.step == "watch",
    "drill": lambda at: at.step == "drills" and at.is_drilling,
    "judge": lambda at: at.step == "watched" and at.is_judging,
    "sign-off": lambda at: at.step == "judged" and at.exit_signed == 1,
    "promote": lambda at: at.step == "promoting" and ROLLBACK_STEPS.index("stop_bot") not in at.closing,
    **{name: _under_way(number) for number, name in enumerate(ROLLBACK_STEPS)},
    # What is told is told in one go with the end: between the proven bundle and the end that is what is left to do.
    "tell": lambda at: at.step == "rolling_back" and at.closing.get(_BUNDLE) == "verified",
}
