"""What counts as the venue's word when a stack is taken down: an answer with orders in it, or a venue that is dead."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tasks.account_file import FIELDS, SECRETS
from tasks.state_folder import StateFolder, write_private
from tasks.supervise import takedown
from tasks.supervise.identity import identify
from tasks.supervise.table import Row, Table, write_table
from tasks.supervise.takedown import stop_trading

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
    account = dict.fromkeys((*FIELDS, *SECRETS), "x")
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
    account = dict.fromkeys((*FIELDS, *SECRETS), "x") | {"account": name, "venue": venue}
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
