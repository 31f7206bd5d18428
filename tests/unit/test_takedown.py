"""What counts as the venue's word when a stack is taken down: an answer with orders in it, or a venue that is dead."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from sqlmodel import select

from tasks.account_file import ADDRESSES, SECRETS
from tasks.record import Record
from tasks.record_tables import Inbox, Lock, Rollout, StageRun
from tasks.record_writer import open_writer
from tasks.state_folder import StateFolder, write_private
from tasks.supervise import takedown
from tasks.supervise.identity import identify
from tasks.supervise.table import Row, Table, write_table
from tasks.supervise.takedown import stop_trading
from tests.support.guard_parts import TOLD

DEAD = Row("venue", 2**22 - 1, 1, "2026-01-01T00:00:00Z", "/log")


class Answers:
    """Stands where the venue's HTTP would: raises or answers."""

    def __init__(self, what: httpx.Response | Exception) -> None:
        self.what = what

    def __call__(self, url: str, **options: object) -> httpx.Response:
        if isinstance(self.what, Exception):
            raise self.what
        return self.what


def _clean(
    home: Path, monkeypatch: pytest.MonkeyPatch, what: httpx.Response | Exception, *, alive: bool
) -> tuple[bool, str]:
    folder = StateFolder(home)
    folder.create()
    folder.control_token.write_text("t")
    account = dict.fromkeys((*ADDRESSES, *SECRETS), "x")
    account |= {"account": "sim-1", "venue": "simulated", "rest_url": "http://127.0.0.1:9"}
    write_private(folder.accounts / "sim-1.json", json.dumps(account))
    me = identify(os.getpid())
    assert me is not None
    venue = replace(DEAD, pid=me.pid, started_ticks=me.started_ticks) if alive else DEAD
    write_table(folder.table, Table("m", "ready", "", "", "", "", DEAD, {}, (venue,)))
    monkeypatch.setattr(takedown.httpx, "get", Answers(what))
    said = list[str]()
    return stop_trading(folder, "test", "test", said.append), "\n".join(said)


def test_a_refused_connection_and_a_dead_process_is_a_venue_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _clean(tmp_path, monkeypatch, httpx.ConnectError("refused"), alive=False) == (True, "")


@pytest.mark.parametrize(
    ("what", "alive"),
    [
        (httpx.ConnectError("refused"), True),
        (httpx.ReadTimeout("slow"), False),
        (httpx.ReadTimeout("slow"), True),
        (httpx.RemoteProtocolError("cut"), True),
        (httpx.Response(200, text="no JSON"), True),
        (httpx.Response(200, json={"positions": []}), True),
        (httpx.Response(200, json=[]), True),
        (httpx.Response(500, json={"orders": []}), True),
        (httpx.Response(200, json={"orders": [{"orderId": "1"}]}), True),
    ],
)
def test_anything_else_than_an_answer_without_orders_is_not_clean_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: httpx.Response | Exception, alive: bool
) -> None:
    clean, said = _clean(tmp_path, monkeypatch, what, alive=alive)
    assert not clean
    assert said.startswith("sim-1: ")


@pytest.mark.parametrize(
    ("orders", "clean", "said"),
    [
        (["web-1"], True, "sim-1: the venue shows no open order of ours; 1 of others, left alone"),
        (["web-1", "slwq-3-1"], False, "sim-1: 1 order(s) still open at the venue; 1 of others, left alone"),
        ([""], True, "sim-1: the venue shows no open order of ours; 1 of others, left alone"),
    ],
)
def test_an_order_that_says_it_is_of_others_is_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orders: list[str], clean: bool, said: str
) -> None:
    answer = httpx.Response(200, json={"orders": [{"client_order_id": one} for one in orders]})
    assert _clean(tmp_path, monkeypatch, answer, alive=True) == (clean, said)


def test_an_answer_without_an_order_is_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean, said = _clean(tmp_path, monkeypatch, httpx.Response(200, json={"orders": []}), alive=True)
    assert clean
    assert said == "sim-1: the venue shows no open order"


