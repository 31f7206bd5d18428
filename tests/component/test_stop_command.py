"""`rollout stop`: what it cannot stop it says by name, and who tries on after it has given up waiting."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import status
from tasks.record_tables import Inbox, RollbackStep, StageRun
from tasks.record_writer import RecordWriter
from tasks.rollback import STEPS
from tasks.state_folder import StateFolder
from tasks.supervise.identity import identify
from tasks.supervise.table import Row, Table, write_table
from tests.support.guard_parts import record_at

NOBODY = Row("supervisor", 0, 0, "", "")


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    made = StateFolder(tmp_path / "home")
    made.create()
    return made


@pytest.fixture
def record(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordWriter]:
    monkeypatch.setattr(status, "PROOF_WITHIN_S", 0.3)
    made = record_at(folder)
    yield made
    made.close()


def _open_stage(record: RecordWriter, venue: str) -> StageRun:
    """A testnet of rollout `r` that is watched on account `a`, which has no file."""
    run = StageRun(rollout="r", account="a", stage="testnet", attempt=1, step="watch", candidate="c", plan_path="/p")
    return record.add_stage_run(run, {"venue": venue})


def _guard_lives(folder: StateFolder) -> None:
    own = identify(os.getpid())
    assert own is not None
    guard = Row("guard-a", own.pid, own.started_ticks, "", "")
    write_table(folder.table, Table("m", "ready", "", "", "", "", NOBODY, {}, (guard,)))


def _stop(folder: StateFolder, record: RecordWriter, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = status.stop(folder, record, None, "ada", "lunch")
    return code, capsys.readouterr().out


def test_a_stage_of_an_account_whose_file_is_away_is_named_and_not_called_stopped(
    folder: StateFolder, record: RecordWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    _open_stage(record, "bybit")
    code, said = _stop(folder, record, capsys)
    assert code == 1
    assert "r/testnet: account a has no file: nobody knows what is open there" in said
    assert "nothing to stop" not in said
    assert record.waiting() == [], "nobody would ever answer it"


def test_its_guard_is_told_all_the_same_where_it_lives(
    folder: StateFolder, record: RecordWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    """It read the file when it began."""
    _open_stage(record, "bybit")
    _guard_lives(folder)
    code, said = _stop(folder, record, capsys)
    assert code == 1
    assert "account a has no file" in said
    (row,) = record.waiting()
    assert isinstance(row, Inbox)
    assert (row.kind, row.payload["stage_run_id"]) == ("stop", 1)


def test_a_simulated_account_that_was_taken_down_is_nothing_to_stop(
    folder: StateFolder, record: RecordWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    _open_stage(record, "simulated")
    code, said = _stop(folder, record, capsys)
    assert (code, said.startswith("nothing to stop: no stage is open")) == (0, True)


@pytest.mark.parametrize("lives", [True, False])
def test_who_tries_on_is_said_as_it_is(
    folder: StateFolder, record: RecordWriter, capsys: pytest.CaptureFixture[str], lives: bool
) -> None:
    _open_stage(record, "bybit")
    (folder.accounts / "a.json").write_text("{}")
    if lives:
        _guard_lives(folder)
    code, said = _stop(folder, record, capsys)
    assert code == 1
    assert "NOT proven within" in said
    assert ("the guard keeps trying" in said) is lives
    assert ("no guard of account a lives: nobody tries; use `rollout down`" in said) is not lives


def test_a_stop_that_the_guard_refuses_is_not_called_tried(
    folder: StateFolder, record: RecordWriter, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _open_stage(record, "bybit")
    (folder.accounts / "a.json").write_text("{}")
    _guard_lives(folder)
    submit = record.submit

    def refused(*words: object) -> int:
        number = submit(*words)  # type: ignore[arg-type]
        if words[0] == "a":
            record.reply(number, done=False, reason="what runs is not known yet")
        return number

    monkeypatch.setattr(record, "submit", refused)
    code, said = _stop(folder, record, capsys)
    assert code == 1
    assert "the guard refused: what runs is not known yet" in said
    assert "keeps trying" not in said


def test_of_a_stage_that_was_promoted_first_the_rollout_is_stopped(
    folder: StateFolder, record: RecordWriter, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rollout begins no further stage."""
    monkeypatch.setattr(status, "PROOF_WITHIN_S", 60.0)  # it ends as soon as it is seen
    run = _open_stage(record, "bybit")
    (folder.accounts / "a.json").write_text("{}")
    submit = record.submit

    def too_late(*words: object) -> int:
        if words[0] == "a":
            record.change_stage_run(run.id or 0, "step", step="promoted")
        return submit(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(record, "submit", too_late)
    code, said = _stop(folder, record, capsys)
    assert code == 0
    said = " ".join(said.split())
    assert "r/testnet: promoted before the stop came" in said
    assert "its rollout begins no further stage" in said
    said_so = record.stop_since("r", "a", 0)
    assert said_so is not None
    assert (said_so.who, said_so.why) == ("ada", "lunch")


@pytest.mark.parametrize("flatten", ["verified", "failing"])
def test_what_is_proven_is_said_before_the_stage_has_ended(
    folder: StateFolder,
    record: RecordWriter,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    flatten: str,
) -> None:
    """What the attempt came to is asked for afterwards, and may take its venue minutes."""
    monkeypatch.setattr(status, "PROOF_WITHIN_S", 3.0)  # long enough for one look of a machine that stands still
    run = _open_stage(record, "bybit")
    (folder.accounts / "a.json").write_text("{}")
    _guard_lives(folder)
    record.change_stage_run(run.id or 0, "step", step="rolling_back")
    for number, name in enumerate(STEPS[:4]):
        state = flatten if name == "flatten" else "verified"
        proof = {"flatten": "was flat"} if name == "flatten" else {}
        step = RollbackStep(stage_run_id=run.id, number=number, name=name, state=state, proof=proof)
        record.write_rollback_step(step)
    code, said = _stop(folder, record, capsys)
    assert code == (0 if flatten == "verified" else 1)
    assert ("r/testnet: bot gone, no open order, flat, grant revoked" in said) is (flatten == "verified")
    assert ("not ended within 3 s" in said) is (flatten == "verified")
    assert ("NOT proven" in said) is (flatten != "verified")
