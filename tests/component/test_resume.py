"""Beginning a known rollout again: as the candidate it is, on the account it had, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlmodel import SQLModel

from tasks.record import Record
from tasks.record_engine import open_engine
from tasks.record_tables import Rollout, StageRun
from tasks.record_writer import RecordWriter
from tasks.resume import CannotResume, continued_run, open_run, resumed
from tasks.simulated_account import retire_finished
from tasks.state_folder import StateFolder, write_private
from tasks.supervise.table import Row, Table, write_table

VENUE = "http://127.0.0.1:4001"


class Home:
    """One parked canary of rollout `r` on simulated account `sim-1`, and a table that says where the venue is."""

    def __init__(self, root: Path) -> None:
        self.folder = StateFolder(root)
        self.folder.create()
        engine = open_engine(f"sqlite:///{self.folder.record}")
        SQLModel.metadata.create_all(engine)
        self.record = Record(engine)
        writer = RecordWriter(self.record, "sim-1")
        writer.know_account("simulated")
        words = ("plan_path", "plan_digest", "code_version", "settings_digest", "author", "requested_by")
        told = {"name": "r", "account": "sim-1", "candidate": "c", "nonce": "n0", "plan_name": "p"}
        writer.add_rollout(Rollout.model_validate({**told, **dict.fromkeys(words, "x")}))
        row = StageRun(rollout="r", account="sim-1", stage="canary", attempt=1, candidate="c", plan_path="/p")
        row.step = "parked"
        writer.add_stage_run(row)
        account = {"account": "sim-1", "venue": "simulated", "rollout": "r", "rest_url": VENUE}
        write_private(self.folder.accounts / "sim-1.json", json.dumps(account))
        self.venue_at(VENUE)

    def venue_at(self, rest_url: str) -> None:
        nobody = Row("supervisor", 1, 1, "", "")
        write_table(self.folder.table, Table("m", "ready", "", "", "", "", nobody, {"venue_rest_url": rest_url}))

    def resumed(self, name: str = "r", account: str | None = None) -> tuple[str, str] | None:
        return resumed(self.record, self.folder, name, account)


def test_a_parked_rollout_is_begun_again_with_its_own_nonce_and_account(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    assert continued_run(home.record, home.folder, "canary", "p", "r") is None, "a parked stage has ended"
    assert home.resumed() == home.resumed(account="sim-1") == ("sim-1", "n0")
    assert home.resumed("another") is None


def test_its_retired_account_is_put_back_while_the_same_venue_runs(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    retire_finished(home.folder, home.record)
    assert not (home.folder.accounts / "sim-1.json").exists()
    assert home.resumed() == ("sim-1", "n0")
    assert (home.folder.accounts / "sim-1.json").stat().st_mode & 0o777 == 0o600


def test_it_is_refused_where_its_venue_is_gone_or_another_account_is_named(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with pytest.raises(CannotResume, match="rollout r is on sim-1"):
        home.resumed(account="sim-2")
    retire_finished(home.folder, home.record)
    home.venue_at("http://127.0.0.1:4002")
    with pytest.raises(CannotResume, match="simulated venue that is gone; allowed: a new rollout"):
        home.resumed()
    (home.folder.retired_accounts / "sim-1.json").unlink()
    with pytest.raises(CannotResume, match="no file any more"):
        home.resumed()


def test_what_runs_on_one_account_is_not_continued_on_another(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    writer = RecordWriter(home.record, "sim-1")
    row = StageRun(rollout="r", account="sim-1", stage="canary", attempt=2, candidate="c", plan_path="/p")
    row.step = "watch"
    writer.add_stage_run(row)
    for account, found in ((None, "sim-1"), ("sim-1", "sim-1"), ("sim-2", None)):
        for name in (None, "r"):
            run = continued_run(home.record, home.folder, "canary", "p", name, account)
            assert (run and run.account) == found
        run = open_run(home.record, home.folder, "full", "p", None, account)
        assert (run and run.account) == found, "and cancelling the one ends nothing of the other"