class Switches:
    """Stands where processes are started: what was to be run, and how it ends."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        self.commands.append(command)
        return subprocess.CompletedProcess(command, self.code)


def _account(folder: StateFolder, name: str, venue: str) -> None:
    account = dict.fromkeys(SECRETS, "x") | {"account": name, "venue": venue, "env": "testnet"}
    write_private(folder.accounts / f"{name}.json", json.dumps(account))


@pytest.mark.parametrize("code", [0, 1])
def test_without_a_record_that_can_be_read_every_account_is_cleaned_whole_and_late_orders_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    folder, switches = StateFolder(tmp_path), Switches(code)
    folder.create()
    _account(folder, "sub-1", "bybit")
    folder.record.write_text("no database, but long enough to be taken for one that is damaged " * 20)
    monkeypatch.setattr(takedown.subprocess, "run", switches)
    said = list[str]()
    assert stop_trading(folder, "test", "test", said.append) is (code == 0)
    (command,) = switches.commands
    assert "--symbols" not in command, "the whole account, not what some plan names"
    assert {"--execute", "--flatten"} <= set(command)
    assert command[command.index("--late-s") + 1] == "10.5"
    assert command[command.index("--journal") + 1] == str(folder.runs)


def test_without_any_record_a_file_that_cannot_be_read_proves_nothing(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    folder.create()
    write_private(folder.accounts / "sub-1.json", "{")
    said = list[str]()
    assert not stop_trading(folder, "test", "test", said.append)
    assert "sub-1.json: is not JSON" in said[0]


def _open_stage(folder: StateFolder, venue: str | None = "bybit", machine: str = "") -> Record:
    """One that is watched, in the record of that folder, or where SLIPWAY_RECORD_URL says."""
    folder.create()
    record = open_writer(folder.record_url, "a")
    row = StageRun(rollout="r", account="a", stage="testnet", attempt=1, step="watch", candidate="c", plan_path="x")
    row.machine = machine
    record.know_account(venue or "bybit")
    record.add_rollout(
        Rollout.model_validate({"name": "r", "account": "a", "candidate": "c", **dict.fromkeys(TOLD, "x")})
    )
    record.add_stage_run(row, None if venue is None else {"venue": venue})
    record.close()
    return record


def test_a_record_that_is_kept_elsewhere_is_asked_for_what_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_RECORD_URL", f"sqlite:///{tmp_path}/elsewhere.db")
    folder, said = StateFolder(tmp_path / "home"), list[str]()
    _open_stage(folder)
    assert not stop_trading(folder, "test", "test", said.append)
    assert said == ["r/testnet: account a has no file: nobody knows what is open there"]


@pytest.mark.parametrize("with_file", [True, False])
def test_what_another_machine_runs_is_left_alone_and_is_not_told_to_be_proven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_file: bool
) -> None:
    folder, switches, said = StateFolder(tmp_path), Switches(0), list[str]()
    record = _open_stage(folder, machine="alpha/id/boot/1")
    if with_file:
        _account(folder, "a", "bybit")
    monkeypatch.setattr(takedown.subprocess, "run", switches)
    assert not stop_trading(folder, "test", "test", said.append, deadline_s=0.0)
    assert said == ["r/testnet: runs on machine alpha, left alone: nothing of it is proven here"]
    assert switches.commands == []
    with record.reading() as session:
        assert session.exec(select(Inbox)).all() == [], "nobody is asked to stop it"


@pytest.mark.parametrize("machine", ["alpha/id/boot/1", ""])
def test_a_stage_that_has_not_launched_yet_is_where_its_guard_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str
) -> None:
    folder, switches, said = StateFolder(tmp_path), Switches(0), list[str]()
    record = _open_stage(folder)
    _account(folder, "a", "bybit")
    monkeypatch.setattr(takedown.subprocess, "run", switches)
    with record.writing() as session:
        session.add(Lock(name="guard:a", holder="guard", pid=1, pid_started_ticks=1, machine=machine))
    elsewhere = bool(machine)
    assert stop_trading(folder, "test", "test", said.append, deadline_s=0.0) is not elsewhere
    assert ("r/testnet: runs on machine alpha, left alone: nothing of it is proven here" in said) is elsewhere
    assert bool(switches.commands) is not elsewhere
    with record.reading() as session:
        assert bool(session.exec(select(Inbox)).all()) is not elsewhere


@pytest.mark.parametrize(("venue", "clean"), [("bybit", False), ("simulated", True), (None, False)])
def test_a_stage_whose_account_has_no_file_any_more_is_proven_only_where_its_venue_went_with_it(
    tmp_path: Path, venue: str | None, clean: bool
) -> None:
    folder = StateFolder(tmp_path)
    _open_stage(folder, venue)
    said = list[str]()
    assert stop_trading(folder, "test", "test", said.append) is clean
    assert [line for line in said if "r/testnet: account a has no file" in line] == said
    assert bool(said) is not clean


def test_without_any_record_an_account_at_a_venue_that_is_not_ours_is_not_taken_for_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, switches = StateFolder(tmp_path), Switches(1)
    folder.create()
    _account(folder, "sub-1", "bybit")
    monkeypatch.setattr(takedown.subprocess, "run", switches)
    said = list[str]()
    assert not stop_trading(folder, "test", "test", said.append)
    assert said == ["sub-1: kill switch FAILED"]
