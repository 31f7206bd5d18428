"""What the tests of every desk need that takes one-time codes: a record, enrolled people and their codes."""

from __future__ import annotations

from pathlib import Path

from sqlmodel import SQLModel

from gates.approvers import Approvers
from tasks.record import Record
from tasks.record_engine import open_engine
from tasks.record_tables import Rollout, StageRun
from tasks.record_writer import RecordWriter
from tasks.sign_off import Seeds, current_code, enroll_demo

NOW_S = 1_700_000_010.0
"""When the desks are asked; codes are of that time."""


class Desk:
    """Over a record of its own, with enrolled `approvers`."""

    def __init__(self, folder: Path, approvers: Approvers) -> None:
        engine = open_engine(f"sqlite:///{folder}/rollout.db")
        SQLModel.metadata.create_all(engine)
        self.record = RecordWriter(Record(engine), "a")
        self.seeds = folder / "seeds.json"
        enroll_demo(self.seeds, approvers, "simulated")
        self.known = Seeds(self.seeds)

    def code(self, person: str, back_s: float = 0.0) -> str:
        return current_code(self.seeds, person, "simulated", NOW_S - back_s)

    def stage_run(self) -> int:
        """A canary of a rollout by `linus`; its number."""
        words = ("plan_name", "plan_path", "plan_digest", "code_version", "settings_digest", "nonce", "requested_by")
        named = {"name": "r", "account": "a", "candidate": "c", "author": "linus"}
        self.record.add_rollout(Rollout.model_validate({**named, **dict.fromkeys(words, "x")}))
        run = StageRun(rollout="r", account="a", stage="canary", attempt=1, step="ready", candidate="c", plan_path="/p")
        return self.record.add_stage_run(run).id or 0
