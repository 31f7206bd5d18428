"""Which unfinished stage run a new run of a deployment continues."""

from __future__ import annotations

from tasks.record import Record
from tasks.record_tables import StageRun
from tasks.state_folder import StateFolder


def continued_run(
    record: Record, folder: StateFolder, stage: str, plan_name: str, rollout: str | None
) -> StageRun | None:
    """The open attempt of the named rollout, else the newest unfinished one of that stage and plan.

    One whose account has no file any more (its simulated venue is gone) is not continued: nobody could trade on it.
    """
    named = rollout is not None
    found = record.open_stage_run(str(rollout), stage) if named else record.newest_unfinished(stage, plan_name)
    if found is None or not (folder.accounts / f"{found.account}.json").exists():
        return None
    return found
