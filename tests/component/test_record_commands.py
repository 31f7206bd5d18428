"""`rollout verify-record`, `sign-off`, and what `plan`, `report`, `explain` and `status` print, on a filled record."""

from __future__ import annotations

import asyncio
import getpass
import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import text
from sqlmodel import SQLModel

from flows.__main__ import main
from gates.course import Step
from gates.evidence_folder import sha256_of
from tasks import record_engine
from tasks.guard import requests
from tasks.guard.requests import answer_for_ever
from tasks.guard.state import GuardState
from tasks.record import Record, open_record
from tasks.record_engine import RecordDamaged, open_engine
from tasks.record_migrations import NEWEST_REVISION
from tasks.record_tables import Inbox, RollbackStep, StageRun, utc_now
from tasks.record_writer import RecordWriter
from tasks.sign_off import current_code
from tasks.state_folder import StateFolder
from tests.support.filled_record import LONG_CRITERION, LONG_ROLLOUT, fill, long_plan
from tests.support.guard_parts import DIGEST, activate, guard_at, never_close, writing

WIDTH = 80


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path))
    monkeypatch.delenv("SLIPWAY_RECORD_URL", raising=False)
    return tmp_path


@pytest.fixture
def record(home: Path) -> Iterator[RecordWriter]:
    folder = StateFolder(home)
    folder.create()
    made = RecordWriter(Record(open_engine(folder.record_url)), "a")
    SQLModel.metadata.create_all(made.engine)
    newest(made)
    fill(made, long_plan(home))
    yield made
    made.close()


def newest(record: Record) -> None:
    """The tables are those of the newest revision, so a command has nothing to migrate."""
    with record.engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(text("INSERT INTO alembic_version VALUES (:newest)"), {"newest": NEWEST_REVISION})


