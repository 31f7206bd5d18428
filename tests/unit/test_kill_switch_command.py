"""The kill switch from its command line: bad input is one line, and its report is whole."""

from __future__ import annotations

import json

import pytest

from bot.runtime.kill_switch_command import run_command, write_report
from bot.runtime.kill_switch_own_key import own_pair, with_a_key_of_the_account
from bot.runtime.kill_switch_report import Report
from bot.runtime.secrets import Scrubber
from tests.support.small_account import SYMBOL

ENVIRON = {
    "BYBIT_API_KEY": "key-0123456789ab",
    "BYBIT_API_SECRET": "secret-0123456789",
    "MM_VENUE_REST_URL": "http://127.0.0.1:9",  # the discard port: nobody listens
}


@pytest.mark.parametrize("name", ["BYBIT_API_KEY", "BYBIT_API_SECRET"])
def test_a_missing_secret_is_named_and_bad_input(name, tmp_path, capsys):
    environ = {key: value for key, value in ENVIRON.items() if key != name}
    assert run_command(["--symbols", SYMBOL, "--report", str(tmp_path / "r.json")], environ) == 2
    assert capsys.readouterr().err == f"kill-switch: {name} is not set\n"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--late-s", "400"], "0.0 to 300.0"),
        (["--foreign-orders", "keep"], "--foreign-orders"),
        (["--symbols", "btc/usdt"], "'btc/usdt'"),
        (["--symbols", SYMBOL, "--deadline-s", "0.5"], "1.0 to 600.0"),
        (["--symbols", SYMBOL, "--deadline-s", "nan"], "1.0 to 600.0"),
        (["--symbols", SYMBOL, "--band-bps", "5000"], "1 to 1000"),
        (["--symbols", SYMBOL, "--nuke"], "--nuke"),
    ],
)
def test_bad_input_is_one_line_that_names_it(arguments, named, capsys):
    with pytest.raises(SystemExit) as caught:
        run_command(arguments, ENVIRON)
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert named in error
    assert error.count("\n") == 1


def test_an_address_off_loopback_is_refused_by_name(tmp_path, capsys):
    environ = ENVIRON | {"MM_VENUE_REST_URL": "http://192.0.2.1:80"}
    assert run_command(["--symbols", SYMBOL, "--report", str(tmp_path / "r.json")], environ) == 2
    assert "MM_VENUE_REST_URL" in capsys.readouterr().err


def test_a_key_of_its_own_takes_the_accounts_place_only_where_no_account_has_one():
    own = {"BYBIT_KILL_SWITCH_API_KEY": "own-0123456789ab", "BYBIT_KILL_SWITCH_API_SECRET": "own-secret-01234"}
    for named in (ENVIRON, {"SECRETS_BACKEND": "aws"}):
        assert with_a_key_of_the_account(named | own) == named | own
        assert own_pair(named) is None
    alone = with_a_key_of_the_account(own)
    assert (alone["BYBIT_API_KEY"], alone["BYBIT_API_SECRET"]) == tuple(own.values())
    assert own_pair(alone) is None


def test_half_a_key_of_its_own_is_named(tmp_path, capsys):
    environ = ENVIRON | {"BYBIT_KILL_SWITCH_API_KEY": "own-0123456789ab"}
    assert run_command(["--symbols", SYMBOL, "--report", str(tmp_path / "r.json")], environ) == 2
    said = capsys.readouterr().err
    assert said == "kill-switch: BYBIT_KILL_SWITCH_API_SECRET is not set, and BYBIT_KILL_SWITCH_API_KEY is\n"


def test_a_report_is_replaced_whole_and_scrubbed(tmp_path):
    path = tmp_path / "latest.json"
    for error in ("first", "has secret-0123456789 in it"):
        report = Report("failed", "a", "b", 0, [], [], False, [error])
        write_report(path, report, Scrubber(("secret-0123456789",)))
    assert json.loads(path.read_text())["errors"] == ["has *** in it"]
