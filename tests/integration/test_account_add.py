"""`rollout account add` against a venue on loopback that stands in for Bybit's testnet."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.venues.bybit.hosts import OVERRIDES
from flows.__main__ import main
from tasks.account_file import load_account
from tasks.supervise.identity import identify
from tasks.supervise.table import Row, Table, write_table
from tests.support.bot_rig import SimulatedVenue, simulated_venue

pytestmark = pytest.mark.integration
WORDS = ["account", "add", "bybit-1", "--env", "testnet"]


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedVenue]:
    with simulated_venue(tmp_path_factory.mktemp("venue")) as running:
        yield running


@pytest.fixture
def key(venue: SimulatedVenue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A key of an account of its own, in the environment; the state folder is empty."""
    found = venue.account()
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SECRETS_BACKEND", raising=False)
    monkeypatch.setenv("BYBIT_API_KEY", found["api_key"])
    monkeypatch.setenv("BYBIT_API_SECRET", found["api_secret"])
    for variable, (address, _) in OVERRIDES.items():
        monkeypatch.setenv(variable, venue.ready[address])
    return found


def with_venue_of_its_own(home: Path) -> None:
    """As if a stack were up there for a plan of the simulated venue."""
    me = identify(os.getpid())
    assert me is not None
    row = Row("supervisor", me.pid, me.started_ticks, "", "")
    write_table(home / "stack.json", Table("m", "ready", "", "", "/smoke.yaml", "generated", row))


def _refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_it_writes_a_file_of_its_own_tokens_that_only_its_owner_reads(
    key: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(WORDS) == 0
    told = capsys.readouterr()
    path = tmp_path / "home" / "accounts" / "bybit-1.json"
    assert path.stat().st_mode & 0o777 == 0o600
    access = load_account(tmp_path / "home", "bybit-1")
    assert (access.venue, access.env, access.api_key) == ("bybit", "testnet", key["api_key"])
    assert len(access.grant_token) == len(access.approve_token) == 64
    assert access.grant_token != access.approve_token
    assert "key reads and trades" in told.out
    for secret in (key["api_secret"], access.grant_token, access.approve_token):
        assert secret not in told.out + told.err

    before = path.read_text()
    assert "bybit-1.json exists; allowed: another name, or its removal first" in _refused(WORDS, capsys)
    again = _refused([*WORDS[:2], "bybit-2", *WORDS[3:]], capsys)
    assert "which is bybit-1; allowed: one file for an account" in again
    assert path.read_text() == before
    assert [one.name for one in path.parent.glob("*.json")] == ["bybit-1.json"]


def test_the_key_may_come_as_two_lines_on_stdin(
    key: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BYBIT_API_KEY")
    assert "BYBIT_API_KEY: not given; allowed: both" in _refused(WORDS, capsys)
    monkeypatch.delenv("BYBIT_API_SECRET")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{key['api_key']}\n"))
    assert "BYBIT_API_SECRET: not given; allowed: both" in _refused(WORDS, capsys)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{key['api_key']}\n{key['api_secret']}\n"))
    assert main(WORDS) == 0
    assert load_account(tmp_path / "home", "bybit-1").api_secret == key["api_secret"]


def test_what_cannot_be_an_account_is_refused_and_nothing_is_written(
    key: dict[str, str],
    venue: SimulatedVenue,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    account = key["account"]
    assert "NAME: '../x'; allowed: a small letter" in _refused([*WORDS[:2], "../x", *WORDS[3:]], capsys)
    for changed, back, said in (
        ({"withdraws": True}, {"withdraws": False}, "CAN WITHDRAW; allowed: trades, no withdrawal"),
        ({"read_only": True}, {"read_only": False}, "its key read only; allowed: trades"),
    ):
        venue.stand(account, **changed)
        assert said in _refused(WORDS, capsys)
        venue.stand(account, **back)
    with monkeypatch.context() as patch:
        patch.setenv("BYBIT_API_SECRET", "not-the-secret")
        assert "10004" in _refused(WORDS, capsys)
        patch.setenv("MM_VENUE_REST_URL", "https://api-testnet.example.com")
        assert "is not on loopback" in _refused(WORDS, capsys)
    assert not list((tmp_path / "home").rglob("*.json"))
    with_venue_of_its_own(tmp_path / "home")
    assert "is for /smoke.yaml, another venue's; allowed: after `rollout down`" in _refused(WORDS, capsys)


def test_made_up_people_and_a_real_account_do_not_share_a_folder(
    key: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(WORDS) == 0
    capsys.readouterr()
    for words in (["demo"], ["up"], ["code", "ada"]):
        line = _refused(words, capsys)
        assert "keeps accounts of a real one (bybit-1); allowed: another SLIPWAY_HOME" in line
    real = ["--plan", "configs/rollout.yaml"]
    assert "venue bybit; allowed here: simulated" in _refused(["demo", *real], capsys)
    assert "the venue has its own" in _refused(["up", *real, "--market", "recorded:/x"], capsys)