# ---- what is printed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["plan", "report", "explain", "status"])
def test_every_line_fits_and_the_json_parses(
    record: RecordWriter, home: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [command, *(["--plan", str(home / "plan.yaml")] if command == "plan" else [])]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 2
    assert [line for line in lines if len(line) > WIDTH and " " in line.strip()] == [], "a word alone is never broken"
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    if command == "explain":
        assert told["rollout"] == LONG_ROLLOUT
        assert told["decided_by"]["criterion"] == LONG_CRITERION
        assert len(told["against"]) == 3
        assert told["against"][0]["needs"].startswith(">= -50")
        assert told["explanation"][0].startswith(f"{LONG_ROLLOUT}/scale-up is being closed in part ")


def test_how_a_part_ended_is_not_cut_off(record: RecordWriter, capsys: pytest.CaptureFixture[str]) -> None:
    record.change_stage_run(2, "step", step="rolled_back")
    assert main(["status"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("ROLLED BACK")


IS = {
    "requested": "is requested",
    "preflight": "is in preflight",
    "ready": "is ready",
    "launching": "is being launched",
    "warm_up": "is warming up",
    "drills": "is being drilled",
    "watch": "is being watched",
    "watched": "is watched to the end",
    "judged": "is judged",
    "promoting": "is being promoted",
    "promoted": "is promoted",
    "rolling_back": "is being closed",
    "rolled_back": "is rolled back",
    "parked": "is parked",
    "rollback_failed": "is not proven closed",
}


def test_where_a_stage_stands_is_told_in_a_sentence_at_every_step(
    record: RecordWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(IS) == set(Step)
    for step, words in IS.items():
        record.change_stage_run(2, "step", step=step)
        assert main(["report"]) == 0
        assert f"scale-up {words}." in " ".join(capsys.readouterr().out.split())
        assert main(["explain"]) == 0
        assert f"scale-up {words} in part " in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", ["report", "explain"])
def test_where_nothing_was_started_the_json_parses_too(
    home: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) is None


# ---- a record that cannot be read ------------------------------------------------------------------------------------

READERS = ("status", "explain", "report", "verify-record", "stop", "attest")


def _line(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a command that fails, with nothing before it that could be taken for an answer."""
    assert main(words) in (1, 2)
    told = capsys.readouterr()
    (line,) = told.err.splitlines()
    assert told.out == ""
    assert line.startswith("rollout: record ")
    return line


def _lock(home: Path) -> sqlite3.Connection:
    """As a program holds it that wants the file for itself alone."""
    holder = sqlite3.connect(home / "rollout.db", isolation_level=None)
    holder.execute("PRAGMA locking_mode=EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    return holder


@pytest.mark.parametrize("command", READERS)
@pytest.mark.parametrize("opened", [False, True])
def test_a_record_that_is_locked_is_one_line(
    record: RecordWriter,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    opened: bool,
) -> None:
    monkeypatch.setattr(record_engine, "BUSY_TIMEOUT_MS", 50)
    record.close()
    words = [command, *(["--plan", str(home / "plan.yaml"), "--rollout", LONG_ROLLOUT] if command == "attest" else [])]
    holders = list[sqlite3.Connection]()

    def open_then_lock(url: str) -> Record:
        made = open_record(url)
        made.close()
        holders.append(_lock(home))
        return made

    if opened:
        monkeypatch.setattr("tasks.record.open_record", open_then_lock)
    else:
        holders.append(_lock(home))
    assert _line(words, capsys).endswith("database is locked")
    holders[0].close()


@pytest.mark.parametrize("command", ["status", "explain", "report"])
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://me:hush@127.0.0.1:1/record", "refused"),
        ("sqlite:///{home}/elsewhere/rollout.db", "no such file; allowed: the record that a guard writes"),
    ],
)
def test_a_record_that_is_named_and_not_there_is_one_line_and_is_not_made(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, url: str, said: str
) -> None:
    monkeypatch.setenv("SLIPWAY_RECORD_URL", url.format(home=home))
    line = _line([command, "--json"], capsys)
    assert said in line
    assert "hush" not in line
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("command", ["status", "explain", "report", "stop"])
def test_a_record_with_a_text_that_is_none_is_damaged_and_not_away(
    record: RecordWriter, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """Nobody waits for it: it does not come back by itself."""
    with record.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE stage_run SET link = CAST(x'ff41' AS TEXT)")
    line = _line([command], capsys)
    assert line.endswith("cannot be used: damaged: column link of stage_run holds what is no text"), line
    with pytest.raises(RecordDamaged) as caught:
        record.stage_runs()
    assert not record_engine.is_away(caught.value)


def test_a_stop_of_a_name_that_has_not_begun_is_told_so_and_holds_for_a_run_that_is_queued_under_it(
    record: RecordWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stop", "queued", "--reason", "lunch"]) == 2
    assert "a run of that name that is queued begins nothing" in capsys.readouterr().err
    stopped = record.stop_since("queued", "a", 0)
    assert stopped is not None
    assert stopped.why == "lunch"
    assert record.stop_since("another", "a", 0) is None
    assert main(["report", "queued"]) == 2
    assert "queued begins nothing" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", " ", "../x"])
def test_a_stop_of_what_is_no_name_is_no_stop_of_everything(
    record: RecordWriter, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """As where a shell's variable was empty: it is told as not known, and holds for nobody."""
    assert main(["stop", name]) == 2
    said = capsys.readouterr().err
    assert "is not known" in said
    assert "begins nothing" not in said
    assert record.stop_since("another", "a", 0) is None
    assert record.newest_request() == 0


# ---- verify-record ---------------------------------------------------------------------------------------------------


def test_a_record_as_it_was_written_holds(record: RecordWriter, capsys: pytest.CaptureFixture[str]) -> None:
    links = len(record.entries("a"))
    assert main(["verify-record"]) == 0
    out = capsys.readouterr().out
    assert f"account a: holds, {links} links, head {record.head()[:12]}" in out
    told = record.notices("a")[0].text.partition("(record ")[2].rstrip(")")
    assert main(["verify-record", "--account", "a", "--head", told, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["holds"] is True
    assert found["accounts"][0]["links_after_head"] == next(
        links - at for at, link in enumerate(record.entries("a"), 1) if link.hash.startswith(told)
    )


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ("UPDATE record SET body = '{}' WHERE seq = 3", "link 3 (epoch) was changed after it was written"),
        ("DELETE FROM record WHERE seq = 3", "link 3 is missing, found 4"),
        ("INSERT INTO record (account, seq, prev_hash, hash, at, kind, body) SELECT account, 99999, hash, 'x', at, "
         "kind, body FROM record WHERE seq = (SELECT max(seq) FROM record)", "is missing, found 99999"),
        ("UPDATE stage_run SET ended_at = '2031-01-01' WHERE id = 1", "stage run 1: ended_at is '2031-01-01T"),
        ("DELETE FROM used_code", "was spent, and its row is gone"),
        ("UPDATE measurement SET value = '9' WHERE id = 1", "a measurement of stage run 1 after 0 and up to"),
        ("INSERT INTO drill SELECT 9, 1, 'orphan', 0, criteria, started_at, ends_at, 'passed', proof FROM drill "
         "WHERE id = 1", "drill 9 orphan at stage run 1 is not what the chain tells"),
        ("UPDATE sign_off SET at = 'yesterday' WHERE id = 1", "at of a row of sign_off is 'yesterday', no time"),
        ("UPDATE sign_off SET at = substr(at, 1, 26) || '+00:00'", "of a row of sign_off is '2"),
        ("UPDATE verdict SET body = '{' WHERE id = 1", "a row of verdict cannot be read: Expecting property name"),
        ("UPDATE evidence_file SET at = 5 WHERE id = 1", "at of a row of evidence_file is 5, no time"),
        ("UPDATE sign_off SET comment = x'00ff' WHERE id = 1", "a row of sign_off cannot be read: "),
        ("UPDATE sign_off SET comment = CAST(x'ff41' AS TEXT) WHERE id = 1",
         "column comment of sign_off holds what is no text"),
        ("UPDATE sign_off SET at = CAST(x'ff41' AS TEXT) WHERE id = 1", "column at of sign_off holds what is no text"),
        ("UPDATE record SET body = CAST(x'ff41' AS TEXT) WHERE seq = 3", "column body of record holds what is no text"),
        ("UPDATE measurement SET reason = CAST(x'ff41' AS TEXT) WHERE id = 1",
         "column reason of measurement holds what is no text"),
        ("UPDATE rollout SET author = CAST(x'ff41' AS TEXT)", "column author of rollout holds what is no text"),
        ("UPDATE stage_run SET link = CAST(x'ff41' AS TEXT)", "column link of stage_run holds what is no text"),
        ("UPDATE record SET body = x'00' WHERE seq = 3", "link 3 (epoch) was changed after it was written"),
        ("UPDATE sign_off SET accepted = 2 WHERE accepted = 1", "accepted of a row of sign_off is 2, neither yes nor"),
        ("UPDATE attestation SET counts_as_wrong_code = 'no' WHERE id = 1", "of a row of attestation is 'no', neither"),
        ("DELETE FROM record", "account a was told"),
    ],
)  # fmt: skip
def test_what_was_altered_removed_or_put_in_is_found(
    record: RecordWriter, edit: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with record.engine.begin() as connection:
        connection.exec_driver_sql(edit)
    assert main(["verify-record"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "account a: DOES NOT HOLD: " in out
    if edit != "DELETE FROM record":
        assert said in out
    assert main(["verify-record", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["holds"] is False


@pytest.mark.parametrize(
    ("put_in", "said"),
    [
        ("INSERT INTO stage_run SELECT {columns} FROM stage_run WHERE id = 1", "stage run 99 is in no link"),
        ("INSERT INTO grant VALUES ('ghost', 7, 'x', '2026-01-01 00:00:00')", "account ghost has no chain"),
    ],
)
def test_a_row_of_an_account_that_nobody_knows_is_found(
    record: RecordWriter, put_in: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A candidate's attempts count on whatever account: such a row would burn one, or have passed a stage for it."""
    given = {"id": "99", "account": "'ghost'"}
    with record.engine.begin() as connection:
        columns = ", ".join(given.get(name, name) for name in StageRun.model_fields)
        names = ", ".join(StageRun.model_fields)
        put_in = put_in.replace("stage_run SELECT", f"stage_run ({names}) SELECT").format(columns=columns)
        connection.exec_driver_sql(put_in.replace("INTO grant", 'INTO "grant"'))
    assert main(["verify-record"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "account a: holds" in out
    assert f"account ghost: DOES NOT HOLD: {said}" in out


def test_a_last_link_that_was_removed_is_found_by_the_head_that_went_out(
    record: RecordWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    head = record.append("note", {})
    assert main(["verify-record", "--head", head[:12]]) == 0
    with record.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM record WHERE seq = (SELECT max(seq) FROM record)")
    assert main(["verify-record"]) == 0, "without the head nothing tells of it"
    assert main(["verify-record", "--head", head[:12]]) == 1
    assert f"no link has the head {head[:12]}" in " ".join(capsys.readouterr().out.split())


def _ended_with_evidence(record: RecordWriter, folder: Path) -> None:
    """A stage run that was promoted and left these two files, one of them written anew after the verdict."""
    folder.mkdir()
    (folder / "verdict.json").write_text("NO-GO")
    (folder / "index.html").write_text("a page")
    files = {one.name: (sha256_of(one), one.stat().st_size) for one in sorted(folder.iterdir())}
    words = {"rollout": LONG_ROLLOUT, "account": "a", "stage": "soak", "candidate": "c" * 64, "plan_path": "p"}
    record.change_stage_run(2, "step", step="parked")
    run = record.add_stage_run(StageRun(**words, attempt=1, step="requested"))
    assert run.id is not None
    record.add_evidence(run.id, {"verdict.json": ("0" * 64, 1)})
    record.add_evidence(run.id, files)
    record.change_stage_run(run.id, "evidence_place", evidence_dir=str(folder))
    step = RollbackStep(stage_run_id=run.id, number=4, name="bundle", state="started")
    record.write_rollback_step(step)
    step.state, step.verified_at = "verified", utc_now()
    record.write_rollback_step(step)
    record.change_stage_run(run.id, "step", step="promoted", ended_at=utc_now())


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / "verdict.json").write_text("GO"), "verdict.json is not what was written"),
        (lambda folder: (folder / "index.html").unlink(), "index.html is gone"),
        (lambda folder: (folder / "kept.txt").write_text("GO"), "kept.txt was put in"),
        (lambda folder: (folder / "judged").symlink_to(folder.parent), "judged was put in"),
    ],
    ids=["altered", "removed", "put in", "a folder put in by a link"],
)
def test_evidence_that_is_not_what_was_written_is_found_after_the_end_of_its_stage(
    harm: Callable[[Path], object], said: str, record: RecordWriter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "evidence-of-it"
    _ended_with_evidence(record, folder)
    assert main(["verify-record"]) == 0
    assert "evidence of 1 stage is as it was written" in " ".join(capsys.readouterr().out.split())
    harm(folder)
    assert main(["verify-record", "--json"]) == 1
    reason = json.loads(capsys.readouterr().out)["accounts"][0]["reason"]
    assert reason == f"evidence of {LONG_ROLLOUT}/soak: {folder}/{said}"


def test_evidence_that_is_on_another_machine_was_not_looked_at_which_is_said(
    record: RecordWriter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "evidence-of-it"
    _ended_with_evidence(record, folder)
    folder.rename(tmp_path / "elsewhere")
    assert main(["verify-record"]) == 0
    assert "of 1 it is not on this machine, and was not looked at" in " ".join(capsys.readouterr().out.split())


def test_what_cannot_be_verified_is_refused_in_a_line(record: RecordWriter, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["--account", "b"], "--account b; allowed: a"),
        (["--head", "abc"], "--head 'abc'; allowed: the 12 to 64 hexadecimal letters"),
    ):
        assert main(["verify-record", *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line


def test_no_record_at_all_is_not_one_that_holds(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify-record"]) == 2
    assert "no record has been written yet" in capsys.readouterr().err


# ---- sign-off --------------------------------------------------------------------------------------------------------


@pytest.fixture
def guard(home: Path, monkeypatch: pytest.MonkeyPatch) -> GuardState:
    never_close(monkeypatch)
    monkeypatch.setattr(requests, "EVERY_S", 0.01)
    made = guard_at(home, "ready")
    newest(made.store.record)
    activate(made)
    return made


def typed(guard: GuardState, *lines: list[str]) -> list[int]:
    """Each as typed into a shell, while the guard answers its inbox; their exit codes."""

    async def run() -> list[int]:
        async with writing(guard):
            answering = asyncio.create_task(answer_for_ever(guard))
            codes = [await asyncio.to_thread(main, line) for line in lines]
            answering.cancel()
            return codes

    return asyncio.run(run())


def line(person: str, *more: str, decision: str = "GO", prefix: str = DIGEST[:6]) -> list[str]:
    where = ["sign-off", "r", "--gate", "entry", "--by", person]
    return [*where, "--decision", decision, "--evidence", prefix, *more]


def test_a_sign_off_from_a_terminal_is_the_guards_to_judge(
    guard: GuardState, capsys: pytest.CaptureFixture[str]
) -> None:
    code = current_code(guard.folder.seeds, "ada", "simulated")
    assert typed(
        guard,
        line("mallory", "--code", code),
        line("ada", "--code", "000000"),
        line("ada", "--code", code, prefix="zzzzzz"),
        line("ada", "--code", code),
        line("ada", "--code", code, decision="NO-GO"),
    ) == [1, 1, 1, 0, 1]
    out = capsys.readouterr().out
    for said in (
        "rollout: refused: 'mallory' is not one of the approvers",
        "rollout: refused: wrong code (4 tries left)",
        "is not the evidence shown",
        "ada signed GO at the entry of r/canary; missing: nobody",
        "this code has already served",
    ):
        assert said in " ".join(out.split())


def test_a_no_go_ends_the_stage(guard: GuardState) -> None:
    code = current_code(guard.folder.seeds, "ada", "simulated")
    more = ["--code", code, "--comment", "candidate: it loses"]
    assert typed(guard, line("ada", *more, decision="NO-GO")) == [0]
    active = guard.active
    assert active is not None
    assert (active.row.step, active.row.end_wanted) == ("rolling_back", "roll_back")


def test_a_code_that_is_not_given_is_read_without_echo_and_kept_nowhere(
    guard: GuardState, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    code = current_code(guard.folder.seeds, "ada", "simulated")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(getpass, "getpass", lambda prompt: f" {code}\n" if "of ada" in prompt else "")
    assert typed(guard, line("ada")) == [0]
    told = capsys.readouterr()
    assert code not in told.out + told.err
    record = RecordWriter(Record(open_engine(guard.folder.record_url)), "a")
    with record.reading() as session:
        asked = session.get(Inbox, 1)
    assert asked is not None
    assert asked.payload["code"] == "(not kept)"
    assert not any(f'"{code}"' in entry.body for entry in record.entries("a"))
    record.close()


def test_without_a_terminal_or_an_open_stage_it_is_refused_in_a_line(
    guard: GuardState, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    assert main(line("ada")) == 2
    assert "--code: not given, and there is no terminal to ask for it" in capsys.readouterr().err
    assert main(["sign-off", "nobody", *line("ada", "--code", "1")[2:]]) == 2
    assert "rollout 'nobody' is not known; allowed: r" in capsys.readouterr().err
    guard.store.record.change_stage_run(1, "step", step="parked")
    assert main(line("ada", "--code", "1")) == 2
    assert "rollout r: canary is parked; allowed: one with an open stage" in capsys.readouterr().err
    guard.store.close()
