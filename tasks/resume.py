"""Which unfinished stage run a new run of a deployment continues, and as what a parked one is begun again."""

from __future__ import annotations

from tasks.record import FINAL_STEPS, Record
from tasks.record_tables import StageRun
from tasks.state_folder import StateFolder, read_json
from tasks.supervise.table import TableDamaged, read_table


class CannotResume(Exception):
    """A rollout that is known and cannot be begun again as it was. One line for people."""


def continued_run(
    record: Record, folder: StateFolder, stage: str, plan_name: str, rollout: str | None, account: str | None = None
) -> StageRun | None:
    """The open attempt of the named rollout, else the newest unfinished one of that stage and plan; on that account
    alone, where one is given.

    One whose account has no file any more (its simulated venue is gone) is not continued: nobody could trade on it.
    """
    named = rollout is not None
    found = record.open_stage_run(str(rollout), stage) if named else record.newest_unfinished(stage, plan_name, account)
    if found is None or account not in (None, found.account):
        return None
    if not (folder.accounts / f"{found.account}.json").exists():
        return None
    return found


def unfinished_rollout(record: Record, folder: StateFolder, plan_name: str, account: str | None = None) -> str | None:
    """The newest rollout of that plan that has a stage under way on an account that is still there, and that one where
    one is given."""
    for one in record.unfinished(plan_name):
        if account in (None, one.account) and (folder.accounts / f"{one.account}.json").exists():
            return one.name
    return None


def open_run(
    record: Record, folder: StateFolder, stage: str, plan_name: str, rollout: str | None, account: str | None = None
) -> StageRun | None:
    """The stage run that a run of a deployment is busy with: for `full` whichever is open of its rollout."""
    if stage != "full":
        return continued_run(record, folder, stage, plan_name, rollout, account)
    name = rollout or unfinished_rollout(record, folder, plan_name, account)
    runs = [] if name is None else [run for run in record.stage_runs(rollout=name) if run.step not in FINAL_STEPS]
    return runs[-1] if runs else None


def resumed(record: Record, folder: StateFolder, name: str, account: str | None) -> tuple[str, str] | None:
    """(account, nonce) under which a known rollout is begun again; None for one that is not known.

    Another nonce would be another candidate, and another account one that its stages have not been judged on. The
    account's file is put back where it was retired and its simulated venue is still the one that runs. Raises
    CannotResume.
    """
    known = record.rollout(name)
    if known is None:
        return None
    if account is not None and account != known.account:
        raise CannotResume(f"account: {account}; rollout {name} is on {known.account}, allowed: that one, or none")
    if not (folder.accounts / f"{known.account}.json").exists():
        _put_back(folder, name, known.account)
    return known.account, known.nonce


def _put_back(folder: StateFolder, name: str, account: str) -> None:
    retired = folder.retired_accounts / f"{account}.json"
    try:
        table = read_table(folder.table)
    except TableDamaged as error:
        raise CannotResume(str(error)) from None
    here = table.endpoints.get("venue_rest_url") if table is not None else None
    content = read_json(retired)
    if content is None:
        raise CannotResume(f"rollout {name}: its account {account} has no file any more; allowed: a new rollout")
    if here is None or content.get("rest_url") != here:
        raise CannotResume(
            f"rollout {name}: its account {account} was on a simulated venue that is gone; allowed: a new rollout"
        )
    retired.replace(folder.accounts / retired.name)
