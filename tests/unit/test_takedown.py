"""What counts as the venue's word when a stack is taken down: an answer with orders in it, or a venue that is dead."""

from __future__ import annotations

import json
import os
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


def test_an_answer_without_an_order_is_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean, said = _clean(tmp_path, monkeypatch, httpx.Response(200, json={"orders": []}), alive=True)
    assert clean
    assert said == "sim-1: the venue shows no open order"
